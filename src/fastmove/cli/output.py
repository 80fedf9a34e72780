"""What a run shows: log lines, JSON lines, progress."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import functools
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import IO, Any, Final, Protocol, TextIO

from fastmove.notices import InstanceRefused, Notice, Observer, as_dict

PLAIN_INTERVAL_S: Final = 10.0
LIVE_INTERVAL_S: Final = 0.2
OF_LATE_S: Final = 10.0
"""Rates, and how long it takes yet, go by this time."""

BAR_WIDTH: Final = 20

PATIENCE_S: Final = 1.0
"""What takes longer without a word makes people wonder."""

MIN_CUT: Final = 12
"""Characters that are left of a column that is cut."""

FORMULAS: Final = ("=", "+", "-", "@", "\t", "\r")
"""What spreadsheets take for the beginning of a formula."""


def say(text: str, *, err: bool = False) -> None:
    """A line for a person; if nobody can read it any more, nothing more is said."""
    stream = sys.stderr if err else sys.stdout
    try:
        print(text, file=stream, flush=True)  # no click.echo: that writes into a live bar
    except OSError:
        _silence(stream)


def _silence(stream: TextIO) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def write_json(fields: Mapping[str, Any]) -> None:
    """One JSON object on a line of its own, at once."""
    import json

    try:
        sys.stdout.write(json.dumps(fields, ensure_ascii=True) + "\n")
        sys.stdout.flush()
    except OSError:
        # The reader has gone, or the log's disk is full: objects are stored all the same, and nothing more is told.
        _silence(sys.stdout)


def csv_rows(out: IO[str], columns: Sequence[str]) -> Callable[[Mapping[str, Any]], None]:
    """Write the head of a CSV; a call writes a row of these columns, none of which is a formula for a spreadsheet."""
    writer = csv.DictWriter(out, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    return lambda row: writer.writerow({name: _harmless(value) for name, value in row.items()})


def _harmless(value: Any) -> Any:
    """Nothing that comes from a PACS is to be reckoned by a spreadsheet."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULAS) else value


def json_lines(notice: Notice) -> None:
    """An observer that writes each notice as a JSON line on standard output."""
    write_json({"time": round(time.time(), 6), **as_dict(notice)})


def observers(*several: Observer | None) -> Observer:
    """All of them in turn."""
    chosen = [each for each in several if each is not None]
    if len(chosen) == 1:
        return chosen[0]

    def all_of_them(notice: Notice) -> None:
        for each in chosen:
            each(notice)

    return all_of_them


def megabytes(nbytes: int) -> str:
    """Bytes as MB (10^6) with a sensible number of digits."""
    return f"{nbytes / 1e6:,.1f} MB" if nbytes < 1e9 else f"{nbytes / 1e9:,.2f} GB"


@contextlib.contextmanager
def patience(doing: str, *, quiet: bool) -> Iterator[None]:
    """Say what takes so long, if it does."""
    timer = threading.Timer(PATIENCE_S, say, (doing,), {"err": True})
    timer.daemon = True
    if not quiet:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


class Counts(Protocol):
    """Something that counts objects and their bytes."""

    @property
    def objects(self) -> int:
        """Objects so far."""

    @property
    def nbytes(self) -> int:
        """Their bytes."""


