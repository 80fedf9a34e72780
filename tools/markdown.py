"""What the generated pages are made of."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator


def table(header: Iterable[str], rows: Iterable[Iterable[object]]) -> Iterator[str]:
    """A Markdown table and the blank line after it."""
    header = list(header)
    yield f"| {' | '.join(header)} |"
    yield "|" + " --- |" * len(header)
    for row in rows:
        yield f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in row)} |"
    yield ""


def code(text: object) -> str:
    """As code; nothing stays nothing."""
    return f"`{text}`" if str(text) else ""


def prose(text: str) -> Iterator[str]:
    """A paragraph in lines of a good length, and the blank line after it."""
    yield from textwrap.wrap(" ".join(text.split()), 120, break_long_words=False, break_on_hyphens=False)
    yield ""
