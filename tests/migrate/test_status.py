"""`fastmove migrate status` and `export`: what they tell of a ledger."""

from __future__ import annotations

import asyncio
import csv
import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fastmove.cli.migrate import command
from fastmove.ledger.store import Ledger
from tests.migrate.ledgers import NOW, OWNER, SETTINGS, filled, study


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


def test_status_has_peers_windows_and_hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastmove.cli.migrate.status.time.time", lambda: NOW)
    path = ledger_file(tmp_path)
    told_text = told("status", path).output
    for expected in (
        "source PACS@10.1.2.3:104: running, and spared: no more than 3 moves at once, since Fri 15 Jan 07:51",
        "destination NEW@10.1.2.4:104: running",
        "windows, by the clock of UTC:",
        "Mon 444444444444444444444444444444444444444444444444",
    ):
        assert expected in told_text.splitlines(), (expected, told_text)
    assert re.search(rf"{re.escape(OWNER)} +MIG1 +2 +10 s ago", told_text)
    document = json.loads(told("status", path, "--json").output)
    assert document["hosts"] == [{"owner": OWNER, "ae_title": "MIG1", "moves": 2, "seen_at": NOW - 10, "here": True}]
    assert document["settings"] == SETTINGS
    source, destination = document["peers"]
    assert (source["state"], source["since"]) == ("sparing", NOW - 500)
    assert (destination["role"], destination["state"]) == ("destination", "running")
    monkeypatch.setattr("fastmove.cli.migrate.status.time.time", lambda: NOW + 3600)
    assert re.search(r"MIG1 +not since Fri 15 Jan 07:59", told("status", path).output)


def test_status_says_what_classes_mean_also_those_that_no_attempt_has(tmp_path: Path) -> None:
    path = ledger_file(tmp_path)
    told("park", path, "--study", study(7))
    assert "1 x operator: an operator parked it" in told("status", path).output


def test_spreadsheet_is_given_no_formula_and_a_program_gets_what_was_said(tmp_path: Path) -> None:
    path = ledger_file(tmp_path)
    rows = csv.DictReader(told("export", path, "--class", "refused").output.splitlines())
    assert [row["reason"] for row in rows] == ["'=2+3"]
    everything = csv.DictReader(told("export", path, "--state", "complete").output.splitlines())
    assert [row["proof"] for row in everything] == ["committed", "taken", ""]
    lines = told("export", path, "--class", "refused", "--json").output.splitlines()
    assert [json.loads(line)["reason"] for line in lines] == ["=2+3"]
