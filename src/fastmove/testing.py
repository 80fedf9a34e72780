"""The embedded PACS for the tests of other programs, in a thread of its own.

    with Pacs(profile="ct", studies=3, destinations={"ME": ("127.0.0.1", 11113)}) as pacs:
        move_with_my_program(pacs.host, pacs.port, pacs.ae_title)
        assert pacs.sent.keys() == pacs.instances(pacs.studies[0])

The package brings a pytest fixture, `fastmove_pacs`, that makes them and stops them after the test.
"""

from __future__ import annotations

import asyncio
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final, Self, TypeVar

from fastmove.bench.corpus import Corpus
from fastmove.bench.spec import Spec
from fastmove.limits import Limits
from fastmove.net.loop import run
from fastmove.notices import Notice
from fastmove.pacs.faults import Faults
from fastmove.pacs.index import Index
from fastmove.pacs.misconduct import FaultyConduct
from fastmove.pacs.scenario import Scenario, parse
from fastmove.pacs.server import serve_pacs
from fastmove.pacs.synthetic import SyntheticArchive
from fastmove.services.archive import StoringArchive
from fastmove.services.query_retrieve_scp import QueryRetrieveOptions
from fastmove.storage.options import WriteOptions
from fastmove.storage.target import StorageTarget
from fastmove.types import PeerAddress

T = TypeVar("T")

STARTS_S: Final = 30.0


class Pacs:
    """A PACS that runs for the length of a `with` block; all its methods may be called from any thread."""

    def __init__(
        self,
        *,
        profile: str | None = None,
        studies: int = 1,
        synthetic: str | None = None,
        folder: Path | str | None = None,
        destinations: Mapping[str, tuple[str, int]] | None = None,
        faults: Iterable[str] = (),
        seed: int = 1,
        ae_title: str = "FASTPACS",
        host: str = "127.0.0.1",
        port: int = 0,
        scenario: Path | str | None = None,
    ) -> None:
        """What `fastmove pacs` has as options; one CT study if neither profile, synthetic nor folder says another.

        `destinations` are the hosts and ports of AE titles; `scenario` is a file whose faults and changes count.
        ConfigurationError for what cannot be meant.
        """
        said = Scenario({}) if scenario is None else parse(Path(scenario).read_text())
        self.ae_title = ae_title
        self.host = host
        self.port = port
        self._folder = None if folder is None else Path(folder)
        if profile is not None:
            self._corpus: Corpus | None = Corpus.of_profile(profile, studies)
        elif folder is None:
            spec = Spec.parse(synthetic or f"studies={studies},series=1,instances=10,size=20k")
            self._corpus = spec.corpus()
        else:
            self._corpus = None
        known = Faults.parse([*said.options.get("fault", ()), *faults]).replace(seed=seed)
        self._changes = said.changes
        self._conduct = FaultyConduct(known, self._observe)
        self._destinations = {title: PeerAddress(title, *address) for title, address in (destinations or {}).items()}
        self._archive: StoringArchive | None = None
        self._notices: list[Notice] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._started: Future[int] = Future()
        self._thread = threading.Thread(target=self._run, name="fastmove-pacs", daemon=True)

    # ------------------------------------------------------------------ running

    def start(self) -> Self:
        """Serve; ListenFailed if the port cannot be had."""
        self._thread.start()
        self.port = self._started.result(STARTS_S)
        return self

    def stop(self) -> None:
        """Let what is under way end, and be gone."""
        if self._loop is not None and self._stop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self) -> None:
        try:
            run(self._serve())
        except BaseException as error:  # noqa: BLE001  whoever waits for the start is told
            if not self._started.done():
                self._started.set_exception(error)

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with AsyncExitStack() as opened:
            directory = self._folder
            if directory is None:
                directory = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="fastmove-pacs-")))
            if self._corpus is not None:
                archive: StoringArchive = SyntheticArchive(self._corpus)
            else:
                archive = Index()
                archive.scan(directory)
            self._archive = archive
            options = QueryRetrieveOptions(self.ae_title, self._destinations, limits=Limits(stop_s=1.0))
            target = opened.enter_context(StorageTarget(directory, WriteOptions(durable=False)))
            acceptor = await opened.enter_async_context(
                serve_pacs(self.host, self.port, archive, target, options, self._observe, self._conduct)
            )
            for change in self._changes:
                self._loop.call_later(change.after_s, self._conduct.change, change.faults)
            self._started.set_result(acceptor.port)
            await self._stop.wait()

    def _asked(self, what: Callable[[], T]) -> T:
        """What the PACS's own thread says."""
        if self._loop is None:
            raise RuntimeError("the PACS does not run")
        answer: Future[T] = Future()

        def tell() -> None:
            try:
                answer.set_result(what())
            except BaseException as error:  # noqa: BLE001  whoever asked is told
                answer.set_exception(error)

        self._loop.call_soon_threadsafe(tell)
        return answer.result(STARTS_S)

    # ------------------------------------------------------------------ what it is to do

    def going_to(self, ae_title: str, host: str, port: int) -> None:
        """This is a move destination from now on."""
        self._destinations[ae_title] = PeerAddress(ae_title, host, port)

    def misbehave(self, *faults: str) -> None:
        """Commit these faults from now on, and no others; those that limit associations count at the start only."""
        known = Faults.parse(faults)
        self._asked(lambda: self._conduct.change(known))

    # ------------------------------------------------------------------ what it has, and what it did

    def _found(self, level: str, **keys: str) -> list[Mapping[str, str]]:
        archive = self._archive
        assert archive is not None
        return self._asked(lambda: list(archive.find({"QueryRetrieveLevel": level, **keys})))

    @property
    def studies(self) -> list[str]:
        """The Study Instance UIDs that it holds, in the order of their numbers."""
        return [match["StudyInstanceUID"] for match in self._found("STUDY", StudyInstanceUID="")]

    def instances(self, study_instance_uid: str = "") -> set[str]:
        """The SOP Instance UIDs of a study, or of all."""
        found = self._found("IMAGE", StudyInstanceUID=study_instance_uid, SOPInstanceUID="")
        return {match["SOPInstanceUID"] for match in found}

    @property
    def sent(self) -> Counter[str]:
        """How often each object was stored by a destination, by SOP Instance UID."""
        return self._asked(lambda: Counter(self._conduct.sent))

    @property
    def dropped(self) -> set[str]:
        """SOP Instance UIDs that it said it had sent, and has not sent to this moment."""
        return self._asked(lambda: set(self._conduct.dropped))

    @property
    def notices(self) -> list[Notice]:
        """All that happened so far, as `fastmove pacs --json` tells it."""
        return self._asked(lambda: list(self._notices))

    def _observe(self, notice: Notice) -> None:
        self._notices.append(notice)
