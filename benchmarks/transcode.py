"""What it costs to examine a data set and to write it anew, beside copying its bytes; one process, files in the cache.

The yardstick is a copy by the kernel: what a data set costs that nobody looks at.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryFile
from typing import Final, NamedTuple

from benchmarks.machine import cpu_s
from benchmarks.results import Column, Goal, Run
from fastmove._transcode import examine, rewrite
from fastmove.dictionary import standard
from fastmove.storage.options import Reencoding

EXPLICIT: Final = "1.2.840.10008.1.2.1"
IMPLICIT: Final = "1.2.840.10008.1.2"
BIG_ENDIAN: Final = "1.2.840.10008.1.2.2"
HEADERS: Final = 60
"""Elements before the pixel data of an ordinary image."""

COLUMNS = (
    Column("us/object", "cpu_us_per_object", 1),
    Column("MB/s", "mb_per_s", 0),
    Column("x copy", "cpu_us_per_object", 2, "copy"),
    Column("objects", "objects", 0, spread=False),
)


class Subject(NamedTuple):
    """A data set in explicit VR little endian, as it would be written."""

    what: str
    content: Callable[[], Iterator[bytes]]


def element(group: int, number: int, vr: bytes, value: bytes) -> bytes:
    """An explicit VR little endian element."""
    tag = group.to_bytes(2, "little") + number.to_bytes(2, "little")
    if vr in (b"OW", b"SQ", b"UT"):
        return tag + vr + bytes(2) + len(value).to_bytes(4, "little") + value
    return tag + vr + len(value).to_bytes(2, "little") + value


def item(content: bytes) -> bytes:
    """An item of explicit length."""
    return b"\xfe\xff\x00\xe0" + len(content).to_bytes(4, "little") + content


def image(pixel_bytes: int) -> Iterator[bytes]:
    """Sixty short elements and pixel data."""
    yield b"".join(element(0x0018, 0x1000 + n, b"LO", b"twelve bytes") for n in range(HEADERS))
    yield element(0x7FE0, 0x0010, b"OW", b"")[:8] + pixel_bytes.to_bytes(4, "little")
    block = os.urandom(min(pixel_bytes, 1 << 20))
    for _ in range(pixel_bytes // len(block)):
        yield block


def report(depth: int) -> Iterator[bytes]:
    """A tree of content items (PS3.3 C.17.3)."""
    code = element(0x0008, 0x0100, b"SH", b"121071") + element(0x0008, 0x0104, b"LO", b"Finding ")
    node = element(0x0040, 0xA040, b"CS", b"TEXT") + element(0x0040, 0xA043, b"SQ", item(code))
    tree = node
    for _ in range(depth):
        tree = node + element(0x0040, 0xA730, b"SQ", item(tree) * 2)
    yield tree


WORKLOADS: Final[dict[str, Subject]] = {
    "CT": Subject("an image of 512 KiB", lambda: image(512 << 10)),
    "SR": Subject("a report of 127 content items", lambda: report(6)),
    "MF": Subject("a multi-frame image of 256 MiB", lambda: image(256 << 20)),
}
NEEDED_BYTES: Final = 600 << 20
"""For the largest workload and what is made of it."""

WAYS: Final[dict[str, Reencoding | None]] = {
    "copy": None,
    "examine": Reencoding(),
    "rewrite": Reencoding(),
    "rewrite, undefined lengths": Reencoding(undefined_length=True),
    "rewrite, implicit VR": Reencoding(transfer_syntax=IMPLICIT),
    "rewrite, big endian": Reencoding(transfer_syntax=BIG_ENDIAN),
}
GOALS: Final = (
    Goal("an ordinary image is examined", "CT", "examine", "cpu_us_per_object", "<=", 25.0),
    Goal("a report is examined", "SR", "examine", "cpu_us_per_object", "<=", 40.0),
    Goal("a multi-frame image is written", "MF", "rewrite, undefined lengths", "mb_per_s", ">=", 1000.0),
)


def once(way: str, source: int, nbytes: int, target: int) -> None:
    """One data set, one way."""
    reencoding = WAYS[way]
    if reencoding is None:
        done = 0
        while done < nbytes:
            done += os.copy_file_range(source, target, nbytes - done, done, done)
    elif way == "examine":
        examine(source, 0, nbytes, EXPLICIT, reencoding, standard())
    else:
        rewrite(source, 0, nbytes, EXPLICIT, target, 0, reencoding, standard())


def run(way: str, setting: str, number: int, seconds: float, source: int, target: int) -> Run:
    """As often as it goes in the time, at least once, after one that does not count."""
    nbytes = os.fstat(source).st_size
    once(way, source, nbytes, target)
    objects = 0
    busy, start = cpu_s(os.getpid()), time.perf_counter()
    while not objects or time.perf_counter() - start < seconds:
        once(way, source, nbytes, target)
        objects += 1
    elapsed = time.perf_counter() - start
    return Run(way, setting, number, objects, objects * nbytes, elapsed, cpu_s(os.getpid()) - busy)


def cell(ways: list[str], name: str, seconds: float, rounds: int, folder: Path) -> list[Run]:
    """All ways of one data set, by turns."""
    with ExitStack() as stack:
        source, target = (stack.enter_context(TemporaryFile(dir=folder, buffering=0)) for _ in range(2))
        for chunk in WORKLOADS[name].content():
            source.write(chunk)
        return [
            run(way, name, number, seconds, source.fileno(), target.fileno())
            for number in range(rounds)
            for way in ways
        ]
