"""What the machine is, what its processes have used, and where the files go (Linux: /proc)."""

from __future__ import annotations

import contextlib
import os
import platform
import random
import shutil
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
SHARED_MEMORY = Path("/dev/shm")
TOUCH_BYTES = 4 << 20
LISTENING = "0A"
"""A state in /proc/net/tcp."""


def _first(path: str, key: str) -> str:
    with contextlib.suppress(OSError), Path(path).open() as lines:
        return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "")
    return ""


def environment(target: Path, versions: dict[str, str]) -> dict[str, object]:
    """The block that every JSON result begins with."""
    return {
        "cpu": _first("/proc/cpuinfo", "model name"),
        "cpus": len(os.sched_getaffinity(0)),
        "memory": _first("/proc/meminfo", "MemTotal"),
        "kernel": platform.release(),
        "load_average": os.getloadavg(),
        "date": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "target": str(target),
        "target_filesystem": filesystem(target),
        "versions": {"python": platform.python_version(), **versions},
    }


def filesystem(path: Path) -> str:
    """The type of the file system that `path` is on."""
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    above = [(len(where), kind) for where, kind in mounts if path.resolve().is_relative_to(where)]
    return max(above, default=(0, "unknown"))[1]


def room_bytes(path: Path) -> int:
    """What can be written there; a tmpfs has no more than the memory that is available."""
    free = shutil.disk_usage(path).free
    if filesystem(path) != "tmpfs":
        return free
    return min(free, int(_first("/proc/meminfo", "MemAvailable").split()[0]) * 1024 // 2)


@contextlib.contextmanager
def fresh_folder(target: Path | None, needed_bytes: int) -> Iterator[Path]:
    """A new folder on `target`, else on /dev/shm if it has the room, else the temporary directory; gone afterwards."""
    if target is None and SHARED_MEMORY.is_dir() and os.access(SHARED_MEMORY, os.W_OK):
        target = SHARED_MEMORY if room_bytes(SHARED_MEMORY) > needed_bytes else None
    with tempfile.TemporaryDirectory(prefix="fastmove-benchmark-", dir=target) as folder:
        yield Path(folder)


def touch(folder: Path, volume_bytes: int) -> None:
    """Write so much and drop it: a page that a virtual machine has never used costs microseconds to get from its host,
    and the first receiver to run would pay for all."""
    block = bytes(TOUCH_BYTES)
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        for _ in range(0, min(volume_bytes, room_bytes(folder) // 2), TOUCH_BYTES):
            file.write(block)


PORTS = range(10_000, 30_000)
"""Below those that the kernel gives to who connects, so that nobody gets one by chance before it is listened on."""


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on just now."""
    while True:
        with socket.socket() as s, contextlib.suppress(OSError):
            s.bind(("127.0.0.1", port := random.choice(PORTS)))
            return port


def _sockets() -> Iterator[tuple[int, int, bool]]:
    """Local port, remote port, and whether it listens, of every TCP socket."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                local, remote, state = line.split()[1:4]
                yield int(local.rpartition(":")[2], 16), int(remote.rpartition(":")[2], 16), state == LISTENING


def listeners(port: int) -> int:
    """How many sockets listen on the port; looked up, as a connection would be an association to some."""
    return sum(listens and local == port for local, _, listens in _sockets())


def recent_connections(port: int) -> int:
    """How many connections there are to the port, and have been for a minute: so long Linux remembers (TIME_WAIT)."""
    ends = ({local, remote} for local, remote, listens in _sockets() if not listens)
    return len({frozenset(pair) for pair in ends if port in pair})


def tree(pid: int) -> list[int]:
    """The process and its living descendants."""
    found, new = [], [pid]
    while new:
        found.append(new.pop())
        for children in Path(f"/proc/{found[-1]}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                new += map(int, children.read_text().split())
    return found


def cpu_s(pid: int) -> float:
    """User and system seconds of the process and all its descendants, dead ones included.

    Living ones by their CPU-time clock (clock_getcpuclockid(3): nanoseconds, all threads); the reaped ones are in
    /proc/PID/stat only, as cutime and cstime, in ticks of 10 ms.
    """
    total = 0.0
    for p in tree(pid):
        with contextlib.suppress(OSError):
            reaped = Path(f"/proc/{p}/stat").read_text().rpartition(")")[2].split()[13:15]
            total += time.clock_gettime((~p << 3) | 2) + sum(map(int, reaped)) / TICKS_PER_S
    return total


def settled_cpu_s(pid: int, patience_s: float = 2.0) -> float:
    """`cpu_s` once it no longer moves: work after the last response counts."""
    end, last = time.monotonic() + patience_s, cpu_s(pid)
    while time.monotonic() < end:
        time.sleep(0.05)
        before, last = last, cpu_s(pid)
        if last - before < 0.001:
            break
    return last


def _status_bytes(pid: int, key: str) -> int:
    values = (_first(f"/proc/{p}/status", key) for p in tree(pid))
    return sum(int(value.split()[0]) for value in values if value) * 1024


def peak_rss_bytes(pid: int) -> int:
    """The sum of the high-water marks (VmHWM) of the living processes of the tree."""
    return _status_bytes(pid, "VmHWM")


def rss_bytes(pid: int) -> int:
    """What they have now (VmRSS)."""
    return _status_bytes(pid, "VmRSS")


def machine_busy_s() -> float:
    """CPU seconds that the whole machine has been busy or stolen from since it started."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(
        int, Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
    )
    return (user + nice + system + irq + softirq + steal) / TICKS_PER_S


class Memory:
    """The largest `peak_rss_bytes` seen from entry to exit; sampled, as processes of a forking server come and go."""

    FIRST_S, INTERVAL_S = 0.01, 0.1
    """Until the first sample; between samples, by doubling: some commands end after a few hundredths of a second."""

    def __init__(self, pid: int) -> None:
        self.peak_bytes = 0
        self._samples: list[int] = []
        self._pid = pid
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def _sample(self) -> None:
        ended, interval_s = False, self.FIRST_S
        while not ended:
            ended = self._done.wait(interval_s)
            interval_s = min(2 * interval_s, self.INTERVAL_S)
            self.peak_bytes = max(self.peak_bytes, peak_rss_bytes(self._pid))
            self._samples.append(rss_bytes(self._pid))

    @property
    def growth(self) -> float:
        """Memory in the last third of the time to that in the first, medians; 0 if there are too few samples."""
        samples = [sample for sample in self._samples if sample]
        third = len(samples) // 3
        return statistics.median(samples[-third:]) / statistics.median(samples[:third]) if third else 0.0

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, kind: type | None, value: BaseException | None, traceback: TracebackType | None) -> None:
        self._done.set()
        self._thread.join()
