"""Query SCU: C-FIND (PS3.4 C.4.1, PS3.7 9.1.2)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing
from typing import TYPE_CHECKING

from fastmove.dimse import identifier
from fastmove.dimse.identifier import Identifier
from fastmove.dimse.messages import CCancelRQ, CFindRQ, CFindRSP, decode
from fastmove.dimse.status import StatusClass, describe
from fastmove.errors import DimseError, RemoteProtocolError
from fastmove.limits import Limits
from fastmove.net.requestor import AssociationHandle, associate
from fastmove.notices import Observer
from fastmove.types import PeerAddress, PresentationContext, ProposedContext
from fastmove.uids import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN, QUERY_RETRIEVE
from fastmove.ul.negotiation import contexts_for, propose

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

IDENTIFIER_TRANSFER_SYNTAXES = (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN)
"""In which identifiers go out, the preferred first."""


async def matches(
    association: AssociationHandle, query: Identifier, model: str = "study", *, limit: int | None = None
) -> AsyncIterator[Dataset]:
    """Each match of a query as it comes; after `limit` of them the rest is cancelled (C-CANCEL).

    Raises NoAcceptedContext, AssociationError, DimseError if the final status is not success: what
    came before is then not all there is.
    """
    context = association.context(QUERY_RETRIEVE[model].find)
    async with aclosing(_answers(association, context, query, limit)) as answers:
        async for data in answers:
            yield identifier.decode(data, context.transfer_syntax)


async def texts(
    association: AssociationHandle, query: Identifier, model: str = "study"
) -> AsyncGenerator[dict[str, str], None]:
    """Each match of a query as text by keyword; raises what `matches` does."""
    context = association.context(QUERY_RETRIEVE[model].find)
    async with aclosing(_answers(association, context, query, None)) as answers:
        async for data in answers:
            yield identifier.texts(data, context.transfer_syntax)


async def _answers(
    association: AssociationHandle, context: PresentationContext, query: Identifier, limit: int | None
) -> AsyncGenerator[bytes, None]:
    """The identifier of each match."""
    request = CFindRQ(message_id=association.next_message_id(), affected_sop_class_uid=context.abstract_syntax)
    association.send(context.context_id, request.encode(), identifier.encode(query, context.transfer_syntax))
    found, cancelled = 0, False
    while True:
        received = await association.receive()
        response = decode(received.command.data)
        if not isinstance(response, CFindRSP) or response.message_id_being_responded_to != request.message_id:
            association.abort("not the response to this C-FIND-RQ")
            raise RemoteProtocolError("dimse.unexpected_rsp", f"{type(response).__name__} instead of C-FIND-RSP")
        status = response.status
        if status is None:
            association.abort("a C-FIND-RSP without a status")
            raise RemoteProtocolError("dimse.malformed", "C-FIND-RSP without a status")
        status_class, name = describe(status, "C-FIND")
        if status_class is StatusClass.PENDING:
            found += 1
            if received.dataset is not None and (limit is None or found <= limit):
                yield received.dataset
            if found == limit:
                cancel = CCancelRQ(message_id_being_responded_to=request.message_id)
                association.send(context.context_id, cancel.encode())
                cancelled = True
        elif status_class is StatusClass.SUCCESS or (status_class is StatusClass.CANCEL and cancelled):
            return
        else:
            raise DimseError(status, response.error_comment or name)


async def find(
    peer: PeerAddress,
    keys: Iterable[str],
    calling_ae_title: str = "FASTMOVE",
    *,
    model: str = "study",
    level: str | None = None,
    limit: int | None = None,
    limits: Limits | None = None,
    notify: Observer | None = None,
) -> AsyncIterator[dict[str, str]]:
    """Associate, query, release; each match as text by keyword.

    `keys` are `PatientID=123`, `0010,0020=123`, or a name alone to have it returned.  Raises
    ConfigurationError for a bad key, AssociationError, DimseError.
    """
    query = identifier.query(keys, model=model, level=level)
    limits = limits or Limits()
    request = propose(calling_ae_title, peer.ae_title, find_contexts(model), max_pdu_length=limits.max_pdu_length)
    async with associate(peer, request, limits, notify) as association:
        async for match in matches(association, query, model, limit=limit):
            yield identifier.text_values(match)


async def ask(
    association: AssociationHandle, keys: Iterable[str], model: str = "study", level: str | None = None
) -> AsyncIterator[dict[str, str]]:
    """A query by keys over an association that stands, relational where they leave out a level; as `texts`."""
    query = identifier.query(keys, model=model, level=level, relational=True)
    async with aclosing(texts(association, query, model)) as answers:
        async for match in answers:
            yield match


def find_contexts(model: str) -> tuple[ProposedContext, ...]:
    """What is proposed for the C-FINDs of an information model."""
    return contexts_for([QUERY_RETRIEVE[model].find], IDENTIFIER_TRANSFER_SYNTAXES)
