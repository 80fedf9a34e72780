"""Is the PACS suffering: simulated answers with noise, every two seconds unless it says otherwise; seeded."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Callable
from random import Random

import pytest

from fastmove.migrate.canary import COMPLAINTS_S, LEARNT, STALE_S, Canary

SEEDS = range(12)
CALM_S = 0.030
HOUR_S = 3600.0

Noise = Callable[[Random], float]

NOISES: dict[str, Noise] = {
    "even": lambda random: random.uniform(0.8, 1.2),
    "normal": lambda random: max(0.1, random.gauss(1.0, 0.2)),
    "factor": lambda random: 1.3 ** random.uniform(-1, 1),
    "factor, with a tail": lambda random: math.exp(random.gauss(0, math.log(1.3))),
}


class Asked:
    """A canary, and a PACS that answers it."""

    def __init__(self, seed: int = 1, noise: str = "even", every_s: float = 2.0) -> None:
        self.canary = Canary()
        self.now = 100.0
        self.every_s = every_s
        self._noise = NOISES[noise]
        self._random = Random(seed)

    def run(self, seconds: float, latency: float | Callable[[float], float] = CALM_S) -> list[tuple[float, str]]:
        """Ask for so long; when something was said after an answer, and what."""
        said, since = [], self.now
        while self.now + self.every_s <= since + seconds + 1e-9:
            self.now += self.every_s
            base = latency(self.now - since) if callable(latency) else latency
            self.canary.answered(self.now, base * self._noise(self._random))
            said.append((self.now - since, self.canary.suffering(self.now)))
        return said

    @property
    def suffers(self) -> bool:
        return bool(self.canary.suffering(self.now))


def first_said(said: list[tuple[float, str]], *, something: bool = True) -> float:
    return next((at for at, words in said if bool(words) is something), math.inf)


# Answers


@pytest.mark.parametrize("noise", ["even", "normal"])
@pytest.mark.parametrize("seed", SEEDS)
def test_tripled_latency_is_noticed_within_ten_seconds_and_so_is_its_end(seed: int, noise: str) -> None:
    asked = Asked(seed, noise)
    asked.run(600)
    assert not asked.suffers
    assert first_said(asked.run(120, 3 * CALM_S)) <= 10
    assert asked.suffers
    assert first_said(asked.run(60), something=False) <= 10
    assert not asked.suffers


@pytest.mark.parametrize("noise", ["factor", "factor, with a tail"])
@pytest.mark.parametrize("seed", SEEDS)
def test_noise_says_nothing_for_an_hour(seed: int, noise: str) -> None:
    assert first_said(Asked(seed, noise).run(HOUR_S)) == math.inf


def test_it_says_how_long_an_answer_takes_and_how_long_it_usually_does() -> None:
    asked = Asked(noise="even")
    asked.run(300)
    words = asked.run(20, 3 * CALM_S)[-1][1]
    assert words.startswith("an answer takes ")
    now, usually = (float(part.split()[0]) for part in words.removeprefix("an answer takes ").split(", usually "))
    assert now == pytest.approx(90, rel=0.2)
    assert usually == pytest.approx(30, rel=0.2)


@pytest.mark.parametrize("late", [0.3, 5.0, 600.0])
def test_one_or_two_late_answers_say_nothing(late: float) -> None:
    asked = Asked()
    asked.run(60)
    for _ in range(20):
        assert first_said(asked.run(4, late)) == math.inf
        assert first_said(asked.run(6)) == math.inf


@pytest.mark.parametrize("every_s", [1.0, 5.0, 10.0])
def test_third_answer_decides_however_often_it_is_asked(every_s: float) -> None:
    asked = Asked(every_s=every_s)
    asked.run(600)
    assert first_said(asked.run(20 * every_s, 3 * CALM_S)) == 3 * every_s
    assert first_said(asked.run(20 * every_s), something=False) == 3 * every_s


def test_few_milliseconds_of_a_pacs_next_door_say_nothing() -> None:
    asked = Asked()
    asked.run(300, 0.0005)
    assert first_said(asked.run(60, 0.005)) == math.inf
    assert first_said(asked.run(60, 0.015)) <= 10


def test_nothing_is_said_before_it_is_known_what_is_usual() -> None:
    asked = Asked()
    assert first_said(asked.run(2.0 * LEARNT, lambda at: CALM_S if at < 10 else 1.0)) == math.inf


def test_load_that_begins_right_after_the_first_answers_is_noticed_and_not_learnt() -> None:
    asked = Asked()
    asked.run(2.0 * LEARNT)
    assert first_said(asked.run(300, 3 * CALM_S)) <= 10
    assert asked.suffers
    assert first_said(asked.run(30), something=False) <= 10
    assert first_said(asked.run(30, 3 * CALM_S)) <= 10


# What is usual


@pytest.mark.parametrize("hours", [1, 4])
def test_hours_under_load_do_not_become_the_usual_thing(hours: int) -> None:
    asked = Asked()
    asked.run(600)
    said = asked.run(hours * HOUR_S, 3 * CALM_S)
    assert all(words for at, words in said if at > 10)
    assert first_said(asked.run(60), something=False) <= 10
    assert first_said(asked.run(60, 3 * CALM_S)) <= 10


def test_many_loads_with_pauses_are_each_noticed() -> None:
    asked = Asked()
    asked.run(300)
    for _ in range(60):
        assert first_said(asked.run(120, 3 * CALM_S)) <= 10
        assert first_said(asked.run(30), something=False) <= 10


@pytest.mark.parametrize("every_s", [5.0, 30.0])
@pytest.mark.parametrize("seed", SEEDS)
def test_day_that_gets_slowly_busier_and_calm_again_is_no_suffering(seed: int, every_s: float) -> None:
    asked = Asked(seed, "even", every_s)
    asked.run(1800)
    day = lambda at: CALM_S * (2 - math.cos(2 * math.pi * at / (16 * HOUR_S)))  # noqa: E731 - three times as slow at noon
    assert first_said(asked.run(16 * HOUR_S, day)) == math.inf
    assert first_said(asked.run(10 * every_s, 3 * CALM_S)) <= 3 * every_s


def test_what_stays_slow_all_night_is_taken_for_usual_in_the_end() -> None:
    asked = Asked(every_s=10.0)
    asked.run(HOUR_S)
    asked.run(14 * HOUR_S, 3 * CALM_S)
    assert not asked.suffers


def test_pacs_that_has_become_faster_is_measured_by_that() -> None:
    asked = Asked()
    asked.run(1800, 3 * CALM_S)
    asked.run(1800)
    assert first_said(asked.run(60, 3 * CALM_S)) <= 10


def test_what_was_usual_before_a_long_pause_is_learnt_anew() -> None:
    asked = Asked()
    asked.run(1800)
    asked.now += 12 * HOUR_S
    assert first_said(asked.run(600, 3 * CALM_S)) == math.inf
    assert first_said(asked.run(60, 9 * CALM_S)) <= 10


def test_latency_at_the_limit_does_not_turn_it_on_and_off() -> None:
    asked = Asked()
    asked.run(600)
    said = [bool(words) for _, words in asked.run(HOUR_S, 2.2 * CALM_S)]
    assert sum(a != b for a, b in zip(said, said[1:], strict=False)) <= 2


def grown_bytes(run: Callable[[], object]) -> int:
    run()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        run()
        return tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("every_s", "seconds"), [(30.0, 36 * HOUR_S), (0.01, 59.0)])
def test_memory_is_bounded_however_long_and_however_often_it_is_asked(every_s: float, seconds: float) -> None:
    canary, now = Canary(), 0.0

    def ask() -> None:
        nonlocal now
        for _ in range(int(seconds / every_s)):
            now += every_s
            canary.answered(now, CALM_S + now / 1e9)

    assert grown_bytes(ask) < 20_000


def test_memory_is_bounded_however_much_is_refused() -> None:
    canary = Canary()

    def refuse() -> None:
        for n in range(5000):
            canary.refused(100.0 + n / 1000)
            canary.rejected(100.0 + n / 1000)

    assert grown_bytes(refuse) < 120_000
    assert canary.suffering(105.0).startswith("1,000 moves refused")


# Silence


def test_one_question_without_an_answer_says_nothing_and_two_in_a_row_do() -> None:
    asked = Asked()
    asked.run(60)
    asked.canary.failed(asked.now + 2)
    assert not asked.canary.suffering(asked.now + 2)
    asked.canary.failed(asked.now + 4)
    assert asked.canary.suffering(asked.now + 4) == "the last 2 questions were not answered"


def test_two_failures_an_hour_apart_are_not_in_a_row() -> None:
    canary = Canary()
    canary.failed(0.0)
    canary.failed(HOUR_S)
    assert not canary.suffering(HOUR_S)


def test_silence_is_not_learnt() -> None:
    asked = Asked()
    for _ in range(100):
        asked.now += 2
        asked.canary.failed(asked.now)
    asked.run(2.0 * LEARNT)
    assert not asked.suffers
    assert first_said(asked.run(60, 3 * CALM_S)) <= 10


def test_silence_counts_before_anything_is_known() -> None:
    canary = Canary()
    canary.failed(1.0)
    canary.failed(3.0)
    assert canary.suffering(3.0)


def test_every_other_question_without_an_answer_is_suffering() -> None:
    asked = Asked()
    asked.run(60)
    for _ in range(3):
        asked.canary.failed(asked.now + 1)
        asked.run(2)
    assert asked.canary.suffering(asked.now) == ""  # two of the last five: the third is not among them
    asked.canary.failed(asked.now + 1)
    assert asked.canary.suffering(asked.now + 1) == "3 of the last 5 questions were not answered"


def test_silence_ends_within_ten_seconds() -> None:
    asked = Asked()
    asked.run(60)
    for _ in range(30):
        asked.now += 2
        asked.canary.failed(asked.now)
    assert asked.suffers
    assert first_said(asked.run(30), something=False) <= 10


def test_what_nobody_asked_for_lately_says_nothing() -> None:
    asked = Asked()
    asked.run(120)
    asked.run(30, 3 * CALM_S)
    assert asked.suffers
    assert not asked.canary.suffering(asked.now + STALE_S + 1)
    asked.now += HOUR_S
    assert first_said(asked.run(60)) == math.inf, "answers of before do not count"


# What the moves themselves show


def test_first_objects_that_take_far_longer_than_usual_are_suffering() -> None:
    canary, random = Canary(), Random(3)
    for n in range(60):
        canary.first_object(10.0 * n, random.uniform(0.7, 1.5))
    assert not canary.suffering(600)
    for n in range(3):
        canary.first_object(600.0 + n, 6.0)
    assert canary.suffering(603).startswith("the first object takes 6 s, usually ")


@pytest.mark.parametrize(
    ("tell", "words"),
    [
        (Canary.refused, "2 moves refused for want of resources within 10 s"),
        (Canary.rejected, "2 associations rejected for now within 10 s"),
    ],
)
def test_refusals_count_from_the_second_on_and_for_a_while(tell: Callable[[Canary, float], None], words: str) -> None:
    canary = Canary()
    tell(canary, 100.0)
    assert not canary.suffering(100.0)
    tell(canary, 105.0)
    assert canary.suffering(105.0) == words
    assert not canary.suffering(100.5 + COMPLAINTS_S)


def test_all_that_is_wrong_is_said() -> None:
    asked = Asked()
    asked.run(60)
    asked.run(10, 1.0)
    for _ in range(3):
        asked.canary.refused(asked.now)
        asked.canary.rejected(asked.now)
    first, second, third = asked.canary.suffering(asked.now).split("; ")
    assert first.startswith("an answer takes ")
    assert (second[:7], third[:7]) == ("3 moves", "3 assoc")
