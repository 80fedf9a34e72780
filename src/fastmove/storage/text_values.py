"""What a value that is text may be, by its VR (PS3.5 6.2)."""

from __future__ import annotations

import re
from typing import Final

from fastmove.values import Value

NAME: Final = "PN"

MAX_NAME_GROUPS: Final = 3
MAX_NAME_COMPONENTS: Final = 5
"""Of a person name: alphabetic, ideographic and phonetic, each with family name to suffix (PS3.5 6.2.1)."""

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ufffd]")
_CONTROL_IN_TEXT: Final = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f\ufffd]")
"""What no value has: U+FFFD stands for what could not be read."""

_ANY: Final = re.compile(r"[^\\]*")
_MONTH_AND_DAY: Final = r"(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])"
_TIME: Final = r"([01]\d|2[0-3])([0-5]\d(([0-5]\d|60)(\.\d{1,6})?)?)?"


class TextVr(Value):
    """A VR whose values are text."""

    most: int
    """Characters of each value, of each component group if it is a name; 0: as many as there are."""

    form: re.Pattern[str] = _ANY
    """Of each value that is not empty."""

    example: str = ""
    """What one looks like, if not just anything does."""

    own_characters: bool = False
    """It is in the Specific Character Set of the data set, else in the default one (PS3.5 6.1.2.3)."""

    one_value: bool = False
    """A backslash is a character like others."""


TEXT_VRS: Final[dict[str, TextVr]] = {
    "AE": TextVr(16, re.compile(r"[ -\[\]-~]*"), "ARCHIVE"),
    "AS": TextVr(4, re.compile(r"\d{3}[DWMY]"), "065Y"),
    "CS": TextVr(16, re.compile(r"[A-Z0-9 _]*"), "AXIAL_2"),
    "DA": TextVr(8, re.compile(rf"\d{{4}}{_MONTH_AND_DAY}"), "20261231"),
    "DS": TextVr(16, re.compile(r" *[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)? *"), "-1.5"),
    "DT": TextVr(
        26, re.compile(rf"\d{{4}}(0[1-9]|1[0-2]|{_MONTH_AND_DAY}({_TIME})?)?([-+]\d{{4}})?"), "20261231235959"
    ),
    "IS": TextVr(12, re.compile(r" *[-+]?\d+ *"), "-15"),
    "LO": TextVr(64, own_characters=True),
    "LT": TextVr(10240, own_characters=True, one_value=True),
    "PN": TextVr(64, own_characters=True),
    "SH": TextVr(16, own_characters=True),
    "ST": TextVr(1024, own_characters=True, one_value=True),
    "TM": TextVr(14, re.compile(_TIME), "235959"),
    "UC": TextVr(0, own_characters=True),
    "UI": TextVr(64, re.compile(r"(0|[1-9]\d*)(\.(0|[1-9]\d*))*"), "1.2.840.10008.1.1"),
    "UR": TextVr(0, re.compile(r"[!-~]*"), "https://example.org/"),
    "UT": TextVr(0, own_characters=True, one_value=True),
}
"""All of them."""


def objection(vr: str, text: str) -> str:
    """Why a text is no value of a VR, empty if it is one; without the text, which may be somebody's name."""
    row = TEXT_VRS[vr]
    control = _CONTROL_IN_TEXT if row.one_value else _CONTROL
    if control.search(text):
        return "has a control character, or one that could not be read"
    values = [text] if row.one_value else text.split("\\")
    for value in filter(None, values):
        if vr == NAME:
            groups = value.split("=")
            if len(groups) > MAX_NAME_GROUPS:
                return f"has more than {MAX_NAME_GROUPS} component groups"
            if any(group.count("^") >= MAX_NAME_COMPONENTS for group in groups):
                return f"has more than {MAX_NAME_COMPONENTS} components"
        else:
            groups = [value]
        if row.most and max(map(len, groups)) > row.most:
            return f"has more than {row.most} characters, the most of {vr}"
        if row.form is not _ANY and not row.form.fullmatch(value):
            return f"does not look as {vr} does: {row.example}"
        if row.own_characters is False and not value.isascii():
            return f"has letters that {vr} has not"
    return ""
