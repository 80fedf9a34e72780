"""Builders of raw PDUs and command sets, every field free to be wrong.

It shares no code with fastmove, so that a bug of ours cannot cancel itself out.  Layouts are those
of PS3.8 9.3 (PDUs) and PS3.7 6.3 (command sets).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

ASSOCIATE_RQ, ASSOCIATE_AC, ASSOCIATE_RJ, P_DATA, RELEASE_RQ, RELEASE_RP, ABORT = range(1, 8)
PDU_NAME: Final = {
    ASSOCIATE_RQ: "A-ASSOCIATE-RQ",
    ASSOCIATE_AC: "A-ASSOCIATE-AC",
    ASSOCIATE_RJ: "A-ASSOCIATE-RJ",
    P_DATA: "P-DATA-TF",
    RELEASE_RQ: "A-RELEASE-RQ",
    RELEASE_RP: "A-RELEASE-RP",
    ABORT: "A-ABORT",
}

APPLICATION_CONTEXT: Final = "1.2.840.10008.3.1.1.1"
VERIFICATION: Final = "1.2.840.10008.1.1"
CT_IMAGE: Final = "1.2.840.10008.5.1.4.1.1.2"
MR_IMAGE: Final = "1.2.840.10008.5.1.4.1.1.4"
STUDY_ROOT_FIND: Final = "1.2.840.10008.5.1.4.1.2.2.1"
STUDY_ROOT_MOVE: Final = "1.2.840.10008.5.1.4.1.2.2.2"
IMPLICIT_LE: Final = "1.2.840.10008.1.2"
EXPLICIT_LE: Final = "1.2.840.10008.1.2.1"

COMMAND, LAST = 1, 2  # bits of the message control header (PS3.8 E.2)

AFFECTED_SOP_CLASS, COMMAND_FIELD, MESSAGE_ID, RESPONDED_TO = 0x0002, 0x0100, 0x0110, 0x0120
MOVE_DESTINATION, PRIORITY, DATA_SET_TYPE, STATUS = 0x0600, 0x0700, 0x0800, 0x0900
AFFECTED_SOP_INSTANCE, REMAINING, COMPLETED, FAILED, WARNING = 0x1000, 0x1020, 0x1021, 0x1022, 0x1023
ORIGINATOR_AE, ORIGINATOR_ID = 0x1030, 0x1031
NO_DATA_SET: Final = 0x0101


# PDUs and items (PS3.8 9.3)


def pdu(pdu_type: int, data: bytes = b"", *, length: int | None = None) -> bytes:
    """A PDU; `length` lies about the PDU-length."""
    return struct.pack(">BxI", pdu_type, len(data) if length is None else length) + data


def item(item_type: int, data: bytes | str = b"", *, length: int | None = None, reserved: int = 0) -> bytes:
    """An item or sub-item of an A-ASSOCIATE PDU."""
    data = data.encode("ascii") if isinstance(data, str) else data
    return struct.pack(">BBH", item_type, reserved, len(data) if length is None else length) + data


def context_rq(context_id: int, abstract: Sequence[str] | str, transfers: Sequence[str] = (IMPLICIT_LE,)) -> bytes:
    """A proposed presentation context (20H); `abstract` may be several or none."""
    syntaxes = [abstract] if isinstance(abstract, str) else abstract
    subs = [item(0x30, uid) for uid in syntaxes] + [item(0x40, uid) for uid in transfers]
    return item(0x20, struct.pack(">BxBx", context_id, 0) + b"".join(subs))


def context_ac(context_id: int, result: int = 0, transfer: str = IMPLICIT_LE) -> bytes:
    """An answered presentation context (21H)."""
    return item(0x21, struct.pack(">BxBx", context_id, result) + item(0x40, transfer))


def max_length(value: int) -> bytes:
    """The Maximum Length sub-item (51H, PS3.8 D.1)."""
    return item(0x51, struct.pack(">I", value))


def role(sop_class: str, scu: int = 1, scp: int = 1, *, uid_length: int | None = None) -> bytes:
    """An SCP/SCU role selection sub-item (54H, PS3.7 D.3.3.4)."""
    length = len(sop_class) if uid_length is None else uid_length
    return item(0x54, struct.pack(">H", length) + sop_class.encode("ascii") + bytes((scu, scp)))


def user_identity(kind: int, primary: bytes, secondary: bytes = b"", *, primary_length: int | None = None) -> bytes:
    """A user identity sub-item (58H, PS3.7 D.3.3.7) that asks for no positive response."""
    length = len(primary) if primary_length is None else primary_length
    return item(0x58, struct.pack(">BBH", kind, 0, length) + primary + struct.pack(">H", len(secondary)) + secondary)


DEFAULT_USER_ITEMS: Final = max_length(65536) + item(0x52, "1.2.826.0.1.3680043.10.9999.1")
DEFAULT_CONTEXTS: Final = (context_rq(1, CT_IMAGE), context_rq(3, VERIFICATION))


def associate(
    pdu_type: int = ASSOCIATE_RQ,
    *,
    called: bytes | str = "FASTMOVE",
    calling: bytes | str = "SCRIPTED",
    contexts: Iterable[bytes] = DEFAULT_CONTEXTS,
    user_items: bytes = DEFAULT_USER_ITEMS,
    application_context: str | None = APPLICATION_CONTEXT,
    items: bytes | None = None,
    extra_items: bytes = b"",
    version: int = 1,
    reserved: bytes = bytes(2),
    reserved_32: bytes = bytes(32),
    length: int | None = None,
) -> bytes:
    """An A-ASSOCIATE-RQ or -AC; `items` replaces all variable items, `extra_items` goes behind them."""
    if items is None:
        name = b"" if application_context is None else item(0x10, application_context)
        items = name + b"".join(contexts) + item(0x50, user_items)
    titles = [title.encode("ascii") if isinstance(title, str) else title for title in (called, calling)]
    head = struct.pack(">H", version) + reserved + b"".join(t.ljust(16)[:16] for t in titles) + reserved_32
    return pdu(pdu_type, head + items + extra_items, length=length)


def associate_rq(**fields: object) -> bytes:
    """An A-ASSOCIATE-RQ; fields as of `associate`."""
    return associate(ASSOCIATE_RQ, **fields)  # type: ignore[arg-type]


def associate_ac(results: Iterable[bytes] = (context_ac(1),), **fields: object) -> bytes:
    """An A-ASSOCIATE-AC; fields as of `associate`."""
    return associate(ASSOCIATE_AC, contexts=results, **fields)  # type: ignore[arg-type]


def associate_rj(result: int = 1, source: int = 1, reason: int = 1) -> bytes:
    """An A-ASSOCIATE-RJ (PS3.8 9.3.4)."""
    return pdu(ASSOCIATE_RJ, bytes((0, result, source, reason)))


def abort(source: int = 0, reason: int = 0, *, data: bytes | None = None) -> bytes:
    """An A-ABORT (PS3.8 9.3.8)."""
    return pdu(ABORT, bytes((0, 0, source, reason)) if data is None else data)


def release_rq(data: bytes = bytes(4), *, length: int | None = None) -> bytes:
    """An A-RELEASE-RQ (PS3.8 9.3.6)."""
    return pdu(RELEASE_RQ, data, length=length)


def release_rp(data: bytes = bytes(4)) -> bytes:
    """An A-RELEASE-RP (PS3.8 9.3.7)."""
    return pdu(RELEASE_RP, data)


def pdv(context_id: int, control: int, data: bytes = b"", *, length: int | None = None) -> bytes:
    """A presentation data value item (PS3.8 9.3.5.1, E.2)."""
    return struct.pack(">IBB", len(data) + 2 if length is None else length, context_id, control) + data


def p_data(*pdvs: bytes, length: int | None = None) -> bytes:
    """A P-DATA-TF PDU of these PDVs."""
    return pdu(P_DATA, b"".join(pdvs), length=length)


def message(context_id: int, command: bytes, dataset: bytes | None = None, *, fragment: int = 16000) -> bytes:
    """A DIMSE message, one PDV a PDU, the data set in fragments of at most `fragment` bytes."""
    out = [p_data(pdv(context_id, COMMAND | LAST, command))]
    if dataset is not None:
        starts = range(0, len(dataset), fragment) or (0,)
        for start in starts:
            last = LAST if start + fragment >= len(dataset) else 0
            out.append(p_data(pdv(context_id, last, dataset[start : start + fragment])))
    return b"".join(out)


# Command sets, implicit VR little endian (PS3.7 6.3.1)


def us(value: int) -> bytes:
    """An unsigned short."""
    return struct.pack("<H", value)


def uid(value: str, pad: bytes = b"\0") -> bytes:
    """A UID, padded to even length."""
    data = value.encode("ascii")
    return data + pad * (len(data) % 2)


def ae(value: str) -> bytes:
    """An AE title, padded to even length."""
    return uid(value, b" ")


def element(tag: int, value: bytes, *, length: int | None = None) -> bytes:
    """An implicit VR little endian element; `tag` is 0xGGGGEEEE."""
    return struct.pack("<HHI", tag >> 16, tag & 0xFFFF, len(value) if length is None else length) + value


def command_set(elements: bytes, group_length: int | None = -1) -> bytes:
    """The elements with their group length before them: None leaves it out, -1 stands for the right one."""
    if group_length is None:
        return elements
    return element(0, struct.pack("<I", len(elements) if group_length == -1 else group_length)) + elements


def command(fields: Mapping[int, bytes], change: Mapping[int, bytes | None] | None = None) -> bytes:
    """A command set of fields in ascending order; `change` replaces and adds, None takes away."""
    merged = {**fields, **(change or {})}
    return command_set(b"".join(element(tag, value) for tag, value in sorted(merged.items()) if value is not None))


def request(field: int, message_id: int, sop_class: str, change: Mapping[int, bytes | None] | None = None) -> bytes:
    """Any request: C-ECHO as it stands, the rest by `change`."""
    fields = {
        AFFECTED_SOP_CLASS: uid(sop_class),
        COMMAND_FIELD: us(field),
        MESSAGE_ID: us(message_id),
        DATA_SET_TYPE: us(NO_DATA_SET),
    }
    return command(fields, change)


def c_echo_rq(message_id: int = 1, change: Mapping[int, bytes | None] | None = None) -> bytes:
    """A C-ECHO-RQ (PS3.7 9.3.5.1)."""
    return request(0x0030, message_id, VERIFICATION, change)


def c_store_rq(
    sop_instance: str, message_id: int = 1, sop_class: str = CT_IMAGE, change: Mapping[int, bytes | None] | None = None
) -> bytes:
    """A C-STORE-RQ (PS3.7 9.3.1.1)."""
    fields = {PRIORITY: us(0), DATA_SET_TYPE: us(1), AFFECTED_SOP_INSTANCE: uid(sop_instance)}
    return request(0x0001, message_id, sop_class, {**fields, **(change or {})})


def response(
    field: int, responded_to: int, sop_class: str, status: int, change: Mapping[int, bytes | None] | None = None
) -> bytes:
    """Any response without a data set; `field` has bit 15 set."""
    fields = {
        AFFECTED_SOP_CLASS: uid(sop_class),
        COMMAND_FIELD: us(field),
        RESPONDED_TO: us(responded_to),
        DATA_SET_TYPE: us(NO_DATA_SET),
        STATUS: us(status),
    }
    return command(fields, change)


def c_store_rsp(responded_to: int, sop_instance: str, status: int = 0, sop_class: str = CT_IMAGE) -> bytes:
    """A C-STORE-RSP (PS3.7 9.3.1.2)."""
    return response(0x8001, responded_to, sop_class, status, {AFFECTED_SOP_INSTANCE: uid(sop_instance)})


def c_move_rsp(
    responded_to: int,
    status: int,
    counters: Sequence[int | None] = (None, None, None, None),
    change: Mapping[int, bytes | None] | None = None,
) -> bytes:
    """A C-MOVE-RSP (PS3.7 9.3.4.2); counters: remaining, completed, failed, warning."""
    tags = (REMAINING, COMPLETED, FAILED, WARNING)
    counted = {tag: us(n) for tag, n in zip(tags, counters, strict=True) if n is not None}
    return response(0x8021, responded_to, STUDY_ROOT_MOVE, status, {**counted, **(change or {})})


def decode_command(data: bytes) -> dict[int, bytes]:
    """The element values of a command set by element number."""
    fields, offset = {}, 0
    while offset < len(data):
        group, number, length = struct.unpack_from("<HHI", data, offset)
        assert group == 0 and offset + 8 + length <= len(data), f"malformed command set: {data.hex()}"
        fields[number] = data[offset + 8 : offset + 8 + length]
        offset += 8 + length
    return fields


# Data sets, implicit VR little endian


def dataset(sop_instance: str, sop_class: str = CT_IMAGE, study: str = "1.2.3", pixel_bytes: int = 512) -> bytes:
    """A small image object: its UIDs, and pixel data that differs from instance to instance."""
    fields = {
        0x00080016: uid(sop_class),
        0x00080018: uid(sop_instance),
        0x00080060: b"CT",
        0x00100020: b"SCRIPTED",
        0x0020000D: uid(study),
        0x0020000E: uid(study + ".1"),
    }
    seed = sum(sop_instance.encode("ascii"))
    pixels = bytes((seed + i) & 0xFF for i in range(256)) * (pixel_bytes // 256 + 1)
    head = b"".join(element(tag, value) for tag, value in fields.items())
    return head + element(0x7FE00010, pixels[:pixel_bytes])


def part10_dataset(part10: bytes) -> bytes:
    """The data set bytes of a Part 10 file: what follows the file meta information (PS3.10 7.1)."""
    assert part10[:132] == bytes(128) + b"DICM", "no preamble of zeros and DICM prefix"
    group, number, vr, size, length = struct.unpack_from("<HH2sHI", part10, 132)
    assert (group, number, vr, size) == (2, 0, b"UL", 4), "no group length first"
    return part10[144 + length :]
