"""Immutable values: classes whose annotations are their fields.

They are compared, hashed and shown by their fields, as frozen dataclasses are.  `dataclass` writes and compiles six
methods for each class, which took a fifth of the start of every command; here all classes share them.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self, dataclass_transform


class Fields:
    """What all values share; derive from `Value`."""

    fields: ClassVar[tuple[str, ...]] = ()
    """The names of the fields, those of the classes above first."""

    secret: ClassVar[frozenset[str]] = frozenset()
    """Fields whose values are not shown."""

    _known: ClassVar[frozenset[str]] = frozenset()
    _required: ClassVar[frozenset[str]] = frozenset()

    def __init_subclass__(cls) -> None:
        annotations: dict[str, str] = cls.__dict__.get("__annotations__", {})
        own = (name for name, kind in annotations.items() if not kind.startswith("ClassVar"))
        cls.fields = tuple(dict.fromkeys((*cls.fields, *own)))
        cls._known = frozenset(cls.fields)
        cls._required = frozenset(name for name in cls.fields if not hasattr(cls, name))

    def __init__(self, *arguments: Any, **values: Any) -> None:
        if not values and len(arguments) == len(self.fields):  # as for each object that comes: nothing to be found out
            vars(self).update(zip(self.fields, arguments, strict=True))
            return
        if arguments:
            given = dict(zip(self.fields, arguments, strict=False))
            if len(given) < len(arguments) or not given.keys().isdisjoint(values):
                raise TypeError(f"{type(self).__name__}: too many arguments, or one given twice")
            values |= given
        if not self._required <= values.keys() <= self._known:
            wrong = ", ".join(sorted((self._required - values.keys()) | (values.keys() - self._known)))
            raise TypeError(f"{type(self).__name__}: missing or unknown: {wrong}")
        vars(self).update(values)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__}.{name} cannot be changed")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__}.{name} cannot be deleted")

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return self._compared() == other._compared()

    def __hash__(self) -> int:
        return hash(self._compared())

    def __repr__(self) -> str:
        shown = (f"{name}={getattr(self, name)!r}" for name in self.fields if name not in self.secret)
        return f"{type(self).__name__}({', '.join(shown)})"

    def _compared(self) -> tuple[object, ...]:
        return tuple(getattr(self, name) for name in self.fields)

    def replace(self, **changes: Any) -> Self:
        """The same with other values in these fields; TypeError for a name that is no field."""
        return type(self)(**(vars(self) | changes))

    __replace__ = replace
    """`copy.replace` (Python 3.13) calls it."""


@dataclass_transform(frozen_default=True)
class Value(Fields):
    """A value whose fields are given in order or by name; those with a default may be left out."""
