"""The words of doctor, and the table of its probes."""

from __future__ import annotations

import pytest

from fastmove.services.doctor.examination import PROBES
from fastmove.services.doctor.findings import Outcome, at_pacs, counted, note, printable, seconds


@pytest.mark.parametrize(
    ("number", "noun", "words"),
    [
        (0, "object", "0 objects"),
        (1, "object", "1 object"),
        (1200, "study", "1,200 studies"),
        (1, "series", "1 series"),
        (2, "series", "2 series"),
    ],
)
def test_numbers_have_their_plural(number: int, noun: str, words: str) -> None:
    assert counted(number, noun) == words


@pytest.mark.parametrize(
    ("duration", "words"),
    [(0.00042, "0.4 ms"), (0.0995, "100 ms"), (0.1234, "123 ms"), (0.9996, "1.0 s"), (61.27, "61.3 s")],
)
def test_durations_have_the_unit_that_suits_them(duration: float, words: str) -> None:
    assert seconds(duration) == words


@pytest.mark.parametrize("text", ["\x1b[2J", "a\nb", "\r", "\x00", "\u202e", "\x9b31m"])
def test_nothing_that_a_peer_wrote_drives_a_terminal(text: str) -> None:
    finding = note(f"it says {text}", at_pacs(text))
    assert finding.seen.isprintable() and finding.advice[0].text.isprintable()
    assert printable("grüße: 3 µs") == "grüße: 3 µs"


def test_every_probe_needs_only_what_comes_before_it() -> None:
    names = [probe.name for probe in PROBES]
    assert len(set(names)) == len(names)
    for place, probe in enumerate(PROBES):
        assert set(probe.needs) <= set(names[:place]), probe.name


def test_titles_are_different_and_what_is_asked_can_be_said() -> None:
    assert len({probe.title for probe in PROBES}) == len(PROBES)
    for probe in PROBES:
        assert "{" not in probe.asks.format(associations=8, study="1.2.3")


def test_outcomes_are_what_json_calls_them() -> None:
    assert [outcome.value for outcome in Outcome] == ["ok", "note", "problem", "skipped"]
