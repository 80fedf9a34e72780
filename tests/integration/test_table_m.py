"""Table M of the catalogue of faults, row by row: no success that is none, and what movescu makes of the same PACS.

The oracle is what the PACS holds, and what it has sent and got a success for.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.table_m import ROWS
from tests.integration.table_m.row import Row
from tests.integration.table_m.trial import trial


@pytest.mark.peer("dcmtk")
@pytest.mark.parametrize("row", ROWS, ids=str)
async def test_row(row: Row, tmp_path: Path) -> None:
    await trial(row, tmp_path)


def test_every_row_of_the_table_is_here() -> None:
    assert {row.number for row in ROWS} == {f"M{number:02d}" for number in range(1, 34)}
