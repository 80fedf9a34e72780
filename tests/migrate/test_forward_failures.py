"""A destination that is away, broken or half-hearted: nothing is lost, nothing is moved in vain, and nobody waits for
ever."""

from __future__ import annotations

import asyncio
import errno
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from fastmove.bench.spec import Spec
from fastmove.credentials import TlsSettings
from fastmove.errors import ConfigurationError
from fastmove.ledger.model import Job, JobState
from fastmove.migrate import presence, spool_folder
from fastmove.migrate.destination import Standing
from fastmove.migrate.engine import Ended, Engine
from fastmove.migrate.forward import Proof
from fastmove.migrate.spool import Answer, Carrier, Spooled
from fastmove.notices import MigrationNoted
from fastmove.storage import entries as storage_entries
from fastmove.storage.digest import sha256_of
from fastmove.storage.entries import Entry
from fastmove.storage.options import WriteOptions
from fastmove.types import PeerAddress
from tests.compat.harness import reserved_port
from tests.integration.embedded import embedded_pacs
from tests.integration.peers import HOST
from tests.integration.programs import listen_program
from tests.integration.retrieving import until
from tests.migrate.migrating import LIMITS, OURS, Migrating, migrating, until_finished

SPEC: Final = Spec(studies=2, series=1, instances=3, size=3_000)
ONE: Final = Spec(studies=1, series=1, instances=4, size=3_000)
DAYS_S: Final = 100_000.0


