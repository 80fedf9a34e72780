"""A-ASSOCIATE PDUs with faults, read by us and by pynetdicom: each difference has its reason (goal G-C4).

pynetdicom takes PDUs apart by a program of its own, so that what both say of a PDU is hardly a mistake of both.
"""

from __future__ import annotations

import traceback
from collections import Counter
from random import Random
from typing import Any, Final

import pydicom
import pynetdicom.pdu
import pynetdicom.pdu_items
import pynetdicom.utils
import pytest

from fastmove.errors import RemoteProtocolError
from fastmove.ul.pdu import AAssociateAC, AAssociateRQ
from tests.integration import raw

HEADER: Final = 6
ITEMS: Final = 74
"""Where the variable items begin (PS3.8 9.3.2)."""

EVERY_ITEM: Final = b"".join(
    (
        raw.max_length(16384),
        raw.item(0x52, "1.2.3.4"),
        raw.item(0x53, b"\0\1\0\1"),
        raw.role(raw.CT_IMAGE),
        raw.item(0x55, "NAME"),
        raw.item(0x56, b"\0\x051.2.3\1\2\3"),
        raw.item(0x57, b"\0\x051.2.3\0\x051.2.4\0\0"),
        raw.user_identity(2, b"me", b"secret"),
    )
)
READERS: Final = {
    "RQ": (AAssociateRQ, pynetdicom.pdu.A_ASSOCIATE_RQ, (raw.associate_rq(), raw.associate_rq(user_items=EVERY_ITEM))),
    "AC": (
        AAssociateAC,
        pynetdicom.pdu.A_ASSOCIATE_AC,
        (
            raw.associate_ac(),
            raw.associate_ac((raw.context_ac(1), raw.context_ac(3, 3)), user_items=EVERY_ITEM),
        ),
    ),
}
WHITE_SPACE: Final = "\0\t\n\v\f\r\x1c\x1d\x1e\x1f\x85\xa0 "
TYPES: Final = (0, 1, 2, 3, 4, 0x10, 0x20, 0x21, 0x30, 0x40, *range(0x50, 0x5A), 0x7F, 0xFF)

TAKEN: Final = "taken"
DIFFERENCES: Final = {
    # What we say, and where pynetdicom fails.
    (TAKEN, "KeyError in _wrap_generate_items"): "an item of a type that nobody knows is skipped (PS3.8 9.3.1)",
    (TAKEN, "AssertionError in _generate_items"): "so is one that has no business there, and is not looked into",
    (TAKEN, "error in _generate_items"): "the same",
    (TAKEN, "error in _wrap_unpack"): "the same",
    (TAKEN, "ValueError in decode_bytes"): "text that is not ASCII is nobody's name: negotiation refuses it",
    (TAKEN, "ValueError in set_ae"): "so it does what is no AE title",
    (TAKEN, "ValueError in set_uid"): "and what is no UID",
    (TAKEN, "ValueError in related_general_sop_class_identification"): "the same",
    (TAKEN, "ValueError in scu_role"): "a role is asked for by 1 (PS3.7 D.3.3.4); anything else does not ask for it",
    (TAKEN, "ValueError in scp_role"): "the same",
    # Where it takes what we refuse.
    ("rq.item_overrun", TAKEN): "a field is longer than its item: it takes what there is",
    ("rq.userid", TAKEN): "the same, of a user identity (PS3.7 D.3.3.7)",
    ("rq.item_short", TAKEN): "bytes behind the last field of an item: it does not look",
    ("rq.role_item", TAKEN): "the same, of a role",
    ("rq.short", TAKEN): "no room for the fixed fields: it takes them for empty",
    ("rq.context_id", TAKEN): "an even presentation context ID, or one twice (PS3.8 9.3.2.2): it does not look",
    ("rq.items", TAKEN): "no application context, or two (PS3.8 9.3.2): it does not look",
    ("ac.malformed", TAKEN): "any of these in an answer",
}


def damaged(random: Random, whole: bytes) -> bytes:
    """The PDU with one to three faults, and a length that is that of the PDU."""
    data = bytearray(whole)
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        first = HEADER if random.random() < 0.2 else min(ITEMS, len(data) - 1)
        at = random.randrange(first, len(data))
        fault = random.choice((_type, _type, _bit, _shorter, _longer, _again, _end))
        fault(random, data, at)
        if len(data) <= HEADER:
            break
    data[2:HEADER] = (len(data) - HEADER).to_bytes(4, "big")
    return bytes(data)


