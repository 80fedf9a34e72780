"""`bench retrieve` against a PACS whose behaviour is known: what it counts, what it finds, what it says of failures."""

from __future__ import annotations

import asyncio
import resource
import time
from pathlib import Path
from typing import Any

import pytest

from fastmove.bench.knee import knee
from fastmove.bench.load import NOT_BEGUN, Load
from fastmove.bench.result import Result
from fastmove.bench.runner import Setting
from fastmove.bench.spec import Spec
from fastmove.bench.stalls import ASSOCIATIONS
from fastmove.errors import AssociationError
from fastmove.storage.target import StorageTarget
from tests.bench.benching import benching, best_of_three
from tests.certificates import Certificates
from tests.integration.raw import part10_dataset
from tests.integration.tls import settings_for

SPEC = Spec(studies=4, series=1, instances=25, size=20_000)


async def test_counts_are_those_of_the_files_and_of_the_pacs(tmp_path: Path) -> None:
    async with benching(SPEC, folder=tmp_path) as benched:
        began = time.monotonic()
        run = await benched.run(Load(parallel=2))
        elapsed = time.monotonic() - began
        files = list((tmp_path / "001").glob("*.dcm"))
        assert run["objects"] == len(files) == benched.pacs.objects_sent == 100
        assert run["bytes"] == sum(len(part10_dataset(file.read_bytes())) for file in files)
        assert run["operations"] == len(benched.pacs.moves) == 4
        assert run["statuses"] == {"0000": 4}
        assert not run["failed_operations"]
        assert run["seconds"] <= elapsed
        assert run["objects_per_s"] == pytest.approx(100 / run["seconds"], rel=1e-4)
        assert sum(run["over_time"]["objects"]) == 100
        assert sum(run["over_time"]["bytes"]) == run["bytes"]
        latencies = run["latencies_ms"]
        assert latencies["move"]["count"] == latencies["first_object"]["count"] == 4
        assert latencies["store"]["count"] == 100
        assert latencies["association"]["count"] == 2
        assert run["kinds"]["CT"]["objects"] == 100
        assert benched.bench.peer["implementation_version_name"].startswith("FASTMOVE")


async def test_discarded_objects_leave_nothing_and_count_all_the_same(tmp_path: Path) -> None:
    async with benching(SPEC) as benched:
        run = await benched.run()
        assert run["objects"] == 100
        assert not list(tmp_path.iterdir())


async def test_each_run_keeps_its_objects_in_a_folder_of_its_own(tmp_path: Path) -> None:
    async with benching(SPEC, folder=tmp_path) as benched:
        for _ in range(2):
            await benched.run()
    assert [len(list(folder.glob("*.dcm"))) for folder in sorted(tmp_path.iterdir())] == [100, 100]


@best_of_three
async def test_thinking_of_thirty_milliseconds_is_found_and_named() -> None:
    async with benching(Spec(studies=1, series=1, instances=20, size=20_000), "delay=0.03") as benched:
        run = await benched.run()
    assert run["latencies_ms"]["gap"]["p50"] == pytest.approx(30, rel=0.1)
    stalls = run["stalls_s"]
    assert stalls["pacs"] > 0.8 * sum(stalls.values())
    assert run["pacs_thinks_s"]["between"] > 0.8 * stalls["pacs"]


@best_of_three
async def test_wait_for_the_first_object_is_told_apart_from_those_between() -> None:
    async with benching(SPEC, "first-delay=0.2") as benched:
        run = await benched.run()
    assert run["latencies_ms"]["first_object"]["p50"] == pytest.approx(200, rel=0.1)
    assert run["pacs_thinks_s"]["before"] > 0.75
    assert run["latencies_ms"]["gap"]["p50"] < 20


@best_of_three
async def test_duration_ends_the_run_and_what_is_under_way_is_cancelled() -> None:
    async with benching(SPEC, "delay=0.01") as benched:
        began = time.monotonic()
        run = await benched.run(Load(parallel=2, duration_s=0.6), count=1000)
        assert time.monotonic() - began < 1.5
        assert run["seconds"] == pytest.approx(0.6, abs=0.02)
        assert 80 < run["objects"] < 125, "two moves, one object in 10 ms each"
        assert sum(run["stalls_s"].values()) == pytest.approx(2 * 0.6, rel=0.1)
        assert any(move.status == 0xFE00 for move in benched.pacs.moves)


@best_of_three
async def test_warm_up_does_not_count() -> None:
    async with benching(SPEC, "delay=0.01") as benched:
        run = await benched.run(Load(duration_s=0.6, warm_up_s=0.3), count=1000)
        assert run["seconds"] == pytest.approx(0.3, abs=0.02)
        assert run["objects"] < 35
        assert benched.pacs.objects_sent > run["objects"] + 15


