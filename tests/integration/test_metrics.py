"""`--metrics`: what a listener and a benchmark tell Prometheus, and that the dashboard asks for what there is."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any, Final

import pytest

from fastmove.cli.metrics import LOCAL, Address, MetricsAddress
from fastmove.errors import ListenFailed
from fastmove.notices import AssociationClosed, HostStrained, PeerMisbehaved
from fastmove.observe.metrics import Metrics, Read, serving
from tests.integration import raw
from tests.integration.listener import KEPT
from tests.integration.metrics import address, fetched, scraped
from tests.integration.programs import Program, fastmove, listen_program
from tests.integration.scripted import ScriptedRequestor

DASHBOARD: Final = Path(__file__).parents[2] / "packaging/grafana/fastmove.json"


async def test_listener_counts_what_it_stores_and_names_nobody(tmp_path: Path) -> None:
    async with listen_program(tmp_path, "--no-durable", "--metrics", "0") as program:
        started, url = await program.event("listen.started"), await address(program)
        assert f"//{LOCAL}:" in url, "without a host to this one alone"
        async with ScriptedRequestor(started["host"], started["port"]) as peer:
            await peer.associate()
            await peer.store(KEPT, raw.dataset(KEPT))
            metrics = await scraped(url)
            assert metrics[("fastmove_connections",)] == 1
            await peer.release()
        await program.event("assoc.closed")
        text = await asyncio.to_thread(fetched, url)
        metrics = await scraped(url)
        assert metrics[("fastmove_objects_stored_total",)] == 1
        assert metrics[("fastmove_stored_bytes_total",)] == len(raw.dataset(KEPT))
        assert metrics[("fastmove_received_bytes_total",)] > len(raw.dataset(KEPT))
        assert metrics[("fastmove_associations_opened_total",)] == 1
        assert metrics[("fastmove_associations_closed_total", "released")] == 1
        assert metrics[("fastmove_connections",)] == 0
        assert metrics[("process_cpu_seconds_total",)] > 0
        assert KEPT not in text
        assert "SCRIPTED" not in text
        assert await program.stopped() == 0


async def test_port_that_is_taken_is_told_and_nothing_begins(tmp_path: Path) -> None:
    async with listen_program(tmp_path / "a", "--metrics", "0") as program:
        port = (await address(program)).rpartition(":")[2].partition("/")[0]
        ended = await fastmove(
            "listen", "--port", "0", "--host", "127.0.0.1", "--to", tmp_path / "b", "--metrics", port
        )
        assert ended.code == 60
        assert port in ended.err
        assert await program.stopped() == 0


async def test_notices_are_counted_by_what_they_are() -> None:
    metrics = Metrics()
    for _ in range(3):
        metrics(PeerMisbehaved(1, "10.0.0.1", "pdu.short"))
    metrics(HostStrained("fs.slow", "/data"))
    metrics(AssociationClosed(1, "lost", 0))
    metrics.read(Read("fastmove_test", "A test.", lambda: 7.0, is_gauge=True))
    with serving(metrics, "127.0.0.1", 0) as port:
        found = await scraped(f"http://127.0.0.1:{port}/metrics")
    assert found[("fastmove_events_total", "pdu.short")] == 3
    assert found[("fastmove_events_total", "fs.slow")] == 1
    assert found[("fastmove_associations_closed_total", "lost")] == 1
    assert found[("fastmove_test",)] == 7


async def test_metrics_are_asked_for_in_the_loop_and_a_failure_there_is_that_of_the_request() -> None:
    metrics, loop = Metrics(), asyncio.get_running_loop()
    threads = []

    def read() -> float:
        assert asyncio.get_running_loop() is loop
        threads.append(1)
        return 1 / 0

    metrics.read(Read("fastmove_test", "A test.", read))
    with serving(metrics, "127.0.0.1", 0) as port, pytest.raises(OSError):
        await scraped(f"http://127.0.0.1:{port}/metrics")
    assert threads


async def test_port_is_free_again_at_the_end() -> None:
    metrics = Metrics()
    with serving(metrics, "127.0.0.1", 0) as port, pytest.raises(ListenFailed), serving(metrics, "127.0.0.1", port):
        pass
    with serving(metrics, "127.0.0.1", port) as again:
        assert again == port


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("9123", (LOCAL, 9123)),
        ("0.0.0.0:9123", ("0.0.0.0", 9123)),
        ("[::1]:9123", ("::1", 9123)),
        (":9123", (LOCAL, 9123)),
    ],
)
def test_address_is_a_port_or_host_and_port(text: str, expected: tuple[str, int]) -> None:
    assert MetricsAddress().convert(text, None, None) == Address(*expected)


async def test_dashboard_asks_for_metrics_that_there_are(tmp_path: Path) -> None:
    dashboard: dict[str, Any] = json.loads(DASHBOARD.read_text())
    asked = " ".join(target["expr"] for panel in dashboard["panels"] for target in panel["targets"])
    names = set(re.findall(r"\b(?:fastmove|process)_[a-z_]+", asked))
    assert len(names) > 15
    told = await scraped_of_both(tmp_path)
    assert names <= told, names - told
    assert [panel["id"] for panel in dashboard["panels"]] == list(range(1, len(dashboard["panels"]) + 1))


async def scraped_of_both(folder: Path) -> set[str]:
    """The names of all metrics of a listener that has refused something, and of a benchmark of it."""
    async with listen_program(
        folder, "--no-durable", "--metrics", "0", "--any-called-aet", "--max-object", "100"
    ) as one:
        started, url = await one.event("listen.started"), await address(one)
        peer = f"X@{started['host']}:{started['port']}"
        await fastmove("echo", peer)
        _, writer = await asyncio.open_connection(started["host"], started["port"])
        writer.close()
        await one.event("conn.closed_early")
        await one.event("assoc.closed")
        load = ("--synthetic", "series=1,instances=5,size=3k", "--duration", "30", "--metrics", "0")
        async with Program("bench", "store", peer, *load) as bench:
            names = {name for name, *_ in await scraped(await address(bench))}
            await one.event("store.too_big")
            names |= {name for name, *_ in await scraped(url)}
            assert await bench.stopped() == 72
        assert await one.stopped() == 0
    return names
