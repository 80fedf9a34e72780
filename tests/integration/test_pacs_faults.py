"""The embedded PACS as an adversary: each fault, as who queries and retrieves sees it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from fastmove.bench.spec import Spec
from fastmove.dimse import identifier
from fastmove.dimse.messages import CFindRQ, CMoveRQ
from fastmove.errors import AssociationAborted, AssociationRejected, ConnectionLost
from fastmove.net.acceptor import Acceptor
from fastmove.net.requestor import AssociationHandle, associate
from fastmove.notices import AssociationClosed, AssociationOpened, FaultCommitted, InstanceStored, Notice
from fastmove.services.listener import listen
from fastmove.services.query_retrieve_scp import SOP_CLASSES
from fastmove.storage.options import WriteOptions
from fastmove.storage.target import StorageTarget
from fastmove.types import PeerAddress
from fastmove.uids import EXPLICIT_VR_LITTLE_ENDIAN
from fastmove.ul.negotiation import AcceptPolicy, contexts_for, propose
from tests.integration.embedded import HOST, LIMITS, EmbeddedPacs, embedded_pacs
from tests.integration.test_pacs import STUDY_ROOT, begin, counters, failed_list, keys, responses, study_move

STUDY_OF_TEN: Final = Spec(studies=1, series=1, instances=10, size=2_000)


@dataclass
class Scene:
    """A PACS, a listener that it sends to, and an association to ask on."""

    pacs: EmbeddedPacs
    listener: Acceptor
    stored: list[InstanceStored]
    notices: list[Notice]
    association: AssociationHandle = field(init=False)

    @property
    def study(self) -> str:
        return next(iter(self.pacs.studies))

    @property
    def series(self) -> str:
        return next(iter(self.pacs.studies[self.study]))

    @property
    def arrived(self) -> set[str]:
        return {notice.sop_instance_uid for notice in self.stored}

    @property
    def storage_associations(self) -> int:
        return sum(isinstance(notice, AssociationOpened) for notice in self.notices)

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait for something to become true."""
        async with asyncio.timeout(5):
            while not holds():
                await asyncio.sleep(0)

    async def closed(self, number: int) -> None:
        """Wait until so many storage associations have ended."""
        await self.until(lambda: sum(isinstance(notice, AssociationClosed) for notice in self.notices) >= number)

    def another(self) -> AbstractAsyncContextManager[AssociationHandle]:
        """An association with the PACS, with a context for each of its SOP classes."""
        contexts = contexts_for(sorted(SOP_CLASSES), [EXPLICIT_VR_LITTLE_ENDIAN])
        return associate(self.pacs.address, propose("TESTSCU", self.pacs.ae_title, contexts), LIMITS)

    async def move(self) -> list[tuple[Any, bytes | None]]:
        """Retrieve the study; all responses."""
        study_move(self.association, self.study)
        return await responses(self.association)

    async def find(self, level: str, **texts: str) -> tuple[list[dict[str, str]], int]:
        """What a query finds, and its final status."""
        request = CFindRQ(message_id=1, affected_sop_class_uid=STUDY_ROOT.find)
        begin(self.association, request, STUDY_ROOT.find, keys(QueryRetrieveLevel=level, **texts))
        *pending, (final, _) = await responses(self.association)
        found = [identifier.decode(data or b"", EXPLICIT_VR_LITTLE_ENDIAN) for _, data in pending]
        return [identifier.text_values(dataset) for dataset in found], final.status or 0


@asynccontextmanager
async def scene(folder: Path, *faults: str, spec: Spec = STUDY_OF_TEN, **options: Any) -> AsyncIterator[Scene]:
    """A PACS with these faults that sends into a folder; `options` are those of the PACS."""
    notices: list[Notice] = []
    stored: list[InstanceStored] = []
    with StorageTarget(folder, WriteOptions(durable=False)) as target:
        policy = AcceptPolicy("DEST")
        async with (
            listen(HOST, 0, target, policy, LIMITS, notices.append, stored.append) as listener,
            embedded_pacs(spec, faults=faults, **options) as pacs,
        ):
            pacs.destinations["DEST"] = PeerAddress("DEST", HOST, listener.port)
            on = Scene(pacs, listener, stored, notices)
            async with on.another() as on.association:
                yield on


