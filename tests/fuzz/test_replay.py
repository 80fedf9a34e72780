"""The targets without a fuzzer: every seed, and everything that was ever found."""

from __future__ import annotations

import re
from typing import Final

import pytest

from tests.fuzz.recording import RECORD
from tests.fuzz.seeds import FINDINGS, TARGETS, found, seeds

ROWS: Final = (
    *(f"N{n:02}" for n in range(1, 36)),
    *(f"P{n:02}" for n in range(1, 25)),
    *(f"D{n:02}" for n in range(1, 24)),
)
"""Rows of the catalogue that are bytes to the listener."""

WITHOUT_BYTES: Final = frozenset({"N02", "D15"})
"""They have none, or those of another row."""


@pytest.mark.parametrize("target", TARGETS)
def test_seed_is_no_finding(target: str) -> None:
    for name, data in seeds()[target].items():
        try:
            TARGETS[target].thorough(data)
        except Exception as error:
            error.add_note(f"{target}: {name}: {data.hex()}")
            raise


@pytest.mark.parametrize("target", TARGETS)
def test_what_was_found_once_does_not_come_back(target: str) -> None:
    for name, data in found(target).items():
        try:
            TARGETS[target].thorough(data)
        except Exception as error:
            error.add_note(f"{target}: {name}: {data.hex()}")
            raise


def test_findings_are_of_targets() -> None:
    assert {folder.name for folder in FINDINGS.iterdir() if folder.is_dir()} <= TARGETS.keys()


def test_rows_of_the_catalogue_are_seeds() -> None:
    rows = {match[1] for match in re.finditer(r"^test_([NPD]\d\d)_", RECORD.read_text(), re.MULTILINE)}
    assert rows >= set(ROWS) - WITHOUT_BYTES
