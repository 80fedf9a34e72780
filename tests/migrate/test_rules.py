"""Migrations that change attributes on the way: what is stored, recorded and recognised is what was changed."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import Final

import pydicom

from fastmove.bench.spec import Spec
from fastmove.migrate.engine import Ended
from fastmove.notices import InstanceRefused
from fastmove.storage.attribute_rules import AttributeRules, composed, fixed, mapped
from tests.migrate.migrating import Migrating, migrating
from tests.migrate.test_migrate_command import commanding
from tests.ruled import PLANNED, rules_of

SPEC: Final = Spec(studies=6, series=2, instances=4, size=5_000)


def hospital(*patients: str) -> AttributeRules:
    """New names and institution for these patients, and the rest refused."""
    rows = [(number, patient, (f"H-{patient}", f"Name^{patient}")) for number, patient in enumerate(patients, 2)]
    return rules_of(
        mapped("PatientID", ("PatientID", "PatientName"), rows),
        fixed("InstitutionName", "Hospital"),
        composed("AccessionNumber", "{AccessionNumber:upper}X"),
    )


def patients_of(made: Migrating) -> dict[str, str]:
    """Study → the patient ID that the PACS has."""
    return {
        study: str(pydicom.dcmread(made.pacs.files[min(made.pacs.instances(study))].path).PatientID)
        for study in made.pacs.studies
    }


async def changed(made: Migrating) -> None:
    """Every file says what the rules say, and what was, and the ledger has its digest."""
    patients, instances = patients_of(made), await made.instances()
    files = made.files()
    assert files.keys() == instances.keys() == made.pacs.instances()
    for uid, path in files.items():
        dataset = pydicom.dcmread(path)
        patient = patients[dataset.StudyInstanceUID]
        before = pydicom.dcmread(made.pacs.files[uid].path)
        assert (dataset.PatientID, dataset.PatientName) == (f"H-{patient}", f"Name^{patient}")
        assert dataset.AccessionNumber == f"{before.AccessionNumber}X"
        assert dataset.pixel_array.tobytes() == before.pixel_array.tobytes()
        (item,) = dataset.OriginalAttributesSequence
        assert item.AttributeModificationDateTime == PLANNED
        (previous,) = item.ModifiedAttributesSequence
        assert previous.PatientID == patient
        assert previous.PatientName == before.PatientName
        content = path.read_bytes()
        assert (instances[uid].digest, instances[uid].nbytes) == (hashlib.sha256(content).digest(), len(content))


async def test_files_and_ledger_have_what_was_changed(tmp_path: Path) -> None:
    async with migrating(SPEC, tmp_path) as made:
        made.rules = hospital(*patients_of(made).values())
        assert await made.run(layout="patient") is Ended.FINISHED
        assert await made.states() == {"complete": 6}
        await changed(made)
        assert {path.name for path in made.folder.iterdir() if path.is_dir() and path.name[0] == "H"} == {
            f"H-{patient}" for patient in patients_of(made).values()
        }


async def test_objects_that_come_again_are_the_same_however_much_later(tmp_path: Path) -> None:
    (tmp_path / "again").mkdir()
    async with migrating(SPEC, tmp_path) as made:
        made.rules = hospital(*patients_of(made).values())
        await made.run()
        before = {uid: path.stat().st_mtime_ns for uid, path in made.files().items()}
    async with migrating(SPEC, tmp_path / "again") as made:
        made.rules = hospital(*patients_of(made).values())
        made.folder = tmp_path / "in"
        assert await made.run() is Ended.FINISHED
        assert sum(made.pacs.sent.values()) == 48
        assert {uid: path.stat().st_mtime_ns for uid, path in made.files().items()} == before
        await changed(made)


async def test_patient_that_is_not_in_the_map_is_parked_at_once_with_the_reason(tmp_path: Path) -> None:
    async with migrating(SPEC, tmp_path) as made:
        (left_out, *_), patients = patients_of(made).items(), patients_of(made)
        made.rules = hospital(*(patient for patient in patients.values() if patient != left_out[1]))
        running = asyncio.create_task(made.run())
        while not running.done():
            made.clock.put_forward(600)
            await asyncio.sleep(0.2)
        assert await running is Ended.FINISHED
        jobs = await made.jobs()
        parked = {study for study, job in jobs.items() if job.state.value == "parked"}
        assert parked == {study for study, patient in patients.items() if patient == left_out[1]}
        assert {jobs[study].reason_class for study in parked} == {"our-rules"}
        assert {len(await made.ledger.attempts(jobs[study].id)) for study in parked} == {1}
        refused = [notice for notice in made.notices if isinstance(notice, InstanceRefused)]
        assert {notice.event for notice in refused} == {"store.rule_unmapped"}
        assert not {uid for study in parked for uid in made.pacs.instances(study)} & made.files().keys()
        assert left_out[1] not in str(refused)


async def test_command_changes_by_a_file_and_all_objects_at_the_time_that_was_planned(tmp_path: Path) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text(
        'reason = "CORRECT"\nsource = "OLD PACS"\n'
        '[[change]]\nattribute = "PatientID"\ntemplate = "{PatientID}@HOSPITAL"\n'
        '[[change]]\nattribute = "InstitutionName"\nvalue = "Hospital"\n'
    )
    async with commanding(tmp_path) as migrate:
        await migrate.plan()
        ended = await migrate.run("--rules", str(rules))
        assert ended.code == 0, ended.err
        files = sorted(migrate.folder.rglob("*.dcm"))
        datasets = [pydicom.dcmread(path) for path in files]
        assert len(files) == 80
        assert all(dataset.PatientID.endswith("@HOSPITAL") for dataset in datasets)
        times = {dataset.OriginalAttributesSequence[0].AttributeModificationDateTime for dataset in datasets}
        assert len(times) == 1
        assert times.pop().endswith("+0000")


async def test_rules_that_are_wrong_end_the_run_before_it_begins(tmp_path: Path) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text('[[change]]\nattribute = "StudyInstanceUID"\nvalue = "1.2.3"\n')
    async with commanding(tmp_path) as migrate:
        await migrate.plan()
        ended = await migrate.run("--rules", str(rules))
        assert ended.code == 1
        assert "rules.toml: change 1 (StudyInstanceUID): is not changed" in ended.err
        assert migrate.files() == []
