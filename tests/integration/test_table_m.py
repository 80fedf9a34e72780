"""Table M of the catalogue of faults, row by row: no success that is none, and what movescu makes of the same PACS.

The oracle is what the PACS holds, and what it has sent and got a success for.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pytest

from tests.integration.honesty import Retrieved, movescu, retrieve, retrieve_here
from tests.integration.table_m import ROWS
from tests.integration.table_m.page import PAGE, page
from tests.integration.table_m.row import Contrast, Row, Run

OPTIONS: Final = ("--drain", "0.3", "--timeout", "5")
BY_OPTION: Final[dict[str, dict[str, Any]]] = {"--rounds 0": {"rounds": 0}, "--no-prove": {"prove": False}}

pytestmark = pytest.mark.peer("dcmtk")


async def run(row: Row, expected: Run, directory: Path) -> Retrieved:
    """`fastmove retrieve` of a PACS of its own."""
    async with row.pacs() as pacs:
        if expected.limits is None:
            options = (*OPTIONS, *expected.options.split())
            came = await retrieve(pacs, directory, *options, studies=row.studies, interrupted=expected.interrupted)
            came.manifest_is_true()
        else:
            config = [by for option, by in BY_OPTION.items() if option in expected.options]
            fields = {"limits": expected.limits, **{name: each[name] for each in config for name in each}}
            came = await retrieve_here(pacs, directory, studies=row.studies, **fields)
        studies = row.studies or tuple(pacs.studies)
        came.is_true(pacs, studies)
        held = pacs.instances(*studies)
    assert len(held) == row.held
    found = came.code, came.finished["verdict"], len(held & came.files.keys())
    assert found == (expected.code, expected.verdict, expected.came), (expected, came.verdicts)
    return came


async def contrast(row: Row, expected: Contrast, directory: Path) -> None:
    """DCMTK's movescu at such a PACS; it asks for the first study."""
    code, stored, held = None, set[str](), frozenset[str]()
    with suppress(OSError, EOFError, AssertionError):  # what it does is not always what a script waits for
        async with row.pacs() as pacs:
            study = (*row.studies, *pacs.studies)[0]
            options = expected.options.split()
            code, stored = await movescu(pacs, directory, study, *options, deadline_s=expected.deadline_s)
            held = pacs.instances(study)
    assert (code, len(stored & held)) == (expected.code, expected.came)


@pytest.mark.parametrize("row", ROWS, ids=str)
async def test_row(row: Row, tmp_path: Path) -> None:
    runs = [run(row, each, tmp_path / f"retrieve{number}") for number, each in enumerate(row.runs)]
    if row.movescu is not None:
        runs.append(contrast(row, row.movescu, tmp_path / "movescu"))
    ended = await asyncio.gather(*runs, return_exceptions=True)
    for error in (each for each in ended if isinstance(each, BaseException)):
        raise error


def test_table_of_the_documentation_is_this_one() -> None:
    assert PAGE.read_text() == page(), "python -m tests.integration.table_m.page writes it"


def test_every_row_of_the_table_is_here() -> None:
    assert {row.number for row in ROWS} == {f"M{number:02d}" for number in range(1, 34)}
