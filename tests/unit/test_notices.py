from __future__ import annotations

import inspect
import json
import re
import typing
from typing import Any

import pytest

from fastmove import notices
from fastmove.notices import InstanceStored, MoveProgressed, Notice, PeerMisbehaved, as_dict

KINDS: tuple[Any, ...] = typing.get_args(Notice)
SAMPLE: dict[object, Any] = {"int": 7, "str": "text", "int | None": None, "tuple[str, ...]": ("A=b:1",), "float": 0.5}
SAMPLE["dict[str, str]"] = {"1.2.3": "why"}


def sample(kind: Any) -> Notice:
    values = {name: SAMPLE[getattr(hint, "__forward_arg__", hint)] for name, hint in kind.__annotations__.items()}
    values.update(kind._field_defaults)
    notice: Notice = kind(**values)
    return notice


def test_every_class_of_the_module_is_a_notice() -> None:
    own = {c for c in vars(notices).values() if inspect.isclass(c) and c.__module__ == notices.__name__}
    assert own == set(KINDS)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_notice_is_a_json_object_with_its_event_first(kind: Any) -> None:
    notice = sample(kind)
    found = as_dict(notice)
    assert next(iter(found)) == "event"
    assert found.keys() == set(kind._fields)
    assert json.loads(json.dumps(found))["event"] == notice.event


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_notice_is_told_in_the_past_tense(kind: Any) -> None:
    assert re.fullmatch(r"\w+(ed|Sent)", kind.__name__) or kind is PeerMisbehaved


def test_events_with_a_name_of_their_own_differ() -> None:
    events = [kind._field_defaults["event"] for kind in KINDS if "event" in kind._field_defaults]
    assert len(events) == len(set(events))
    assert all(re.fullmatch(r"[a-z]+\.[a-z_]+", event) for event in events)


def test_event_of_misbehaviour_is_that_of_the_fault() -> None:
    notice = PeerMisbehaved(3, "10.0.0.1", "pdv.order", "at byte 9", 4711, "CT1")
    assert as_dict(notice) == {
        "event": "pdv.order",
        "association": 3,
        "host": "10.0.0.1",
        "detail": "at byte 9",
        "port": 4711,
        "calling_ae_title": "CT1",
    }


def test_counter_that_did_not_come_is_null() -> None:
    assert as_dict(MoveProgressed(0xFF00, None, 3, 0, None))["remaining"] is None


def test_notice_cannot_be_changed() -> None:
    notice = sample(InstanceStored)
    with pytest.raises(AttributeError):
        notice.event = "other"  # type: ignore[misc]
