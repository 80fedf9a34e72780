"""`fastmove migrate` as an operator calls it: plan, run, look, steer, and kill."""

from __future__ import annotations

import asyncio
import csv
import hashlib
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any, Final

import pytest

from fastmove.bench.spec import Spec
from fastmove.ledger.store import Ledger
from tests.compat.harness import reserved_port
from tests.integration.embedded import EmbeddedPacs, embedded_pacs
from tests.integration.metrics import address, scraped
from tests.integration.peers import HOST, Orthanc
from tests.integration.programs import Ended, Program, fastmove
from tests.migrate.test_forward import held_by

SPEC: Final = Spec(studies=8, series=2, instances=5, size=3_000)


class Commanding:
    """A PACS, a ledger and a folder, by command lines."""

    def __init__(self, pacs: EmbeddedPacs, port: int, tmp_path: Path) -> None:
        self.pacs = pacs
        self.ledger = tmp_path / "a.ledger"
        self.folder = tmp_path / "in"
        self.peer = str(pacs.address)
        self.here = ("--aet", "ME", "--port", str(port), "--to", self.folder, "--no-durable", "--reserve", "0")

    async def __call__(self, verb: str, *arguments: str | Path) -> Ended:
        return await fastmove("migrate", verb, self.ledger, *arguments)

    async def plan(self, *options: str) -> Ended:
        return await self("plan", self.peer, "--aet", "ME", *(options or ("--date", "1990..")))

    async def run(self, *options: str) -> Ended:
        return await self("run", self.peer, *self.here, *options)

    def program(self, *options: str) -> Program:
        return Program("migrate", "run", self.ledger, self.peer, *self.here, *options)

    async def status(self) -> dict[str, Any]:
        ended = await self("status", "--json")
        assert ended.code == 0, ended.err
        (line,) = ended.lines
        return {state: total["studies"] for state, total in line["states"].items() if total["studies"]}

    def files(self) -> list[str]:
        return sorted(path.stem for path in self.folder.rglob("*.dcm"))


@asynccontextmanager
async def commanding(tmp_path: Path, *faults: str, spec: Spec = SPEC) -> AsyncIterator[Commanding]:
    with reserved_port() as port:
        async with embedded_pacs(spec, faults=faults, storage_idle_s=1.0) as pacs:
            pacs.going_to("ME", port)
            yield Commanding(pacs, port, tmp_path)


async def test_archive_is_planned_moved_and_reported_on(tmp_path: Path) -> None:
    async with commanding(tmp_path) as migrate:
        planned = await migrate.plan()
        assert planned.code == 0, planned.err
        assert re.search(r"^2000 +8 +80$", planned.out, re.M)
        assert "8 new, 0 known" in planned.out
        assert await migrate.status() == {"ready": 8}
        ran = await migrate.run()
        assert ran.code == 0, ran.err
        assert "8 of 8 studies are complete" in ran.out
        assert migrate.files() == sorted(migrate.pacs.instances())
        status = await migrate("status")
        assert re.search(r"^complete +8 +80 +80 ", status.out, re.M)
        exported = await migrate("export")
        rows = list(csv.DictReader(exported.out.splitlines()))
        assert {row["study_instance_uid"] for row in rows} == migrate.pacs.studies.keys()
        assert {(row["state"], row["stored"], row["attempts"]) for row in rows} == {("complete", "10", "1")}
        assert "patient_id" not in rows[0]
        again = await migrate.plan()
        assert "0 new, 8 known, 0 of these have grown" in again.out


async def test_dry_run_says_what_there_is_and_writes_nothing(tmp_path: Path) -> None:
    async with commanding(tmp_path) as migrate:
        ended = await migrate.plan("--date", "2000-01-02..2000-01-05", "--dry-run", "--json")
        assert ended.code == 0, ended.err
        (told,) = ended.lines
        assert (told["studies"], told["instances"]) == (4, 40)
        assert not migrate.ledger.exists()


async def test_newest_studies_come_first_and_those_of_a_priority_before_them(tmp_path: Path) -> None:
    async with commanding(tmp_path) as migrate:
        assert (await migrate.plan()).code == 0
        study = sorted(migrate.pacs.studies)[0]
        assert (await migrate("prioritise", "--study", study, "--priority", "5")).code == 0
        async with Ledger.open(migrate.ledger) as ledger:
            (batch,) = await ledger.batches()
            claimed = await ledger.claim(batch.id, "test", 8, 60.0, 0.0)
        dates = [each.job.study_date for each in claimed[1:]]
        assert claimed[0].job.study_instance_uid == study
        assert dates == sorted(dates, reverse=True)


