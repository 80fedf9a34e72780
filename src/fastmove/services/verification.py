"""Verification, both roles: C-ECHO (PS3.4 A, PS3.7 9.1.5)."""

from __future__ import annotations

import time
from contextlib import AbstractAsyncContextManager
from typing import Final

from fastmove.dimse.messages import CEchoRQ, CEchoRSP, Message, Response, decode
from fastmove.dimse.status import SUCCESS
from fastmove.errors import DimseError, RemoteProtocolError
from fastmove.limits import Limits
from fastmove.net.requestor import AssociationHandle, associate
from fastmove.notices import EchoReceived, Observer
from fastmove.services.scp import CommandSCP
from fastmove.types import PeerAddress
from fastmove.uids import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN, VERIFICATION
from fastmove.ul.negotiation import contexts_for, propose

CONTEXTS: Final = contexts_for([VERIFICATION], [IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN])
"""What is proposed for C-ECHO."""


class VerificationSCP(CommandSCP):
    """Answers C-ECHO."""

    def respond(self, message: Message) -> Response | None:
        """Success."""
        if not isinstance(message, CEchoRQ):
            raise RemoteProtocolError("dimse.malformed", "not a C-ECHO-RQ")
        if self.connection.notify is not None:
            self.connection.notify(EchoReceived(self.connection.number, message.message_id))
        return message.response(SUCCESS)


async def echo_on(association: AssociationHandle) -> None:
    """One C-ECHO on an established association; DimseError if the answer is not success."""
    context = association.context(VERIFICATION)
    request = CEchoRQ(message_id=association.next_message_id(), affected_sop_class_uid=VERIFICATION)
    association.send(context.context_id, request.encode())
    response = decode((await association.receive()).command.data)
    if not isinstance(response, CEchoRSP) or response.message_id_being_responded_to != request.message_id:
        raise RemoteProtocolError("dimse.unexpected_rsp", f"{type(response).__name__} instead of C-ECHO-RSP")
    if response.status != SUCCESS:
        raise DimseError(response.status or 0, response.error_comment or "C-ECHO failed")


def _associated(
    peer: PeerAddress, calling_ae_title: str, limits: Limits, notify: Observer | None
) -> AbstractAsyncContextManager[AssociationHandle]:
    request = propose(calling_ae_title, peer.ae_title, CONTEXTS, max_pdu_length=limits.max_pdu_length)
    return associate(peer, request, limits, notify)


async def echo(
    peer: PeerAddress, calling_ae_title: str = "FASTMOVE", limits: Limits | None = None, notify: Observer | None = None
) -> None:
    """Associate, C-ECHO, release.

    Raises AssociationError if there is no association, DimseError if the peer answers with a failure.
    """
    async with _associated(peer, calling_ae_title, limits or Limits(), notify) as association:
        await echo_on(association)


async def shortest_echo(peer: PeerAddress, calling_ae_title: str, limits: Limits, count: int = 5) -> float:
    """The shortest of so many C-ECHOs over one association, in seconds; raises what `echo` does."""
    took: list[float] = []
    async with _associated(peer, calling_ae_title, limits, None) as association:
        for _ in range(count):
            began = time.monotonic()
            await echo_on(association)
            took.append(time.monotonic() - began)
    return min(took)
