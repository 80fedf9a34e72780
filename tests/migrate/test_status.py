"""`fastmove migrate status` and `export`: what they tell of a ledger."""

from __future__ import annotations

import asyncio
import csv
import json
from pathlib import Path

from click.testing import CliRunner, Result

from fastmove.cli.migrate import command
from fastmove.ledger.store import Ledger
from tests.migrate.ledgers import filled


def ledger_file(folder: Path) -> Path:
    path = folder / "a.ledger"

    async def main() -> None:
        async with Ledger.open(path, create=True) as ledger:
            await filled(ledger)

    asyncio.run(main())
    return path


def told(*arguments: str | Path) -> Result:
    result = CliRunner().invoke(command, [*map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result


def test_spreadsheet_is_given_no_formula_and_a_program_gets_what_was_said(tmp_path: Path) -> None:
    path = ledger_file(tmp_path)
    rows = csv.DictReader(told("export", path, "--class", "refused").output.splitlines())
    assert [row["reason"] for row in rows] == ["'=2+3"]
    lines = told("export", path, "--class", "refused", "--json").output.splitlines()
    assert [json.loads(line)["reason"] for line in lines] == ["=2+3"]
