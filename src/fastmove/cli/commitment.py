"""`send --commit`: the PACS is asked whether it answers for what it was sent, and what it says of each object."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field

from fastmove.cli.exit_codes import ExitCode, for_error, gravest
from fastmove.credentials import TlsSettings
from fastmove.errors import CommitmentOverdue, FastmoveError
from fastmove.limits import Limits
from fastmove.net.requestor import associate
from fastmove.notices import Observer
from fastmove.services.storage_commitment import CONTEXTS, CommitmentReceiver, CommitmentSCU, listen_for_reports
from fastmove.types import PeerAddress
from fastmove.ul.negotiation import propose


@dataclass(slots=True)
class Answer:
    """What a PACS answers for, by SOP Instance UID, and what it does not, and why in words."""

    committed: set[str] = field(default_factory=set)
    uncommitted: dict[str, str] = field(default_factory=dict)
    errors: list[FastmoveError] = field(default_factory=list)
    """What kept it from saying more."""

    @property
    def exit_code(self) -> ExitCode:
        """That of the gravest of all this."""
        codes = [for_error(error, established=True) for error in self.errors]
        return gravest([*codes, ExitCode.INCOMPLETE] if self.uncommitted else codes)


@asynccontextmanager
async def reports_taken(
    port: int | None, ae_title: str, limits: Limits, notify: Observer, tls: TlsSettings | None
) -> AsyncIterator[CommitmentReceiver | None]:
    """A listener for reports, for the length of a block, if there is a port for it; ListenFailed, TlsUnusable."""
    if port is None:
        yield None
        return
    receiver = CommitmentReceiver(notify)
    async with listen_for_reports("", port, ae_title, receiver, limits, notify, tls):
        yield receiver


async def committed(
    peer: PeerAddress,
    sent: Mapping[str, str],
    ae_title: str,
    receiver: CommitmentReceiver | None,
    limits: Limits,
    notify: Observer,
) -> Answer:
    """What the peer says of these, SOP Instance UID → SOP Class UID; whatever goes wrong is in the answer."""
    answer = Answer()
    request = propose(ae_title, peer.ae_title, CONTEXTS, max_pdu_length=limits.max_pdu_length)
    try:
        async with (
            associate(peer, request, limits, notify) as association,
            CommitmentSCU(association, receiver, notify) as scu,
            aclosing(scu.requests(sent)) as transactions,
        ):
            async for transaction in transactions:
                try:
                    said = await scu.result(transaction)
                except CommitmentOverdue as error:
                    answer.errors.append(error)
                    answer.uncommitted |= dict.fromkeys(transaction.asked, str(error))
                else:
                    answer.committed |= said.committed
                    answer.uncommitted |= said.uncommitted
    except FastmoveError as error:
        if (
            unknown := sent.keys() - answer.committed - answer.uncommitted.keys()
        ):  # else all is said, and it was the end
            answer.errors.append(error)
            answer.uncommitted |= dict.fromkeys(unknown, str(error))
    return answer
