"""The hand-over report: its figures, its digest, its files and signatures, and that it is of one moment."""

from __future__ import annotations

import asyncio
import base64
import csv
import hashlib
import json
import re
import subprocess
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from fastmove.bench.spec import Spec
from fastmove.cli.migrate import command
from fastmove.cli.migrate.destination import Placing, destination_options
from fastmove.ledger.model import Job, JobState, Outcome, StudyJob
from fastmove.ledger.moment import at_one_moment
from fastmove.ledger.store import Ledger
from fastmove.migrate import digests, report
from fastmove.migrate.engine import Ended
from fastmove.migrate.forward import Proof
from fastmove.migrate.report import LISTED, Reporting, rates
from fastmove.observe.migration_report import html
from tests.bench.test_report import DARK, LIGHT, Screenshot, chromium, parsed
from tests.migrate.ledgers import EVIL, NOW, OUTCOMES, STUDIES, digest_of, filled, instances, study
from tests.migrate.migrating import migrating
from tests.migrate.test_forward_failures import to_a_pacs
from tests.migrate.test_web import text_of

GREEN = {False: (0x1A, 0x7F, 0x4B), True: (0x5C, 0xC5, 0x8F)}

STORED = sum(number for number, _ in OUTCOMES)


async def ledger_file(folder: Path) -> Path:
    path = folder / "a.ledger"
    async with Ledger.open(path, create=True) as ledger:
        await filled(ledger)
    return path


async def made(path: Path, *, patients: bool = False, use_digests: bool = True) -> tuple[dict[str, Any], list[Any]]:
    """The document, and what is told of each study."""
    rows: list[Any] = []
    async with at_one_moment(str(path)) as ledger:
        batch = (await ledger.batches())[0]
        reporting = Reporting(ledger, batch, digests=use_digests, patients=patients)
        document = await reporting.document(NOW, rows.append)
        assert reporting.studies == reporting.asked == len(rows)
    return document, rows


def reported(*arguments: str | Path) -> Result:
    return CliRunner().invoke(command, ["report", *map(str, arguments)])


def keys(folder: Path) -> tuple[Path, Path]:
    """As OpenSSL makes them."""
    private, public = folder / "key.pem", folder / "public.pem"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", private], check=True, capture_output=True)
    subprocess.run(["openssl", "pkey", "-in", private, "-pubout", "-out", public], check=True)
    return private, public


# ---------------------------------------------------------------------- figures


async def test_every_study_counts_once(tmp_path: Path) -> None:
    document, rows = await made(await ledger_file(tmp_path))
    assert document["studies"] == {
        "asked": STUDIES,
        "found": 5,
        "not_found": 1,
        "not_known": 4,
        "complete": 3,
        "partial": 1,
        "unmigratable": 2,
        "open": 4,
    }
    assert {each["verdict"]: each["studies"] for each in document["verdicts"]} == {
        "complete": 1,
        "counted": 1,
        "unverified": 1,
    }
    assert {each["class"]: (each["parked"], each["waiting"]) for each in document["reasons"]} == {
        "failed-objects": (1, 0),
        "not-found": (1, 0),
        "refused": (1, 0),
        "network": (0, 1),
    }
    assert document["instances"] == {"expected": 6, "studies_not_counted": 9, "stored": STORED, "missing": 4}
    assert document["bytes"] == 1000 * STORED
    assert [row["outcome"] for row in rows] == ["complete"] * 3 + ["partial"] + ["unmigratable"] * 2 + ["open"] * 4


