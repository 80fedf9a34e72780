"""`fastmove bench self`: what this host and fastmove could do at most, so that a result can be held against it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import AsyncIterator
from datetime import date
from pathlib import Path
from typing import Any, Final

import click

from fastmove.bench.ceiling import disk, loopback
from fastmove.bench.load import Load
from fastmove.bench.result import Document, Result
from fastmove.bench.retrieve import RetrieveBench
from fastmove.bench.runner import Setting, Target
from fastmove.bench.studies import Finding, asked_for
from fastmove.cli.bench.output import out_options, write
from fastmove.cli.options import json_option, reports_errors
from fastmove.cli.output import say
from fastmove.errors import ConfigurationError
from fastmove.limits import Limits
from fastmove.net.loop import run
from fastmove.net.sockets import bound_socket
from fastmove.services.selection.selection import Query, Selection
from fastmove.types import PeerAddress

HOST: Final = "127.0.0.1"
AE_TITLE: Final = "SELF"
STARTS_S: Final = 30.0

KINDS: Final = {
    "8 kB": "studies=4,series=1,instances=2000,size=8k,modality=SR",
    "526 kB": "studies=4,series=1,instances=200,size=526k",
    "100 MB": "studies=4,series=1,instances=4,size=100M",
}
"""Sizes of objects → what the PACS is to hold."""

PARALLEL: Final = (1, 4)


@contextlib.asynccontextmanager
async def started_pacs(spec: str, port: int) -> AsyncIterator[PeerAddress]:
    """The embedded PACS as a process of its own, that sends to this port of ours."""
    command = ("-m", "fastmove", "pacs", "--port", "0", "--json", "--synthetic", spec)
    destination = ("--move-destination", f"{AE_TITLE}@{HOST}:{port}")
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, *destination, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    assert process.stdout is not None
    told: asyncio.Task[None] | None = None
    try:
        try:
            async with asyncio.timeout(STARTS_S):
                ready: dict[str, Any] = json.loads(await process.stdout.readline())
            peer = PeerAddress(ready["ae_title"], ready["host"], ready["port"])
        except (TimeoutError, ValueError, KeyError) as error:
            raise ConfigurationError("self", "the embedded PACS does not start") from error
        told = asyncio.create_task(_read(process.stdout))
        yield peer
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STARTS_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
        if told is not None:
            await told


async def _read(told: asyncio.StreamReader) -> None:
    """What it tells of each move is taken off it, so that it need not wait for us."""
    while await told.read(1 << 16):
        pass


async def _receive(result: Result, seconds: float, *, quiet: bool) -> dict[str, Any]:
    """Objects of each size, one association and several, received and thrown away."""
    known: dict[str, Any] = {}
    for name, spec in KINDS.items():
        reserved = bound_socket(HOST, 0)
        port = reserved.getsockname()[1]
        async with started_pacs(spec, port) as peer:
            reserved.close()
            target = Target(peer, AE_TITLE, limits=Limits())
            bench = RetrieveBench(target, host=HOST, port=port)
            finding = Finding(target)
            try:
                query = Selection(queries=(Query(("StudyDate=19900101-",)),))
                studies = await finding.studies(query, today=date.today())
            finally:
                await finding.close()
            for parallel in PARALLEL:
                load = Load(parallel=parallel, duration_s=seconds, warm_up_s=seconds / 5)
                measured = await bench.run(load, asked_for(studies, None, seed=1), Setting())
                result.add({"parallel": parallel, "rate_per_s": None, "objects": name}, 1, measured)
                if not quiet:
                    rates = f"{measured['bytes_per_s'] / 1e6:,.0f} MB/s, {measured['objects_per_s']:,.0f} objects/s"
                    say(f"objects of {name}, {parallel} at once: {rates}", err=True)
        known = bench.peer
    return known


def _of_disk(folder: Path, seconds: float) -> dict[str, float]:
    """What it takes of files, synced and not; OSError."""
    known: dict[str, float] = {}
    for name, durable in (("disk", False), ("disk_durable", True)):
        written = disk(folder, seconds, durable=durable)
        known[f"{name}_files_per_s"] = round(written.files_per_s, 1)
        known[f"{name}_bytes_per_s"] = round(written.bytes_per_s, 1)
    return known


@click.command("self")
@click.option(
    "--seconds",
    type=click.FloatRange(min=0.1),
    default=3.0,
    show_default=True,
    metavar="N",
    help="For each of eight measurements.",
)
@click.option(
    "--to",
    "folder",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    metavar="DIR",
    help="Measure this disk, too: files of 526 kB, synced and not.",
)
@out_options
@json_option
@reports_errors
def command(seconds: float, folder: Path | None, out: Path | None, page: Path | None, as_json: bool) -> None:
    """Measure this host and fastmove itself: what no PACS can exceed here.

    The embedded PACS, in a process of its own, sends objects of three sizes to our listener, which
    throws them away; the loopback is measured without DICOM, and a disk if you name a folder on it.
    Both sides share this host, so that the real limit is rather higher.

    \b
    Examples:
      fastmove bench self
      fastmove bench self --to /data --out self.json
    """
    scenario = {"peer": "this host", "arguments": sys.argv[1:], "seconds": seconds}
    result = Result("self", scenario)

    async def main() -> Document:
        known = await _receive(result, seconds, quiet=as_json)
        document = result.finished(known, complete=True)
        document["machine"] = machine = {"loopback_bytes_per_s": round(await asyncio.to_thread(loopback, seconds), 1)}
        if folder is not None:
            try:
                machine |= await asyncio.to_thread(_of_disk, folder, seconds)
            except OSError as error:  # the rest is measured, and told all the same
                say(f"{folder} cannot be measured: {error}", err=True)
        return document

    document = run(main())
    write(document, out, page, as_json=as_json)
    if not as_json:
        for name, value in document["machine"].items():
            what = name.removesuffix("_per_s").replace("_", " ")
            say(f"{what}: {value / 1e6:,.0f} MB/s" if name.endswith("bytes_per_s") else f"{what}: {value:,.0f}/s")
