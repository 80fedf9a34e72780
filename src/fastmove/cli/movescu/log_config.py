"""--log-config: the part of log4cplus's properties that DCMTK's users need.

Loggers, levels, additivity; appenders to console, file, rolling file and nowhere, with thresholds; the layouts Simple,
TTCC and Pattern; `${variables}`.  What is missing is said on standard error and passed over: other appenders, filters.
A daily file is written, but never rolled.  There are no places in a source to tell of: `%F %L %l %M %b` are empty.
"""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from fastmove.cli.movescu.log import (
    INFO,
    LEVELS,
    STANDARD_ERROR,
    STANDARD_OUTPUT,
    TRACE,
    Appender,
    ConsoleAppender,
    Log,
    Logger,
    write_all,
)
from fastmove.cli.movescu.log_layout import Event, Layout, complain, pattern_layout, simple_layout, ttcc_layout

MAX_EXPANSION_DEPTH: Final = 16
"""Variables within variables; DCMTK hangs on one that names itself."""

LEAST_FILE_SIZE: Final = 200 << 10
DEFAULT_FILE_SIZE: Final = 10 << 20
"""Bytes after which a file is rolled; log4cplus's figures."""

_UNITS: Final = {"KB": 1 << 10, "MB": 1 << 20}


class BadLogConfig(ValueError):
    """A file that cannot be used; the text is that of the command line's error."""

    def __init__(self, what: str) -> None:
        super().__init__(f"Specified --log-config file {what}")


# ---------------------------------------------------------------------- properties

_VARIABLE: Final = re.compile(r"\$\{(.*?)\}")


class Properties:
    """The settings of a file by key; the last of a key counts."""

    def __init__(self, text: str, variables: Mapping[str, str]) -> None:
        lines = (line.strip() for line in text.splitlines())
        settings = (line.partition("=") for line in lines if not line.startswith("#") and "=" in line)
        self._own = {key.strip(): value.strip() for key, _, value in settings}
        self._variables = variables
        self.settings = {self._expand(key): self._expand(value) for key, value in self._own.items()}

    def _expand(self, text: str, depth: int = 0) -> str:
        if depth == MAX_EXPANSION_DEPTH:
            return text

        def value(found: re.Match[str]) -> str:
            for source in (self._variables, self._own, os.environ):
                if found[1] in source:
                    return self._expand(source[found[1]], depth + 1)
            return found[0]

        return _VARIABLE.sub(value, text)

    def below(self, prefix: str) -> dict[str, str]:
        """The settings whose keys begin so, by the rest of their keys."""
        return {key.removeprefix(prefix): value for key, value in self.settings.items() if key.startswith(prefix)}


def _true(text: str) -> bool:
    return text.lower() in ("true", "1")


def _level(text: str) -> int | None:
    """None for INHERIT and for what is no level."""
    return LEVELS.get(text.lower())


# ---------------------------------------------------------------------- appenders


def _layout(settings: Mapping[str, str]) -> Layout:
    name = settings.get("layout", "log4cplus::SimpleLayout")
    if name == "log4cplus::PatternLayout":
        if "layout.ConversionPattern" in settings:
            return pattern_layout(settings["layout.ConversionPattern"])
        complain("ConversionPattern not specified in properties")
        complain("Error while creating Layout: ConversionPattern not specified in properties")
    elif name == "log4cplus::TTCCLayout":
        return ttcc_layout
    elif name != "log4cplus::SimpleLayout":
        complain(f'Cannot find LayoutFactory: "{name}"')
    return simple_layout


class _Formatted:
    """What all appenders share: threshold and layout; it writes to a descriptor."""

    def __init__(self, settings: Mapping[str, str], fd: int) -> None:
        self._layout = _layout(settings)
        self._threshold = _level(settings.get("Threshold", "")) or TRACE
        self._fd = fd

    def append(self, logger: str, level: int, lines: list[str]) -> None:
        """Write each line by itself, as log4cplus has it."""
        if level >= self._threshold:
            for line in lines:
                self._write(os.fsencode(self._layout(Event(logger, level, line))))

    def _write(self, data: bytes) -> None:
        write_all(self._fd, data)

    def close(self) -> None:
        """Console descriptors stay open."""


class _File(_Formatted):
    """FileAppender; OSError if the file cannot be had."""

    append_by_default = False

    def __init__(self, settings: Mapping[str, str]) -> None:
        self._path = settings["File"]
        kept = _true(settings["Append"]) if "Append" in settings else self.append_by_default
        super().__init__(settings, self._open(kept))

    def _open(self, kept: bool) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | (0 if kept else os.O_TRUNC), 0o666)

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


class _RollingFile(_File):
    """RollingFileAppender: once it is too long, FILE becomes FILE.1, FILE.1 becomes FILE.2, and so on."""

    append_by_default = True

    def __init__(self, settings: Mapping[str, str]) -> None:
        super().__init__(settings)
        self._most = max(LEAST_FILE_SIZE, _size(settings.get("MaxFileSize", "")))
        backups = settings.get("MaxBackupIndex", "")
        self._backups = max(1, int(backups)) if backups.isdigit() else 1

    def _write(self, data: bytes) -> None:
        super()._write(data)
        if os.fstat(self._fd).st_size > self._most:
            self._roll()

    def _roll(self) -> None:
        names = [Path(self._path), *(Path(f"{self._path}.{n}") for n in range(1, self._backups + 1))]
        try:
            for older, newer in zip(names[:0:-1], names[-2::-1], strict=True):
                if newer.exists():
                    newer.replace(older)
            fd = self._open(kept=False)
        except OSError as error:
            complain(f"Failed to roll file {self._path}: {error.strerror}")
            return
        os.close(self._fd)
        self._fd = fd


