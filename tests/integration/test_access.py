"""Who may send to a listener, and to a retrieve: called and calling AE titles, hosts (N15, N16, M26, S17)."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from fastmove.limits import Limits
from fastmove.net.allowed_hosts import AllowedHosts
from fastmove.services.listener import listen
from fastmove.storage.options import WriteOptions
from fastmove.storage.target import StorageTarget
from fastmove.ul.negotiation import AcceptPolicy
from tests.compat.harness import reserved_port
from tests.integration import raw
from tests.integration.honesty import AE_TITLE, HOST, Retrieved, retrieve, retrieve_here
from tests.integration.listener import Listener
from tests.integration.programs import fastmove, listen_program
from tests.integration.scripted import ScriptedRequestor
from tests.integration.scripted_archive import ScriptedArchive, ScriptedMove, study
from tests.integration.table_m.acts import from_elsewhere
from tests.integration.table_m.row import STUDY, THREE, A

ELSEWHERE: Final = "127.0.0.2"
"""Another host, as far as anybody can see."""

NOWHERE: Final = f"{'x' * 70}.invalid"
"""A name that no resolver is asked for: it is too long."""

LIMITS: Final = Limits(drain_s=0.3, response_s=5.0, progress_s=5.0, retry_s=0.01)


def caller(port: int, source: str) -> ScriptedRequestor:
    """Who connects from that address."""
    requestor = ScriptedRequestor(HOST, port)
    requestor.sock.bind((source, 0))
    return requestor


async def is_accepted(port: int, source: str) -> None:
    async with caller(port, source) as peer:
        await peer.associate()
        await peer.release()


async def is_rejected(port: int, source: str) -> None:
    async with caller(port, source) as peer:
        await peer.send(raw.associate_rq())
        await peer.expect_reject(1, 1, 3)


# ---------------------------------------------------------------------- listen


async def test_N16_listen_takes_associations_from_the_hosts_that_are_named(tmp_path: Path) -> None:
    async with listen_program(tmp_path, "--accept-host", "10.0.0.0/8", "--accept-host", "localhost") as program:
        port = (await program.event("listen.started"))["port"]
        await is_accepted(port, HOST)
        await is_rejected(port, ELSEWHERE)
        assert (await program.event("rq.host"))["detail"] == ELSEWHERE
        await is_accepted(port, HOST)
        assert await program.stopped() == 0


async def test_listen_does_not_start_with_a_host_that_leads_nowhere(tmp_path: Path) -> None:
    command = ("listen", "--port", "0", "--host", HOST, "--to", tmp_path / "to")
    ended = await fastmove(*command, "--accept-host", NOWHERE)
    assert ended.code == 1
    assert f"{NOWHERE!r} leads to no address" in ended.err
    ended = await fastmove(*command, "--accept-host", "10.0.0.300")
    assert ended.code == 1
    assert "is no address, network (10.0.0.0/24)" in ended.err


async def test_T23_address_of_ipv4_is_one_whatever_the_socket_is(tmp_path: Path) -> None:
    with StorageTarget(tmp_path, WriteOptions(durable=False)) as target:
        policy = AcceptPolicy("FASTMOVE", hosts=AllowedHosts(["127.0.0.0/31"]))
        async with listen("", 0, target, policy, LIMITS) as acceptor:
            await is_accepted(acceptor.port, HOST)
            await is_rejected(acceptor.port, ELSEWHERE)


# ---------------------------------------------------------------------- S17


@pytest.mark.parametrize("listener_options", [{"hosts": AllowedHosts([HOST])}], ids=[""])
async def test_S17_nobody_asks_for_the_name_of_a_host_that_connects(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(*_: object) -> Any:
        pytest.fail("reverse DNS")

    for name in ("gethostbyaddr", "getnameinfo", "getfqdn", "gethostbyname", "getaddrinfo"):
        monkeypatch.setattr(socket, name, asked)
    await is_accepted(listener.port, HOST)
    await is_rejected(listener.port, ELSEWHERE)
    await listener.event("rq.host")


@pytest.mark.lane("strace")
async def test_S17_a_listener_opens_nothing_that_a_resolver_needs(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    program = listen_program(tmp_path / "to", "--accept-host", HOST)
    program.arguments = ["strace", "-f", "-o", str(trace), "-e", "trace=openat,connect,sendto", *program.arguments]
    async with program:
        port = (await program.event("listen.started"))["port"]
        before = len(trace.read_text())
        await is_rejected(port, ELSEWHERE)
        await is_accepted(port, HOST)
        await program.event("assoc.closed")
        since = trace.read_text()[before:]
    assert not re.search(r"resolv\.conf|/etc/hosts|nsswitch|connect\(|AF_INET", since), since


# ---------------------------------------------------------------------- retrieve


async def test_M26_pacs_that_sends_from_another_host_is_named_with_what_to_do(tmp_path: Path) -> None:
    async with ScriptedArchive(from_elsewhere(), dict(THREE)) as pacs:
        came = await retrieve(pacs, tmp_path / "to", "--timeout", "5")
        came.is_true(pacs, (STUDY,))
        with reserved_port() as port:
            pacs.going_to(AE_TITLE, port)
            to = ("--aet", AE_TITLE, "--host", HOST, "--port", str(port), "--to", tmp_path / "to")
            shown = await fastmove("retrieve", str(pacs.address), *to, "--study", STUDY)
            allowed = await fastmove("retrieve", str(pacs.address), *to, "--study", STUDY, "--accept-host", ELSEWHERE)
    advice = f"the PACS sends from {ELSEWHERE}, which is not allowed: --accept-host {ELSEWHERE}"
    assert (came.code, came.finished["reasons"][0]) == (75, "rq.host")
    assert set(came.verdicts[STUDY]["missing"].values()) == {advice}
    assert shown.code == 75
    assert f"missing: 3 instances: {advice}" in shown.err
    assert "hint: give the addresses or the network that the PACS sends from" in shown.err
    assert allowed.code == 0, allowed.err


async def test_M26_hosts_of_a_pacs_are_in_the_configuration(tmp_path: Path) -> None:
    async with ScriptedArchive(from_elsewhere(), dict(THREE)) as pacs:
        with reserved_port() as port:
            pacs.going_to("ME", port)
            config = tmp_path / "fastmove.toml"
            config.write_text(f"""
