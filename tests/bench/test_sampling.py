"""What a sample says of all: that it is right, how sure it is, and how it is drawn."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from fastmove.bench.sampling import UNKNOWN, Amount, Lots, Part, kind_of, together, total


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


def test_range_contains_the_truth_as_often_as_it_says() -> None:
    random = Random(3)
    archive = {
        kind: [(count, count * per * random.lognormvariate(0, 0.4)) for count in counts]
        for kind, per, counts in (
            ("CT", 500_000, [random.randint(50, 1500) for _ in range(2000)]),
            ("MR", 150_000, [random.randint(100, 800) for _ in range(1000)]),
            ("CR", 9_000_000, [random.randint(1, 4) for _ in range(3000)]),
        )
    }
    truth = sum(nbytes for studies in archive.values() for _, nbytes in studies)
    amounts = {kind: Amount(len(each), len(each), sum(n for n, _ in each)) for kind, each in archive.items()}
    within, widths = 0, []
    for seed in range(200):
        lots: Lots[tuple[str, int, float]] = Lots(30, seed)
        for kind, studies in archive.items():
            for count, nbytes in studies:
                lots.add(kind, (kind, count, nbytes))
        parts: dict[str, list[Part]] = {}
        for kind, count, nbytes in lots.drawn({kind: amount.instances for kind, amount in amounts.items()}):
            parts.setdefault(kind, []).append(Part(1, count, int(nbytes)))
        found = total(amounts, parts)
        assert found is not None and found.low is not None and found.high is not None
        within += found.low <= truth <= found.high
        widths.append((found.high - found.low) / 2 / truth)
    assert within >= 180, "of 200, where 190 are to be expected"
    assert sum(widths) / len(widths) < 0.35, "and it says something"


# ---------------------------------------------------------------------- drawing


def test_each_has_the_same_chance() -> None:
    counts: Counter[int] = Counter()
    for seed in range(3000):
        lots: Lots[int] = Lots(3, seed)
        for number in range(10):
            lots.add("CT", number)
        drawn = lots.drawn({"CT": 1})
        assert len(set(drawn)) == 3
        counts.update(drawn)
    assert all(800 < count < 1000 for count in counts.values()), counts
    assert len(counts) == 10


def test_same_seed_draws_the_same() -> None:
    def drawn(seed: int) -> list[int]:
        lots: Lots[int] = Lots(5, seed)
        for number in range(1000):
            lots.add("CT" if number % 3 else "MR", number)
        return lots.drawn({"CT": 2, "MR": 1})

    assert drawn(1) == drawn(1) != drawn(2)


def test_each_kind_has_its_share_and_none_more_than_there_are() -> None:
    lots: Lots[str] = Lots(12, 1)
    for kind, number in (("CT", 100), ("MR", 100), ("US", 1), ("MG", 100)):
        for _ in range(number):
            lots.add(kind, kind)
    assert Counter(lots.drawn({"CT": 800, "MR": 150, "US": 40, "MG": 10})) == {"CT": 7, "MR": 2, "US": 1, "MG": 2}
    few: Lots[str] = Lots(12, 1)
    few.add("CT", "CT")
    assert few.drawn({}) == ["CT"]


def test_sample_that_is_too_small_for_all_kinds_takes_the_largest() -> None:
    lots: Lots[str] = Lots(3, 1)
    for kind in "abcdef" * 9:
        lots.add(kind, kind)
    assert Counter(lots.drawn({"e": 9, "b": 8, "c": 1})) == {"e": 2, "b": 1}
