"""What the tests of `doctor` share: an examination with short timers, and a PACS whose answers are a script."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from fastmove.limits import Limits
from fastmove.services.doctor.examination import Examination
from fastmove.services.doctor.findings import Finding, Outcome, Side
from fastmove.services.doctor.visit import DoctorConfig
from fastmove.types import PeerAddress
from tests.integration import raw
from tests.integration.peers import free_port
from tests.integration.scripted import Link, Pdu, Recv, Reply, ScriptedAcceptor, Send

LIMITS: Final = Limits(
    connect_s=2.0, associate_s=1.0, artim_s=0.5, release_s=0.5, drain_s=0.5, uncounted_s=0.2, stop_s=0.3
)
PATIENCE_S: Final = 5.0

C_ECHO_RQ, C_FIND_RQ, C_MOVE_RQ, C_CANCEL_RQ = 0x0030, 0x0020, 0x0021, 0x0FFF
PENDING: Final = 0xFF00
VERIFICATION, STUDY_FIND, STUDY_MOVE, PATIENT_FIND, PATIENT_MOVE = range(1, 10, 2)
"""The contexts that doctor proposes."""


async def examined(peer: PeerAddress, *, port: int | None = None, **config: Any) -> Examination:
    """A whole examination; no probe may raise."""
    limits = config.pop("limits", LIMITS)
    patience_s = config.pop("patience_s", PATIENCE_S)
    examination = Examination(DoctorConfig(peer, port=port, limits=limits, patience_s=patience_s, **config))
    async with aclosing(examination.run()) as findings:
        async for _, finding in findings:
            assert finding.seen.isprintable(), finding
    return examination


def advice(finding: Finding, side: Side) -> str:
    """All that is to be changed on one side."""
    return "; ".join(each.text for each in finding.advice if each.side is side)


def outcomes(examination: Examination) -> dict[Outcome, list[str]]:
    """The probes by what they came to."""
    found: dict[Outcome, list[str]] = {outcome: [] for outcome in Outcome}
    for name, finding in examination.findings.items():
        found[finding.outcome].append(name)
    return found


@asynccontextmanager
async def answering(
    answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[PeerAddress]:
    """Something that listens, and does this with each connection."""
    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        try:
            await answer(reader, writer)
        except (ConnectionError, EOFError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()
            serving.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield PeerAddress("SCRIPTED", *server.sockets[0].getsockname()[:2])
    finally:
        server.close()
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving)


def accepted(*contexts: int) -> bytes:
    """An A-ASSOCIATE-AC that takes these of the contexts, and refuses the others."""
    return raw.associate_ac([raw.context_ac(n, 0 if n in contexts else 3) for n in range(1, 10, 2)])


ALL: Final = accepted(1, 3, 5, 7, 9)


@dataclass
class Script:
    """A PACS: `ac` answers each association request, `find` and `move` what is asked; C-ECHO succeeds.

    As a step of a script it serves an association to its end.
    """

    find: Callable[[Script, Link, Reply], Awaitable[None]] | None = None
    move: Callable[[Script, Link, Reply], Awaitable[None]] | None = None
    ac: bytes = ALL
    port: int = field(default_factory=free_port)
    """Where its move destination listens."""

    async def run(self, link: Link, received: list[Pdu]) -> None:
        link.deadline = 10.0
        while True:
            try:
                request = await link.read_reply()
            except (AssertionError, EOFError, OSError, ValueError):  # A-RELEASE-RQ, A-ABORT, the end, or closed by us
                await self._end(link)
                return
            kind = int.from_bytes(request.fields[raw.COMMAND_FIELD], "little")
            if kind == C_ECHO_RQ:
                response = raw.response(0x8030, message_id(request), raw.VERIFICATION, 0)
                await link.send(raw.message(request.context_id, response))
            elif kind == C_FIND_RQ and self.find is not None:
                await self.find(self, link, request)
            elif kind == C_MOVE_RQ and self.move is not None:
                await self.move(self, link, request)

    @staticmethod
    async def _end(link: Link) -> None:
        try:
            await link.send(raw.release_rp())
        except OSError:
            pass
        link.close()


def message_id(request: Reply) -> int:
    return int.from_bytes(request.fields[raw.MESSAGE_ID], "little")


async def found(
    link: Link,
    request: Reply,
    matches: Iterable[dict[int, bytes]],
    status: int = 0,
    change: dict[int, bytes] | None = None,
) -> None:
    """C-FIND responses: each match by tag, then the final status."""
    for match in matches:
        pending = raw.response(
            0x8020, message_id(request), raw.STUDY_ROOT_FIND, PENDING, {raw.DATA_SET_TYPE: raw.us(1)}
        )
        identifier = b"".join(raw.element(tag, value) for tag, value in sorted(match.items()))
        await link.send(raw.message(request.context_id, pending, identifier))
    final = raw.response(0x8020, message_id(request), raw.STUDY_ROOT_FIND, status, change)
    await link.send(raw.message(request.context_id, final))


async def moved(link: Link, request: Reply, status: int, *counters: int | None) -> None:
    """A C-MOVE-RSP."""
    counted = (*counters, None, None, None, None)[:4]
    await link.send(raw.message(request.context_id, raw.c_move_rsp(message_id(request), status, counted)))


async def one_study(_: Script, link: Link, request: Reply) -> None:
    """A study of one series of three instances, whatever is asked for."""
    study = {0x0020000D: raw.uid("1.2.3"), 0x00100020: b"4711"}
    if b"IMAGE" in request.dataset:
        await found(link, request, [{**study, 0x00080018: raw.uid(f"1.2.3.1.{n}")} for n in (1, 2, 3)])
    elif b"SERIES" in request.dataset:
        await found(link, request, [{**study, 0x0020000E: raw.uid("1.2.3.1")}])
    else:
        await found(link, request, [{**study, 0x00201208: b"3 "}])


@asynccontextmanager
async def scripted(script: Script) -> AsyncIterator[PeerAddress]:
    """The first connection is only looked at; each further one is an association with the script."""
    steps = [Recv(raw.ASSOCIATE_RQ, 10.0), Send(script.ac), script]
    async with ScriptedAcceptor([[], steps]) as acceptor:
        yield PeerAddress("SCRIPTED", acceptor.host, acceptor.port)
