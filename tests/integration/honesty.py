"""Runs `fastmove retrieve` and DCMTK's movescu against a PACS, and holds what they say against what it truly sent."""

from __future__ import annotations

import hashlib
import json
import signal
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Protocol

from fastmove.cli.exit_codes import for_retrieve
from fastmove.notices import ListenerStarted, Notice, Observer, as_dict
from fastmove.services.retrieve.config import RetrieveConfig
from fastmove.services.retrieve.session import Retrieve
from fastmove.services.selection.selection import Selection, Wanted
from fastmove.storage.options import WriteOptions
from fastmove.storage.target import StorageTarget
from fastmove.types import PeerAddress
from tests.compat.harness import reserved_port
from tests.integration.objects import data_set
from tests.integration.peers import run_tool
from tests.integration.programs import Program

AE_TITLE: Final = "FASTMOVE"
HOST: Final = "127.0.0.1"
SUCCESSES: Final = frozenset(("COMPLETE", "COUNTED", "UNVERIFIED"))


class Pacs(Protocol):
    """What is retrieved from: it knows what it holds, and what it has sent."""

    @property
    def address(self) -> PeerAddress: ...

    @property
    def studies(self) -> Mapping[str, Any]: ...

    @property
    def sent(self) -> Counter[str]: ...

    def instances(self, *studies: str) -> frozenset[str]: ...

    def dataset(self, uid: str, /) -> bytes: ...

    def going_to(self, ae_title: str, port: int) -> None: ...


class Retrieved:
    """What a retrieve said, and what it left on the disk."""

    def __init__(self, code: int, events: Sequence[Mapping[str, Any]], directory: Path, errors: str = "") -> None:
        self.errors = errors
        self.code = code
        self.events = events
        self.directory = directory

    @property
    def files(self) -> dict[str, Path]:
        """The objects by SOP Instance UID, those that were kept beside another left out."""
        return {path.stem: path for path in self.directory.glob("*.dcm") if ".dup" not in path.name}

    @property
    def quarantined(self) -> dict[str, Path]:
        """The objects that were set aside, by SOP Instance UID."""
        return {path.stem: path for path in (self.directory / ".quarantine").glob("*")}

    @property
    def duplicates(self) -> list[str]:
        """The names of those that were kept beside another."""
        return sorted(path.name for path in self.directory.glob("*.dup*.dcm"))

    @property
    def finished(self) -> Mapping[str, Any]:
        """The last word."""
        assert self.events[-1]["event"] == "retrieve.finished", (self.code, self.errors)
        return self.events[-1]

    @property
    def verdicts(self) -> dict[str, Mapping[str, Any]]:
        """The last word on each study."""
        told = [event for event in self.events if event["event"] == "retrieve.study"]
        assert len(told) == len({event["study_instance_uid"] for event in told}), "one verdict a study"
        return {event["study_instance_uid"]: event for event in told}

    def is_true(self, pacs: Pacs, studies: Sequence[str], *, answers_lost: bool = False, growing: bool = False) -> None:
        """What was said agrees with what the PACS holds of these studies, what it has sent, and what is on the disk.

        With `answers_lost` the PACS may not have been told of all that is stored.  What a `growing` study holds back of
        a move its counters do not count: where there is no list either, COUNTED is all that can be said.
        """
        there, aside = self.files, self.quarantined
        stored = {**there, **aside}
        assert stored.keys() >= pacs.sent.keys(), "what the PACS was told is stored is there"
        assert answers_lost or stored.keys() <= pacs.sent.keys(), "and nothing else"
        assert not aside.keys() & (there.keys() | pacs.instances(*studies)), "what was asked for is not set aside"
        assert {uid: data_set(path) for uid, path in stored.items()} == {uid: pacs.dataset(uid) for uid in stored}
        assert not list(self.directory.rglob(".fm-*")), "nothing is half written"
        assert self.code == self.finished["exit_code"]
        unknowable = set[str]()
        for study in studies:
            lacking = pacs.instances(study) - there.keys()
            said = self.verdicts.get(study)
            if said is None:
                assert self.code != 0, f"no word on {study}"
                continue
            success = said["verdict"] == "COMPLETE" or (said["verdict"] in SUCCESSES and self.code == 0)
            counted = growing and said["verdict"] == "COUNTED" and said["listed"] is None
            unknowable |= lacking if counted else set()
            assert not (lacking and success and not counted), f"a success that is none: {said}, lacking {lacking}"
            if said["listed"] is not None:
                then = lacking | (pacs.instances(study) & self._stored_after(said))
                uncertain = "list.uncertain" in said["reasons"]
                assert set(said["missing"]) == (then & set(said["missing"]) if uncertain else then), said
        lacking = pacs.instances(*studies) - there.keys() - unknowable
        assert not (self.code == 0 and lacking), "a success that is none"

    def _stored_after(self, verdict: Mapping[str, Any]) -> set[str]:
        """What came when this had been said already."""
        at = self.events.index(verdict)
        before, after = (
            {event["sop_instance_uid"] for event in events if event["event"] == "store.stored"}
            for events in (self.events[:at], self.events[at:])
        )
        return after - before

    def manifest_is_true(self) -> None:
        """Each file has a line in the manifest, with its digest."""
        lines = [json.loads(line) for line in (self.directory / "manifest.jsonl").read_text().splitlines()]
        written = {line["path"]: line["sha256"] for line in lines if "path" in line}
        there = {path.name: path.read_bytes() for path in self.directory.glob("*.dcm")}
        assert written == {name: hashlib.sha256(data).hexdigest() for name, data in there.items()}


