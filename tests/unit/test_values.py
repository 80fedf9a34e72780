"""Values: what a class gets from its annotations alone."""

from __future__ import annotations

import copy
import pickle
from typing import ClassVar

import pytest

from fastmove.values import Value


class Point(Value):
    """Two numbers and a name."""

    unit: ClassVar[str] = "mm"

    x: int
    y: int = 0
    name: str = ""


class Solid(Point):
    """A point with one field more."""

    z: int = 0


class Login(Value):
    """Something not to be shown."""

    secret = frozenset(("passcode",))

    user: str
    passcode: str


def test_fields_are_given_in_order_or_by_name() -> None:
    assert Point(1, 2) == Point(1, y=2) == Point(y=2, x=1)
    assert (Point(1).y, Point.fields) == (0, ("x", "y", "name"))


def test_fields_of_the_class_above_come_first() -> None:
    assert Solid.fields == ("x", "y", "name", "z")
    assert Solid(1, 2, "a", 3).z == 3


@pytest.mark.parametrize(
    ("arguments", "values"),
    [((), {}), ((), {"y": 1}), ((1,), {"x": 1}), ((1, 2, "a", 4), {}), ((1,), {"colour": 1}), ((1,), {"unit": "m"})],
    ids=["nothing", "missing", "twice", "too many", "unknown", "class variable"],
)
def test_wrong_fields_are_a_type_error_that_names_the_class(
    arguments: tuple[int, ...], values: dict[str, object]
) -> None:
    with pytest.raises(TypeError, match="^Point: "):
        Point(*arguments, **values)  # type: ignore[arg-type]


def test_value_cannot_be_changed() -> None:
    point = Point(1)
    with pytest.raises(AttributeError):
        point.x = 2  # type: ignore[misc]
    with pytest.raises(AttributeError):
        del point.x
    assert point == Point(1)


def test_values_are_equal_if_class_and_fields_are() -> None:
    assert Point(1) != Point(2)
    assert Point(1) != Solid(1)
    assert Point(1) != (1, 0, "")
    assert len({Point(1), Point(1, 0), Point(2)}) == 2


def test_value_shows_its_fields_but_no_secrets() -> None:
    assert repr(Point(1, name="a")) == "Point(x=1, y=0, name='a')"
    assert repr(Login("me", "open sesame")) == "Login(user='me')"


def test_replace_changes_the_named_fields_only() -> None:
    assert Point(1, 2, "a").replace(y=3) == Point(1, 3, "a")
    with pytest.raises(TypeError):
        Point(1).replace(colour=1)


def test_value_survives_copying_and_pickling() -> None:
    point = Point(1, 2, "a")
    assert pickle.loads(pickle.dumps(point)) == copy.deepcopy(point) == copy.copy(point) == point
