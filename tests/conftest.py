"""What every test gets: a loop for coroutine tests, a check that nothing is left behind, peers and lanes or a skip.

A module runs on uvloop and on stdlib asyncio alike if it says
`pytestmark = pytest.mark.parametrize("loop_factory", LOOP_FACTORIES)`.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
import uvloop

from fastmove.cli.configuration_keys import SECTIONS
from tests import lanes
from tests.corpus import Corpus, write_corpus
from tests.integration.peers import missing
from tests.lanes import pytest_sessionfinish, pytest_terminal_summary  # noqa: F401  hooks

if TYPE_CHECKING:
    from tests.certificates import Certificates

LoopFactory = Callable[[], asyncio.AbstractEventLoop]

LOOP_FACTORIES: Final = (
    pytest.param(uvloop.new_event_loop, id="uvloop"),
    pytest.param(asyncio.new_event_loop, id="asyncio"),
)

LAZILY_OPENED: Final = ("/dev/urandom", "/dev/null", "/proc/")  # by libraries, once, for good
THREAD_JOIN_S: Final = 1.0


@pytest.fixture(scope="session", autouse=True)
def libuv_started() -> None:
    """Open the pipe that libuv keeps for the life of the process before anybody counts descriptors."""
    uvloop.new_event_loop().close()


@pytest.fixture(scope="session", autouse=True)
def no_configuration(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What whoever runs the tests has configured, and what he knows of his PACS, is none of their business."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME"):
            patch.setenv(name, str(tmp_path_factory.mktemp(name)))
        for key in {key.name for keys in SECTIONS.values() for key in keys} | {"config"}:
            patch.delenv(f"FASTMOVE_{key.upper()}", raising=False)
        yield


@pytest.fixture
def loop_factory() -> LoopFactory:
    """Makes the event loop of a coroutine test."""
    return uvloop.new_event_loop


@pytest.fixture
def runner(loop_factory: LoopFactory) -> Iterator[asyncio.Runner]:
    """The loop that a coroutine test and its fixtures share; fails on what the loop had to complain about."""
    complaints: list[str] = []
    gc.freeze()  # what was there before the test need not be looked through after it: a twentieth of a second each
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        loop = runner.get_loop()
        loop.set_exception_handler(lambda _, context: complaints.append(complaint(context)))
        yield runner
        runner.run(asyncio.sleep(0))  # whoever has been cancelled or finished gets his turn to end
        complaints += [f"pending task {task!r}" for task in asyncio.all_tasks(loop)]
        gc.collect()  # a lost exception is reported when its task or future dies
    assert not complaints, "event loop: " + "; ".join(complaints)


def complaint(context: dict[str, Any]) -> str:
    """What an event loop reports to its exception handler, in one line."""
    return f"{context.get('message')}: {context.get('exception')!r}"


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run coroutine tests on the loop of their fixtures."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    runner: asyncio.Runner = pyfuncitem._request.getfixturevalue("runner")
    arguments = {name: pyfuncitem.funcargs[name] for name in inspect.signature(pyfuncitem.obj).parameters}
    runner.run(pyfuncitem.obj(**arguments))
    return True


@pytest.fixture(autouse=True)
def nothing_left_behind(request: pytest.FixtureRequest, loop_factory: LoopFactory) -> Iterator[None]:
    """No file descriptor, thread, child process or temporary file outlives its test."""
    directory: Path | None = request.getfixturevalue("tmp_path") if "tmp_path" in request.fixturenames else None
    descriptors, threads, children = open_descriptors(), set(threading.enumerate()), child_processes()
    yield
    left = [f"thread {thread.name}" for thread in still_alive(set(threading.enumerate()) - threads)]
    left += [f"child process {pid}" for pid in child_processes() - children]
    left += [f"descriptor {number} → {target}" for number, target in open_descriptors() - descriptors]
    if directory is not None:
        left += [f"temporary file {path}" for path in directory.rglob(".fm-*")]
    assert not left, "left behind: " + ", ".join(left)


def open_descriptors() -> set[tuple[str, str]]:
    """Number and target of every open file descriptor."""
    found = set()
    for link in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the one that reads the directory
            found.add((link.name, str(link.readlink())))
    return {(number, target) for number, target in found if not target.startswith(LAZILY_OPENED)}


def child_processes() -> set[int]:
    """The process ids of all children, ended ones that nobody waited for included."""
    found: set[int] = set()
    for path in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(FileNotFoundError):  # the thread has ended meanwhile, and left its children to another
            found.update(map(int, path.read_text().split()))
    return found


def still_alive(threads: set[threading.Thread]) -> list[threading.Thread]:
    """Those that do not end within a moment."""
    deadline = time.monotonic() + THREAD_JOIN_S
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return [thread for thread in threads if thread.is_alive()]


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose peer is not installed, or whose lane cannot run here; where CI=true, fail it."""
    for marker in item.iter_markers("peer"):
        for name in marker.args:
            absent = missing(name)
            if absent is not None:
                lanes.unable(f"needs {name}, not installed: {absent}")
    lanes.pytest_runtest_setup(item)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Certificates and keys of every kind, written once a session (and worker)."""
    from tests.certificates import Certificates  # for those who need them

    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Synthetic DICOM files, written once a session (and worker): tests only read them."""
    return write_corpus(tmp_path_factory.mktemp("corpus"))
