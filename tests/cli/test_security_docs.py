"""What the pages about security promise: places that are there, tests that hold, a configuration that is one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from fastmove.cli.configuration import read
from fastmove.uids import STORAGE_SOP_CLASSES

ROOT: Final = Path(__file__).parents[2]
THREATS: Final = (ROOT / "docs/explanation/threat-model.md").read_text()
ROWS: Final = [
    tuple(cell.strip() for cell in line.strip("|").split("|"))
    for line in THREATS.splitlines()
    if line.startswith("| ") and line.count("|") == 5 and not line.startswith(("| threat", "| ---"))
]
CATALOGUE: Final = re.compile(r"\b[NPDOUMTFRSL]\d\d\b")


def paths(cell: str) -> list[str]:
    return re.findall(r"`([\w/]+\.\w+)`", cell)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:40])
def test_threat_has_a_defence_in_the_code_and_a_test_that_holds_it(row: tuple[str, ...]) -> None:
    threat, defence, where, held = row
    if not where:
        assert "none of ours" in defence
        return
    assert where == "the whole tree" or paths(where), threat
    assert [path for path in paths(where) if not (ROOT / "src/fastmove" / path).exists()] == []
    assert paths(held), threat
    assert [path for path in paths(held) if not (ROOT / "tests" / path).exists()] == []


def test_all_tables_are_read() -> None:
    assert len(ROWS) > 40


def test_configuration_of_the_service_is_right() -> None:
    page = (ROOT / "docs/how-to/run-as-a-service.md").read_text()
    (text,) = re.findall(r"```toml\n(.*?)```", page, re.S)
    _, faults = read(text, Path("fastmove.toml"))
    assert faults == []


def test_files_that_the_page_of_the_service_names_are_shipped() -> None:
    page = (ROOT / "docs/how-to/run-as-a-service.md").read_text()
    named = set(re.findall(r"packaging/systemd/([\w.-]+\w)", page))
    assert named == {path.name for path in (ROOT / "packaging/systemd").iterdir()}


def test_score_in_the_pages_is_that_of_the_unit() -> None:
    for page in ("docs/how-to/run-as-a-service.md", "docs/explanation/threat-model.md"):
        assert "1.4" in (ROOT / page).read_text()


def test_conformance_statement_names_what_is_audited() -> None:
    text = (ROOT / "docs/reference/conformance.md").read_text()
    for code in ("110102", "110104", "110113"):
        assert code in text
    assert all(uid in text for uid in STORAGE_SOP_CLASSES)
