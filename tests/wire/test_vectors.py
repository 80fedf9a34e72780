"""Every wire vector, whole, byte by byte, and cut at every offset, on the compiled receiver and on the reference.

A vector is NAME.hex (hexadecimal, `#` starts a comment) and NAME.json (what it says).  Those with "events"
are streams for the receiver.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.wire.receiving import Receiving
from tests.wire.reference import Command, Control, Dataset, Event, Invalid, Unexpected, events

DIRECTORY = Path(__file__).with_name("vectors")
KINDS = {"control": Control, "command": Command, "dataset": Dataset, "invalid": Invalid, "unexpected": Unexpected}


def stream_of(path: Path) -> bytes:
    """The bytes of a .hex file."""
    return bytes.fromhex("".join(line.partition("#")[0] for line in path.read_text().splitlines()))


def expected_of(description: dict[str, Any]) -> list[Event]:
    """The events of a .json file; byte strings are hexadecimal there."""
    found = []
    for kind, first, *rest in description["events"]:
        values = (bytes.fromhex(value) if isinstance(value, str) else value for value in rest)
        found.append(KINDS[kind](first, *values))
    return found


def streams() -> list[Any]:
    found = []
    for path in sorted(DIRECTORY.glob("*.json")):
        description = json.loads(path.read_text())
        if "events" in description:
            found.append(pytest.param(stream_of(path.with_suffix(".hex")), description, id=path.stem))
    return found


def settings(description: dict[str, Any]) -> dict[str, Any]:
    return {key: description[key] for key in ("max_pdu_length", "accepted", "data_allowed") if key in description}


@pytest.mark.parametrize(("stream", "description"), streams())
def test_reference_reads_the_vector(stream: bytes, description: dict[str, Any]) -> None:
    assert events(stream, **settings(description)) == expected_of(description)


@pytest.mark.parametrize(("stream", "description"), streams())
def test_receiver_reads_the_vector_whole(stream: bytes, description: dict[str, Any]) -> None:
    assert Receiving(**settings(description)).feed_all([stream]) == expected_of(description)


@pytest.mark.parametrize(("stream", "description"), streams())
def test_receiver_knows_after_each_byte_what_the_reference_knows(stream: bytes, description: dict[str, Any]) -> None:
    receiving = Receiving(**settings(description))
    for end in range(1, len(stream) + 1):
        receiving.feed(stream[end - 1 : end])
        assert receiving.events == events(stream[:end], **settings(description)), f"after byte {end}"


@pytest.mark.parametrize(("stream", "description"), streams())
def test_receiver_reads_the_vector_cut_at_every_offset(stream: bytes, description: dict[str, Any]) -> None:
    for cut in range(1, len(stream)):
        pieces = [stream[:cut], stream[cut:]]
        assert Receiving(**settings(description)).feed_all(pieces) == expected_of(description), f"cut at {cut}"
