"""What a benchmark shows while it runs."""

from __future__ import annotations

import asyncio

from fastmove.bench.load import Load
from fastmove.bench.spec import Spec
from fastmove.cli.bench.live import LEVELS, Live, sparkline
from tests.bench.benching import benching


def test_sparkline_has_a_level_for_each_value_and_nothing_for_nothing() -> None:
    assert sparkline([0, 7, 14]) == LEVELS[0] + LEVELS[4] + LEVELS[7]
    assert sparkline([0, 0]) == sparkline([]) == ""


async def test_live_view_tells_rates_latencies_what_the_time_goes_into_and_failures() -> None:
    async with benching(Spec(studies=2, series=1, instances=20, size=2_000), "delay=0.005", "fail=1") as benched:
        live = Live(benched.bench)
        live.begin("1 at once, run 1")
        assert live.live("received") == ("1 at once, run 1",)
        running = asyncio.create_task(benched.run(Load(duration_s=1.6), count=1000))
        while benched.bench.measurement is None or len(benched.bench.measurement.lately("bytes", 60)) < 1:
            await asyncio.sleep(0.05)
        beside, rates, latencies, spent, failed = live.live("received")
        await running
    assert beside.startswith("1 at once, run 1, ")
    assert "s left" in beside
    assert "moves ended, 1 under way" in beside
    assert "objects/s" in rates
    assert rates.endswith(LEVELS[-1])
    assert latencies.startswith("first object p50 ")
    assert "the PACS thinks " in spent
    assert failed.endswith(" x B000")


async def test_view_tells_of_a_warm_up() -> None:
    async with benching(Spec(studies=2, series=1, instances=20, size=2_000)) as benched:
        live = Live(benched.bench)
        live.begin("run 1")
        running = asyncio.create_task(benched.run(Load(duration_s=0.5, warm_up_s=0.4), count=1000))
        while benched.bench.drive is None:
            await asyncio.sleep(0)
        assert "warming up" in live.live("received")[0]
        await running
