"""What a run shows: log lines, JSON lines, progress."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import click

from fastmove.notices import InstanceRefused, ManifestFailed, Notice, Observer, PeerMisbehaved, as_dict, level

PLAIN_INTERVAL_S = 10.0
LIVE_INTERVAL_S = 0.2


def write_json(fields: Mapping[str, Any]) -> None:
    """One JSON object on a line of its own, at once."""
    import json

    try:
        sys.stdout.write(json.dumps(fields, ensure_ascii=True) + "\n")
        sys.stdout.flush()
    except OSError:
        # The reader has gone, or the log's disk is full: objects are stored all the same, and nothing more is told.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def json_lines(notice: Notice) -> None:
    """An observer that writes each notice as a JSON line on standard output."""
    write_json({"time": round(time.time(), 6), **as_dict(notice)})


def warnings_only(notice: Notice) -> None:
    """An observer that writes a line on standard error for everything that went wrong."""
    kind = type(notice)
    if kind is PeerMisbehaved and level(notice.event) == "W":
        assert isinstance(notice, PeerMisbehaved)
        _warn(notice.event, assoc=notice.association, peer=notice.host, detail=notice.detail)
    elif kind is InstanceRefused:
        assert isinstance(notice, InstanceRefused)
        _warn(notice.event, assoc=notice.association, status=f"{notice.status:04X}", detail=notice.detail)
    elif kind is ManifestFailed:
        assert isinstance(notice, ManifestFailed)
        _warn(notice.event, path=notice.path[-64:], detail=notice.detail)


def _warn(event: str, **fields: object) -> None:
    text = " ".join(f"{key}={_quoted(value)}" for key, value in fields.items() if value != "")
    click.echo(f"W event={event} {text}", err=True)


def _quoted(value: object) -> str:
    """What a peer wrote, escaped and bounded: it must not forge a line or drive a terminal."""
    text = ascii(str(value)[:64])[1:-1]
    return f'"{text}"' if " " in text else text


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
        self.started = time.monotonic()

    def observe(self, notice: Notice) -> None:
        """An observer that counts what was refused."""
        if type(notice) is InstanceRefused:
            self.refused += 1

    def refresh(self) -> None:
        """Take over what the source has counted."""
        if self.source is not None:
            self.objects, self.nbytes = self.source.objects, self.source.nbytes

    def line(self, verb: str) -> str:
        """The state as text."""
        self.refresh()
        seconds = max(time.monotonic() - self.started, 1e-6)
        of = f" of {self.total:,}" if self.total else ""
        refused = f", {self.refused:,} refused" if self.refused else ""
        return (
            f"{verb} {self.objects:,}{of} objects{refused}, {megabytes(self.nbytes)}, "
            f"{self.nbytes / 1e6 / seconds:,.1f} MB/s, {self.objects / seconds:,.0f} objects/s"
        )


class Progress:
    """Shows a tally while a block runs: a live bar on a terminal, plain lines elsewhere, nothing with JSON."""

    def __init__(self, tally: Tally, verb: str, *, quiet: bool = False) -> None:
        self._tally = tally
        self._verb = verb
        self._show: Callable[[], None] | None = None
        self._interval = PLAIN_INTERVAL_S
        self._timer: asyncio.TimerHandle | None = None
        self._bar: Any = None
        if not quiet:
            self._show = self._show_bar if sys.stderr.isatty() else self._show_line

    def __enter__(self) -> Progress:
        if self._show is not None:
            if sys.stderr.isatty():
                self._start_bar()
            self._again()
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._bar is not None:
            self._show_bar()
            self._bar.stop()

    def _again(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._interval, self._tick)

    def _tick(self) -> None:
        if self._show is not None:
            self._show()
        self._again()

    def _start_bar(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        self._interval = LIVE_INTERVAL_S
        columns = (SpinnerColumn(), BarColumn(30), TextColumn("{task.description}"), TimeRemainingColumn())
        self._bar = Bar(*columns, console=Console(stderr=True), auto_refresh=False, transient=True)
        self._task = self._bar.add_task("", total=None)
        self._bar.start()

    def _show_bar(self) -> None:
        done = self._tally.objects + self._tally.refused
        self._bar.update(self._task, completed=done, total=self._tally.total, description=self._tally.line(self._verb))
        self._bar.refresh()

    def _show_line(self) -> None:
        click.echo(self._tally.line(self._verb), err=True)


def table(rows: Iterable[Sequence[str]], header: Sequence[str]) -> None:
    """Rows as a table on standard output, as wide as the terminal or as the text."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=None, header_style="bold", pad_edge=False)
    for name in header:
        shown.add_column(name, overflow="fold")
    for row in rows:
        shown.add_row(*(Text(cell) for cell in row))
    console = Console() if sys.stdout.isatty() else Console(width=4096)
    console.print(shown)
