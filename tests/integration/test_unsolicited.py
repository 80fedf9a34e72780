"""O21, M25: objects of studies that a retrieve has not asked for never overwrite and never count."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final

import pytest

from fastmove.cli.send import files_below
from fastmove.limits import Limits
from fastmove.notices import InstanceStored, Notice
from fastmove.services.retrieve.client import Client
from fastmove.storage.options import WriteOptions
from tests.compat.harness import reserved_port
from tests.integration import raw
from tests.integration.honesty import AE_TITLE, HOST, retrieve, retrieve_here
from tests.integration.objects import data_set
from tests.integration.programs import fastmove
from tests.integration.scripted import ScriptedRequestor
from tests.integration.scripted_archive import ScriptedArchive, ScriptedMove, study
from tests.integration.table_m.acts import along_with_others
from tests.integration.table_m.row import OTHER, STUDY, THREE

TWO: Final = {**THREE, **study(OTHER, 3)}
D: Final = TWO[OTHER][0]
OPTIONS: Final = ("--drain", "0.3", "--timeout", "5")
LIMITS: Final = Limits(drain_s=0.3, response_s=5.0, progress_s=5.0, retry_s=0.01)
Act = Callable[[ScriptedMove], Coroutine[Any, Any, None]]

DURABLE = pytest.mark.parametrize("durable", ["--durable", "--no-durable"])


def mode(path: Path) -> str:
    return oct(stat.S_IMODE(path.stat().st_mode))


@DURABLE
async def test_O21_object_is_set_aside_told_of_and_in_no_manifest(tmp_path: Path, durable: str) -> None:
    async with ScriptedArchive(along_with_others(), dict(TWO)) as pacs:
        came = await retrieve(pacs, tmp_path / "to", *OPTIONS, durable, studies=(STUDY,))
        came.is_true(pacs, (STUDY,))
        came.manifest_is_true()
    assert (came.code, came.finished["verdict"]) == (0, "COMPLETE")
    assert {name: came.finished[name] for name in ("objects", "quarantined", "unsolicited", "unsolicited_refused")} == {
        "objects": 3,
        "quarantined": 1,
        "unsolicited": 0,
        "unsolicited_refused": 0,
    }
    aside = tmp_path / "to" / ".quarantine"
    assert [path.name for path in aside.iterdir()] == [f"{D}.dcm"]
    assert (mode(aside), mode(aside / f"{D}.dcm")) == ("0o700", "0o600")
    (warned,) = [event for event in came.events if event["event"] == "store.unsolicited"]
    assert (warned["host"], warned["detail"]) == (HOST, "set aside: nobody has asked for an object of this study")
    (told,) = [each for each in came.events if each["event"] == "store.stored" and each["placing"] == "quarantined"]
    assert (told["path"], told["study_instance_uid"]) == (str(aside / f"{D}.dcm"), OTHER)


async def test_O21_person_is_told_where_it_is(tmp_path: Path) -> None:
    async with ScriptedArchive(along_with_others(), dict(TWO)) as pacs:
        with reserved_port() as port:
            pacs.going_to(AE_TITLE, port)
            to = ("--aet", AE_TITLE, "--host", HOST, "--port", str(port), "--to", tmp_path / "to")
            ended = await fastmove("retrieve", str(pacs.address), *to, "--study", STUDY, *OPTIONS)
    assert ended.code == 0, ended.err
    assert f"set aside: 1 object of studies that were not asked for, in {tmp_path}/to/.quarantine" in ended.err
    assert "W event=store.unsolicited" in ended.err


async def test_O21_what_was_set_aside_does_not_count_as_here(tmp_path: Path) -> None:
    to = tmp_path / "to"

    async def act(move: ScriptedMove) -> None:
        await (along_with_others() if move.number == 1 else plainly)(move)

    async with ScriptedArchive(act, dict(TWO)) as pacs:
        await retrieve(pacs, to, *OPTIONS, studies=(STUDY,))
        verified = await fastmove("verify", to)
        assert [path.name for path in files_below(to)] == [f"{uid}.dcm" for uid in TWO[STUDY]] + ["manifest.jsonl"]
        came = await retrieve(pacs, to, *OPTIONS, studies=(OTHER,))
    assert verified.code == 0, "it is neither listed nor looked for: " + verified.out + verified.err
    assert came.code == 0
    assert set(came.files) == {*TWO[STUDY], *TWO[OTHER]}, "it was fetched once more, by who wanted it"


async def plainly(move: ScriptedMove) -> None:
    await move.store(*move.uids)
    await move.succeed()


async def test_O21_nothing_is_overwritten(tmp_path: Path) -> None:
    to = tmp_path / "to"

    async def act(move: ScriptedMove) -> None:
        if move.number == 1:
            await plainly(move)
            return
        await move.store(*move.uids)
        await move.store(D, pixel_bytes=1024)
        await move.store(D, pixel_bytes=768)
        await move.store(D, pixel_bytes=768)
        await move.succeed(len(move.uids) + 3)

    async with ScriptedArchive(act, dict(TWO)) as pacs:
        await retrieve(pacs, to, *OPTIONS, studies=(OTHER,))
        before = (to / f"{D}.dcm").read_bytes()
        came = await retrieve(pacs, to, *OPTIONS, "--on-duplicate", "replace", studies=(STUDY,))
    assert (came.code, came.finished["quarantined"]) == (0, 3)
    assert (to / f"{D}.dcm").read_bytes() == before
    assert {path.name: data_set(path) for path in (to / ".quarantine").iterdir()} == {
        f"{D}.dcm": raw.dataset(D, study=OTHER, pixel_bytes=1024),
        f"{D}.dup1.dcm": raw.dataset(D, study=OTHER, pixel_bytes=768),
    }


async def test_O21_symlink_in_the_place_of_the_quarantine_is_not_followed(tmp_path: Path) -> None:
    outside, to = tmp_path / "outside", tmp_path / "to"
    outside.mkdir()
    to.mkdir()
    (to / ".quarantine").symlink_to(outside)

    async def act(move: ScriptedMove) -> None:
        async with move.storage() as storage:
            await move.send(storage, *move.uids)
            await storage.send(raw.message(1, move.request(D, 9), move.archive.dataset(D)))
            await storage.expect_status(0xA700, 9)
        await move.succeed()

    async with ScriptedArchive(act, dict(TWO)) as pacs:
        came = await retrieve(pacs, to, *OPTIONS, studies=(STUDY,))
    assert came.code == 73
    assert list(outside.iterdir()) == []


# ---------------------------------------------------------------------- what is not unsolicited


def bringing(*more: str) -> Act:
    """What is asked for, and these."""

    async def act(move: ScriptedMove) -> None:
        await move.store(*move.uids, *(uid for uid in more if uid not in move.uids))
        await move.succeed()

    return act


@pytest.mark.parametrize("options", [("--series", f"{STUDY}.1"), ("--series", f"{STUDY}.1", "--image", f"{STUDY}.1.1")])
async def test_M25_more_of_a_study_than_was_asked_for_is_no_other_study(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    held = study(STUDY, 2, series=2)
    async with ScriptedArchive(bringing(*held[STUDY]), dict(held)) as pacs:
        came = await retrieve(pacs, tmp_path / "to", *OPTIONS, *options, studies=(STUDY,))
    assert came.quarantined == {}
    assert set(came.files) == set(held[STUDY])


async def test_M25_object_that_does_not_say_its_study_is_kept(tmp_path: Path) -> None:
    bare = raw.element(0x00080016, raw.uid(raw.CT_IMAGE)) + raw.element(0x00080018, raw.uid("1.2.77"))

    async def act(move: ScriptedMove) -> None:
        async with move.storage() as storage:
            await move.send(storage, *move.uids)
            await storage.send(raw.message(1, move.request("1.2.77", 9), bare))
            await storage.expect_status(0, 9)
        await move.succeed(4)

    async with ScriptedArchive(act, dict(THREE)) as pacs:
        came = await retrieve_here(pacs, tmp_path / "to", limits=LIMITS)
    assert (set(came.files), came.quarantined) == ({*THREE[STUDY], "1.2.77"}, {})


async def test_M25_study_that_is_asked_for_later_is_asked_for(tmp_path: Path) -> None:
    async with ScriptedArchive(along_with_others(), dict(TWO)) as pacs:
        came = await retrieve_here(pacs, tmp_path / "to", limits=LIMITS, parallel=1)
        came.is_true(pacs, tuple(TWO))
    assert came.quarantined == {}


@pytest.mark.parametrize("originator", [{}, {raw.ORIGINATOR_AE: raw.ae("SOMEBODY"), raw.ORIGINATOR_ID: raw.us(1)}])
async def test_O21_object_of_a_stranger_is_set_aside_whatever_it_says(
    tmp_path: Path, originator: dict[int, bytes]
) -> None:
    async def act(move: ScriptedMove) -> None:
        async with ScriptedRequestor(HOST, move.archive.destinations[move.destination], 5.0) as stranger:
            await stranger.associate(raw.associate_rq(called=move.destination, calling="STRANGER"))
            command = raw.c_store_rq("1.9.9", change=originator)
            await stranger.send(raw.message(1, command, raw.dataset("1.9.9", study="1.9")))
            await stranger.expect_status(0)
            await stranger.release()
        await plainly(move)

    async with ScriptedArchive(act, dict(THREE)) as pacs:
        for prove in (True, False):
            came = await retrieve_here(pacs, tmp_path / f"{prove}", limits=LIMITS, prove=prove)
            assert (came.code, list(came.quarantined)) == (0, ["1.9.9"])


async def test_O21_reader_of_the_python_api_does_not_see_what_was_set_aside(tmp_path: Path) -> None:
    told: list[Notice] = []
    async with ScriptedArchive(along_with_others(), dict(TWO)) as pacs:
        with reserved_port() as port:
            pacs.going_to(AE_TITLE, port)
            client = Client(pacs.address, AE_TITLE, port, HOST)
            options = WriteOptions(durable=False)
            retrieval = client.retrieve([STUDY], to=tmp_path, options=options, notify=told.append, limits=LIMITS)
            came = [stored.sop_instance_uid async for stored in retrieval]
    assert came == list(TWO[STUDY])
    assert retrieval.result.quarantined == 1
    assert [notice.sop_instance_uid for notice in told if isinstance(notice, InstanceStored)] == [D]
    lines = [json.loads(line) for line in (tmp_path / "manifest.jsonl").read_text().splitlines()]
    assert {line["sop_instance_uid"] for line in lines} == set(TWO[STUDY])
