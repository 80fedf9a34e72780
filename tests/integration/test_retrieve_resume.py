"""`fastmove retrieve`, killed at any moment and started again: what is whole stays, and nothing is fetched twice."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any, Final

import pytest

from fastmove.bench.spec import Spec
from fastmove.cli.exit_codes import for_retrieve
from fastmove.dimse.move import Verdict
from fastmove.notices import ListenerStarted, Notice, StudyRetrieved
from fastmove.services.retrieve import work
from fastmove.services.retrieve.config import RetrieveConfig
from fastmove.services.retrieve.session import Retrieve
from fastmove.services.selection.selection import Selection, Wanted
from fastmove.services.storage_scu import StorageSCU
from fastmove.storage.filemeta import DicomFile
from fastmove.storage.manifest import DEFAULT_NAME, manifest_in, read
from fastmove.storage.options import WriteOptions
from fastmove.storage.target import StorageTarget
from fastmove.types import PeerAddress
from tests.compat.harness import reserved_port
from tests.integration.embedded import HOST, embedded_pacs
from tests.integration.faults import FaultProxy
from tests.integration.objects import data_set
from tests.integration.programs import Program, fastmove
from tests.integration.retrieving import Retrieving, Whole

KILLS: Final = 5
"""In each scenario, of which there are eight."""

STUDIES: Final = Spec(studies=5, series=2, instances=20, size=20_000)
SLOWLY: Final = ("delay=0.004",)
"""So that the child is killed about where it was meant to be."""

SMALL: Final = Spec(studies=2, series=1, instances=5, size=2_000)

MOST_AT_ONCE: Final = 16


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each object was begun to be sent: only the PACS sends in this process."""
    counter: Counter[str] = Counter()
    store = StorageSCU.store

    async def counted(self: StorageSCU, file: DicomFile, *how: Any) -> int:
        counter[file.sop_instance_uid] += 1
        return await store(self, file, *how)

    monkeypatch.setattr(StorageSCU, "store", counted)
    return counter


# ---------------------------------------------------------------------- killed

Moment = Callable[[Program, FaultProxy], Awaitable[object]]


def after_seconds(seconds: float) -> Moment:
    """From its start: it may have to read its options yet, to listen, to associate, to ask for lists."""

    async def comes(program: Program, proxy: FaultProxy) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(program.process.wait(), seconds)

    return comes


def after_objects(number: int) -> Moment:
    """So many are stored, and others are on their way."""
    return lambda program, proxy: program.event("store.stored", number)


async def at_the_limit(program: Program, proxy: FaultProxy) -> None:
    """In the middle of an object, or of its association."""
    async with asyncio.timeout(10):
        await proxy.limit_reached.wait()


def moments(random: Random) -> Sequence[tuple[Moment, int]]:
    """When to kill it, with the limit of bytes."""
    return [
        random.choice(
            (
                (after_seconds(random.uniform(0, 0.3)), -1),
                (after_objects(random.randint(1, 20)), -1),
                (at_the_limit, random.randint(1, 60_000)),
            )
        )
        for _ in range(KILLS)
    ]


TEMPLATE: Final = "{PatientID}/{StudyDate}-{Modality}/{SeriesNumber}/{SOPInstanceUID}.dcm"

SCENARIOS: Final = {
    "flat": ("--parallel", "1"),
    "flat, fast": ("--no-durable",),
    "flat, no manifest": ("--no-durable", "--no-manifest", "--parallel", "1"),
    "patient": ("--layout", "patient", "--parallel", "3"),
    "series, fast": ("--layout", "series", "--no-durable", "--parallel", "1"),
    "study, no manifest": ("--layout", "study", "--no-manifest"),
    "template, fast": ("--layout", TEMPLATE, "--no-durable", "--manifest", "CSV"),
    "template, unfinished files have names": ("--layout", TEMPLATE, "--parallel", "4"),
}


