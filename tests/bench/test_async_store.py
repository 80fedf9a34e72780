"""Several C-STOREs outstanding on one association, with a peer that agrees to that and answers out of order."""

from __future__ import annotations

import asyncio
import struct
from pathlib import Path
from typing import Any, Final

import pytest

from fastmove.bench.load import Load
from fastmove.bench.runner import Setting, Target
from fastmove.bench.spec import Spec
from fastmove.bench.store import StoreBench, at_most, of_corpus
from fastmove.services.storage_scu import contexts_of
from fastmove.types import PeerAddress
from fastmove.ul.items import AsynchronousOperationsWindow
from tests.integration import raw
from tests.integration.programs import fastmove, listen_program

WINDOW: Final = 4
SPEC: Final = Spec(studies=1, series=1, instances=11, size=3_000, modality="SR")


class Scp:
    """Accepts one association and answers C-STOREs, each group of as many as it allows in reverse order."""

    def __init__(self, window: int | None, *, wrong_answer: bool = False) -> None:
        self.window = window
        self.wrong_answer = wrong_answer
        self.waiting: list[tuple[int, str]] = []
        self.most_waiting = 0
        self.stored: list[str] = []
        self.asked: bytes = b""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        group = self.window or 1
        try:
            while True:
                kind, length = struct.unpack(">BxI", await reader.readexactly(6))
                data = await reader.readexactly(length)
                if kind == 1:
                    self.asked = data
                    writer.write(self._accept())
                elif kind == 4:
                    self._take(data)
                    self.most_waiting = max(self.most_waiting, len(self.waiting))
                    if len(self.waiting) >= group or len(self.stored) + len(self.waiting) == SPEC.instances:
                        self._answer(writer)
                elif kind == 5:
                    writer.write(raw.release_rp())
                else:
                    return
        except asyncio.IncompleteReadError:
            return
        finally:
            writer.close()

    def _accept(self) -> bytes:
        agreed = b"" if self.window is None else AsynchronousOperationsWindow(self.window, 1).encode()
        syntax = "1.2.840.10008.1.2.1"
        return raw.associate_ac([raw.context_ac(1, transfer=syntax)], user_items=raw.max_length(0) + agreed)

    def _take(self, data: bytes) -> None:
        at = 0
        while at < len(data):
            (length,) = struct.unpack_from(">I", data, at)
            control, value = data[at + 5], data[at + 6 : at + 4 + length]
            if control & raw.COMMAND:
                command = raw.decode_command(value)
                self._command = (
                    int.from_bytes(command[0x0110], "little"),
                    command[0x1000].rstrip(b"\0").decode(),
                )
            elif control & raw.LAST:
                self.waiting.append(self._command)
            at += 4 + length

    def _answer(self, writer: asyncio.StreamWriter) -> None:
        for message_id, uid in reversed(self.waiting):
            message_id += 1000 if self.wrong_answer else 0
            writer.write(raw.message(1, raw.c_store_rsp(message_id, uid, sop_class="1.2.840.10008.5.1.4.1.1.88.11")))
            self.stored.append(uid)
        self.waiting.clear()


async def sent_to(scp: Scp, operations: int) -> dict[str, Any]:
    """A study sent to it by a benchmark."""
    server = await asyncio.start_server(scp.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        corpus = SPEC.corpus()
        target = Target(PeerAddress("SCP", "127.0.0.1", port), "ME", operations=operations)
        bench = StoreBench(target, contexts_of(corpus.pairs))
        return await bench.run(Load(), at_most(of_corpus(corpus), 1), Setting())


async def test_as_many_are_outstanding_as_the_peer_agrees_to_and_answers_may_come_in_any_order() -> None:
    scp = Scp(WINDOW)
    run = await sent_to(scp, 10)
    assert run["objects"] == SPEC.instances == len(set(scp.stored))
    assert scp.most_waiting == WINDOW
    assert not run["failed_operations"]
    assert run["latencies_ms"]["store"]["count"] == SPEC.instances


async def test_no_more_are_outstanding_than_were_asked_for() -> None:
    scp = Scp(0)  # as many as we like
    run = await sent_to(scp, 3)
    assert run["objects"] == SPEC.instances
    assert AsynchronousOperationsWindow(3, 1).encode() in scp.asked


@pytest.mark.parametrize("operations", [1, 5])
async def test_peer_that_does_not_agree_gets_one_after_the_other(operations: int) -> None:
    scp = Scp(None)
    run = await sent_to(scp, operations)
    assert run["objects"] == SPEC.instances
    assert scp.most_waiting == 1


async def test_answer_to_nothing_that_is_outstanding_ends_the_association() -> None:
    scp = Scp(WINDOW, wrong_answer=True)
    run = await sent_to(scp, 4)
    assert run["statuses"] == {"protocol": 1}
    assert run["objects"] == 0


async def test_command_asks_for_them_and_a_listener_of_ours_grants_one(tmp_path: Path) -> None:
    async with listen_program(tmp_path, "--no-durable", "--any-called-aet") as program:
        started = await program.event("listen.started")
        where = f"X@127.0.0.1:{started['port']}"
        load = ("--synthetic", "series=1,instances=5,size=3k", "--count", "2", "--operations", "8", "--json")
        ended = await fastmove("bench", "store", where, *load)
        assert await program.stopped() == 0
    assert ended.code == 0, ended.err
    assert '"operations_window": 1' in ended.out
    assert len(list(tmp_path.glob("*.dcm"))) == 10
