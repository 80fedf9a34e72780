"""A PACS whose C-MOVE is a script: responses at will, and storage sub-operations to the listener of a `Retrieve`."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from fastmove.cli.exit_codes import for_outcome
from fastmove.dimse.move import Verdict
from fastmove.limits import Limits
from fastmove.notices import ListenerStarted, Notice, PeerMisbehaved
from fastmove.services.retrieve.config import RetrieveConfig, RetrieveResult
from fastmove.services.retrieve.session import Retrieve
from fastmove.storage.options import WriteOptions
from fastmove.storage.target import StorageTarget
from fastmove.types import PeerAddress
from tests.integration import raw
from tests.integration.scripted import Link, Pdu, Recv, Reply, ScriptedAcceptor, ScriptedRequestor, Send

A, B, C = UIDS = ("1.2.3.1.1", "1.2.3.1.2", "1.2.3.1.3")
"""What there is to move."""

STUDY: Final = "1.2.3"
SERIES: Final = "1.2.3.1"
C_FIND_RSP: Final = 0x8020
C_MOVE_RQ, C_CANCEL_RQ = 0x0021, 0x0FFF
PENDING: Final = 0xFF00
DRAIN_S: Final = 0.3

LIMITS: Final = Limits(
    connect_s=2.0,
    associate_s=2.0,
    artim_s=0.3,
    release_s=0.5,
    idle_s=5.0,
    message_s=1.0,
    response_s=1.5,
    progress_s=0.6,
    drain_s=DRAIN_S,
    stop_s=0.3,
)


Act = Callable[["ScriptedPacs"], Awaitable[None]]


@dataclass
class ScriptedPacs:
    """Does what `act` says once it has got a C-MOVE-RQ; before, it answers C-FIND with the `listed` instances.

    Without a list it is not asked for one.  `acknowledged` are the objects whose C-STORE was answered with success.
    """

    act: Act
    listed: Sequence[str] | None = None
    find_status: int = 0
    acknowledged: set[str] = field(default_factory=set)
    notices: list[Notice] = field(default_factory=list)

    async def retrieve(
        self,
        directory: Path | None,
        *,
        options: WriteOptions | None = None,
        limits: Limits = LIMITS,
        **config: Any,
    ) -> RetrieveResult:
        """What a `Retrieve` of STUDY makes of the script, which must come to its end."""
        contexts = [raw.context_ac(1), raw.context_ac(3)] if self.listed is not None else [raw.context_ac(1)]
        script = [Recv(raw.ASSOCIATE_RQ), Send(raw.associate_ac(contexts)), self]
        async with ScriptedAcceptor([script]) as acceptor:
            peer = PeerAddress("SCRIPTED", acceptor.host, acceptor.port)
            keys = (f"StudyInstanceUID={STUDY}",)
            fixed: dict[str, Any] = {"parallel": 1, "rounds": 0}
            request = RetrieveConfig(peer, keys, prove=self.listed is not None, limits=limits, **(fixed | config))
            if directory is None:
                self.session = Retrieve(request, notify=self.notices.append)
                result = await self.session.run()
            else:
                with StorageTarget(directory, options or WriteOptions(durable=False)) as target:
                    self.session = Retrieve(request, target, host="127.0.0.1", notify=self.notices.append)
                    result = await self.session.run()
            await acceptor.finished()
        return result

    async def run(self, link: Link, received: list[Pdu]) -> None:
        """As a step of a script: from the first request to the end of the act."""
        self.link = link
        while (request := await link.read_reply()).fields[raw.COMMAND_FIELD] != raw.us(C_MOVE_RQ):
            await self._answer_find(request)
        self.message_id = int.from_bytes(request.fields[raw.MESSAGE_ID], "little")
        self.destination = request.fields[raw.MOVE_DESTINATION].decode().strip()
        await self.act(self)

    async def _answer_find(self, request: Reply) -> None:
        message_id = int.from_bytes(request.fields[raw.MESSAGE_ID], "little")
        level, tag, found = next(
            row
            for row in (
                (b"STUDY ", 0x0020000D, [STUDY]),
                (b"SERIES", 0x0020000E, [SERIES]),
                (b"IMAGE ", 0x00080018, self.listed or []),
            )
            if row[0] in request.dataset
        )
        for uid in found if not self.find_status else []:
            rsp = raw.response(C_FIND_RSP, message_id, raw.STUDY_ROOT_FIND, PENDING, {raw.DATA_SET_TYPE: raw.us(1)})
            keys = {0x00080052: level, tag: raw.uid(uid)}
            identifier = b"".join(raw.element(key, value) for key, value in sorted(keys.items()))
            await self.link.send(raw.message(request.context_id, rsp, identifier))
        final = raw.response(C_FIND_RSP, message_id, raw.STUDY_ROOT_FIND, self.find_status)
        await self.link.send(raw.message(request.context_id, final))

    # ------------------------------------------------------------------ the move association

    async def respond(
        self,
        status: int,
        remaining: int | None = None,
        completed: int | None = None,
        failed: int | None = None,
        warning: int | None = None,
        *,
        identifier: bytes | None = None,
        change: dict[int, bytes | None] | None = None,
    ) -> None:
        """Send a C-MOVE-RSP."""
        await self.link.send(self.response(status, remaining, completed, failed, warning, identifier, change))

    def response(
        self,
        status: int,
        remaining: int | None = None,
        completed: int | None = None,
        failed: int | None = None,
        warning: int | None = None,
        identifier: bytes | None = None,
        change: dict[int, bytes | None] | None = None,
    ) -> bytes:
        """The bytes of a C-MOVE-RSP."""
        with_identifier = {} if identifier is None else {raw.DATA_SET_TYPE: raw.us(1)}
        counters = (remaining, completed, failed, warning)
        rsp = raw.c_move_rsp(self.message_id, status, counters, {**with_identifier, **(change or {})})
        return raw.message(1, rsp, identifier)

    async def released(self) -> None:
        """The move association is released by the other side."""
        assert await self.link.expect(raw.RELEASE_RQ) == bytes(4)
        await self.link.send(raw.release_rp())
        await self.link.expect_closed()

    async def aborted(self, source: int = 0, reason: int = 0) -> None:
        """The move association is aborted by the other side, and then closed."""
        await self.link.expect_abort(source, reason)
        self.link.half_close()
        await self.link.expect_closed()

    async def cancelled(self) -> None:
        """A C-CANCEL-RQ of this move comes."""
        request = await self.link.read_reply()
        assert request.fields[raw.COMMAND_FIELD] == raw.us(C_CANCEL_RQ)
        assert request.responded_to == self.message_id

    async def finish(
        self, status: int = 0, completed: int | None = None, failed: int | None = None, warning: int | None = None
    ) -> None:
        """The final response, and the release that follows."""
        await self.respond(status, None, completed, failed, warning)
        await self.released()

    # ------------------------------------------------------------------ storage associations

    @property
    def port(self) -> int:
        """Of the listener that sub-operations go to."""
        return next(notice.port for notice in self.notices if isinstance(notice, ListenerStarted))

    @asynccontextmanager
    async def storage(self) -> AsyncIterator[ScriptedRequestor]:
        """A storage association, released at the end."""
        async with ScriptedRequestor("127.0.0.1", self.port) as requestor:
            await requestor.associate(raw.associate_rq(called=self.destination))
            yield requestor
            if requestor.sock.fileno() >= 0:
                await requestor.release()

    async def store(self, *uids: str, release: bool = True) -> None:
        """Store these objects, as `raw.dataset` makes them, over one association."""
        async with self.storage() as requestor:
            for message_id, uid in enumerate(uids, 1):
                await requestor.store(uid, raw.dataset(uid), message_id)
                self.acknowledged.add(uid)
            if not release:
                requestor.close()

    # ------------------------------------------------------------------ observations

    def seen(self, key: str) -> bool:
        """True if this event was reported of a peer."""
        return any(isinstance(notice, PeerMisbehaved) and notice.event == key for notice in self.notices)


def object_bytes(uid: str, *, pixel_bytes: int = 512, message_id: int = 1) -> tuple[bytes, bytes]:
    """A C-STORE message in two parts, cut in the middle of the data set, between two PDUs."""
    command = raw.pdv(1, raw.COMMAND | raw.LAST, raw.c_store_rq(uid, message_id))
    data = raw.dataset(uid, pixel_bytes=pixel_bytes)
    head = raw.p_data(command) + raw.p_data(raw.pdv(1, 0, data[:-300]))
    return head, raw.p_data(raw.pdv(1, raw.LAST, data[-300:]))


def failed_list(*uids: str) -> bytes:
    """An identifier with the Failed SOP Instance UID List (0008,0058)."""
    return raw.element(0x00080058, raw.uid("\\".join(uids)))


async def lose_by_abort(link: Link) -> None:
    """A-ABORT, and wait for the close."""
    await link.send(raw.abort())
    await link.expect_closed()


async def lose_by_reset(link: Link) -> None:
    """RST."""
    link.reset()


async def lose_by_fin(link: Link) -> None:
    """FIN in both directions."""
    link.sock.shutdown(socket.SHUT_RDWR)
    link.close()


class Moved:
    """A move that is over: its verdict, and what it left."""

    def __init__(self, pacs: ScriptedPacs, result: RetrieveResult, directory: Path) -> None:
        self.pacs = pacs
        self.result = result
        self.directory = directory
        assert result.evidence.stored == pacs.acknowledged
        assert {path.name for path in self.files} >= {f"{uid}.dcm" for uid in pacs.acknowledged}

    @property
    def files(self) -> list[Path]:
        return sorted(path for path in self.directory.rglob("*") if path.is_file())

    def is_judged(self, verdict: Verdict, code: int, *reasons: str) -> None:
        """This verdict, this exit code, and these among the reasons."""
        judgement = self.result.judgement
        assert (judgement.verdict, int(for_outcome(judgement))) == (verdict, code), judgement
        assert set(reasons) <= set(judgement.reasons)


async def moved(
    directory: Path, act: Act, *, listed: tuple[str, ...] | None = None, find_status: int = 0, **options: Any
) -> Moved:
    """Run a C-MOVE against a script; `listed` is what the PACS says by C-FIND that there is."""
    pacs = ScriptedPacs(act, listed, find_status)
    return Moved(pacs, await pacs.retrieve(directory, **options), directory)


Move = Callable[..., Awaitable[Moved]]
"""`moved` into a directory of the test's own."""
