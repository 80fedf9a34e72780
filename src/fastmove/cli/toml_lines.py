"""Where things are in a TOML text: `tomllib` tells what is there, and not in which line."""

from __future__ import annotations

import re
import tomllib
from typing import Final

Place = tuple[str, ...]
"""The keys that lead to a value: ("peers", "pacs", "port")."""

_TOKEN: Final = re.compile(
    r"""(?P<quoted>"{3}(?:\\[\s\S]|[^\\])*?"{3,5}|'{3}[\s\S]*?'{3,5}|"(?:\\.|[^"\\\n])*"|'[^'\n]*')"""
    r"|(?P<bare>[A-Za-z0-9_-]+)|(?P<mark>[\[\]{}=,\n])|#[^\n]*"
)


def line_numbers(text: str) -> dict[Place, int]:
    """The line in which each table and each key of a valid TOML text is first named."""
    lines: dict[Place, int] = {}
    table: Place = ()  # of the last header
    around: list[tuple[Place, bool]] = []  # the open brackets of a value: whose value, and whether it is a table
    at: Place = ()  # the value that is read
    names: list[str] = []  # the key or header that is read
    naming, header, line = True, False, 1
    for token in _TOKEN.finditer(text):
        mark = token["mark"]
        if naming and not mark and not token[0].startswith("#"):
            names.append(token["bare"] or _unquoted(token["quoted"]))
        elif mark == "\n" and not around:
            naming, header, names = True, False, []
        elif mark == "[" and naming:
            header = True
        elif (mark == "]" and header) or (mark == "=" and naming):
            at = (*(() if header else around[-1][0] if around else table), *names)
            for length in range(1, len(at) + 1):
                lines.setdefault(at[:length], line)
            naming, table = False, at if header else table
        elif mark in ("[", "{"):
            around.append((at, mark == "{"))
            naming, names = mark == "{", []
        elif mark in ("]", "}"):
            at, naming = around.pop()[0], False
        elif mark == "," and around:
            (at, naming), names = around[-1], []
        line += token[0].count("\n")
    return lines


def _unquoted(text: str) -> str:
    return next(iter(tomllib.loads(f"{text} = 0")))
