"""Migrations to an object store: everything is uploaded, verified by another client, and leaves the spool."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from fastmove.bench.spec import Spec
from fastmove.errors import ConfigurationError
from fastmove.migrate.engine import Ended, Engine
from fastmove.migrate.object_store import ObjectStore
from fastmove.migrate.spool import Answer
from fastmove.migrate.uploads import Verify
from fastmove.notices import InstanceRefused, MigrationNoted
from fastmove.storage.filemeta import FileMeta
from fastmove.storage.options import OnDuplicate, WriteOptions
from fastmove.storage.template import naming
from tests.conftest import open_descriptors
from tests.integration import raw
from tests.migrate.migrating import Migrating, migrating, until_finished
from tests.migrate.stores import PREFIX, SECRET_KEY, Conditions, Store, environment

SPEC: Final = Spec(studies=4, series=2, instances=4, size=5_000)
PAIR: Final = Spec(studies=1, series=1, instances=2, size=3_000)
BIG: Final = Spec(studies=1, series=1, instances=2, size=12_000_000)
PART_BYTES: Final = 5 << 20


@pytest.fixture
def store(port: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Store]:
    environment(monkeypatch, tmp_path)
    before = open_descriptors()
    made = Store(port)
    try:
        yield made
    finally:
        made.close()
        until = time.monotonic() + 10
        while open_descriptors() - before and time.monotonic() < until:
            time.sleep(0.01)  # obstore ends connections in a thread of its own, when it sees fit


def storing(made: Migrating, store: Store, on_duplicate: OnDuplicate = OnDuplicate.KEEP_BOTH, **options: Any) -> None:
    """From now on everything goes to this store."""

    def destination(engine: Engine) -> ObjectStore:
        return ObjectStore(
            store.bucket,
            store.access,
            made.folder,
            WriteOptions(durable=False, on_duplicate=on_duplicate, naming=naming(made.layout)),
            engine.recorder.add,
            reserve=0,
            notify=made.notices.append,
            **{"part_bytes": PART_BYTES, "patience_s": 0.5} | options,
        )

    made.destination = destination


@asynccontextmanager
async def moving(tmp_path: Path, store: Store, spec: Spec = SPEC, *faults: str) -> AsyncIterator[Migrating]:
    async with migrating(spec, tmp_path, *faults) as made:
        storing(made, store)
        yield made


async def arrived(made: Migrating, store: Store, *besides: str) -> None:
    """What another client finds is what the PACS has and what the ledger says; nothing else is there."""
    assert await made.states() == {"complete": len(made.pacs.studies)}
    held = await asyncio.to_thread(store.objects)
    instances = await made.instances()
    assert instances.keys() == made.pacs.instances()
    assert held.keys() - set(besides) == {each.place for each in instances.values()}
    for uid, instance in instances.items():
        found = held[instance.place]
        assert found.sha256 == instance.digest.hex() == hashlib.sha256(found.content).hexdigest()
        assert found.nbytes == instance.nbytes
        assert raw.part10_dataset(found.content) == made.pacs.dataset(uid)
    assert not made.files()
    assert [path for path in made.folder.iterdir() if path.is_dir()] == []
    assert store.unfinished() == 0


async def test_store_has_all_of_it_with_digests_and_manifests(tmp_path: Path, store: Store) -> None:
    async with moving(tmp_path, store) as made:
        assert await made.run() is Ended.FINISHED
        await arrived(made, store)
        for key, held in store.objects().items():
            assert held.content_type == "application/dicom"
            assert held.metadata == {"sha256": held.sha256}
            assert len(key.split("/")) == 3
        for study in made.pacs.studies:
            lines = [json.loads(line) for line in store.held(f"{study}/manifest.jsonl").content.splitlines()]
            objects = {f"{study}/{line['path']}": line["sha256"] for line in lines}
            assert objects == {key: each.sha256 for key, each in store.objects().items() if key.startswith(study)}
        assert store.keys() == sorted([*store.objects(), *(f"{study}/manifest.jsonl" for study in made.pacs.studies)])


@pytest.mark.parametrize("layout", ["flat", "{date}/{study}/{modality}-{number}-{source}/{sop}.dcm"])
async def test_keys_are_made_by_the_layout(tmp_path: Path, layout: str, store: Store) -> None:
    async with moving(tmp_path, store, Spec(studies=2, series=1, instances=2, size=3_000)) as made:
        assert await made.run(layout=layout) is Ended.FINISHED
        await arrived(made, store)
        depth = {len(key.split("/")) for key in store.objects()}
        assert depth == {layout.count("/") + 1}
        everything = store.keys()
        if layout == "flat":
            manifests = {f"manifests/{study}.jsonl" for study in made.pacs.studies}
        else:
            manifests = {key for key in everything if key.endswith("/manifest.jsonl")}
            assert [key for key in store.objects() if not re.search(r"/CT-\d-FASTPACS/", key)] == []
        assert len(manifests) == 2
        assert manifests <= set(everything)


async def test_study_below_several_prefixes_has_a_manifest_in_each(tmp_path: Path, store: Store) -> None:
    async with moving(tmp_path, store) as made:
        assert await made.run(layout="{SeriesNumber}/{StudyInstanceUID}/{SOPInstanceUID}.dcm") is Ended.FINISHED
        await arrived(made, store)
        held, everything = store.objects(), store.keys()
        manifests = {key for key in everything if key.endswith("/manifest.jsonl")}
        assert manifests == {f"{number}/{study}/manifest.jsonl" for number in "12" for study in made.pacs.studies}
        listed = {
            f"{key.rpartition('/')[0]}/{line['path']}": line["sha256"]
            for key in manifests
            for line in map(json.loads, store.held(key).content.splitlines())
        }
        assert listed == {key: each.sha256 for key, each in held.items()}


@pytest.mark.parametrize("verify", list(Verify))
async def test_large_objects_go_up_in_parts(tmp_path: Path, verify: Verify, store: Store) -> None:
    async with moving(tmp_path, store, BIG) as made:
        storing(made, store, verify=verify)
        assert await made.run() is Ended.FINISHED
        await arrived(made, store)
        assert store.way.seen["POST"] == 2 * 2  # begun and completed
        assert store.way.seen["PUT"] == 2 * 3 + 3  # parts; the manifest, and what a start tries
        assert store.way.seen["GET"] == (3 if verify is Verify.READ else 1)


async def test_what_is_there_already_is_not_uploaded_again(tmp_path: Path, store: Store) -> None:
    async with moving(tmp_path, store) as made:
        files = {uid: made.pacs.files[uid] for uid in sorted(made.pacs.instances())}
        assert await made.run() is Ended.FINISHED
        first = store.way.seen["PUT"]
    (tmp_path / "again").mkdir()
    async with moving(tmp_path / "again", store) as again:
        assert again.pacs.files.keys() == files.keys()
        assert await again.run() is Ended.FINISHED
        await arrived(again, store)
    assert first == 32 + 4 + 2
    assert store.way.seen["PUT"] - first == 4 + 2


def part10(uid: str, dataset: bytes = bytes.fromhex("08006000 43530200 4354")) -> bytes:
    """An object with this SOP Instance UID."""
    return FileMeta("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1").head(uid.encode("ascii")) + dataset


def first_of(made: Migrating) -> tuple[str, str]:
    """An object of the only study: its SOP Instance UID, and its key without `.dcm`."""
    (study,) = made.pacs.studies
    ((series, uids),) = made.pacs.studies[study].items()
    uid = sorted(uids)[0]
    return uid, f"{study}/{series}/{uid}"


async def undelivered(made: Migrating) -> str:
    """A run, until its only study is to be tried again: why that is."""
    async with made.started() as (engine, _), asyncio.timeout(30):
        while not engine.tried_again:
            await asyncio.sleep(0.02)
    (job,) = (await made.jobs()).values()
    assert job.reason_class == "undelivered"
    return job.reason


@pytest.mark.parametrize("on_duplicate", list(OnDuplicate))
async def test_another_object_with_its_key_is_met_by_the_policy(
    tmp_path: Path, on_duplicate: OnDuplicate, store: Store
) -> None:
    async with moving(tmp_path, store, PAIR) as made:
        storing(made, store, on_duplicate)
        uid, key = first_of(made)
        other = part10(uid)
        store.put(f"{key}.dcm", other)
        if on_duplicate is OnDuplicate.FAIL:
            assert "another object has its key" in await undelivered(made)
            assert store.held(f"{key}.dcm").content == other
            assert made.files().keys() == made.pacs.instances()
            return
        assert await made.run() is Ended.FINISHED
        instance = (await made.instances())[uid]
        if on_duplicate is OnDuplicate.KEEP_BOTH:
            assert store.held(f"{key}.dcm").content == other
            assert instance.place == f"{key}.dup1.dcm"
            await arrived(made, store, f"{key}.dcm")
        elif on_duplicate is OnDuplicate.REPLACE:
            await arrived(made, store)
        else:
            assert store.held(f"{key}.dcm").content == other
            assert (instance.digest, instance.nbytes) == (hashlib.sha256(other).digest(), len(other))


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (b"no object", "what has its key is no DICOM object"),
        (part10("1.2.3.4"), "an object of another SOP Instance UID has its key"),
        (part10("1.2.3.4")[:200], "what has its key is no DICOM object"),
    ],
    ids=["no object", "another one", "a part of one"],
)
async def test_what_is_no_version_of_an_object_is_not_taken_for_it(
    tmp_path: Path, other: bytes, why: str, store: Store
) -> None:
    async with moving(tmp_path, store, PAIR) as made:
        storing(made, store, OnDuplicate.SKIP)
        uid, key = first_of(made)
        store.put(f"{key}.dcm", other)
        assert why in await undelivered(made)
        assert uid not in await made.instances()
        assert store.held(f"{key}.dcm").content == other


@pytest.mark.parametrize("spec", [PAIR, BIG], ids=["whole", "in parts"])
async def test_object_that_another_host_writes_meanwhile_is_not_overwritten(
    tmp_path: Path, spec: Spec, store: Store
) -> None:
    async with moving(tmp_path, store, spec) as made:
        uid, key = first_of(made)
        other = part10(uid)
        came: list[str] = []

        def alter(method: str, path: str, body: bytes) -> bytes:
            if method == "PUT" and f"{key}.dcm" in path and not came:
                came.append(path)
                store.put(f"{key}.dcm", other)
            return body

        store.way.alter = alter
        assert await made.run() is Ended.FINISHED
        assert came
        assert store.held(f"{key}.dcm").content == other
        assert (await made.instances())[uid].place == f"{key}.dup1.dcm"
        await arrived(made, store, f"{key}.dcm")


@pytest.mark.parametrize("on_duplicate", [OnDuplicate.KEEP_BOTH, OnDuplicate.REPLACE])
async def test_what_another_host_has_put_in_its_place_since_is_not_removed(
    tmp_path: Path, on_duplicate: OnDuplicate, store: Store
) -> None:
    async with moving(tmp_path, store, PAIR) as made:
        storing(made, store, on_duplicate)
        uid, key = first_of(made)
        other = part10(uid)
        methods: list[str] = []

        def alter(method: str, path: str, body: bytes) -> bytes:
            if f"{key}.dcm" in path:
                methods.append(method)
                if methods == ["HEAD", "PUT", "HEAD"]:
                    store.put(f"{key}.dcm", other)
            return body

        store.way.alter = alter
        assert "what the store has is not what was sent" in await undelivered(made)
        assert store.held(f"{key}.dcm").content == other
        assert "DELETE" not in methods


@pytest.mark.parametrize("conditions", list(Conditions))
async def test_store_that_does_not_heed_conditions_is_told_and_stored_into(
    tmp_path: Path, conditions: Conditions, store: Store
) -> None:
    store.way.conditions = conditions
    async with moving(tmp_path, store, PAIR) as made:
        uid, key = first_of(made)
        other = part10(uid)
        store.put(f"{key}.dcm", other)
        assert await made.run() is Ended.FINISHED
        assert store.held(f"{key}.dcm").content == other
        await arrived(made, store, f"{key}.dcm")
        told = [each for each in made.notices if isinstance(each, MigrationNoted) and each.event == "s3.unconditional"]
        assert len(told) == (conditions is not Conditions.HEEDED)


async def test_study_is_not_complete_where_the_store_lacks_what_is_recorded_of_it(tmp_path: Path, store: Store) -> None:
    async with moving(tmp_path, store, Spec(studies=1, series=1, instances=6, size=3_000), "fail=2") as made:
        async with made.started() as (engine, _), asyncio.timeout(30):
            while not engine.tried_again:
                await asyncio.sleep(0.02)
        recorded = sorted(each.place for each in (await made.instances()).values())
        assert len(recorded) == 4
        store.client.delete_object(Bucket=store.name, Key=f"{PREFIX}/{recorded[0]}")
        store.put(recorded[1], b"cut")
        storing(made, store, OnDuplicate.REPLACE)
        made.pacs.misbehave()
        made.clock.put_forward(600)
        await until_finished(made)
        await arrived(made, store)
        (job,) = (await made.jobs()).values()
        reasons = [attempt.reason for attempt in await made.ledger.attempts(job.id)]
        assert any("2 objects are not where they were stored" in reason for reason in reasons)


@pytest.mark.parametrize("spec", [SPEC, BIG], ids=["whole", "in parts"])
async def test_object_that_arrives_changed_is_noticed_and_sent_again(tmp_path: Path, spec: Spec, store: Store) -> None:
    changed: list[str] = []

    def alter(method: str, path: str, body: bytes) -> bytes:
        if method == "PUT" and not changed and len(body) > 1000:
            changed.append(path)
            return body[:-1] + bytes([body[-1] ^ 1])
        return body

    async with moving(tmp_path, store, spec) as made:
        store.way.alter = alter
        engine = made.made()
        await until_finished(made, engine)
        await arrived(made, store)
        assert engine.tried_again == 1
        assert changed


async def test_object_whose_digest_the_store_does_not_give_is_read_back(tmp_path: Path, store: Store) -> None:
    """As with a key of a key service: the ETag is no MD5.  Here it is that of other parts."""
    async with moving(tmp_path, store, BIG) as made:
        assert await made.run() is Ended.FINISHED
    (tmp_path / "again").mkdir()
    async with moving(tmp_path / "again", store, BIG) as again:
        storing(again, store, part_bytes=PART_BYTES + 1)
        read = store.way.seen["GET"]
        assert await again.run() is Ended.FINISHED
        await arrived(again, store)
    assert store.way.seen["GET"] - read == 2 + 1


async def test_store_that_goes_away_and_comes_back_has_all_of_it_in_the_end(tmp_path: Path, store: Store) -> None:
    spec = Spec(studies=8, series=1, instances=10, size=3_000)
    async with moving(tmp_path, store, spec, "delay=0.2") as made:
        engine = made.made()
        running = asyncio.create_task(until_finished(made, engine))
        async with asyncio.timeout(100):
            while len(await asyncio.to_thread(store.objects)) < 10:
                await asyncio.sleep(0.02)
            await asyncio.to_thread(store.way.cut)
            while "migrate.destination_away" not in await made.events():
                await asyncio.sleep(0.05)
            assert not running.done()
            store.way.open()
            await running
        assert "the store: it cannot be reached" in str(made.notices)
        await arrived(made, store)


async def test_store_that_asks_for_fewer_requests_is_asked_again(tmp_path: Path, store: Store) -> None:
    refused: Counter[str] = Counter()

    def alter(method: str, path: str, body: bytes) -> bytes | int:
        if method == "PUT" and refused[path] < 2:
            refused[path] += 1
            return 503
        return body

    async with moving(tmp_path, store) as made:
        storing(made, store, patience_s=10.0)
        store.way.alter = alter
        engine = made.made()
        assert await made.running(engine) is Ended.FINISHED
        assert engine.tried_again == 0
        await arrived(made, store)
        assert set(refused.values()) == {2}


async def test_object_that_may_not_be_written_leaves_its_study_undelivered(tmp_path: Path, store: Store) -> None:
    async with moving(tmp_path, store) as made:
        refused = sorted(made.pacs.studies)[0]

        def alter(method: str, path: str, body: bytes) -> bytes | int:
            return 403 if method == "PUT" and refused in path else body

        store.way.alter = alter
        async with made.started() as (engine, _), asyncio.timeout(30):
            while engine.complete < 3 or not engine.tried_again:
                await asyncio.sleep(0.02)
        job = (await made.jobs())[refused]
        assert job.reason_class == "undelivered"
        assert "8 objects were not taken" in job.reason
        assert "access is denied (403" in job.reason
        assert made.files().keys() == made.pacs.instances(refused)


@pytest.mark.parametrize(("status", "why"), [(404, "no such bucket"), (403, "access is denied")])
async def test_store_that_is_not_as_it_has_to_be_is_told_before_anything_is_moved(
    tmp_path: Path, status: int, why: str, store: Store
) -> None:
    async with moving(tmp_path, store) as made:
        if status == 404:
            store.client.delete_bucket(Bucket=store.name)
        else:
            store.way.alter = lambda method, path, body: 403 if method == "PUT" else body
        with pytest.raises(ConfigurationError, match=f"^--to: {store.url}: .*{why}") as caught:
            await made.run()
        assert SECRET_KEY not in str(caught.value)
        assert not made.pacs.moves
        assert await made.states() == {"ready": 4}


async def test_store_that_is_away_at_the_start_is_waited_for_and_then_tried(tmp_path: Path, store: Store) -> None:
    store.way.conditions = Conditions.REFUSED
    await asyncio.to_thread(store.way.cut)
    async with moving(tmp_path, store) as made:
        engine = made.made()
        running = asyncio.create_task(made.running(engine))
        async with asyncio.timeout(60):
            while "migrate.destination_away" not in await made.events():
                assert not running.done()
                await asyncio.sleep(0.02)
            assert not made.pacs.moves
            assert "the store: it cannot be reached" in str(made.notices)
            assert "s3.unconditional" not in str(made.notices)
            store.way.open()
            while not running.done():
                engine._wake.set()
                await asyncio.sleep(0.05)
        assert await running is Ended.FINISHED
        await arrived(made, store)
        told = [each for each in made.notices if isinstance(each, MigrationNoted) and each.event == "s3.unconditional"]
        assert len(told) == 1


async def test_library_that_is_not_there_is_told_with_how_to_get_it(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    async with moving(tmp_path, store) as made:
        with pytest.raises(ConfigurationError, match=r"pip install 'fastmove\[s3\]'"):
            await made.run()


async def test_answer_waits_for_the_destination_if_that_is_wished(tmp_path: Path, store: Store) -> None:
    """The PACS has Success only for what is there, and a failure for what is not; that comes once more."""
    async with moving(tmp_path, store) as made:
        storing(made, store, answer=Answer.DESTINATION)
        refused = sorted(made.pacs.instances())[5]
        too_soon: list[str] = []
        held: set[str] = set()

        def alter(method: str, path: str, body: bytes) -> bytes | int:
            uid = path.rpartition("/")[2].removesuffix(".dcm")
            if method == "PUT" and uid == refused and not made.pacs.sent[refused] and not held & {refused}:
                held.add(uid)
                return 403
            if method == "PUT" and made.pacs.sent[uid]:
                too_soon.append(uid)
            return body

        store.way.alter = alter
        engine = made.made()
        await until_finished(made, engine)
        await arrived(made, store)
        assert engine.tried_again == 1
        assert not too_soon
        assert sum(each.failed or 0 for each in made.pacs.moves) == 1
        told = [each for each in made.notices if isinstance(each, InstanceRefused)]
        assert [(each.sop_instance_uid, each.status, each.event) for each in told] == [
            (refused, 0xA700, "store.undelivered")
        ]