async def test_without_faults_everything_arrives(tmp_path: Path) -> None:
    async with scene(tmp_path) as on:
        *_, (final, _) = await on.move()
    assert (final.status, counters(final)) == (0x0000, (None, 10, 0, 0))
    assert on.arrived == on.pacs.instances() == set(on.pacs.sent)
    assert on.pacs.dropped == frozenset()


async def test_move_ends_at_an_object_that_cannot_be_read(tmp_path: Path) -> None:
    async with scene(tmp_path) as on:
        order = sorted(on.pacs.instances())
        on.pacs.misbehave(f"unreadable={order[3]}\\{order[7]}")
        for _ in range(2):
            *_, (final, _) = await on.move()
            assert (final.status, counters(final)) == (0xC000, (None, None, None, None))
            assert final.error_comment == f"{order[3]} cannot be read"[:64]
    assert on.arrived == set(order[:3])
    assert [notice.detail for notice in on.pacs.notices if isinstance(notice, FaultCommitted)] == [order[3]] * 2


async def test_same_objects_cannot_be_read_each_time(tmp_path: Path) -> None:
    async with scene(tmp_path, "unreadable=30%") as on:
        for _ in range(3):
            *_, (final, _) = await on.move()
            assert final.status == 0xC000
    assert set(on.pacs.sent.values()) <= {3}
    assert len(on.arrived) < 9


async def test_dropped_objects_count_as_completed(tmp_path: Path) -> None:
    async with scene(tmp_path, "drop=3") as on:
        *_, (final, _) = await on.move()
    assert (final.status, counters(final)) == (0x0000, (None, 10, 0, 0))
    assert on.arrived == on.pacs.instances() - on.pacs.dropped
    assert len(on.pacs.dropped) == 3


async def test_failing_suboperations_are_counted_and_listed(tmp_path: Path) -> None:
    async with scene(tmp_path, "fail=2") as on:
        *_, (final, dataset) = await on.move()
    assert (final.status, counters(final)) == (0xB000, (None, 8, 2, 0))
    assert failed_list(dataset) == on.pacs.instances() - on.arrived


async def test_each_attempt_is_drawn_anew(tmp_path: Path) -> None:
    async with scene(tmp_path, "fail=20%") as on:
        statuses = []
        while not statuses or statuses[-1]:
            *_, (final, _) = await on.move()
            statuses.append(final.status)
    assert set(statuses) == {0xB000, 0x0000}


async def test_early_success_comes_before_the_objects(tmp_path: Path) -> None:
    async with scene(tmp_path, "early-success=0.05") as on:
        ((final, _),) = await on.move()
        assert (final.status, counters(final)) == (0x0000, (None, 10, 0, 0))
        assert on.arrived == set()
        await on.association.release()
        await on.closed(1)
        assert on.arrived == on.pacs.instances()


async def test_next_operation_may_begin_while_objects_of_an_early_success_are_sent(tmp_path: Path) -> None:
    async with scene(tmp_path, "early-success", "delay=0.01") as on:
        await on.move()
        found, final = await on.find("IMAGE", StudyInstanceUID=on.study, SOPInstanceUID="")
        assert (len(found), final) == (10, 0x0000)
        assert len(on.arrived) < 10


async def test_nothing_is_sent_and_called_a_success(tmp_path: Path) -> None:
    async with scene(tmp_path, "nothing") as on:
        *_, (final, _) = await on.move()
    assert (final.status, counters(final)) == (0x0000, (None, 10, 0, 0))
    assert (on.arrived, on.storage_associations) == (set(), 0)
    assert on.pacs.dropped == on.pacs.instances()


