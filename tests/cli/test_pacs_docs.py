"""What is said of the faults of the test PACS, against those that there are."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest
from click.testing import CliRunner

from fastmove.bench.profiles import PROFILES
from fastmove.cli.pacs import command
from fastmove.pacs.faults import FAULTS, Faults

PAGE: Final = Path(__file__).parents[2] / "docs/how-to/test-pacs.md"
ARCHIVES, _, MISBEHAVIOUR = PAGE.read_text().partition("## Let it misbehave")
ROWS: Final = re.findall(r"^\| (`.*?) \| ", MISBEHAVIOUR, re.M)
PROFILE_ROWS: Final = re.findall(r"^\| `(.*?)` \| ", ARCHIVES, re.M)
SPELLINGS: Final = [spelling for row in ROWS for spelling in re.findall(r"`([^`]+)`", row)]
EXAMPLES: Final = {"K": "3", "UID": "1.2.3", "P%": "10%", "N": "2", "SECONDS": "0.5", "STATUS": "A701", "SIZE": "10M"}


def test_page_has_every_profile() -> None:
    assert list(PROFILES) == PROFILE_ROWS


def test_page_and_help_have_every_fault() -> None:
    shown = CliRunner().invoke(command, ["--help"]).output
    assert {re.split("[=:]", spelling)[0] for spelling in SPELLINGS} == FAULTS.keys()
    assert all(f"  {name}{fault.spelling}" in shown for name, fault in FAULTS.items())


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_fault_is_understood_as_the_page_spells_it(spelling: str) -> None:
    name, _, value = spelling.partition("=")
    texts = [name]
    if value:
        values = value.split(r"\|")
        texts = [f"{name}=" + ":".join(EXAMPLES.get(part, part) for part in one.split(":")) for one in values]
    for text in texts:
        assert Faults.parse([text]) != Faults()
