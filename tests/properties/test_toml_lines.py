"""Every key that a TOML parser finds has a line, and it is the line that it was written in."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fastmove.cli.toml_lines import Place, line_numbers

BARE = st.text("abz_-09", min_size=1, max_size=4)
LITERAL = st.text('a.[]{}=,# "', max_size=4).map(lambda text: f"'{text}'")
BASIC = st.text("a.[]{}=,#' \"\\\n", max_size=4).map(json.dumps)
SCALARS = st.one_of(
    BASIC,
    LITERAL,
    st.sampled_from(["1", "-1.5e3", "true", "inf", "1979-05-27T07:32:00Z", "07:32:00"]),
    st.text("a[]{}=,#\n '", max_size=8).map(lambda text: f'"""{text}"""'),
)
KEYS = st.one_of(BARE, LITERAL, BASIC)


def table(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    rows = st.dictionaries(BARE, values, max_size=3)
    return rows.map(lambda found: "{" + ", ".join(f"{key} = {value}" for key, value in found.items()) + "}")


VALUES = st.recursive(
    SCALARS,
    lambda values: st.one_of(
        table(values), st.lists(values, max_size=3).map(lambda found: "[ # [\n" + ",\n".join(found) + "\n]")
    ),
    max_leaves=5,
)
LINES = st.lists(st.tuples(KEYS, VALUES), max_size=4, unique_by=lambda row: unquoted(row[0]))


def unquoted(key: str) -> str:
    return next(iter(tomllib.loads(f"{key} = 0")))


def places(found: dict[str, Any], above: Place = ()) -> Iterator[Place]:
    for key, value in found.items():
        yield (*above, key)
        if isinstance(value, dict):
            yield from places(value, (*above, key))


@given(LINES, st.dictionaries(BARE, LINES, max_size=3))
def test_keys_are_found_where_they_were_written(top: list[tuple[str, str]], tables: dict[str, Any]) -> None:
    lines: list[str] = []
    expected: dict[Place, int] = {}

    def write(rows: list[tuple[str, str]], above: Place) -> None:
        for key, value in rows:
            expected[*above, unquoted(key)] = len(lines) + 1
            lines.extend(f"  {key} = {value} # {key} = [".split("\n"))

    write(top, ())
    taken = {unquoted(key) for key, _ in top}
    for name, rows in tables.items():
        if name not in taken:
            lines.append(f"[ {name} ]")
            expected[name,] = len(lines)
            write(rows, (name,))
    text = "\n".join(lines)
    found = line_numbers(text)
    assert {place: found.get(place) for place in expected} == expected
    assert set(places(tomllib.loads(text))) <= found.keys()
