"""A scripted SCP of storage commitment: requests taken, and reports as good or as bad as a test wants them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from tests.integration import raw
from tests.integration.raw import element, uid
from tests.integration.scripted import Link, Pdu, Recv, Send, Step

STORAGE_COMMITMENT: Final = "1.2.840.10008.1.20.1"
INSTANCE: Final = "1.2.840.10008.1.20.1.1"
EVENT_TYPE, ACTION_TYPE, REQUESTED_SOP_CLASS, REQUESTED_SOP_INSTANCE = 0x1002, 0x1008, 0x0003, 0x1001
ITEM: Final = 0xFFFEE000

CONTEXTS: Final = [raw.context_rq(1, STORAGE_COMMITMENT)]
SCP_ROLE: Final = raw.DEFAULT_USER_ITEMS + raw.role(STORAGE_COMMITMENT, scu=0, scp=1)
"""What a PACS proposes that has something to report."""

ACCEPT: Final[tuple[Step, ...]] = (Recv(raw.ASSOCIATE_RQ), Send(raw.associate_ac()))


def information(
    transaction_uid: str, committed: Iterable[str] = (), failed: Mapping[str, int] | None = None, sop_class: str = ""
) -> bytes:
    """Event Information in implicit VR little endian (PS3.4 Table J.3-2)."""
    sop_class = sop_class or raw.CT_IMAGE

    def item(instance: str, *more: bytes) -> bytes:
        return element(ITEM, b"".join((element(0x00081150, uid(sop_class)), element(0x00081155, uid(instance)), *more)))

    data = element(0x00081195, uid(transaction_uid))
    if failed:
        items = (item(instance, element(0x00081197, raw.us(why))) for instance, why in failed.items())
        data += element(0x00081198, b"".join(items))
    return data + element(0x00081199, b"".join(map(item, committed)))


def report(
    dataset: bytes | None, *, message_id: int = 1, event_type: int = 1, change: Mapping[int, bytes | None] | None = None
) -> bytes:
    """An N-EVENT-REPORT-RQ in context 1 (PS3.7 10.3.1.1)."""
    fields: dict[int, bytes | None] = {
        raw.AFFECTED_SOP_INSTANCE: uid(INSTANCE),
        EVENT_TYPE: raw.us(event_type),
        raw.DATA_SET_TYPE: raw.us(raw.NO_DATA_SET if dataset is None else 1),
    }
    command = raw.request(0x0100, message_id, STORAGE_COMMITMENT, {**fields, **(change or {})})
    return raw.message(1, command, dataset)


@dataclass
class TakeRequest:
    """A step of a script: read an N-ACTION-RQ, keep its data set, and answer with this status; None: not at all."""

    status: int | None = 0
    dataset: bytes = b""

    async def run(self, link: Link, received: list[Pdu]) -> None:
        request = await link.read_reply()
        self.dataset = request.dataset
        assert request.fields[raw.COMMAND_FIELD] == raw.us(0x0130)
        assert request.fields[REQUESTED_SOP_CLASS] == uid(STORAGE_COMMITMENT)
        assert request.fields[REQUESTED_SOP_INSTANCE] == uid(INSTANCE)
        assert request.fields[ACTION_TYPE] == raw.us(1)
        if self.status is not None:
            message_id = int.from_bytes(request.fields[raw.MESSAGE_ID], "little")
            await link.send(action_response(message_id, self.status))


def action_response(message_id: int, status: int) -> bytes:
    """An N-ACTION-RSP in context 1 (PS3.7 10.3.4.2)."""
    change = {raw.AFFECTED_SOP_INSTANCE: uid(INSTANCE), ACTION_TYPE: raw.us(1)}
    return raw.message(1, raw.response(0x8130, message_id, STORAGE_COMMITMENT, status, change))


@dataclass
class ReportAll:
    """A step of a script: say that all that was asked for is committed, and expect this status."""

    taken: TakeRequest
    status: int = 0

    async def run(self, link: Link, received: list[Pdu]) -> None:
        await link.send(report(self.taken.dataset))  # what is asked for is, to the byte, what is committed
        await link.expect_status(self.status)