async def test_moves_of_a_pacs_that_refuses_all_went_into_nothing() -> None:
    result = Result("retrieve", {})
    async with benching(SPEC, "refuse-moves=A701") as benched:
        result.add({"parallel": 1}, 1, await benched.run())
    assert result.finished({}, complete=True)["stall"] is None


async def test_associations_that_take_longer_than_the_moves_are_told_of(certificates: Certificates) -> None:
    result = Result("retrieve", {})
    tls = settings_for(certificates, certificates.server, check_name=False)
    async with benching(SPEC, "slow-tls=0.25", new_associations=True, tls=tls) as benched:
        result.add({"parallel": 1}, 1, await benched.run())
    document = result.finished({}, complete=True)
    assert not document["runs"][0]["failed_operations"]
    assert document["runs"][0]["latencies_ms"]["association"]["p50"] > 250
    assert document["stall"]["associations"] > 0.5
    assert document["stall"]["advice"] == ASSOCIATIONS


@best_of_three
async def test_open_loop_counts_from_when_a_move_was_due() -> None:
    async with benching(Spec(studies=2, series=1, instances=10, size=2_000), "delay=0.01") as benched:
        run = await benched.run(Load(parallel=1, rate_per_s=40.0, duration_s=0.8), count=1000)
    assert run["latencies_ms"]["move"]["max"] > 400, "a move takes 100 ms, one is due each 25 ms: they queue up"
    assert run["statuses"][NOT_BEGUN] > 10
    assert run["failed_operations"] == run["statuses"][NOT_BEGUN]


async def test_failures_are_counted_by_status_with_what_the_pacs_says_of_them() -> None:
    async with benching(SPEC, "refuse-moves=A701") as benched:
        run = await benched.run()
    assert run["statuses"] == {"A701": 4}
    assert run["failed_operations"] == 4
    assert not run["objects"]
    assert run["details"]["A701"]
    assert run["latencies_ms"].keys() == {"association", "move_failed"}, "a refusal is no latency of a move"
    assert run["latencies_ms"]["move_failed"]["count"] == 4


async def test_failed_suboperations_are_counted() -> None:
    async with benching(SPEC, "fail=5") as benched:
        run = await benched.run()
    assert run["failed_suboperations"] == 20
    assert run["statuses"] == {"B000": 4}


async def test_success_of_a_pacs_that_did_not_send_everything_is_a_failure() -> None:
    async with benching(SPEC, "drop=5") as benched:
        run = await benched.run()
    assert run["statuses"] == {"0000": 4}
    assert run["failed_operations"] == 4
    assert "5 objects were counted as sent" in run["details"]["0000"]


async def test_pacs_that_aborts_is_asked_again_over_a_new_association() -> None:
    async with benching(SPEC, "abort-after=5") as benched:
        run = await benched.run()
    assert run["statuses"] == {"aborted": 4}
    assert run["latencies_ms"]["association"]["count"] == 4


async def test_rejected_associations_are_results_and_not_the_end() -> None:
    async with benching(SPEC, "association-limit=1", "delay=0.005") as benched:
        run = await benched.run(Load(parallel=3))
    assert run["statuses"]["0000"] >= 1
    assert run["statuses"].get("rejected", 0) >= 1


async def test_pacs_that_is_not_there_ends_the_benchmark() -> None:
    async with benching(SPEC) as benched:
        bench = benched.bench
        studies = benched.studies()
    with pytest.raises(AssociationError):
        await bench.run(Load(), studies, Setting())


async def test_new_associations_are_made_for_each_move_where_that_is_asked_for() -> None:
    async with benching(SPEC, new_associations=True) as benched:
        run = await benched.run()
    assert run["latencies_ms"]["association"]["count"] == 4


async def test_stop_cancels_and_what_was_measured_is_reported() -> None:
    async with benching(SPEC, "delay=0.02") as benched:
        running = asyncio.create_task(benched.run(Load(parallel=2), count=1000))
        while benched.bench.measurement is None or benched.bench.measurement.objects < 10:
            await asyncio.sleep(0.01)
        assert benched.bench.stop(), "C-CANCEL is sent"
        run = await running
        assert run["statuses"] == {"FE00": 2}
        assert 10 <= run["objects"] < 50
        assert benched.bench.stopped


async def test_objects_of_concurrent_moves_of_one_study_belong_to_their_own() -> None:
    async with benching(Spec(studies=1, series=1, instances=10, size=2_000), "delay=0.005") as benched:
        run = await benched.run(Load(parallel=4), count=8)
    assert run["operations"] == 8
    assert run["kinds"]["CT"]["objects"] == 80
    assert not run["unclaimed_objects"]