def _size(text: str) -> int:
    """`500KB`, `5MB` or a number of bytes."""
    number, unit = (text[:-2], text[-2:].upper()) if text[-2:].upper() in _UNITS else (text, "")
    return int(number) * _UNITS.get(unit, 1) if number.isdigit() else DEFAULT_FILE_SIZE


class _Null:
    """NullAppender."""

    def append(self, logger: str, level: int, lines: list[str]) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class _Missing(_Null):
    """Where a configuration without any appender writes to: one complaint, and then nothing."""

    _complained = False

    def append(self, logger: str, level: int, lines: list[str]) -> None:
        """Complain the first time."""
        if not self._complained:
            complain(f"No appenders could be found for logger ({logger}).")
            complain("Please initialize the log4cplus system properly.")
        self._complained = True


def _console(settings: Mapping[str, str]) -> Appender:
    return _Formatted(settings, STANDARD_ERROR if _true(settings.get("logToStdErr", "")) else STANDARD_OUTPUT)


_APPENDERS: Final[dict[str, Callable[[Mapping[str, str]], Appender]]] = {
    "log4cplus::ConsoleAppender": _console,
    "log4cplus::FileAppender": _File,
    "log4cplus::RollingFileAppender": _RollingFile,
    "log4cplus::DailyRollingFileAppender": _File,
    "log4cplus::NullAppender": lambda settings: _Null(),
}


def _appenders(settings: Mapping[str, str]) -> Iterator[tuple[str, Appender]]:
    for name, kind in settings.items():
        if "." in name:
            continue
        own = {key.removeprefix(f"{name}."): value for key, value in settings.items() if key.startswith(f"{name}.")}
        if kind not in _APPENDERS:
            complain(f"PropertyConfigurator::configureAppenders()- Cannot find AppenderFactory: {kind}")
            continue
        if kind == "log4cplus::DailyRollingFileAppender":
            complain(f"appender {name}: {kind} writes its file, but does not roll it", "WARN")
        if any(key.startswith("filters.") for key in own):
            complain(f"appender {name}: filters are passed over", "WARN")
        try:
            yield name, _APPENDERS[kind](own)
        except KeyError:  # File
            complain("Invalid filename")
            yield name, _Null()
        except OSError:
            complain(f"Unable to open file: {own['File']}")
            yield name, _Null()


# ---------------------------------------------------------------------- loggers

_PREFIX: Final = "log4cplus."
_ROOT: Final = "log4cplus.rootLogger"


def read(path: str, program: str = "movescu") -> Log:
    """The log that a file configures; BadLogConfig if it cannot be used."""
    try:
        text = Path(path).read_text("utf-8", "surrogateescape")
    except PermissionError:
        raise BadLogConfig("cannot be read") from None
    except OSError:
        raise BadLogConfig("does not exist") from None
    return configure(text, program)


def configure(text: str, program: str = "movescu") -> Log:
    """The log that the text of a file configures; BadLogConfig if it is none."""
    variables = {
        "appname": program,
        "hostname": socket.gethostname(),
        "pid": str(os.getpid()),
        "date": time.strftime("%Y%m%d"),
        "time": time.strftime("%H%M%S"),
    }
    properties = Properties(text, variables)
    if not properties.settings:
        raise BadLogConfig("does not contain any settings")
    if not properties.below(_PREFIX):
        raise BadLogConfig("does not contain any valid settings")
    root = properties.settings.get(_ROOT)
    if root is None:
        raise BadLogConfig("does not set up log4cplus.rootLogger")
    if not root:
        complain('PropertyConfigurator::configureLogger()- Invalid config string(Logger = root): ""')
        return Log(Logger(INFO, (ConsoleAppender(),)))
    appenders = dict(_appenders(properties.below("log4cplus.appender.")))
    additivity = properties.below("log4cplus.additivity.")
    loggers = {
        name: _logger(value, appenders, additive=_true(additivity.pop(name, "true")))
        for name, value in properties.below("log4cplus.logger.").items()
    }
    loggers |= {name: Logger(None, additive=_true(value)) for name, value in additivity.items()}
    configured = _logger(root, appenders)
    if configured.level is None:  # where DCMTK ends with SIGABRT
        raise BadLogConfig("does not set up log4cplus.rootLogger")
    if not any(logger.appenders for logger in (configured, *loggers.values())):
        configured.appenders = (_Missing(),)
    return Log(configured, loggers)


def _logger(text: str, appenders: Mapping[str, Appender], *, additive: bool = True) -> Logger:
    """`LEVEL, appender, appender`; blanks do not count."""
    level, *names = text.replace(" ", "").replace("\t", "").split(",")
    found = dict.fromkeys(name for name in names if name)
    for name in found.keys() - appenders.keys():
        complain(f"PropertyConfigurator::configureLogger()- Invalid appender: {name}")
    return Logger(_level(level), tuple(appenders[name] for name in found if name in appenders), additive=additive)
