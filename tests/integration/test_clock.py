"""A wall clock that jumps back and forth by an hour: timers do not look at it (catalogue T17)."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest

from fastmove.bench.spec import Spec
from tests.compat.harness import reserved_port
from tests.integration import raw
from tests.integration.embedded import embedded_pacs
from tests.integration.programs import Program, fastmove, listen_program
from tests.integration.retrieving import Retrieving
from tests.integration.scripted import Recv, ScriptedAcceptor, ScriptedRequestor

pytestmark = pytest.mark.lane("gcc")

SOURCE: Final = Path(__file__).with_name("clock.c")
SPEC: Final = Spec(studies=1, series=2, instances=5, size=2_000)
TIMEOUT_S: Final = 1
LATE_S: Final = 3.0
"""A busy machine may take its time; an hour it does not."""


@pytest.fixture(scope="module")
def jumping(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """The environment of a program whose wall clock jumps."""
    library = tmp_path_factory.mktemp("clock") / "clock.so"
    flags = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC")
    subprocess.run(["gcc", *flags, "-o", library, SOURCE, "-ldl"], check=True)
    return os.environ | {"LD_PRELOAD": str(library)}


def test_clock_of_these_tests_jumps(jumping: Mapping[str, str]) -> None:
    look = "import time; a, b, c = (time.time() for _ in range(3)); print(round(b - a), round(c - b))"
    asked = subprocess.run([sys.executable, "-c", look], env=jumping, capture_output=True, text=True, check=True)
    assert set(asked.stdout.split()) == {"7200", "-7200"}


async def test_T17_retrieve_comes_to_its_end_as_ever(jumping: Mapping[str, str], tmp_path: Path) -> None:
    async with embedded_pacs(SPEC, faults=("drop=40%", "early-success=0.05"), seed=3) as pacs:
        with reserved_port() as port:
            retrieving = Retrieving(pacs, tmp_path / "stored", port, "--drain", "0.5")
            retrieving.env = jumping
            async with retrieving.running() as (program, _):
                assert await program.ended() == 0
            assert retrieving.whole().keys() == pacs.instances()
            assert program.seen("move.retry"), "there were rounds"


async def test_T17_timeout_is_neither_at_once_nor_in_an_hour(jumping: Mapping[str, str]) -> None:
    loop = asyncio.get_running_loop()
    async with ScriptedAcceptor([[Recv(raw.ASSOCIATE_RQ)]]) as silent:
        peer = f"SILENT@{silent.host}:{silent.port}"
        began = loop.time()
        ended = await fastmove("echo", peer, "--timeout", str(TIMEOUT_S), env=jumping)
        assert ended.code == 61
        assert TIMEOUT_S <= loop.time() - began < TIMEOUT_S + LATE_S


async def test_T17_listener_receives_as_ever(jumping: Mapping[str, str], tmp_path: Path) -> None:
    program: Program = listen_program(tmp_path / "stored")
    program.env = jumping
    async with program:
        event = await program.event("listen.started")
        async with ScriptedRequestor(event["host"], event["port"]) as peer:
            await peer.associate()
            for number in range(1, 11):
                uid = f"1.2.3.{number}"
                await peer.store(uid, raw.dataset(uid), number)
            await peer.release()
        assert await program.stopped() == 0
    assert len(list((tmp_path / "stored").glob("*.dcm"))) == 10
