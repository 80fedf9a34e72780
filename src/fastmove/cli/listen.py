"""`fastmove listen`: the storage listener."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import click

from fastmove.limits import Limits
from fastmove.net.loop import run
from fastmove.services.listener import listen
from fastmove.storage.options import WriteOptions
from fastmove.storage.target import StorageTarget
from fastmove.ul.negotiation import AcceptPolicy


@click.command("listen")
@click.option("--port", type=int, required=True)
@click.option("--to", "directory", type=click.Path(path_type=Path), required=True)
@click.option("--aet", default="FASTMOVE")
@click.option("--durable/--no-durable", default=True)
def command(port: int, directory: Path, aet: str, durable: bool) -> None:
    """Receive objects and store them."""

    async def main() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        policy = AcceptPolicy(aet, any_called_ae_title=True)
        with StorageTarget(directory, WriteOptions(durable=durable)) as target:
            async with listen("127.0.0.1", port, target, policy, Limits()):
                await stop.wait()

    run(main())
