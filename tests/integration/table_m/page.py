"""The rows of tables M and T as the table of docs/explanation/honest-verdicts.md.

`python -m tests.integration.table_m.page` writes it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from tests.integration import table_m, table_t
from tests.integration.table_m.row import NEVER, Contrast, Row, Run

ROWS: Final = (*table_m.ROWS, *table_t.ROWS)

PAGE: Final = Path(__file__).parents[3] / "docs/explanation/honest-verdicts.md"
HEAD: Final = "| row | the PACS | movescu | fastmove retrieve |"
CANCEL: Final = "--cancel"


def is_false(row: Row) -> bool:
    """movescu says success, and not everything has come, though nobody cancelled it."""
    movescu = row.movescu
    return movescu is not None and movescu.code == 0 and movescu.came < row.held and CANCEL not in movescu.options


def table(rows: Iterable[Row]) -> str:
    """The rows as a table, head and all."""
    lines = [HEAD, "| --- | --- | --- | --- |"]
    for row in rows:
        runs = "; ".join(_run(run, row.held) for run in row.runs)
        lines.append(f"| {row.number} | {row.fault} | {_movescu(row)} | {runs} |")
    return "\n".join(lines)


def _movescu(row: Row) -> str:
    movescu = row.movescu
    if movescu is None:
        return "-"
    options = f" with `{movescu.options}`" if CANCEL in movescu.options else ""
    return f"{_end(movescu, is_false(row))}{options}, {movescu.came} of {row.held}"


def _end(movescu: Contrast, false: bool) -> str:
    if movescu.code is NEVER:
        return "does not end"
    return f"**{movescu.code}**" if false else f"{movescu.code}"


def _run(run: Run, held: int) -> str:
    how = [f"with `{run.options}`"] if run.options else []
    how += ["stopped by Ctrl-C"] if run.interrupted else []
    aside = f", {run.aside} set aside" if run.aside else ""
    return " ".join((f"{run.code} {run.verdict}", *how)) + f", {run.came} of {held}{aside}"


def page() -> str:
    """The page with the table as it is now."""
    before, _, rest = PAGE.read_text().partition(HEAD)
    _, _, after = rest.partition("\n\n")
    return f"{before}{table(ROWS)}\n\n{after}"


if __name__ == "__main__":
    PAGE.write_text(page())
    sys.stdout.write(f"{sum(map(is_false, ROWS))} false successes of movescu in {len(ROWS)} cases\n")
