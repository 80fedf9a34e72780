"""Migrations to files: everything once, with proof, whatever the PACS does meanwhile, and whoever stops it."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

import pytest

from fastmove.bench.spec import Spec
from fastmove.ledger.model import Instance, JobState, Wish
from fastmove.migrate.canary import LEARNT
from fastmove.migrate.destination import Delivery
from fastmove.migrate.engine import Ended
from fastmove.migrate.files import Files
from fastmove.notices import StudyMigrated
from fastmove.storage.entries import Entry
from fastmove.storage.manifest import read
from fastmove.storage.options import WriteOptions
from fastmove.storage.verify import Finding, Verification
from tests.migrate.migrating import Clock, Migrating, migrating, until_finished

SPEC: Final = Spec(studies=12, series=2, instances=4, size=5_000)


async def whole(made: Migrating) -> None:
    """Everything that the PACS has is in the folder once, and in the ledger with the digest of its file."""
    assert await made.states() == {"complete": len(made.pacs.studies)}
    files, instances = made.files(), await made.instances()
    assert files.keys() == instances.keys() == made.pacs.instances()
    for uid, path in files.items():
        content = path.read_bytes()
        assert content.endswith(made.pacs.dataset(uid))
        recorded = instances[uid]
        assert (recorded.digest, recorded.nbytes) == (hashlib.sha256(content).digest(), len(content))
        assert made.folder / recorded.place == path
    assert not [path for path in made.folder.rglob(".*") if path.is_file()]


async def test_everything_is_moved_recorded_and_has_its_manifest(tmp_path: Path) -> None:
    async with migrating(SPEC, tmp_path) as made:
        assert await made.run() is Ended.FINISHED
        await whole(made)
        assert set(made.pacs.sent.values()) == {1}
        for study in made.pacs.studies:
            listed = {entry.sop_instance_uid for entry in read(made.folder / study / "manifest.jsonl")}
            assert listed == made.pacs.instances(study)
        assert sum(each.instances for each in await made.ledger.progress(made.batch.id, 0)) == 96


async def test_manifest_of_a_study_can_be_verified(tmp_path: Path) -> None:
    async with migrating(SPEC, tmp_path) as made:
        await made.run()
        study = next(iter(made.pacs.studies))
    found: list[Finding] = []
    verification = Verification(made.folder / study, made.folder / study / "manifest.jsonl", found.append)
    verification.run(1)
    assert verification.total == 8
    assert not found


async def test_study_is_not_complete_where_what_is_recorded_of_it_is_not(tmp_path: Path) -> None:
    """As of a host that is gone, or after another disk was mounted: what is not there comes once more."""
    async with migrating(Spec(studies=1, series=1, instances=6, size=3_000), tmp_path, "fail=2") as made:
        async with made.started() as (engine, _), asyncio.timeout(20):
            while not engine.tried_again:
                await asyncio.sleep(0.02)
        before = made.files()
        assert 0 < len(before) < 6
        made.pacs.misbehave()
        made.folder = tmp_path / "other"
        made.clock.put_forward(600)
        await until_finished(made)
        await whole(made)
        assert len(made.files()) == 6
        (study,) = made.pacs.studies
        assert {entry.sop_instance_uid for entry in read(made.folder / study / "manifest.jsonl")} == made.files().keys()
        (job,) = (await made.jobs()).values()
        assert len(await made.ledger.attempts(job.id)) == 2
        assert {uid for uid, times in made.pacs.sent.items() if times == 2} == before.keys()


async def finished(folder: Path, *places: str) -> Delivery:
    """What a folder says of a study with objects of 10 bytes in these places."""
    instances = [
        Instance(1, 1, f"1.2.3.4.{number}", "1.2.3.4", "", "", 10, bytes(32), place)
        for number, place in enumerate(places)
    ]
    async with Files(folder, WriteOptions(durable=False), list[Entry]().append, reserve=0) as files:
        return await files.finish("1.2.3", instances)


@pytest.mark.parametrize(
    ("how", "why"),
    [
        (lambda file: file.unlink(), "there is no such file"),
        (lambda file: os.truncate(file, 4), "its file has 4 bytes, not 10"),
        (lambda file: (file.unlink(), file.symlink_to("a.dcm")), "what has its name is no file"),
        (lambda file: (file.unlink(), file.parent.joinpath("a.dcm").unlink(), file.parent.rmdir()), "no such file"),
    ],
    ids=["removed", "cut", "a link", "its folder removed"],
)
async def test_file_that_is_not_as_it_was_stored_is_asked_for_again(
    tmp_path: Path, how: Callable[[Path], object], why: str
) -> None:
    places = ("1.2.3/a.dcm", "1.2.3/b.dcm")
    (tmp_path / "1.2.3").mkdir()
    for place in places:
        (tmp_path / place).write_bytes(bytes(10))
    assert await finished(tmp_path, *places) == Delivery(proof="file")
    (tmp_path / "manifests/1.2.3.jsonl").unlink()
    how(tmp_path / places[1])
    delivery = await finished(tmp_path, *places)
    assert "1.2.3.4.1" in delivery.uids
    assert "are not where they were stored, such as" in delivery.lacking
    assert why in delivery.lacking
    assert not list(tmp_path.rglob("*.jsonl"))


async def test_folder_that_cannot_be_looked_into_is_told_and_nothing_of_it_comes_once_more(tmp_path: Path) -> None:
    (tmp_path / "1.2.3").symlink_to("1.2.3")
    instance = Instance(1, 1, "1.2.3.4.5", "1.2.3.4", "", "", 10, bytes(32), "1.2.3/a.dcm")
    async with Files(tmp_path, WriteOptions(durable=False), list[Entry]().append, reserve=0) as files:
        assert await files.elsewhere([instance]) == frozenset()
        delivery = await files.finish("1.2.3", [instance])
    assert delivery.lacking.startswith("its files cannot be looked for: ")
    assert not delivery.uids


async def test_objects_of_one_place_are_not_said_to_be_there(tmp_path: Path) -> None:
    """One has replaced the other (`--on-duplicate replace`, by a layout that does not tell them apart)."""
    (tmp_path / "CT.dcm").write_bytes(bytes(10))
    delivery = await finished(tmp_path, "CT.dcm", "CT.dcm")
    assert delivery.uids == {"1.2.3.4.0", "1.2.3.4.1"}
    assert "2 objects are not where they were stored" in delivery.lacking
    assert "another object has its place" in delivery.lacking


async def test_study_in_several_folders_has_a_manifest_in_each_that_can_be_verified(tmp_path: Path) -> None:
    async with migrating(SPEC, tmp_path) as made:
        assert await made.run(layout="{SeriesNumber}/{StudyInstanceUID}/{SOPInstanceUID}.dcm") is Ended.FINISHED
        await whole(made)
        for study in made.pacs.studies:
            listed: set[str] = set()
            for number in "12":
                folder = made.folder / number / study
                found: list[Finding] = []
                verification = Verification(folder, folder / "manifest.jsonl", found.append)
                verification.run(1)
                assert (verification.total, found) == (4, [])
                listed |= {entry.sop_instance_uid for entry in read(folder / "manifest.jsonl")}
            assert listed == made.pacs.instances(study)


@pytest.mark.parametrize("layout", ["flat", "patient", "{Modality}/{StudyInstanceUID}/{SOPInstanceUID}.dcm"])
async def test_any_layout_can_be_had(tmp_path: Path, layout: str) -> None:
    async with migrating(SPEC, tmp_path) as made:
        assert await made.run(layout=layout) is Ended.FINISHED
        await whole(made)
        assert len(list(made.folder.rglob("*.jsonl"))) == 12


async def test_second_run_moves_nothing(tmp_path: Path) -> None:
    async with migrating(SPEC, tmp_path) as made:
        await made.run()
        assert await made.run() is Ended.FINISHED
        assert set(made.pacs.sent.values()) == {1}


async def test_study_that_grows_while_it_is_moved_is_not_complete_before_the_rest_was_asked_for(tmp_path: Path) -> None:
    async with migrating(Spec(studies=1, series=1, instances=20, size=2_000), tmp_path, "delay=0.05") as made:
        async with made.started() as (engine, running):
            async with asyncio.timeout(20):
                while engine.objects < 3:
                    await asyncio.sleep(0.01)
            (job,) = (await made.jobs()).values()
            assert (await made.ledger.add(made.batch.id, [job.job.replace(instances=25)], made.clock())).grown == 1
            made.pacs.misbehave()
            assert await running is Ended.FINISHED
        told = [notice.state for notice in made.notices if isinstance(notice, StudyMigrated)]
        assert (told, engine.complete) == (["ready", "complete"], 1)


async def test_study_that_has_grown_is_moved_once_more_and_what_is_there_is_not(tmp_path: Path) -> None:
    async with migrating(SPEC, tmp_path) as made:
        study = next(iter(made.pacs.studies))
        await made.run()
        job = (await made.jobs())[study].job
        assert job.instances == 8
        added = await made.ledger.add(made.batch.id, [job.replace(instances=9)], made.clock())
        assert added.grown == 1
        assert await made.states() == {"complete": 11, "ready": 1}
        await made.run()
        assert set(made.pacs.sent.values()) == {1}


# ---------------------------------------------------------------------- what goes wrong


async def test_objects_that_the_pacs_keeps_back_are_asked_for_until_they_are_there(tmp_path: Path) -> None:
    async with migrating(SPEC, tmp_path, "drop=30%") as made, made.started() as (engine, running):
        async with asyncio.timeout(60):
            while engine.complete + engine.tried_again < 12:
                await asyncio.sleep(0.02)
        made.pacs.misbehave()
        while not running.done():
            made.clock.put_forward(600)
            await asyncio.sleep(0.2)
        assert await running is Ended.FINISHED
        await whole(made)
        assert set(made.pacs.sent.values()) == {1}


async def test_study_that_never_comes_is_parked_with_the_reason_and_can_be_tried_again(tmp_path: Path) -> None:
    async with migrating(Spec(studies=3, series=1, instances=2, size=2_000), tmp_path, "refuse-moves=C001") as made:
        running = asyncio.create_task(made.run())
        while not running.done():
            made.clock.put_forward(4000)
            await asyncio.sleep(0.1)
        assert await running is Ended.FINISHED
        assert await made.states() == {"parked": 3}
        job = next(iter((await made.jobs()).values()))
        assert (job.reason_class, job.status) == ("refused", 0xC001)
        assert "C001" in job.reason
        assert len(await made.ledger.attempts(job.id)) == 3
        made.pacs.misbehave()
        assert await made.ledger.retry(made.batch.id, reason_class="refused") == 3
        assert await made.run() is Ended.FINISHED
        await whole(made)


async def test_destination_that_the_pacs_does_not_know_ends_the_run_and_nothing_is_parked(tmp_path: Path) -> None:
    async with migrating(SPEC, tmp_path) as made:
        made.pacs.destinations.clear()
        assert await made.run() is Ended.FAILED
        assert made.engine is not None
        assert "move destination" in made.engine.why
        assert "parked" not in await made.states()


async def test_pacs_that_is_not_there_ends_the_run_before_it_began(tmp_path: Path) -> None:
    async with migrating(SPEC, tmp_path) as made:
        await made.pacs.acceptor.stop()
        assert await made.run() is Ended.FAILED
        assert await made.states() == {"ready": 12}


# ---------------------------------------------------------------------- who ends it


async def test_interrupted_run_leaves_nothing_half_done_and_the_next_one_goes_on(tmp_path: Path) -> None:
    async with migrating(SPEC, tmp_path, "delay=0.01") as made, made.started() as (engine, running):
        async with asyncio.timeout(30):
            while engine.objects < 20:
                await asyncio.sleep(0.01)
        engine.stop()
        assert await running is Ended.STOPPED
        assert "moving" not in await made.states()
        assert await made.run() is Ended.FINISHED
        await whole(made)


async def test_drained_run_ends_what_is_in_hand_and_no_more(tmp_path: Path) -> None:
    async with migrating(SPEC, tmp_path, "delay=0.02") as made, made.started(parallel=1) as (engine, running):
        async with asyncio.timeout(30):
            while engine.objects < 2:
                await asyncio.sleep(0.01)
        engine.drain()
        assert await running is Ended.DRAINED
        states = await made.states()
        assert set(states) == {"complete", "ready"}
        assert await made.run() is Ended.FINISHED
        await whole(made)
        assert set(made.pacs.sent.values()) == {1}


@pytest.mark.parametrize(("wish", "ended"), [(Wish.DRAIN, Ended.DRAINED), (Wish.STOP, Ended.STOPPED)])
async def test_operator_ends_a_run_by_the_ledger(tmp_path: Path, wish: Wish, ended: Ended) -> None:
    async with migrating(SPEC, tmp_path, "delay=0.1") as made, made.started(parallel=1) as (engine, running):
        async with asyncio.timeout(30):
            while engine.objects < 1:
                await asyncio.sleep(0.01)
        await made.ledger.wish(made.batch.id, wish)
        assert await running is ended
        assert "moving" not in await made.states()


async def test_paused_run_begins_nothing_until_it_is_resumed(tmp_path: Path) -> None:
    async with migrating(SPEC, tmp_path) as made:
        await made.ledger.wish(made.batch.id, Wish.PAUSE)
        async with made.started() as (engine, running):
            async with asyncio.timeout(30):
                while engine.state != "paused":
                    await asyncio.sleep(0.02)
            await asyncio.sleep(1.0)  # it might begin something
            assert not made.pacs.objects_sent
            await made.ledger.wish(made.batch.id, Wish.RUN)
            assert await running is Ended.FINISHED
            await whole(made)


# ---------------------------------------------------------------------- windows


async def test_nothing_is_begun_while_no_window_is_open(tmp_path: Path) -> None:
    async with migrating(SPEC, tmp_path) as made:
        made.clock = Clock(datetime(2026, 3, 2, 18, 59, 50, tzinfo=UTC))  # a Monday
        async with made.started("mon-fri 19:00-07:00 parallel=2") as (engine, running):
            async with asyncio.timeout(30):
                while engine.state != "no window is open":
                    await asyncio.sleep(0.02)
            await asyncio.sleep(1.0)  # it might begin something
            assert not made.pacs.objects_sent
            made.clock.put_forward(15)
            assert await running is Ended.FINISHED
            await whole(made)
            assert made.pacs.most_moves <= 2


async def test_moves_under_way_when_a_window_closes_are_cancelled_and_go_on_when_it_opens(tmp_path: Path) -> None:
    async with migrating(Spec(studies=1, series=1, instances=100, size=2_000), tmp_path, "delay=0.05") as made:
        made.clock = Clock(datetime(2026, 3, 2, 6, 59, 0, tzinfo=UTC))
        async with made.started("daily 19:00-07:00", closing_s=0.0) as (engine, running):
            async with asyncio.timeout(30):
                while engine.objects < 5:
                    await asyncio.sleep(0.01)
            made.clock.put_forward(120)
            async with asyncio.timeout(30):
                while not made.pacs.moves:
                    await asyncio.sleep(0.02)
            assert made.pacs.moves[0].status == 0xFE00
            before = made.pacs.objects_sent
            assert before < 100
            await asyncio.sleep(1.0)  # it might go on
            assert made.pacs.objects_sent == before
            made.pacs.misbehave()
            made.clock.put_forward(12 * 3600)
            assert await running is Ended.FINISHED
            await whole(made)
            assert set(made.pacs.sent.values()) == {1}


@pytest.mark.parametrize(
    ("window", "opens", "closes"),
    [
        # At 02:00 the clock is put forward to 03:00: what opens behind it opens an hour sooner than the day before.
        pytest.param("sun 03:30-05:00", "2026-03-29T01:30", "2026-03-29T03:00", id="behind-the-skipped-hour"),
        pytest.param("sun 01:00-04:00", "2026-03-29T00:00", "2026-03-29T02:00", id="over-the-skipped-hour"),
        # At 03:00 it is set back to 02:00: the window has an hour more.
        pytest.param("sun 02:30-03:30", "2026-10-25T00:30", "2026-10-25T02:30", id="over-the-hour-that-comes-twice"),
        pytest.param("sat 22:00-06:00", "2026-10-24T20:00", "2026-10-25T05:00", id="a-night-of-nine-hours"),
    ],
)
async def test_window_opens_and_closes_on_time_when_clocks_are_changed(
    tmp_path: Path, window: str, opens: str, closes: str
) -> None:
    async with migrating(Spec(studies=1, series=1, instances=200, size=2_000), tmp_path, "delay=0.05") as made:
        made.clock = Clock(datetime.fromisoformat(opens + "+00:00") - timedelta(seconds=5))
        async with made.started(window, closing_s=0.0, zone=ZoneInfo("Europe/Berlin")) as (engine, _):

            async def until(true: Callable[[], bool]) -> None:
                async with asyncio.timeout(5):
                    while not true():
                        await asyncio.sleep(0.01)

            await until(lambda: engine.state == "no window is open")
            assert not made.pacs.objects_sent
            made.clock.put_forward(5)
            await until(lambda: engine.objects >= 5)
            closing = datetime.fromisoformat(closes + "+00:00").timestamp()
            made.clock.put_forward(closing - 4 - made.clock())
            more = engine.objects + 10
            await until(lambda: engine.objects >= more)
            assert made.clock() < closing, "it was open to the end"
            made.clock.put_forward(closing - made.clock())
            await until(lambda: engine.state == "no window is open" and bool(made.pacs.moves))
            assert made.pacs.moves[0].status == 0xFE00


async def test_rate_of_a_window_is_held(tmp_path: Path) -> None:
    async with migrating(Spec(studies=1, series=1, instances=120, size=2_000), tmp_path) as made:
        began = asyncio.get_running_loop().time()
        assert await made.run("daily 00:00-24:00 objects=50") is Ended.FINISHED
        seconds = asyncio.get_running_loop().time() - began
        assert 120 / 50 - 1.2 < seconds < 120 / 50 + 3
        (job,) = (await made.jobs()).values()
        assert job.state is JobState.COMPLETE


# ---------------------------------------------------------------------- a PACS that has enough


async def test_moves_are_halved_within_ten_seconds_when_the_pacs_answers_three_times_as_late_and_come_back(
    tmp_path: Path,
) -> None:
    usual, noon = ("find-delay=0.03", "delay=0.01"), ("find-delay=0.09", "delay=0.03")
    spec = Spec(studies=800, series=1, instances=20, size=2_000)
    async with migrating(spec, tmp_path, *usual) as made, made.started(parallel=8) as (engine, _):

        async def under_way(enough: Callable[[int], bool], seconds: float) -> None:
            async with asyncio.timeout(seconds):
                while engine.retrieve is None or not enough(engine.retrieve.under_way):
                    await asyncio.sleep(0.05)

        async with asyncio.timeout(30):
            while engine.pulse.asked <= LEARNT:  # what is usual has to be known
                await asyncio.sleep(0.05)
        await under_way(lambda moves: moves == 8, 5)
        made.pacs.misbehave(*noon)
        await under_way(lambda moves: moves <= 4, 10)
        made.pacs.misbehave(*usual)
        await under_way(lambda moves: moves == 8, 20)
        async with asyncio.timeout(5):
            while (events := list(await made.events())).count("migrate.recovered") < 1:
                await asyncio.sleep(0.05)
        assert events == ["migrate.suffering", "migrate.recovered"]
