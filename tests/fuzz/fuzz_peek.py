"""Data sets of all transfer syntaxes: looked into, examined, written anew (PS3.5 7, A).

The first byte chooses the transfer syntax and what is done, the second how it is written, or cut. What a check says of
the content does not depend on the pieces. What examine() calls
identical has to be written as it came; what peek() finds has to be there; what was written anew while it came has to
end as what is written anew afterwards.
"""

from __future__ import annotations

import os
from typing import Final

from fastmove._content import ContentCheck
from fastmove._elements import peek
from fastmove._sink import FileTemplate
from fastmove._transcode import DatasetPreview, examine, rewrite
from fastmove.dictionary import standard
from fastmove.errors import DatasetError, UnwritableDataset
from fastmove.storage.options import Reencoding
from tests.encoded import BIG_ENDIAN, DEFLATED, EXPLICIT, IMPLICIT, JPEG
from tests.fuzz.fuzz_dimse import FOLDER, SOP_CLASS
from tests.fuzz.streams import arrive, cut

UNKNOWN: Final = "1.2.3.4"
SYNTAXES: Final = (EXPLICIT, IMPLICIT, BIG_ENDIAN, JPEG, DEFLATED, UNKNOWN, EXPLICIT, IMPLICIT)
NATIVE: Final = (EXPLICIT, IMPLICIT, BIG_ENDIAN, DEFLATED)
SOP_INSTANCE: Final = 0x00080018
WANTED: Final = (0x00080016, SOP_INSTANCE, 0x00080060, 0x00100020, 0x0020000D, 0x0020000E)
GROUP_LENGTHS: Final = ("recalculate", "create", "remove", "recalculate")
PADDINGS: Final = (None, (16, 8), (6, 0), (0, 7))
DICTIONARY: Final = standard()
SMALL: Final = 1 << 16
CHECKS: Final = {
    syntax: (ContentCheck(syntax, max_bytes=512), ContentCheck(syntax, strict=True)) for syntax in SYNTAXES
}
"""One that finds data sets too large soon, and one that takes nothing that is odd."""

SOP_INSTANCE_UID: Final = b"1.2.3"
TOO_BIG: Final = "store.too_big"

LOOK, EXAMINE, WRITE, CONVERT = range(4)
"""What is done: bits 3 and 4 of the first byte; its three lowest are the transfer syntax."""

IN: Final = os.memfd_create("in")
OUT: Final = os.memfd_create("out")


def options_of(number: int) -> Reencoding:
    """One of the 64 ways to write."""
    return Reencoding(
        group_length=GROUP_LENGTHS[number & 3],
        undefined_length=bool(number & 4),
        new_vr=not number & 8,
        padding=PADDINGS[number >> 4],
    )


OPTIONS: Final = tuple(options_of(number) for number in range(64))
CONVERTING: Final = tuple(OPTIONS[n].replace(transfer_syntax=syntax) for n in range(64) for syntax in NATIVE)


def fill(fd: int, data: bytes) -> None:
    """The file has these bytes, and no others."""
    os.pwrite(fd, data, 0)
    os.ftruncate(fd, len(data))


def rewritten(data: bytes, syntax: str, reencoding: Reencoding) -> bytes:
    """What rewrite() writes; DatasetError."""
    fill(IN, data)
    os.ftruncate(OUT, 0)
    length = rewrite(IN, 0, len(data), syntax, OUT, 0, reencoding, DICTIONARY)
    assert os.fstat(OUT).st_size == length
    return os.pread(OUT, length, 0)


def quick(data: bytes) -> None:
    """It ends, and well."""
    if len(data) < 2:
        return
    first, options, dataset = data[0], data[1], data[2:]
    syntax, what = SYNTAXES[first & 7], first >> 3 & 3
    if what == LOOK:
        peek(dataset, syntax, WANTED)
        CHECKS[syntax][options & 1].judge(SOP_CLASS, SOP_INSTANCE_UID, cut(dataset, options))
        return
    os.pwrite(IN, dataset, 0)  # of the input before there may be something left behind it
    try:
        if what == EXAMINE:
            examine(IN, 0, len(dataset), syntax, OPTIONS[options & 0x3F], DICTIONARY)
        elif what == WRITE:
            rewrite(IN, 0, len(dataset), syntax, OUT, 0, OPTIONS[options & 0x3F], DICTIONARY)
        else:
            rewrite(IN, 0, len(dataset), syntax, OUT, 0, CONVERTING[options], DICTIONARY)
    except (DatasetError, UnwritableDataset):
        pass


def thorough(data: bytes) -> None:
    """What is found out one way is what is found out the other."""
    if len(data) < 2:
        return
    quick(data)
    first, options, dataset = data[0], data[1], data[2:]
    syntax, reencoding = SYNTAXES[first & 7], OPTIONS[options & 0x3F]
    judged_in_any_pieces(dataset, syntax, options)
    found = peek(dataset, syntax, WANTED)
    assert found.keys() <= set(WANTED)
    assert syntax == DEFLATED or all(value in dataset for value in found.values())
    try:
        fill(IN, dataset)
        examination = examine(IN, 0, len(dataset), syntax, reencoding, DICTIONARY)
        written = rewritten(dataset, syntax, reencoding)
    except (DatasetError, UnwritableDataset):
        previewed(dataset, syntax, reencoding)  # no bytes make it fail
        return
    if syntax == DEFLATED:
        return
    if examination.identical:
        assert written == dataset, f"called identical, but written as {written.hex()}"
    elif dataset and len(dataset) % 2 == 0 and reencoding.padding is None:
        assert written != dataset, "called different, but written as it is"
    if SOP_INSTANCE in found and not examination.remarks:
        assert (examination.sop_instance_uid or b"") in found[SOP_INSTANCE]
    early = previewed(dataset, syntax, reencoding)
    assert rewritten(early, syntax, reencoding) == written, "written anew while it came, it is another data set"


def judged_in_any_pieces(dataset: bytes, syntax: str, how: int) -> None:
    """What a check says of the content is no matter of the cuts; of two refusals it is the one that was seen first."""
    for check in CHECKS[syntax]:
        judged = check.judge(SOP_CLASS, SOP_INSTANCE_UID, (dataset,))
        cut_up = check.judge(SOP_CLASS, SOP_INSTANCE_UID, cut(dataset, how))
        if TOO_BIG in (judged[0], cut_up[0]):
            assert judged[0] and cut_up[0]
        else:
            assert cut_up == judged, f"in pieces it is {cut_up}, as a whole {judged}"


def previewed(dataset: bytes, syntax: str, reencoding: Reencoding) -> bytes:
    """The data set as it is in a file that had a preview."""
    if syntax == DEFLATED or not dataset:
        return dataset
    preview = DatasetPreview(syntax, reencoding, DICTIONARY)
    sink = FileTemplate(FOLDER, SOP_CLASS, None, preview=preview).open(b"1.2.3")
    from tests.unit.receivers import after_command, pdus

    receiver = after_command(sink, window=4096)
    arrive(receiver, pdus(dataset, 700), 3, lambda _: None)
    sink.write_head()
    content = os.pread(sink.file_descriptor, len(dataset) + SMALL, 0)
    sink.discard()
    assert len(content) == len(dataset) + sink.growth
    return content


if __name__ == "__main__":
    from tests.fuzz.engine import run

    run(quick, thorough)
