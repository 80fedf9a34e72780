"""Storage SCU: files out by C-STORE (PS3.4 B, PS3.7 9.1.1), over one association or several."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fastmove._codec import store_request
from fastmove.dimse.status import StatusClass, describe
from fastmove.errors import AssociationError, NoAcceptedContext, RemoteProtocolError
from fastmove.limits import MAX_PRESENTATION_CONTEXTS, Limits
from fastmove.net.from_memory import send_from_memory
from fastmove.net.requestor import AssociationHandle, Through, associate
from fastmove.notices import InstanceSent, Observer
from fastmove.storage.filemeta import DicomFile
from fastmove.types import PeerAddress, ProposedContext
from fastmove.ul.negotiation import number_contexts, propose

C_STORE_RSP = 0x8001


def storage_contexts(files: Iterable[DicomFile]) -> tuple[ProposedContext, ...]:
    """One context for each SOP class and transfer syntax: a file is sent as it is, or not at all."""
    return contexts_of((file.sop_class_uid, file.transfer_syntax_uid) for file in files)


def contexts_of(pairs: Iterable[tuple[str, str]]) -> tuple[ProposedContext, ...]:
    """The same for SOP classes and transfer syntaxes."""
    return number_contexts((sop_class, (transfer_syntax,)) for sop_class, transfer_syntax in dict.fromkeys(pairs))


def is_stored(status: int) -> bool:
    """True for the status of an object that the peer has taken: Success, or a warning (PS3.4 B.2.3)."""
    return status == 0 or describe(status, "C-STORE")[0] in (StatusClass.SUCCESS, StatusClass.WARNING)


class StorageSCU:
    """Sends files over one established association: one at a time, or as many as the peer has agreed to at once."""

    def __init__(self, association: AssociationHandle, notify: Observer | None = None) -> None:
        self.affected = ""
        """Affected SOP Instance UID of the last response; empty if it had none, as it need not (PS3.7 9.3.1.2)."""
        self._association = association
        self._notify = notify
        self._contexts = {
            (context.abstract_syntax, context.transfer_syntax): context.context_id
            for context in association.contexts.values()
        }

    @property
    def window(self) -> int:
        """How many operations may be outstanding (PS3.7 D.3.3.3); 1 unless the peer has agreed to more."""
        return self._association.operations_window

    async def store(
        self,
        file: DicomFile,
        originator: tuple[str, int] | None = None,
        through: Through | None = None,
    ) -> int:
        """Send one file; the status of the C-STORE-RSP.

        `originator` is AE title and Message ID of the C-MOVE that this is a sub-operation of; it goes
        `through` that, as `AssociationHandle.send_file` has it.
        Raises NoAcceptedContext and OSError before anything is sent, AssociationError and
        RemoteProtocolError afterwards; EOFError if the file became shorter meanwhile.
        """
        message_id = await self.begin(file, originator, through)
        _, status = await self.answer((message_id,))
        if self._notify is not None:
            self._notify(InstanceSent(file.sop_instance_uid, file.nbytes, status, str(file.path)))
        return status

    async def begin(
        self, file: DicomFile, originator: tuple[str, int] | None = None, through: Through | None = None
    ) -> int:
        """Send one file and wait for nothing; the Message ID of the C-STORE-RQ.  Raises what `store` does."""
        context_id = self._contexts.get((file.sop_class_uid, file.transfer_syntax_uid))
        if context_id is None:
            raise NoAcceptedContext(file.sop_class_uid)
        association = self._association
        message_id = association.next_message_id()
        request = store_request(
            file.sop_class_uid.encode("ascii"),
            file.sop_instance_uid.encode("ascii"),
            message_id,
            None if originator is None else originator[0].encode("ascii"),
            0 if originator is None else originator[1],
        )
        offset, nbytes = file.dataset_offset, file.nbytes
        if file.source is not None:
            view = file.source.view
            await send_from_memory(association, context_id, request, file.before, view, offset, nbytes, through)
            return message_id
        fd = os.open(file.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            await association.send_file(context_id, request, fd, offset, nbytes, file.before, through)
        finally:
            os.close(fd)
        return message_id

    async def answer(self, outstanding: Container[int]) -> tuple[int, int]:
        """The next C-STORE-RSP, to one of these Message IDs: which, and its status; raises what `store` does."""
        association = self._association
        response = (await association.receive()).command
        expected = response.command_field == C_STORE_RSP and response.message_id in outstanding
        if not expected or response.status < 0:
            association.abort("not the response to a C-STORE-RQ of ours")
            raise RemoteProtocolError("dimse.unexpected_rsp", f"command field {response.command_field:04X}H")
        self.affected = (response.sop_instance_uid or b"").rstrip(b"\0 ").decode("ascii", "backslashreplace")
        return response.message_id, response.status


@dataclass(slots=True)
class SendOutcome:
    """What became of each file: stored, stored with a warning, or not, and why."""

    sent: int = 0
    nbytes: int = 0
    warnings: list[tuple[Path, str]] = field(default_factory=list)
    failures: list[tuple[Path, str]] = field(default_factory=list)


class _Sending:
    """Files that several associations take from."""

    def __init__(self, peer: PeerAddress, calling_ae_title: str, limits: Limits, notify: Observer | None) -> None:
        self.peer = peer
        self.calling_ae_title = calling_ae_title
        self.limits = limits
        self.notify = notify
        self.outcome = SendOutcome()

    async def run(self, contexts: tuple[ProposedContext, ...], files: deque[DicomFile]) -> None:
        """Send what is left, until nothing is.

        A file under way when the association ends has failed, and another association takes over; the error that
        ended one on which nothing was stored ends it all.
        """
        request = propose(
            self.calling_ae_title, self.peer.ae_title, contexts, max_pdu_length=self.limits.max_pdu_length
        )
        while files:
            stored = 0
            try:
                async with associate(self.peer, request, self.limits, self.notify) as association:
                    scu = StorageSCU(association, self.notify)
                    while files:
                        stored += await self._store(scu, files.popleft())
            except (OSError, EOFError):
                continue  # the fault of that one file
            except (AssociationError, RemoteProtocolError):
                if not stored:
                    raise

    async def _store(self, scu: StorageSCU, file: DicomFile) -> bool:
        """Send one file and account for it; True if it was stored."""
        outcome = self.outcome
        try:
            status = await scu.store(file)
        except NoAcceptedContext as error:
            outcome.failures.append((file.path, str(error)))
        except (FileNotFoundError, PermissionError) as error:  # by opening it: nothing has been sent
            outcome.failures.append((file.path, error.strerror or str(error)))
        except (OSError, EOFError, AssociationError, RemoteProtocolError) as error:
            outcome.failures.append((file.path, str(error)))
            raise
        else:
            status_class, name = describe(status, "C-STORE")
            if is_stored(status):
                outcome.sent += 1
                outcome.nbytes += file.nbytes
                if status_class is StatusClass.WARNING:
                    outcome.warnings.append((file.path, f"{status:04X}H {name}"))
                return True
            outcome.failures.append((file.path, f"{status:04X}H {name}"))
        return False


async def send(
    peer: PeerAddress,
    files: Sequence[DicomFile],
    calling_ae_title: str = "FASTMOVE",
    *,
    parallel: int = 1,
    limits: Limits | None = None,
    notify: Observer | None = None,
) -> SendOutcome:
    """Send files over `parallel` associations; the outcome accounts for each of them.

    Raises AssociationError if no association could be made at all.
    """
    sending = _Sending(peer, calling_ae_title, limits or Limits(), notify)
    for batch in _batches(files):
        contexts = storage_contexts(batch)
        left = deque(batch)
        associations = [sending.run(contexts, left) for _ in range(min(parallel, len(batch)))]
        results = await asyncio.gather(*associations, return_exceptions=True)
        errors = [result for result in results if isinstance(result, BaseException)]
        for error in errors:
            if not isinstance(error, (AssociationError, RemoteProtocolError, OSError, EOFError)):
                raise error
        if left and not sending.outcome.sent and not sending.outcome.failures and errors:
            raise errors[0]
        sending.outcome.failures.extend((file.path, f"not sent: {errors[0]}") for file in left)
    return sending.outcome


def _batches(files: Sequence[DicomFile]) -> list[list[DicomFile]]:
    """Files in groups whose SOP classes and transfer syntaxes fit into one association's contexts."""
    batches: list[list[DicomFile]] = []
    number: dict[tuple[str, str], int] = {}
    for file in files:
        pair = file.sop_class_uid, file.transfer_syntax_uid
        at = number.setdefault(pair, len(number)) // MAX_PRESENTATION_CONTEXTS
        while len(batches) <= at:
            batches.append([])
        batches[at].append(file)
    return batches
