"""Many objects and many associations: nothing grows, nothing is left (R04, R07, R08, O17; goals G-E1, G-E2, G-E6).

What is measured is a real `fastmove listen`, from outside; 20 samples after a warm-up, and the line through them.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import pytest

from tests.soak.listening import PATIENCE_S, Held, Listening, listening, memory_group
from tests.soak.load import Stream, Template, uids, visit
from tests.soak.slope import SAMPLES, slope

MIB: Final = 1 << 20
ASSOCIATIONS: Final = 200
AT_ONCE: Final = 16
"""Visitors at a time."""

GROWTH: Final = 1.0 * MIB
"""The most that 100,000 objects, or 10,000 associations, may cost for good."""

UNNOTICED: Final = 0.01
"""Blocks of memory for each object or association: less than one in a hundred is no leak of one of them..."""
AT_A_MOMENT: Final = 2_000
"""... nor is what ASSOCIATIONS and some threads hold at one moment and not at another."""

WARM_UP: Final = 4
"""Portions before the first sample."""

BASE: Final = 64 * MIB
OF_EACH: Final = 0.5 * MIB
"""Of each association."""

MANY: Final = ("--limit", f"max_associations_per_host={ASSOCIATIONS}")
MEMORY: Final = Path("/dev/shm")


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Path]:
    """Where objects come and go: in memory if there is such a place, as it is not the disk that is tried here."""
    if not MEMORY.is_dir():
        yield tmp_path
        return
    with TemporaryDirectory(dir=MEMORY, prefix="soak-") as folder:
        yield Path(folder)


async def streams(
    listener: Listening, template: Template, stack: AsyncExitStack, *, keep: bool = False
) -> list[Stream]:
    """ASSOCIATIONS that are open."""
    return [await Stream.opened(listener, template, stack, keep=keep) for _ in range(ASSOCIATIONS)]


async def stored(streams: list[Stream], objects: int) -> None:
    """So many objects, over all associations at once."""
    numbered = itertools.islice(uids(), objects)
    await asyncio.gather(*(stream.store(numbered) for stream in streams))


async def visited(listener: Listening, begin: int, end: int) -> None:
    """Associations of all kinds from one number to another."""
    numbers = iter(range(begin, end))

    async def run() -> None:
        for number in numbers:
            await visit(listener, number)

    await asyncio.gather(*(run() for _ in range(AT_ONCE)))


async def grows_not(
    listener: Listening, work: Callable[[int], Awaitable[None]], number: int, unit: int, descriptors: int
) -> None:
    """Do so much in SAMPLES portions, after a warm-up: what is held stays as it is, and memory has no slope."""
    portion = number // SAMPLES
    for _ in range(WARM_UP):
        await work(portion)
    await listener.at_rest(descriptors)
    await listener.cyclic()
    settled = await listener.held()
    samples: list[tuple[float, Held]] = []
    for done in range(portion, number + 1, portion):
        await work(portion)
        samples.append((done / unit, await listener.at_rest(descriptors)))
    cyclic = await listener.cyclic()
    last = await listener.at_rest(settled.descriptors)  # the last to go may have been here a moment ago
    memory = slope([(done, float(held.rss)) for done, held in samples])
    print(f"{memory.per_unit / MIB:+.3f} ± {memory.error / MIB:.3f} MiB per {unit:,}, {listener.cpu_s:.1f} s of CPU")
    assert memory.at_least < GROWTH, (memory, samples)
    assert (last.descriptors, last.threads, last.tasks) == (settled.descriptors, settled.threads, settled.tasks)
    assert cyclic <= number * UNNOTICED
    assert last.blocks - settled.blocks <= number * UNNOTICED + AT_A_MOMENT
    assert not listener.left()


async def objects_do_not_accumulate(scratch: Path, objects: int, nbytes: int, *options: str) -> None:
    """Over ASSOCIATIONS that stay open."""
    template = Template(nbytes)
    async with listening(scratch / "stored", *MANY, *options) as listener, AsyncExitStack() as stack:
        opened = await streams(listener, template, stack)
        descriptors = (await listener.held()).descriptors
        await grows_not(listener, lambda portion: stored(opened, portion), objects, 100_000, descriptors)


async def listed_objects_do_not_accumulate(scratch: Path, objects: int, nbytes: int, *options: str) -> None:
    """The same with a manifest; objects are there until it has them, as it reads them."""
    manifest = scratch / "manifest.jsonl"
    options += ("--manifest", str(manifest))
    async with listening(scratch / "stored", *MANY, *options) as listener, AsyncExitStack() as stack:
        opened = await streams(listener, Template(nbytes), stack, keep=True)
        descriptors = (await listener.held()).descriptors
        with manifest.open("rb") as lines:

            async def work(portion: int) -> None:
                await stored(opened, portion)
                listed = 0
                async with asyncio.timeout(PATIENCE_S):
                    while (listed := listed + lines.read().count(b"\n")) < portion:
                        await asyncio.sleep(0.01)
                assert listed == portion
                for path in listener.left():
                    (listener.directory / path).unlink()

            await grows_not(listener, work, objects, 100_000, descriptors)


async def associations_do_not_accumulate(scratch: Path, associations: int) -> None:
    """Of all kinds, each at another byte."""
    done = 0
    async with listening(scratch / "stored") as listener:

        async def work(portion: int) -> None:
            nonlocal done
            await visited(listener, done, done + portion)
            done += portion

        descriptors = (await listener.held()).descriptors
        await grows_not(listener, work, associations, 10_000, descriptors)


async def test_GE2_fifty_thousand_objects_over_two_hundred_associations_leave_nothing(scratch: Path) -> None:
    await objects_do_not_accumulate(scratch, 50_000, 8_000)


async def test_GE2_R07_R08_associations_that_end_in_every_way_leave_nothing(scratch: Path) -> None:
    await associations_do_not_accumulate(scratch, 3_000)


async def sixteen_megabytes_each(directory: Path, within: Sequence[str] = ()) -> None:
    """Of ASSOCIATIONS at once; the memory that it takes."""
    template = Template(16_000_000)
    async with (
        listening(directory / "stored", *MANY, "--no-durable", within=within) as listener,
        AsyncExitStack() as stack,
    ):
        opened = await streams(listener, template, stack)
        await stored(opened, ASSOCIATIONS)
        most = listener.most_rss
        print(f"{most / MIB:.1f} MiB, {listener.cpu_s:.1f} s of CPU")
        assert most <= BASE + OF_EACH * ASSOCIATIONS


async def test_GE1_two_hundred_streams_of_16_megabytes_take_half_a_mebibyte_each(tmp_path: Path) -> None:
    await sixteen_megabytes_each(tmp_path)


@pytest.mark.nightly
@pytest.mark.lane("cgroup")
async def test_R04_two_hundred_streams_are_received_where_there_are_192_mebibytes(tmp_path: Path) -> None:
    with memory_group(192 * MIB) as within:
        await sixteen_megabytes_each(tmp_path, within)


@pytest.mark.nightly
@pytest.mark.timeout(3600)
async def test_O17_GE2_a_million_objects_leave_nothing(scratch: Path) -> None:
    await objects_do_not_accumulate(scratch, 1_000_000, 300)


@pytest.mark.nightly
@pytest.mark.timeout(3600)
async def test_GE2_objects_that_are_logged_and_listed_leave_nothing_in_memory(scratch: Path) -> None:
    await listed_objects_do_not_accumulate(
        scratch, 200_000, 300, "--log-file", str(scratch / "log"), "--log-level", "info"
    )


@pytest.mark.nightly
@pytest.mark.timeout(3600)
async def test_GE6_a_hundred_gigabytes_leave_nothing(scratch: Path) -> None:
    await objects_do_not_accumulate(scratch, 200_000, 512 << 10, "--no-durable")


@pytest.mark.nightly
@pytest.mark.timeout(3600)
async def test_GE2_R07_forty_thousand_associations_leave_nothing(scratch: Path) -> None:
    await associations_do_not_accumulate(scratch, 40_000)
