"""Retrieve: a listener, an association, a C-MOVE, and what can be said of it in the end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from fastmove.dimse import identifier
from fastmove.dimse.move import Evidence, Judgement, Loss, judge
from fastmove.errors import AssociationError, NoAcceptedContext, RemoteProtocolError
from fastmove.limits import Limits
from fastmove.net.acceptor import Acceptor
from fastmove.net.requestor import associate
from fastmove.notices import InstanceStored, ListenerStarted, Observer
from fastmove.services.listener import listen
from fastmove.services.move_scu import Move
from fastmove.services.query_scu import IDENTIFIER_TRANSFER_SYNTAXES, instances
from fastmove.services.receipts import Receipts
from fastmove.storage.target import StorageTarget
from fastmove.types import PeerAddress
from fastmove.uids import QUERY_RETRIEVE
from fastmove.ul.negotiation import AcceptPolicy, contexts_for, propose
from fastmove.values import Value


class RetrieveConfig(Value):
    """What to ask of whom, and where it is to go."""

    peer: PeerAddress
    keys: tuple[str, ...]
    """Query keys, `StudyInstanceUID=1.2.3` or `0020,000D=1.2.3`."""

    ae_title: str = "FASTMOVE"
    """Ours: the calling AE title."""

    move_destination: str = ""
    """The AE title that the PACS sends to; empty: ours."""

    model: str = "study"
    level: str | None = None
    """PATIENT, STUDY, SERIES or IMAGE; None: the deepest whose unique key is given."""

    prove: bool = False
    """Ask for the list of instances first (C-FIND), so that the verdict rests on UIDs and not on counters."""

    limits: Limits = Limits()


class RetrieveResult(Value):
    """The verdict on one move, and what it rests on."""

    judgement: Judgement
    evidence: Evidence
    seconds: float
    """From the C-MOVE-RQ to the last response or object."""

    first_object_s: float | None
    """From the C-MOVE-RQ to the first stored object."""

    error: Exception | None = None
    """Why there is no final response."""


class Retrieve:
    """One C-MOVE, from request to verdict; `cancel` may be called at any time.

    With a `target` it listens on `host` and `port` as long as it runs and stores what comes;
    without one the PACS sends to a third party.  ConfigurationError if the keys are no request.
    """

    def __init__(
        self,
        config: RetrieveConfig,
        target: StorageTarget | None = None,
        *,
        host: str = "",
        port: int = 0,
        notify: Observer | None = None,
        on_stored: Callable[[InstanceStored], None] | None = None,
    ) -> None:
        self.config = config
        self.established = False
        self.receipts = None if target is None else Receipts(notify, on_stored)
        self._storage = target
        self._address = host, port
        self._notify = notify
        self._target = identifier.retrieve(config.keys, model=config.model, level=config.level)
        self._move = Move(self.receipts, config.limits, notify)
        self._acceptor: Acceptor | None = None
        self._exchanging: asyncio.Future[None] | None = None
        self._stopped = False
        self._started = 0.0
        if self.receipts is not None:
            self.receipts.originator = config.ae_title

    def cancel(self) -> bool:
        """C-CANCEL, True if it was sent; the move then ends with its final response, or after `drain_s`.

        A second call aborts; so does the first where there is nothing to cancel yet, or any more.
        """
        if self._move.cancel():
            return True
        self._stopped = True
        if self._exchanging is not None:
            self._move.loss = Loss.STOPPED
            self._exchanging.cancel()
        self._move.stop()
        if self._acceptor is not None:
            self._acceptor.abort("stopped")
        return False

    async def run(self) -> RetrieveResult:
        """Listen, associate, move, wait for what is still on its way, judge.

        Raises ListenFailed, AssociationError if there was no association to begin with,
        ConfigurationError.
        """
        receipts = self.receipts
        if self._storage is None or receipts is None:
            return await self._run()
        config = self.config
        policy = AcceptPolicy(config.move_destination or config.ae_title, max_pdu_length=config.limits.max_pdu_length)
        async with listen(
            *self._address, self._storage, policy, config.limits, receipts, receipts.on_stored
        ) as acceptor:
            self._acceptor = acceptor
            receipts.arriving = lambda: acceptor.arriving
            if self._notify is not None:
                self._notify(ListenerStarted(acceptor.host, acceptor.port, 1))
            return await self._run()

    async def _run(self) -> RetrieveResult:
        self._started = time.monotonic()
        error: Exception | None = None
        self._exchanging = asyncio.ensure_future(self._exchange())
        try:
            await self._exchanging
        except NoAcceptedContext:
            raise
        except (AssociationError, RemoteProtocolError) as lost:
            if not self.established:
                raise
            # With a final response in hand, a release that goes wrong changes nothing (T06).
            error = lost
            if isinstance(lost, RemoteProtocolError):
                self._move.loss = Loss.PROTOCOL
        except asyncio.CancelledError:
            if not self._stopped:
                raise
            error = AssociationError("stopped")
        finally:
            self._exchanging = None
        await self._move.drain()
        ended = time.monotonic()
        receipts = self.receipts
        first = receipts.first_at - self._started if receipts is not None and receipts.stored else None
        evidence = self._move.evidence()
        return RetrieveResult(judge(evidence), evidence, ended - self._started, first, error)

    async def _exchange(self) -> None:
        """The move association, from beginning to end."""
        config = self.config
        model = QUERY_RETRIEVE[config.model]
        contexts = contexts_for([model.move, *([model.find] if config.prove else [])], IDENTIFIER_TRANSFER_SYNTAXES)
        request = propose(config.ae_title, config.peer.ae_title, contexts, max_pdu_length=config.limits.max_pdu_length)
        async with associate(config.peer, request, config.limits, self._notify) as association:
            self.established = True
            if config.prove:
                self._move.expected = await instances(association, self._target, config.model)
                if self.receipts is not None:
                    self.receipts.expected = self._move.expected or frozenset()
                self._started = time.monotonic()
            context = association.context(model.move)
            wanted = identifier.encode(self._target, context.transfer_syntax)
            await self._move.exchange(association, context, config.move_destination or config.ae_title, wanted)
            await association.release(self._move.update)
