"""What a sample says of all: that it is right, how sure it is, and how it is drawn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from random import Random
from typing import Any, cast

import pytest

from fastmove.bench.load import Load
from fastmove.bench.retrieve import RetrieveBench, Study
from fastmove.bench.runner import Setting
from fastmove.bench.sampling import (
    UNKNOWN,
    Amount,
    Lots,
    Part,
    Sampled,
    kind_of,
    measured,
    shares,
    together,
    total,
)


@pytest.mark.parametrize(
    ("modalities", "kind"),
    [
        ("CT", "CT"),
        ("SR\\CT", "CT"),
        ("PT\\CT\\PR\\KO", "CT+PT"),
        ("SR", "SR"),
        ("PR\\KO", "KO+PR"),
        ("", "?"),
        (" mr \\", "MR"),
    ],
)
def test_kind_is_what_has_images(modalities: str, kind: str) -> None:
    assert kind_of(modalities) == kind


# ---------------------------------------------------------------------- reckoning


def test_bytes_go_with_instances_in_each_kind() -> None:
    parts = {"CT": [Part(1, 100, 50_000), Part(1, 300, 150_000)], "MR": [Part(1, 10, 1000), Part(1, 20, 2000)]}
    found = total({"CT": Amount(10, 10, 2000), "MR": Amount(5, 5, 100)}, parts)
    assert found == pytest.approx((1_010_000, 1_010_000, 1_010_000)), "there is no doubt where all are alike"


def test_studies_that_nobody_has_counted_are_as_large_as_the_others() -> None:
    parts = {"CT": [Part(1, 100, 50_000), Part(1, 100, 50_000)]}
    found = total({"CT": Amount(studies=20, counted=10, instances=1000)}, parts)
    assert found is not None and found.estimate == pytest.approx(1_000_000)
    uncounted = total({"CT": Amount(studies=20)}, parts)
    assert uncounted is not None and uncounted.estimate == pytest.approx(1_000_000)


def test_kind_that_was_not_measured_may_be_half_as_much_or_twice_as_much() -> None:
    parts = {"CT": [Part(1, 100, 50_000), Part(1, 100, 50_000)]}
    found = total({"US": Amount(1, 1, 100)}, parts)
    assert found == pytest.approx((50_000, 50_000 / UNKNOWN, 50_000 * UNKNOWN))


def test_one_study_alone_may_stand_for_half_as_much_or_twice_as_much() -> None:
    found = total({"CT": Amount(10, 10, 1000)}, {"CT": [Part(1, 100, 50_000)]})
    assert found == pytest.approx((500_000, 250_000, 1_000_000))


def test_nothing_is_said_where_nothing_was_measured() -> None:
    assert total({"CT": Amount(1, 1, 1)}, {}) is None
    assert total({"CT": Amount(1, 1, 1)}, {"CT": [Part(1, 1, 500)]}, "seconds") is None


def test_seconds_are_reckoned_like_bytes() -> None:
    parts = {"CT": [Part(1, 100, 50_000, 2.0), Part(1, 200, 90_000, 4.0)]}
    found = total({"CT": Amount(10, 10, 1000)}, parts, "seconds")
    assert found == pytest.approx((20.0, 20.0, 20.0))


def test_what_is_measured_together_counts_together() -> None:
    assert together({"CT": [Part(1, 2, 3)]}, {"CT": [Part(4, 5, 6)], "MR": []}) == {
        "CT": [Part(1, 2, 3), Part(4, 5, 6)],
        "MR": [],
    }


class Scripted:
    """A benchmark of studies that are known: UID → instances and bytes; `refused` ones do not come."""

    def __init__(self, studies: Mapping[str, tuple[int, int]], refused: frozenset[str] = frozenset()) -> None:
        self.studies = studies
        self.refused = refused
        self.runs: list[list[str]] = []

    async def run(self, load: Load, items: Iterable[Study], setting: Setting) -> dict[str, Any]:
        uids = [item.kind for item in items]
        self.runs.append(uids)
        came = {uid: (0, 0) if uid in self.refused else self.studies[uid] for uid in uids}
        groups = {uid: {"objects": n, "bytes": b, "latency_ms": {"mean": n / 2}} for uid, (n, b) in came.items()}
        failed = {"A801": len(self.refused & came.keys())} if self.refused & came.keys() else {}
        sums = {"objects": sum(n for n, _ in came.values()), "bytes": sum(b for _, b in came.values()), "seconds": 2.0}
        return {"kinds": groups, **sums, "failures": failed, "details": dict.fromkeys(failed, "unknown destination")}


async def moved(scripted: Scripted, kinds: Mapping[str, Sequence[str]], number: int, seed: int = 1) -> Sampled:
    lots: Lots[str] = Lots(number, seed)
    for kind, uids in kinds.items():
        for uid in uids:
            lots.add(kind, uid)
    drawn = {
        kind: [Study((f"StudyInstanceUID={uid}",), kind=uid) for uid in some] for kind, some in lots.drawn().items()
    }
    bench = cast("RetrieveBench", scripted)
    return await measured(bench, drawn, amounts(scripted, kinds), number=number, parallel=1)


def amounts(scripted: Scripted, kinds: Mapping[str, Sequence[str]]) -> dict[str, Amount]:
    return {
        kind: Amount(len(uids), len(uids), sum(scripted.studies[uid][0] for uid in uids))
        for kind, uids in kinds.items()
    }


async def test_range_contains_the_truth_about_as_often_as_it_says() -> None:
    random = Random(3)
    studies, kinds = {}, dict[str, list[str]]()
    for kind, per, least, most, number in (
        ("CT", 500_000, 50, 1500, 2000),
        ("MR", 150_000, 100, 800, 1000),
        ("CR", 9_000_000, 1, 4, 3000),
        ("US", 60_000_000, 1, 90, 400),
    ):
        kinds[kind] = [f"{kind}{n}" for n in range(number)]
        for uid in kinds[kind]:
            count = random.randint(least, most)
            studies[uid] = count, int(count * per * random.lognormvariate(0, 0.4))
    scripted = Scripted(studies)
    truth = sum(nbytes for _, nbytes in studies.values())
    within, widths, estimates = 0, [], []
    for seed in range(150):
        sampled = await moved(scripted, kinds, 40, seed)
        found = total(amounts(scripted, kinds), sampled.parts)
        assert found is not None and found.low is not None and found.high is not None
        within += found.low <= truth <= found.high
        widths.append((found.high - found.low) / 2 / truth)
        estimates.append(found.estimate / truth)
    assert within >= 130, "of 150, where 142 are to be expected if nothing is skewed"
    assert sum(widths) / len(widths) < 0.3, "and it says something"
    assert sum(estimates) / len(estimates) == pytest.approx(1.0, abs=0.05)


async def test_second_half_of_a_sample_goes_where_most_is_in_doubt() -> None:
    steady = {f"CT{n}": (100, 100_000) for n in range(50)}
    uneven = {f"US{n}": (10, 10_000_000 * (n % 7 + 1)) for n in range(50)}
    scripted = Scripted(steady | uneven)
    sampled = await moved(scripted, {"CT": list(steady), "US": list(uneven)}, 20)
    first, second = scripted.runs
    assert Counter(uid[:2] for uid in first) == {"CT": 7, "US": 3}, "by the number of instances"
    assert Counter(uid[:2] for uid in second) == {"US": 10}
    assert len({*first, *second}) == 20
    assert (sampled.studies, sampled.seconds) == (20, 4.0)
    assert sampled.instances == 7 * 100 + 13 * 10


async def test_studies_that_do_not_come_are_told_and_measured_as_nothing() -> None:
    scripted = Scripted({f"CT{n}": (10, 1000) for n in range(4)}, refused=frozenset(("CT1", "CT2")))
    sampled = await moved(scripted, {"CT": list(scripted.studies)}, 9)
    assert sampled.parts == {"CT": [Part(1, 10, 1000, 0.005)] * 2}
    assert sampled.failures == {"A801": "unknown destination"}
    nothing = await moved(Scripted(scripted.studies, frozenset(scripted.studies)), {"CT": list(scripted.studies)}, 9)
    assert (nothing.parts, nothing.studies) == ({}, 0)


# ---------------------------------------------------------------------- drawing


def test_each_has_the_same_chance() -> None:
    counts: Counter[int] = Counter()
    for seed in range(3000):
        lots: Lots[int] = Lots(3, seed)
        for number in range(10):
            lots.add("CT", number)
        drawn = lots.drawn()["CT"]
        assert len(set(drawn)) == 3
        counts[drawn[0]] += 1
    assert len(counts) == 10
    assert all(240 < count < 360 for count in counts.values()), counts


def test_same_seed_draws_the_same() -> None:
    def drawn(seed: int) -> dict[str, list[int]]:
        lots: Lots[int] = Lots(5, seed)
        for number in range(1000):
            lots.add("CT" if number % 3 else "MR", number)
        return lots.drawn()

    assert drawn(1) == drawn(1) != drawn(2)


def test_each_kind_has_its_share_and_none_more_than_there_are() -> None:
    held = {"CT": 100, "MR": 100, "US": 1, "MG": 100}
    sizes = {"CT": 800, "MR": 150, "US": 40, "MG": 10}
    assert Counter(shares(12, held, {}, sizes, 2)) == {"CT": 7, "MR": 2, "US": 1, "MG": 2}
    assert Counter(shares(6, held, {"CT": 4, "US": 1}, sizes, 2)) == {"CT": 2, "MR": 2, "MG": 2}
    assert shares(12, {"CT": 1}, {}, {}, 3) == ["CT"]


def test_sample_that_is_too_small_for_all_kinds_takes_the_largest() -> None:
    assert Counter(shares(3, dict.fromkeys("abcdef", 9), {}, {"e": 9, "b": 8, "c": 1}, 2)) == {"e": 2, "b": 1}
