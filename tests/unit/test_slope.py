"""The line through the samples of a soak test: it tells growth from noise."""

from __future__ import annotations

from random import Random

import pytest
from tests.soak.slope import SAMPLES, slope


def test_line_without_noise_has_its_slope_and_no_error() -> None:
    found = slope([(x, 7.0 + 3.0 * x) for x in range(SAMPLES)])
    assert found.per_unit == pytest.approx(3.0)
    assert found.error == pytest.approx(0.0, abs=1e-9)
    assert found.at_least == pytest.approx(3.0)


@pytest.mark.parametrize("seed", range(20))
def test_growth_shows_through_noise_and_noise_alone_is_none(seed: int) -> None:
    random = Random(seed)
    noise = [random.gauss(0, 1.0) for _ in range(SAMPLES)]
    assert slope([(x, noise[x]) for x in range(SAMPLES)]).at_least < 0.2
    assert slope([(x, noise[x] + 0.5 * x) for x in range(SAMPLES)]).at_least > 0.2


def test_error_is_that_of_the_text_books() -> None:
    """By hand: x 0..19, y 0 and 1 in turns; s² = 4.9624/18, Sxx = 665."""
    found = slope([(x, float(x % 2)) for x in range(SAMPLES)])
    assert found.per_unit == pytest.approx(5 / 665)
    assert found.error == pytest.approx(((5 - 25 / 665) / 18 / 665) ** 0.5)