def retrieve_program(pacs: Pacs, directory: Path, port: int, *options: str, studies: Sequence[str] = ()) -> Program:
    """`fastmove retrieve` of studies of a PACS, or of all that it holds."""
    wanted = [word for study in studies or pacs.studies for word in ("--study", study)]
    to = ("--aet", AE_TITLE, "--host", HOST, "--port", str(port), "--to", directory)
    return Program("retrieve", str(pacs.address), *to, *wanted, *options)


async def retrieve(
    pacs: Pacs, directory: Path, *options: str, studies: Sequence[str] = (), interrupted: bool = False
) -> Retrieved:
    """Run it to its end; `interrupted` by SIGINT when the first object has come."""
    with reserved_port() as port:
        pacs.going_to(AE_TITLE, port)
        async with retrieve_program(pacs, directory, port, *options, studies=studies) as program:
            if interrupted:
                await program.event("store.stored")
                program.signal(signal.SIGINT)
            return Retrieved(await program.ended(), program.events, directory, program.errors)


async def retrieve_here(
    pacs: Pacs,
    directory: Path,
    *,
    studies: Sequence[str] = (),
    inventory: Container[str] = frozenset(),
    host: str = HOST,
    port: int = 0,
    tell: Observer | None = None,
    **config: Any,
) -> Retrieved:
    """The same by the Python API, with what the command has no options for; `tell` is told of all as it happens."""
    events: list[Mapping[str, Any]] = []
    wanted = Selection(tuple(map(Wanted, studies or pacs.studies)))

    def notify(notice: Notice) -> None:
        events.append(as_dict(notice))
        if isinstance(notice, ListenerStarted):
            pacs.going_to(AE_TITLE, notice.port)
        if tell is not None:
            tell(notice)

    with StorageTarget(directory, WriteOptions(durable=False)) as target:
        request = RetrieveConfig(pacs.address, ae_title=AE_TITLE, selection=wanted, **config)
        session = Retrieve(request, target, host=host, port=port, notify=notify, on_stored=notify, inventory=inventory)
        result = await session.run()
    code = int(for_retrieve(result))
    events.append({"event": "retrieve.finished", "verdict": result.judgement.verdict.name, "exit_code": code})
    return Retrieved(code, events, directory)


async def movescu(
    pacs: Pacs, directory: Path, study: str, *options: str, deadline_s: float = 10.0
) -> tuple[int | None, set[str]]:
    """Run DCMTK's movescu: its exit code, None if it does not end, and the SOP Instance UIDs of what it has stored."""
    directory.mkdir()
    keys = ("-S", "-k", "0008,0052=STUDY", "-k", f"0020,000D={study}")
    address = pacs.address
    code: int | None = None
    with reserved_port() as port:
        pacs.going_to(AE_TITLE, port)
        titles = ("-aet", AE_TITLE, "-aem", AE_TITLE, "-aec", address.ae_title)
        words = (*keys, *titles, "+P", str(port), "-od", str(directory), *options, address.host, str(address.port))
        with suppress(TimeoutError):
            code, _ = await run_tool("movescu", *words, deadline=deadline_s)
    return code, {path.name.partition(".")[2] for path in directory.iterdir()}
