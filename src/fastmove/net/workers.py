"""Several processes on one port, each with its own loop (SO_REUSEPORT).

The kernel spreads connections by a hash, which with a handful of long associations leaves one
process with most of them.  So a worker that has more than another hands a new connection on, over
a Unix socket, before a byte of it is read.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import mmap
import os
import signal
import socket
import sys
from collections.abc import Callable, Coroutine
from types import FrameType
from typing import Any

from fastmove.errors import FastmoveError
from fastmove.net.loop import run
from fastmove.net.sockets import bound_socket

_COUNTER_BYTES = 8
_FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Share:
    """One worker's part in a shared port: how many connections each worker has, and the way to hand one on.

    Counters are in memory that all workers see; each has one writer, so no lock is needed.
    """

    def __init__(self, workers: int, reserved: socket.socket) -> None:
        self.index = 0
        self.workers = workers
        self.port: int = reserved.getsockname()[1]
        self._reserved = reserved
        self._lifeline = os.pipe()
        self._doors = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(workers)]
        memory = mmap.mmap(-1, _COUNTER_BYTES * workers * (workers + 2))
        counters = memoryview(memory).cast("q")
        self._open = counters[:workers]
        self._taken = counters[workers : 2 * workers]
        self._handed = counters[2 * workers :]  # [giver * workers + taker]

    @property
    def door(self) -> socket.socket:
        """Where connections come in that others hand to us."""
        return self._doors[self.index][0]

    def count(self, connections: int) -> None:
        """Tell the others how many connections we have."""
        self._open[self.index] = connections

    def load(self, worker: int) -> int:
        """Connections of a worker, those on their way to it included."""
        n = self.workers
        handed = sum(self._handed[giver * n + worker] for giver in range(n))
        return self._open[worker] + handed - self._taken[worker]

    def hand_on(self, connection: socket.socket) -> bool:
        """Give a connection to the worker with the fewest, if that is not us."""
        taker = min(range(self.workers), key=lambda worker: (self.load(worker), worker != self.index))
        if taker == self.index:
            return False
        try:
            socket.send_fds(self._doors[taker][1], [b"\0"], [connection.fileno()], socket.MSG_DONTWAIT)
        except OSError:
            return False  # its door is full or it is gone: the connection stays with us
        self._handed[self.index * self.workers + taker] += 1
        connection.close()
        return True

    def take(self) -> socket.socket | None:
        """A connection that was handed to us, None if there is none waiting."""
        try:
            _, fds, _, _ = socket.recv_fds(self.door, 1, 1, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None
        self._taken[self.index] += 1
        if not fds:
            raise OSError(errno.EMFILE, "a connection was lost: no descriptor for it")
        return socket.socket(fileno=fds[0])

    def stop_with_parent(self) -> None:
        """In a worker: SIGTERM to ourselves when the parent is gone, however it ended."""
        alive, parents_end = self._lifeline
        os.close(parents_end)
        loop = asyncio.get_running_loop()

        def orphaned() -> None:
            loop.remove_reader(alive)
            os.kill(os.getpid(), signal.SIGTERM)

        loop.add_reader(alive, orphaned)

    @staticmethod
    def heed_signals() -> None:
        """In a worker, once its handlers are set: signals that came before are dealt with now."""
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _FORWARDED)

    def close(self) -> None:
        """Give up the doors."""
        for end in self._lifeline:
            os.close(end)
        for pair in self._doors:
            for door in pair:
                door.close()
        self._reserved.close()


Main = Callable[[Share], Coroutine[Any, Any, int]]
"""What a worker does; its result is the exit status."""


def run_workers(
    host: str, port: int, workers: int, main: Main, status_of: Callable[[FastmoveError], int] = lambda _: 1
) -> int:
    """Run `main` in so many processes until SIGTERM or SIGINT, which they get too, as SIGHUP; the exit status.

    `main` sets its handlers and then calls `Share.heed_signals`: a signal that comes while a worker starts waits until
    then, and does not end it as a failure that would stop the others.

    The status is the first one that is not 0, `status_of` an error that ends a worker, or 1 if a signal does.  OSError
    if the port cannot be had.  When one worker fails, the others are stopped: whoever supervises us starts all of them
    anew.
    """
    # Without SO_REUSEPORT first: another listener's port must not be shared with it unawares.
    bound_socket(host, port).close()
    # Bound, not listening: a free port stays ours until all workers listen.
    share = Share(workers, bound_socket(host, port, reuse_port=True))
    children: dict[int, int] = {}
    signal.pthread_sigmask(signal.SIG_BLOCK, _FORWARDED)
    for index in range(workers):
        pid = os.fork()
        if pid == 0:
            share.index = index
            _work(share, main, status_of)
        children[pid] = index
    status = 0

    def forward(number: int, _: FrameType | None) -> None:
        for pid in children:
            with contextlib.suppress(ProcessLookupError):  # ended, and not waited for yet
                os.kill(pid, number)

    for number in _FORWARDED:
        signal.signal(number, forward)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _FORWARDED)
    while children:
        pid, ended = os.wait()
        if children.pop(pid, None) is not None and (code := os.waitstatus_to_exitcode(ended)) != 0:
            status = status or (code if code > 0 else 1)
            forward(signal.SIGTERM, None)
    share.close()
    return status


async def _serve(share: Share, main: Main) -> int:
    share.stop_with_parent()
    try:
        return await main(share)
    finally:  # the loop takes its handlers away: a signal that comes now must not turn our status into a failure
        signal.pthread_sigmask(signal.SIG_BLOCK, _FORWARDED)


def _work(share: Share, main: Main, status_of: Callable[[FastmoveError], int]) -> None:
    code = 1
    try:
        code = run(_serve(share, main))
    except FastmoveError as error:
        code = status_of(error)
        print(f"fastmove: {error}", file=sys.stderr)
    except BaseException:  # noqa: BLE001  a forked child must never return into its parent's frames
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