@pytest.mark.parametrize(
    ("how", "last_pending", "final"),
    [
        ("none", (None,) * 4, (None,) * 4),
        ("zero", (0, 0, 0, 0), (None, 0, 0, 0)),
        ("low", (0, 9, 0, 0), (None, 9, 0, 0)),
        ("high", (0, 11, 0, 0), (None, 11, 0, 0)),
        ("frozen", (9, 1, 0, 0), (None, 1, 0, 0)),
    ],
)
async def test_counters_are_told_otherwise_than_they_are(
    tmp_path: Path, how: str, last_pending: tuple[int, ...], final: tuple[int, ...]
) -> None:
    async with scene(tmp_path, f"counters={how}") as on:
        *_, (pending, _), (last, _) = await on.move()
    assert (counters(pending), counters(last)) == (last_pending, final)
    assert on.arrived == on.pacs.instances()


async def test_each_object_comes_over_an_association_of_its_own(tmp_path: Path) -> None:
    async with scene(tmp_path, "association-per-object", storage_idle_s=30.0) as on:
        *_, (final, _) = await on.move()
        assert (final.status, on.storage_associations) == (0x0000, 10)


@pytest.mark.parametrize(("fault", "error"), [("abort-after=3", AssociationAborted), ("close-after=3", ConnectionLost)])
async def test_association_of_the_move_ends_in_the_middle(tmp_path: Path, fault: str, error: type[Exception]) -> None:
    async with scene(tmp_path, fault) as on:
        with pytest.raises(error):
            await on.move()
        await on.closed(1)
        assert (on.pacs.objects_sent, on.pacs.moves) == (3, [])


async def test_objects_are_sent_although_their_move_was_aborted(tmp_path: Path) -> None:
    async with scene(tmp_path, "abort-after=0", "go-on") as on:
        with pytest.raises(AssociationAborted):
            await on.move()
        await on.closed(1)
        assert on.arrived == on.pacs.instances()


async def test_abort_may_come_after_the_last_object(tmp_path: Path) -> None:
    async with scene(tmp_path, "abort-after=99") as on:
        with pytest.raises(AssociationAborted):
            await on.move()
        await on.closed(1)
        assert on.arrived == on.pacs.instances()


async def test_share_of_the_moves_is_refused(tmp_path: Path) -> None:
    async with scene(tmp_path, "refuse-moves=A701:50%") as on:
        statuses = [(await on.move())[-1][0].status for _ in range(20)]
    assert 0 < statuses.count(0xA701) < 20
    assert set(statuses) == {0xA701, 0x0000}
    assert [move.status for move in on.pacs.moves] == statuses


async def test_one_move_too_many_at_once_is_refused(tmp_path: Path) -> None:
    async with scene(tmp_path, "move-limit=1:A701", "first-delay=0.2") as on, on.another() as other:
        study_move(on.association, on.study)
        await on.until(lambda: on.pacs.conduct.moves == 1)
        study_move(other, on.study)
        assert [response.status for response, _ in await responses(other)] == [0xA701]
        *_, (final, _) = await responses(on.association)
    assert (final.status, on.pacs.most_moves) == (0x0000, 1)


async def test_moves_of_two_associations_run_at_once(tmp_path: Path) -> None:
    async with scene(tmp_path, "first-delay=0.05") as on, on.another() as other:
        study_move(on.association, on.study)
        study_move(other, on.study)
        for association in (on.association, other):
            *_, (final, _) = await responses(association)
            assert final.status == 0x0000
    assert (on.pacs.most_moves, on.pacs.most_associations) == (2, 2)


async def test_one_association_too_many_is_rejected(tmp_path: Path) -> None:
    async with scene(tmp_path, "association-limit=1") as on:
        with pytest.raises(AssociationRejected) as rejected:
            async with on.another():
                pass
    assert (rejected.value.result, rejected.value.source, rejected.value.reason) == (2, 3, 2)