async def test_failed_studies_are_told_by_class_and_can_be_tried_again(tmp_path: Path) -> None:
    async with commanding(tmp_path, "refuse-moves=C001") as migrate:
        await migrate.plan()
        async with migrate.program("--no-gentle") as program:
            await program.event("migrate.study", 8)
            assert await program.stopped() == 72
        assert await migrate.status() == {"waiting": 8}
        told = await migrate("status")
        assert "8 x refused: the PACS refused it" in told.out
        study = sorted(migrate.pacs.studies)[0]
        assert (await migrate("park", "--study", study, "--reason", "nobody needs it")).code == 0
        assert await migrate.status() == {"waiting": 7, "parked": 1}
        migrate.pacs.misbehave()
        retried = await migrate("retry", "--class", "refused")
        assert "7 studies of class refused are tried again" in retried.out
        ended = await migrate.run()
        assert ended.code == 71, ended.err
        assert await migrate.status() == {"complete": 7, "parked": 1}
        listed = await migrate("export", "--state", "parked", "--json")
        (row,) = listed.lines
        assert (row["study_instance_uid"], row["reason"]) == (study, "nobody needs it")


async def test_killed_at_random_moments_it_loses_nothing_and_stores_nothing_twice(tmp_path: Path) -> None:
    spec = Spec(studies=20, series=1, instances=20, size=3_000)
    random = Random(7)
    async with commanding(tmp_path, "delay=0.01", spec=spec) as migrate:
        await migrate.plan()
        for _ in range(5):
            async with migrate.program() as program:
                await program.event("listen.started")
                await asyncio.sleep(random.uniform(0.0, 0.6))  # the random moment
                program.signal(signal.SIGKILL)
                await program.ended()
        ended = await migrate.run()
        assert ended.code == 0, ended.err
        assert await migrate.status() == {"complete": 20}
        assert migrate.files() == sorted(migrate.pacs.instances())
        for study in migrate.pacs.studies:
            verified = await fastmove("verify", migrate.folder / study, "--json")
            assert verified.code == 0, verified.out
    assert not [path for path in migrate.folder.rglob("*.part") if path.stat().st_size]


async def test_ctrl_c_ends_with_what_is_in_hand_and_the_second_one_cancels(tmp_path: Path) -> None:
    async with commanding(tmp_path, "delay=0.1") as migrate:
        await migrate.plan()
        async with migrate.program() as program:
            await program.event("move.progressed")
            program.signal(signal.SIGINT)
            await program.event("migrate.study", 2)
            program.signal(signal.SIGINT)
            assert await program.ended() == 72
        assert "moving" not in await migrate.status()


async def test_ledger_is_run_by_one_at_a_time(tmp_path: Path) -> None:
    async with commanding(tmp_path, "delay=0.1") as migrate:
        await migrate.plan()
        async with migrate.program() as program:
            await program.event("listen.started")
            ended = await fastmove("migrate", "run", migrate.ledger, migrate.peer, *migrate.here)
            assert ended.code == 1
            assert "is run already, by fastmove migrate run" in ended.err
            assert await program.stopped() == 72


@pytest.mark.parametrize("verb", ["pause", "drain", "stop"])
async def test_wish_of_an_operator_is_heeded_by_a_run(tmp_path: Path, verb: str) -> None:
    async with commanding(tmp_path, "delay=0.2") as migrate:
        await migrate.plan()
        async with migrate.program() as program:
            await program.event("move.progressed")
            assert (await migrate(verb)).code == 0
            if verb == "pause":
                assert (await migrate("resume")).code == 0
                assert await program.ended() == 0
            else:
                assert await program.ended() == 72
                assert "an operator ended it" in (await program.event("migrate.ended"))["why"]


async def test_pause_outlasts_a_run_and_a_stop_does_not(tmp_path: Path) -> None:
    async with commanding(tmp_path) as migrate:
        await migrate.plan()
        assert (await migrate("pause")).code == 0
        async with migrate.program() as program:
            await program.event("listen.started")
            await asyncio.sleep(1.5)  # it might begin something
            assert not migrate.pacs.objects_sent
            assert await program.stopped() == 72
        assert (await migrate("stop")).code == 0
        assert (await migrate.run()).code == 0
        assert await migrate.status() == {"complete": 8}


async def test_how_it_is_run_is_written_down_and_rules_by_their_digest_alone(tmp_path: Path) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text('[[change]]\nattribute = "PatientID"\nvalue = "SECRET"\n')
    async with commanding(tmp_path) as migrate:
        await migrate.plan()
        window = ("--window", "daily 00:00-24:00 parallel=3", "--timezone", "Europe/Berlin")
        ended = await migrate.run(*window, "--rules", str(rules))
        assert ended.code == 0, ended.err
        async with Ledger.open(migrate.ledger) as ledger:
            (batch,) = await ledger.batches()
            events = await ledger.events(batch.id, limit=10)
    digest = f"SHA256:{hashlib.sha256(rules.read_bytes()).hexdigest()}"
    assert batch.settings == {
        "windows": ["daily 00:00-24:00 parallel=3"],
        "timezone": "Europe/Berlin",
        "parallel": "auto",
        "gentle": True,
        "require-proof": False,
        "to": str(migrate.folder),
        "layout": "series",
        "rules": digest,
    }
    (began,) = [each.text for each in events if each.kind == "migrate.began"]
    assert digest in began and "daily 00:00-24:00 parallel=3" in began and "SECRET" not in began


