"""What movescu prints about itself, and of its command line: usage, version, errors, --arguments.

Layout and texts are those of DCMTK 3.6.7, as scripts read them; the first line names this program.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from fastmove.cli.movescu.options import Row
from fastmove.cli.movescu.rows import PARAMETERS, SECTIONS
from fastmove.types import VERSION, VERSION_DATE

HEADER: Final = f"$fastmove: movescu v{VERSION} {VERSION_DATE} $"
"""Which program this is, as scripts look for it; at debug level the log begins with it."""

TITLE: Final = "movescu: DICOM retrieve (C-MOVE) SCU"
SYNOPSIS: Final = "movescu [options] peer port [dcmfile-in...]"

LONG_WIDTH: Final = 21
TEXT_COLUMN: Final = 33


def usage() -> str:
    """All of `--help`."""
    lines = [HEADER, "", TITLE, f"usage: {SYNOPSIS}", "", "parameters:"]
    lines += (f"  {name}".ljust(TEXT_COLUMN) + text for name, text in PARAMETERS)
    lines.append("")
    title = ""
    for section in SECTIONS:
        if section.title != title:
            title = section.title
            lines.append(title)
        indent = 2
        if section.heading:
            lines.append("  " + section.heading)
            indent = 4
        for row in section.rows:
            lines += _option(row, indent)
    return "\n".join([*lines, "", ""])


def _option(row: Row, indent: int) -> Iterator[str]:
    """The lines of one option: spellings beside the first line of the text."""
    short = row.short.ljust(TEXT_COLUMN - LONG_WIDTH - 2 - 2 - indent)
    left = f"{' ' * indent}{short}  {row.long}"
    for text in (row.operand + "\n" + row.meaning).strip("\n").split("\n"):
        yield left.ljust(TEXT_COLUMN) + text
        left = ""


def version() -> str:
    """All of `--version`."""
    import os
    import ssl
    import sys
    import zlib

    system = os.uname()
    python = ".".join(map(str, sys.version_info[:3]))
    lines = (
        HEADER,
        "",
        TITLE,
        "",
        f"Host type: {system.machine}-{system.sysname}",
        f"Character encoding: {sys.getfilesystemencoding()}",
        "Build options: lfs extern-dict dcmdictpath tcp-wrappers",
        "",
        "External libraries used:",
        f"- ZLIB, Version {zlib.ZLIB_RUNTIME_VERSION}",
        f"- {ssl.OPENSSL_VERSION}",
        f"- PYTHON, Version {python}",
        "- UVLOOP",
    )
    return "\n".join([*lines, ""])


def profiles() -> str:
    """All of `--list-profiles`."""
    from fastmove.cli.movescu.tls_rows import SECTIONS as TLS

    rows = [row for section in TLS for row in section.rows if row.field == "tls_profile" and not row.impossible]
    texts = (f"  {' '.join(row.meaning.split())}" for row in rows)
    return "\n".join((HEADER, "", TITLE, "", "Supported TLS profiles are:", *texts, ""))


def ciphers() -> str:
    """All of `--list-ciphers`."""
    from fastmove.net.tls import NAMES

    return "\n".join((HEADER, "", TITLE, "", "Supported TLS ciphersuites are:", *(f"  {name}" for name in NAMES), ""))


def error_text(text: str) -> str:
    """What a command line that cannot be run is answered with, on standard error."""
    return "\n".join((HEADER, "", TITLE, f"error: {text}", ""))


def called(program: str, words: Sequence[str]) -> str:
    """The message of `--arguments`: empty words are counted, but not shown."""
    shown = "".join(f"'{word}' " for word in words if word)
    return f"calling '{program}' with {len(words)} arguments: {shown}\n"
