"""`fastmove migrate retry`, `park`, `prioritise` and the wishes: what they change, say, and leave as events."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest
from click.testing import CliRunner, Result

from fastmove.cli.migrate import command
from fastmove.ledger.model import Event, Job, JobState
from fastmove.ledger.store import Ledger
from tests.migrate.ledgers import filled, study

T = TypeVar("T")

BEING_MOVED = study(8)
PARKED = study(5)
TO_BE_MOVED = study(9)
WAITING = study(7)
"""In a ledger that is filled; it waits for class `network`."""


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    path = tmp_path / "a.ledger"

    async def main() -> None:
        async with Ledger.open(path, create=True) as opened:
            await filled(opened)

    asyncio.run(main())
    return path


def called(verb: str, ledger: Path, *arguments: str) -> Result:
    return CliRunner().invoke(command, [verb, str(ledger), *arguments])


def said(verb: str, ledger: Path, *arguments: str) -> str:
    result = called(verb, ledger, *arguments)
    assert result.exit_code == 0, result.output
    return result.output.strip()


def read(path: Path, ask: Callable[[Ledger, int], Awaitable[T]]) -> T:
    async def main() -> T:
        async with Ledger.open(path, read_only=True) as ledger:
            (batch,) = await ledger.batches()
            return await ask(ledger, batch.id)

    return asyncio.run(main())


def job(path: Path, uid: str) -> Job:
    found = read(path, lambda ledger, batch_id: ledger.job(batch_id, uid))
    assert found is not None
    return found


def last_event(path: Path) -> Event:
    return read(path, lambda ledger, batch_id: ledger.events(batch_id, limit=1))[0]


def test_study_is_parked_with_a_reason_and_that_is_an_event_of_it(ledger: Path) -> None:
    assert said("park", ledger, "--study", TO_BE_MOVED, "--reason", "not ours") == f"{TO_BE_MOVED} is parked"
    parked = job(ledger, TO_BE_MOVED)
    assert (parked.state, parked.reason_class, parked.reason) == (JobState.PARKED, "operator", "not ours")
    event = last_event(ledger)
    assert (event.kind, event.text, event.study_instance_uid) == ("operator.park", "parked: not ours", TO_BE_MOVED)


def test_all_that_wait_for_a_class_are_parked_and_nothing_else_is(ledger: Path) -> None:
    text = said("park", ledger, "--class", "network", "--reason", "the line is gone")
    assert text == "1 study of class network is parked"
    parked = job(ledger, WAITING)
    assert (parked.state, parked.reason) == (JobState.PARKED, "the line is gone")
    assert job(ledger, TO_BE_MOVED).state is JobState.READY
    event = last_event(ledger)
    assert (event.kind, event.text, event.study_instance_uid) == ("operator.park", f"{text}: the line is gone", "")
    assert said("park", ledger, "--class", "network") == "0 studies of class network are parked"
    assert last_event(ledger) == event, "nothing was done"


@pytest.mark.parametrize("options", [(), ("--study", WAITING, "--class", "network")])
def test_park_is_told_which_by_one_option(ledger: Path, options: tuple[str, ...]) -> None:
    result = called("park", ledger, *options)
    assert result.exit_code == 1
    assert "--class CLASS or --study UID" in result.output


@pytest.mark.parametrize(
    ("verb", "options"),
    [
        ("park", ("--study", "1.2.99")),
        ("park", ("--study", BEING_MOVED)),
        ("park", ("--study", PARKED)),
        ("retry", ("--study", "1.2.99")),
        ("retry", ("--study", TO_BE_MOVED)),
        ("prioritise", ("--study", "1.2.99", "--priority", "1")),
        ("prioritise", ("--patient", "NOBODY", "--priority", "1")),
    ],
)
def test_what_cannot_be_done_is_refused_and_leaves_no_event(ledger: Path, verb: str, options: tuple[str, ...]) -> None:
    before = last_event(ledger)
    result = called(verb, ledger, *options)
    assert result.exit_code == 1
    assert options[0] in result.output
    assert last_event(ledger) == before


def test_study_is_tried_again_and_that_is_an_event_of_it(ledger: Path) -> None:
    assert said("retry", ledger, "--study", PARKED) == f"{PARKED} is tried again"
    assert job(ledger, PARKED).state is JobState.READY
    event = last_event(ledger)
    assert (event.kind, event.text, event.study_instance_uid) == ("operator.retry", "it is tried again", PARKED)


def test_classes_are_tried_again_by_number_and_one_is_one(ledger: Path) -> None:
    assert said("retry", ledger, "--class", "network") == "1 study of class network is tried again"
    assert last_event(ledger).text == "1 study of class network is tried again"
    assert said("retry", ledger, "--all") == "3 studies are tried again"
    assert (last_event(ledger).kind, last_event(ledger).text) == ("operator.retry", "3 studies are tried again")
    assert said("retry", ledger, "--all") == "0 studies are tried again"


def test_priority_is_an_event_that_names_no_patient(ledger: Path) -> None:
    assert said("prioritise", ledger, "--study", TO_BE_MOVED, "--priority", "-7") == f"{TO_BE_MOVED} has priority -7"
    event = last_event(ledger)
    assert (event.kind, event.text) == ("operator.prioritise", "its priority is -7")
    assert event.study_instance_uid == TO_BE_MOVED
    assert said("prioritise", ledger, "--patient", "PATIENT-9", "--priority", "8") == "1 study has priority 8"
    assert job(ledger, TO_BE_MOVED).job.priority == 8
    event = last_event(ledger)
    assert (event.kind, event.text, event.study_instance_uid) == ("operator.prioritise", "1 study has priority 8", "")


@pytest.mark.parametrize("verb", ["pause", "resume", "drain", "stop"])
def test_wish_is_an_event(ledger: Path, verb: str) -> None:
    text = said(verb, ledger)
    assert text == f"migration: {last_event(ledger).text}"
    assert last_event(ledger).kind == f"operator.{verb}"