@pytest.mark.parametrize("scenario", SCENARIOS)
async def test_killed_at_random_it_leaves_whole_files_and_fetches_only_what_was_in_flight(
    scenario: str, tmp_path: Path, begun: Counter[str]
) -> None:
    folder, manifest = tmp_path / "to", tmp_path / "to" / "manifest.csv"
    options = [str(manifest) if option == "CSV" else option for option in SCENARIOS[scenario]]
    at_once = int(options[options.index("--parallel") + 1]) if "--parallel" in options else MOST_AT_ONCE
    in_flight: Counter[str] = Counter()
    async with embedded_pacs(STUDIES, faults=SLOWLY) as pacs:
        with reserved_port() as port:
            run = Retrieving(pacs, folder, port, *options)
            run.named = "names" in scenario
            before: dict[str, Whole] = {}
            for moment, limit_bytes in moments(Random(scenario)):
                so_far = begun.copy()
                async with run.running(limit_bytes) as (program, proxy):
                    await moment(program, proxy)
                    assert program.process.returncode is None, "it has ended before"
                    program.signal(signal.SIGKILL)
                assert program.process.returncode == -signal.SIGKILL
                whole = run.whole()
                assert whole.items() >= before.items()
                assert whole.keys() >= pacs.sent.keys(), "what was acknowledged is there"
                sent_now = begun - so_far
                assert not sent_now.keys() & before.keys(), "what was there is not fetched again"
                assert max(sent_now.values(), default=1) == 1
                lost = sent_now.keys() - whole.keys()
                assert len(lost) <= at_once, "one object of each move was in flight"
                in_flight.update(lost)
                before = whole
            await run.ends()
            after = run.whole()
            assert after.items() >= before.items()
            assert after.keys() == pacs.files.keys()
            assert all(begun[uid] == 1 + in_flight[uid] for uid in pacs.files)
            assert max(pacs.sent.values()) == 1
    assert not list(folder.rglob(".fm-*"))
    if "--no-manifest" not in options:
        await manifest_is_true(folder, after)
    else:
        assert manifest_in(folder) is None


async def manifest_is_true(folder: Path, whole: dict[str, Whole]) -> None:
    """A line for each object, none torn, and nothing to object to."""
    manifest = manifest_in(folder)
    assert manifest is not None
    damaged: list[int] = []
    entries = list(read(manifest, damaged.append))
    assert (damaged, len(entries)) == ([], len(whole))
    for entry in entries:
        file = whole[entry.sop_instance_uid]
        assert (folder / entry.path, entry.sha256) == (file.path, file.sha256)
    verified = await fastmove("verify", folder)
    assert verified.code == 0, verified.err


# ---------------------------------------------------------------------- complete, and complete but for one


async def test_second_run_over_3000_objects_asks_for_none_and_touches_nothing(tmp_path: Path) -> None:
    async with embedded_pacs(Spec(studies=30, series=2, instances=50, size=2_000)) as pacs:
        with reserved_port() as port:
            run = Retrieving(pacs, tmp_path / "to", port, "--no-durable", "--layout", "patient")
            await run.ends()
            before, moves, listed = run.whole(), len(pacs.moves), (run.folder / DEFAULT_NAME).read_bytes()
            assert len(before) == 3000
            spent = seconds_of_children()
            program = await run.ends()
            spent = seconds_of_children() - spent
            assert (run.whole(), len(pacs.moves)) == (before, moves)
            assert (run.folder / DEFAULT_NAME).read_bytes() == listed
    finished = program.events[-1]
    assert (finished["verdict"], finished["objects"], finished["present"]) == ("COMPLETE", 0, 3000)
    assert spent < 1.0


