"""Storage commitment: our SCU with real, embedded and hostile PACS, and the SCP of the embedded one with pynetdicom."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from fastmove.bench.spec import Spec
from fastmove.credentials import TlsSettings
from fastmove.dimse.status import (
    CLASS_INSTANCE_CONFLICT,
    INVALID_ARGUMENT_VALUE,
    NO_SUCH_ACTION,
    NO_SUCH_EVENT_TYPE,
    NO_SUCH_SOP_CLASS,
    NO_SUCH_SOP_INSTANCE,
    PROCESSING_FAILURE,
    UNRECOGNIZED_OPERATION,
)
from fastmove.errors import (
    AssociationAborted,
    CommitmentOverdue,
    DimseError,
    NoAcceptedContext,
    RemoteProtocolError,
    TimedOut,
)
from fastmove.limits import Limits
from fastmove.net.acceptor import Acceptor
from fastmove.net.requestor import AssociationHandle, associate
from fastmove.notices import (
    AssociationOpened,
    CommitmentAnswered,
    CommitmentReported,
    Notice,
    PeerMisbehaved,
    TlsOpened,
)
from fastmove.services.listener import listen
from fastmove.services.storage_commitment import (
    CONTEXTS,
    Commitment,
    CommitmentReceiver,
    CommitmentSCU,
    Transaction,
    commit,
    listen_for_reports,
)
from fastmove.services.storage_scu import send
from fastmove.storage.options import WriteOptions
from fastmove.storage.target import StorageTarget
from fastmove.types import PeerAddress
from fastmove.ul.negotiation import AcceptPolicy, contexts_for, propose
from tests.certificates import Certificates
from tests.integration import commitments, peers, raw
from tests.integration.commitments import ACCEPT, ReportAll, TakeRequest, information, report
from tests.integration.embedded import EmbeddedPacs, embedded_pacs
from tests.integration.listener import Listener
from tests.integration.objects import ROOT, read_files, write_objects
from tests.integration.peers import HOST, Orthanc, Peer
from tests.integration.scripted import Link, Pdu, ScriptedAcceptor, ScriptedRequestor, Send
from tests.integration.tls import settings_for

LIMITS: Final = Limits(
    connect_s=5.0, associate_s=5.0, response_s=10.0, commit_s=20.0, artim_s=0.5, release_s=2.0, stop_s=2.0
)
AT_ONCE: Final = LIMITS.replace(commit_s=0.2)
CT: Final = raw.CT_IMAGE
THREE: Final = {f"{ROOT}.1.{number}": CT for number in (1, 2, 3)}
"""What `write_objects` writes."""

UNKNOWN: Final = "1.2.3.4.5"


@dataclass
class Reports:
    """Where reports come to, and what has been told."""

    receiver: CommitmentReceiver
    acceptor: Acceptor
    notices: list[Notice] = field(default_factory=list)

    def told(self, *kinds: type[Notice]) -> list[Notice]:
        return [notice for notice in self.notices if isinstance(notice, kinds)]

    @property
    def wrongs(self) -> list[tuple[str, str]]:
        return [(each.event, each.detail) for each in self.notices if isinstance(each, PeerMisbehaved)]

    @asynccontextmanager
    async def pacs(self, rq: bytes | None = None) -> AsyncIterator[ScriptedRequestor]:
        """A PACS that has something to report, and an association for it."""
        async with ScriptedRequestor(HOST, self.acceptor.port) as peer:
            default = raw.associate_rq(contexts=commitments.CONTEXTS, user_items=commitments.SCP_ROLE)
            assert await peer.associate(rq or default) == {1: 0}
            yield peer


@asynccontextmanager
async def reports(tls: TlsSettings | None = None) -> AsyncIterator[Reports]:
    """A listener that takes nothing but reports."""
    notices: list[Notice] = []
    receiver = CommitmentReceiver(notices.append)
    async with listen_for_reports(HOST, 0, "FASTMOVE", receiver, LIMITS, notices.append, tls) as acceptor:
        yield Reports(receiver, acceptor, notices)


def asking(address: PeerAddress, limits: Limits = LIMITS) -> AbstractAsyncContextManager[AssociationHandle]:
    """An association for requests."""
    return associate(address, propose("FASTMOVE", address.ae_title, CONTEXTS), limits)


def address(peer: Peer | ScriptedAcceptor) -> PeerAddress:
    return PeerAddress(getattr(peer, "ae_title", "SCRIPTED"), peer.host, peer.port)


async def stored(peer: PeerAddress, directory: Path) -> None:
    """The peer has the three objects."""
    outcome = await send(peer, read_files(write_objects(directory, 3)), limits=LIMITS)
    assert outcome.sent == 3


def all_of(commitments: Iterable[Commitment]) -> tuple[set[str], dict[str, int], set[str]]:
    """What several say together."""
    committed: set[str] = set()
    failed: dict[str, int] = {}
    missing: set[str] = set()
    for each in commitments:
        committed |= each.committed
        failed |= each.failed
        missing |= each.missing
    return committed, failed, missing


# ---------------------------------------------------------------------- real PACS


@pytest.mark.peer("orthanc")
@pytest.mark.parametrize("most", [1000, 3, 1])
async def test_orthanc_reports_to_our_port_on_what_it_has_and_what_not(tmp_path: Path, most: int) -> None:
    limits = LIMITS.replace(commit_instances=most)
    async with reports() as to, Orthanc({"FASTMOVE": (HOST, to.acceptor.port)}) as orthanc:
        peer = address(orthanc)
        await stored(peer, tmp_path / "sources")
        async with asking(peer, limits) as association:
            said = await commit(association, THREE | {UNKNOWN: CT}, to.receiver)
    assert len(said) == -(-4 // most)
    assert all_of(said) == (set(THREE), {UNKNOWN: NO_SUCH_SOP_INSTANCE}, set())
    assert len(to.told(CommitmentReported)) == len(said)
    assert to.wrongs == []


@pytest.mark.peer("orthanc")
async def test_port_that_takes_objects_takes_reports_of_orthanc_too(tmp_path: Path) -> None:
    notices: list[Notice] = []
    receiver = CommitmentReceiver()
    with StorageTarget(tmp_path / "stored", WriteOptions(durable=False)) as target:
        policy = AcceptPolicy("FASTMOVE")
        async with (
            listen(HOST, 0, target, policy, LIMITS, notices.append, commitments=receiver) as acceptor,
            Orthanc({"FASTMOVE": (HOST, acceptor.port)}) as orthanc,
        ):
            peer, here = address(orthanc), PeerAddress("FASTMOVE", HOST, acceptor.port)
            await stored(peer, tmp_path / "sources")
            await stored(here, tmp_path / "sources")
            async with asking(peer) as association:
                (said,) = await commit(association, THREE, receiver)
    assert said.committed == set(THREE)
    assert not any(isinstance(notice, PeerMisbehaved) for notice in notices)


@pytest.mark.peer("orthanc")
async def test_orthanc_knows_an_object_of_another_class(tmp_path: Path) -> None:
    async with reports() as to, Orthanc({"FASTMOVE": (HOST, to.acceptor.port)}) as orthanc:
        await stored(address(orthanc), tmp_path / "sources")
        uid = next(iter(THREE))
        async with asking(address(orthanc)) as association:
            (said,) = await commit(association, {uid: raw.MR_IMAGE}, to.receiver)
    assert said.failed == {uid: CLASS_INSTANCE_CONFLICT}
    assert said.uncommitted == {uid: "class/instance conflict (0119H)"}


class PynetdicomCommitment(Peer):
    """pynetdicom as SCP, which reports over the association of the request."""

    def __init__(self) -> None:
        super().__init__("PYNETDICOM")

    def command(self) -> list[str]:
        return [sys.executable, SCRIPT, "scp", self.ae_title, str(self.port), str(self.storage)]


SCRIPT: Final = str(Path(__file__).with_name("pynetdicom_commitment.py"))


@pytest.mark.peer("pynetdicom")
@pytest.mark.parametrize("most", [1000, 2])
async def test_pynetdicom_reports_over_the_same_association(tmp_path: Path, most: int) -> None:
    async with PynetdicomCommitment() as peer:
        await stored(address(peer), tmp_path / "sources")
        async with asking(address(peer), LIMITS.replace(commit_instances=most)) as association:
            said = await commit(association, THREE)
    gone = f"{ROOT}.1.2"
    assert all_of(said) == (THREE.keys() - {gone}, {gone: NO_SUCH_SOP_INSTANCE}, set())


# ---------------------------------------------------------------------- the embedded PACS as SCP

TWO: Final = Spec(studies=1, series=1, instances=2, size=2_000)


@asynccontextmanager
async def asked(*faults: str, limits: Limits = LIMITS) -> AsyncIterator[tuple[EmbeddedPacs, Reports, dict[str, str]]]:
    """An embedded PACS that knows where we listen, and what it holds: SOP Instance UID → SOP Class UID."""
    async with reports() as to, embedded_pacs(TWO, faults=faults) as pacs:
        pacs.going_to("FASTMOVE", to.acceptor.port)
        yield pacs, to, {uid: file.sop_class_uid for uid, file in pacs.files.items()}


def told_by(pacs: EmbeddedPacs, event: str) -> list[Any]:
    return [notice for notice in pacs.notices if notice.event == event]


async def test_embedded_pacs_answers_for_what_it_holds_and_for_what_it_was_sent(tmp_path: Path) -> None:
    async with asked() as (pacs, to, held):
        await stored(pacs.address, tmp_path / "sources")
        async with asking(pacs.address) as association:
            (said,) = await commit(association, held | THREE | {UNKNOWN: CT, "*": CT}, to.receiver)
    assert said.committed == held.keys() | THREE.keys()
    assert said.failed == {UNKNOWN: NO_SUCH_SOP_INSTANCE, "*": NO_SUCH_SOP_INSTANCE}
    (opened,) = to.told(AssociationOpened)
    assert isinstance(opened, AssociationOpened)
    assert (opened.calling_ae_title, opened.called_ae_title) == ("FASTPACS", "FASTMOVE")
    assert to.wrongs == []
    (answered,) = told_by(pacs, "commit.answered")
    assert isinstance(answered, CommitmentAnswered)
    assert (answered.status, answered.committed, answered.failed) == (0, 5, 2)


async def test_object_of_another_class_is_a_conflict() -> None:
    async with asked() as (pacs, to, held):
        (uid, other) = held
        async with asking(pacs.address) as association:
            (said,) = await commit(association, held | {uid: raw.MR_IMAGE}, to.receiver)
    assert (said.committed, said.failed) == ({other}, {uid: CLASS_INSTANCE_CONFLICT})


async def test_commit_fails_strikes_so_many_and_tells_of_them() -> None:
    async with asked("commit-fails=1") as (pacs, to, held):
        async with asking(pacs.address) as association:
            (said,) = await commit(association, held, to.receiver)
        (told,) = told_by(pacs, "pacs.fault")
    assert said.failed == {told.detail: NO_SUCH_SOP_INSTANCE}
    assert said.committed == held.keys() - {told.detail}


async def test_commit_never_is_overdue_whatever_the_port() -> None:
    async with asked("commit-never") as (pacs, to, held):
        for receiver in (to.receiver, None):
            async with asking(pacs.address, AT_ONCE) as association:
                with pytest.raises(
                    CommitmentOverdue, match=r"no report on a storage commitment of 2 objects within 0.2"
                ):
                    await commit(association, held, receiver)
        assert [each.fault for each in told_by(pacs, "pacs.fault")] == ["commit-never"] * 2


async def test_commit_late_is_waited_for_and_survives_the_association_of_its_request() -> None:
    async with (
        asked("commit-late=0.2") as (pacs, to, held),
        asking(pacs.address) as association,
        CommitmentSCU(association, to.receiver) as scu,
    ):
        transaction = await scu.request(held)
        await association.release()
        said = await scu.result(transaction)
    assert said.committed == held.keys()


async def test_commit_same_association_needs_no_address() -> None:
    async with embedded_pacs(TWO, faults=["commit-same-association"]) as pacs:
        held = {uid: file.sop_class_uid for uid, file in pacs.files.items()}
        async with asking(pacs.address, LIMITS.replace(commit_instances=1)) as association:
            said = await commit(association, held)
        assert all_of(said) == (held.keys(), {}, set())
        assert pacs.associations == 1


async def test_report_goes_to_the_address_if_its_association_is_over() -> None:
    async with (
        asked("commit-same-association", "commit-late=0.2") as (pacs, to, held),
        asking(pacs.address) as association,
        CommitmentSCU(association, to.receiver) as scu,
    ):
        transaction = await scu.request(held)
        await association.release()
        said = await scu.result(transaction)
    assert said.committed == held.keys()


async def test_request_and_report_go_over_tls(certificates: Certificates) -> None:
    server = settings_for(certificates, certificates.server)
    async with reports(server) as to, embedded_pacs(TWO, tls=server) as pacs:
        pacs.destinations["FASTMOVE"] = PeerAddress("FASTMOVE", HOST, to.acceptor.port, tls=server)
        peer = pacs.address.replace(tls=settings_for(certificates, certificates.client))
        async with asking(peer) as association:
            (said,) = await commit(
                association, {uid: file.sop_class_uid for uid, file in pacs.files.items()}, to.receiver
            )
        assert to.told(TlsOpened)
    assert said.committed == pacs.files.keys()


async def test_stranger_without_an_address_is_refused() -> None:
    async with embedded_pacs(TWO) as pacs, asking(pacs.address) as association:
        with pytest.raises(DimseError) as caught:
            await commit(association, THREE)
    assert caught.value.status == PROCESSING_FAILURE
    assert "no address" in caught.value.error_comment


async def test_report_that_nobody_takes_is_told_by_the_pacs() -> None:
    async with embedded_pacs(TWO) as pacs:
        pacs.going_to("FASTMOVE", peers.free_port())
        async with asking(pacs.address, AT_ONCE) as association:
            with pytest.raises(CommitmentOverdue):
                await commit(association, THREE)
        (told,) = told_by(pacs, "commit.unreported")
    assert "cannot connect" in told.detail


async def test_report_is_not_sent_where_the_role_is_not_granted() -> None:
    async with embedded_pacs(TWO) as pacs, ScriptedAcceptor([ACCEPT]) as nobody:
        pacs.going_to("FASTMOVE", nobody.port)
        async with asking(pacs.address, AT_ONCE) as association:
            with pytest.raises(CommitmentOverdue):
                await commit(association, THREE)
        (told,) = told_by(pacs, "commit.unreported")
    assert "may not be SCP" in told.detail


BAD_REQUESTS: Final[dict[str, tuple[dict[int, bytes | None], bytes | None, int]]] = {
    "another class": ({commitments.REQUESTED_SOP_CLASS: raw.uid(CT)}, information("2.25.7"), NO_SUCH_SOP_CLASS),
    "another instance": (
        {commitments.REQUESTED_SOP_INSTANCE: raw.uid("1.2")},
        information("2.25.7"),
        NO_SUCH_SOP_INSTANCE,
    ),
    "another action": ({commitments.ACTION_TYPE: raw.us(2)}, information("2.25.7"), NO_SUCH_ACTION),
    "no data set": ({}, None, INVALID_ARGUMENT_VALUE),
    "no instance": ({}, information("2.25.7"), INVALID_ARGUMENT_VALUE),
    "broken": ({}, information("2.25.7", ["1.2.3"])[:-3], PROCESSING_FAILURE),
    "no data": ({}, b"", PROCESSING_FAILURE),
}


@pytest.mark.parametrize(("change", "dataset", "status"), BAD_REQUESTS.values(), ids=BAD_REQUESTS)
async def test_bad_request_is_answered_with(
    change: dict[int, bytes | None], dataset: bytes | None, status: int
) -> None:
    async with embedded_pacs(TWO) as pacs, ScriptedRequestor(HOST, pacs.address.port) as peer:
        await peer.associate(raw.associate_rq(called="FASTPACS", contexts=commitments.CONTEXTS))
        fields: dict[int, bytes | None] = {
            raw.AFFECTED_SOP_CLASS: None,
            commitments.REQUESTED_SOP_CLASS: raw.uid(commitments.STORAGE_COMMITMENT),
            commitments.REQUESTED_SOP_INSTANCE: raw.uid(commitments.INSTANCE),
            commitments.ACTION_TYPE: raw.us(1),
            raw.DATA_SET_TYPE: raw.us(raw.NO_DATA_SET if dataset is None else 1),
        }
        command = raw.request(0x0130, 7, commitments.STORAGE_COMMITMENT, fields | change)
        await peer.send(raw.message(1, command, dataset))
        await peer.expect_status(status, 7)
        await peer.release()


@pytest.mark.peer("pynetdicom")
@pytest.mark.parametrize("faults", [(), ("commit-same-association",)], ids=["own association", "same association"])
async def test_pynetdicom_is_reported_to(faults: tuple[str, ...]) -> None:
    port = peers.free_port()
    async with embedded_pacs(TWO, faults=faults) as pacs:
        pacs.going_to("PYNETDICOM", port)
        arguments = ["scu", "FASTPACS", HOST, str(pacs.address.port), str(port), *pacs.files, UNKNOWN]
        code, output = await peers.run_tool(sys.executable, SCRIPT, *arguments)
        assert code == 0, output
        said = json.loads(output)
        assert said == {
            "status": 0,
            "event_type": 2,
            "own_association": bool(faults),
            "ReferencedSOPSequence": dict.fromkeys(pacs.files, 0),
            "FailedSOPSequence": {UNKNOWN: NO_SUCH_SOP_INSTANCE},
        }
        assert not told_by(pacs, "commit.unreported")


# ---------------------------------------------------------------------- hostile reports


@asynccontextmanager
async def waiting() -> AsyncIterator[tuple[Reports, Transaction]]:
    """Somebody waits for a report on the three objects; at the end a good one must still be taken."""
    async with reports() as to:
        transaction = to.receiver.begin(THREE)
        yield to, transaction
        if not transaction.reported.done():
            async with to.pacs() as peer:
                await peer.send(report(information(transaction.uid, THREE)))
                await peer.expect_status(0)
                await peer.release()
        assert transaction.reported.result().committed == set(THREE)


HOSTILE: Final[dict[str, tuple[Any, dict[str, Any], int]]] = {
    # the data set, given the transaction; fields of the report; the status that it gets
    "unknown transaction": (lambda _: information("2.25.99", THREE), {}, INVALID_ARGUMENT_VALUE),
    "no transaction": (lambda _: information("", THREE), {}, INVALID_ARGUMENT_VALUE),
    "foreign object": (lambda t: information(t, [*list(THREE)[:2], UNKNOWN]), {}, INVALID_ARGUMENT_VALUE),
    "foreign failure": (
        lambda t: information(t, list(THREE)[:2], {UNKNOWN: 0x0110}),
        {"event_type": 2},
        INVALID_ARGUMENT_VALUE,
    ),
    "another class": (lambda t: information(t, THREE, sop_class=raw.MR_IMAGE), {}, INVALID_ARGUMENT_VALUE),
    "more than were asked for": (lambda t: information(t, [*THREE, UNKNOWN]), {}, PROCESSING_FAILURE),
    "same object again and again": (lambda t: information(t, 2 * list(THREE)), {}, PROCESSING_FAILURE),
    "huge list": (lambda t: information(t, ["1.2.3"] * 200_000), {}, PROCESSING_FAILURE),
    "huge list of nobody's": (lambda _: information("2.25.99", ["1.2.3"] * 200_000), {}, INVALID_ARGUMENT_VALUE),
    "broken data set": (lambda t: information(t, THREE)[:-6], {}, PROCESSING_FAILURE),
    "bytes": (lambda _: b"\xff" * 1000, {}, PROCESSING_FAILURE),
    "no bytes": (lambda _: b"", {}, PROCESSING_FAILURE),
    "no data set": (lambda _: None, {}, INVALID_ARGUMENT_VALUE),
    "no such event": (lambda t: information(t, THREE), {"event_type": 3}, NO_SUCH_EVENT_TYPE),
    "no event": (lambda t: information(t, THREE), {"change": {commitments.EVENT_TYPE: None}}, NO_SUCH_EVENT_TYPE),
    "another instance": (
        lambda t: information(t, THREE),
        {"change": {raw.AFFECTED_SOP_INSTANCE: raw.uid("1.2.3")}},
        NO_SUCH_SOP_INSTANCE,
    ),
    "no class": (lambda t: information(t, THREE), {"change": {raw.AFFECTED_SOP_CLASS: None}}, NO_SUCH_SOP_CLASS),
}


@pytest.mark.parametrize(("dataset", "fields", "status"), HOSTILE.values(), ids=HOSTILE)
async def test_hostile_report_is_refused_and_told_and_the_good_one_is_taken(
    dataset: Any, fields: dict[str, Any], status: int
) -> None:
    async with waiting() as (to, transaction), to.pacs() as peer:
        peer.deadline = 5.0
        for message_id in (1, 2):  # the association lives
            await peer.send(report(dataset(transaction.uid), message_id=message_id, **fields))
            await peer.expect_status(status, message_id)
        await peer.release()
        assert [event for event, _ in to.wrongs] == ["commit.refused"] * 2
        assert not any(THREE.keys() & set(detail.split()) for _, detail in to.wrongs), "no UID of a data set is logged"
        assert not transaction.reported.done()


async def test_report_that_comes_again_is_answered_with_success_and_ignored() -> None:
    async with waiting() as (to, transaction), to.pacs() as peer:
        await peer.send(report(information(transaction.uid, THREE)))
        await peer.expect_status(0)
        first = transaction.reported.result()
        await peer.send(report(information(transaction.uid, (), dict.fromkeys(THREE, 0x0110)), event_type=2))
        await peer.expect_status(0)
        await peer.release()
        assert transaction.reported.result() is first
        assert to.wrongs == [("commit.duplicate", "")]
        assert len(to.told(CommitmentReported)) == 1


async def test_what_is_in_neither_list_is_missing_and_what_is_in_both_has_failed() -> None:
    one, two, three = THREE
    async with reports() as to, to.pacs() as peer:
        transaction = to.receiver.begin(THREE)
        await peer.send(report(information(transaction.uid, [one, two], {two: 0x0213}), event_type=1))
        await peer.expect_status(0)
        await peer.release()
    said = transaction.reported.result()
    assert (said.committed, said.failed, said.missing) == ({one}, {two: 0x0213}, {three})
    assert said.uncommitted == {two: "resource limitation (0213H)", three: "not in the report"}


async def test_report_after_nobody_waits_any_more_is_one_on_nothing() -> None:
    async with reports() as to, to.pacs() as peer:
        transaction = to.receiver.begin(THREE)
        to.receiver.end(transaction)
        await peer.send(report(information(transaction.uid, THREE)))
        await peer.expect_status(INVALID_ARGUMENT_VALUE)
        await peer.release()


async def test_pacs_that_does_not_ask_for_its_role_is_taken_and_told_of() -> None:
    async with waiting() as (to, transaction), to.pacs(raw.associate_rq(contexts=commitments.CONTEXTS)) as peer:
        await peer.send(report(information(transaction.uid, THREE)))
        await peer.expect_status(0)
        await peer.release()
        assert to.wrongs == [("commit.role", "")]


async def test_malformed_report_is_aborted_and_others_go_on() -> None:
    async with waiting() as (to, _), to.pacs() as peer:
        await peer.send(report(None, change={raw.MESSAGE_ID: None}))
        await peer.expect_abort(0, 0)
        await peer.expect_closed()
        assert to.wrongs[0][0] == "dimse.no_msgid"


async def test_listener_for_reports_stores_nothing_and_answers_echo() -> None:
    async with reports() as to:
        contexts = [*commitments.CONTEXTS, raw.context_rq(3, raw.VERIFICATION), raw.context_rq(5, CT)]
        async with ScriptedRequestor(HOST, to.acceptor.port) as peer:
            assert await peer.associate(raw.associate_rq(contexts=contexts)) == {1: 0, 3: 0, 5: 3}
            await peer.echo()
            await peer.send(raw.message(1, raw.request(0x0130, 2, commitments.STORAGE_COMMITMENT)))
            await peer.expect_status(UNRECOGNIZED_OPERATION, 2)
            await peer.release()


async def test_listener_that_is_not_told_to_takes_no_reports(listener: Listener) -> None:
    rq = raw.associate_rq(
        contexts=[*commitments.CONTEXTS, raw.context_rq(3, raw.VERIFICATION)], user_items=commitments.SCP_ROLE
    )
    async with listener.connect() as peer:
        assert await peer.associate(rq) == {1: 3, 3: 0}
        assert peer.user_items[0x54][-2:] == b"\0\0"
        await peer.send(raw.message(3, raw.request(0x0100, 1, commitments.STORAGE_COMMITMENT)))
        await peer.expect_status(UNRECOGNIZED_OPERATION)
        await peer.release()


# ---------------------------------------------------------------------- a PACS that is up to something


class Abort:
    """A step of a script: A-ABORT."""

    async def run(self, link: Link, received: list[Pdu]) -> None:
        await link.send(raw.abort())
        await link.expect_closed()


async def test_report_before_the_response_counts() -> None:
    taken = TakeRequest(status=None)
    script = [*ACCEPT, taken, ReportAll(taken), Send(commitments.action_response(1, 0))]
    async with ScriptedAcceptor([script]) as pacs, asking(address(pacs)) as association:
        (said,) = await commit(association, THREE)
        await pacs.finished()
        association.abort()
    assert said.committed == set(THREE)


async def test_end_of_the_association_ends_the_wait_where_no_report_can_come() -> None:
    async with ScriptedAcceptor([[*ACCEPT, TakeRequest(), Abort()]]) as pacs:
        with pytest.raises(AssociationAborted, match="by the peer"):
            async with asking(address(pacs)) as association:
                await commit(association, THREE)


async def test_end_of_the_association_is_nothing_to_who_listens_elsewhere() -> None:
    taken = TakeRequest()
    async with (
        reports() as to,
        ScriptedAcceptor([[*ACCEPT, taken, Abort()]]) as pacs,
        asking(address(pacs)) as association,
        CommitmentSCU(association, to.receiver) as scu,
    ):
        transaction = await scu.request(THREE)
        await pacs.finished()
        async with to.pacs() as peer:
            await peer.send(report(taken.dataset))
            await peer.expect_status(0)
            await peer.release()
        said = await scu.result(transaction)
    assert said.committed == set(THREE)


@pytest.mark.parametrize("status", [0x0110, 0x0123, 0xC123])
async def test_refused_request_is_an_error_with_its_status(status: int) -> None:
    async with ScriptedAcceptor([[*ACCEPT, TakeRequest(status)]]) as pacs, asking(address(pacs)) as association:
        with pytest.raises(DimseError) as caught:
            await commit(association, THREE)
        association.abort()
    assert caught.value.status == status


WRONG_RESPONSES: Final = {
    "to another request": commitments.action_response(9, 0),
    "of another kind": raw.message(1, raw.c_store_rsp(1, "1.2")),
    "without a status": raw.message(1, raw.response(0x8130, 1, CT, 0, {raw.STATUS: None})),
}


@pytest.mark.parametrize("response", WRONG_RESPONSES.values(), ids=WRONG_RESPONSES)
async def test_wrong_response_is_aborted(response: bytes) -> None:
    async with ScriptedAcceptor([[*ACCEPT, TakeRequest(None), Send(response)]]) as pacs:
        with pytest.raises(RemoteProtocolError):
            async with asking(address(pacs)) as association:
                await commit(association, THREE)


async def test_response_that_does_not_come_is_a_time_out() -> None:
    async with ScriptedAcceptor([[*ACCEPT, TakeRequest(None)]]) as pacs:
        with pytest.raises(TimedOut, match="response_s"):
            async with asking(address(pacs), LIMITS.replace(response_s=0.1)) as association:
                await commit(association, THREE)


async def test_peer_without_storage_commitment_is_asked_nothing(listener: Listener) -> None:
    here = PeerAddress(listener.ae_title, listener.host, listener.port)
    contexts = contexts_for([raw.VERIFICATION], [raw.IMPLICIT_LE])
    async with associate(here, propose("FASTMOVE", here.ae_title, contexts), LIMITS) as association:
        with pytest.raises(NoAcceptedContext):
            await commit(association, THREE)


async def test_hostile_report_over_the_same_association_is_refused_and_the_good_one_is_taken() -> None:
    taken = TakeRequest()

    class Hostile:
        async def run(self, link: Link, received: list[Pdu]) -> None:
            for dataset, status in ((information("2.25.9", THREE), INVALID_ARGUMENT_VALUE), (b"", PROCESSING_FAILURE)):
                await link.send(report(dataset))
                await link.expect_status(status)

    script = [*ACCEPT, taken, Hostile(), ReportAll(taken)]
    async with ScriptedAcceptor([script]) as pacs, asking(address(pacs)) as association:
        (said,) = await commit(association, THREE)
        await pacs.finished()
        association.abort()
    assert said.committed == set(THREE)


@pytest.mark.parametrize("elsewhere", [False, True], ids=["one after the other", "all at once"])
@pytest.mark.parametrize("most", [1, 2, 3, 4])
async def test_commit_instances_is_how_many_go_into_one_request(most: int, elsewhere: bool) -> None:
    numbers: list[int] = []

    class Takes(TakeRequest):
        async def run(self, link: Link, received: list[Pdu]) -> None:
            await super().run(link, received)
            numbers.append(self.dataset.count(raw.element(0x00081150, raw.uid(CT))))

    requests = [Takes() for _ in range(-(-len(THREE) // most))]
    answers = [ReportAll(each) for each in requests]
    steps = (
        (*requests, *answers) if elsewhere else (step for both in zip(requests, answers, strict=True) for step in both)
    )
    limits = LIMITS.replace(commit_instances=most)
    async with ScriptedAcceptor([[*ACCEPT, *steps]]) as pacs, asking(address(pacs), limits) as association:
        said = await commit(association, THREE, CommitmentReceiver() if elsewhere else None)
        await pacs.finished()
        association.abort()
    assert numbers == {1: [1, 1, 1], 2: [2, 1], 3: [3], 4: [3]}[most]
    assert len({each.transaction_uid for each in said}) == len(requests)
    assert all_of(said)[0] == set(THREE)


async def test_who_gives_up_waiting_leaves_nothing_behind() -> None:
    async with embedded_pacs(TWO, faults=["commit-never"]) as pacs:
        pacs.going_to("FASTMOVE", 1)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1), asking(pacs.address) as association:
                await commit(association, THREE)
