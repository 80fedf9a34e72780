"""A row put to the test: what `fastmove retrieve` and movescu make of its PACS is what the row says, and true."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from tests.integration.honesty import Retrieved, movescu, retrieve, retrieve_here
from tests.integration.table_m.row import Contrast, Row, Run

OPTIONS: Final = ("--drain", "0.3", "--timeout", "5")
BY_OPTION: Final[dict[str, dict[str, Any]]] = {
    "--rounds 0": {"rounds": 0},
    "--rounds 1": {"rounds": 1},
    "--no-prove": {"prove": False},
    "--parallel 8": {"parallel": 8},
}


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
        came.is_true(pacs, studies, answers_lost=row.answers_lost)
        held = pacs.instances(*studies)
    assert len(held) == row.held
    found = came.code, came.finished["verdict"], len(held & came.files.keys())
    assert found == (expected.code, expected.verdict, expected.came), (found, expected.options, came.verdicts)
    assert len(came.quarantined) == expected.aside
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
    found = code, len(stored & held)
    assert found == (expected.code, expected.came), found


async def trial(row: Row, directory: Path) -> None:
    """All that the row says, at the same time."""
    runs = [run(row, each, directory / f"retrieve{number}") for number, each in enumerate(row.runs)]
    if row.movescu is not None:
        runs.append(contrast(row, row.movescu, directory / "movescu"))
    ended = await asyncio.gather(*runs, return_exceptions=True)
    errors = [each for each in ended if isinstance(each, BaseException)]
    if errors:
        raise errors[0] if len(errors) == 1 else BaseExceptionGroup(str(row), errors)