def seconds_of_children() -> float:
    """What those that have ended took of the processor."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def cut(path: Path, other: Path) -> None:
    os.truncate(path, path.stat().st_size - 100)


def empty(path: Path, other: Path) -> None:
    os.truncate(path, 0)


def link(path: Path, other: Path) -> None:
    path.unlink()
    path.symlink_to(other)


def another(path: Path, other: Path) -> None:
    path.write_bytes(other.read_bytes() + bytes(2))


DAMAGES: Final[dict[str, tuple[Callable[[Path, Path], object], bool, str]]] = {
    # what is done to a file, given another; whether there is a manifest; layout
    "deleted": (lambda path, other: path.unlink(), True, "patient"),
    "deleted, nobody knows": (lambda path, other: path.unlink(), False, "flat"),
    "cut": (cut, True, "flat"),
    "cut, in a folder": (cut, True, "patient"),
    "empty": (empty, True, "patient"),
    "empty, nobody knows": (empty, False, "flat"),
    "link to another": (link, True, "flat"),
    "link to another, nobody knows": (link, False, "patient"),
    "another": (another, True, "patient"),
    "another, nobody knows": (another, False, "patient"),
}


@pytest.mark.parametrize("damage", DAMAGES)
async def test_one_file_that_is_not_what_it_was_is_fetched_and_what_is_there_is_not_lost(
    damage: str, tmp_path: Path
) -> None:
    do, listed, layout = DAMAGES[damage]
    options = ("--no-durable", "--layout", layout, *(() if listed else ("--no-manifest",)))
    async with embedded_pacs(SMALL) as pacs:
        with reserved_port() as port:
            run = Retrieving(pacs, tmp_path / "to", port, *options)
            await run.ends()
            before, sent = run.whole(), pacs.sent.copy()
            uid, other = sorted(before)[:2]
            path = before.pop(uid).path
            do(path, before[other].path)
            left = path.read_bytes() if path.exists() else None
            link_to = path.readlink() if path.is_symlink() else None

            async with run.running() as (program, _):
                code = await program.ended()
            if link_to is not None:  # somebody put it there: it is neither followed nor replaced (U10)
                assert (code, path.readlink()) == (73, link_to)
                assert path.read_bytes() == left
                return
            assert pacs.sent - sent == {uid: 1}, "nothing but that one"
            if left is None:
                now = run.whole()
                assert (code, now.pop(uid).path, now) == (0, path, before)
                return
            assert (code, program.events[-1]["reasons"]) == (68, ["store.duplicate_differs"])
            assert path.read_bytes() == left and (path.readlink() if path.is_symlink() else None) == link_to
            beside = path.with_suffix(".dup1.dcm")
            assert data_set(beside) == pacs.dataset(uid)
            path.unlink()
            beside.rename(path)
            now = run.whole()
            assert (now.pop(uid).path, now) == (path, before)


@pytest.mark.parametrize(
    ("on_duplicate", "code"), [("replace", 68), ("skip", 68), ("fail", 75)], ids=["replace", "skip", "fail"]
)
async def test_what_becomes_of_a_cut_file_can_be_said(on_duplicate: str, code: int, tmp_path: Path) -> None:
    async with embedded_pacs(SMALL) as pacs:
        with reserved_port() as port:
            run = Retrieving(pacs, tmp_path / "to", port, "--no-durable", "--on-duplicate", on_duplicate)
            await run.ends()
            before = run.whole()
            path = min(before.values()).path
            cut(path, path)
            left = path.read_bytes()
            async with run.running() as (program, _):
                assert await program.ended() == code
            assert len(list(run.folder.glob("*.dcm"))) == len(before)
            if on_duplicate == "replace":
                assert run.whole().keys() == before.keys()
            else:
                assert path.read_bytes() == left


# ---------------------------------------------------------------------- stopped while more was looked for


async def test_search_that_was_stopped_is_no_complete_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with embedded_pacs(SMALL) as pacs:
        wanted = [Wanted(study) for study in pacs.studies]

        async def found_and_searching(*_: object, **__: object) -> AsyncIterator[Wanted]:
            yield wanted[0]
            await asyncio.Event().wait()

        def notify(notice: Notice) -> None:
            if isinstance(notice, ListenerStarted):
                pacs.destinations["FASTMOVE"] = PeerAddress("FASTMOVE", HOST, notice.port)
            elif isinstance(notice, StudyRetrieved):
                asyncio.get_running_loop().call_soon(session.cancel)

        monkeypatch.setattr(work, "resolve", found_and_searching)
        config = RetrieveConfig(pacs.address, selection=Selection(tuple(wanted)))
        with StorageTarget(tmp_path / "to", WriteOptions(durable=False)) as target:
            session = Retrieve(config, target, host=HOST, notify=notify)
            result = await session.run()
    assert result.verdicts == {Verdict.COMPLETE: 1}
    assert not result.all_complete
    assert for_retrieve(result, interrupted=True) == for_retrieve(result) == 72
