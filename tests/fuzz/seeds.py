"""Where the targets start: the bytes of the catalogue's rows and of the wire vectors, and data sets by chance.

`python -m tests.fuzz.seeds DIRECTORY` writes them for libFuzzer, with a dictionary of what is said often in DICOM.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from fastmove.ul.states import State
from tests.encoded import Chance
from tests.fuzz import fuzz_dimse, fuzz_path, fuzz_pdu, fuzz_peek
from tests.fuzz.recording import ACCEPTOR, ASSOCIATED, RECORD, REQUESTOR
from tests.integration import raw
from tests.wire.reference import Command, Dataset, Event, events
from tests.wire.test_vectors import DIRECTORY as VECTORS
from tests.wire.test_vectors import stream_of

TARGETS: Final = {
    "fuzz_pdu": fuzz_pdu,
    "fuzz_dimse": fuzz_dimse,
    "fuzz_peek": fuzz_peek,
    "fuzz_path": fuzz_path,
}
PURE: Final = frozenset({"fuzz_path"})
"""Targets that put nothing through the compiled modules."""

FINDINGS: Final = Path(__file__).with_name("findings")
"""A folder for each target: what was found once, and must not come back."""

MODES: Final = (
    fuzz_dimse.MEMORY,
    fuzz_dimse.FILE | fuzz_dimse.PREVIEWED,
    fuzz_dimse.PLACED | fuzz_dimse.ODD,
    fuzz_dimse.FILE | fuzz_dimse.DEFERRED | fuzz_dimse.WIDE | fuzz_dimse.ODD,
)
HOWS: Final = (0, 113, 0xF0)
CHANCES: Final = 12
VALUES: Final = (
    *(b"1.2.3", b"", b"..", b"../../etc/x", b"/abs", b"a/b", b"\\\\srv\\x", b"C:x", b"1.2\0../x", b"1" * 65),
    *(
        b"1" * 64,
        b" ",
        b"1..2",
        b"01.2",
        b"1.2.",
        b"\xc3\xa9",
        b"a\nb",
        b"%n%s",
        b"-rf",
        b".hidden",
        b"CON",
        b"nul.dcm",
    ),
    *(b".fm-1-1.part", b"$(id)", b"a;b|c`d`", b"DOE^JANE", b"A" * 300),
)
UIDS: Final = (raw.APPLICATION_CONTEXT, raw.VERIFICATION, raw.CT_IMAGE, raw.STUDY_ROOT_MOVE, raw.IMPLICIT_LE)
TOKENS: Final = (
    *(uid.encode() for uid in UIDS),
    *(raw.pdu(kind, b"", length=4) for kind in range(1, 8)),
    *(raw.pdv(1, control, b"", length=2) for control in range(4)),
    *(
        raw.element(tag, b"")
        for tag in (raw.COMMAND_FIELD, raw.MESSAGE_ID, raw.DATA_SET_TYPE, raw.AFFECTED_SOP_INSTANCE)
    ),
    *(raw.element(tag, b"") for tag in (0x00080016, 0x00080018, 0x7FE00010, 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD)),
    *(
        b"SQ\0\0\xff\xff\xff\xff",
        b"UN\0\0\xff\xff\xff\xff",
        b"OB\0\0\xff\xff\xff\xff",
        b"\xff\xff\xff\xff",
        b"\xfe\xff",
    ),
)


def seeds() -> dict[str, dict[str, bytes]]:
    """The inputs of each target by name."""
    streams = dict(recorded()) | dict(vectors())
    return {
        "fuzz_pdu": dict(of_pdu(streams)),
        "fuzz_dimse": dict(of_dimse(streams)),
        "fuzz_peek": dict(of_peek()),
        "fuzz_path": dict(of_path()),
    }


def found(target: str) -> dict[str, bytes]:
    """The findings of a target."""
    return {path.name: path.read_bytes() for path in sorted((FINDINGS / target).glob("*"))}


def recorded() -> Iterator[tuple[str, tuple[str, bytes]]]:
    """What the tests of the catalogue send: who, and what."""
    for line in RECORD.read_text().splitlines():
        name, role, *data = line.split(" ")
        yield f"{name}-{role}", (role, bytes.fromhex(data[0] if data else ""))


def vectors() -> Iterator[tuple[str, tuple[str, bytes]]]:
    """The wire vectors: those that are no stream for an established association begin one."""
    for path in sorted(VECTORS.glob("*.json")):
        role = ASSOCIATED if "events" in json.loads(path.read_text()) else REQUESTOR
        if path.stem.startswith("a_associate_ac") or path.stem.startswith("a_associate_rj"):
            role = ACCEPTOR
        yield path.stem, (role, stream_of(path.with_suffix(".hex")))


def of_pdu(streams: dict[str, tuple[str, bytes]]) -> Iterator[tuple[str, bytes]]:
    """Each stream in the state in which it comes, in three ways."""
    state = {one.state: number for number, one in enumerate(fuzz_pdu.STATES)}
    begins = {
        REQUESTOR: state[State.STA2] | fuzz_pdu.ANSWERS,
        ASSOCIATED: state[State.STA6],
        ACCEPTOR: state[State.STA5],
    }
    for name, (role, stream) in streams.items():
        for how in HOWS:
            yield f"{name}-{how}", bytes((begins[role], how)) + stream


def of_dimse(streams: dict[str, tuple[str, bytes]]) -> Iterator[tuple[str, bytes]]:
    """Each message in them, into each kind of sink."""
    for name, (_, stream) in streams.items():
        told = events(stream, max_pdu_length=1 << 20, accepted=range(1, 256))
        for number, (text, dataset) in enumerate(messages(told)):
            for mode in MODES:
                head = bytes((mode, 0)) + len(text).to_bytes(2, "little")
                yield f"{name}-{number}-{mode}", head + text + dataset


def messages(told: list[Event]) -> Iterator[tuple[bytes, bytes]]:
    """Command sets, and the data sets behind them."""
    text: bytes | None = None
    for event in told:
        if isinstance(event, Dataset) and text is not None:
            yield text, event.data
            text = None
        elif isinstance(event, Command):
            if text is not None:
                yield text, b""
            text = event.data
    if text is not None:
        yield text, b""


def of_peek() -> Iterator[tuple[str, bytes]]:
    """Data sets by chance, good ones and broken ones, in each transfer syntax."""
    for number, syntax in enumerate(fuzz_peek.SYNTAXES[:6]):
        for seed in range(CHANCES):
            data = Chance(seed, syntax, broken=seed % 2 == 1).dataset()
            for what in range(4):
                yield f"{number}-{seed}-{what}", bytes((number | what << 3, seed * 5 & 0xFF)) + data[:2048]


def of_path() -> Iterator[tuple[str, bytes]]:
    """The names of the catalogue's table U, and others that were harmful elsewhere."""
    for number, value in enumerate(VALUES):
        for layout in range(len(fuzz_path.LAYOUTS)):
            values = (b"1.2.3", value, b"4.5", value) if layout % 2 else (value, b"P", value, b"6")
            yield f"{number}-{layout}", bytes((layout, number & 3)) + fuzz_path.PARTING.join(values)


def write(directory: Path) -> None:
    """A folder for each target, and the dictionary."""
    for target, inputs in seeds().items():
        folder = directory / target
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in (inputs | found(target)).items():
            (folder / name.replace("/", "_")).write_bytes(data)
    quoted = ("".join(f"\\x{byte:02x}" for byte in token) for token in TOKENS)
    (directory / "dicom.dict").write_text("".join(f'"{token}"\n' for token in quoted))


if __name__ == "__main__":
    write(Path(sys.argv[1]))
