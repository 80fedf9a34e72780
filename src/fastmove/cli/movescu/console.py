"""What movescu says while it runs: notices to log lines, in DCMTK's words and order."""

from __future__ import annotations

from typing import ClassVar, Final

from fastmove.cli.movescu import conditions, messages
from fastmove.cli.movescu.log import DCMNET, INFO, MOVESCU, Log, Progress
from fastmove.cli.movescu.options import Arguments
from fastmove.cli.movescu.query import Query
from fastmove.dictionary import Dictionary
from fastmove.dimse.move import Evidence, Judgement, MoveOutcome
from fastmove.net.accepted import MID_MESSAGE
from fastmove.net.requestor import AssociationHandle
from fastmove.notices import (
    AssociationClosed,
    AssociationOpened,
    CancelSent,
    EchoReceived,
    InstanceRefused,
    InstanceStored,
    MoveProgressed,
    Notice,
    PeerMisbehaved,
    TlsOpened,
)
from fastmove.storage.dcmtk_classes import DCMTK_PREFIXES
from fastmove.storage.options import Placing
from fastmove.ul.pdu import AAssociateRQ

_OVERWRITTEN: Final = frozenset((Placing.SAME.value, Placing.REPLACED.value))


class Console:
    """The log lines of one run, without those at DEBUG."""

    _debugging: ClassVar = False

    def __init__(self, log: Log, arguments: Arguments) -> None:
        self._log = log
        self._arguments = arguments
        self._progress = Progress() if log.shows_progress else None
        self._tells_objects = log.enabled(MOVESCU, INFO)
        self._established: set[int] = set()
        self._responses = 0

    # ------------------------------------------------------------------ the outgoing association

    def requesting(self, request: AAssociateRQ) -> None:
        """The A-ASSOCIATE-RQ goes out."""
        self.limited()
        self._log.info(MOVESCU, messages.REQUESTING_ASSOCIATION)

    def accepted(self, association: AssociationHandle) -> None:
        """The peer accepted."""
        answer = association.connection.answer
        length = answer.user_information.maximum_length if answer is not None else None
        self._log.info(MOVESCU, messages.association_accepted(length))

    def moving(self, message_id: int, query: Query, dictionary: Dictionary) -> None:
        """A C-MOVE-RQ goes out."""
        self._responses = 0
        if self._log.enabled(MOVESCU, INFO):
            self._sending(message_id)
            self._log.info(MOVESCU, messages.REQUEST_IDENTIFIERS + "\n".join(query.dump(dictionary)))

    def _sending(self, message_id: int) -> None:
        self._log.info(MOVESCU, messages.sending_move_request(message_id, debugging=self._debugging))

    def moved(self, outcome: MoveOutcome) -> None:
        """The final response has come."""
        log = self._log
        if outcome.status is None:
            log.error(MOVESCU, messages.MOVE_REQUEST_FAILED + conditions.NO_STATUS)
            log.error(MOVESCU, messages.MOVE_SCU_FAILED + conditions.NO_STATUS)
            return
        status = outcome.status
        text = messages.bad_status(status)
        if text is not None:
            log.warn(MOVESCU, text)
        log.info(MOVESCU, messages.received_move_response(0, status, debugging=self._debugging))

    def judged(self, judgement: Judgement, evidence: Evidence, code: int) -> None:
        """A move that DCMTK's movescu takes for a success is none."""
        text = messages.why_no_success(judgement, evidence)
        if code and text:
            self._log.error(MOVESCU, f"{text} (exit code {code})")

    def limited(self) -> None:
        """An association is made with our maximum length: say so if it is not the one that was asked for."""
        odd = self._arguments.max_pdu_length
        if odd & 1:
            self._log.warn(DCMNET, messages.ODD_PDV_LENGTH.format(odd, odd - 1))

    def odd(self, text: str) -> None:
        """Something of a message that is odd."""
        titles = self._arguments.calling_ae_title, self._arguments.called_ae_title
        self._log.warn(DCMNET, messages.dimse_warning(*titles, text))

    # ------------------------------------------------------------------ notices

    def notify(self, notice: Notice) -> None:
        """Anything but stored objects."""
        log = self._log
        if isinstance(notice, MoveProgressed):
            self._progressed()
        elif isinstance(notice, AssociationOpened):
            self._established.add(notice.association)
            self._opened(notice.max_pdu_length, notice.contexts)
        elif isinstance(notice, AssociationClosed):
            self._established.discard(notice.association)
        elif isinstance(notice, EchoReceived):
            self._echoed(notice.message_id)
        elif isinstance(notice, InstanceRefused):
            self._refused(notice)
        elif isinstance(notice, CancelSent):
            log.info(MOVESCU, messages.sending_cancel_request(notice.message_id, notice.context_id))
        elif isinstance(notice, PeerMisbehaved):
            self._misbehaved(notice)
        elif isinstance(notice, TlsOpened):
            log.debug(DCMNET, messages.tls_opened(notice.version, notice.cipher, notice.fingerprint))

    def _progressed(self) -> None:
        self._responses += 1
        text = messages.received_move_response(self._responses, messages.PENDING, debugging=self._debugging)
        self._log.info(MOVESCU, text)

    def _opened(self, max_pdu_length: int | None, contexts: int) -> None:
        self.limited()
        self._log.info(MOVESCU, messages.SUB_ASSOCIATION_RECEIVED)
        self._acknowledged(max_pdu_length, contexts)

    def _acknowledged(self, max_pdu_length: int | None, contexts: int) -> None:
        self._log.info(MOVESCU, messages.sub_association_acknowledged(max_pdu_length))
        if not contexts:
            self._log.info(MOVESCU, messages.NO_VALID_CONTEXT)

    def _echoed(self, message_id: int) -> None:
        self._log.info(MOVESCU, messages.received_echo_request(message_id, debugging=self._debugging))

    def stored(self, notice: InstanceStored) -> None:
        """An object is in place."""
        self._received(notice)
        if not self._arguments.bit_preserving and notice.placing in _OVERWRITTEN:
            self._log.warn(MOVESCU, messages.OVERWRITING + notice.path)

    def _received(self, notice: InstanceStored | InstanceRefused) -> None:
        if self._tells_objects:
            self._requested(notice.message_id, notice.sop_class_uid)
        if self._progress is not None:
            self._progress.begin()
            self._progress.fragments(notice.fragments)
            self._progress.end()

    def _requested(self, message_id: int, sop_class_uid: str) -> None:
        modality = DCMTK_PREFIXES.get(sop_class_uid, "OT")
        text = messages.received_store_request(message_id, modality, debugging=self._debugging)
        self._log.info(MOVESCU, text)

    def _refused(self, notice: InstanceRefused) -> None:
        self._received(notice)
        if notice.event.startswith("fs.") or notice.event == "store.empty":
            self._log.error(MOVESCU, messages.CANNOT_WRITE + notice.path)
        elif notice.event == "store.no_uid_in_ds":
            self._log.fatal(MOVESCU, messages.BAD_DICOM_FILE)

    def _misbehaved(self, notice: PeerMisbehaved) -> None:
        log = self._log
        if notice.event == "move.pending_detail":
            self.odd(messages.PENDING_WITH_DETAIL)
        elif notice.event == "move.pending_dataset":
            self.odd(messages.PENDING_WITH_DATASET)
            self.odd(messages.PENDING_READ if self._arguments.read_pending_identifiers else messages.PENDING_IGNORED)
        elif notice.event == "tls.own_certificate":
            log.warn(DCMNET, messages.OWN_CERTIFICATE + notice.detail)
        elif notice.event.startswith("tls."):
            log.error(MOVESCU, conditions.tls(notice.event, notice.detail))
        elif notice.association not in self._established:
            if notice.event in conditions.CALLERS:
                log.error(MOVESCU, conditions.of_caller(notice.event, notice.detail))
        elif notice.event in conditions.BETWEEN_OBJECTS and not notice.detail.endswith(MID_MESSAGE):
            pass
        elif notice.event in conditions.MID_OBJECT:
            log.error(MOVESCU, messages.STORE_FAILED + conditions.MID_OBJECT[notice.event])
        elif notice.event == "dimse.unexpected_rsp":
            log.error(MOVESCU, messages.UNEXPECTED_COMMAND + notice.detail.removeprefix("command field "))
            log.error(MOVESCU, messages.SUB_ASSOCIATION_FAILED + conditions.BAD_COMMAND)
        elif notice.event in conditions.FAULTS:
            condition = conditions.fault(notice.event, notice.detail)
            if notice.event in conditions.IN_STORE:
                log.error(MOVESCU, messages.STORE_FAILED + condition)
            log.error(MOVESCU, messages.SUB_ASSOCIATION_FAILED + condition)