async def test_proof_at_the_destination_is_told_apart_from_the_list_of_the_source(tmp_path: Path) -> None:
    document, rows = await made(await ledger_file(tmp_path))
    assert {each["proof"]: each["studies"] for each in document["proofs"]} == {"committed": 1, "taken": 1, "": 1}
    assert document["proved"] == 1, "its Success proves nothing"
    assert [row["proof"] for row in rows] == ["committed", "taken"] + [""] * 8
    words = {each["verdict"]: each["words"] for each in document["verdicts"]}
    assert not any("prove" in each or "destination" in each for each in words.values())
    page = text_of(html(document | {"files": []}))
    for expected in (
        "1 of these by the list of the source",
        "1 of these proved to be at the destination",
        "the destination took storage commitment for each object: by UID, not by content committed 1",
        "the destination answered each object with Success, and was not asked again taken 1",
        "all that is on the list of the source has come complete 1",
        "windows daily 00:00-24:00 parallel=4",
        "gentle yes",
    ):
        assert expected in page, (expected, page)
    assert "of what was sent on to another PACS the one in our spool" in document["digest"]["definition"]


@pytest.mark.parametrize(("proof", "name", "proved"), [(Proof.NONE, "taken", 0), (Proof.COMMIT, "committed", 2)])
async def test_report_of_a_migration_to_another_pacs_says_what_proves_it(
    proof: Proof, name: str, proved: int, tmp_path: Path
) -> None:
    async with to_a_pacs(tmp_path, proof, spec=Spec(studies=2, series=1, instances=3, size=2_000)) as migration:
        assert await migration.run() is Ended.FINISHED
        document, rows = await made(tmp_path / "a.ledger")
    assert [(each["verdict"], each["studies"]) for each in document["verdicts"]] == [("complete", 2)]
    assert document["proofs"] == [{"proof": name, "words": report.PROOF_WORDS[name], "studies": 2}]
    assert (document["proved"], [row["proof"] for row in rows]) == (proved, [name] * 2)


async def test_only_what_is_evident_is_found_at_the_source(tmp_path: Path) -> None:
    path = tmp_path / "a.ledger"
    async with Ledger.open(path, create=True) as ledger:
        batch = await ledger.add_batch("b", "PACS@h:104", {}, NOW)
        jobs = [StudyJob(study(1), instances=5), *(StudyJob(study(n)) for n in (2, 3, 4, 5))]
        await ledger.add(batch.id, jobs, NOW)
        claimed = {each.job.study_instance_uid: each for each in await ledger.claim(batch.id, "o", 9, 60.0, NOW)}
        for number, listed in ((2, 3), (3, 0), (4, 0)):
            reason = "refused" if listed else "not-found"
            outcome = Outcome(JobState.WAITING, "refused", reason, listed=listed, due_at=NOW + 60)
            await ledger.finish(claimed[study(number)], outcome, NOW)
        assert await ledger.park(batch.id, study(3), "not ours", NOW)
    document, _ = await made(path)
    counts = document["studies"]
    assert (counts["asked"], counts["found"], counts["not_found"], counts["not_known"]) == (5, 2, 2, 1)
    page = text_of(html(document | {"files": []}))
    assert "has something of 2, by what came" in page
    assert "nothing of 2; of 1 it has not been asked yet" in page


async def test_settings_in_the_report_name_no_patient(tmp_path: Path) -> None:
    (tmp_path / "patients.csv").write_text("old,new\nPATIENT-4,H-4\n")
    (tmp_path / "rules.toml").write_text(
        '[[change]]\nattribute = "PatientID"\nmap = "patients.csv"\nfrom = "old"\nto = "new"\n'
    )
    terms: dict[str, str] = {}

    @click.command()
    @destination_options
    def run(**placed: Any) -> None:
        terms.update(Placing.of(**placed).terms())

    result = CliRunner().invoke(run, ["--to", "/data", "--rules", str(tmp_path / "rules.toml")])
    assert result.exit_code == 0, result.output
    path = await ledger_file(tmp_path)
    async with Ledger.open(path) as ledger:
        await ledger.settle((await ledger.batches())[0].id, terms)
    document, _ = await made(path)
    assert set(document["batch"]["settings"]) == {"to", "layout", "rules"}
    assert re.fullmatch("SHA256:[0-9a-f]{64}", document["batch"]["settings"]["rules"])
    assert "PATIENT-4" not in json.dumps(document)
    assert "patients.csv" not in json.dumps(document)


