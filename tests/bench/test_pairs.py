"""Twenty pairs of benchmarks of a PACS as it is and slower by 15 %, by the commands that a user would give."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any, Final

import pytest

from fastmove.bench.result import load
from tests.bench.test_bench_command import SPEC, bench, retrieve
from tests.compat.harness import reserved_port
from tests.integration.embedded import embedded_pacs

SLOWER: Final = 1.15

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(600)]


async def measured(pacs: Any, port: int, parallel: int, out: Path) -> Path:
    options = ("--parallel", str(parallel), "--duration", "2", "--warm-up", "0.5", "--repeat", "4", "--out", out)
    ended = await retrieve(pacs, port, *options)
    assert ended.code == 0, ended.err
    return out


@pytest.mark.parametrize("seed", range(20))
async def test_slow_down_of_fifteen_percent_is_flagged_and_equal_runs_are_not(seed: int, tmp_path: Path) -> None:
    random = Random(seed)
    parallel, delay_s = random.choice((1, 2, 4)), random.uniform(0.005, 0.03)
    with reserved_port() as port:
        async with embedded_pacs(SPEC, faults=(f"delay={delay_s}",)) as pacs:
            before = await measured(pacs, port, parallel, tmp_path / "before.json")
            same = await measured(pacs, port, parallel, tmp_path / "same.json")
            per_object_s = parallel / load(before)["points"][0]["objects_per_s"]["estimate"]
            pacs.misbehave(f"delay={delay_s + per_object_s * (SLOWER - 1)}")
            slower = await measured(pacs, port, parallel, tmp_path / "slower.json")
    equal = await bench("compare", before, same, "--fail-if-slower", "10%")
    flagged = await bench("compare", before, slower, "--fail-if-slower", "10%")
    assert (equal.code, flagged.code) == (0, 76), equal.out + flagged.out
