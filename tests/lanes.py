"""What some tests need of the machine beside a Python: a lane each, which says what it lacks.

A test of `@pytest.mark.lane("mount")` is skipped, with the reason, where that lane cannot run.  Where CI=true it
fails there, unless the lane is one of OPTIONAL: a machine that lacks something must not look like one that passed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Final, NoReturn

import pytest

from fastmove.ledger.postgresql import programs

SEARCH_PATH: Final = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin", "/usr/local/sbin"))

OPTIONAL: Final[frozenset[str]] = frozenset(
    (
        "cgroup",  # many a machine has version 2 only; what is bounded there is measured without it too
    )
)
"""Lanes that may be skipped where CI=true; each with the reason, in a comment beside it."""


def absent(*programs: str) -> str | None:
    """Which of these programs are not installed, or None."""
    found = [program for program in programs if shutil.which(program, path=SEARCH_PATH) is None]
    return f"not installed: {', '.join(found)}" if found else None


def root() -> str | None:
    """The rights of root."""
    return None if os.geteuid() == 0 else "needs root"


def tried(*command: str) -> str | None:
    """What this command complained of, if it failed."""
    ended = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PATH": SEARCH_PATH})
    return None if ended.returncode == 0 else f"{' '.join(command[:3])}: {ended.stderr.strip()[:200]}"


def mount() -> str | None:
    """File systems of one's own."""
    if lacking := root():
        return lacking
    with tempfile.TemporaryDirectory() as folder:
        if lacking := tried("mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder):
            return lacking
        return tried("umount", folder)


def power_cut() -> str | None:
    """Images of disks within a file system that copies them in an instant: XFS with reflinks, by loop."""
    if lacking := root() or absent("mkfs.xfs", "mkfs.ext4", "losetup"):
        return lacking
    with tempfile.TemporaryDirectory() as folder:
        image, below = Path(folder, "image"), Path(folder, "below")
        below.mkdir()
        with image.open("wb") as file:
            file.truncate(320 << 20)  # the least that mkfs.xfs takes is 300 MiB
        if lacking := tried("mkfs.xfs", "-q", "-m", "reflink=1", str(image)):
            return lacking
        if lacking := tried("mount", "-o", "loop", str(image), str(below)):
            return lacking
        return tried("umount", str(below))


def netns() -> str | None:
    """Network namespaces, joined by veth."""
    if lacking := root() or absent("ip", "nft", "tc", "ss", "unshare", "nsenter"):
        return lacking
    name = f"fm-lane-{os.getpid()}"
    return tried("ip", "netns", "add", name) or tried("ip", "netns", "delete", name)


def tun() -> str | None:
    """Packets to carry by a program of ours."""
    device = Path("/dev/net/tun")
    return root() or (None if device.is_char_device() else f"there is no {device}")


def strace() -> str | None:
    """System calls that are late."""
    return absent("strace") or tried("strace", "-o", "/dev/null", "true")


MEMORY_GROUPS: Final = Path("/sys/fs/cgroup/memory")


def cgroup() -> str | None:
    """Groups of processes with bounded memory, version 1."""
    if lacking := root():
        return lacking
    return None if os.access(MEMORY_GROUPS / "memory.limit_in_bytes", os.R_OK | os.W_OK) else "no cgroup v1 for memory"


def postgresql() -> str | None:
    """A PostgreSQL to start, under another name than root's."""
    if not programs():
        return "not installed: postgresql"
    return absent("setpriv") or (tried("id", "postgres") if os.geteuid() == 0 else None)


LANES: Final[dict[str, Callable[[], str | None]]] = {
    "root": root,
    "mount": mount,
    "power-cut": power_cut,
    "netns": netns,
    "tun": tun,
    "cgroup": cgroup,
    "postgresql": postgresql,
    "gcc": lambda: absent("gcc"),
    "clang": lambda: absent("clang"),
    "chromium": lambda: absent("chromium"),
    "strace": strace,
    "systemd": lambda: absent("systemd-analyze"),
}


@cache
def lacking(lane: str) -> str | None:
    """What this lane lacks on this machine, or None if it can run."""
    return LANES[lane]()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose lane cannot run here; where CI=true, fail it."""
    for marker in item.iter_markers("lane"):
        for lane in marker.args:
            if (reason := lacking(lane)) is not None:
                unable(f"lane {lane}: {reason}", optional=lane in OPTIONAL)


def unable(message: str, *, optional: bool = False) -> NoReturn:
    """The machine lacks something: a skip, and a failure where CI=true, unless it may be so."""
    if os.environ.get("CI") == "true" and not optional:
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """A line for each reason to skip tests, with how many: what did not run is not to be overlooked."""
    reasons = Counter(reason_to_skip(report) for report in terminalreporter.stats.get("skipped", ()))
    for reason, tests in sorted(reasons.items()):
        terminalreporter.write_line(f"SKIP {tests} tests: {reason}")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where CI=true a test that was skipped for anything but an optional lane fails the run."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") != "true" or reporter is None or session.exitstatus != pytest.ExitCode.OK:
        return
    allowed = tuple(f"lane {lane}: " for lane in OPTIONAL)
    skipped = [reason_to_skip(report) for report in reporter.stats.get("skipped", ())]
    if not all(reason.startswith(allowed) for reason in skipped):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def reason_to_skip(report: pytest.TestReport) -> str:
    """Why a test was skipped."""
    where = report.longrepr
    return where[2].removeprefix("Skipped: ") if isinstance(where, tuple) else str(where)