async def test_tables_add_up_to_the_whole(tmp_path: Path) -> None:
    document, _ = await made(await ledger_file(tmp_path))
    for name in ("modalities", "years"):
        assert sum(each["studies"] for each in document[name]) == STUDIES
        assert sum(each["complete"] for each in document[name]) == 3
        assert sum(each["instances"] for each in document[name]) == STORED
        assert sum(each["bytes"] for each in document[name]) == 1000 * STORED
    assert {each["modality"] for each in document["modalities"]} == {"CT, SR", "MR"}
    assert [each["year"] for each in document["years"]] == ["2010", "2011", "2012", "not said"]
    rate = document["rate"]
    assert sum(rate["instances"]) == STORED
    assert (sum(rate["studies"]), sum(rate["bytes"])) == (3, 1000 * STORED)


async def test_studies_that_are_not_complete_are_named_parked_ones_first(tmp_path: Path) -> None:
    document, _ = await made(await ledger_file(tmp_path))
    listed = document["unfinished"]["listed"]
    assert [each["state"] for each in listed] == ["parked"] * 3 + ["waiting", "moving", "ready", "ready"]
    assert (listed[0]["study_instance_uid"], listed[0]["missing"]) == (study(4), 4)
    assert document["unfinished"]["more"] == 0


async def test_pauses_and_sufferings_are_told_in_their_order(tmp_path: Path) -> None:
    document, _ = await made(await ledger_file(tmp_path))
    assert [each["kind"] for each in document["events"]] == ["migrate.suffering", "operator.pause"]


async def test_nobody_is_named_unless_it_is_asked_for(tmp_path: Path) -> None:
    path = await ledger_file(tmp_path)
    document, rows = await made(path)
    assert "PATIENT" not in json.dumps([document, rows])
    assert "0515" not in json.dumps([document, rows]), "no day of a study either"
    document, rows = await made(path, patients=True)
    assert [row["patient_id"] for row in rows] == [f"PATIENT-{n}" for n in range(1, STUDIES + 1)]
    assert "PATIENT-4" in html(document | {"files": []})


async def test_empty_batch_has_a_report(tmp_path: Path) -> None:
    path = tmp_path / "a.ledger"
    async with Ledger.open(path, create=True) as ledger:
        await ledger.add_batch("empty", "PACS@h:104", {}, NOW)
    document, rows = await made(path)
    assert (document["studies"]["asked"], document["rate"], rows) == (0, None, [])
    assert "nothing has been moved" in html(document | {"files": []})


def test_rates_of_years_are_few_points_that_lose_nothing() -> None:
    from fastmove.ledger.model import Progress

    progress = [Progress(minute, 1, 2, 3) for minute in range(0, 500_000, 7)]
    rate = rates(progress)
    assert rate is not None
    assert len(rate["bytes"]) <= report.INTERVALS
    assert [sum(rate[name]) for name in ("studies", "instances", "bytes")] == [len(progress) * n for n in (1, 2, 3)]


# ---------------------------------------------------------------------- digests


def recalculated(studies: dict[str, dict[str, str]]) -> str:
    """As the definition says, by other means."""
    of_studies = {}
    for uid, its in studies.items():
        text = "".join(f"{each} {its[each]}\n" for each in sorted(its, key=str.encode))
        of_studies[uid] = hashlib.sha256(text.encode()).hexdigest()
    text = "".join(f"{uid} {of_studies[uid]}\n" for uid in sorted(of_studies, key=str.encode))
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize("chunk", [2, 100_000])
async def test_digest_is_what_its_definition_says(chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "CHUNK", chunk)
    document, rows = await made(await ledger_file(tmp_path))
    wanted = {}
    for number, (stored, _) in enumerate(OUTCOMES, 1):
        uids = [f"{study(number)}.9.{n}" for n in range(1, stored + 1)]
        if uids:
            wanted[study(number)] = {uid: "-" if number == 3 else digest_of(uid).hex() for uid in uids}
    assert document["digest"]["sha256"] == recalculated(wanted)
    assert document["digest"]["instances"] == STORED
    assert (document["digest"]["studies"], document["digest"]["without_digest"]) == (5, 2)
    assert [bool(row["digest"]) for row in rows] == [True] * 4 + [False] * 2 + [True] + [False] * 3


