"""The C-MOVE exchange: responses of every kind, several moves, cancel, query files, endings that are no success."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import pytest
from pydicom.dataset import Dataset

from tests.compat import datasets
from tests.compat.datasets import BIG_ENDIAN, DEFLATED, EXPLICIT, IMPLICIT, ODD, encode, sequences
from tests.compat.harness import agrees
from tests.compat.script import (
    STUDY_KEYS,
    Accept,
    Close,
    Glued,
    Hear,
    Object,
    Release,
    Reset,
    Respond,
    Scenario,
    Send,
    Step,
    Storage,
    Store,
)
from tests.integration import raw

pytestmark = pytest.mark.peer("dcmtk")

PENDING: Final = Respond(0xFF00, (1, 0, 0, 0))
FAILED_LIST: Final = datasets.element(0x00080058, b"UI", raw.uid("1.2.3.4\\1.2.3.5"))
OBJECT: Final = Object("1.2.3.1.1", raw.dataset("1.2.3.1.1"), transfer_syntax=IMPLICIT)
STATUSES: Final = (
    *(0x0000, 0x0001, 0x0105, 0x0110, 0x0117, 0x0120, 0x0122, 0x0124, 0x0210, 0x0211, 0x0212, 0xA700, 0xA701, 0xA702),
    *(0xA801, 0xA900, 0xA901, 0xB000, 0xB007, 0xC000, 0xC123, 0xCFFF, 0xFE00, 0xFF01, 0xFFFF, 0x1234),
)


def responses() -> Iterator[Scenario]:
    """Every status, counters, identifiers, details, each alone and in company."""
    for status in STATUSES:
        yield Scenario(f"status/{status:04X}", moves=[[Respond(status)]])
    for status in (0x0000, 0xB000, 0xA702, 0xC000, 0xFE00):
        for option in ("-v", "-d"):
            named = [[PENDING, Respond(status, (None, 1, 2, 3), FAILED_LIST)]]
            if option == "-v":
                yield Scenario(f"status/{status:04X} with list, {option}", (option,), named)
        yield Scenario(
            f"status/{status:04X} with list", moves=[[PENDING, Respond(status, (None, 1, 2, 3), FAILED_LIST)]]
        )
    detail = {0x0901: raw.element(0x1, b"")[:4], 0x0902: raw.ae("out of everything")}
    for status in (0x0000, 0xA702, 0xFF00):
        rest = [] if status != 0xFF00 else [Respond()]
        yield Scenario(f"status/{status:04X} with details", moves=[[Respond(status, change=detail), *rest]])
    for statuses in (
        (0, 0xB000),
        (0xB000, 0),
        (0xB000, 0xA801),
        (0xA801, 0xB000),
        (0xFE00, 0xA801, 0),
        (0xC000, 0, 0xFE00),
    ):
        name = " ".join(f"{status:04X}" for status in statuses)
        moves = [[Respond(status)] for status in statuses]
        yield Scenario(f"several/{name}", ("--repeat", str(len(statuses))), moves)
    for counters in (
        (None, None, 5, None),
        (None, 0, 5, 0),
        (None, 7, 0, 0),
        (3, 0, 0, 0),
        (None, 65535, 65535, 65535),
    ):
        yield Scenario(f"counters/{counters}".replace(" ", ""), moves=[[Respond(0, counters)]], listen=True)
    many = [Respond(0xFF00, (20 - n, n, 0, 0)) for n in range(20)]
    yield Scenario("pending/twenty, verbose", ("-v",), [[*many, Respond()]])
    yield Scenario("pending/without counters", ("-v",), [[Respond(0xFF00), Respond(0xFF00), Respond()]])


def fields() -> Iterator[Scenario]:
    """Responses with fields that are wrong, missing or odd."""
    rows: dict[str, Respond] = {
        "message id": Respond(change={raw.RESPONDED_TO: raw.us(7)}),
        "no message id": Respond(change={raw.RESPONDED_TO: None}),
        "no status": Respond(change={raw.STATUS: None}),
        "no SOP class": Respond(change={raw.AFFECTED_SOP_CLASS: None}),
        "another SOP class": Respond(change={raw.AFFECTED_SOP_CLASS: raw.uid(raw.CT_IMAGE)}),
        "no data set type": Respond(change={raw.DATA_SET_TYPE: None}),
        "C-FIND-RSP": Respond(change={raw.COMMAND_FIELD: raw.us(0x8020)}),
        "C-STORE-RSP": Respond(change={raw.COMMAND_FIELD: raw.us(0x8001), raw.AFFECTED_SOP_INSTANCE: raw.uid("1.2.3")}),
        "C-ECHO-RQ": Respond(change={raw.COMMAND_FIELD: raw.us(0x0030), raw.MESSAGE_ID: raw.us(1)}),
        "unknown command": Respond(change={raw.COMMAND_FIELD: raw.us(0x8999)}),
        "FIND context": Respond(context_id=1),
        "unknown context": Respond(context_id=5),
        "an extra element": Respond(change={0x0001: raw.us(1), 0x5110: b"xx"}),
        "status of four bytes": Respond(change={raw.STATUS: b"\0\0\0\0"}),
        "counters of four bytes": Respond(change={raw.COMPLETED: b"\1\0\0\0"}),
        "identifier announced, none sent": Respond(0xB000, announced=True),
        "identifier not announced": Respond(0xB000, identifier=FAILED_LIST, announced=False),
    }
    for name, response in rows.items():
        closing: list[Step] = [Close()] if name == "identifier announced, none sent" else []
        yield Scenario(f"field/{name}", ("-ta", "1"), [[response, *closing]])
    glued = [Respond(0xFF00, (1, 0, 0, 0)), Respond()]
    yield Scenario("field/two responses in one PDU", ("-ta", "1"), [[Glued(glued)]], deadline_s=2.5)


def pending_identifiers() -> Iterator[Scenario]:
    """Pending responses that announce an identifier, with or without one, under -pi and -pr."""
    kinds = {
        "announced and sent": (FAILED_LIST, True),
        "announced only": (None, True),
        "sent only": (FAILED_LIST, False),
    }
    for option in ("", "-pi", "-pr", "--pending-ignore", "--pending-read"):
        for name, (identifier, announced) in kinds.items():
            if len(option) > 3 and name != "announced and sent":
                continue
            step = Respond(0xFF00, (1, 0, 0, 0), identifier, announced=announced)
            moves = [[step, Respond()]]
            yield Scenario(f"pending identifier/{option} {name}", (*filter(None, (option,)), "-ta", "1"), moves)


def several() -> Iterator[Scenario]:
    """--repeat, --cancel, --abort and --ignore, alone and together."""
    three = [PENDING, PENDING, PENDING]
    for count in ("1", "2", "5"):
        yield Scenario(f"repeat/{count}", ("--repeat", count), [[PENDING, Respond()]])
    for count in ("0", "1", "2", "3"):
        yield Scenario(
            f"cancel/{count}", ("--cancel", count), [[*three, *([Hear()] if count != "0" else []), Respond(0xFE00)]]
        )
    yield Scenario("cancel/more than there are", ("--cancel", "4"), [[*three, Respond()]])
    yield Scenario("cancel/first, of two", ("--cancel", "1", "--repeat", "2"), [[PENDING, Hear(), Respond(0xFE00)]])
    yield Scenario("cancel/answered by success", ("--cancel", "1"), [[PENDING, Hear(), PENDING, Respond()]])
    yield Scenario("cancel/without pending", ("--cancel", "1"), [[Respond()]])
    yield Scenario("cancel/verbose", ("-v", "--cancel", "1"), [[PENDING, Hear(), Respond(0xFE00)]])
    yield Scenario("cancel/a cancel not asked for", moves=[[PENDING, Respond(0xFE00, (2, 1, 0, 0))]])
    yield Scenario("abort/of two", ("--abort", "--repeat", "2"), [[Respond()]])
    yield Scenario("abort/after an error", ("--abort",), [[Respond(0xA801)]])
    yield Scenario("abort/verbose", ("-v", "--abort"), [[Respond()]])
    yield Scenario(
        "repeat/stops at the first that is broken", ("--repeat", "3"), [[Respond()], [Send(raw.abort()), Close()]]
    )


# ---------------------------------------------------------------- query files


def query(syntax: str, *, nested: bool = False, preamble: bool = True) -> bytes:
    """A query file in this transfer syntax, with or without file meta information."""
    dataset = Dataset()
    dataset.QueryRetrieveLevel, dataset.StudyInstanceUID = "STUDY", "1.2.3"
    dataset.PatientName, dataset.Rows = "Doe^J", 7
    if nested:
        sequences(dataset)
    meta = datasets.element(0x00020010, b"UI", raw.uid(syntax))
    head = bytes(128) + b"DICM" + datasets.element(0x00020000, b"UL", len(meta).to_bytes(4, "little")) + meta
    return (head if preamble else b"") + encode(dataset, syntax)


def query_files() -> Iterator[Scenario]:
    """Every syntax of a file, every syntax on the wire, several files, what is not a query."""
    for syntax in (IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED):
        for meta in (True, False):
            files = {"q.dcm": query(syntax, nested=True, preamble=meta)}
            for chosen in (IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED):
                title = f"query/{syntax} to {chosen}" + ("" if meta else ", without meta")
                accept = Accept({1: IMPLICIT, 3: chosen})
                yield Scenario(title, connect=[accept], files=files, keys=("-S",), queries=("q.dcm",))
    plain = {"a.dcm": query(IMPLICIT), "b.dcm": query(EXPLICIT)}
    keyed = ("-S", "-k", "0020,000D=9.9", "-k", "PatientID=P")
    yield Scenario("query/two files", files=plain, keys=("-S",), queries=("a.dcm", "b.dcm"))
    yield Scenario("query/two files, twice", ("--repeat", "2"), files=plain, keys=("-S",), queries=("a.dcm", "b.dcm"))
    yield Scenario("query/the same file twice", files=plain, keys=("-S",), queries=("a.dcm", "a.dcm"))
    yield Scenario("query/with keys", files=plain, keys=keyed, queries=("a.dcm", "b.dcm"))
    yield Scenario("query/verbose", ("-v",), files=plain, keys=keyed, queries=("a.dcm",))
    yield Scenario(
        "query/first refused",
        moves=[[Respond(0xA801)], [Respond()]],
        files=plain,
        keys=("-S",),
        queries=("a.dcm", "b.dcm"),
    )
    for name, data in {
        **{name: own.data for name, own in ODD.items()},
        "empty": b"",
        "text": b"hello, world\n",
    }.items():
        files = {"q.dcm": data, "a.dcm": plain["a.dcm"]}
        yield Scenario(f"query/{name}", files=files, keys=("-S",), queries=("q.dcm",))
    for name in ("value cut short", "garbage", "sequence without an end", "huge length"):
        files = {"q.dcm": datasets.DAMAGED[name].data, "a.dcm": plain["a.dcm"]}
        yield Scenario(f"query/{name}, second of two", files=files, keys=("-S",), queries=("a.dcm", "q.dcm"))
    yield Scenario("query/missing file", keys=("-S",), queries=("missing.dcm",))
    yield Scenario("query/a directory", files={"d.dcm/": b""}, keys=("-S",), queries=("d.dcm",))
    yield Scenario("query/neither file nor key", keys=("-S",))
    for fill in (datasets.group_lengths, datasets.padded, datasets.private, datasets.every_vr, datasets.plain):
        dataset = Dataset()
        dataset.QueryRetrieveLevel = "STUDY"
        fill(dataset)
        for chosen in (IMPLICIT, EXPLICIT):
            accept, files = Accept({1: IMPLICIT, 3: chosen}), {"q.dcm": encode(dataset, EXPLICIT)}
            title = f"query/{fill.__name__} to {chosen}"
            yield Scenario(title, connect=[accept], files=files, keys=("-S",), queries=("q.dcm",))


# ---------------------------------------------------------------- endings that are no success

LOST: Final[dict[str, Sequence[Step]]] = {
    "A-ABORT": [Send(raw.abort()), Close()],
    "A-ABORT of the provider": [Send(raw.abort(2, 1)), Close()],
    "RST": [Reset()],
    "FIN": [Close()],
    "A-RELEASE-RQ": [Send(raw.release_rq()), Hear()],
    "garbage": [Send(b"0123456789"), Hear()],
    "A-ASSOCIATE-RQ": [Send(raw.associate_rq()), Hear()],
    "a torn PDU": [Send(raw.pdu(raw.P_DATA, b"\0\0", length=100)), Close()],
    "an odd fragment": [Send(raw.p_data(raw.pdv(3, 1, b"abc"))), Hear()],
    "an empty PDV": [Send(raw.p_data(raw.pdv(3, 3, b""))), Hear()],
    "a PDU too long": [Send(raw.pdu(raw.P_DATA, bytes(16386))), Hear()],
    "a PDV too long": [Send(raw.p_data(raw.pdv(3, 3, b"abcd", length=400))), Hear()],
    "a data set first": [Send(raw.p_data(raw.pdv(3, 2, b"abcd"))), Hear()],
}


def losses() -> Iterator[Scenario]:
    """The association is lost, or is no longer usable, at every stage of the move."""
    stored: Step = Storage([Store(OBJECT), Release()])
    for name, steps in LOST.items():
        yield Scenario(f"lost/{name}", ("-ta", "1"), [steps])
        if name in ("A-ABORT", "RST", "FIN", "A-RELEASE-RQ", "garbage", "a torn PDU"):
            yield Scenario(f"lost/{name} after pending", ("-ta", "1"), [[PENDING, *steps]])
            yield Scenario(f"lost/{name} after an object", ("-ta", "1"), [[stored, *steps]])
    yield Scenario("lost/-td expires", ("-td", "1", "-ta", "1"), [[Hear()]])
    yield Scenario("lost/-td expires after pending", ("-td", "1", "-ta", "1"), [[PENDING, Hear()]])
    yield Scenario("lost/success that moved nothing", moves=[[Respond(0, (None, 7, 0, 0))]], listen=True)
    yield Scenario("lost/success with failures", moves=[[stored, Respond(0, (None, 1, 5, 0))]])
    yield Scenario("lost/success with fewer than counted", moves=[[stored, Respond(0, (None, 3, 0, 0))]])
    yield Scenario("dictionary/missing, key by tag", environment={"DCMDICTPATH": "/nonexistent"})
    yield Scenario(
        "dictionary/missing, key by name",
        environment={"DCMDICTPATH": "/nonexistent"},
        keys=("-S", "-k", "PatientID=1"),
    )
    yield Scenario(
        "dictionary/missing, query file",
        environment={"DCMDICTPATH": "/nonexistent"},
        files={"q.dcm": query(IMPLICIT)},
        keys=("-S",),
        queries=("q.dcm",),
    )
    yield Scenario("identifier/not encodable", files={"q.dcm": jpeg_query()}, keys=("-S",), queries=("q.dcm",))
    yield Scenario("identifier/of one empty key", keys=("-S", "-k", "0008,0052"))
    yield Scenario("identifier/two keys of one tag", keys=(*STUDY_KEYS, "-k", "0020,000D=4.5.6"))


def jpeg_query() -> bytes:
    """A query file with encapsulated pixel data."""
    dataset = datasets.base("1.2.3.4")
    datasets.encapsulated(dataset)
    meta = datasets.element(0x00020010, b"UI", raw.uid(datasets.JPEG))
    head = bytes(128) + b"DICM" + datasets.element(0x00020000, b"UL", len(meta).to_bytes(4, "little")) + meta
    return head + encode(dataset, EXPLICIT)


SCENARIOS: Final = (*responses(), *fields(), *pending_identifiers(), *several(), *query_files(), *losses())


@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
async def test_the_move_goes_as_with_movescu(scenario: Scenario) -> None:
    await agrees(scenario)
