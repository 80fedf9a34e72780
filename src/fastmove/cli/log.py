"""The options of the log, and what they make: lines on standard error or in a file, that nobody waits for."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import click

from fastmove.cli.options import all_of
from fastmove.notices import ErrorOccurred, HostStrained, InstanceRefused, ManifestFailed, Observer, PeerMisbehaved
from fastmove.observe.columns import Level
from fastmove.observe.crash import name_of, where
from fastmove.observe.lines import LogFile, Stream
from fastmove.observe.log import Log, LogOptions, new_key, read_key
from fastmove.values import Value

WARNINGS: Final = frozenset((PeerMisbehaved, HostStrained, InstanceRefused, ManifestFailed, ErrorOccurred))
"""Notices that are told on standard error; all else is in the progress, or in the closing words."""

log_options: Final = all_of(
    click.option(
        "--log-file",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help="Write the log there, not to standard error; never holds up a transfer.",
    ),
    click.option(
        "--log-level",
        type=click.Choice([level.name.lower() for level in Level]),
        default=Level.WARNING.name.lower(),
        show_default=True,
        help="The least grave lines; debug has one for each object.",
    ),
    click.option("--log-uids", is_flag=True, help="UIDs and paths in clear, where the log has hashes of them."),
    click.option(
        "--log-key",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help="Key of these hashes, so that they are the same in all runs.  [default: a new one for each run]",
    ),
)
"""A verb with the options of the log; `LogPlan` takes their values by name."""


class LogPlan(Value):
    """What the options say: where the log goes, and what is in it; the same in all processes of a command."""

    file: Path | None
    options: LogOptions

    @classmethod
    def of(cls, log_file: Path | None, log_level: str, log_uids: bool, log_key: Path | None) -> LogPlan:
        """From the options; ConfigurationError if there is no such key, or no such file can be."""
        if log_file is not None:
            LogFile(log_file).close()
        key = new_key() if log_key is None else read_key(log_key)
        return cls(log_file, LogOptions(Level[log_level.upper()], log_uids, key))

    @property
    def tells_objects(self) -> bool:
        """True if each object has its line: that takes time for each."""
        return self.options.level <= Level.DEBUG


class Reporting:
    """Standard error and the log of a running command, for the length of a block; neither holds anything up."""

    def __init__(self, plan: LogPlan) -> None:
        self._stack = ExitStack()
        file = None if plan.file is None else LogFile(plan.file)
        self.stderr = self._stack.enter_context(Log(Stream(), plan.options, only=WARNINGS))
        self.log = self.stderr
        if file is not None:
            self.log = self._stack.enter_context(Log(file, plan.options, timed=True))
        self.in_file = file is not None

    def __enter__(self) -> Reporting:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def reopen(self) -> None:
        """Begin the file anew: it has another name now."""
        self.log.reopen()


def tell_errors(tell: Observer) -> None:
    """Errors of our own that the running loop hears of are told, without the values that their messages may quote."""

    def told(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if error is None:
            tell(ErrorOccurred("internal", "asyncio", str(context.get("message"))))
        else:
            event = "mem" if isinstance(error, MemoryError) else "internal"
            tell(ErrorOccurred(event, name_of(error), where(error)))

    asyncio.get_running_loop().set_exception_handler(told)