async def test_metrics_of_a_run_say_how_far_it_is(tmp_path: Path) -> None:
    async with commanding(tmp_path, "delay=0.2") as migrate:
        await migrate.plan()
        async with migrate.program("--metrics", "0") as program:
            url = await address(program)
            await program.event("migrate.study")
            found = await scraped(url)
            assert found[("fastmove_migrate_studies_complete_total",)] >= 1
            assert found[("fastmove_migrate_objects_total",)] >= 10
            assert (found[("fastmove_migrate_shut",)], found[("fastmove_migrate_suffering",)]) == (0, 0)
            assert await program.ended() == 0


async def test_configuration_has_defaults_for_what_asks_the_pacs_and_for_nothing_else(tmp_path: Path) -> None:
    async with commanding(tmp_path) as migrate:
        host, port = migrate.here[3], migrate.folder
        (tmp_path / "fastmove.toml").write_text(
            f'aet = "ME"\nport = {host}\n[migrate]\nto = "{port}"\ndurable = false\nreserve = 0\n'
            'window = ["daily 00:00-24:00 parallel=2"]\ntimezone = "Asia/Tokyo"\n'
        )
        for verb, options in (("plan", ("--date", "1990..")), ("run", ())):
            ended = await fastmove("migrate", verb, migrate.ledger, migrate.peer, *options, cwd=tmp_path)
            assert ended.code == 0, ended.err
        assert migrate.files() == sorted(migrate.pacs.instances())
        async with Ledger.open(migrate.ledger) as ledger:
            (batch,) = await ledger.batches()
    assert batch.settings["windows"] == ["daily 00:00-24:00 parallel=2"]
    assert batch.settings["timezone"] == "Asia/Tokyo"
    helped = await fastmove("migrate", "serve", "--help", cwd=tmp_path)
    assert "FASTMOVE_PORT" not in helped.out


async def test_move_destination_that_is_not_known_ends_with_69_and_says_so(tmp_path: Path) -> None:
    async with commanding(tmp_path) as migrate:
        await migrate.plan()
        migrate.pacs.destinations.clear()
        ended = await migrate.run()
    assert ended.code == 69
    assert "the PACS does not know the move destination" in ended.err


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("run", "PACS@127.0.0.1:1", "--port", "0", "--to", "in"), "there is no"),
        (("status",), "there is no"),
        (("plan", "PACS@127.0.0.1:1"), "say which studies"),
        (("run", "PACS@127.0.0.1:1", "--port", "0", "--to", "in", "--window", "someday"), "someday"),
        (("run", "PACS@127.0.0.1:1", "--port", "0", "--to", "in", "--timezone", "Mars/Base"), "Mars/Base"),
        (
            ("run", "PACS@127.0.0.1:1", "--third-party", "X@127.0.0.1:1", "--window", "daily 0:00-24:00 rate=1M"),
            "say parallel=",
        ),
    ],
)
async def test_what_cannot_be_meant_is_told(tmp_path: Path, arguments: tuple[str, ...], why: str) -> None:
    verb, *rest = arguments
    ended = await fastmove("migrate", verb, tmp_path / "a.ledger", *rest, cwd=tmp_path)
    assert ended.code in (1, 73)
    assert why in ended.err
    assert not list(tmp_path.iterdir())


async def test_another_pacs_than_was_planned_is_refused(tmp_path: Path) -> None:
    async with commanding(tmp_path) as migrate:
        await migrate.plan()
        ended = await migrate("run", "OTHER@127.0.0.1:1", *migrate.here)
    assert ended.code == 1
    assert f"is of {migrate.peer}" in ended.err


