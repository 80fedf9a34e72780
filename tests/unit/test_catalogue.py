"""Every row of the catalogue of faults has a test that names it, and no test names a row that is not there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

TESTS: Final = Path(__file__).parents[1]
TABLES: Final = Path(__file__).with_name("catalogue.txt")
ROWS: Final = 242

_ROW: Final = re.compile(r"(?<![A-Za-z0-9])([NPDOUMTFRSL]\d\d)(?![A-Za-z0-9])")


def rows() -> list[str]:
    """N01 to L07."""
    found = []
    for line in TABLES.read_text().splitlines():
        if not line.startswith("#"):
            table, numbers, _ = line.split(maxsplit=2)
            first, last = map(int, numbers.split("-"))
            found += [f"{table}{number:02}" for number in range(first, last + 1)]
    return found


def names(source: str) -> Iterator[str]:
    """What tests are called: functions, and the strings that identify the cases of one; comments do not count."""
    tree = ast.parse(source)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            yield node.name
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value


@cache
def named_rows() -> dict[str, set[str]]:
    """Row → the files whose tests name it."""
    found: dict[str, set[str]] = {}
    for path in TESTS.rglob("*.py"):
        for name in names(path.read_text()):
            for row in _ROW.findall(name.replace("_", " ")):
                found.setdefault(row, set()).add(path.name)
    return found


def test_every_row_of_the_catalogue_has_a_test() -> None:
    listed = rows()
    assert len(listed) == len(set(listed)) == ROWS
    assert [row for row in listed if row not in named_rows()] == []


def test_tests_name_rows_that_are_there() -> None:
    unknown = {row: where for row, where in named_rows().items() if row not in rows()}
    assert unknown == {}
