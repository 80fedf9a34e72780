"""Faults of the test PACS as a user asks for them."""

from __future__ import annotations

import pytest

from fastmove.errors import ConfigurationError
from fastmove.pacs.faults import FAULTS, Amount, Cap, Certain, Faults, Limit


def test_every_fault_has_its_field_and_every_field_its_fault() -> None:
    assert sorted([fault.field for fault in FAULTS.values()] + ["seed", "shares"]) == sorted(Faults.fields)


def test_without_any_there_are_none() -> None:
    assert Faults.parse([]) == Faults()


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("drop=3", {"drop": Amount(objects=3)}),
        ("drop=2.5%", {"drop": Amount(probability=0.025)}),
        ("drop=3:10%", {"drop": Amount(objects=3), "shares": {"drop": 0.1}}),
        ("unreadable=1.2\\1.3", {"unreadable": Certain(frozenset(("1.2", "1.3")))}),
        ("unreadable=5%", {"unreadable": Certain(probability=0.05)}),
        ("nothing", {"nothing": True}),
        ("nothing:100%", {"nothing": True, "shares": {"nothing": 1.0}}),
        ("early-success", {"early_success_s": 0.0}),
        ("early-success=1.5", {"early_success_s": 1.5}),
        ("counters=frozen", {"counters": "frozen"}),
        ("abort-after=0", {"abort_after": 0}),
        ("refuse-moves=A701", {"refuse_moves": 0xA701}),
        ("refuse-moves=a702H:5%", {"refuse_moves": 0xA702, "shares": {"refuse_moves": 0.05}}),
        ("move-limit=2", {"move_limit": Limit(2, 0xA702)}),
        ("move-limit=2:A701", {"move_limit": Limit(2, 0xA701)}),
        ("find-cap=100", {"find_cap": Cap(100)}),
        ("find-cap=100:A700:50%", {"find_cap": Cap(100, 0xA700), "shares": {"find_cap": 0.5}}),
        ("commit-fails=30%", {"commit_fails": Amount(probability=0.3)}),
        ("commit-fails=2:50%", {"commit_fails": Amount(objects=2), "shares": {"commit_fails": 0.5}}),
        ("commit-never:10%", {"commit_never": True, "shares": {"commit_never": 0.1}}),
        ("commit-late=1.5", {"commit_late_s": 1.5}),
        ("commit-same-association", {"commit_same_association": True}),
        ("no-image-level", {"no_image_level": 0xA900}),
        ("no-image-level=C000", {"no_image_level": 0xC000}),
    ],
)
def test_fault_is_a_name_and_mostly_a_value(text: str, values: dict[str, object]) -> None:
    assert Faults.parse([text]) == Faults(**values)


def test_several_faults_go_together() -> None:
    assert Faults.parse(["delay=0.1", "drop=1"]) == Faults(delay_s=0.1, drop=Amount(objects=1))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "unreadable",
        "unreadable=x",
        "unreadable=1.2:50%",
        "drop",
        "drop=0",
        "drop=-1",
        "drop=101%",
        "drop=1:many%",
        "early-success=soon",
        "nothing=1",
        "counters=odd",
        "abort-after=",
        "refuse-moves=",
        "refuse-moves=A7",
        "move-limit=0",
        "move-limit=1:50%",
        "association-limit=0",
        "find-cap=1:x",
        "commit-fails=0",
        "commit-never=1",
        "commit-late=",
        "explode=1",
    ],
)
def test_what_is_no_fault_is_a_configuration_error(text: str) -> None:
    with pytest.raises(ConfigurationError, match="fault"):
        Faults.parse([text])