async def test_another_destination_is_refused_once_something_is_recorded(tmp_path: Path) -> None:
    async with commanding(tmp_path) as migrate:
        await migrate.plan()
        there = tmp_path / "there"
        to = migrate.here.index("--to") + 1
        elsewhere = (*migrate.here[:to], there, *migrate.here[to + 1 :])
        closed = ("--window", "daily 00:00-24:00 closed")
        async with Program("migrate", "run", migrate.ledger, migrate.peer, *elsewhere, *closed) as program:
            await program.event("listen.started")
            assert await program.stopped() == 72
        assert (await migrate.run()).code == 0  # nothing is in the other one
        there.rmdir()
        for options in (("--to", there), ("--third-party", migrate.peer)):
            port = ("--port", "0") if "--to" in options else ()
            ended = await migrate("run", migrate.peer, "--aet", "ME", *port, *options)
            assert ended.code == 1
            assert f"{options[0]}: what is recorded of batch" in ended.err
            assert f"went elsewhere (--to {migrate.folder})" in ended.err
            assert "--destination-moved" in ended.err
        assert not there.exists()
        async with Ledger.open(migrate.ledger) as ledger:
            (batch,) = await ledger.batches()
            assert batch.settings["to"] == str(migrate.folder)
        migrate.folder.rename(there)
        assert (await migrate("run", migrate.peer, *elsewhere, "--destination-moved")).code == 0
        assert (await migrate("run", migrate.peer, *elsewhere)).code == 0


@pytest.mark.parametrize("as_json", [False, True])
async def test_other_rules_than_those_of_what_is_stored_are_told(tmp_path: Path, as_json: bool) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text('[[change]]\nattribute = "PatientID"\nvalue = "SECRET"\n')
    digest = f"SHA256:{hashlib.sha256(rules.read_bytes()).hexdigest()}"
    json_too = ("--json",) if as_json else ()
    async with commanding(tmp_path) as migrate:
        await migrate.plan()
        for _ in range(2):
            ended = await migrate.run("--rules", str(rules), *json_too)
            assert ended.code == 0, ended.err
            assert "rules" not in ended.err + ended.out
        ended = await migrate.run(*json_too)
        assert ended.code == 0, ended.err
        told = f"80 objects of this batch are stored by other --rules ({digest}) than those of now on (none)"
        if as_json:
            assert [each["text"] for each in ended.lines if each["event"] == "migrate.rules_changed"] == [told]
        else:
            assert f"warning: {told}" in ended.err
        async with Ledger.open(migrate.ledger) as ledger:
            (batch,) = await ledger.batches()
            events = await ledger.events(batch.id, limit=10)
        assert [each.text for each in events if each.kind == "migrate.rules_changed"] == [told]


@pytest.mark.peer("orthanc")
async def test_archive_goes_on_to_another_pacs_which_commits_to_it(tmp_path: Path) -> None:
    with reserved_port() as port:
        async with (
            embedded_pacs(SPEC, storage_idle_s=1.0) as pacs,
            Orthanc({"ME": (HOST, port)}, http=True) as orthanc,
        ):
            pacs.going_to("ME", port)
            migrate = Commanding(pacs, port, tmp_path)
            await migrate.plan()
            there = ("--forward", f"{orthanc.ae_title}@{HOST}:{orthanc.port}", "--spool", tmp_path / "spool")
            here = ("--aet", "ME", "--port", str(port), "--proof", "commit", "--reserve", "0")
            ended = await migrate("run", migrate.peer, *here, *there)
            assert ended.code == 0, ended.err
            assert await migrate.status() == {"complete": 8}
            assert await held_by(orthanc) == pacs.instances()
    assert not list((tmp_path / "spool").rglob("*.dcm"))


@pytest.mark.peer("orthanc")
async def test_archive_goes_straight_to_a_third_party(tmp_path: Path) -> None:
    async with commanding(tmp_path) as migrate, Orthanc(http=True) as orthanc:
        migrate.pacs.going_to(orthanc.ae_title, orthanc.port)
        await migrate.plan()
        there = f"{orthanc.ae_title}@{HOST}:{orthanc.port}"
        ended = await migrate("run", migrate.peer, "--aet", "ME", "--third-party", there, "--parallel", "2")
        assert ended.code == 0, ended.err
        assert await migrate.status() == {"complete": 8}
        assert await held_by(orthanc) == migrate.pacs.instances()


@pytest.mark.parametrize("options", [(), ("--port", "0", "--third-party", "X@a:1")])
async def test_port_is_needed_unless_nothing_comes_here(tmp_path: Path, options: tuple[str, ...]) -> None:
    where = ("PACS@127.0.0.1:1", *(options or ("--to", "in")))
    ended = await fastmove("migrate", "run", tmp_path / "a.ledger", *where)
    assert ended.code == 1
    assert "--port" in ended.err


@pytest.mark.parametrize(
    "options", [(), ("--to", "in", "--forward", "X@a:1"), ("--to", "in", "--spool", "s"), ("--forward", "X@a:1")]
)
async def test_one_destination_has_to_be_given(tmp_path: Path, options: tuple[str, ...]) -> None:
    ended = await fastmove("migrate", "run", tmp_path / "a.ledger", "PACS@127.0.0.1:1", "--port", "0", *options)
    assert ended.code == 1
    assert "--forward" in ended.err
