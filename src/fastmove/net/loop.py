"""The event loop: uvloop where it is installed, asyncio's own otherwise."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

T = TypeVar("T")

_INTERRUPTIONS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(Exception):
    """The signal of this number came."""

    def __init__(self, number: int) -> None:
        super().__init__(f"interrupted by signal {number}")
        self.number = number


def new_event_loop() -> asyncio.AbstractEventLoop:
    """A new loop; uvloop is imported here and nowhere else."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end in a loop of its own."""
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(main)


def interruptions() -> list[signal.Signals]:
    """SIGINT, SIGTERM and SIGHUP, without those that are ignored, as by nohup: they stay so."""
    return [each for each in _INTERRUPTIONS if signal.getsignal(each) is not signal.SIG_IGN]


def run_until_signal(main: Coroutine[Any, Any, T], on_signal: Callable[[], None]) -> T:
    """As run(); but one of the `interruptions` calls `on_signal` and cancels the coroutine: Interrupted.

    The next one kills the process.
    """
    numbers: list[int] = []
    heeded = interruptions()

    async def interruptible() -> T:
        loop, task = asyncio.get_running_loop(), asyncio.ensure_future(main)

        def interrupt(number: int) -> None:
            numbers.append(number)
            for each in heeded:
                loop.remove_signal_handler(each)
                signal.signal(each, signal.SIG_DFL)
            on_signal()
            task.cancel()

        for each in heeded:
            loop.add_signal_handler(each, interrupt, each)
        return await task

    try:
        return run(interruptible())
    except asyncio.CancelledError:
        raise Interrupted(numbers[0]) from None
