"""Attribute rules as people write them: a TOML file, and tables (CSV) that it names."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, NamedTuple

from fastmove.errors import ConfigurationError
from fastmove.services.selection.selection import Worklist
from fastmove.services.selection.worklist import table_rows
from fastmove.storage.attribute_rules import (
    MODIFYING_SYSTEM,
    REASONS,
    AttributeRules,
    Missing,
    Rule,
    attribute_rules,
    composed,
    fixed,
    mapped,
    removed,
)

CHANGE: Final = "change"
TOP: Final = ("reason", "source", "system", CHANGE)

SHOWN_COLUMNS: Final = 20

EXAMPLE: Final = '[[change]] attribute = "PatientID" template = "{PatientID}@HOSPITAL"'


def modification_datetime(seconds: float) -> str:
    """A time in seconds since 1970 as Attribute Modification DateTime (DT, in UTC)."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y%m%d%H%M%S%z")


def read_rules(path: Path, modified_at: float) -> AttributeRules:
    """The rules of a file, resolved upon at that time (seconds since 1970).

    ConfigurationError names the rule that is wrong, and how it should look.
    """
    found = _toml(path)
    for key in found.keys() - set(TOP):
        raise ConfigurationError(path.name, f"{key} is not known; known are {', '.join(TOP)}")
    changes = found.get(CHANGE)
    if not isinstance(changes, list) or not changes:
        raise ConfigurationError(path.name, f"says of no attribute how to change it, as in {EXAMPLE}")
    rules = [_rule(path, number, change) for number, change in enumerate(changes, 1)]
    try:
        return attribute_rules(
            rules,
            modification_datetime(modified_at),
            reason=_text(found, "reason", REASONS[0]),
            source=_text(found, "source", ""),
            modifying_system=_text(found, "system", MODIFYING_SYSTEM),
        )
    except ConfigurationError as error:
        raise ConfigurationError(path.name, str(error)) from None


def rules_digest(path: Path) -> str:
    """SHA-256 of a file that `read_rules` takes and of the tables that it names: what a study was changed by."""
    whole = sha256(_bytes(path))
    for change in _toml(path)[CHANGE]:
        if "map" in change:
            whole.update(_bytes(path.parent / change["map"]))
    return whole.hexdigest()


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(str(path), f"cannot be read: {error.strerror}") from None


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(_bytes(path).decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ConfigurationError(path.name, f"is not UTF-8: {error.reason}, byte {error.start}") from None
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(path.name, f"not TOML: {error}") from None


def _text(found: Mapping[str, Any], key: str, default: str | None = None) -> str:
    value = found.get(key, default)
    if not isinstance(value, str):
        raise ConfigurationError(key, "must be text" if key in found else "is not there")
    return value


# ---------------------------------------------------------------------- one rule


class _Kind(NamedTuple):
    """What a rule may do."""

    keys: frozenset[str]
    """Which it may have beside the attribute."""

    example: str
    rule: Callable[[Path, str, Mapping[str, Any]], Rule]


def _rule(path: Path, number: int, change: Any) -> Rule:
    """A [[change]] of the file; ConfigurationError names it."""
    where = f"{path.name}: change {number}"
    if not isinstance(change, dict):
        raise ConfigurationError(where, f"must be a table, as {EXAMPLE}")
    name = change.get("attribute")
    if not isinstance(name, str):
        raise ConfigurationError(where, f"says not which attribute, as in {EXAMPLE}")
    where = f"{where} ({name})"
    chosen = [kind for kind in _KINDS if kind in change]
    if len(chosen) != 1:
        examples = "; or ".join(kind.example for kind in _KINDS.values())
        raise ConfigurationError(where, f"says {'more than one thing' if chosen else 'not what'} to do: {examples}")
    kind = _KINDS[chosen[0]]
    if unknown := sorted(change.keys() - kind.keys - {"attribute", chosen[0]}):
        raise ConfigurationError(where, f"{unknown[0]} does not go with {chosen[0]}, which looks so: {kind.example}")
    try:
        return kind.rule(path.parent, name, change)
    except ConfigurationError as error:
        raise ConfigurationError(where, str(error).removeprefix(f"{name}: ")) from None


def _fixed(_folder: Path, name: str, change: Mapping[str, Any]) -> Rule:
    return fixed(name, _text(change, "value"))


def _removed(_folder: Path, name: str, change: Mapping[str, Any]) -> Rule:
    if change["remove"] is not True:
        raise ConfigurationError("remove", "must be true, or not be there")
    return removed(name)


def _composed(_folder: Path, name: str, change: Mapping[str, Any]) -> Rule:
    return composed(name, _text(change, "template"), _missing(change))


def _mapped(folder: Path, name: str, change: Mapping[str, Any]) -> Rule:
    to = change.get("to")
    columns = {name: to} if isinstance(to, str) else to
    if not isinstance(columns, dict) or not columns or not all(isinstance(each, str) for each in columns.values()):
        raise ConfigurationError("to", 'must be a column, or several: { PatientID = "new", PatientName = "name" }')
    path = folder / _text(change, "map")
    rows = _columns(path, [_text(change, "from"), *columns.values()])
    try:
        return mapped(name, list(columns), rows, _missing(change))
    except ConfigurationError as error:
        if error.field.startswith("row "):
            raise ConfigurationError(path.name, str(error)) from None
        raise


def _missing(change: Mapping[str, Any]) -> Missing:
    text = _text(change, "missing", Missing.REFUSE.value)
    try:
        return Missing(text)
    except ValueError:
        raise ConfigurationError("missing", f"must be {', '.join(each.value for each in Missing)}") from None


def _columns(path: Path, names: Sequence[str]) -> Iterator[tuple[int, str, Sequence[str]]]:
    """The row number and the cells of these columns, the first one by itself; ConfigurationError."""
    rows = table_rows(Worklist(path.name, _bytes(path)))
    _, header = next(rows, (0, []))
    places = [_place(path, header, name) for name in names]
    for number, cells in rows:
        present, *new = (cells[place] if place < len(cells) else "" for place in places)
        yield number, present, new


def _place(path: Path, header: Sequence[str], name: str) -> int:
    places = [place for place, each in enumerate(header) if each.casefold() == name.strip().casefold()]
    if len(places) != 1:
        shown = ", ".join(repr(each) for each in header[:SHOWN_COLUMNS])
        there = f"{len(places)} columns" if places else "no column"
        raise ConfigurationError(path.name, f"{there} {name!r}; there are {shown or 'no columns at all'}")
    return places[0]


_KINDS: Final[dict[str, _Kind]] = {
    "value": _Kind(frozenset(), 'value = "General Hospital"', _fixed),
    "remove": _Kind(frozenset(), "remove = true", _removed),
    "template": _Kind(frozenset(("missing",)), 'template = "{PatientID:08}@HOSPITAL"', _composed),
    "map": _Kind(
        frozenset(("from", "to", "missing")), 'map = "patients.csv" from = "old" to = "new" missing = "refuse"', _mapped
    ),
}
