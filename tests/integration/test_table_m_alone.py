"""What of table M of the catalogue takes more than one run: several runs in a row, moves side by side, many objects."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

from fastmove.dimse.messages import CMoveRSP
from fastmove.dimse.move import Evidence, MoveOperation, Verdict
from fastmove.limits import Limits
from fastmove.services.retrieve.listing import Listing
from fastmove.services.retrieve.unit import Unit
from fastmove.services.selection.selection import Wanted
from tests.integration.embedded import embedded_pacs
from tests.integration.honesty import retrieve, retrieve_here
from tests.integration.programs import fastmove
from tests.integration.scripted_archive import ScriptedArchive, ScriptedMove, study
from tests.integration.table_m.acts import answering
from tests.integration.table_m.lists import at_most
from tests.integration.table_m.row import OTHER, SIX, STUDY, THREE

OPTIONS: Final = ("--drain", "0.3", "--timeout", "5")
LIMITS: Final = Limits(drain_s=5.0, response_s=5.0, progress_s=5.0, retry_s=0.01)
TWO: Final = {**THREE, **study(OTHER, 3)}
MANY: Final = 70_000


def many(present: int) -> Unit:
    """A study of 70,000 instances of which so many are there already."""
    uids = [f"{STUDY}.1.{number}" for number in range(MANY)]
    listing = Listing({f"{STUDY}.1": frozenset(uids)}, number=MANY)
    return Unit(Wanted(STUDY), "study", listing, frozenset(uids[:present]))


def counted_to(total: int) -> MoveOperation:
    """A move whose counters, of two bytes, have gone up to so many, and started again on the way."""
    operation = MoveOperation(1, lambda _: ())
    for completed in (*range(0, total, 20_000), total):
        operation.update(
            CMoveRSP(
                message_id_being_responded_to=1,
                status=0 if completed == total else 0xFF00,
                number_of_completed_suboperations=completed % 0x10000,
            )
        )
    return operation


def test_M19_counters_that_start_again_are_no_loss_where_everything_is_there() -> None:
    unit = many(MANY - 3)
    part = unit.part(MANY, finest="SERIES")
    assert part.uids is not None and len(part.uids) == 3
    operation = counted_to(MANY)
    assert operation.counters.completed == MANY
    unit.record(part, Evidence(operation.outcome, part.uids, arrivals=MANY), None)
    result = unit.result()
    assert (result.judgement.verdict, result.stored, result.missing) == (Verdict.COMPLETE, MANY, {})


def test_M19_one_of_70_000_that_is_missing_is_named() -> None:
    unit = many(MANY - 3)
    part = unit.part(MANY, finest="SERIES")
    assert part.uids is not None
    lost = min(part.uids)
    unit.record(part, Evidence(counted_to(MANY).outcome, part.uids - {lost}, arrivals=MANY - 1), None)
    result = unit.result()
    assert (result.judgement.verdict, set(result.missing)) == (Verdict.INCOMPLETE, {lost})


def over_one_association(*, swapped: bool = False, withholding: frozenset[str] = frozenset()) -> ScriptedArchive:
    """Objects of two moves, in turns over one association; what they say of their move is nothing, or the opposite."""
    waiting: list[ScriptedMove] = []
    over = asyncio.Event()

    async def act(move: ScriptedMove) -> None:
        waiting.append(move)
        if len(waiting) < 2:
            await over.wait()
        else:
            one, other = waiting
            async with move.storage() as storage:
                for uids in zip(one.uids, other.uids, strict=True):
                    for claims, uid in zip((other, one), uids, strict=True):
                        if uid not in withholding:
                            await claims.send(storage, uid)
            over.set()
        await move.succeed()

    return ScriptedArchive(act, dict(TWO), originators=swapped)


async def test_M27_objects_of_two_moves_over_one_association_are_told_apart_by_the_lists(tmp_path: Path) -> None:
    for name, withholding in (("all", frozenset[str]()), ("some", frozenset(TWO[OTHER][:1]))):
        async with over_one_association(withholding=withholding) as pacs:
            came = await retrieve_here(pacs, tmp_path / name, limits=LIMITS.replace(drain_s=0.3), rounds=0, parallel=2)
            came.is_true(pacs, tuple(TWO))
        verdicts = {study: said["verdict"] for study, said in came.verdicts.items()}
        assert verdicts == {STUDY: "COMPLETE", OTHER: "INCOMPLETE" if withholding else "COMPLETE"}
        assert set(came.verdicts[OTHER]["missing"]) == withholding


async def test_M27_what_is_on_the_list_of_a_move_belongs_to_it_whatever_it_says(tmp_path: Path) -> None:
    async with over_one_association(swapped=True) as pacs:
        async with asyncio.timeout(LIMITS.drain_s):
            came = await retrieve_here(pacs, tmp_path / "stored", limits=LIMITS, rounds=0, parallel=2)
        came.is_true(pacs, tuple(TWO))
    assert [said["verdict"] for said in came.verdicts.values()] == ["COMPLETE", "COMPLETE"]


async def test_M29_what_is_here_is_kept_beside_what_is_fetched_again_and_differs(tmp_path: Path) -> None:
    transcoded = False

    async def act(move: ScriptedMove) -> None:
        await move.store(*move.uids, pixel_bytes=1024 if transcoded else 512)
        await move.succeed()

    async with ScriptedArchive(act, dict(THREE)) as pacs:
        assert (await retrieve(pacs, tmp_path / "stored", *OPTIONS)).code == 0
        transcoded = True
        again = await retrieve(pacs, tmp_path / "stored", *OPTIONS)
        assert (again.code, again.duplicates, pacs.moves) == (0, [], 1), "what is here is not asked for"
        fetched = await retrieve(pacs, tmp_path / "stored", *OPTIONS, "--refetch")
        fetched.is_true(pacs, (STUDY,))
        fetched.manifest_is_true()
    assert (fetched.code, fetched.finished["verdict"]) == (68, "WARNING")
    assert fetched.duplicates == [f"{uid}.dup1.dcm" for uid in THREE[STUDY]]


async def test_M30_what_the_pacs_does_not_know_is_named(tmp_path: Path) -> None:
    async with embedded_pacs(SIX) as pacs:
        to = ("--aet", "NOBODY", "--host", "127.0.0.1", "--port", "0", "--to", tmp_path / "stored")
        ended = await fastmove("retrieve", str(pacs.address), *to, "--study", next(iter(pacs.studies)), *OPTIONS)
    assert ended.code == 69
    assert "A801H" in ended.err
    assert "'NOBODY'" in ended.err


async def test_M33_list_that_may_be_cut_off_is_not_trusted_by_a_later_run(tmp_path: Path) -> None:
    held = study(STUDY, 50)
    listed = frozenset(held[STUDY][:40])
    async with ScriptedArchive(answering(0, None, 50, 0), dict(held), lists=at_most(40), counts=False) as pacs:
        # Of a run that ended early, so that one of the list is missing and all that is not on it.
        there = listed - {min(listed)}
        came = await retrieve_here(pacs, tmp_path / "stored", limits=LIMITS, inventory=there)
        came.is_true(pacs, (STUDY,))
    assert (came.code, came.finished["verdict"], set(came.files)) == (0, "COUNTED", set(held[STUDY]))


async def test_M33_what_a_list_names_that_may_be_cut_off_is_moved_once_although_it_is_there(tmp_path: Path) -> None:
    held = study(STUDY, 50)
    async with ScriptedArchive(answering(0, None, 50, 0), dict(held), lists=at_most(40), counts=False) as pacs:
        came = await retrieve_here(pacs, tmp_path / "stored", limits=LIMITS, inventory=frozenset(held[STUDY]))
    assert (came.finished["verdict"], came.verdicts[STUDY]["reasons"], pacs.moves) == (
        "COUNTED",
        ("list.uncertain", "list.grew"),
        1,
    )


async def test_M33_series_of_more_instances_than_any_list_before_is_complete_if_a_move_of_all_brings_no_more(
    tmp_path: Path,
) -> None:
    held = study(STUDY, 50)
    async with ScriptedArchive(answering(0, None, 50, 0), dict(held), counts=False) as pacs:
        came = await retrieve_here(pacs, tmp_path / "stored", limits=LIMITS)
        came.is_true(pacs, (STUDY,))
    assert (came.code, came.finished["verdict"]) == (0, "COMPLETE")
