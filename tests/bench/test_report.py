"""The page: what is on it, that it stands alone, and how it looks in a browser."""

from __future__ import annotations

import asyncio
import re
import struct
import zlib
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Final

import pytest

from fastmove.bench.latency import Latency
from fastmove.bench.result import Result
from fastmove.observe.plot import linear, logarithmic, number, percentiles
from fastmove.observe.report import html

VOID: Final = {"meta", "link", "img", "br", "hr", "input"}
RGB = tuple[int, int, int]

BAR_ROWS: Final = 4

LIGHT: Final = {"paper": (255, 255, 255), "c0": (0x0B, 0x6B, 0xCB), "c1": (0xC2, 0x57, 0x1A), "c4": (0xB3, 0x92, 0x2A)}
DARK: Final = {"paper": (0x14, 0x18, 0x1D), "c0": (0x6C, 0xB0, 0xF5)}


def figures(rate: float, latency: dict[str, Any], evil: str) -> dict[str, Any]:
    """What a run has measured."""
    kind = {"operations": 5, "objects": 500, "bytes": 5 * 10**8, "latency_ms": latency}
    return {
        "seconds": 5.0,
        "bytes_per_s": rate,
        "objects_per_s": rate / 5e5,
        "operations_per_s": rate / 5e7,
        "operations": 10,
        "objects": 1000,
        "failed_operations": 1,
        "statuses": {"0000": 9, f"A702{evil}": 1},
        "failures": {f"A702{evil}": 1},
        "details": {f"A702{evil}": f"out of resources{evil}"},
        "latencies_ms": {"move": latency, "gap": latency, f"x{evil}": latency},
        "over_time": {"interval_s": 1.0, "bytes": [int(rate)] * 5, "objects": [1] * 5, "operations": [2] * 5},
        "kinds": {f"CT{evil}": kind},
        "stalls_s": {"pacs": 3.75, "network": 0.5, "nagle": 0.0, "disk": 0.0, "cpu": 0.75},
    }


def document(*, complete: bool = True, evil: str = "") -> dict[str, Any]:
    """A ramp with a knee at 4, whose PACS thinks three quarters of the time."""
    made = Result("retrieve", {"peer": f"PACS@host:104{evil}", "arguments": ["bench", "retrieve", f"x{evil}"]})
    latency = Latency()
    for milliseconds in range(1, 2001):
        latency.record(milliseconds / 1e3)
    for parallel in (1, 2, 3, 4, 6, 8):
        for repetition in (1, 2):
            rate = min(parallel, 4) * 25e6 * (1 + repetition / 100)
            made.add(
                {"parallel": parallel, "rate_per_s": None},
                repetition,
                figures(rate, latency.as_json(), evil),
            )
    return made.finished({"implementation_version_name": f"PACS_1{evil}"}, complete=complete)


