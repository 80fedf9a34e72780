"""The visit to a PACS: what the probes share, and the association that they ask over."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from fastmove.credentials import TlsSettings
from fastmove.dimse import identifier
from fastmove.dimse.status import CANCEL
from fastmove.errors import AssociationError, DimseError, FastmoveError, ProtocolError, TimedOut
from fastmove.limits import Limits
from fastmove.net.acceptor import Acceptor
from fastmove.net.mailbox import Received
from fastmove.net.requestor import AssociationHandle, open_association
from fastmove.notices import Observer
from fastmove.services.doctor.arrivals import Arrivals, MoveRecord
from fastmove.services.profile import PacsProfile
from fastmove.services.query_scu import IDENTIFIER_TRANSFER_SYNTAXES, matches
from fastmove.types import PeerAddress, PresentationContext
from fastmove.uids import QUERY_RETRIEVE, VERIFICATION
from fastmove.ul.negotiation import contexts_for, propose
from fastmove.ul.pdu import AAssociateAC, AAssociateRQ
from fastmove.values import Value

MODELS = ("study", "patient")
"""The information models that are asked for, the preferred first."""

AFTER_CANCEL = 2000
"""Matches that may still come after C-CANCEL: those that were on their way."""


class DoctorConfig(Value):
    """Whom to examine, who we are, and how far to go."""

    peer: PeerAddress

    ae_title: str = "FASTMOVE"
    """Ours: the calling AE title."""

    port: int | None = None
    """Ours, as the PACS knows it, for the objects of a test move; None: nothing is moved."""

    host: str = ""
    """Address to listen on."""

    move_destination: str = ""
    """The AE title that the PACS sends to; empty: ours."""

    study_instance_uid: str = ""
    """What to move; empty: a small study that is found by C-FIND."""

    directory: Path | None = None
    """Where the objects are kept; None: nowhere."""

    associations: int = 8
    """How many to open at once at most."""

    patience_s: float = 60.0
    """How long a query may take, and a move be silent."""

    limits: Limits = Limits()

    listener_tls: TlsSettings | None = None
    """How the PACS is to send to us; None: without TLS."""

    @property
    def destination(self) -> str:
        """The move destination."""
        return self.move_destination or self.ae_title


class Study(Value):
    """A study that the PACS has told of."""

    study_instance_uid: str
    patient_id: str = ""
    study_date: str = ""
    instances: int | None = None
    """Number of Study Related Instances, if it says."""


class Answer(Value):
    """What came of a C-FIND."""

    matches: list[dict[str, str]]
    first_s: float | None
    """From the request to the first response."""
    seconds: float
    error: FastmoveError | None = None

    def values(self, keyword: str) -> list[str]:
        """Those of one attribute, empty ones left out."""
        return [match[keyword] for match in self.matches if match.get(keyword)]


class _Metered(AssociationHandle):
    """An association over which so many more messages may come; it knows when the first came."""

    def __init__(self, association: AssociationHandle, messages: int) -> None:
        super().__init__(association.connection)
        self._left = messages
        self.first_at: float | None = None

    async def receive(self, timeout_s: float | None = None, timer: str = "response_s") -> Received:
        """The next message; AssociationError, and an abort, if it is one too many."""
        message = await super().receive(timeout_s, timer)
        self.first_at = self.first_at or time.perf_counter()
        self._left -= 1
        if self._left < 0:
            self.abort("C-CANCEL is ignored")
            raise AssociationError("it goes on sending matches after C-CANCEL")
        return message


class Visit:
    """One examination of a PACS: what was asked for, what is known by now, what is open."""

    def __init__(self, config: DoctorConfig, notify: Observer | None = None) -> None:
        self.config = config
        self.notify = notify
        self.limits = config.limits.replace(response_s=config.patience_s, progress_s=config.patience_s)
        self.profile: dict[str, bool | int | None] = {}
        """What is known for the `PacsProfile`, by its fields."""
        self.round_trip_s = 0.0
        """That of TCP, or of C-ECHO, which the PACS itself answers."""
        self.objects_per_s: float | None = None
        self.addresses: list[tuple[Any, ...]] = []
        """Of the peer, as getaddrinfo gives them."""
        self.local_address = ""
        """Ours, as the way to the peer has it."""
        self.tls_failed = False
        """True if there is no TLS with it, though we want it."""
        self.refusal: FastmoveError | None = None
        """Why the first association request was not accepted, by something that speaks DICOM."""
        self.answer: AAssociateAC | None = None
        self.find_model = ""
        self.move_model = ""
        self.studies: list[Study] = []
        self.study = Study(config.study_instance_uid) if config.study_instance_uid else None
        """That which is looked into, and moved."""
        self.series: dict[str, frozenset[str]] = {}
        """SOP Instance UIDs by Series Instance UID of that study, as far as they are listed."""
        self.whole = False
        """True if that is all there is of the study."""
        self.acceptor: Acceptor | None = None
        self.arrivals = Arrivals(notify)
        self.moved: MoveRecord | None = None
        self.stack = AsyncExitStack()
        """What is closed in the end: the listener, and its folder."""
        self._association: AssociationHandle | None = None

    # ------------------------------------------------------------------ associations

    def proposal(self) -> AAssociateRQ:
        """The association request that `retrieve` would make, and C-ECHO: both models where it has one."""
        models = [QUERY_RETRIEVE[name] for name in MODELS]
        abstract = [VERIFICATION, *(uid for model in models for uid in (model.find, model.move))]
        contexts = contexts_for(abstract, IDENTIFIER_TRANSFER_SYNTAXES)
        config = self.config
        return propose(config.ae_title, config.peer.ae_title, contexts, max_pdu_length=self.limits.max_pdu_length)

    async def associate(self, request: AAssociateRQ | None = None) -> AssociationHandle:
        """One more association; the caller leaves it by `leave`."""
        return await open_association(self.config.peer, request or self.proposal(), self.limits, self.notify)

    async def association(self) -> AssociationHandle:
        """The one that probes ask over: opened again if it was lost."""
        association = self._association
        if association is None or not association.connection.association.may_send_data:
            await self.hang_up()
            association = self._association = await self.associate()
        return association

    async def context(self, sop_class: str) -> tuple[AssociationHandle, PresentationContext]:
        """That association, and its context for this SOP class."""
        association = await self.association()
        return association, association.context(sop_class)

    async def hang_up(self) -> None:
        """Release it, if it still stands; the next probe has to open another."""
        association, self._association = self._association, None
        if association is not None:
            await leave(association)

    def abort(self) -> None:
        """Wait for nothing any more: what is under way is given up."""
        if self._association is not None:
            self._association.abort("stopped")

    async def close(self) -> None:
        """Leave nothing open."""
        try:
            await self.hang_up()
        finally:
            await self.stack.aclose()

    # ------------------------------------------------------------------ queries

    def keys(self, study: Study, *more: str) -> tuple[str, ...]:
        """The unique keys of a study, as the model needs them, and more of them."""
        patient = [f"PatientID={study.patient_id}"] if "patient" in (self.find_model, self.move_model) else []
        return (*patient, f"StudyInstanceUID={study.study_instance_uid}", *more)

    async def ask(self, keys: Iterable[str], level: str, limit: int) -> Answer:
        """One C-FIND of at most so many matches; what went wrong is in the answer."""
        query = identifier.query(
            keys, model=self.find_model, level=level, relational=True
        )  # asked so on purpose, or not
        identifier.decode(b"", IDENTIFIER_TRANSFER_SYNTAXES[0])  # loads what reads matches, before the clock starts
        found: list[dict[str, str]] = []
        error: FastmoveError | None = None
        first_at: float | None = None
        started = time.perf_counter()
        try:
            association = _Metered(await self.association(), limit + AFTER_CANCEL)
            started = time.perf_counter()
            try:
                async with asyncio.timeout(self.config.patience_s):
                    async for match in matches(association, query, self.find_model, limit=limit):
                        found.append(identifier.text_values(match))
            finally:
                first_at = association.first_at
        except TimeoutError:
            error = TimedOut("response_s", self.config.patience_s)
        except (AssociationError, ProtocolError, DimseError) as failed:
            # More than the limit may be on their way when it cancels: the end is the same.
            enough = isinstance(failed, DimseError) and failed.status == CANCEL and len(found) >= limit
            error = None if enough else failed
        seconds = time.perf_counter() - started
        if error is not None:
            await self.hang_up()  # whatever is still to come belongs to this query
        return Answer(found, None if first_at is None else first_at - started, seconds, error)

    # ------------------------------------------------------------------ what is known

    @property
    def known(self) -> PacsProfile:
        """The profile, as far as it is known."""
        return PacsProfile(**self.profile)  # type: ignore[arg-type]

    @property
    def study_moved(self) -> tuple[Study, MoveRecord]:
        """What was moved, and how that went; for probes that need the move."""
        assert self.study is not None and self.moved is not None
        return self.study, self.moved

    @property
    def instances(self) -> frozenset[str]:
        """SOP Instance UIDs of the study, as far as they are listed."""
        return frozenset().union(*self.series.values())

    @property
    def our_address(self) -> str:
        """What the PACS has to know of us, in words."""
        port = self.acceptor.port if self.acceptor is not None else self.config.port
        return f"host {self.local_address}" + (f", port {port}" if port else "")


async def leave(association: AssociationHandle) -> None:
    """Release an association, or cut it if that does not work; never raises for what the peer does."""
    connection = association.connection
    try:
        if connection.mailbox.waiting:
            association.abort("the examination is over")
        else:
            await association.release(_not_wanted)
    except (AssociationError, ProtocolError):
        pass  # it is gone, which is what was wanted
    finally:
        connection.cut()
        await association.close()


def _not_wanted(_: Received) -> None:
    """A response to what was given up."""
