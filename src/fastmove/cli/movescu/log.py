"""Log lines as DCMTK writes them: `I: text` on standard error, each line of a text with its level, and flushed at once.

Python's own logging is not used: importing it costs more than all that is needed here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final, Protocol

TRACE: Final = 0
DEBUG: Final = 10000
INFO: Final = 20000
WARN: Final = 30000
ERROR: Final = 40000
FATAL: Final = 50000
OFF: Final = 60000

LEVELS: Final[dict[str, int]] = {
    "trace": TRACE,
    "debug": DEBUG,
    "info": INFO,
    "warn": WARN,
    "error": ERROR,
    "fatal": FATAL,
    "off": OFF,
    "all": TRACE,
}
"""What --log-level takes, in lower case."""

LETTERS: Final[dict[int, str]] = {TRACE: "T", DEBUG: "D", INFO: "I", WARN: "W", ERROR: "E", FATAL: "F"}

MOVESCU: Final = "dcmtk.apps.movescu"
PROGRESS: Final = "dcmtk.apps.movescu.progress"
DCMNET: Final = "dcmtk.dcmnet"
DCMDATA: Final = "dcmtk.dcmdata"

STANDARD_OUTPUT: Final = 1
STANDARD_ERROR: Final = 2


def write_all(fd: int, data: bytes) -> None:
    """Write the data, or what of it can be written: no log line is worth the loss of an object."""
    try:
        while data:
            data = data[os.write(fd, data) :]
    except OSError:
        return


class Appender(Protocol):
    """Where lines go."""

    def append(self, logger: str, level: int, lines: list[str]) -> None:
        """Write a message of one line or more."""

    def close(self) -> None:
        """No more lines."""


class ConsoleAppender:
    """DCMTK's default: the letter of the level, a colon, the line."""

    def __init__(self, fd: int = STANDARD_ERROR) -> None:
        self._fd = fd

    def append(self, logger: str, level: int, lines: list[str]) -> None:
        """Write all lines at once."""
        prefix = f"{LETTERS[level]}: "
        write_all(self._fd, os.fsencode("".join(f"{prefix}{line}\n" for line in lines)))

    def close(self) -> None:
        """Nothing: the descriptor is not ours."""


class Logger:
    """What is said of a logger: from which level on, or None to ask its parent; where to; whether its parents too."""

    __slots__ = ("additive", "appenders", "level")

    def __init__(self, level: int | None, appenders: tuple[Appender, ...] = (), *, additive: bool = True) -> None:
        self.level = level
        self.appenders = appenders
        self.additive = additive


class Log:
    """The hierarchy of loggers; the names of those below the root are dotted paths."""

    def __init__(self, root: Logger | None = None, loggers: Mapping[str, Logger] | None = None) -> None:
        self._root = root or Logger(WARN, (ConsoleAppender(),))
        self._loggers = dict(loggers or {})

    def _chain(self, name: str) -> list[Logger]:
        """What is said of the logger and of its parents, the root last."""
        chain = []
        while name:
            if name in self._loggers:
                chain.append(self._loggers[name])
            name = name.rpartition(".")[0]
        return [*chain, self._root]

    def level(self, logger: str) -> int:
        """The level from which on the logger writes."""
        return next((each.level for each in self._chain(logger) if each.level is not None), OFF)

    def enabled(self, logger: str, level: int) -> bool:
        """True if a message of this level is written."""
        return level >= self.level(logger)

    @property
    def debugging(self) -> bool:
        """True if the program itself logs at DEBUG: it then writes dumps, and leaves out what they say anyway."""
        return self.enabled(MOVESCU, DEBUG)

    @property
    def shows_progress(self) -> bool:
        """True if dots are to be printed for what is received: at INFO exactly."""
        return self.level(PROGRESS) == INFO

    def close(self) -> None:
        """Close what appenders have opened."""
        for appender in {each for logger in (self._root, *self._loggers.values()) for each in logger.appenders}:
            appender.close()

    def write(self, logger: str, level: int, text: str) -> None:
        """A message of one line or more, if its level is enabled."""
        if self.enabled(logger, level):
            self.force(text, logger, level)

    def force(self, text: str, logger: str = MOVESCU, level: int = INFO) -> None:
        """A message whatever the level."""
        lines = text.split("\n")
        for each in self._chain(logger):
            for appender in each.appenders:
                appender.append(logger, level, lines)
            if not each.additive:
                break

    def trace(self, logger: str, text: str) -> None:
        """A message at TRACE."""
        self.write(logger, TRACE, text)

    def debug(self, logger: str, text: str) -> None:
        """A message at DEBUG."""
        self.write(logger, DEBUG, text)

    def info(self, logger: str, text: str) -> None:
        """A message at INFO."""
        self.write(logger, INFO, text)

    def warn(self, logger: str, text: str) -> None:
        """A message at WARN."""
        self.write(logger, WARN, text)

    def error(self, logger: str, text: str) -> None:
        """A message at ERROR."""
        self.write(logger, ERROR, text)

    def fatal(self, logger: str, text: str) -> None:
        """A message at FATAL."""
        self.write(logger, FATAL, text)


def log_at(level: str | None) -> Log:
    """The log of the command line: to standard error, from this level on (None: WARN)."""
    return Log(Logger(LEVELS[level.lower()] if level else WARN, (ConsoleAppender(),)))


class Progress:
    """`RECV: ....` on standard output: a dot for every data-set fragment of an object (`Log.shows_progress`)."""

    def begin(self) -> None:
        """An object is coming."""
        write_all(STANDARD_OUTPUT, b"RECV: ")

    def fragments(self, count: int) -> None:
        """So many more P-DATA values of it are here."""
        write_all(STANDARD_OUTPUT, b"." * count)

    def end(self) -> None:
        """It is complete; what fails midway has no end of line."""
        write_all(STANDARD_OUTPUT, b"\n")
