"""`send`: to real storage SCPs, to our own listener, and to peers and files that let it down on the way."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from fastmove.dimse.status import OUT_OF_RESOURCES
from fastmove.errors import AssociationRejected, ConnectFailed
from fastmove.limits import MAX_PRESENTATION_CONTEXTS, Limits
from fastmove.notices import InstanceSent, Notice
from fastmove.services.storage_scu import SendOutcome, _batches, send
from fastmove.storage.filemeta import DicomFile, read_file_meta
from fastmove.types import PeerAddress
from fastmove.uids import DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, STORAGE_SOP_CLASSES, TRANSFER_SYNTAXES
from tests.corpus import BASIC_TEXT_SR, Corpus
from tests.integration import peers, raw
from tests.integration.faults import End, FaultProxy, Toxics
from tests.integration.listener import Listener
from tests.integration.objects import data_set, data_sets, read_files, write_object, write_objects
from tests.integration.peers import DcmtkStoreScp, Orthanc, Peer, PynetdicomScp
from tests.integration.scripted import Link, Pdu, Recv, ScriptedAcceptor, Send

LIMITS: Final = Limits(connect_s=2.0, associate_s=5.0, response_s=10.0, release_s=2.0, artim_s=0.5)
ENDS_S: Final = 10.0
"""A sender that has not ended by then tries for ever."""

BIT_PRESERVING = pytest.mark.parametrize(
    "kind",
    [
        pytest.param(DcmtkStoreScp, id="storescp", marks=pytest.mark.peer("dcmtk")),
        pytest.param(PynetdicomScp, id="pynetdicom", marks=pytest.mark.peer("pynetdicom")),
    ],
)
PARALLEL = pytest.mark.parametrize("parallel", [1, 4])


def address(peer: Peer | Listener | ScriptedAcceptor) -> PeerAddress:
    return PeerAddress(getattr(peer, "ae_title", "SCRIPTED"), peer.host, peer.port)


def source(corpus: Corpus) -> dict[str, bytes]:
    return data_sets({file.sop_instance: file.path for file in corpus.files})


@BIT_PRESERVING
@PARALLEL
async def test_corpus_arrives_byte_equal(kind: Callable[[], Peer], parallel: int, corpus: Corpus) -> None:
    async with kind() as peer:
        outcome = await send(address(peer), read_files(corpus.paths), parallel=parallel, limits=LIMITS)
        assert (outcome.sent, outcome.failures, outcome.warnings) == (len(corpus.files), [], [])
        assert outcome.nbytes == sum(map(len, source(corpus).values()))
        assert data_sets(peer.stored()) == source(corpus)


@pytest.mark.peer("orthanc")
@PARALLEL
async def test_orthanc_keeps_the_corpus(parallel: int, corpus: Corpus) -> None:
    async with Orthanc() as peer:
        outcome = await send(address(peer), read_files(corpus.paths), parallel=parallel, limits=LIMITS)
        assert (outcome.sent, outcome.failures) == (len(corpus.files), [])
        held = data_sets(peer.stored())
    assert held.keys() == source(corpus).keys()
    written_anew = {  # sequences with other lengths, and what it inflates
        file.sop_instance
        for file in corpus.files
        if file.sop_class == BASIC_TEXT_SR or file.transfer_syntax == DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN
    }
    assert {uid for uid, data in source(corpus).items() if held[uid] != data} <= written_anew


@PARALLEL
@pytest.mark.parametrize("durable", [False, True], ids=["fast", "durable"])
async def test_our_own_listener_stores_the_corpus_byte_equal(listener: Listener, parallel: int, corpus: Corpus) -> None:
    outcome = await send(address(listener), read_files(corpus.paths), parallel=parallel, limits=LIMITS)
    assert (outcome.sent, outcome.failures) == (len(corpus.files), [])
    assert data_sets({path.stem: path for path in listener.files()}) == source(corpus)


async def test_parallel_means_so_many_associations(listener: Listener, tmp_path: Path) -> None:
    files = read_files(write_objects(tmp_path / "sources", 40))
    notices: list[Notice] = []
    outcome = await send(address(listener), files, parallel=4, limits=LIMITS, notify=notices.append)
    assert outcome.sent == 40
    assert len(listener.seen("assoc.opened")) == 4
    sent = [notice for notice in notices if isinstance(notice, InstanceSent)]
    assert {notice.sop_instance_uid for notice in sent} == {file.sop_instance_uid for file in files}


@pytest.mark.parametrize("size", [1, 2, 65535, 131060, 131061, 400001])
async def test_data_set_of_any_length_arrives_whole(listener: Listener, tmp_path: Path, size: int) -> None:
    path = write_object(tmp_path, "1.2.3.9", pixel_bytes=size)
    outcome = await send(address(listener), read_files([path]), limits=LIMITS)
    assert outcome.sent == 1
    assert listener.stored() == [data_set(path)]


ONLY_CT = {"any_storage_sop_class": False, "abstract_syntaxes": frozenset({raw.CT_IMAGE, raw.VERIFICATION})}


@pytest.mark.parametrize("listener_options", [ONLY_CT])
@PARALLEL
async def test_refused_sop_class_is_reported_per_file_and_the_others_arrive(
    listener: Listener, parallel: int, corpus: Corpus
) -> None:
    outcome = await send(address(listener), read_files(corpus.paths), parallel=parallel, limits=LIMITS)
    refused = {file.path for file in corpus.files if file.sop_class != raw.CT_IMAGE}
    assert outcome.sent == len(corpus.files) - len(refused) == len(listener.files())
    assert {path for path, _ in outcome.failures} == refused
    assert all("presentation context" in why for _, why in outcome.failures)


class AnswerStores:
    """A step of a script: answer so many C-STORE-RQs with a status."""

    def __init__(self, count: int, status: int = 0) -> None:
        self.count = count
        self.status = status

    async def run(self, link: Link, received: list[Pdu]) -> None:
        for _ in range(self.count):
            request = await link.read_reply()
            message_id = int.from_bytes(request.fields[raw.MESSAGE_ID], "little")
            uid = request.fields[raw.AFFECTED_SOP_INSTANCE].rstrip(b"\0").decode()
            await link.send(raw.message(1, raw.c_store_rsp(message_id, uid, self.status)))


class Abort:
    """A step of a script: A-ABORT instead of the next answer."""

    async def run(self, link: Link, received: list[Pdu]) -> None:
        await link.read_reply()
        await link.send(raw.abort())
        await link.expect_closed()


ACCEPT = (Recv(raw.ASSOCIATE_RQ), Send(raw.associate_ac()))
RELEASE = (Recv(raw.RELEASE_RQ), Send(raw.release_rp()))


async def sent_to(files: list[DicomFile], *scripts: Sequence[Any]) -> SendOutcome:
    """What becomes of files sent to a peer whose n-th association follows the n-th script; there must be so many."""
    async with asyncio.timeout(ENDS_S), ScriptedAcceptor(scripts) as acceptor:
        outcome = await send(address(acceptor), files, limits=LIMITS)
        await acceptor.finished()
    assert len(acceptor.received) == len(scripts)
    return outcome


def failed(outcome: SendOutcome) -> list[Path]:
    return [path for path, _ in outcome.failures]


async def test_abort_costs_the_file_under_way_and_the_others_go_over_another_association(tmp_path: Path) -> None:
    files = read_files(write_objects(tmp_path, 5))
    outcome = await sent_to(files, [*ACCEPT, AnswerStores(2), Abort()], [*ACCEPT, AnswerStores(2), *RELEASE])
    assert outcome.sent == 4
    assert failed(outcome) == [files[2].path]
    assert "aborted by the peer" in outcome.failures[0][1]


async def test_peer_that_aborts_at_every_object_is_asked_once(tmp_path: Path) -> None:
    files = read_files(write_objects(tmp_path, 5))
    outcome = await sent_to(files, [*ACCEPT, Abort()])
    assert outcome.sent == 0
    assert failed(outcome) == [file.path for file in files]
    assert "aborted by the peer" in outcome.failures[0][1]
    assert all(why.startswith("not sent: ") for _, why in outcome.failures[1:])


async def test_association_that_stored_nothing_is_the_last(tmp_path: Path) -> None:
    files = read_files(write_objects(tmp_path, 5))
    outcome = await sent_to(files, [*ACCEPT, AnswerStores(1), Abort()], [*ACCEPT, Abort()])
    assert outcome.sent == 1
    assert failed(outcome) == [file.path for file in files[1:]]
    assert [why.startswith("not sent: ") for _, why in outcome.failures] == [False, False, True, True]


async def test_refused_objects_are_nothing_stored(tmp_path: Path) -> None:
    files = read_files(write_objects(tmp_path, 4))
    outcome = await sent_to(files, [*ACCEPT, AnswerStores(2, OUT_OF_RESOURCES), Abort()])
    assert (outcome.sent, failed(outcome)) == (0, [file.path for file in files])


async def test_peer_that_takes_no_second_association_gets_nothing_more(tmp_path: Path) -> None:
    files = read_files(write_objects(tmp_path, 4))
    reject = [Recv(raw.ASSOCIATE_RQ), Send(raw.associate_rj(2, 3, 2))]
    outcome = await sent_to(files, [*ACCEPT, AnswerStores(1), Abort()], reject)
    assert (outcome.sent, failed(outcome)) == (1, [file.path for file in files[1:]])
    assert all("not sent: association rejected for now" in why for _, why in outcome.failures[1:])


@PARALLEL
async def test_connections_that_are_reset_after_some_objects_cost_one_file_each(
    listener: Listener, tmp_path: Path, parallel: int
) -> None:
    files = read_files(write_objects(tmp_path / "sources", 40))
    toxics = Toxics(limit_bytes=5 * files[0].path.stat().st_size, end=End.RESET)
    async with FaultProxy(listener.host, listener.port, outgoing=toxics) as proxy:
        peer = PeerAddress(listener.ae_title, *proxy.address)
        outcome = await send(peer, files, parallel=parallel, limits=LIMITS)
    assert outcome.sent + len(outcome.failures) == 40
    assert proxy.connections > parallel
    assert parallel <= len(outcome.failures) <= proxy.connections
    assert not [why for _, why in outcome.failures if why.startswith("not sent")]
    held = {path.stem for path in listener.files()}
    assert {file.sop_instance_uid for file in files if file.path not in failed(outcome)} <= held


@pytest.mark.parametrize(
    ("status", "sent", "failed", "warned"),
    [(0, 3, 0, 0), (0xB000, 3, 0, 3), (0xB007, 3, 0, 3), (OUT_OF_RESOURCES, 0, 3, 0), (0x0124, 0, 3, 0)],
)
async def test_status_of_each_file_decides_what_became_of_it(
    tmp_path: Path, status: int, sent: int, failed: int, warned: int
) -> None:
    outcome = await sent_to(read_files(write_objects(tmp_path, 3)), [*ACCEPT, AnswerStores(3, status), *RELEASE])
    assert (outcome.sent, len(outcome.failures), len(outcome.warnings)) == (sent, failed, warned)
    assert all(f"{status:04X}H" in why for _, why in (*outcome.failures, *outcome.warnings))


@pytest.mark.parametrize("error", [FileNotFoundError(2, "No such file"), PermissionError(13, "Permission denied")])
async def test_file_that_cannot_be_opened_fails_alone(
    listener: Listener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    files = read_files(write_objects(tmp_path / "sources", 5))
    real_open = os.open

    def refusing_open(path: Any, *arguments: Any, **options: Any) -> int:
        if path == files[1].path:
            raise error
        return real_open(path, *arguments, **options)

    monkeypatch.setattr(os, "open", refusing_open)
    outcome = await send(address(listener), files, limits=LIMITS)
    assert outcome.sent == 4
    assert outcome.failures == [(files[1].path, error.strerror)]


async def test_file_that_shrinks_is_aborted_and_never_stored_and_the_others_arrive(
    listener: Listener, tmp_path: Path
) -> None:
    directory = tmp_path / "sources"
    paths = write_objects(directory, 3)
    shrinking = write_object(directory, "1.2.3.9", pixel_bytes=1 << 20)
    files = read_files([shrinking, *paths])
    with shrinking.open("r+b") as file:
        file.truncate(1 << 19)
    outcome = await send(address(listener), files, limits=LIMITS)
    assert (outcome.sent, failed(outcome)) == (3, [shrinking])
    assert listener.stored() == sorted(data_set(path) for path in paths)
    await listener.event("assoc.aborted")


def pairs(count: int) -> list[tuple[str, str]]:
    classes, syntaxes = list(STORAGE_SOP_CLASSES)[:50], list(TRANSFER_SYNTAXES)[:8]
    return [(sop_class, syntax) for sop_class in classes for syntax in syntaxes][:count]


@pytest.mark.parametrize("count", [1, 128, 129, 300])
def test_batches_hold_at_most_as_many_pairs_as_contexts(count: int) -> None:
    files = [
        DicomFile(Path(f"{n}-{repeat}"), sop_class, f"1.2.{n}", syntax, 0, 2)
        for repeat in range(2)
        for n, (sop_class, syntax) in enumerate(pairs(count))
    ]
    batches = _batches(files)
    in_batches = [{(file.sop_class_uid, file.transfer_syntax_uid) for file in batch} for batch in batches]
    assert [len(found) for found in in_batches[:-1]] == [MAX_PRESENTATION_CONTEXTS] * (len(batches) - 1)
    assert len(batches) == -(-count // MAX_PRESENTATION_CONTEXTS)
    assert sum(map(len, in_batches)) == count, "a pair is in two batches"
    assert sorted(str(file.path) for batch in batches for file in batch) == sorted(str(file.path) for file in files)


async def test_more_pairs_than_contexts_go_over_several_associations(listener: Listener, tmp_path: Path) -> None:
    directory = tmp_path / "sources"
    directory.mkdir()
    paths = [
        write_object(directory, f"1.2.3.{n}", sop_class=sop_class, transfer_syntax=syntax)
        for n, (sop_class, syntax) in enumerate(pairs(140))
    ]
    outcome = await send(address(listener), read_files(paths), limits=LIMITS)
    assert (outcome.sent, outcome.failures) == (140, [])
    assert [event["contexts"] for event in listener.seen("assoc.opened")] == [128, 12]
    metas = {read_file_meta(path).transfer_syntax_uid for path in listener.files()}
    assert metas == {syntax for _, syntax in pairs(140)}


async def test_no_association_at_all_is_an_error(listener: Listener, tmp_path: Path) -> None:
    files = read_files(write_objects(tmp_path / "sources", 2))
    async with asyncio.timeout(ENDS_S):
        with pytest.raises(AssociationRejected, match="called AE title not recognized"):
            await send(PeerAddress("WRONG", listener.host, listener.port), files, limits=LIMITS)
        with pytest.raises(ConnectFailed):
            await send(PeerAddress("NOBODY", "127.0.0.1", peers.free_port()), files, limits=LIMITS)