[peers.pacs]
ae = "{pacs.address.ae_title}"
host = "{HOST}"
port = {pacs.address.port}
aet = "ME"
listen_port = {port}
accept_host = ["10.0.0.0/8", "{ELSEWHERE}"]
accept_from = ["ELSEWHERE"]
""")
            command = ("retrieve", "pacs", "--host", HOST, "--to", tmp_path / "to", "--study", STUDY)
            ended = await fastmove(*command, env={"FASTMOVE_CONFIG": str(config)})
            refused = await fastmove(
                *command, "--refetch", "--accept-from", "NOBODY", env={"FASTMOVE_CONFIG": str(config)}
            )
    assert ended.code == 0, ended.err
    assert refused.code == 75
    assert "the PACS sends as 'ELSEWHERE', which is not allowed: --accept-from ELSEWHERE" in refused.err


async def test_M26_title_that_we_are_called_by_is_named(tmp_path: Path) -> None:
    async with ScriptedArchive(from_elsewhere(called="ANOTHER", source=HOST), dict(THREE)) as pacs:
        came = await retrieve_here(pacs, tmp_path, limits=LIMITS)
    assert (came.code, came.finished["verdict"]) == (75, "POLICY")
    advice = f"the PACS calls us 'ANOTHER': correct that to '{AE_TITLE}' in the PACS"
    assert set(came.verdicts[STUDY]["missing"].values()) == {advice}


async def test_M26_what_a_peer_calls_itself_is_quoted_for_the_shell(tmp_path: Path) -> None:
    async def act(move: ScriptedMove) -> None:
        with pytest.raises(AssertionError, match="A-ASSOCIATE-RJ"):
            async with move.storage(calling="$(reboot);x"):
                pass
        await move.respond(0xA702, None, 0, 3, 0)

    async with ScriptedArchive(act, dict(THREE)) as pacs:
        came = await retrieve_here(pacs, tmp_path, limits=LIMITS, accept_from=("SCRIPTED",))
    (why,) = set(came.verdicts[STUDY]["missing"].values())
    assert why.endswith("--accept-from '$(reboot);x'")


def knocking(then: Callable[[ScriptedMove], Any], called: str | None = None) -> Callable[[ScriptedMove], Any]:
    """A stranger is turned away from another host, and then the PACS does as it does."""

    async def act(move: ScriptedMove) -> None:
        with pytest.raises(AssertionError, match="A-ASSOCIATE-RJ"):
            async with move.storage(called=called, calling="STRANGER", source=ELSEWHERE):
                pass
        await then(move)

    return act


async def everything(move: ScriptedMove) -> None:
    await move.store(*move.uids)
    await move.succeed()


async def without_the_first(move: ScriptedMove) -> None:
    sent = [uid for uid in move.uids if uid != A]
    if sent:
        await move.store(*sent)
    await move.succeed()


async def retrieved(tmp_path: Path, act: Callable[[ScriptedMove], Any], **config: Any) -> Retrieved:
    async with ScriptedArchive(act, dict(THREE)) as pacs:
        came = await retrieve_here(pacs, tmp_path, limits=LIMITS, **config)
        came.is_true(pacs, (STUDY,))
    return came


@pytest.mark.parametrize("prove", [True, False], ids=["list", "no list"])
async def test_stranger_that_is_turned_away_changes_no_verdict_where_nothing_is_missing(
    tmp_path: Path, prove: bool
) -> None:
    came = await retrieved(tmp_path, knocking(everything), prove=prove)
    assert (came.code, came.finished["verdict"]) == (0, "COMPLETE" if prove else "COUNTED")


async def test_stranger_that_calls_another_title_is_no_reason_why_something_is_missing(tmp_path: Path) -> None:
    came = await retrieved(tmp_path, knocking(without_the_first, called="SOMEONE"), rounds=0)
    assert (came.code, came.finished["verdict"]) == (71, "INCOMPLETE")


async def test_turned_away_before_a_move_is_no_reason_why_it_lacks_something(tmp_path: Path) -> None:
    seen: list[str] = []

    async def act(move: ScriptedMove) -> None:
        await (knocking(everything) if not seen else without_the_first)(move)
        seen.extend(move.uids)

    two = {**study("1.2.9", 3), **THREE}
    async with ScriptedArchive(act, dict(two)) as pacs:
        came = await retrieve_here(pacs, tmp_path, limits=LIMITS, rounds=0, parallel=1)
    assert {study: said["verdict"] for study, said in came.verdicts.items()} == {
        "1.2.9": "COMPLETE",
        STUDY: "INCOMPLETE",
    }


async def test_many_studies_are_given_up_when_the_pacs_sends_all_from_elsewhere(tmp_path: Path) -> None:
    held = {f"1.2.{n}": study(f"1.2.{n}", 2)[f"1.2.{n}"] for n in range(20, 40)}
    async with ScriptedArchive(from_elsewhere(), held) as pacs:
        async with asyncio.timeout(LIMITS.response_s):
            came = await retrieve_here(pacs, tmp_path, limits=LIMITS, parallel=1)
    assert came.code == 75
    assert pacs.moves < 10


async def test_name_of_a_pacs_may_lead_elsewhere_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def nowhere(_: str) -> list[str]:
        return ["192.0.2.1"]

    monkeypatch.setattr("fastmove.services.retrieve.admission.addresses_of", nowhere)
    came = await retrieved(tmp_path, everything)
    assert came.code == 0, "where it answers is where it is"


async def test_hosts_of_a_retrieve_that_lead_nowhere_are_a_mistake(tmp_path: Path) -> None:
    command = ("retrieve", f"PACS@{HOST}:1", "--aet", "ME", "--port", "0", "--to", tmp_path, "--study", "1.2.3")
    ended = await fastmove(*command, "--accept-host", NOWHERE)
    assert ended.code == 1
    assert f"{NOWHERE!r} leads to no address" in ended.err
