"""One association as SCU, for operations one after the other: made when it is needed, and anew after it was lost."""

from __future__ import annotations

import time
from collections.abc import Sequence

from fastmove.errors import AssociationError
from fastmove.limits import Limits
from fastmove.net.requestor import AssociationHandle as AssociationHandle
from fastmove.net.requestor import MessageIDs as MessageIDs
from fastmove.net.requestor import open_association
from fastmove.notices import Observer
from fastmove.types import PeerAddress, ProposedContext
from fastmove.ul.negotiation import propose
from fastmove.ul.pdu import AAssociateAC


class Requestor:
    """Asks a peer for an association with these contexts, by this calling AE title; `message_ids` may be shared.

    `operations` are those that we should like to have outstanding at once.
    """

    def __init__(
        self,
        peer: PeerAddress,
        calling_ae_title: str,
        contexts: Sequence[ProposedContext],
        limits: Limits,
        notify: Observer | None = None,
        message_ids: MessageIDs | None = None,
        operations: int = 1,
    ) -> None:
        self.peer = peer
        self.limits = limits
        self._request = propose(
            calling_ae_title,
            peer.ae_title,
            tuple(contexts),
            max_pdu_length=limits.max_pdu_length,
            operations=operations,
        )
        self._notify = notify
        self._message_ids = message_ids
        self._association: AssociationHandle | None = None
        self.associated_s: float | None = None
        """What the last association took to be made, TCP and TLS included; None before the first."""
        self.answer: AAssociateAC | None = None
        """What the peer said to the last one."""

    async def association(self) -> AssociationHandle:
        """The one that stands, or a new one; AssociationError, TlsUnusable."""
        if self._association is not None and self._association.idle:
            return self._association
        await self.lose()
        began = time.monotonic()
        self._association = await open_association(
            self.peer, self._request, self.limits, self._notify, message_ids=self._message_ids
        )
        self.associated_s = time.monotonic() - began
        self.answer = self._association.connection.answer
        return self._association

    @property
    def described(self) -> dict[str, str | int | None]:
        """What the peer said of itself when it accepted the last one; empty before the first (PS3.7 D.3.3)."""
        if self.answer is None:
            return {}
        said = self.answer.user_information
        window = said.asynchronous_operations_window
        return {
            "implementation_class_uid": said.implementation_class_uid,
            "implementation_version_name": said.implementation_version_name,
            "max_pdu_length": said.maximum_length,
            "operations_window": window.maximum_number_operations_invoked if window is not None else 1,
        }

    @property
    def stands(self) -> bool:
        """True if the next operation needs no new association."""
        return self._association is not None and self._association.idle

    def abort(self, why: str) -> None:
        """What is under way ends now."""
        if self._association is not None:
            self._association.abort(why)

    async def lose(self) -> None:
        """Give up what is left of the association: an operation on it failed."""
        association, self._association = self._association, None
        if association is not None:
            association.abort()
            association.connection.cut()
            await association.close()

    async def close(self) -> None:
        """Release it; what goes wrong with that changes nothing."""
        association, self._association = self._association, None
        if association is None:
            return
        try:
            await association.release()
        except AssociationError:
            pass
        finally:
            association.connection.cut()
            await association.close()
