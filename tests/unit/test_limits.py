"""The bounds that a user may set: each has a range, and a value outside is refused with a word on what it has to be."""

from __future__ import annotations

import pytest

from fastmove.cli.configuration_keys import LIMITS
from fastmove.errors import ConfigurationError
from fastmove.limits import RANGES, Limits, check, is_whole

DEFAULTS = Limits()


def test_every_limit_has_a_range_that_holds_its_default() -> None:
    assert tuple(RANGES) == Limits.fields
    for name in RANGES:
        check(name, getattr(DEFAULTS, name))


@pytest.mark.parametrize("name", RANGES)
def test_range_ends_where_it_says(name: str) -> None:
    step = 1 if is_whole(name) else 0.0001
    least, most = RANGES[name]
    for value in (least, least + step, most - step, most):
        check(name, value)
    for value in (least - step, most + step, -1):
        with pytest.raises(ConfigurationError, match=f"^{name}: must be a (whole )?number"):
            check(name, value)


@pytest.mark.parametrize("name", RANGES)
def test_value_of_another_kind_is_refused(name: str) -> None:
    for value in (True, float("inf"), float("nan"), *((2e4 + 0.5,) if is_whole(name) else ())):
        with pytest.raises(ConfigurationError):
            check(name, value)


def test_no_wait_is_without_an_end() -> None:
    assert all(most <= 7 * 86_400 for name, (_, most) in RANGES.items() if name.endswith("_s"))


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("window_bytes", "256Ki", 262144),
        ("window_bytes", 262144, 262144),
        ("min_rate", "2k", 2000),
        ("message_s", "1.5", 1.5),
        ("message_s", 2, 2.0),
        ("keepalive_probes", "3", 3),
    ],
)
def test_limit_is_read_from_text_and_from_toml(name: str, text: str | int, value: float) -> None:
    kind = next(key.kind for key in LIMITS if key.name == name)
    assert (kind.read(text), type(kind.read(text))) == (value, type(value))


@pytest.mark.parametrize(
    ("name", "value"),
    [("message_s", "soon"), ("message_s", "nan"), ("window_bytes", "1e5"), ("message_s", []), ("max_pending", "2.5")],
)
def test_what_is_no_limit_is_not_read(name: str, value: object) -> None:
    with pytest.raises(ValueError):
        next(key.kind for key in LIMITS if key.name == name).read(value)