class Tally:
    """What has gone by so far: its own counts, or those of something that counts anyway."""

    def __init__(self) -> None:
        self.objects = 0
        self.nbytes = 0
        self.refused = 0
        self.source: Counts | None = None
        self.total: int | None = None
        self._samples = deque([(time.monotonic(), 0, 0)])

    def observe(self, notice: Notice) -> None:
        """An observer that counts what was refused."""
        if type(notice) is InstanceRefused:
            self.refused += 1

    def refresh(self) -> None:
        """Take over what the source has counted."""
        if self.source is not None:
            self.objects, self.nbytes = self.source.objects, self.source.nbytes

    def rates(self) -> tuple[float, float]:
        """Objects and bytes a second of late: since about `OF_LATE_S`, or the last time that it was asked."""
        now, samples = time.monotonic(), self._samples
        while len(samples) > 1 and samples[1][0] <= now - OF_LATE_S:
            samples.popleft()
        began, objects, nbytes = samples[0]
        samples.append((now, self.objects, self.nbytes))
        seconds = max(now - began, 1e-6)
        return (self.objects - objects) / seconds, (self.nbytes - nbytes) / seconds

    def left(self, objects_per_s: float) -> str:
        """How long it takes yet at this rate, as text; empty if nobody can know."""
        if self.total is None or objects_per_s <= 0:
            return ""
        seconds = round(max(self.total - self.objects, 0) / objects_per_s)
        return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02} left"

    def line(self, verb: str) -> str:
        """The state as text."""
        self.refresh()
        objects_per_s, bytes_per_s = self.rates()
        parts = [
            f"{verb} {self.objects:,}" + (f" of {self.total:,}" if self.total else "") + " objects",
            f"{self.refused:,} refused" if self.refused else "",
            megabytes(self.nbytes),
            f"{bytes_per_s / 1e6:,.1f} MB/s",
            f"{objects_per_s:,.0f} objects/s",
            self.left(objects_per_s),
        ]
        return ", ".join(filter(None, parts))

    def live(self, verb: str) -> tuple[str, ...]:
        """The state on a terminal: what stands beside the bar, and lines below it."""
        return (self.line(verb),)


class Progress:
    """Shows a tally while a block runs: a live bar on a terminal, plain lines elsewhere, nothing with JSON.

    Plain lines go to `tell`, by default to standard error, which may block.
    """

    def __init__(
        self, tally: Tally, verb: str, *, quiet: bool = False, tell: Callable[[str], None] | None = None
    ) -> None:
        self._tally = tally
        self._verb = verb
        self._tell = tell or functools.partial(say, err=True)
        self._show: Callable[[], None] | None = None
        self._interval = PLAIN_INTERVAL_S
        self._timer: asyncio.TimerHandle | None = None
        self._live: Any = None
        if not quiet:
            live = sys.stderr.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")
            self._show = self._show_bar if live else self._show_line

    def __enter__(self) -> Progress:
        if self._show == self._show_bar:
            self._start_bar()
        if self._show is not None:
            self._again()
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._live is not None:
            with contextlib.suppress(OSError):  # the terminal has gone
                self._live.stop()

    def _again(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._interval, self._tick)

    def _tick(self) -> None:
        if self._show is not None:
            with contextlib.suppress(OSError):  # the terminal has gone
                self._show()
            self._again()

    def _start_bar(self) -> None:
        from rich.console import Console
        from rich.live import Live
        from rich.spinner import Spinner

        self._interval = LIVE_INTERVAL_S
        self._spinner = Spinner("dots")
        self._live = Live(console=Console(stderr=True), auto_refresh=False, transient=True)
        self._live.start()
        self._show_bar()

    def _show_bar(self) -> None:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        tally = self._tally
        beside, *below = (Text(each, no_wrap=True, overflow="ellipsis") for each in tally.live(self._verb))
        bar = ProgressBar(
            total=tally.total, completed=tally.objects + tally.refused, width=BAR_WIDTH, pulse=tally.total is None
        )
        row = Table.grid(padding=(0, 1))
        row.add_row(self._spinner, bar, beside)
        self._live.update(Group(row, *below), refresh=True)

    def _show_line(self) -> None:
        self._tell(self._tally.line(self._verb))


def table(rows: Iterable[Sequence[str]], header: Sequence[str], *, cut_last: bool = False) -> None:
    """Rows as a table on standard output, as wide as the terminal or as the text.

    With `cut_last` the last column is cut where the terminal ends, else all that is too wide is folded.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console() if sys.stdout.isatty() else Console(width=4096)
    shown = Table(box=None, header_style="bold", pad_edge=False)
    lines = [header, *rows]
    for name in header:
        shown.add_column(name, overflow="fold")
    for line in lines[1:]:
        shown.add_row(*map(Text, line))
    if cut_last:
        others = sum(max(map(len, column)) + 2 for column in list(zip(*lines, strict=True))[:-1])
        last = shown.columns[-1]
        last.no_wrap, last.overflow, last.max_width = True, "ellipsis", max(console.width - others, MIN_CUT)
    with console.capture() as printed:
        console.print(shown)
    say("\n".join(line.rstrip() for line in printed.get().splitlines()))
