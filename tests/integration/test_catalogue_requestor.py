"""Catalogue of faults, N36 to N42: what a requestor makes of answers that are none, and of none at all."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from fastmove.errors import (
    AssociationAborted,
    AssociationError,
    AssociationRejected,
    ConnectFailed,
    ConnectionLost,
    NoAcceptedContext,
    TimedOut,
)
from fastmove.limits import Limits
from fastmove.net.requestor import open_association
from fastmove.notices import Notice, PeerMisbehaved
from fastmove.types import PeerAddress
from fastmove.ul.negotiation import contexts_for, propose
from tests.integration import peers, raw
from tests.integration.conftest import LIMITS
from tests.integration.programs import Ended, fastmove
from tests.integration.raw import context_ac, item
from tests.integration.scripted import Close, Closed, Link, Pdu, Recv, ScriptedAcceptor, Send, Step

HOST: Final = "127.0.0.1"


class Aborted:
    """The peer gets this A-ABORT, and then the end of the connection."""

    def __init__(self, source: int, reason: int) -> None:
        self.answer = source, reason

    async def run(self, link: Link, received: list[Pdu]) -> None:
        link.deadline = 10.0  # whoever answers may be a program that has to be loaded
        await link.expect_abort(*self.answer)
        await link.expect_closed()


async def failure(*steps: Step, limits: Limits = LIMITS) -> tuple[AssociationError, list[Notice]]:
    """What becomes of an association to a peer that does this once it has got the request."""
    notices: list[Notice] = []
    async with ScriptedAcceptor([[Recv(raw.ASSOCIATE_RQ), *steps]]) as acceptor:
        request = propose("FASTMOVE", "SCRIPTED", contexts_for([raw.VERIFICATION], [raw.IMPLICIT_LE]))
        with pytest.raises(AssociationError) as caught:
            await open_association(PeerAddress("SCRIPTED", HOST, acceptor.port), request, limits, notices.append)
        await acceptor.finished()
    return caught.value, notices


async def echo(acceptor: ScriptedAcceptor, *options: str) -> Ended:
    """What `fastmove echo` says of this peer."""
    return await fastmove("echo", f"SCRIPTED@{HOST}:{acceptor.port}", *options)


def keys(notices: Sequence[Notice]) -> list[str]:
    """The events, but for what comes after the end."""
    told = [notice.event for notice in notices if isinstance(notice, PeerMisbehaved)]
    return [key for key in told if key != "assoc.sta13_drop"]


# ---------------------------------------------------------------------- N36: rejected

DEFINED: Final = {
    (1, 1, 1): "rejected permanently: no reason given",
    (1, 1, 2): "rejected permanently: application context name not supported",
    (1, 1, 3): "rejected permanently: calling AE title not recognized",
    (1, 1, 7): "rejected permanently: called AE title not recognized",
    (1, 2, 2): "rejected permanently: protocol version not supported",
    (2, 3, 1): "rejected for now: temporary congestion",
    (2, 3, 2): "rejected for now: local limit exceeded",
    (1, 2, 1): "rejected permanently: no reason given by the provider",
}
UNDEFINED: Final = {
    (0, 0, 0): "result 0: undefined reason 0/0",
    (2, 1, 9): "rejected for now: undefined reason 1/9",
    (255, 255, 255): "result 255: undefined reason 255/255",
}


@pytest.mark.parametrize("triple", DEFINED | UNDEFINED)
async def test_N36_rejection_is_told_with_its_reason(triple: tuple[int, int, int]) -> None:
    error, notices = await failure(Send(raw.associate_rj(*triple)), Closed())
    assert isinstance(error, AssociationRejected)
    assert str(error) == f"association {(DEFINED | UNDEFINED)[triple]}"
    assert (error.result, error.source, error.reason) == triple
    assert error.transient == (triple[0] == 2)
    assert keys(notices) == ["assoc.rejected"]


async def test_N36_rejection_of_the_wrong_length_is_malformed() -> None:
    error, notices = await failure(Send(raw.pdu(raw.ASSOCIATE_RJ, bytes(5))), Aborted(2, 6))
    assert isinstance(error, AssociationAborted)
    assert keys(notices)[0] == "pdu.length"


async def test_N36_rejected_command_ends_with_61_and_says_why() -> None:
    async with ScriptedAcceptor([[Recv(raw.ASSOCIATE_RQ), Send(raw.associate_rj(1, 1, 7)), Closed()]]) as acceptor:
        ended = await echo(acceptor, "--json")
    assert (ended.code, ended.err) == (
        61,
        "fastmove: association rejected permanently: called AE title not recognized\n",
    )
    (told,) = ended.lines
    assert (told["event"], told["detail"]) == (
        "assoc.rejected",
        "result 1, source 1, reason 7: called AE title not recognized",
    )


@pytest.mark.parametrize(("first", "connections"), [((2, 3, 1), 3), ((1, 1, 3), 1)], ids=["transient", "permanent"])
async def test_N36_transient_rejection_is_tried_again_and_a_permanent_one_is_not(
    tmp_path: Path, first: tuple[int, int, int], connections: int
) -> None:
    def rejecting(*triple: int) -> list[Step]:
        return [Recv(raw.ASSOCIATE_RQ), Send(raw.associate_rj(*triple)), Closed()]

    async with ScriptedAcceptor([rejecting(*first), rejecting(*first), rejecting(1, 1, 3)]) as acceptor:
        to = ("--port", "0", "--to", tmp_path / "stored", "--study", "1.2.3", "--limit", "retry_s=0.01")
        ended = await fastmove("retrieve", f"SCRIPTED@{HOST}:{acceptor.port}", *to)
        assert len(acceptor.received) == connections
    assert (ended.code, "rejected permanently: calling AE title" in ended.err) == (61, True)


# ---------------------------------------------------------------------- N37: contexts that were not proposed

STRANGE_ANSWERS: Final = {
    "a context that was not proposed": [context_ac(1, 3), context_ac(99)],
    "result 9": [context_ac(1, 9)],
    "a transfer syntax that was not proposed": [context_ac(1, 0, "1.2.840.10008.1.2.4.50")],
    "an empty transfer syntax": [context_ac(1, 0, "")],
    "the same context twice, the second time accepted": [context_ac(1, 3), context_ac(1)],
    "no answer at all": [],
}


@pytest.mark.parametrize("answer", STRANGE_ANSWERS)
async def test_N37_answer_that_fits_no_proposal_makes_its_context_unusable(answer: str) -> None:
    notices: list[Notice] = []
    steps: list[Step] = [Recv(raw.ASSOCIATE_RQ), Send(raw.associate_ac(STRANGE_ANSWERS[answer])), Aborted(0, 0)]
    async with ScriptedAcceptor([steps]) as acceptor:
        request = propose("FASTMOVE", "SCRIPTED", contexts_for([raw.VERIFICATION], [raw.IMPLICIT_LE, raw.EXPLICIT_LE]))
        peer = PeerAddress("SCRIPTED", HOST, acceptor.port)
        association = await open_association(peer, request, LIMITS, notices.append)
        with pytest.raises(NoAcceptedContext):
            association.context(raw.VERIFICATION)
        association.abort()
        association.connection.cut()
        await association.close()
        await acceptor.finished()
    assert keys(notices) == ([] if answer == "no answer at all" else ["ac.context"])


@pytest.mark.parametrize("verb", ["echo", "find", "retrieve"])
async def test_N37_command_whose_context_is_not_usable_aborts_and_ends_with_66(tmp_path: Path, verb: str) -> None:
    options: dict[str, Sequence[Any]] = {
        "echo": (),
        "find": ("--study", "1.2.3"),
        "retrieve": ("--study", "1.2.3", "--port", "0", "--to", tmp_path / "stored"),
    }
    steps: list[Step] = [
        Recv(raw.ASSOCIATE_RQ),
        Send(raw.associate_ac([context_ac(1, 0, "1.2.3.4"), context_ac(3, 0, "1.2.3.4")])),
        Aborted(0, 0),
    ]
    async with ScriptedAcceptor([steps]) as acceptor:
        ended = await fastmove(verb, f"SCRIPTED@{HOST}:{acceptor.port}", *options[verb])
        await acceptor.finished()
    assert ended.code == 66
    assert "the peer accepted no presentation context for" in ended.err


# ---------------------------------------------------------------------- N38, N40, N42: no answer to what was asked

GOOD: Final = raw.associate_ac()
MALFORMED: Final = {
    "empty": raw.pdu(raw.ASSOCIATE_AC),
    "one byte short of its fixed fields": raw.pdu(raw.ASSOCIATE_AC, GOOD[6 : 6 + 67]),
    "an item beyond its end": raw.associate_ac(extra_items=item(0x50, b"", length=9)),
    "a context without its fixed fields": raw.associate_ac([item(0x21, b"\1\0")]),
    "a Maximum Length of 3 bytes": raw.associate_ac(user_items=item(0x51, bytes(3))),
    "too many items": raw.associate_ac([context_ac(1)] * 1025),
}


@pytest.mark.parametrize("answer", MALFORMED.values(), ids=list(MALFORMED))
async def test_N38_malformed_answer_is_aborted_by_the_provider(answer: bytes) -> None:
    error, notices = await failure(Send(answer), Aborted(2, 6))
    assert isinstance(error, AssociationAborted)
    assert (error.by_peer, error.source, error.reason) == (False, 2, 6)
    assert keys(notices) == ["ac.malformed"]


async def test_N38_answer_of_1_mib_is_read(associate: Any) -> None:
    room = (1 << 20) - (len(GOOD) - 6)
    padding = item(0x99, bytes(65528)) * (room // 65532)
    padding += item(0x99, bytes(room % 65532 - 4))
    answer = raw.associate_ac(extra_items=padding)
    assert len(answer) == 6 + (1 << 20)
    async with ScriptedAcceptor([[Recv(raw.ASSOCIATE_RQ), Send(answer)]]) as acceptor:
        association = await associate(HOST, acceptor.port)
        assert association.context(raw.CT_IMAGE).context_id == 1


@pytest.mark.parametrize("length", [(1 << 20) + 1, 0xFFFFFFFF])
async def test_N38_answer_beyond_1_mib_is_aborted_at_its_header(length: int) -> None:
    error, notices = await failure(Send(raw.pdu(raw.ASSOCIATE_AC, length=length)), Aborted(2, 6))
    assert isinstance(error, AssociationAborted)
    assert keys(notices) == ["pdu.too_long"]


OTHERS: Final = {
    "A-ASSOCIATE-RQ": raw.associate_rq(),
    "P-DATA-TF": raw.message(1, raw.c_echo_rq()),
    "A-RELEASE-RQ": raw.release_rq(),
    "A-RELEASE-RP": raw.release_rp(),
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=list(OTHERS))
async def test_N40_other_pdu_instead_of_an_answer_is_aborted_by_the_provider(other: bytes) -> None:
    error, notices = await failure(Send(other), Aborted(2, 2))
    assert isinstance(error, AssociationAborted)
    assert "sta=5" in str(error)
    assert keys(notices) == ["pdu.unexpected"]


async def test_N40_unknown_pdu_instead_of_an_answer_is_aborted_by_the_provider() -> None:
    error, notices = await failure(Send(b"HTTP/1.1 400 Bad Request\r\n\r\n"), Aborted(2, 1))
    assert isinstance(error, AssociationAborted)
    assert keys(notices) == ["pdu.unknown_type"]


def parrot(received: list[Pdu]) -> bytes:
    """What came, as it came."""
    return raw.pdu(raw.ASSOCIATE_RQ, received[0].data)


async def test_N42_peer_that_echoes_the_request_is_aborted_by_the_provider() -> None:
    error, notices = await failure(Send(parrot), Aborted(2, 2))
    assert isinstance(error, AssociationAborted)
    assert keys(notices) == ["pdu.unexpected"]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Send(MALFORMED["empty"]), "(source 2, reason 6): ac.malformed"),
        (Send(OTHERS["A-RELEASE-RQ"]), "(source 2, reason 2): pdu.unexpected"),
        (Send(parrot), "(source 2, reason 2): pdu.unexpected"),
        (Send(raw.abort(2, 1)), "association aborted by the peer (source 2, reason 1)"),
        (Close(), "the peer closed the connection"),
    ],
    ids=["N38", "N40", "N42", "A-ABORT", "FIN"],
)
async def test_N38_N40_N42_command_without_an_association_ends_with_61_and_says_why(answer: Step, said: str) -> None:
    async with ScriptedAcceptor([[Recv(raw.ASSOCIATE_RQ), answer]]) as acceptor:
        ended = await echo(acceptor)
    assert (ended.code, said in ended.err) == (61, True), ended.err


# ---------------------------------------------------------------------- N39, N41: nobody


async def test_N39_answer_that_never_comes_is_aborted_at_its_limit() -> None:
    error, notices = await failure(Aborted(0, 0), limits=LIMITS.replace(associate_s=0.2))
    assert isinstance(error, TimedOut)
    assert (error.timer, error.seconds) == ("associate_s", 0.2)
    assert keys(notices) == ["assoc.timeout"]


async def test_N39_answer_that_trickles_does_not_restart_its_limit() -> None:
    class Trickle:
        async def run(self, link: Link, received: list[Pdu]) -> None:
            trickle = asyncio.create_task(link.send_pieces(GOOD, pause_s=0.05))
            try:
                await link.expect_abort(0, 0)
            finally:
                trickle.cancel()
                await asyncio.gather(trickle, return_exceptions=True)

    error, _ = await failure(Trickle(), limits=LIMITS.replace(associate_s=0.3))
    assert isinstance(error, TimedOut)


async def test_N39_command_that_gets_no_answer_ends_with_61_and_says_so() -> None:
    async with ScriptedAcceptor([[Recv(raw.ASSOCIATE_RQ), Aborted(0, 0)]]) as acceptor:
        ended = await echo(acceptor, "--timeout", "0.3", "--json")
        await acceptor.finished()
    assert (ended.code, ended.err) == (61, "fastmove: no answer within 0.3 s (associate_s)\n")
    assert [line["event"] for line in ended.lines] == ["assoc.timeout"]


@contextmanager
def full_port() -> Iterator[int]:
    """A port that takes no connection any more: the kernel drops what asks for one."""
    with socket.socket() as listening:
        listening.bind((HOST, 0))
        listening.listen(0)
        with socket.socket() as first, socket.socket() as second:
            first.connect(listening.getsockname())
            second.setblocking(False)
            second.connect_ex(listening.getsockname())
            yield listening.getsockname()[1]


MULTICAST: Final = "224.0.0.1"
"""The kernel lets nobody connect there, and no packet leaves."""


@pytest.mark.parametrize(
    ("address", "said"),
    [
        (f"{HOST}:{{closed}}", "Connection refused"),
        (f"{MULTICAST}:104", "Network is unreachable"),
        ("nowhere.invalid:104", "nowhere.invalid:104"),
        (f"{HOST}:{{full}}", "no answer within 0.5 s (connect_s)"),
    ],
    ids=["port closed", "host unreachable", "no such name", "connect hangs"],
)
async def test_N41_command_that_reaches_nobody_ends_with_61_and_says_why(address: str, said: str) -> None:
    with full_port() as full:
        where = address.format(closed=peers.free_port(), full=full)
        ended = await fastmove("echo", f"NOBODY@{where}", "--timeout", "0.5" if "full" in address else "10", "--json")
    assert (ended.code, said in ended.err) == (61, True), ended.err
    assert [line["event"] for line in ended.lines] == ["conn.failed"]


async def test_N41_unreachable_host_is_an_error_with_its_cause() -> None:
    request = propose("FASTMOVE", "NOBODY", contexts_for([raw.VERIFICATION], [raw.IMPLICIT_LE]))
    with pytest.raises(ConnectFailed) as caught:
        await open_association(PeerAddress("NOBODY", MULTICAST, 104), request, LIMITS)
    assert isinstance(caught.value.__cause__, OSError)


async def test_N41_connection_that_ends_before_an_answer_is_lost() -> None:
    error, _ = await failure(Close())
    assert type(error) is ConnectionLost


async def test_N41_resolver_that_does_not_answer_holds_up_neither_the_deadline_nor_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked, answer = threading.Event(), threading.Event()

    def hangs(*arguments: object) -> list[Any]:
        asked.set()
        answer.wait()
        return []

    monkeypatch.setattr(socket, "getaddrinfo", hangs)
    request = propose("FASTMOVE", "NOBODY", contexts_for([raw.VERIFICATION], [raw.IMPLICIT_LE]))
    try:
        with pytest.raises(TimedOut) as caught:
            await open_association(PeerAddress("NOBODY", "slow.invalid", 104), request, LIMITS.replace(connect_s=0.2))
        assert (caught.value.timer, asked.is_set()) == ("connect_s", True)
        (resolver,) = (thread for thread in threading.enumerate() if thread.name == "resolver")
        assert resolver.daemon, "it does not keep the process"
    finally:
        answer.set()


async def test_N41_every_address_of_a_name_is_tried(monkeypatch: pytest.MonkeyPatch, associate: Any) -> None:
    rows = [(0, 0, 0, "", (address, 0)) for address in ("127.0.0.99", HOST)]
    async with ScriptedAcceptor([[Recv(raw.ASSOCIATE_RQ), Send(raw.associate_ac())]]) as acceptor:
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_: rows)
        association = await associate("name.invalid", acceptor.port)
        assert association.connection.host == HOST