async def test_digest_of_a_migration_is_that_of_its_files(tmp_path: Path) -> None:
    async with migrating(Spec(studies=3, series=2, instances=2, size=2_000), tmp_path) as migration:
        assert await migration.run() is Ended.FINISHED
        document, _ = await made(tmp_path / "a.ledger")
        files = migration.files()
        studies = {
            each: {uid: hashlib.sha256(files[uid].read_bytes()).hexdigest() for uid in migration.pacs.instances(each)}
            for each in migration.pacs.studies
        }
    assert document["digest"]["sha256"] == recalculated(studies)
    assert (document["studies"]["complete"], document["digest"]["instances"]) == (3, 12)


async def test_digests_can_be_left_out(tmp_path: Path) -> None:
    document, rows = await made(await ledger_file(tmp_path), use_digests=False)
    assert document["digest"] is None
    assert not any(row["digest"] for row in rows)
    assert "was not asked for" in html(document | {"files": []})


async def test_report_is_of_one_moment_whoever_writes_meanwhile(tmp_path: Path) -> None:
    path = await ledger_file(tmp_path)
    before, _ = await made(path)
    async with Ledger.open(path) as ledger, at_one_moment(str(path)) as seen:
        batch = (await seen.batches())[0]
        await ledger.add(batch.id, [StudyJob("9.9.9")], NOW)
        (claimed,) = await ledger.claim(batch.id, "host:2", 1, 60.0, NOW)
        await ledger.record(instances(claimed, 3), NOW)
        after = await Reporting(seen, batch).document(NOW, lambda _: None)
    assert after == before
    assert (await made(path))[0]["studies"]["asked"] == STUDIES + 1


# ---------------------------------------------------------------------- size


class Endless:
    """A ledger of many studies that are all parked, and that nothing is kept of."""

    def __init__(self, number: int) -> None:
        self.number = number

    async def summary(self, _batch: int) -> Any:
        from fastmove.ledger.model import JobState, Summary, Total

        return Summary(dict.fromkeys(JobState, Total()), {}, {})

    async def jobs(self, _batch: int, *, after_id: int, limit: int) -> list[Job]:
        return [self._job(n) for n in range(after_id + 1, min(after_id + limit, self.number) + 1)]

    def _job(self, number: int) -> Job:
        from fastmove.ledger.model import JobState

        given = dict.fromkeys(Job.fields, 0) | {"owner": "", "lease_until": None, "due_at": None, "verdict": "refused"}
        asked = StudyJob(f"1.2.{number}", f"P{number}", "20100101", "CT")
        more = {"id": number, "job": asked, "state": JobState.PARKED, "reason_class": "refused", "reason": "x" * 100}
        return Job(**(given | more | {"listed": None, "stored": 1, "ended_at": NOW + number}))

    async def digests(self, numbers: Sequence[int]) -> list[tuple[int, str, bytes]]:
        return [(number, f"1.2.{number}.1", b"\0" * 32) for number in numbers]

    async def progress(self, *_: Any) -> list[Any]:
        return []

    async def events(self, *_: Any, **__: Any) -> list[Any]:
        return []


async def most_memory(number: int) -> tuple[int, dict[str, Any]]:
    from fastmove.ledger.model import Batch, Wish

    batch: Any = Batch(1, "many", "PACS@h:104", {}, Wish.RUN, NOW)
    ledger: Any = Endless(number)
    tracemalloc.start()
    try:
        document = await Reporting(ledger, batch).document(NOW, lambda _: None)
        return tracemalloc.get_traced_memory()[1], document
    finally:
        tracemalloc.stop()


