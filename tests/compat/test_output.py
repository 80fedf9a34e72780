"""What is written: every output option over every kind of data set."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pytest

from tests.compat.datasets import (
    BIG_ENDIAN,
    DEEP,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    JPEG,
    ODD,
    RLE,
    encapsulated,
    group_lengths,
    group_of,
    padded,
)
from tests.compat.harness import agrees
from tests.compat.script import Object, Release, Respond, Scenario, Storage, Store

pytestmark = pytest.mark.peer("dcmtk")

GROUPS: Final[dict[str, tuple[tuple[Object, ...], str]]] = {  # objects, and the option that makes them welcome
    "plain": (group_of([IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED]), "+xd"),
    "odd": (tuple(ODD.values()), "+xd"),
    "encapsulated": (
        (*group_of([JPEG], [encapsulated]), *group_of([RLE], [encapsulated, group_lengths, padded])),
        "+xa",
    ),
}
CONVERSIONS: Final = ("+te", "+tb", "+ti", "+td")
OPTIONS: Final = (
    "",
    "+B",
    "-F",
    "+B -F",
    "-e",
    "+e",
    "+g",
    "-g",
    "+g=",
    "-u",
    "-p",
    "+p 512 16",
    "+p 1 2",
    "+p 0 64",
    "+p 1024 0",
    "+p 513 0",
    "+p 64 3",
    "-e +p 256 32",
    "-e +g",
    "-e -g",
    "-u -e",
    "+g +p 128 32",
    "+te",
    "+tb",
    "+ti",
    "+td",
    "+te -e +g",
    "+tb -u -g",
    "+ti -e",
    "+td +cl 0",
    "+td +cl 9",
    "+cl 1",
    "-F -e",
    "+ti -F",
    "-up",
)
LONG: Final = (
    *("--bit-preserving", "--normal", "--write-file", "--write-dataset", "--write-xfer-same", "--write-xfer-little"),
    *("--write-xfer-big", "--write-xfer-implicit", "--write-xfer-deflated", "--enable-new-vr", "--disable-new-vr"),
    *("--group-length-recalc", "--group-length-create", "--group-length-remove", "--length-explicit"),
    *("--length-undefined", "--padding-off", "--padding-create 256 16", "--compression-level 3", "--uid-padding"),
)


def outputs() -> Iterator[Scenario]:
    """Options over kinds; what converts is refused together with a preference for something compressed."""
    for kind, (objects, preference) in GROUPS.items():
        for option in OPTIONS:
            if kind == "encapsulated" and option.startswith(CONVERSIONS):
                continue
            yield scenario(f"output/{kind} {option}".strip(), objects, preference, option)
    for option in LONG:
        yield scenario(f"output/plain {option}", GROUPS["plain"][0], "+xd", option)
    for conversion in CONVERSIONS:
        yield scenario(f"output/encapsulated {conversion}, refused", GROUPS["encapsulated"][0], "+xa", conversion)
    for option in ("", "+B", "-e", "+te", "+ti -e", "+tb", "+td", "-g"):
        yield scenario(f"output/forty deep {option}".strip(), (DEEP,), "", option)
    for option in ("", "+B", "-e", "+ti", "-g"):
        yield scenario(f"output/every preference off {option}".strip(), group_of([EXPLICIT, IMPLICIT]), "+xi", option)


def scenario(name: str, objects: tuple[Object, ...], preference: str, option: str) -> Scenario:
    """All objects over one storage association."""
    steps = [*(Store(own, number) for number, own in enumerate(objects, 1)), Release()]
    return Scenario(name, (*preference.split(), *option.split()), [[Storage(steps), Respond()]])


SCENARIOS: Final = tuple(outputs())


@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
async def test_files_are_as_movescu_writes_them(scenario: Scenario) -> None:
    await agrees(scenario)