@pytest.fixture(autouse=True)
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is away is looked for often."""
    monkeypatch.setattr(presence, "AGAIN_S", 0.1)


def limited(made: Migrating, **limits: float) -> None:
    """Other limits of the destination."""
    real = made.destination

    def destination(engine: Engine) -> Any:
        forward: Any = real(engine)  # type: ignore[misc]
        forward._limits = forward._limits.replace(**limits)
        return forward

    made.destination = destination


@asynccontextmanager
async def to_a_pacs(
    tmp_path: Path, proof: Proof, *faults: str, spec: Spec = SPEC, known: bool = True, **options: Any
) -> AsyncIterator[Migrating]:
    """A migration to an embedded PACS, which commits what it has got, and reports it to us if it knows us."""
    (tmp_path / "none").mkdir()
    async with migrating(spec, tmp_path) as made, embedded_pacs(tmp_path / "none", faults=faults) as other:
        if known:
            other.going_to(OURS, made.port)
        made.forwarding(other.address, proof, **options)
        yield made


async def told(made: Migrating, kind: str) -> None:
    async with asyncio.timeout(30):
        while kind not in await made.events():
            await asyncio.sleep(0.02)


async def jobs(made: Migrating) -> list[Job]:
    return list((await made.jobs()).values())


@contextmanager
def storing(answer: Callable[[Dataset], Dataset]) -> Iterator[PeerAddress]:
    """A storage SCP by pynetdicom, whose responses are as `answer` says, by the data set."""
    ae = AE("THERE")
    ae.supported_contexts = AllStoragePresentationContexts
    ae.add_supported_context(Verification)

    def stored(event: Any) -> Dataset:
        return answer(event.dataset)

    server = ae.start_server((HOST, 0), block=False, evt_handlers=[(evt.EVT_C_STORE, stored)])
    try:
        yield PeerAddress("THERE", HOST, server.socket.getsockname()[1])
    finally:
        server.shutdown()


def status(number: int, **elements: str) -> Dataset:
    made = Dataset()
    made.Status = number
    for keyword, value in elements.items():
        setattr(made, keyword, value)
    return made


# ---------------------------------------------------------------------- the proof


@pytest.mark.parametrize("proof", [Proof.AUTO, Proof.COMMIT])
async def test_report_that_never_comes_is_no_proof_and_does_not_end_the_run(tmp_path: Path, proof: Proof) -> None:
    async with to_a_pacs(tmp_path, proof, "commit-never") as made:
        limited(made, commit_s=0.5)
        async with made.started() as (engine, running):
            await until(lambda: engine.tried_again == 2 or running.done())
            assert not running.done()
        for job in await jobs(made):
            assert (job.reason_class, job.proof, job.stored) == ("undelivered", "", 3)
            assert "no report on a storage commitment of 3 objects within 0.5 s" in job.reason
        assert len(made.files()) == 6


async def test_weaker_proof_is_none_for_a_pacs_that_refuses_the_stronger_one(tmp_path: Path) -> None:
    async with to_a_pacs(tmp_path, Proof.AUTO, known=False) as made:
        async with made.started() as (engine, _):
            await until(lambda: engine.tried_again == 2)
            assert engine.complete == 0
        assert {job.reason_class for job in await jobs(made)} == {"undelivered"}
        assert "gave no storage commitment" in (await jobs(made))[0].reason


async def test_list_is_the_proof_where_storage_commitment_is_not_offered(tmp_path: Path) -> None:
    held: dict[str, Dataset] = {}

    def stored(dataset: Dataset) -> Dataset:
        held[dataset.SOPInstanceUID] = dataset
        return status(0)

    with storing(stored) as peer:
        async with migrating(SPEC, tmp_path) as made:
            made.forwarding(peer, Proof.AUTO)
            async with made.started() as (engine, _):
                await until(lambda: engine.tried_again == 2)
            assert held.keys() == made.pacs.instances()
            assert "THERE gives no list" in (await jobs(made))[0].reason, "it was asked for that"


@pytest.mark.parametrize(
    ("proof", "name"), [(Proof.COMMIT, "committed"), (Proof.AUTO, "committed"), (Proof.NONE, "taken")]
)
async def test_ledger_has_what_proves_a_delivery(tmp_path: Path, proof: Proof, name: str) -> None:
    async with to_a_pacs(tmp_path, proof) as made:
        assert await made.run() is Ended.FINISHED
        for job in await jobs(made):
            (attempt,) = await made.ledger.attempts(job.id)
            assert job.proof == attempt.proof == name


async def test_ledger_has_it_that_files_were_written(tmp_path: Path) -> None:
    async with migrating(SPEC, tmp_path) as made:
        assert await made.run() is Ended.FINISHED
        assert {job.proof for job in await jobs(made)} == {"file"}


async def test_object_that_is_never_proved_parks_its_study(tmp_path: Path) -> None:
    async with to_a_pacs(tmp_path, Proof.COMMIT, "commit-fails=1", spec=ONE) as made:
        async with made.started() as (engine, _):
            for attempt in range(1, 10):
                await until(lambda attempt=attempt: engine.tried_again >= attempt or engine.parked)  # type: ignore[misc]
                if engine.parked:
                    break
                made.clock.put_forward(DAYS_S)
            await until(lambda: not made.files())
        (job,) = await jobs(made)
        assert (job.state, job.reason_class, job.stored) == ("parked", "undelivered", 3)
        assert engine.tried_again == 6 - 1 + 1, "the first attempt brought three objects"


# ---------------------------------------------------------------------- reports, and the end of a run


async def test_report_is_taken_as_long_as_a_study_waits_for_it(tmp_path: Path) -> None:
    async with to_a_pacs(tmp_path, Proof.COMMIT, "commit-late=1") as made:
        limited(made, stop_s=15.0)
        async with made.started() as (engine, running):
            await until(lambda: engine.recorder.recorded == 6)
            engine.stop()
            assert await running is Ended.STOPPED
        assert await made.states() == {"complete": 2}


async def test_who_stops_does_not_wait_for_a_report(tmp_path: Path) -> None:
    async with to_a_pacs(tmp_path, Proof.COMMIT, "commit-never") as made:
        async with made.started() as (engine, running):
            await until(lambda: engine.recorder.recorded == 6)
            engine.stop()
            async with asyncio.timeout(LIMITS.stop_s + 10):  # commit_s is 20
                assert await running is Ended.STOPPED
        for job in await jobs(made):
            assert job.state != "complete"
            assert job.attempts == 0, "that says nothing of the study"


# ---------------------------------------------------------------------- away


async def test_destination_that_is_away_is_waited_out_before_anything_is_moved(tmp_path: Path) -> None:
    with reserved_port() as port:
        async with migrating(SPEC, tmp_path) as made:
            made.forwarding(PeerAddress("THERE", HOST, port), Proof.NONE)
            async with made.started() as (engine, running):
                await told(made, "migrate.destination_away")
                assert not made.pacs.moves
                engine._wake.set()
                async with listen_program(tmp_path / "there", "--port", str(port), "--any-called-aet") as program:
                    await program.event("listen.started")
                    while not running.done():
                        engine._wake.set()
                        await asyncio.sleep(0.05)
                    assert await running is Ended.FINISHED
            assert await made.states() == {"complete": 2}
            assert set(made.pacs.sent.values()) == {1}
            assert (engine.tried_again, engine.parked) == (0, 0)


async def test_what_is_in_the_spool_when_the_destination_goes_away_is_not_moved_again(tmp_path: Path) -> None:
    there = tmp_path / "there"
    options = ("--any-called-aet", "--no-durable")
    spec = Spec(studies=4, series=1, instances=10, size=3_000)
    with reserved_port() as port:
        at = ("--port", str(port))
        async with migrating(spec, tmp_path, "delay=0.05") as made:
            made.forwarding(PeerAddress("THERE", HOST, port), Proof.NONE)
            async with listen_program(there, *options, *at) as program:
                await program.event("listen.started")
                engine = made.made()
                running = asyncio.create_task(made.running(engine))
                await until(lambda: engine.recorder.recorded > 5)
                program.process.kill()
                await program.process.wait()
            await told(made, "migrate.destination_away")
            async with listen_program(there, *options, *at) as program:
                await program.event("listen.started")
                async with asyncio.timeout(60):
                    while not running.done():
                        engine._wake.set()
                        await asyncio.sleep(0.05)
            assert await running is Ended.FINISHED
            assert await made.states() == {"complete": 4}
            assert not made.files()
            assert engine.parked == 0
            assert {path.stem for path in there.rglob("*.dcm")} == made.pacs.instances()
            assert set(made.pacs.sent.values()) == {1}


async def test_certificate_that_vanishes_is_waited_for_and_an_interrupt_ends_that(tmp_path: Path) -> None:
    async with migrating(SPEC, tmp_path) as made:
        tls = TlsSettings(certificate=tmp_path / "c.pem", key=tmp_path / "k.pem")
        made.forwarding(PeerAddress("THERE", HOST, 1, tls=tls), Proof.NONE)
        engine = made.made()
        running = asyncio.create_task(made.running(engine))
        await told(made, "migrate.destination_away")
        assert "c.pem" in str(made.notices)
        engine.interrupt()
        engine.interrupt()
        async with asyncio.timeout(10):
            assert await running is Ended.STOPPED


# ---------------------------------------------------------------------- carriers


class Carried(Spooled):
    """A spool whose objects are carried on by a function."""

    carry: Callable[[Entry], Entry | str]

    def _carriers(self) -> Sequence[Carrier]:
        return [_By(self.carry)]

    async def _look(self) -> None:
        """It is there."""

    async def finish(self, study: str, instances: Any) -> Any:
        raise AssertionError(study)


class _By:
    def __init__(self, carry: Callable[[Entry], Entry | str]) -> None:
        self._carry = carry

    async def carry(self, entry: Entry) -> Entry | str:
        return self._carry(entry)

    async def close(self) -> None:
        """Nothing is open."""


def carrying(made: Migrating, carry: Callable[[Entry], Entry | str], answer: Answer = Answer.DISK) -> None:
    def destination(engine: Engine) -> Any:
        options = WriteOptions(durable=False)
        spool = Carried(made.folder, options, engine.recorder.add, name="THERE", answer=answer, reserve=0)
        spool.carry = carry  # type: ignore[method-assign, assignment]
        return spool

    made.destination = destination


async def test_object_that_cannot_be_sent_at_all_leaves_its_study_undelivered(tmp_path: Path) -> None:
    def carry(entry: Entry) -> Entry | str:
        raise ConfigurationError("contexts", "'1.2.x' is not a UID")

    async with migrating(SPEC, tmp_path) as made:
        carrying(made, carry)
        async with made.started() as (engine, running):
            await until(lambda: engine.tried_again == 2)
            assert not running.done()
        assert {job.reason_class for job in await jobs(made)} == {"undelivered"}
        assert "'1.2.x' is not a UID" in (await jobs(made))[0].reason


@pytest.mark.parametrize("answer", list(Answer))
async def test_bug_in_what_carries_on_ends_the_run_and_is_told(tmp_path: Path, answer: Answer) -> None:
    def carry(entry: Entry) -> Entry | str:
        raise ZeroDivisionError("a bug")

    async with migrating(SPEC, tmp_path) as made:
        carrying(made, carry, answer)
        async with asyncio.timeout(60):
            with pytest.raises(ZeroDivisionError, match="a bug"):
                await made.run()


async def test_kind_that_cannot_be_proposed_does_not_keep_others_from_being_sent(tmp_path: Path) -> None:
    with storing(lambda _: status(0)) as peer:
        async with migrating(ONE, tmp_path) as made:
            made.forwarding(peer, Proof.NONE)
            forward: Any = made.destination(made.made())  # type: ignore[misc]
            good, bad = tmp_path / "in" / "good.dcm", tmp_path / "in" / "bad.dcm"
            content = next(iter(made.pacs.files.values())).path.read_bytes()
            good.write_bytes(content)
            sop_class = next(iter(made.pacs.files.values())).sop_class_uid.encode()
            bad.write_bytes(content.replace(sop_class, b"1.2.x".ljust(len(sop_class), b"x")))
            async with forward:
                sender = forward._senders[0]
                entry = Entry("", "stored", "bad.dcm", 1, "", "", "1", "1", "1.2.3", "")
                with pytest.raises(ConfigurationError):
                    await sender.carry(entry)
                assert isinstance(await sender.carry(entry.replace(path="good.dcm")), Entry)


# ---------------------------------------------------------------------- what a destination says to an object


async def test_warnings_of_the_destination_are_told(tmp_path: Path) -> None:
    answers = iter([0xB006, 0, 0xB006, 0xB000])
    lock = threading.Lock()

    def answer(_: Dataset) -> Dataset:
        with lock:
            return status(next(answers))

    with storing(answer) as peer:
        async with migrating(ONE, tmp_path) as made:
            made.forwarding(peer, Proof.NONE)
            assert await made.run() is Ended.FINISHED
            (job,) = await jobs(made)
            assert job.state == "complete"
            assert job.reason.endswith("; THERE warned: B000 x 1, B006 x 2")
            (event,) = [each for each in await made.ledger.events(made.batch.id) if each.kind == "migrate.warned"]
            assert event.study_instance_uid == job.job.study_instance_uid
            assert event.text == "THERE warned: B000 x 1, B006 x 2"


async def test_answer_for_another_object_is_none(tmp_path: Path) -> None:
    with storing(lambda _: status(0xB000, AffectedSOPInstanceUID="1.2.3.4")) as peer:
        async with migrating(ONE, tmp_path) as made:
            made.forwarding(peer, Proof.NONE)
            async with made.started() as (engine, _):
                await until(lambda: engine.tried_again)
            (job,) = await jobs(made)
            assert (job.reason_class, job.stored) == ("undelivered", 0)
            assert "THERE has answered for another object, 1.2.3.4" in job.reason


# ---------------------------------------------------------------------- the spool


def left_in(folder: Path, study: str, *names: str) -> list[Path]:
    """Files that an earlier run has left of a study."""
    (folder / study).mkdir(parents=True, exist_ok=True)
    paths = [folder / study / name for name in names]
    for path in paths:
        path.write_bytes(bytes(10))
    return paths


async def test_object_that_came_unasked_stays_in_the_spool_and_is_proved_by_another_attempt(tmp_path: Path) -> None:
    """One more is in the folder of the study when the others have been proved."""
    async with to_a_pacs(tmp_path, Proof.COMMIT, spec=ONE) as made:
        real = made.destination
        lates: list[Path] = []

        def destination(engine: Engine) -> Any:
            forward: Any = real(engine)  # type: ignore[misc]
            proved = forward._delivery

            async def proved_while_one_comes(study: str, asked: Any) -> Any:
                delivery = await proved(study, asked)
                if not lates:
                    uid, source = sorted(made.files().items())[0]
                    other = "1".join(uid.rsplit("0", 1)) if uid.endswith("0") else uid[:-1] + "9"
                    lates.append(source.with_name(f"{other}.dcm"))
                    lates[0].write_bytes(source.read_bytes().replace(uid.encode(), other.encode()))
                return delivery

            forward._delivery = proved_while_one_comes
            return forward

        made.destination = destination
        async with made.started() as (engine, running):
            await until(lambda: engine.tried_again)
            (job,) = await jobs(made)
            assert "1 more objects are in the spool, and not proved yet" in job.reason
            assert list(made.files().values()) == lates
            while not running.done():
                made.clock.put_forward(DAYS_S)
                await asyncio.sleep(0.05)
            assert await running is Ended.FINISHED
        (job,) = await jobs(made)
        assert (job.state, job.stored, job.proof) == ("complete", 5, "committed")
        assert not made.files()


async def test_what_an_earlier_run_has_left_is_carried_on_and_not_moved_again(tmp_path: Path) -> None:
    async with to_a_pacs(tmp_path, Proof.COMMIT) as made:
        study = sorted(made.pacs.studies)[0]
        (made.folder / study).mkdir(parents=True)
        uids = sorted(made.pacs.instances(study))[:2]
        for uid in uids:
            (made.folder / study / f"{uid}.dcm").write_bytes(made.pacs.files[uid].path.read_bytes())
        assert await made.run() is Ended.FINISHED
        assert await made.states() == {"complete": 2}
        assert not made.files()
        assert made.pacs.sent.keys() == made.pacs.instances() - set(uids)


async def test_spool_keeps_nothing_of_a_study_that_is_parked(tmp_path: Path) -> None:
    with storing(lambda _: status(0xA700)) as peer:
        async with migrating(ONE, tmp_path) as made:
            made.forwarding(peer, Proof.NONE)
            async with made.started() as (engine, _):
                for attempt in range(1, 6):
                    await until(lambda attempt=attempt: engine.tried_again >= attempt)  # type: ignore[misc]
                    assert made.files()
                    made.clock.put_forward(DAYS_S)
                await until(lambda: engine.parked)
                await until(lambda: not made.files())
            assert not [each for each in made.folder.iterdir() if each.is_dir()]


async def test_next_run_frees_the_spool_of_what_is_not_needed_and_names_the_rest(tmp_path: Path) -> None:
    async with to_a_pacs(tmp_path, Proof.COMMIT) as made:
        complete, parked = sorted(made.pacs.studies)
        await made.ledger.park(made.batch.id, parked, "not wanted", made.clock())
        assert await made.run() is Ended.FINISHED
        uid = sorted(made.pacs.instances(complete))[0]
        gone = [
            *left_in(made.folder, complete, f"{uid}.dcm", f"{uid}.dup1.dcm"),
            *left_in(made.folder, parked, "1.dcm"),
        ]
        kept = left_in(made.folder, "1.2.3", "4.dcm", "5.dcm") + left_in(made.folder, ".quarantine", "6.dcm")
        kept += left_in(made.folder, complete, "7.dcm")
        assert await made.run() is Ended.FINISHED
        assert not [each for each in gone if each.exists()]
        assert all(each.exists() for each in kept)
        (event,) = [each for each in await made.ledger.events(made.batch.id) if each.kind == "migrate.spool"]
        assert event.text.startswith("4 objects (40 bytes) in ")
        assert event.text.endswith(f"are kept: .quarantine, 1.2.3, {complete}")


async def test_file_that_cannot_be_removed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unlink(path: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    async with to_a_pacs(tmp_path, Proof.COMMIT) as made:
        with monkeypatch.context() as patched:
            patched.setattr(Path, "unlink", unlink)
            assert await made.run() is Ended.FINISHED
        assert await made.states() == {"complete": 2}
        assert str(made.notices).count("stays in the spool: Permission denied") == 6


@asynccontextmanager
async def being_hashed(made: Migrating, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Any, asyncio.Event]]:
    """A spool in which an earlier run has left all of a study, and that gets to its digests once the event is set."""
    through = asyncio.Event()
    gate = threading.Event()

    def held_back(fd: int) -> tuple[str, int]:
        assert gate.wait(30)
        return sha256_of(fd)

    async def let_through() -> None:
        await through.wait()
        gate.set()

    monkeypatch.setattr(storage_entries, "sha256_of", held_back)
    (study,) = made.pacs.studies
    (made.folder / study).mkdir(parents=True)
    for uid, file in made.pacs.files.items():
        (made.folder / study / f"{uid}.dcm").write_bytes(file.path.read_bytes())
    carrying(made, lambda entry: entry)
    engine = made.made()
    letting = asyncio.create_task(let_through())
    async with engine.recorder, made.destination(engine) as spool:  # type: ignore[misc]

        async def ready(_: str) -> Standing:
            return Standing(JobState.READY)

        try:
            await spool.resume(ready)
            yield spool, through
        finally:
            through.set()
            await letting


async def test_session_that_ends_while_what_is_left_is_hashed_leaves_it_to_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with migrating(ONE, tmp_path) as made, being_hashed(made, monkeypatch) as (spool, through):
        (study,) = made.pacs.studies
        for _ in range(3):
            beginning = asyncio.create_task(spool.begin(study, ()))
            await until(lambda: spool._entries._settling)
            beginning.cancel()
            with pytest.raises(asyncio.CancelledError):
                await beginning
        through.set()
        async with asyncio.timeout(30):
            assert await spool.begin(study, ())
            assert not await spool.begin(study, ())
            assert await spool.settled(study) == ""


async def test_who_stops_twice_does_not_wait_for_digests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with migrating(ONE, tmp_path) as made, being_hashed(made, monkeypatch) as (spool, _):
        (study,) = made.pacs.studies
        beginning = asyncio.create_task(spool.begin(study, ()))
        await until(lambda: spool._entries._settling)
        spool.stop()
        spool.stop()
        async with asyncio.timeout(10):
            await beginning
            assert await spool.settled(study) == "objects wait in the spool for their digests"
            await spool.discard(study)
        assert made.files().keys() == made.pacs.instances(), "they are read just now"


# ---------------------------------------------------------------------- a spool that cannot be looked through


def failing(monkeypatch: pytest.MonkeyPatch, name: str, times: int) -> list[str]:
    """The folder of the spool fails so often with an input/output error: for which folders."""
    real = getattr(spool_folder.SpoolFolder, name)
    failed: list[str] = []

    def fails(folder: Any, *arguments: Any) -> Any:
        if len(failed) < times:
            failed.append(arguments[0] if arguments else "")
            raise OSError(errno.EIO, "Input/output error")
        return real(folder, *arguments)

    monkeypatch.setattr(spool_folder.SpoolFolder, name, fails)
    return failed


async def test_spool_that_fails_as_a_study_ends_leaves_it_undelivered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = failing(monkeypatch, "objects", 1)
    async with to_a_pacs(tmp_path, Proof.NONE) as made:
        engine = made.made()
        await until_finished(made, engine)
        assert await made.states() == {"complete": 2}
        assert engine.tried_again == len(failed) == 1
        job = (await made.jobs())[failed[0]]
        reasons = [attempt.reason for attempt in await made.ledger.attempts(job.id)]
        assert any("the spool cannot be looked through for more of it: Input/output error" in each for each in reasons)
        assert not made.files()


async def test_spool_that_fails_at_the_start_is_told_and_what_is_in_it_is_moved_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with to_a_pacs(tmp_path, Proof.NONE) as made:
        left_in(made.folder, sorted(made.pacs.studies)[0], "1.2.dcm")
        failing(monkeypatch, "studies", 1)
        async with made.started():
            await told(made, "migrate.spool")
        (event,) = [each for each in await made.ledger.events(made.batch.id) if each.kind == "migrate.spool"]
        assert event.text == f"{made.folder} cannot be looked through: Input/output error"


async def test_folder_that_fails_is_told_when_a_study_begins_and_when_it_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with to_a_pacs(tmp_path, Proof.NONE) as made:
        ready, other = sorted(made.pacs.studies)
        left_in(made.folder, ready, "1.2.dcm")
        left_in(made.folder, other, "1.2.dcm")
        failing(monkeypatch, "objects", 3)

        async def standing(study: str) -> Standing:
            return Standing(JobState.READY if study == ready else JobState.PARKED)

        async with made.destination(made.made()) as forward:  # type: ignore[misc]
            assert await forward.resume(standing) == ""
            assert await forward.begin(ready, ())
            await forward.discard(ready)
        texts = [each.text for each in made.notices if isinstance(each, MigrationNoted)]
        assert texts == [f"{study} stays in the spool: Input/output error" for study in (other, ready, ready)]