async def test_memory_does_not_grow_with_the_studies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "CHUNK", 1000)
    few, _ = await most_memory(4_000)
    many, document = await most_memory(16_000)
    assert many < few * 1.2
    assert len(document["unfinished"]["listed"]) == LISTED
    assert document["unfinished"]["more"] == 16_000 - LISTED
    assert "14,000 more" in html(document | {"files": []})


# ---------------------------------------------------------------------- files


def test_files_are_written_and_the_page_vouches_for_the_csv(tmp_path: Path) -> None:
    ledger = asyncio.run(ledger_file(tmp_path))
    page, lines, out = (tmp_path / name for name in ("r.html", "r.csv", "r.json"))
    result = reported(ledger, "--html", page, "--csv", lines, "--json", out)
    assert result.exit_code == 0, result.output
    document = json.loads(out.read_text())
    assert document["format"] == report.FORMAT
    with lines.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == list(report.COLUMNS)
    assert [row["study_instance_uid"] for row in rows] == [study(n) for n in range(1, STUDIES + 1)]
    sha256 = hashlib.sha256(lines.read_bytes()).hexdigest()
    assert document["files"] == [{"name": "r.csv", "sha256": sha256, "bytes": lines.stat().st_size}]
    assert sha256 in page.read_text()
    assert document["digest"]["sha256"] in page.read_text()
    assert not list(tmp_path.glob(".*.part"))


def test_spreadsheet_is_given_no_formula(tmp_path: Path) -> None:
    ledger = asyncio.run(ledger_file(tmp_path))
    assert reported(ledger, "--csv", tmp_path / "r.csv").exit_code == 0
    with (tmp_path / "r.csv").open(newline="") as file:
        reasons = [row["reason"] for row in csv.DictReader(file)]
    assert "'=2+3" in reasons


def test_without_a_file_it_is_shown_in_short(tmp_path: Path) -> None:
    result = reported(asyncio.run(ledger_file(tmp_path)))
    assert result.exit_code == 0
    assert re.search(r"unmigratable +2\b", result.output)
    assert "1 x not-found: the PACS has nothing of it" in result.output


def test_what_cannot_be_written_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    ledger = asyncio.run(ledger_file(tmp_path))
    result = reported(ledger, "--csv", tmp_path / "nowhere" / "r.csv")
    assert result.exit_code == 1
    assert "cannot be written" in result.output
    assert reported(tmp_path / "no.ledger").exit_code == 73


# ---------------------------------------------------------------------- signatures


def test_signature_is_verified_by_us_and_by_openssl(tmp_path: Path) -> None:
    private, public = keys(tmp_path)
    page, lines = tmp_path / "r.html", tmp_path / "r.csv"
    ledger = asyncio.run(ledger_file(tmp_path))
    result = reported(ledger, "--html", page, "--csv", lines, "--sign", private)
    assert result.exit_code == 0, result.output
    for path in (page, lines):
        verified = CliRunner().invoke(command, ["verify-report", str(path), "--key", str(public)])
        assert verified.exit_code == 0, verified.output
        raw = tmp_path / "raw"
        raw.write_bytes(base64.b64decode(path.with_name(path.name + ".sig").read_bytes()))
        options = ["-pubin", "-inkey", public, "-rawin", "-in", path, "-sigfile", raw]
        subprocess.run(["openssl", "pkeyutl", "-verify", *options], check=True, capture_output=True)