class Parser(HTMLParser):
    """Tags that are closed as they were opened, and the attributes of all of them."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def parsed(page: str) -> Parser:
    parser = Parser()
    parser.feed(page)
    assert not parser.open
    return parser


def test_page_stands_alone() -> None:
    page = html(document())
    parser = parsed(page)
    assert not {"script", "iframe", "object", "embed", "img"} & set(parser.tags)
    leading_out = [value for name, value in parser.attributes if name in ("src", "href", "xlink:href", "action")]
    assert leading_out == ["data:,"]
    assert not re.search(r"@import|url\(", page)
    assert not any(name.startswith("on") for name, _ in parser.attributes)


def test_page_has_the_figures_the_plots_and_the_advice() -> None:
    page = html(document())
    text = re.sub(r"<[^>]+>", " ", page)
    for expected in (
        "4.0 at once",
        "the PACS thinks",
        "takes 75% of the time",
        "12 of 120",
        "The PACS itself takes most of the time",
        "out of resources",
        "Throughput against concurrency",
        "Throughput over time",
        "Latency distributions",
        "By modality",
        "knee: 4.0",
    ):
        assert expected in text, expected
    assert page.count("<svg") == 5


def test_nothing_of_a_result_is_taken_for_markup() -> None:
    evil = "<script>alert(1)</script>\"'&"
    page = html(document(evil=evil))
    assert "<script" not in page
    assert "script" not in parsed(page).tags
    assert "&lt;script&gt;" in page


def test_stopped_benchmark_is_told_as_such() -> None:
    assert "was stopped before its end" in html(document(complete=False))
    assert "was stopped before its end" not in html(document())


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (0.0042, "0.004"), (0.5, "0.5"), (9.994, "9.99"), (12.3, "12"), (1234.5, "1,234"), (56_789.0, "57k")],
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert number(value) == text


def test_scales_put_values_where_they_belong() -> None:
    even = linear(0, 97, 0, 100)
    assert [text for _, text in even.ticks] == ["0", "20", "40", "60", "80", "100"]
    assert even.at(50) == pytest.approx(50)
    powers = logarithmic(0.3, 80, 0, 300)
    assert [value for value, _ in powers.ticks] == pytest.approx([0.1, 1, 10, 100])
    assert powers.at(1) == pytest.approx(100)
    nines = percentiles(0, 300, 3.0)
    assert [nines.at(each) for each in (0, 90, 99, 99.9)] == pytest.approx([0, 100, 200, 300])


# ---------------------------------------------------------------------- in a browser


async def chromium(*arguments: str | Path) -> str:
    """What a headless Chromium says of a page."""
    process = await asyncio.create_subprocess_exec(
        "chromium",
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        "--enable-logging=stderr",
        *map(str, arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    told, _ = await process.communicate()
    assert process.returncode == 0, told.decode()
    return told.decode()


class Screenshot:
    """The pixels of a PNG as Chromium writes it: 8 bits, RGB or RGBA, not interlaced (RFC 2083)."""

    def __init__(self, path: Path) -> None:
        data, at, packed = path.read_bytes(), 8, b""
        while at < len(data):
            length, kind = struct.unpack_from(">I4s", data, at)
            body = data[at + 8 : at + 8 + length]
            if kind == b"IHDR":
                self.width, self.height, bits, colour = struct.unpack_from(">IIBB", body)
                assert bits == 8
                self.channels = {2: 3, 6: 4}[colour]
            elif kind == b"IDAT":
                packed += body
            at += 12 + length
        self.rows = self._unfiltered(zlib.decompress(packed))

    def _unfiltered(self, data: bytes) -> list[bytearray]:
        rows, stride, step = [], self.width * self.channels, self.channels
        above = bytearray(stride)
        for start in range(0, len(data), stride + 1):
            kind, row = data[start], bytearray(data[start + 1 : start + 1 + stride])
            for at in range(stride):
                left = row[at - step] if at >= step else 0
                corner = above[at - step] if at >= step else 0
                row[at] = (row[at] + self._predicted(kind, left, above[at], corner)) & 0xFF
            rows.append(row)
            above = row
        return rows

    @staticmethod
    def _predicted(kind: int, left: int, up: int, corner: int) -> int:
        if kind < 4:
            return (0, left, up, (left + up) // 2)[kind]
        guess = left + up - corner
        return min((left, up, corner), key=lambda each: abs(guess - each))

    def at(self, x: int, y: int) -> RGB:
        """A pixel."""
        start = x * self.channels
        red, green, blue = self.rows[y][start : start + 3]
        return red, green, blue

    def widest_bar(self, colour: RGB) -> int:
        """The width of the widest area of this colour that is some rows high: a bar, and no line."""
        widths = [self._longest_run(bytes(row), colour) for row in self.rows]
        return max(min(widths[at : at + BAR_ROWS]) for at in range(len(widths) - BAR_ROWS))

    def _longest_run(self, row: bytes, colour: RGB) -> int:
        wanted = bytes(colour) + (b"\xff" if self.channels == 4 else b"")
        most = run = 0
        for at in range(0, len(row), self.channels):
            run = run + 1 if row[at : at + self.channels] == wanted else 0
            most = max(most, run)
        return most


@pytest.mark.lane("chromium")
async def test_browser_has_nothing_to_complain_of_and_a_broken_page_it_complains_of(tmp_path: Path) -> None:
    page, broken = tmp_path / "page.html", tmp_path / "broken.html"
    page.write_text(html(document()))
    broken.write_text("<!doctype html><script>nowhere()</script>")
    assert "CONSOLE" in await chromium(f"--screenshot={tmp_path / 'b.png'}", f"file://{broken}")
    assert "CONSOLE" not in await chromium(f"--screenshot={tmp_path / 'a.png'}", f"file://{page}")


@pytest.mark.lane("chromium")
@pytest.mark.parametrize(("dark", "colours"), [(False, LIGHT), (True, DARK)])
async def test_plots_are_there_in_light_and_in_dark(dark: bool, colours: dict[str, RGB], tmp_path: Path) -> None:
    page, shot = tmp_path / "page.html", tmp_path / "page.png"
    page.write_text(html(document()))
    options = ["--force-dark-mode"] if dark else []
    await chromium(*options, "--window-size=1000,1100", f"--screenshot={shot}", f"file://{page}")
    seen = Screenshot(shot)
    assert seen.at(2, 2) == colours["paper"]
    # The bars of the stalls: three quarters of the width of a plot are the PACS's.
    bar = seen.widest_bar(colours["c0"])
    plot = bar / 0.75
    assert 380 < plot < 520, "two plots side by side"
    if not dark:
        assert seen.widest_bar(colours["c4"]) == pytest.approx(0.15 * plot, abs=3)
        assert seen.widest_bar(colours["c1"]) == pytest.approx(0.10 * plot, abs=3)


@pytest.mark.lane("chromium")
async def test_page_fits_a_phone(tmp_path: Path) -> None:
    page, shot = tmp_path / "page.html", tmp_path / "page.png"
    page.write_text(html(document()))
    await chromium("--window-size=360,1800", f"--screenshot={shot}", f"file://{page}")
    seen = Screenshot(shot)
    assert all(seen.at(seen.width - 2, y) == LIGHT["paper"] for y in range(seen.height)), "nothing sticks out"
    assert seen.widest_bar(LIGHT["c0"]) == pytest.approx(0.75 * (360 - 32), abs=4)
