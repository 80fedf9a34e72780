"""`fastmove send --commit`: what is committed, what is not and why, and what the shell is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.integration import commitments, peers, raw
from tests.integration.commitments import ACCEPT, TakeRequest
from tests.integration.embedded import embedded_pacs
from tests.integration.listener import Listener
from tests.integration.objects import ROOT, write_objects
from tests.integration.peers import HOST, Orthanc
from tests.integration.programs import fastmove
from tests.integration.scripted import Recv, ScriptedAcceptor, Send
from tests.integration.test_send import AnswerStores

from fastmove.bench.spec import Spec

UIDS = [f"{ROOT}.1.{number}" for number in (1, 2, 3)]
EMPTY = Spec(studies=1, series=1, instances=1, size=2_000)


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    return write_objects(tmp_path / "sources", 3)


@pytest.mark.peer("orthanc")
async def test_orthanc_commits_to_what_it_was_sent(paths: list[Path]) -> None:
    port = peers.free_port()
    async with Orthanc({"FASTMOVE": (HOST, port)}) as orthanc:
        peer = f"{orthanc.ae_title}@{HOST}:{orthanc.port}"
        ended = await fastmove("send", peer, *paths, "--commit", "--commit-port", str(port))
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.endswith("the PACS answers for 3 objects\n")


@pytest.mark.peer("orthanc")
async def test_orthanc_that_does_not_know_us_aborts_and_nothing_is_known(paths: list[Path]) -> None:
    async with Orthanc() as orthanc:
        peer = f"{orthanc.ae_title}@{HOST}:{orthanc.port}"
        ended = await fastmove("send", peer, *paths, "--commit")
    assert ended.code == 72
    assert ended.err.count("not committed: ") == ended.err.count("aborted by the peer") == 3


async def test_each_object_that_is_not_committed_is_named_with_the_reason_and_that_is_71(paths: list[Path]) -> None:
    port = peers.free_port()
    async with embedded_pacs(EMPTY, faults=["commit-fails=2"]) as pacs:
        pacs.going_to("FASTMOVE", port)
        command = ("send", str(pacs.address), *paths, "--commit", "--commit-port", str(port))
        ended = await fastmove(*command)
        told = await fastmove(*command, "--json")
    assert ended.code == told.code == 71
    lines = ended.err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("not committed: ") for line in lines)
    assert all(line.endswith(".dcm: no such object instance (0112H)") for line in lines)
    assert ended.out.endswith("the PACS answers for 1 objects, 2 not committed\n")
    events = {line["event"]: line for line in told.lines}
    assert events["send.finished"]["sent"] == 3
    assert (events["commit.reported"]["committed"], events["commit.reported"]["failed"]) == (1, 2)
    committed = told.lines[-1]
    assert (committed["event"], committed["committed"]) == ("send.committed", 1)
    assert {uid for _, uid, _ in committed["uncommitted"]} < set(UIDS)


async def test_report_that_does_not_come_is_74(paths: list[Path]) -> None:
    port = peers.free_port()
    async with embedded_pacs(EMPTY, faults=["commit-never"]) as pacs:
        pacs.going_to("FASTMOVE", port)
        limits = ("--limit", "commit_s=0.2", "--limit", "commit_instances=2")
        ended = await fastmove("send", str(pacs.address), *paths, "--commit", "--commit-port", str(port), *limits)
    assert ended.code == 74
    assert [line.partition(": no ")[2] for line in ended.err.splitlines()] == [
        "report on a storage commitment of 2 objects within 0.2 s (commit_s)",
        "report on a storage commitment of 2 objects within 0.2 s (commit_s)",
        "report on a storage commitment of 1 objects within 0.2 s (commit_s)",
    ]


async def test_report_on_the_same_association_needs_no_port(paths: list[Path]) -> None:
    async with embedded_pacs(EMPTY, faults=["commit-same-association"]) as pacs:
        ended = await fastmove("send", str(pacs.address), *paths, "--commit", "--limit", "commit_instances=1")
    assert (ended.code, ended.err) == (0, "")


async def test_peer_without_storage_commitment_is_66_after_all_is_sent(listener: Listener, paths: list[Path]) -> None:
    ended = await fastmove("send", f"{listener.ae_title}@{HOST}:{listener.port}", *paths, "--commit")
    assert ended.code == 66
    assert ended.out.startswith("sent 3 objects")
    assert len(listener.files()) == 3
    assert ended.err.count("accepted no presentation context for 1.2.840.10008.1.20.1") == 3


async def test_only_what_was_stored_is_asked_for(paths: list[Path]) -> None:
    taken = TakeRequest()
    stores = [*ACCEPT, AnswerStores(2), AnswerStores(1, 0xA700), Recv(raw.RELEASE_RQ), Send(raw.release_rp())]
    asks = [*ACCEPT, taken, Send(lambda _: commitments.report(taken.dataset))]
    async with ScriptedAcceptor([stores, asks]) as acceptor:
        peer = f"SCRIPTED@{HOST}:{acceptor.port}"
        ended = await fastmove("send", peer, *paths, "--commit", "--limit", "release_s=0.1")
    assert ended.code == 69, "an object that was refused is no success, though all others are committed"
    assert [uid for uid in UIDS if raw.uid(uid) in taken.dataset] == UIDS[:2]
    assert "the PACS answers for 2 objects\n" in ended.out


async def test_port_in_use_is_60_before_anything_is_sent(listener: Listener, paths: list[Path]) -> None:
    port = ("--commit-port", str(listener.port))
    ended = await fastmove("send", f"{listener.ae_title}@{HOST}:{listener.port}", *paths, "--commit", *port)
    assert ended.code == 60
    assert listener.files() == []


async def test_port_without_commit_is_usage_and_as_a_default_it_waits_for_it(
    listener: Listener, paths: list[Path], tmp_path: Path
) -> None:
    peer = f"{listener.ae_title}@{HOST}:{listener.port}"
    ended = await fastmove("send", peer, *paths, "--commit-port", "0")
    assert (ended.code, "--commit" in ended.err) == (1, True)
    (tmp_path / "fastmove.toml").write_text("[send]\ncommit_port = 0\n")
    assert (await fastmove("send", peer, *paths, cwd=tmp_path)).code == 0
