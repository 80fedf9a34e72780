"""The embedded PACS in the loop of a test, as good or as bad as the test wants it.

async with embedded_pacs(Spec(studies=5, series=1, instances=3, size=2_000), faults=("drop=10%",)) as pacs:
    pacs.destinations["ME"] = PeerAddress("ME", "127.0.0.1", listener.port)
    ...
    assert report.missing == pacs.dropped
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from fastmove.bench.spec import Spec, objects
from fastmove.credentials import TlsSettings
from fastmove.limits import Limits
from fastmove.net.acceptor import Acceptor
from fastmove.notices import AssociationClosed, AssociationOpened, MoveAnswered, Notice, QueryAnswered
from fastmove.pacs.faults import Faults
from fastmove.pacs.index import Index
from fastmove.pacs.misconduct import FaultyConduct
from fastmove.pacs.server import serve_pacs
from fastmove.services.query_retrieve_scp import QueryRetrieveOptions
from fastmove.storage.filemeta import DicomFile
from fastmove.storage.options import WriteOptions
from fastmove.storage.target import StorageTarget
from fastmove.types import PeerAddress

HOST: Final = "127.0.0.1"
LIMITS: Final = Limits(connect_s=5.0, associate_s=5.0, artim_s=5.0, release_s=5.0, stop_s=5.0)


@dataclass
class EmbeddedPacs:
    """A running PACS: where it is, what it holds, what it has done."""

    acceptor: Acceptor
    folder: Path
    conduct: FaultyConduct
    destinations: dict[str, PeerAddress]
    """Move destinations by AE title; may be changed at any time."""

    files: dict[str, DicomFile]
    """What it held at the start, by SOP Instance UID."""

    studies: dict[str, dict[str, frozenset[str]]]
    """Study Instance UID → Series Instance UID → SOP Instance UIDs, at the start."""

    ae_title: str = "FASTPACS"
    notices: list[Notice] = field(default_factory=list)
    queries: Counter[str] = field(default_factory=Counter)
    """C-FINDs that were answered to the end, by level."""

    moves: list[MoveAnswered] = field(default_factory=list)
    """C-MOVEs that were answered to the end."""

    associations: int = 0
    """That it accepted, all in all."""

    most_associations: int = 0
    """At once, at most."""

    _open: int = 0

    @property
    def address(self) -> PeerAddress:
        return PeerAddress(self.ae_title, HOST, self.acceptor.port)

    @property
    def dropped(self) -> frozenset[str]:
        """SOP Instance UIDs that it said it had sent, and has not sent to this moment."""
        return frozenset(self.conduct.dropped)

    @property
    def sent(self) -> Counter[str]:
        """How often each object was stored by a destination, by SOP Instance UID."""
        return self.conduct.sent

    @property
    def objects_sent(self) -> int:
        """That destinations stored, each time counted."""
        return self.conduct.sent.total()

    @property
    def most_moves(self) -> int:
        """Under way at once, at most."""
        return self.conduct.most_moves

    def misbehave(self, *faults: str) -> None:
        """Commit these faults from now on, and no others; those that limit associations count from the start only."""
        lots = self.conduct.lots
        lots.faults = Faults.parse(faults).replace(seed=lots.faults.seed)

    def going_to(self, ae_title: str, port: int) -> None:
        """This move destination is a listener on this host."""
        self.destinations[ae_title] = PeerAddress(ae_title, HOST, port)

    def instances(self, *studies: str) -> frozenset[str]:
        """The SOP Instance UIDs of these studies, or of all."""
        chosen = studies or tuple(self.studies)
        return frozenset().union(*(uids for study in chosen for uids in self.studies.get(study, {}).values()))

    def dataset(self, sop_instance_uid: str) -> bytes:
        """The bytes of an object's data set."""
        file = self.files[sop_instance_uid]
        return file.path.read_bytes()[file.dataset_offset :]

    def observe(self, notice: Notice) -> None:
        """Take note of what the PACS tells."""
        self.notices.append(notice)
        if isinstance(notice, AssociationOpened):
            self.associations += 1
            self._open += 1
            self.most_associations = max(self.most_associations, self._open)
        elif isinstance(notice, AssociationClosed):
            self._open -= 1
        elif isinstance(notice, QueryAnswered):
            self.queries[notice.level] += 1
        elif isinstance(notice, MoveAnswered):
            self.moves.append(notice)


@asynccontextmanager
async def embedded_pacs(
    source: Spec | Path,
    *,
    faults: Iterable[str] | Faults = (),
    seed: int = 1,
    destinations: Mapping[str, PeerAddress] | None = None,
    port: int = 0,
    limits: Limits = LIMITS,
    suboperations_per_response: int = 1,
    storage_idle_s: float = 0.0,
    tls: TlsSettings | None = None,
) -> AsyncIterator[EmbeddedPacs]:
    """A PACS over synthetic studies or a folder, with faults as `fastmove pacs --fault` takes them."""
    known = faults if isinstance(faults, Faults) else Faults.parse(faults)
    titles = dict(destinations or {})
    options = QueryRetrieveOptions(
        ae_title="FASTPACS",
        move_destinations=titles,
        suboperations_per_response=suboperations_per_response,
        storage_idle_s=storage_idle_s,
        limits=limits,
    )
    with _folder(source) as folder:
        index = Index()
        if isinstance(source, Path):
            index.scan(folder)
        else:
            for file, texts in objects(source, folder):
                index.add_instance(file, texts)
        files = {file.sop_instance_uid: file for file in index.instances({"QueryRetrieveLevel": "PATIENT"})}
        observers: list[EmbeddedPacs] = []

        def notify(notice: Notice) -> None:
            for observer in observers:
                observer.observe(notice)

        conduct = FaultyConduct(known.replace(seed=seed), notify)
        with StorageTarget(folder, WriteOptions(durable=False)) as target:
            async with serve_pacs(HOST, port, index, target, options, notify, conduct, tls) as acceptor:
                observers.append(EmbeddedPacs(acceptor, folder, conduct, titles, files, _tree(index)))
                yield observers[0]


@contextmanager
def _folder(source: Spec | Path) -> Iterator[Path]:
    if isinstance(source, Path):
        yield source
        return
    with tempfile.TemporaryDirectory(prefix="fastmove-pacs-") as temporary:
        yield Path(temporary)


def _tree(index: Index) -> dict[str, dict[str, frozenset[str]]]:
    """What an index holds, by study and series."""
    wanted = dict.fromkeys(("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"), "")
    tree: dict[str, dict[str, frozenset[str]]] = {}
    for match in index.find({"QueryRetrieveLevel": "IMAGE", **wanted}):
        study, series, instance = (match[keyword] for keyword in wanted)
        of_study = tree.setdefault(study, {})
        of_study[series] = of_study.get(series, frozenset()) | {instance}
    return tree
