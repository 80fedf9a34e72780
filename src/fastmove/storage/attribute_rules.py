"""How attributes are changed on their way into a file: rules as values, from the texts of a data set to new ones.

All rules go by what the data set says before any of them, and no two are about the same attribute.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Final

from fastmove.dictionary import RETIRED, standard
from fastmove.errors import ConfigurationError, StorageError
from fastmove.storage.content import CANNOT_UNDERSTAND
from fastmove.storage.template import SHORTHANDS, nearest
from fastmove.storage.text_values import TEXT_VRS, objection
from fastmove.values import Value

ORIGINAL_ATTRIBUTES: Final = 0x04000561
"""Original Attributes Sequence (PS3.3 C.12.1.1.9)."""

SPECIFIC_CHARACTER_SET: Final = 0x00080005

REASONS: Final = ("COERCE", "CORRECT")
"""Reason for the Attribute Modification (0400,0565)."""

MODIFYING_SYSTEM: Final = "FASTMOVE"

_KEPT: Final[dict[int, str]] = {
    SPECIFIC_CHARACTER_SET: "all text of an object is written in it",
    0x00080016: "it says what the object is",
    0x00080018: "it says which object it is, and others refer to it",
    0x0020000D: "objects of a study refer to it",
    0x0020000E: "objects of a series refer to it",
}
"""What no rule changes, and why."""

_PIXELS: Final = 0x0028
"""The group of what describes the pixels: with other values there they would be other pixels."""

_NUMBER: Final = re.compile(r"\(?([0-9A-Fa-f]{4}),([0-9A-Fa-f]{4})\)?")
_FIELD: Final = re.compile(r"\{([^{}]*)\}")
_ZEROS: Final = re.compile(r"0[1-9]\d?")
_CASES: Final = {"upper": str.upper, "lower": str.lower}

Texts = Mapping[int, str]
"""What a data set says, by tag, without padding; empty for what it does not say."""

REMOVE: Final = None
Changes = Iterator[tuple["Attribute", str | None]]
"""Which attributes are to have which text; REMOVE: none of them is to be there."""


class Missing(Enum):
    """What becomes of an attribute if a rule has nothing for it: no row in a map, an empty field of a template."""

    KEEP = "keep"
    """It stays as it is."""

    REFUSE = "refuse"
    """The object is not stored."""

    EMPTY = "empty"


class Attribute(Value):
    """An attribute that is text."""

    tag: int
    vr: str
    keyword: str


def attribute(name: str) -> Attribute:
    """The attribute of a keyword, a shorthand of templates, or `gggg,eeee`; ConfigurationError if it is no text."""
    number = _NUMBER.fullmatch(name)
    tag = int(number[1] + number[2], 16) if number else SHORTHANDS.get(name) or standard().tag(name)
    if tag is None:
        meant = nearest(name)
        raise ConfigurationError(name, "is no attribute" + (f"; do you mean {meant}?" if meant else ""))
    if tag >> 16 < 0x0008 or tag & 0x10000:
        raise ConfigurationError(name, "is not of the data set itself, or private")
    vr, keyword = standard().row(tag) or ("UN", "")
    if vr not in TEXT_VRS:
        raise ConfigurationError(name, f"is no text: its VR is {vr}" if keyword else "is no attribute that is known")
    return Attribute(tag, vr, keyword.removeprefix(RETIRED))


def target(name: str) -> Attribute:
    """The same of one that may be changed."""
    found = attribute(name)
    if why := _KEPT.get(found.tag):
        raise ConfigurationError(name, f"is not changed: {why}")
    if found.tag >> 16 == _PIXELS:
        raise ConfigurationError(name, "is not changed: it describes the pixels")
    return found


def refused(event: str, what: Attribute, why: str) -> StorageError:
    """An object that is not stored for what a rule says; the comment, which goes to the sender, has no values in it."""
    return StorageError(event, CANNOT_UNDERSTAND, f"{what.keyword} {why}")


class Rule(Value):
    """What becomes of some attributes."""

    @property
    def targets(self) -> tuple[Attribute, ...]:
        """Those that it changes."""
        raise NotImplementedError

    @property
    def sources(self) -> tuple[Attribute, ...]:
        """Those whose texts it goes by."""
        return ()

    def changes(self, texts: Texts) -> Changes:
        """What to change in a data set that says this of its sources; StorageError if it is not to be stored."""
        raise NotImplementedError


class Fixed(Rule):
    """An attribute has this value, or none: then it is empty, or not there (REMOVE)."""

    attribute: Attribute
    value: str | None

    @property
    def targets(self) -> tuple[Attribute, ...]:
        """Those that it changes."""
        return (self.attribute,)

    def changes(self, texts: Texts) -> Changes:
        """What to change."""
        yield self.attribute, self.value


class Mapped(Rule):
    """A table says what goes in the place of what."""

    key: Attribute
    """What is looked for in it."""

    columns: tuple[Attribute, ...]
    """What it has new values for."""

    rows: Mapping[str, tuple[str, ...]]
    """By the present value of the key; an empty one is none."""

    missing: Missing = Missing.REFUSE

    secret = frozenset(("rows",))

    @property
    def targets(self) -> tuple[Attribute, ...]:
        """Those that it changes."""
        return self.columns

    @property
    def sources(self) -> tuple[Attribute, ...]:
        """Those whose texts it goes by."""
        return (self.key,)

    def changes(self, texts: Texts) -> Changes:
        """What to change."""
        row = self.rows.get(texts[self.key.tag], ("",) * len(self.columns))
        for column, new in zip(self.columns, row, strict=True):
            if new:
                yield column, new
            elif self.missing is Missing.REFUSE:
                raise refused("store.rule_unmapped", self.key, f"is not in the map ({column.keyword})")
            elif self.missing is Missing.EMPTY:
                yield column, ""


class Field(Value):
    """An attribute in a template, and what is done with its text."""

    attribute: Attribute
    zeros: int = 0
    """In front of it, until it has so many characters."""

    case: str = ""
    """`upper` or `lower`."""

    def text(self, texts: Texts) -> str:
        """Its text; empty if there is none."""
        found = texts[self.attribute.tag]
        found = _CASES[self.case](found) if self.case else found
        return found.rjust(self.zeros, "0") if found else ""  # a sign is a character like others


class Composed(Rule):
    """An attribute is put together of others, or of itself, with text around them."""

    attribute: Attribute
    literals: tuple[str, ...]
    """Before, between and behind the fields."""

    fields_between: tuple[Field, ...]
    missing: Missing = Missing.REFUSE

    @property
    def targets(self) -> tuple[Attribute, ...]:
        """Those that it changes."""
        return (self.attribute,)

    @property
    def sources(self) -> tuple[Attribute, ...]:
        """Those whose texts it goes by."""
        return tuple(field.attribute for field in self.fields_between)

    def changes(self, texts: Texts) -> Changes:
        """What to change."""
        found = [(field.attribute, field.text(texts)) for field in self.fields_between]
        lacking = next((of for of, text in found if not text), None)
        if lacking is None:
            after = (text + literal for (_, text), literal in zip(found, self.literals[1:], strict=True))
            yield self.attribute, self.literals[0] + "".join(after)
        elif self.missing is Missing.REFUSE:
            raise refused("store.rule_unmapped", lacking, f"is empty ({self.attribute.keyword} is made of it)")
        elif self.missing is Missing.EMPTY:
            yield self.attribute, ""


class AttributeRules(Value):
    """What is changed of each object, and what is written down of it in the object itself (PS3.3 C.12.1.1.9)."""

    rules: tuple[Rule, ...]

    modified: str
    """Attribute Modification DateTime: when this was resolved upon, the same however often an object comes."""

    reason: str = REASONS[0]
    source: str = ""
    """Source of Previous Values, if it is known."""

    modifying_system: str = MODIFYING_SYSTEM

    @property
    def targets(self) -> Mapping[int, Attribute]:
        """What is changed, by tag."""
        return {each.tag: each for rule in self.rules for each in rule.targets}

    @property
    def sources(self) -> Mapping[int, Attribute]:
        """What rules go by."""
        return {each.tag: each for rule in self.rules for each in rule.sources}

    def changes(self, texts: Texts) -> dict[Attribute, str | None]:
        """The new text of each attribute that is to have one, in the order of tags; StorageError."""
        found = {to_change: new for rule in self.rules for to_change, new in rule.changes(texts)}
        return dict(sorted(found.items(), key=lambda each: each[0].tag))


# ---------------------------------------------------------------------- made of what people write


def fixed(name: str, value: str) -> Fixed:
    """An attribute has this value, or is empty; ConfigurationError."""
    return Fixed(_valued(target(name), value), value)


def removed(name: str) -> Fixed:
    """An attribute is not there; ConfigurationError."""
    return Fixed(target(name), REMOVE)


def mapped(
    key: str, columns: Sequence[str], rows: Iterable[tuple[int, str, Sequence[str]]], missing: Missing = Missing.REFUSE
) -> Mapped:
    """Attributes (`columns`) have what the row of the present `key` says; ConfigurationError names what is wrong.

    Rows are a number for messages, the present value, and the new ones in the order of the columns.
    """
    targets = tuple(map(target, columns))
    found: dict[str, tuple[str, ...]] = {}
    for number, present, new in rows:
        if not present:
            raise ConfigurationError(f"row {number}", f"there is no present {key}")
        for column, value in zip(targets, new, strict=True):
            if wrong := objection(column.vr, value):
                raise ConfigurationError(f"row {number}", f"the new {column.keyword} {wrong}")
        if found.setdefault(present, tuple(new)) != tuple(new):
            raise ConfigurationError(f"row {number}", f"another row has the same {key}, and says otherwise")
    return Mapped(attribute(key), targets, found, missing)


def composed(name: str, template: str, missing: Missing = Missing.REFUSE) -> Composed:
    """An attribute is what a template says, as `{PatientID:08}@HOSPITAL`; ConfigurationError says what is wrong."""
    pieces = _FIELD.split(template)
    literals, fields = pieces[0::2], pieces[1::2]
    if any(brace in literal for literal in literals for brace in "{}"):
        raise ConfigurationError(name, f"{template!r} has a brace without its other half")
    if not fields:
        raise ConfigurationError(name, f"{template!r} has no field, such as {{PatientID}}: say value = instead")
    made = Composed(target(name), tuple(literals), tuple(map(_field, fields)), missing)
    if wrong := objection("UT" if TEXT_VRS[made.attribute.vr].one_value else "UC", "".join(literals)):
        raise ConfigurationError(name, f"{template!r} {wrong}")
    return made


def attribute_rules(
    rules: Iterable[Rule],
    modified: str,
    *,
    reason: str = REASONS[0],
    source: str = "",
    modifying_system: str = MODIFYING_SYSTEM,
) -> AttributeRules:
    """Rules that may go together; `modified` is a DT.  ConfigurationError says which do not."""
    made = AttributeRules(tuple(rules), modified, reason, source, modifying_system)
    seen: set[int] = set()
    for each in (each for rule in made.rules for each in rule.targets):
        if each.tag in seen:
            raise ConfigurationError(each.keyword, "is changed twice")
        seen.add(each.tag)
    if not seen:
        raise ConfigurationError("change", "nothing is changed: there have to be rules")
    if reason not in REASONS:
        raise ConfigurationError("reason", f"must be {' or '.join(REASONS)}, not {reason!r}")
    for name, vr, text in (("source", "LO", source), ("system", "LO", modifying_system), ("modified", "DT", modified)):
        wrong = objection(vr, text) or ("" if text.isascii() and "\\" not in text else "has to be one ASCII value")
        if wrong or (not text and name != "source"):
            raise ConfigurationError(name, wrong or "must not be empty")
    return made


def _valued(of: Attribute, value: str) -> Attribute:
    if wrong := objection(of.vr, value):
        raise ConfigurationError(of.keyword, f"{value!r} {wrong}")
    return of


def _field(text: str) -> Field:
    name, _, operations = text.partition(":")
    made = Field(attribute(name))
    for operation in filter(None, operations.split(",")):
        if operation in _CASES:
            made = made.replace(case=operation)
        elif _ZEROS.fullmatch(operation):
            made = made.replace(zeros=int(operation))
        else:
            raise ConfigurationError(
                name, f"{operation!r} is none of upper, lower, and 08 for zeros up to 8 characters"
            )
    return made
