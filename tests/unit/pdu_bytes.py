"""A-ASSOCIATE PDUs put together byte by byte, right or wrong: shared by the tests."""

from __future__ import annotations

import struct

import pytest

from fastmove.errors import RemoteProtocolError
from fastmove.ul import pdu

APPLICATION_CONTEXT = b"1.2.840.10008.3.1.1.1"


def item(item_type: int, body: bytes = b"", length: int | None = None) -> bytes:
    return struct.pack(">BxH", item_type, len(body) if length is None else length) + body


def context(context_id: int = 1, *sub_items: bytes) -> bytes:
    return item(0x20, bytes((context_id, 0, 0, 0)) + b"".join(sub_items or (item(0x30, b"1.2"), item(0x40, b"1.3"))))


def associate(*items: bytes, version: int = 1, called: bytes = b"CALLED", calling: bytes = b"CALLING") -> bytes:
    """The bytes of an A-ASSOCIATE-RQ or -AC after the PDU header."""
    return struct.pack(">Hxx16s16s32x", version, called.ljust(16), calling.ljust(16)) + b"".join(items)


def request(*items: bytes) -> bytes:
    return associate(item(0x10, APPLICATION_CONTEXT), *items)


def user(*sub_items: bytes) -> bytes:
    return item(0x50, b"".join(sub_items))


def fault_of(data: bytes, pdu_type: int = 1) -> str:
    with pytest.raises(RemoteProtocolError) as caught:
        pdu.decode(pdu_type, data)
    return caught.value.key
