"""Table M of the catalogue of faults as rows: what a PACS does, what `fastmove retrieve` and movescu make of it."""

from __future__ import annotations

from typing import Final

from tests.integration.table_m import lists, objects, responses
from tests.integration.table_m.row import Row

ROWS: Final[tuple[Row, ...]] = tuple(
    sorted((*responses.ROWS, *objects.ROWS, *lists.ROWS), key=lambda row: row.number)  # those of a number as they stand
)
