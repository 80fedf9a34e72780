"""Query keys from a file or standard input: what stands on a command line is seen by everybody on the host."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

from fastmove.errors import ConfigurationError
from fastmove.limits import MAX_KEYS_FILE_BYTES

_STDIN: Final = "-"

keys_file_option = click.option(
    "--keys-file",
    "key_files",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path),
    metavar="FILE",
    help="More keys, one a line as for --key; - is standard input. Other users of the host do not see them.",
)


def keys_of(files: Sequence[Path]) -> tuple[str, ...]:
    """The keys of the files in their order, without blank lines and those that begin with #; ConfigurationError."""
    return tuple(
        key for file in files for line in _text(file).splitlines() if (key := line.strip()) and not key.startswith("#")
    )


def _text(file: Path) -> str:
    try:
        if str(file) == _STDIN:
            data = sys.stdin.buffer.read(MAX_KEYS_FILE_BYTES + 1)
        else:
            with file.open("rb") as opened:
                data = opened.read(MAX_KEYS_FILE_BYTES + 1)
        if len(data) > MAX_KEYS_FILE_BYTES:
            raise ConfigurationError("--keys-file", f"{file} is longer than {MAX_KEYS_FILE_BYTES:,} bytes")
        return data.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigurationError("--keys-file", f"{file} cannot be read: {why}") from error
