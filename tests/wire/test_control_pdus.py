"""The wire vectors of the six control PDUs: NAME.hex, and NAME.json with "pdu" and "fields", or "fault" and "offset".

One that is not "canonical" says something that we would write otherwise.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from fastmove.errors import RemoteProtocolError
from fastmove.limits import PDU_HEADER_BYTES
from fastmove.ul import pdu
from fastmove.values import Value
from tests.wire.test_vectors import DIRECTORY, stream_of


def vectors(key: str) -> list[Any]:
    """The vectors whose description has this key."""
    found = []
    for path in sorted(DIRECTORY.glob("a_*.json")):
        description = json.loads(path.read_text())
        if key in description:
            found.append(pytest.param(stream_of(path.with_suffix(".hex")), description, id=path.stem))
    return found


def as_json(value: pdu.Pdu) -> dict[str, Any]:
    """The fields of a PDU as JSON has them; byte strings are hexadecimal there."""

    def plain(part: Value | bytes) -> Any:
        return part.hex() if isinstance(part, bytes) else {name: getattr(part, name) for name in part.fields}

    return json.loads(json.dumps(value, default=plain))


def decode(stream: bytes) -> pdu.Pdu:
    return pdu.decode(stream[0], stream[PDU_HEADER_BYTES:])


@pytest.mark.parametrize(("stream", "description"), vectors("pdu") + vectors("fault"))
def test_vector_is_one_whole_pdu(stream: bytes, description: dict[str, Any]) -> None:
    assert int.from_bytes(stream[2:6], "big") == len(stream) - PDU_HEADER_BYTES


@pytest.mark.parametrize(("stream", "description"), vectors("pdu"))
def test_vector_is_decoded(stream: bytes, description: dict[str, Any]) -> None:
    value = decode(stream)
    assert type(value).__name__ == description["pdu"]
    assert as_json(value) == description["fields"]


@pytest.mark.parametrize(("stream", "description"), vectors("pdu"))
def test_vector_is_encoded_byte_for_byte_if_canonical(stream: bytes, description: dict[str, Any]) -> None:
    assert (decode(stream).encode() == stream) == description.get("canonical", True)


@pytest.mark.parametrize(("stream", "description"), vectors("fault"))
def test_malformed_vector_has_its_fault(stream: bytes, description: dict[str, Any]) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        decode(stream)
    assert {"fault": caught.value.key, "offset": caught.value.offset} == description


@pytest.mark.parametrize(("stream", "description"), vectors("pdu"))
def test_vector_cut_at_any_offset_is_a_pdu_or_a_fault(stream: bytes, description: dict[str, Any]) -> None:
    for end in range(PDU_HEADER_BYTES, len(stream)):
        try:
            decode(stream[:end])
        except RemoteProtocolError as error:
            assert error.key.startswith(("rq.", "ac.malformed", "pdu.length")), f"cut at {end}"
