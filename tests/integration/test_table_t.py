"""Table T of the catalogue of faults, row by row: what time and network do to a C-MOVE, by the oracle of table M."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.table_m.page import PAGE, page
from tests.integration.table_m.row import Row
from tests.integration.table_m.trial import trial
from tests.integration.table_t import ROWS


@pytest.mark.peer("dcmtk")
@pytest.mark.parametrize("row", ROWS, ids=str)
async def test_row(row: Row, tmp_path: Path) -> None:
    await trial(row, tmp_path)


def test_table_of_the_documentation_is_these_rows() -> None:
    assert PAGE.read_text() == page(), "python -m tests.integration.table_m.page writes it"
