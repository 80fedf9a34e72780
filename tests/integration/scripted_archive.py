"""A PACS that serves any number of associations: what it makes of a C-MOVE is a script, what it lists too, if need be.

With `raw` it shares no code with fastmove.  It remembers what was sent and answered with success: that is the truth
against which a verdict is held.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

from fastmove.types import PeerAddress
from tests.integration import raw
from tests.integration.scripted import Link, Pdu, Reply, ScriptedAcceptor, ScriptedRequestor, read_items

HOST: Final = "127.0.0.1"
AE_TITLE: Final = "SCRIPTED"
DEADLINE_S: Final = 5.0
SESSION_S: Final = 30.0
"""For the next request on an association."""

C_FIND_RQ, C_MOVE_RQ, C_CANCEL_RQ = 0x0020, 0x0021, 0x0FFF
C_FIND_RSP: Final = 0x8020
PENDING: Final = 0xFF00
LEVEL, INSTANCE, STUDY, SERIES, COUNT = 0x00080052, 0x00080018, 0x0020000D, 0x0020000E, 0x00201209
FAILED_LIST: Final = 0x00080058

Held = Mapping[str, tuple[str, ...]]
"""Study Instance UID → SOP Instance UIDs; what stands before the last point is the series."""


def series_of(uid: str) -> str:
    """The Series Instance UID of an instance."""
    return uid.rpartition(".")[0]


def study(uid: str, count: int, *, series: int = 1) -> Held:
    """A study of so many instances in each of so many series."""
    return {uid: tuple(f"{uid}.{s}.{n}" for s in range(1, series + 1) for n in range(1, count + 1))}


def elements(data: bytes, *, explicit: bool = False) -> dict[int, str]:
    """The elements of an identifier, as text by tag; little endian, of VRs with a length of two bytes."""
    found, offset = {}, 0
    while offset < len(data):
        group, number, length = struct.unpack_from("<HHI", data, offset)
        if explicit:
            (length,) = struct.unpack_from("<H", data, offset + 6)
        value = data[offset + 8 : offset + 8 + length]
        found[group << 16 | number] = value.decode("ascii").rstrip("\0 ")
        offset += 8 + length
    return found


@dataclass
class ScriptedMove:
    """A C-MOVE under way, for the script to answer; `uids` is what it asks for of what is held."""

    archive: ScriptedArchive
    link: Link
    context_id: int
    message_id: int
    destination: str
    originator: str
    uids: tuple[str, ...]
    number: int
    """1 for the first C-MOVE of this PACS."""

    # ------------------------------------------------------------------ responses

    def response(
        self,
        status: int,
        remaining: int | None = None,
        completed: int | None = None,
        failed: int | None = None,
        warning: int | None = None,
        *,
        identifier: bytes | None = None,
        change: Mapping[int, bytes | None] | None = None,
    ) -> bytes:
        """The bytes of a C-MOVE-RSP."""
        announced = {} if identifier is None else {raw.DATA_SET_TYPE: raw.us(1)}
        counters = (remaining, completed, failed, warning)
        rsp = raw.c_move_rsp(self.message_id, status, counters, {**announced, **(change or {})})
        return raw.message(self.context_id, rsp, identifier)

    async def respond(
        self,
        status: int,
        remaining: int | None = None,
        completed: int | None = None,
        failed: int | None = None,
        warning: int | None = None,
        *,
        identifier: bytes | None = None,
        change: Mapping[int, bytes | None] | None = None,
    ) -> None:
        """Send a C-MOVE-RSP."""
        counters = (remaining, completed, failed, warning)
        await self.link.send(self.response(status, *counters, identifier=identifier, change=change))

    async def succeed(self, completed: int | None = None) -> None:
        """The final response of a move that went well: all were completed, or so many."""
        await self.respond(0, None, len(self.uids) if completed is None else completed, 0, 0)

    async def cancelled(self) -> None:
        """A C-CANCEL-RQ of this move comes."""
        request = await self.link.read_reply()
        assert request.fields[raw.COMMAND_FIELD] == raw.us(C_CANCEL_RQ)
        assert request.responded_to == self.message_id

    async def over(self, within_s: float = SESSION_S) -> bool:
        """True if whoever asked sends something more, or ends the association: nothing else is for it to say."""
        try:
            await self.link.next_type(within_s)
        except TimeoutError:
            return False
        return True

    # ------------------------------------------------------------------ sub-operations

    @asynccontextmanager
    async def storage(
        self, *, called: str | None = None, calling: str = AE_TITLE, source: str = HOST
    ) -> AsyncIterator[ScriptedRequestor]:
        """An association to the move destination, from this address, released at the end."""
        requestor = ScriptedRequestor(HOST, self.archive.destinations[self.destination], DEADLINE_S)
        requestor.sock.bind((source, 0))
        async with requestor:
            await requestor.associate(raw.associate_rq(called=called or self.destination, calling=calling))
            yield requestor
            if requestor.sock.fileno() >= 0:
                await requestor.release()

    def request(self, uid: str, message_id: int = 1) -> bytes:
        """A C-STORE-RQ that says which move it belongs to (PS3.7 9.1.1.1)."""
        origin = {raw.ORIGINATOR_AE: raw.ae(self.originator), raw.ORIGINATOR_ID: raw.us(self.message_id)}
        return raw.c_store_rq(uid, message_id, change=origin if self.archive.originators else None)

    async def send(self, storage: ScriptedRequestor, *uids: str, pixel_bytes: int = 512) -> None:
        """C-STORE of these objects, each of which must be answered with success."""
        for message_id, uid in enumerate(uids, 1):
            data = self.archive.dataset(uid, pixel_bytes)
            await storage.send(raw.message(1, self.request(uid, message_id), data))
            await storage.expect_status(0, message_id)
            self.archive.sent[uid] += 1

    async def store(self, *uids: str, pixel_bytes: int = 512) -> None:
        """The same over an association of their own."""
        async with self.storage() as storage:
            await self.send(storage, *uids, pixel_bytes=pixel_bytes)


Act = Callable[[ScriptedMove], Awaitable[None]]
List = Callable[[str, Sequence[str]], Sequence[str] | None]
"""What a PACS says of the UIDs that it finds, by level; None: it aborts."""


def truly(level: str, uids: Sequence[str]) -> Sequence[str]:
    """All that there is."""
    return uids


@dataclass
class ScriptedArchive:
    """Does what `act` says with each C-MOVE-RQ."""

    act: Act
    studies: dict[str, tuple[str, ...]]
    lists: List = truly
    counts: bool = True
    """It knows Number of Series Related Instances (0020,1209)."""

    originators: bool = True
    """Its C-STORE-RQs say which move they belong to."""

    transfer_syntax: str = raw.IMPLICIT_LE
    sent: Counter[str] = field(default_factory=Counter)
    """How often each object was sent and answered with success, by SOP Instance UID."""

    destinations: dict[str, int] = field(default_factory=dict)
    """Ports on this host, by AE title."""

    moves: int = 0

    async def __aenter__(self) -> ScriptedArchive:
        self._acceptor = ScriptedAcceptor([[self]])
        await self._acceptor.__aenter__()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._acceptor.__aexit__(*exc_info)  # type: ignore[arg-type]

    @property
    def address(self) -> PeerAddress:
        return PeerAddress(AE_TITLE, HOST, self._acceptor.port)

    def instances(self, *studies: str) -> frozenset[str]:
        """The SOP Instance UIDs of these studies, or of all."""
        return frozenset(uid for each in studies or self.studies for uid in self.studies.get(each, ()))

    def dataset(self, uid: str, pixel_bytes: int = 512) -> bytes:
        """The bytes of an object's data set."""
        of = next((study for study, uids in self.studies.items() if uid in uids), "1.2.999")
        return raw.dataset(uid, study=of, pixel_bytes=pixel_bytes)

    def going_to(self, ae_title: str, port: int) -> None:
        """This AE title is that of a listener on this host."""
        self.destinations[ae_title] = port

    # ------------------------------------------------------------------ one association

    async def run(self, link: Link, received: list[Pdu]) -> None:
        """As a step of a script: one association from its beginning to its end."""
        link.deadline = DEADLINE_S
        request = await link.expect(raw.ASSOCIATE_RQ, DEADLINE_S)
        calling = request[20:36].decode("ascii").strip()
        proposed = [data[0] for kind, data in read_items(request[68:]) if kind == 0x20]
        results = [raw.context_ac(number, transfer=self.transfer_syntax) for number in proposed]
        await link.send(raw.associate_ac(results))
        with suppress(EOFError, ConnectionError):  # whoever asked may leave as it likes
            while (kind := await link.next_type(SESSION_S)) == raw.P_DATA:
                await self._perform(link, await link.read_reply(), calling)
            if kind == raw.RELEASE_RQ:
                await link.expect(raw.RELEASE_RQ)
                await link.send(raw.release_rp())
            else:
                assert kind == raw.ABORT, f"A-RELEASE-RQ or A-ABORT expected, got {raw.PDU_NAME.get(kind, kind)}"
        link.close()

    async def _perform(self, link: Link, request: Reply, calling: str) -> None:
        command = int.from_bytes(request.fields[raw.COMMAND_FIELD], "little")
        if command == C_CANCEL_RQ:
            return  # it crossed the final response
        keys = elements(request.dataset, explicit=self.transfer_syntax == raw.EXPLICIT_LE)
        message_id = int.from_bytes(request.fields[raw.MESSAGE_ID], "little")
        if command == C_FIND_RQ:
            await self._find(link, request.context_id, message_id, keys)
            return
        assert command == C_MOVE_RQ
        self.moves += 1
        destination = request.fields[raw.MOVE_DESTINATION].decode("ascii").strip()
        uids = tuple(self._matching(keys))
        move = ScriptedMove(self, link, request.context_id, message_id, destination, calling, uids, self.moves)
        await self.act(move)

    def _matching(self, keys: Mapping[int, str]) -> Iterable[str]:
        """The instances that unique keys cover, each of which may be absent, one value or a list."""
        studies, series, instances = (
            set(filter(None, keys.get(tag, "").split("\\"))) for tag in (STUDY, SERIES, INSTANCE)
        )
        for each, uids in self.studies.items():
            for uid in uids if not studies or each in studies else ():
                if (not series or series_of(uid) in series) and (not instances or uid in instances):
                    yield uid

    async def _find(self, link: Link, context_id: int, message_id: int, keys: Mapping[int, str]) -> None:
        level = keys[LEVEL]
        tag = {"STUDY": STUDY, "SERIES": SERIES, "IMAGE": INSTANCE}[level]
        matching = tuple(self._matching(keys))
        of = {uid: each for each, uids in self.studies.items() for uid in uids}
        named = {"STUDY": of.__getitem__, "SERIES": series_of, "IMAGE": str}[level]
        listed = self.lists(level, list(dict.fromkeys(map(named, matching))))
        if listed is None:
            await link.send(raw.abort())
            return
        for uid in listed:
            values = {LEVEL: raw.ae(level), tag: raw.uid(uid)}
            if level == "IMAGE":
                values[SERIES] = raw.uid(series_of(uid))
            if level == "SERIES" and self.counts:
                values[COUNT] = raw.ae(str(sum(series_of(each) == uid for each in matching)))
            rsp = raw.response(C_FIND_RSP, message_id, raw.STUDY_ROOT_FIND, PENDING, {raw.DATA_SET_TYPE: raw.us(1)})
            identifier = b"".join(self._element(each, value) for each, value in sorted(values.items()))
            await link.send(raw.message(context_id, rsp, identifier))
        await link.send(raw.message(context_id, raw.response(C_FIND_RSP, message_id, raw.STUDY_ROOT_FIND, 0)))

    def _element(self, tag: int, value: bytes) -> bytes:
        if self.transfer_syntax == raw.IMPLICIT_LE:
            return raw.element(tag, value)
        vr = {LEVEL: b"CS", COUNT: b"IS"}.get(tag, b"UI")
        return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, len(value)) + value
