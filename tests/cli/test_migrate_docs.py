"""What pages on migrations say of windows, of reasons and of proofs, against what the program goes by."""

from __future__ import annotations

import re
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

import pytest

from fastmove.ledger.store import LOST, MOST_LOST, OPERATOR
from fastmove.migrate.destination import Proved
from fastmove.migrate.retry import CLASSES, RetryClass
from fastmove.migrate.situation import NOTES
from fastmove.migrate.windows import Windows, parse_window

DOCS: Final = Path(__file__).parents[2] / "docs"
WINDOWS: Final = (DOCS / "how-to" / "migrate-windows.md").read_text()
FAILURES: Final = (DOCS / "how-to" / "migrate-failures.md").read_text()
PROOF: Final = (DOCS / "explanation" / "what-the-proof-proves.md").read_text()

CLOCK: Final = ZoneInfo("Europe/Berlin")
NIGHTS: Final = {"usually": (2027, 3, 20), "clock put forward": (2027, 3, 27), "clock put back": (2027, 10, 30)}
"""The noon before each night."""

CLOCKS: Final = re.search(r"^<!-- clocks -->\n(.*?)\n\n", WINDOWS, re.M | re.S)
ROWS: Final = re.findall(r"^\| `(.+?)` \| (.+?) h \| (.+?) h \| (.+?) h \|$", CLOCKS[1] if CLOCKS else "", re.M)


def marked(text: str, mark: str) -> str:
    """The code block behind a mark."""
    found = re.search(rf"^<!-- {mark} -->\n```text\n(.*?)^```", text, re.M | re.S)
    assert found is not None
    return found[1]


def test_picture_of_the_week_is_that_of_the_windows_of_the_page() -> None:
    configuration = re.search(r"^```toml\n(.*?)^```", WINDOWS, re.M | re.S)
    assert configuration is not None
    given = [*tomllib.loads(configuration[1])["migrate"]["window"], "daily 12:00-13:00 closed"]
    command = re.findall(r'--window "(.+?)"', WINDOWS)
    assert given[:-1] == command
    picture = Windows([parse_window(each) for each in given], UTC).picture()
    assert marked(WINDOWS, "picture").splitlines() == list(picture)


def test_window_that_mends_the_mistake_opens_the_night_to_monday_and_changes_nothing_else() -> None:
    given = re.findall(r'--window "(.+?)"', WINDOWS)
    mended = re.search(r"`(sun-fri .+?)` would open it", WINDOWS)
    assert mended is not None
    ceiling = given[0].split(" ", 2)[2]
    before = Windows([parse_window(each) for each in given], UTC).picture()
    after = Windows([parse_window(each) for each in (f"{mended[1]} {ceiling}", given[1])], UTC).picture()
    assert [line[:3] for line, was in zip(after, before, strict=True) if line != was] == ["Mon"]
    assert after[1].startswith("Mon 8888")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_hours_of_the_nights_in_which_clocks_are_changed_are_those_of_the_page(row: tuple[str, ...]) -> None:
    windows = Windows([parse_window(row[0])], CLOCK)
    for noon, hours in zip(NIGHTS.values(), row[1:], strict=True):
        year, month, day = noon
        begin, end = (datetime(year, month, each, 12, tzinfo=CLOCK).astimezone(UTC) for each in (day, day + 1))
        opened = timedelta()
        for span in windows.spans(begin):
            until = end if span.end is None else min(span.end, end)
            opened += timedelta() if span.ceiling.closed else until - span.begin
            if until == end:
                break
        assert opened == timedelta(hours=float(hours))


def test_page_has_the_nights() -> None:
    assert len(ROWS) == 3


def test_page_of_failures_has_every_class_and_says_when_its_studies_are_parked() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \| [^|]+ \| ([^|]+) \|", FAILURES, re.M)
    known = {row.key: "never" if row.attempts is None else str(row.attempts) for row in CLASSES}
    assert dict(rows) == known | {OPERATOR: "-", LOST: str(MOST_LOST)}
    assert len(rows) == len(known) + 2


@pytest.mark.parametrize("row", [row for row in CLASSES if row.attempts], ids=lambda row: row.key)
def test_page_of_failures_says_how_long_a_study_of_a_class_may_be_tried(row: RetryClass) -> None:
    found = re.search(rf"^\| `{row.key}` \| [^|]+ \| \d+ \| (at once|[\d.]+ (?:min|h)) \|", FAILURES, re.M)
    assert found is not None
    number, _, unit = found[1].partition(" ")
    said = 0.0 if found[1] == "at once" else float(number) * {"min": 60, "h": 3600}[unit]
    assert row.attempts is not None
    longest = sum(min(row.first_s * row.factor**before, row.longest_s) for before in range(row.attempts - 1))
    assert said == pytest.approx(longest, rel=0.05)


def test_page_of_failures_has_every_event_of_a_run_that_waits() -> None:
    rows = re.findall(r"^\| `(migrate\.[a-z_]+)` \|", FAILURES, re.M)
    assert {*rows} == {*NOTES} - {"migrate.began", "migrate.suffering", "migrate.recovered"}


def test_page_of_proofs_has_each_by_the_name_that_the_ledger_has() -> None:
    rows = re.findall(r"^\| [^|]+ \| `([a-z-]+)` \| (?:[^|]+ \| ){2}[^|]+ \|$", PROOF, re.M)
    assert sorted(rows) == sorted(Proved)
