"""Two hosts and what happens between them: loss, silence, resets, a firewall, another host (catalogue T03, T10 to T15).

Both are network namespaces of this machine: what TCP does is what the kernel does.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import pytest

from fastmove.limits import Limits
from fastmove.notices import AssociationOpened, Notice, as_dict
from fastmove.services.listener import listen
from fastmove.storage.options import WriteOptions
from fastmove.storage.target import StorageTarget
from fastmove.types import PeerAddress
from fastmove.ul.negotiation import AcceptPolicy
from tests.integration import raw
from tests.integration.honesty import AE_TITLE, Retrieved, retrieve_here
from tests.integration.listener import LOST, Listener, half_object
from tests.integration.network import ELSEWHERE, HERE, THERE, Host, Network, Wire, network
from tests.integration.objects import write_objects
from tests.integration.programs import Program, fastmove
from tests.integration.scripted import ScriptedRequestor

pytestmark = pytest.mark.lane("netns")

PACS_PORT: Final = 11112
OUR_PORT: Final = 11113
DOWN_S: Final = 5.0

LIMITS: Final = Limits(
    connect_s=5.0,
    associate_s=5.0,
    artim_s=1.0,
    release_s=2.0,
    message_s=2.0,
    response_s=3.0,
    progress_s=4.0,
    drain_s=1.0,
    uncounted_s=0.5,
    retry_s=0.05,
    away_s=10.0,
    stop_s=1.0,
)
PATIENT: Final = LIMITS.replace(message_s=20.0, response_s=20.0, progress_s=20.0, drain_s=10.0)
"""Longer than any pause that the network makes."""


class Archive:
    """`fastmove pacs` on the host there, over a folder that this test has written."""

    def __init__(self, program: Program, studies: dict[str, dict[str, bytes]]) -> None:
        self.program = program
        self.studies = studies
        self.sent = Counter[str]()
        """Nobody here knows."""

    @property
    def address(self) -> PeerAddress:
        return PeerAddress("FASTPACS", THERE, PACS_PORT)

    def instances(self, *studies: str) -> frozenset[str]:
        return frozenset(uid for each in studies or self.studies for uid in self.studies[each])

    def dataset(self, uid: str, /) -> bytes:
        return next(held[uid] for held in self.studies.values() if uid in held)

    def going_to(self, ae_title: str, port: int) -> None:
        assert (ae_title, port) == (AE_TITLE, OUR_PORT)


@asynccontextmanager
async def archive(
    there: Host, folder: Path, *faults: str, studies: int = 1, objects: int = 10, pixel_bytes: int = 4_000
) -> AsyncIterator[Archive]:
    """A PACS with so many objects in each of so many studies."""
    folder.mkdir()
    held: dict[str, dict[str, bytes]] = {}
    for number in range(studies):
        study = f"1.2.{number + 3}"
        paths = write_objects(folder / study, objects, study=study, pixel_bytes=pixel_bytes)
        held[study] = {path.name.removesuffix(".17.dcm"): raw.part10_dataset(path.read_bytes()) for path in paths}
    options = [word for fault in faults for word in ("--fault", fault)]
    to = ("--move-destination", f"{AE_TITLE}@{HERE}:{OUR_PORT}")
    program = there.program("pacs", "--folder", folder, "--host", THERE, "--port", str(PACS_PORT), *to, *options)
    async with program:
        await program.event("pacs.ready")
        yield Archive(program, held)


async def retrieved(
    pacs: Archive,
    directory: Path,
    *,
    limits: Limits = LIMITS,
    tell: Callable[[Notice], None] | None = None,
    **config: Any,
) -> Retrieved:
    """A retrieve of all of it, to the host here; what it says is true."""
    came = await retrieve_here(pacs, directory, host=HERE, port=OUR_PORT, limits=limits, tell=tell, **config)
    came.is_true(pacs, tuple(pacs.studies), answers_lost=True)
    return came


class Arrivals:
    """Waits until so many objects have come."""

    def __init__(self) -> None:
        self.storing: list[int] = []
        """Ports of the associations that the PACS has opened."""
        self._count = 0
        self._news = asyncio.Event()

    def __call__(self, notice: Notice) -> None:
        if notice.event == "store.stored":
            self._count += 1
            self._news.set()
        elif isinstance(notice, AssociationOpened):
            self.storing.append(notice.port)
            self._news.set()

    async def come(self, number: int) -> None:
        await self._until(lambda: self._count >= number)

    async def connect(self, number: int) -> None:
        """The same for associations."""
        await self._until(lambda: len(self.storing) >= number)

    async def _until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(10.0):
            while not holds():
                self._news.clear()
                await self._news.wait()


async def answers(host: str, port: int) -> None:
    """Wait until a host can be connected to."""
    async with asyncio.timeout(10.0):
        while True:
            with suppress(OSError):
                _, writer = await asyncio.open_connection(host, port)
                writer.close()
                return
            await asyncio.sleep(0.02)


@pytest.fixture
def net() -> Iterator[Network]:
    """Two hosts; what this test does is done here."""
    with network() as net, net.here.entered():
        yield net


# ---------------------------------------------------------------------- what TCP makes good


async def test_T10_loss_and_a_narrow_line_cost_time_and_nothing_else(net: Network, tmp_path: Path) -> None:
    for host in net:
        host.bandwidth("50mbit")
        host.firewall("numgen random mod 100 < 3 drop")
    async with archive(net.there, tmp_path / "pacs", objects=20, pixel_bytes=256_000) as pacs:
        came = await retrieved(pacs, tmp_path / "stored", limits=PATIENT, rounds=0)
    assert (came.code, came.finished["verdict"]) == (0, "COMPLETE")


@pytest.mark.lane("tun")
async def test_T11_packets_that_are_late_overtake_and_come_twice_cost_time_and_nothing_else(tmp_path: Path) -> None:
    wire = Wire(latency_s=0.09, jitter_s=0.02, duplicates=0.01, seed=1)
    with wire.between() as net, net.here.entered():
        async with archive(net.there, tmp_path / "pacs", objects=5, pixel_bytes=50_000) as pacs:
            came = await retrieved(pacs, tmp_path / "stored", limits=PATIENT, rounds=0)
    assert (came.code, came.finished["verdict"]) == (0, "COMPLETE")
    assert wire.overtaken > 10


async def test_T12_cable_that_is_out_for_five_seconds_costs_nothing_else(net: Network, tmp_path: Path) -> None:
    arrivals = Arrivals()
    async with archive(net.there, tmp_path / "pacs", "delay=0.02", objects=20) as pacs:
        running = asyncio.create_task(
            retrieved(pacs, tmp_path / "stored", limits=PATIENT, tell=arrivals, rounds=0, parallel=1)
        )
        await arrivals.come(3)
        net.there.link("down")
        await asyncio.sleep(DOWN_S)
        assert not running.done()
        net.there.link("up")
        came = await running
    assert (came.code, came.finished["verdict"]) == (0, "COMPLETE")
    assert len(arrivals.storing) == 1, "the same association went on"


# ---------------------------------------------------------------------- what it does not


async def test_T03_silent_peer_in_the_middle_of_an_object_is_given_up(net: Network, tmp_path: Path) -> None:
    under_test = Listener(tmp_path / "stored")
    limits = LIMITS.replace(message_s=0.5, artim_s=0.5)
    with StorageTarget(under_test.directory, WriteOptions(durable=False)) as target, net.there.entered():
        peer = ScriptedRequestor(HERE, OUR_PORT)
        with net.here.entered():

            def notify(notice: Notice) -> None:
                under_test.record(as_dict(notice))

            async with listen(HERE, OUR_PORT, target, AcceptPolicy(under_test.ae_title), limits, notify), peer:
                await peer.associate()
                await peer.send(half_object())
                net.there.link("down")
                await under_test.event("conn.stalled")
                async with asyncio.timeout(limits.artim_s + 1.0):
                    while not under_test.seen("assoc.closed"):
                        await asyncio.sleep(0.01)
    assert not list(under_test.directory.iterdir()), f"of {LOST}"


async def test_T13_host_that_has_vanished_is_noticed_and_what_came_of_it_is_kept(net: Network, tmp_path: Path) -> None:
    vanished = {"user_timeout_s": 1.5, "keepalive_s": 1, "keepalive_interval_s": 1, "keepalive_probes": 1}
    limits = PATIENT.replace(drain_s=0.5, **vanished)
    loop = asyncio.get_running_loop()
    async with archive(net.there, tmp_path / "pacs", "delay=0.02", objects=15) as pacs:
        arrivals = Arrivals()
        running = asyncio.create_task(
            retrieved(pacs, tmp_path / "stored", limits=limits, tell=arrivals, rounds=0, parallel=1)
        )
        await arrivals.come(3)
        net.there.link("down")
        down_at = loop.time()
        came = await running
        assert loop.time() - down_at < 8.0, "not by a timer of ours, nor in two hours"
        (said,) = came.verdicts.values()
        assert (came.code, said["verdict"], said["reasons"][0]) == (72, "UNKNOWN", "move.association_lost")
        assert 3 <= len(came.files) < 15
        net.there.link("up")
        await answers(THERE, PACS_PORT)  # the kernel remembers for a while that nobody was there
        again = await retrieved(pacs, tmp_path / "stored", limits=limits, inventory=frozenset(came.files))
    assert (again.code, again.finished["verdict"]) == (0, "COMPLETE")


@pytest.mark.parametrize("how", ["ss -K", "reset by a firewall"])
async def test_T14_reset_of_the_move_association_is_unknown_and_made_good_by_asking_again(
    net: Network, tmp_path: Path, how: str
) -> None:
    async with archive(net.there, tmp_path / "pacs", "delay=0.02", objects=15) as pacs:
        for rounds, code, verdict in ((0, 72, "UNKNOWN"), (5, 0, "COMPLETE")):
            arrivals = Arrivals()
            directory = tmp_path / verdict
            running = asyncio.create_task(retrieved(pacs, directory, tell=arrivals, rounds=rounds, parallel=1))
            await arrivals.come(3)
            if how == "ss -K":
                assert net.here.kill_connections("dport", "=", f":{PACS_PORT}") == 1
            else:
                net.there.firewall(f"tcp dport {PACS_PORT} reject with tcp reset")
                await arrivals.come(5)  # whatever we acknowledge of the responses is answered by RST
                net.there.firewall()
            came = await running
            assert (came.code, came.finished["verdict"]) == (code, verdict), came.verdicts
            if not rounds:
                assert [said["reasons"][0] for said in came.verdicts.values()] == ["move.association_lost"]


async def test_T15_reset_of_one_of_eight_storage_associations_is_made_good(net: Network, tmp_path: Path) -> None:
    arrivals = Arrivals()
    async with archive(net.there, tmp_path / "pacs", "delay=0.03", studies=8, objects=6) as pacs:
        running = asyncio.create_task(retrieved(pacs, tmp_path / "stored", tell=arrivals, parallel=8))
        await arrivals.connect(8)
        assert net.here.kill_connections("dport", "=", f":{arrivals.storing[7]}") == 1
        came = await running
    assert (came.code, came.finished["verdict"]) == (0, "COMPLETE")


# ---------------------------------------------------------------------- who may, and who cannot


async def test_M26_objects_from_another_host_are_turned_away_unless_it_is_allowed(net: Network, tmp_path: Path) -> None:
    net.there.sends_to_port_from(OUR_PORT, ELSEWHERE)
    async with archive(net.there, tmp_path / "pacs") as pacs:
        refused = await retrieved(pacs, tmp_path / "refused")
        assert (refused.code, refused.finished["verdict"], refused.files) == (75, "POLICY", {})
        allowed = await retrieved(pacs, tmp_path / "allowed", accept_hosts=(ELSEWHERE,))
        assert (allowed.code, allowed.finished["verdict"]) == (0, "COMPLETE")


async def test_T26_firewall_before_us_is_what_the_hint_is_about(net: Network, tmp_path: Path) -> None:
    net.here.firewall(f"tcp dport {OUR_PORT} reject")
    async with archive(net.there, tmp_path / "pacs") as pacs:
        to = ("--aet", AE_TITLE, "--host", HERE, "--port", str(OUR_PORT), "--to", tmp_path / "stored")
        wanted = ("--study", *pacs.studies, "--rounds", "0")
        ended = await fastmove("retrieve", str(pacs.address), *to, *wanted, within=net.here.within)
    assert ended.code == 69
    assert "nothing came at all: the PACS may not reach this host and port 11113 (firewall" in ended.err
