"""File descriptors of a listener: as many as it needs, or lower limits, which is told (R02)."""

from __future__ import annotations

import resource

import pytest

from fastmove.limits import Limits
from fastmove.net import descriptors
from fastmove.net.descriptors import fitted, lowered, needed
from fastmove.notices import HostStrained, Notice

DEFAULTS = Limits()
ENOUGH = needed(DEFAULTS)


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The limits of a process, soft and hard; the last ones count."""
    found: list[tuple[int, int]] = []

    def set_limits(_: int, limits: tuple[int, int]) -> None:
        assert limits[0] <= limits[1] or limits[1] == resource.RLIM_INFINITY
        found.append(limits)

    monkeypatch.setattr(descriptors.resource, "getrlimit", lambda _: found[-1])
    monkeypatch.setattr(descriptors.resource, "setrlimit", set_limits)
    return found


@pytest.mark.parametrize(
    ("soft", "hard", "becomes"),
    [
        (ENOUGH, ENOUGH, None),
        (ENOUGH + 1, ENOUGH + 1, None),
        (ENOUGH - 1, ENOUGH, ENOUGH),
        (64, 1 << 20, ENOUGH),
        (64, resource.RLIM_INFINITY, ENOUGH),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, None),
    ],
)
def test_R02_soft_limit_is_raised_as_far_as_need_be(
    process: list[tuple[int, int]], soft: int, hard: int, becomes: int | None
) -> None:
    process.append((soft, hard))
    told: list[Notice] = []
    assert fitted(DEFAULTS, told.append) == DEFAULTS
    assert process[1:] == ([] if becomes is None else [(becomes, hard)])
    assert told == []


@pytest.mark.parametrize(("hard", "associations"), [(1024, 234), (256, 42), (64, 5), (16, 1), (3, 1)])
def test_R02_limits_are_lowered_to_what_there_is_and_that_is_told(
    process: list[tuple[int, int]], hard: int, associations: int
) -> None:
    process.append((min(hard, 32), hard))
    told: list[Notice] = []
    fewer = fitted(DEFAULTS.replace(max_associations=300), told.append)
    assert process[-1] == (hard, hard)
    assert fewer.max_associations == associations
    assert needed(fewer) <= hard or hard <= 128
    (notice,) = told
    assert isinstance(notice, HostStrained)
    assert (notice.event, notice.detail.startswith(f"{hard} file descriptors, ")) == ("limit.nofile", True)


def test_R02_few_associations_need_few_descriptors(process: list[tuple[int, int]]) -> None:
    few = DEFAULTS.replace(max_associations=2, max_pending=16)
    process.append((needed(few), needed(few)))
    assert fitted(few) == few
    assert lowered(few, 1000) == few
