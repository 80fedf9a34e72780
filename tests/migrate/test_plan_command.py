"""`fastmove migrate plan` as an operator calls it: into a ledger or dry, in which order, and how much that is."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from fastmove.bench.spec import Spec, objects
from fastmove.ledger.model import Instance, Job, JobState, Outcome, StudyJob
from fastmove.ledger.store import Ledger
from tests.compat.harness import reserved_port
from tests.integration.embedded import embedded_pacs
from tests.integration.peers import HOST, DcmtkQrScp, Orthanc
from tests.integration.programs import Ended, fastmove
from tests.migrate.ledgers import CT, IMPLICIT
from tests.migrate.test_migrate_command import Commanding

CTS: Final = Spec(studies=6, series=1, instances=12, size=6_000)
MRS: Final = Spec(studies=6, series=2, instances=4, size=40_000, modality="MR", seed=2)

DEAD: Final = f"PACS@{HOST}:1"
HOUR_S: Final = 3600

SIZE_TOLERANCE: Final = 0.1
"""Of what comes over the wire and what is in a file: the head, and how data sets are encoded."""


def archive(folder: Path) -> dict[str, dict[str, str]]:
    """A CT and a much larger MR of each of six patients: the attributes of each study, by UID."""
    studies = {}
    for spec in (CTS, MRS):
        for _, told in objects(spec, folder / spec.modality):
            studies[told["StudyInstanceUID"]] = told
    return studies


@asynccontextmanager
async def planning(tmp_path: Path, *faults: str) -> AsyncIterator[Commanding]:
    with reserved_port() as port:
        archive(tmp_path / "archive")
        async with embedded_pacs(tmp_path / "archive", faults=faults, storage_idle_s=1.0) as pacs:
            pacs.going_to("ME", port)
            yield Commanding(pacs, port, tmp_path)


def told(ended: Ended) -> dict[str, Any]:
    (line,) = ended.lines
    return line


async def planned(ledger: Path) -> list[Job]:
    """The studies of a ledger, in the order in which they would be moved."""
    async with Ledger.open(ledger, read_only=True) as opened:
        (batch,) = await opened.batches()
        jobs = await opened.jobs(batch.id, limit=1000)
    return sorted(jobs, key=lambda each: (-each.job.priority, each.job.rank, each.id))


# ---------------------------------------------------------------------- no litter


@pytest.mark.parametrize(
    "options", [("--date", "1990.."), ("--date", "1990..", "--order", "priors"), ("--study", "1.2")]
)
async def test_pacs_that_does_not_answer_leaves_nothing_behind(tmp_path: Path, options: Sequence[str]) -> None:
    ended = await fastmove("migrate", "plan", tmp_path / "a.ledger", DEAD, *options)
    assert ended.code == 61, ended.err
    assert not list(tmp_path.iterdir())


async def test_plan_that_finds_nothing_leaves_nothing_behind(tmp_path: Path) -> None:
    async with planning(tmp_path) as migrate:
        ended = await migrate.plan("--accession", "nobody's")
        assert ended.code == 71
        assert "nothing matches" in ended.err
    assert not migrate.ledger.exists()


async def test_ledger_in_a_folder_that_is_not_there_is_told_before_the_pacs_is_asked(tmp_path: Path) -> None:
    ended = await fastmove("migrate", "plan", tmp_path / "gone" / "a.ledger", DEAD, "--date", "1990..")
    assert ended.code == 73
    assert f"there is no {tmp_path / 'gone'}" in ended.err


# ---------------------------------------------------------------------- in which order


async def test_patients_of_a_schedule_come_first(tmp_path: Path) -> None:
    studies = archive(tmp_path / "archive")
    patients = sorted({each["PatientID"] for each in studies.values()})
    schedule = tmp_path / "schedule.csv"

    async def first(ledger: Path) -> set[str]:
        """The patients of the first studies, which come before all others."""
        *ahead, other = (await planned(ledger))[:5]
        assert other.job.rank > ahead[-1].job.rank
        return {job.job.patient_id for job in ahead}

    async with planning(tmp_path) as migrate:
        schedule.write_text("Time,MRN,Name\n" + "".join(f"10:00,{each},X\n" for each in patients[2:4]))
        ended = await migrate.plan("--date", "1990..", "--priors-of", str(schedule))
        assert ended.code == 0, ended.err
        assert "first come the studies of 2 patients" in ended.out
        assert await first(migrate.ledger) == set(patients[2:4])
        schedule.write_text("\n".join(patients[4:6]))
        again = await migrate.plan("--date", "1990..", "--priors-of", str(schedule))
        assert "0 new, 12 known" in again.out
        assert await first(migrate.ledger) == set(patients[4:6])


async def test_all_studies_can_be_had_by_one_word_and_not_with_others(tmp_path: Path) -> None:
    async with planning(tmp_path) as migrate:
        assert "found 12 studies" in (await migrate.plan("--all", "--dry-run")).out
        assert (await migrate.plan("--all", "--modality", "CT")).code == 1


async def test_accession_that_is_not_there_yet_only_means_that_nobody_knows_whose_it_is(tmp_path: Path) -> None:
    schedule = tmp_path / "schedule.csv"
    schedule.write_text("AccessionNumber\nTOMORROW\n")
    async with planning(tmp_path) as migrate:
        ended = await migrate.plan("--date", "1990..", "--priors-of", str(schedule))
    assert ended.code == 0, ended.err
    assert "who is expected is not known in full: AccessionNumber=TOMORROW: nothing matches" in ended.err


async def test_whoever_was_there_of_late_is_expected(tmp_path: Path) -> None:
    async with planning(tmp_path) as migrate:
        ended = await migrate.plan("--date", "1990..", "--order", "priors", "--dry-run")
        assert "first come the studies of 0 patients" in ended.out
        ended = await migrate.plan("--date", "1990..", "--order", "priors", "--seen-within", "36500", "--dry-run")
        assert "first come the studies of 6 patients" in ended.out


@pytest.mark.parametrize(
    ("text", "options", "why"),
    [
        ("PatientID\nA\n", ("--order", "oldest"), "not with another --order"),
        ("Name,Time\nA,B\n", (), "name the column PatientID"),
    ],
)
async def test_schedule_that_cannot_be_meant_is_told(
    tmp_path: Path, text: str, options: Sequence[str], why: str
) -> None:
    schedule = tmp_path / "schedule.csv"
    schedule.write_text(text)
    here = tmp_path / "a.ledger", DEAD, "--date", "1990..", "--priors-of", schedule
    ended = await fastmove("migrate", "plan", *here, *options)
    assert ended.code == 1
    assert why in ended.err


# ---------------------------------------------------------------------- lists


async def test_listed_study_that_is_not_there_is_planned_told_and_answered_for_by_the_run(tmp_path: Path) -> None:
    studies = archive(tmp_path / "archive")
    async with planning(tmp_path) as migrate:
        there = [uid for uid, each in studies.items() if each["Modality"] == "CT"][:2]
        listed = tmp_path / "list.txt"
        listed.write_text("\n".join([*there, "1.2.3.4"]))
        ended = await migrate.plan("--from", str(listed))
        assert ended.code == 71
        assert "found 3 studies with 24 instances" in ended.out
        assert "1 listed studies are not there" in ended.err
        assert "StudyInstanceUID=1.2.3.4: nothing matches" in ended.err
        jobs = await planned(migrate.ledger)
        assert [job.job.instances for job in jobs] == [12, 12, None]
        assert all(job.job.study_date and job.job.modalities == "CT" for job in jobs[:2])
        async with migrate.program() as program:
            for _ in range(3):
                await program.event("migrate.study", 3)
            assert await program.stopped() == 72
        *complete, unknown = await planned(migrate.ledger)
        assert [job.state for job in complete] == [JobState.COMPLETE] * 2
        assert (unknown.job.study_instance_uid, unknown.reason_class) == ("1.2.3.4", "not-found")


async def test_list_of_tomorrow_comes_before_what_is_planned_already(tmp_path: Path) -> None:
    async with planning(tmp_path) as migrate:
        await migrate.plan()
        last = (await planned(migrate.ledger))[-1].job.study_instance_uid
        ended = await migrate.plan("--study", last, "--priority", "10")
        assert "0 new, 1 known" in ended.out
        assert (await planned(migrate.ledger))[0].job.study_instance_uid == last


# ---------------------------------------------------------------------- near the cut-over


async def test_study_that_has_grown_and_a_new_one_are_all_that_is_moved_at_the_end(tmp_path: Path) -> None:
    async with planning(tmp_path) as migrate:
        await migrate.plan()
        assert (await migrate.run()).code == 0
        before = migrate.files()
        known = next(iter(archive(tmp_path / "same").values()))
        added = list(objects(Spec(studies=1, series=1, instances=2, size=6_000, seed=9), tmp_path / "more"))
        (_, _), (file, told) = added  # the second one becomes one of a study that was moved before
        data = file.path.read_bytes()
        for name in ("StudyInstanceUID", "SeriesInstanceUID", "PatientID"):
            assert len(told[name]) == len(known[name])
            data = data.replace(told[name].encode(), known[name].encode())
        file.path.write_bytes(data)
        sent = await fastmove("send", migrate.peer, tmp_path / "more", "--aet", "ME")
        assert sent.code == 0, sent.err
        ended = await migrate.plan()
        assert "1 new, 12 known, 1 of these have grown" in ended.out
        assert "to be moved: 2 studies, 2 instances" in ended.out
        assert (await migrate.run()).code == 0
        assert set(migrate.files()) - set(before) == {each["SOPInstanceUID"] for _, each in added}
        assert set(migrate.pacs.sent.values()) == {1}


# ---------------------------------------------------------------------- how much


async def test_nothing_is_guessed_where_nothing_was_measured(tmp_path: Path) -> None:
    async with planning(tmp_path) as migrate:
        ended = await migrate.plan("--date", "1990..", "--dry-run")
        assert ended.code == 0, ended.err
        assert "how many bytes is not known" in ended.out
        assert "no rate was measured" in ended.out
        as_json = told(await migrate.plan("--date", "1990..", "--dry-run", "--json"))
    assert as_json["outlook"] == {"studies": 12, "instances": 120, "bytes": None, "forecast": None}
    assert not migrate.ledger.exists()


async def test_sample_says_how_many_bytes_there_are_and_leaves_nothing(tmp_path: Path) -> None:
    async with planning(tmp_path, "delay=0.01") as migrate:
        port = str(migrate.here[3])
        options = ("--date", "1990..", "--dry-run", "--sample", "6", "--port", port)
        ended = await migrate.plan(*options, "--json")
        assert ended.code == 0, ended.err
        line = told(ended)
        assert line["sample"]["studies"] == 6
        assert migrate.pacs.objects_sent == line["sample"]["instances"] < 120
        truth = sum(len(migrate.pacs.dataset(uid)) for uid in migrate.pacs.instances())
        outlook = line["outlook"]
        assert outlook["bytes"]["estimate"] == pytest.approx(truth, rel=SIZE_TOLERANCE), "whichever were drawn: by kind"
        assert outlook["bytes"]["by"] == ["sample"]
        assert outlook["forecast"]["by"] == "sample"
        shown = await migrate.plan(*options)
        assert re.search(r"^all of that: 12 studies, 120 instances, about [\d.]+ MB .*by the sample$", shown.out, re.M)
        assert re.search(
            r"^it takes about [\d.]+ seconds \(.*\) by the rate of the sample, at all hours", shown.out, re.M
        )
        windowed = told(await migrate.plan(*options, "--json", "--window", "mon 00:00-00:01", "--timezone", "UTC"))
        assert windowed["outlook"]["forecast"] is None or windowed["outlook"]["forecast"]["days"] < 8
    assert sorted(path.name for path in tmp_path.iterdir()) == ["archive"]


async def test_sample_whose_moves_are_refused_says_why_and_the_plan_stands(tmp_path: Path) -> None:
    async with planning(tmp_path) as migrate:
        migrate.pacs.destinations.clear()
        ended = await migrate.plan("--date", "1990..", "--sample", "3", "--port", str(migrate.here[3]))
        assert ended.code == 69
        assert "of the sample not all came: A801" in ended.err
        assert "no rate was measured" in ended.out
        assert len(await planned(migrate.ledger)) == 12


async def test_sample_needs_a_port(tmp_path: Path) -> None:
    ended = await fastmove("migrate", "plan", tmp_path / "a.ledger", DEAD, "--date", "1990..", "--sample", "3")
    assert ended.code == 1
    assert "--port" in ended.err


async def test_what_was_moved_says_how_large_the_rest_is_and_how_long_it_takes(tmp_path: Path) -> None:
    async with planning(tmp_path) as migrate:
        now = time.time() - HOUR_S
        async with Ledger.open(migrate.ledger, create=True) as ledger:
            settings = {"windows": ["daily 00:00-24:00 rate=100k"], "timezone": "UTC"}
            batch = await ledger.add_batch("migration", migrate.peer, settings, now)
            jobs = [StudyJob(f"1.9.{n}", modalities="CT" if n % 2 else "MR", instances=10) for n in range(40)]
            await ledger.add(batch.id, jobs, now)
            for minute in range(20):  # two studies a minute, of 1 MB for each instance
                for claim in await ledger.claim(batch.id, "host", 2, 60.0, now + 60 * minute):
                    uids = [f"{claim.job.study_instance_uid}.{n}" for n in range(10)]
                    stored = [
                        Instance(claim.id, claim.fence, uid, "1.8", CT, IMPLICIT, 1_000_000, b"", f"x/{uid}.dcm")
                        for uid in uids
                    ]
                    await ledger.record(stored, now + 60 * minute)
                    await ledger.finish(claim, Outcome(JobState.COMPLETE, "complete"), now + 60 * minute)
        ended = await migrate.plan("--date", "1990..", "--json")
        assert ended.code == 0, ended.err
        outlook = told(ended)["outlook"]
        assert (outlook["studies"], outlook["instances"]) == (12, 120)
        assert outlook["bytes"] == {"estimate": 120_000_000, "low": 120_000_000, "high": 120_000_000, "by": ["ledger"]}
        assert outlook["forecast"]["by"] == "ledger"
        assert outlook["forecast"]["days"] == pytest.approx(1200 / 86400, rel=0.1), "120 MB, at 100 kB a second"
        dry = told(await migrate.plan("--date", "1990..", "--dry-run", "--json"))["outlook"]
        assert dry["bytes"] == outlook["bytes"]
        faster = ("--window", "daily 00:00-24:00", "--timezone", "UTC")
        fast = told(await migrate.plan("--date", "1990..", "--json", *faster))["outlook"]
        assert fast["forecast"]["days"] == pytest.approx(6 / 1440, rel=0.15), "12 studies, at 2 a minute"


# ---------------------------------------------------------------------- real PACS


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(DcmtkQrScp, marks=pytest.mark.peer("dcmtk"), id="dcmqrscp"),
        pytest.param(Orthanc, marks=pytest.mark.peer("orthanc"), id="orthanc"),
    ],
)
async def test_real_pacs_is_planned_by_lists_by_filters_and_with_a_sample(
    tmp_path: Path, kind: type[DcmtkQrScp] | type[Orthanc]
) -> None:
    studies = archive(tmp_path / "archive")
    with reserved_port() as port:
        async with kind({"ME": (HOST, port)}) as pacs:
            await pacs.load(sorted((tmp_path / "archive").rglob("*.dcm")))
            peer = f"{pacs.ae_title}@{HOST}:{pacs.port}"

            async def plan(*options: str | Path) -> dict[str, Any]:
                us = ("--aet", "ME", "--dry-run", "--json")
                return told(await fastmove("migrate", "plan", tmp_path / "a.ledger", peer, *us, *options))

            listed = tmp_path / "list.txt"
            listed.write_text("\n".join([*studies, "1.2.3.4"]))
            by_list = await plan("--from", listed)
            assert (by_list["studies"], by_list["unknown"]) == (13, ["1.2.3.4"])
            assert by_list["undated"] == 1, "the one that is not there"
            assert (await plan("--modality", "MR"))["studies"] == 6
            assert (await plan("--description", "Synth*"))["studies"] == 12
            assert (await plan("--description", "Nothing*"))["studies"] == 0
            sampled = await plan("--date", "1990..", "--sample", "6", "--port", str(port))
            assert (sampled["sample"]["studies"], sampled["sample"]["failures"]) == (6, {})
            assert sampled["outlook"]["forecast"]["by"] == "sample"
            size = sum(path.stat().st_size for path in (tmp_path / "archive").rglob("*.dcm"))
            nbytes = sampled["outlook"]["bytes"]  # dcmqrscp tells no modalities: it is less sure
            assert nbytes["low"] * (1 - SIZE_TOLERANCE) < size < nbytes["high"] * (1 + SIZE_TOLERANCE)
