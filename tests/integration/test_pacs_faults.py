"""The embedded PACS as an adversary: each fault, as who queries and retrieves sees it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from fastmove.bench.corpus import Spec
from fastmove.dimse import identifier
from fastmove.dimse.messages import CFindRQ
from fastmove.net.acceptor import Acceptor
from fastmove.net.requestor import AssociationHandle, associate
from fastmove.notices import AssociationClosed, AssociationOpened, InstanceStored, Notice
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
    association: AssociationHandle
    listener: Acceptor
    stored: list[InstanceStored]
    notices: list[Notice]

    @property
    def study(self) -> str:
        return next(iter(self.pacs.studies))

    @property
    def arrived(self) -> set[str]:
        return {notice.sop_instance_uid for notice in self.stored}

    @property
    def storage_associations(self) -> int:
        return sum(isinstance(notice, AssociationOpened) for notice in self.notices)

    async def closed(self, number: int) -> None:
        """So many storage associations have ended."""
        async with asyncio.timeout(5):
            while sum(isinstance(notice, AssociationClosed) for notice in self.notices) < number:
                await asyncio.sleep(0)

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
            contexts = contexts_for(sorted(SOP_CLASSES), [EXPLICIT_VR_LITTLE_ENDIAN])
            async with associate(pacs.address, propose("TESTSCU", pacs.ae_title, contexts), LIMITS) as association:
                yield Scene(pacs, association, listener, stored, notices)


async def test_without_faults_everything_arrives(tmp_path: Path) -> None:
    async with scene(tmp_path) as on:
        *_, (final, _) = await on.move()
    assert (final.status, counters(final)) == (0x0000, (None, 10, 0, 0))
    assert on.arrived == on.pacs.instances() == set(on.pacs.sent)
    assert on.pacs.dropped == frozenset()


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


async def test_early_success_comes_before_the_objects(tmp_path: Path) -> None:
    async with scene(tmp_path, "early-success") as on:
        ((final, _),) = await on.move()
        assert (final.status, counters(final)) == (0x0000, (None, 10, 0, 0))
        assert on.arrived == set()


async def test_nothing_is_sent_and_called_a_success(tmp_path: Path) -> None:
    async with scene(tmp_path, "nothing") as on:
        *_, (final, _) = await on.move()
    assert (final.status, counters(final)) == (0x0000, (None, 10, 0, 0))
    assert (on.arrived, on.storage_associations) == (set(), 0)
    assert on.pacs.dropped == on.pacs.instances()


@pytest.mark.parametrize(("fault", "status"), [("find-cap=4", 0x0000), ("find-cap=4:A700", 0xA700)])
async def test_query_finds_at_most_what_its_cap_allows(tmp_path: Path, fault: str, status: int) -> None:
    async with scene(tmp_path, fault) as on:
        found, final = await on.find("IMAGE", StudyInstanceUID=on.study, SOPInstanceUID="")
    assert (len(found), final) == (4, status)


# ---------------------------------------------------------------------- storage associations


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
