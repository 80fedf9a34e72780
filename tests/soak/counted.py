"""A fastmove command that tells what it holds each time it gets SIGUSR1: `python -m tests.soak.counted FD ...`.

The collector of cycles is off, so that a cycle for each association or object shows as growth (catalogue R08); it is
asked once, at the end, how many it would have found.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import sys
import threading

from fastmove.cli.main import program


def main() -> None:
    """Run what the arguments say, and tell on the descriptor that comes first."""
    descriptor = int(sys.argv.pop(1))

    def tell(number: int, frame: object) -> None:
        held = {
            "tasks": len(asyncio.all_tasks()),
            "blocks": sys.getallocatedblocks(),
            "threads": threading.active_count(),
        }
        if number == signal.SIGUSR2:
            held["cyclic"] = gc.collect()
        os.write(descriptor, json.dumps(held).encode() + b"\n")

    signal.signal(signal.SIGUSR1, tell)
    signal.signal(signal.SIGUSR2, tell)
    gc.disable()
    program()


if __name__ == "__main__":
    main()