def _type(random: Random, data: bytearray, at: int) -> None:
    data[at] = random.choice((*TYPES, random.randrange(256)))


def _bit(random: Random, data: bytearray, at: int) -> None:
    data[at] ^= 1 << random.randrange(8)


def _shorter(random: Random, data: bytearray, at: int) -> None:
    del data[at : at + random.choice((1, 2, 3, 4, 8))]


def _longer(random: Random, data: bytearray, at: int) -> None:
    data[at:at] = random.randbytes(random.choice((1, 2, 4)))


def _again(random: Random, data: bytearray, at: int) -> None:
    begin = random.randrange(min(ITEMS, len(data) - 1), len(data))
    data[at:at] = data[begin : begin + random.randrange(1, 60)]


def _end(random: Random, data: bytearray, at: int) -> None:
    if random.random() < 0.3:
        del data[at:]


def ours(reader: Any, data: bytes) -> tuple[str, Any]:
    try:
        return TAKEN, reader.decode(data[HEADER:])
    except RemoteProtocolError as error:
        return error.key, None


def theirs(reader: Any, data: bytes) -> tuple[str, Any]:
    read = reader()
    try:
        read.decode(data)
    except Exception as error:  # noqa: BLE001  whatever it raises is a refusal, and is named
        return f"{type(error).__name__} in {traceback.extract_tb(error.__traceback__)[-1].name}", None
    return TAKEN, read


def what_we_read(kind: str, read: Any) -> list[object]:
    contexts = [
        (
            context.presentation_context_id,
            *(map(_text, context.transfer_syntaxes) if kind == "RQ" else [context.result]),
        )
        for context in read.presentation_contexts
    ]
    return [*_titles(kind, read), contexts]


def what_they_read(kind: str, read: Any) -> list[object]:
    contexts = [
        (context.context_id, *(map(_text, context.transfer_syntax) if kind == "RQ" else [context.result]))
        for context in read.presentation_context
    ]
    return [*_titles(kind, read), contexts]


def _titles(kind: str, read: Any) -> list[str]:
    """In an answer they are not to be tested (PS3.8 9.3.3)."""
    return [_text(read.called_ae_title), _text(read.calling_ae_title)] if kind == "RQ" else []


def _text(value: object) -> str:
    """It takes white space of all kinds, at both ends, for padding."""
    return str(value).strip(WHITE_SPACE)


@pytest.fixture(autouse=True)
def silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """They complain of each UID that is none, which takes them longer than to read it."""
    monkeypatch.setattr(pydicom.config.settings, "reading_validation_mode", pydicom.config.IGNORE)
    for module in (pynetdicom.utils, pynetdicom.pdu_items):
        monkeypatch.setattr(module.LOGGER, "disabled", True)


@pytest.mark.parametrize(
    "count", [20_000, pytest.param(1_000_000, marks=[pytest.mark.nightly, pytest.mark.timeout(1800)])]
)
@pytest.mark.parametrize("kind", READERS)
def test_GC4_associate_pdus_are_taken_and_refused_as_by_pynetdicom(kind: str, count: int) -> None:
    reader, their_reader, seeds = READERS[kind]
    random = Random(count)
    met: Counter[tuple[str, str]] = Counter()
    for _ in range(count):
        data = damaged(random, random.choice(seeds))
        we, read = ours(reader, data)
        they, they_read = theirs(their_reader, data)
        agreed = (we == TAKEN) == (they == TAKEN)
        assert agreed or (we, they) in DIFFERENCES, f"{we}, but {they}: {data.hex()}"
        if we == they == TAKEN and read.protocol_version & 1:  # of another version we read nothing more (PS3.8 9.3.2)
            assert what_we_read(kind, read) == what_they_read(kind, they_read), data.hex()
        met[(TAKEN if we == TAKEN else "refused", TAKEN if they == TAKEN else "refused")] += 1
    print(f"{count:,} {kind}: {dict(met)}")
    assert min(met[(TAKEN, TAKEN)], met[("refused", "refused")]) > count / 10, "both have to agree on something"
