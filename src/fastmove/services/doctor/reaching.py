"""Probes of the way to the PACS: its address, TCP, and what speaks there."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
import time
from typing import Any, Final

from fastmove.errors import (
    AssociationAborted,
    AssociationError,
    AssociationRejected,
    ConnectFailed,
    ConnectionLost,
    FastmoveError,
    TimedOut,
    TlsFailed,
)
from fastmove.services.doctor.findings import (
    Advice,
    Finding,
    Numbers,
    at_pacs,
    here,
    note,
    ok,
    problem,
    quoted,
    seconds,
)
from fastmove.services.doctor.securing import failed
from fastmove.services.doctor.visit import Visit

PEEK_S: Final = 3.0
"""How long to wait for the first bytes of something that does not speak DICOM."""

PEEK_BYTES: Final = 64

# ------------------------------------------------------------------ TCP


async def resolve(visit: Visit) -> Finding:
    """Host name to addresses."""
    peer = visit.config.peer
    try:
        async with asyncio.timeout(visit.limits.connect_s):
            loop = asyncio.get_running_loop()
            visit.addresses = await loop.getaddrinfo(peer.host, peer.port, type=socket.SOCK_STREAM)
    except TimeoutError:
        limit = TimedOut("connect_s", visit.limits.connect_s)
        advice = here("give the IP address, or see to the name server of this host")
        return problem(f"nobody tells the address of {quoted(peer.host)}: {limit}", advice, cause=limit)
    except (OSError, UnicodeError) as error:
        cause = ConnectFailed(peer.host, peer.port, error)
        advice = here("is the name spelled right? Give the IP address instead, or see to the name server of this host")
        return problem(f"the name {quoted(peer.host)} is not known: {_reason(error)}", advice, cause=cause)
    found = list(dict.fromkeys(str(address[4][0]) for address in visit.addresses))
    return ok(", ".join(found), addresses=len(found))


async def connect(visit: Visit) -> Finding:
    """A TCP connection, made and closed again; how long it takes is the round trip."""
    peer, limits = visit.config.peer, visit.limits
    dead: list[str] = []
    failed: OSError | None = None
    for address in visit.addresses:
        started = time.perf_counter()
        try:
            visit.local_address = await _touch(address, limits.connect_s)
        except OSError as error:  # TimeoutError is one
            failed = error
            dead.append(str(address[4][0]))
            continue
        round_trip_s = visit.round_trip_s = round(time.perf_counter() - started, 6)
        numbers: Numbers = {"round_trip_s": round_trip_s, "local_address": visit.local_address}
        if dead:
            other = here(f"give the address {address[4][0]} instead of the name: the others cost time")
            return note(f"{address[4][0]} answers, but {', '.join(dead)} not: {_why(failed)}", other, **numbers)
        return ok(f"port {peer.port} is open; round trip {seconds(round_trip_s)}", **numbers)
    cause: FastmoveError = ConnectFailed(peer.host, peer.port, failed or OSError("no address"))
    if isinstance(failed, TimeoutError) and failed.errno is None:
        cause = TimedOut("connect_s", limits.connect_s)
    words, advice = _CONNECT_FAILURES.get(failed.errno if failed else None, _UNREACHED)
    return problem(words.format(port=peer.port, why=_reason(failed)), *advice, cause=cause)


async def _touch(address: tuple[Any, ...], timeout_s: float) -> str:
    """Connect and close; our own address on that way.  OSError."""
    family, kind, protocol, _, where = address
    with socket.socket(family, kind, protocol) as sock:
        sock.setblocking(False)
        async with asyncio.timeout(timeout_s):
            await asyncio.get_running_loop().sock_connect(sock, where)
        return str(sock.getsockname()[0])


def _reason(error: BaseException | None) -> str:
    return getattr(error, "strerror", None) or str(error) or "no answer"


def _why(error: BaseException | None) -> str:
    return "no answer" if isinstance(error, TimeoutError) else _reason(error)


_FIREWALL: Final = (
    at_pacs("a firewall on the way, or on the PACS, has to let this host in on that port"),
    here("is the address right? Is a VPN or a network missing?"),
)
_LOST: Final = ("nothing answers on port {port}: packets get lost, mostly in a firewall", _FIREWALL)
_ROUTE: Final = ("there is no way to it: {why}", _FIREWALL)
_UNREACHED: Final = ("it cannot be connected to: {why}", _FIREWALL)

# errno → words, and what to do; None: nothing within the time limit.
_CONNECT_FAILURES: Final[dict[int | None, tuple[str, tuple[Advice, ...]]]] = {
    None: _LOST,
    errno.ETIMEDOUT: _LOST,
    errno.EHOSTUNREACH: _ROUTE,
    errno.ENETUNREACH: _ROUTE,
    errno.ECONNREFUSED: (
        "connection refused: the host is there, but nothing listens on port {port}",
        (
            here("is the port right? 104, 11112 and 4242 are usual"),
            at_pacs("the DICOM service has to run, and to listen on this port"),
        ),
    ),
}


# ------------------------------------------------------------------ what speaks there


async def speak(visit: Visit) -> Finding:
    """Whether what listens there speaks DICOM: the first A-ASSOCIATE-RQ, and if it is not understood, what else."""
    started = time.perf_counter()
    try:
        association = await visit.association()
    except AssociationRejected as refusal:
        visit.refusal = refusal
        return ok("it answers A-ASSOCIATE-RQ", answer_s=round(time.perf_counter() - started, 6))
    except AssociationAborted as aborted:
        if aborted.by_peer:
            visit.refusal = aborted
            return ok("it answers A-ASSOCIATE-RQ", answer_s=round(time.perf_counter() - started, 6))
        return await _other(visit, aborted)
    except AssociationError as error:
        return await _other(visit, error)
    visit.answer = association.connection.answer
    return ok("it answers A-ASSOCIATE-RQ", answer_s=round(time.perf_counter() - started, 6))


async def _other(visit: Visit, error: AssociationError) -> Finding:
    """What it is that does not answer as a DICOM node does."""
    if isinstance(error, TlsFailed):  # with TLS 1.3 a PACS refuses us only now
        return await failed(visit, error)
    port = visit.config.peer.port
    if not isinstance(error, AssociationAborted) or error.why.startswith("pdu."):
        for opening in _OPENINGS:
            first = await _first_bytes(visit, opening())
            for name, beginnings, advice in _OTHERS:
                if first.startswith(beginnings):
                    return problem(f"port {port} speaks {name}, not plain DICOM", advice, cause=error, speaks=name)
            if first:
                said = quoted(first.decode("latin-1"))
                advice = here("this is the port of something else: ask for the DICOM port of the PACS")
                return problem(f"port {port} does not speak DICOM; it says {said}", advice, cause=error)
    if isinstance(error, AssociationAborted):
        advice = at_pacs("that is against PS3.8: its vendor has to know")
        return problem(f"its answer to A-ASSOCIATE-RQ cannot be read: {error.why}", advice, cause=error)
    if isinstance(error, TimedOut):
        advice = here("is this the DICOM port?")
        busy = at_pacs(
            "does the service hang, or wait because all its associations are in use? Restart it, see its log"
        )
        words = f"it takes the connection, and then is silent: no answer to A-ASSOCIATE-RQ in {error.seconds:g} s"
        return problem(words, busy, advice, cause=error)
    if isinstance(error, ConnectionLost):
        strange = at_pacs(
            f"many PACS do so with hosts they do not know: enter {visit.config.ae_title!r} with {visit.our_address}"
        )
        words = "it closes the connection at once when we ask for an association, without saying why"
        tls = here("some TLS ports do so as well: ask whether this is the plain DICOM port, or try --tls")
        return problem(words, strange, tls, cause=error)
    return problem(f"no association: {error}", at_pacs("see its log"), cause=error)


def _client_hello() -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    sent = ssl.MemoryBIO()
    session = context.wrap_bio(ssl.MemoryBIO(), sent)
    try:
        session.do_handshake()
    except ssl.SSLWantReadError:
        pass  # for the ServerHello, which is read elsewhere
    return sent.read()


def _http_get() -> bytes:
    return b"GET / HTTP/1.0\r\n\r\n"


_OPENINGS: Final = (_client_hello, _http_get)
"""What is said to something that does not understand A-ASSOCIATE-RQ, to see what it answers."""

# What else may listen there → how it begins, what to do.
_OTHERS: Final = (
    (
        "TLS",
        (b"\x16\x03", b"\x15\x03"),  # handshake and alert records (RFC 8446 5.1)
        here("this is its TLS port: --tls, with --tls-cert, --tls-key and --tls-ca; or ask for the plain DICOM port"),
    ),
    (
        "HTTP",
        (b"HTTP/",),
        here("this is a web server (maybe DICOMweb): ask for the DICOM port of the PACS, usually 104 or 11112"),
    ),
)


async def _first_bytes(visit: Visit, opening: bytes) -> bytes:
    """What it answers to these bytes; empty if nothing."""
    peer = visit.config.peer
    try:
        async with asyncio.timeout(min(PEEK_S, visit.limits.connect_s)):
            reader, writer = await asyncio.open_connection(peer.host, peer.port)
            try:
                writer.write(opening)
                return await reader.read(PEEK_BYTES)
            finally:
                writer.transport.abort()
    except OSError:  # TimeoutError is one
        return b""