@best_of_three
async def test_time_that_the_disk_takes_is_the_disks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = StorageTarget.commit

    def slowly(self: StorageTarget, *arguments: Any) -> Any:
        time.sleep(0.01)  # as a disk would, in the disk's own thread
        return commit(self, *arguments)

    monkeypatch.setattr(StorageTarget, "commit", slowly)
    async with benching(SPEC, folder=tmp_path, durable=True) as benched:
        run = await benched.run()
    stalls = run["stalls_s"]
    assert stalls["disk"] > 0.7 * sum(stalls.values())


@best_of_three
async def test_rate_of_fifty_objects_a_second_is_found_however_many_moves_there_are() -> None:
    async with benching(Spec(studies=3, series=1, instances=20, size=20_000), "rate=50") as benched:
        for parallel in (1, 3):
            run = await benched.run(Load(parallel=parallel, duration_s=1.0), count=1000)
            assert run["objects_per_s"] == pytest.approx(50, rel=0.1)
            assert max(run["stalls_s"], key=run["stalls_s"].__getitem__) == "pacs"


@best_of_three
async def test_knee_of_four_at_once_is_found() -> None:
    rates, most = [], 0.0
    async with benching(Spec(studies=4, series=1, instances=20, size=2_000), "served=4", "delay=0.05") as benched:
        for parallel in (1, 2, 3, 4, 6, 8):
            before, began = benched.pacs.objects_sent, time.monotonic()
            run = await benched.run(Load(parallel=parallel, duration_s=0.75), count=1000)
            rates.append((parallel, run["objects_per_s"]))
            most = max(most, (benched.pacs.objects_sent - before) / (time.monotonic() - began))
    found = knee(rates)
    assert found is not None
    assert found.reached
    assert found.parallel == pytest.approx(4, rel=0.1)
    assert found.most == pytest.approx(most, rel=0.1), "as the PACS counts it"


@pytest.mark.parametrize(
    ("stall", "faults"),
    [
        ("pacs", ("delay=0.02",)),
        ("network", ("rtt=0.02",)),
        ("network", ("bandwidth=4M",)),
        ("nagle", ("stall",)),
        ("nagle", ("stall=0.2",)),
    ],
)
@best_of_three
async def test_what_slows_a_move_down_is_named(stall: str, faults: tuple[str, ...]) -> None:
    async with benching(Spec(studies=2, series=1, instances=8, size=100_000), *faults) as benched:
        run = await benched.run(Load(parallel=2))
    stalls = run["stalls_s"]
    assert max(stalls, key=stalls.__getitem__) == stall
    assert stalls[stall] > 0.6 * sum(stalls.values())


@best_of_three
async def test_bandwidth_is_found() -> None:
    async with benching(Spec(studies=2, series=1, instances=10, size=100_000), "bandwidth=4M") as benched:
        run = await benched.run(Load(parallel=2))
    assert run["bytes_per_s"] == pytest.approx(4e6, rel=0.1)


@best_of_three
async def test_no_more_comes_than_is_wanted_and_that_is_told_as_our_own_limit() -> None:
    async with benching(Spec(studies=3, series=1, instances=20, size=100_000), max_bytes_per_s=4e6) as benched:
        run = await benched.run(Load(parallel=3))
    assert run["objects"] == 60
    assert run["bytes_per_s"] <= 4e6 * 1.05 + 3 * 100_000 / run["seconds"]
    assert run["bytes_per_s"] == pytest.approx(4e6, rel=0.15)
    assert max(run["stalls_s"], key=run["stalls_s"].__getitem__) == "limit"


async def test_load_that_is_over_before_its_duration_has_the_rates_of_its_own_time() -> None:
    async with benching(SPEC, "delay=0.004") as benched:
        run = await benched.run(Load(duration_s=60.0), count=4)
    assert run["objects"] == 100
    assert 0.4 < run["seconds"] < 10
    assert run["objects_per_s"] == pytest.approx(100 / run["seconds"], rel=1e-3)


async def test_stop_before_there_is_a_load_ends_it() -> None:
    async with benching(SPEC) as benched:
        benched.bench.stop()
        run = await benched.run(Load(duration_s=60.0), count=1_000_000)
    assert not run["operations"]
    assert not benched.pacs.objects_sent


async def test_objects_that_this_host_could_not_store_are_not_blamed_on_the_pacs(tmp_path: Path) -> None:
    async with benching(SPEC, folder=tmp_path) as benched:
        known = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, known[1]))  # an object has 20,000 bytes
        try:
            run = await benched.run()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, known)
    assert run["failed_operations"] == 4
    assert not run["objects"]
    assert run["unstored_objects"] == 100
    assert {*run["details"].values()} == {"25 objects could not be stored on this host: its disk is full, or failed"}