async def test_one_connection_too_many_waits_until_another_ends(tmp_path: Path) -> None:
    async with scene(tmp_path, "association-hang=1") as on:
        waiting = asyncio.create_task(on.another().__aenter__())
        for _ in range(3):
            await on.find("STUDY", StudyInstanceUID="")
        assert (waiting.done(), on.pacs.most_associations) == (False, 1)
        await on.association.release()
        other = await waiting
        assert on.pacs.associations == 2
        await other.release()


async def test_delays_are_kept(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    async with scene(tmp_path, "find-delay=0.05", "first-delay=0.05", "delay=0.005") as on:
        began = loop.time()
        await on.find("STUDY", StudyInstanceUID="")
        found = loop.time()
        await on.move()
        assert found - began >= 0.049, "the loop's clock has milliseconds"
        assert loop.time() - found >= 0.099


@pytest.mark.parametrize(("how", "originator"), [("none", ("", -1)), ("wrong", ("STRANGER", 65535))])
async def test_originator_is_absent_or_another(tmp_path: Path, how: str, originator: tuple[str, int]) -> None:
    async with scene(tmp_path, f"originator={how}") as on:
        await on.move()
    told = {(notice.move_originator_ae_title, notice.move_originator_message_id) for notice in on.stored}
    assert told == {originator}


# ---------------------------------------------------------------------- C-FIND


@pytest.mark.parametrize(("fault", "status"), [("find-cap=4", 0x0000), ("find-cap=4:A700", 0xA700)])
async def test_query_finds_at_most_what_its_cap_allows(tmp_path: Path, fault: str, status: int) -> None:
    async with scene(tmp_path, fault) as on:
        found, final = await on.find("IMAGE", StudyInstanceUID=on.study, SOPInstanceUID="")
    assert (len(found), final) == (4, status)
    assert on.pacs.queries == {"IMAGE": 1}


async def test_cap_that_is_not_exceeded_changes_nothing(tmp_path: Path) -> None:
    async with scene(tmp_path, "find-cap=10:A700") as on:
        found, final = await on.find("IMAGE", StudyInstanceUID=on.study, SOPInstanceUID="")
    assert (len(found), final) == (10, 0x0000)


async def test_query_at_image_level_fails_alone(tmp_path: Path) -> None:
    async with scene(tmp_path, "no-image-level") as on:
        assert await on.find("IMAGE", StudyInstanceUID=on.study, SeriesInstanceUID=on.series) == ([], 0xA900)
        found, final = await on.find("SERIES", StudyInstanceUID=on.study, SeriesInstanceUID="")
    assert (len(found), final) == (1, 0x0000)


async def test_relational_query_fails(tmp_path: Path) -> None:
    async with scene(tmp_path, "no-relational=C000") as on:
        assert await on.find("IMAGE", StudyInstanceUID=on.study, SOPInstanceUID="") == ([], 0xC000)
        found, final = await on.find("IMAGE", StudyInstanceUID=on.study, SeriesInstanceUID=on.series)
    assert (len(found), final) == (10, 0x0000)


async def test_share_of_the_queries_is_refused(tmp_path: Path) -> None:
    async with scene(tmp_path, "refuse-finds=A700:50%") as on:
        statuses = [(await on.find("STUDY", StudyInstanceUID=""))[1] for _ in range(20)]
    assert set(statuses) == {0xA700, 0x0000}


async def test_of_a_list_of_uids_the_first_counts(tmp_path: Path) -> None:
    async with scene(tmp_path, "no-uid-list") as on:
        first, *_ = uids = sorted(on.pacs.instances())[:3]
        wanted = {"StudyInstanceUID": on.study, "SeriesInstanceUID": on.series, "SOPInstanceUID": "\\".join(uids)}
        found, _ = await on.find("IMAGE", **wanted)
        request = CMoveRQ(message_id=1, affected_sop_class_uid=STUDY_ROOT.move, move_destination="DEST")
        begin(on.association, request, STUDY_ROOT.move, keys(QueryRetrieveLevel="IMAGE", **wanted))
        await responses(on.association)
    assert ([match["SOPInstanceUID"] for match in found], on.arrived) == ([first], {first})


async def test_matches_come_twice(tmp_path: Path) -> None:
    async with scene(tmp_path, "duplicate-answers") as on:
        found, _ = await on.find("IMAGE", StudyInstanceUID=on.study, SOPInstanceUID="")
    uids = [match["SOPInstanceUID"] for match in found]
    assert (len(uids), set(uids)) == (20, on.pacs.instances())


async def test_study_grows_between_one_query_and_the_next(tmp_path: Path) -> None:
    async with scene(tmp_path, "growing=3") as on:
        sizes = []
        for _ in range(5):
            found, _ = await on.find("IMAGE", StudyInstanceUID=on.study, SOPInstanceUID="")
            sizes.append(len(found))
            if len(sizes) == 1:
                await on.move()
                assert len(on.arrived) == 8
    assert sizes == [7, 8, 9, 10, 10]


# ---------------------------------------------------------------------- chance, and what is told of it


async def test_what_is_left_to_chance_follows_from_the_seed(tmp_path: Path) -> None:
    dropped = []
    for number, seed in enumerate((1, 1, 2)):
        async with scene(tmp_path / str(number), "drop=5", seed=seed) as on:
            await on.move()
            dropped.append(on.pacs.dropped)
    assert dropped[0] == dropped[1] != dropped[2]


async def test_object_that_is_sent_after_all_is_no_longer_dropped(tmp_path: Path) -> None:
    async with scene(tmp_path, "drop=50%") as on:
        while not on.pacs.moves or on.pacs.dropped:
            await on.move()
            assert on.pacs.dropped == on.pacs.instances() - on.arrived
    assert len(on.pacs.moves) > 1


async def test_pacs_may_mend_its_ways(tmp_path: Path) -> None:
    async with scene(tmp_path, "refuse-moves=A702") as on:
        statuses = [(await on.move())[-1][0].status]
        on.pacs.misbehave()
        statuses.append((await on.move())[-1][0].status)
    assert statuses == [0xA702, 0x0000]


async def test_faults_are_told_of_as_they_are_committed(tmp_path: Path) -> None:
    async with scene(tmp_path, "drop=2", "find-cap=1") as on:
        await on.find("IMAGE", StudyInstanceUID=on.study, SOPInstanceUID="")
        await on.move()
    told = [notice for notice in on.pacs.notices if isinstance(notice, FaultCommitted)]
    assert told == [
        FaultCommitted("find-cap", "1"),
        *(FaultCommitted("drop", uid) for uid in sorted(on.pacs.dropped)),
    ]


# ---------------------------------------------------------------------- storage associations


async def test_pacs_that_stops_releases_what_it_has_kept(tmp_path: Path) -> None:
    async with scene(tmp_path, storage_idle_s=30.0) as on:
        await on.move()
        await on.association.release()
    assert [notice.how for notice in on.notices if isinstance(notice, AssociationClosed)] == ["released"]


async def test_pacs_that_stops_gives_up_what_it_has_not_sent(tmp_path: Path) -> None:
    async with scene(tmp_path, "early-success=3600") as on:
        await on.move()
    assert on.arrived == set()


async def test_moves_on_one_association_share_a_storage_association(tmp_path: Path) -> None:
    async with scene(tmp_path, storage_idle_s=30.0) as on:
        for _ in range(3):
            *_, (final, _) = await on.move()
            assert final.status == 0x0000
        assert on.storage_associations == 1
        await on.association.release()
        await on.closed(1)


async def test_storage_association_is_released_when_no_move_follows(tmp_path: Path) -> None:
    async with scene(tmp_path, storage_idle_s=0.01) as on:
        await on.move()
        await on.closed(1)
        await on.move()
        assert on.storage_associations == 2


async def test_storage_association_that_the_destination_ended_is_not_used_again(tmp_path: Path) -> None:
    async with scene(tmp_path, storage_idle_s=30.0) as on:
        await on.move()
        on.listener.abort("for the test")
        await on.closed(1)
        *_, (final, _) = await on.move()
    assert (final.status, counters(final)) == (0x0000, (None, 10, 0, 0))