@pytest.mark.parametrize("harm", ["content", "signature", "no base64", "key"])
def test_what_was_changed_is_noticed(harm: str, tmp_path: Path) -> None:
    private, public = keys(tmp_path)
    lines = tmp_path / "r.csv"
    reported(asyncio.run(ledger_file(tmp_path)), "--csv", lines, "--sign", private)
    signature = tmp_path / "r.csv.sig"
    if harm == "content":
        lines.write_text(lines.read_text().replace("unmigratable", "complete", 1))
    elif harm == "signature":
        signature.write_bytes(base64.b64encode(b"\0" * 64))
    elif harm == "no base64":
        signature.write_bytes(b"?")
    else:
        (tmp_path / "other").mkdir()
        public = keys(tmp_path / "other")[1]
    result = CliRunner().invoke(command, ["verify-report", str(lines), "--key", str(public)])
    assert result.exit_code == 71
    assert "no signature of it by this key" in result.output


def test_key_that_is_none_is_told_before_anything_is_read(tmp_path: Path) -> None:
    other = tmp_path / "rsa.pem"
    subprocess.run(["openssl", "genpkey", "-algorithm", "rsa", "-out", other], check=True, capture_output=True)
    none, open_to_all = tmp_path / "none.pem", tmp_path / "open.pem"
    for path, mode in ((none, 0o600), (open_to_all, 0o640)):
        path.write_text("no key")
        path.chmod(mode)
    for key, why in (
        (other, "another kind"),
        (tmp_path / "no.pem", "cannot be read"),
        (none, "no private"),
        (open_to_all, "chmod 600"),
    ):
        result = reported(tmp_path / "no.ledger", "--csv", tmp_path / "r.csv", "--sign", key)
        assert (result.exit_code, why in result.output) == (1, True), result.output
    assert reported(tmp_path / "no.ledger", "--sign", other).exit_code == 1


def test_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastmove.migrate.signature.find_spec", lambda _: None)
    result = reported(tmp_path / "no.ledger", "--csv", tmp_path / "r.csv", "--sign", tmp_path / "key.pem")
    assert result.exit_code == 1
    assert "pip install 'fastmove[sign]'" in result.output


# ---------------------------------------------------------------------- the page


async def page_of(folder: Path) -> str:
    document, _ = await made(await ledger_file(folder))
    return html(document | {"files": []})


async def test_page_stands_alone_and_takes_nothing_for_markup(tmp_path: Path) -> None:
    page = await page_of(tmp_path)
    parser = parsed(page)
    assert not {"script", "iframe", "object", "embed", "img", "form"} & set(parser.tags)
    assert [value for name, value in parser.attributes if name in ("src", "href", "action")] == ["data:,"]
    assert not re.search(r"@import|url\(", page)
    assert EVIL not in page
    assert "&lt;script&gt;" in page


@pytest.mark.lane("chromium")
@pytest.mark.parametrize(("dark", "colours"), [(False, LIGHT), (True, DARK)])
async def test_page_is_drawn_in_light_and_in_dark(dark: bool, colours: dict[str, Any], tmp_path: Path) -> None:
    page, shot = tmp_path / "r.html", tmp_path / "r.png"
    page.write_text(await page_of(tmp_path))
    options = ["--force-dark-mode"] if dark else []
    told = await chromium(*options, "--window-size=1000,900", f"--screenshot={shot}", f"file://{page}")
    assert "CONSOLE" not in told
    seen = Screenshot(shot)
    assert seen.at(2, 2) == colours["paper"]
    # Three of ten studies are complete, of a plot that is half as wide as the page.
    assert seen.widest_bar(GREEN[dark]) == pytest.approx(0.3 * 475, abs=15)


@pytest.mark.lane("chromium")
async def test_page_fits_a_phone(tmp_path: Path) -> None:
    page, shot = tmp_path / "r.html", tmp_path / "r.png"
    page.write_text(await page_of(tmp_path))
    await chromium("--window-size=360,1600", f"--screenshot={shot}", f"file://{page}")
    seen = Screenshot(shot)
    assert all(seen.at(seen.width - 2, y) == LIGHT["paper"] for y in range(seen.height)), "nothing sticks out"
