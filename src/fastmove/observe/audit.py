"""Audit messages of PS3.15 A.5: what was transferred between whom, by study; and who was turned away.

A receiver says 110102 when the first object of a study is in place on an association, and 110104 when that is over: one
for what was created, what was there already, what was altered, and one for what was refused (A.5.2).
"""

from __future__ import annotations

import base64
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, NamedTuple

from fastmove.limits import AE_TITLE_BYTES, MAX_AUDIT_STUDIES, MAX_AUDITED_REFUSALS, UID_BYTES
from fastmove.notices import (
    AssociationClosed,
    AssociationOpened,
    InstanceRefused,
    InstanceStored,
    Notice,
    PeerMisbehaved,
    level,
)
from fastmove.observe.columns import Level, escaped
from fastmove.observe.log import Repetition
from fastmove.values import Value

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element


class Code(NamedTuple):
    """A code of PS3.16 CID 400 to 404, with its system."""

    value: str
    meaning: str
    system: str = "DCM"


BEGIN_TRANSFERRING: Final = Code("110102", "Begin Transferring DICOM Instances")
INSTANCES_TRANSFERRED: Final = Code("110104", "DICOM Instances Transferred")
SECURITY_ALERT: Final = Code("110113", "Security Alert")
NODE_AUTHENTICATION: Final = Code("110126", "Node Authentication")
RECORDING_STOPPED: Final = Code("110133", "Audit Recording Stopped")
_DESTINATION: Final = Code("110152", "Destination Role ID")
_SOURCE: Final = Code("110153", "Source Role ID")
_STUDY_UID: Final = Code("110180", "Study Instance UID")
_NODE_ID: Final = Code("110182", "Node ID")
_PATIENT_NUMBER: Final = Code("2", "Patient Number", "RFC-3881")

CREATED: Final = "C"
READ: Final = "R"
UPDATED: Final = "U"
EXECUTED: Final = "E"

SUCCESS: Final = "0"
MINOR_FAILURE: Final = "4"
SERIOUS_FAILURE: Final = "8"

ACTIONS: Final = {"new": CREATED, "beside": CREATED, "same": READ, "skipped": READ, "replaced": UPDATED}
"""What was done to the objects that the receiver holds (A.5.3.7), by the placing of the new one."""

ALERTS: Final = frozenset(("conn.denied", "rq.calling_ae", "rq.host"))
"""Events that are reported as a security alert; so is every one of `tls` that is a warning."""

UNKNOWN_STUDY: Final = "unknown"
"""In place of the UID: an object that is refused is not kept, and nothing of it looked at."""

NOT_RECORDED: Final = "not recorded"
"""In place of the patient's ID: the message has to name one patient, and we were not told to."""

_APPLICATION_SERVER: Final = "4"
_SYSTEM_OBJECT: Final = "2"
_REPORT: Final = "3"
_SECURITY_RESOURCE: Final = "13"
_PERSON: Final = "1"
_PATIENT: Final = "1"
_MACHINE_NAME: Final = "1"
_IP_ADDRESS: Final = "2"


class Source(Value):
    """Who reports: the process, its AE title, its host, and the name of this source of messages."""

    ae_title: str
    host: str
    source_id: str
    we_ask: bool = False
    """True if it is us who has the objects sent."""


class _Peer(NamedTuple):
    ae_title: str
    host: str


class _Group(NamedTuple):
    """What one message is about."""

    study: str
    patient: str
    action: str
    outcome: str


class _Transfer:
    """What an association has brought so far."""

    def __init__(self, peer: _Peer) -> None:
        self.peer = peer
        self.begun: set[str] = set()
        self.stored: dict[_Group, Counter[str]] = {}
        self.refused: dict[_Group, Counter[str]] = {}
        self.instances: dict[_Group, dict[str, list[str]]] = {}
        self.reasons: dict[_Group, dict[str, None]] = {}
        self.originator = ""


class AuditTrail:
    """An observer that sends audit messages, each a line of XML; `stored` is told of objects, with their studies."""

    def __init__(self, send: Callable[[str], None], source: Source, now: Callable[[], float] = time.time) -> None:
        self._send = send
        self._source = source
        self._now = now
        self._transfers: dict[int, _Transfer] = {}
        self._lock = threading.Lock()
        self._repetition = Repetition()

    def __call__(self, notice: Notice) -> None:
        """Take note; at its end the messages of an association are sent."""
        if isinstance(notice, AssociationOpened):
            self._transfers[notice.association] = _Transfer(_Peer(notice.calling_ae_title, notice.host))
        elif isinstance(notice, AssociationClosed):
            if (transfer := self._transfers.pop(notice.association, None)) is not None:
                self._end(transfer)
        elif isinstance(notice, InstanceRefused):
            self._refused(notice)
        elif isinstance(notice, PeerMisbehaved) and _is_alert(notice.event):
            with self._lock:
                through = self._repetition.lets_through(Level.WARNING, notice.event, notice.host, time.monotonic())
            if through:
                self._alert(_Peer(notice.calling_ae_title, notice.host), f"{notice.event}: {notice.detail}")

    def stored(self, notice: InstanceStored, study: str, patient: str = NOT_RECORDED) -> None:
        """An object of a study is in place."""
        transfer = self._transfers.get(notice.association)
        over = transfer is None  # it was made durable when the association had gone
        if transfer is None:
            transfer = _Transfer(_Peer(notice.calling_ae_title, ""))
        transfer.originator = notice.move_originator_ae_title or transfer.originator
        study = study if _is_uid(study) else UNKNOWN_STUDY
        group = _Group(study, patient or NOT_RECORDED, ACTIONS[notice.placing], SUCCESS)
        if group.study not in transfer.begun:
            if len(transfer.begun) >= MAX_AUDIT_STUDIES:
                self._end(transfer)
            transfer.begun.add(group.study)
            classes = Counter({notice.sop_class_uid: 1})
            begun = group._replace(action=EXECUTED)
            self._send(self._transferring(BEGIN_TRANSFERRING, transfer, begun, classes))
        transfer.stored.setdefault(group, Counter())[notice.sop_class_uid] += 1
        if over:
            self._end(transfer)

    def close(self) -> None:
        """Nothing more comes: say what became of associations that are not over, and what was held back."""
        for transfer in self._transfers.values():
            self._end(transfer)
        self._transfers.clear()
        self.tick(float("inf"))

    def tick(self, now: float) -> float | None:
        """Say what was held back, by the monotonic clock; the time to do so again."""
        with self._lock:
            held_back = self._repetition.due(now)
            due = self._repetition.next_due()
        for _, event, host, number in held_back:
            self._alert(_Peer("", host), f"{event}: {number} more")
        return due

    def lost(self, number: int) -> str:
        """The message that says how many others were lost."""
        event = self._event(SECURITY_ALERT, EXECUTED, SERIOUS_FAILURE, RECORDING_STOPPED)
        us = self._us(requestor=False)
        return self._message(event, [us], _subject(self._source.host, "", f"{number} audit messages were lost"))

    # ------------------------------------------------------------------ what is known of an association

    def _refused(self, notice: InstanceRefused) -> None:
        outcome = SERIOUS_FAILURE if notice.event.startswith("fs.") else MINOR_FAILURE
        transfer = self._transfers.get(notice.association)
        over = transfer is None
        if transfer is None:
            transfer = _Transfer(_Peer("", ""))
        group = _Group(UNKNOWN_STUDY, NOT_RECORDED, CREATED, outcome)
        transfer.refused.setdefault(group, Counter())[notice.sop_class_uid] += 1
        transfer.reasons.setdefault(group, {})[notice.event] = None
        named = transfer.instances.setdefault(group, {})
        # What is no UID is text, and may be anything, such as the name of a patient.
        if _is_uid(notice.sop_instance_uid) and sum(map(len, named.values())) < MAX_AUDITED_REFUSALS:
            named.setdefault(notice.sop_class_uid, []).append(notice.sop_instance_uid)
        if over:
            self._end(transfer)

    def _end(self, transfer: _Transfer) -> None:
        for group, classes in (*transfer.stored.items(), *transfer.refused.items()):
            self._send(self._transferring(INSTANCES_TRANSFERRED, transfer, group, classes))
        for known in (transfer.begun, transfer.stored, transfer.refused, transfer.instances, transfer.reasons):
            known.clear()

    # ------------------------------------------------------------------ messages

    def _transferring(self, code: Code, transfer: _Transfer, group: _Group, classes: Counter[str]) -> str:
        we_ask = self._source.we_ask
        named = transfer.instances.get(group, {})
        event = self._event(code, group.action, group.outcome, reasons=transfer.reasons.get(group, ()))
        participants = [
            _participant(transfer.peer.host, transfer.peer.ae_title, transfer.peer.host, not we_ask, _SOURCE),
            self._us(requestor=we_ask, role=_DESTINATION),
        ]
        if not we_ask and transfer.originator:  # a third party, by whose C-MOVE they were sent
            participants.append(_participant(transfer.originator, transfer.originator, "", True, None))
        return self._message(event, participants, _study(group.study, classes, named), _patient(group.patient))

    def _alert(self, peer: _Peer, text: str) -> None:
        event = self._event(SECURITY_ALERT, EXECUTED, MINOR_FAILURE, NODE_AUTHENTICATION)
        them = _participant(peer.host, peer.ae_title, peer.host, False, None)
        subject = _subject(peer.host, peer.ae_title, text)
        self._send(self._message(event, [self._us(requestor=False), them], subject))

    def _event(
        self, code: Code, action: str, outcome: str, kind: Code | None = None, reasons: Iterable[str] = ()
    ) -> Element:
        when = self._now()
        text = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(when))}.{int(when % 1 * 1000):03d}Z"
        event = _element(
            "EventIdentification", EventActionCode=action, EventDateTime=text, EventOutcomeIndicator=outcome
        )
        event.append(_coded("EventID", code))
        if kind is not None:
            event.append(_coded("EventTypeCode", kind))
        if why := ", ".join(reasons):
            event.append(_element("EventOutcomeDescription", text=why))
        return event

    def _us(self, *, requestor: bool, role: Code | None = None) -> Element:
        source = self._source
        return _participant(str(os.getpid()), source.ae_title, source.host, requestor, role)

    def _message(self, event: Element, participants: Iterable[Element], *objects: Element) -> str:
        from xml.etree.ElementTree import tostring

        origin = _element("AuditSourceIdentification", AuditSourceID=self._source.source_id)
        origin.append(_element("AuditSourceTypeCode", **{"csd-code": _APPLICATION_SERVER}))
        message = _element("AuditMessage")
        message.extend((event, *participants, origin, *objects))
        return tostring(message, encoding="unicode")


def _is_alert(event: str) -> bool:
    return event in ALERTS or (event.startswith("tls.") and level(event) != "I")


def _is_uid(text: str) -> bool:
    """True for digits and points, as PS3.5 9.1 has it; what a peer says in place of one may be anything."""
    return 0 < len(text) <= UID_BYTES and text.isascii() and text.replace(".", "").isdigit()


def _element(name: str, text: str | None = None, **attributes: str) -> Element:
    from xml.etree.ElementTree import Element  # for those who keep a trail

    element = Element(name, attributes)
    element.text = text
    return element


def _coded(name: str, code: Code) -> Element:
    names = {"csd-code": code.value, "codeSystemName": code.system, "originalText": code.meaning}
    return _element(name, **names)


def _participant(user: str, ae_title: str, host: str, requestor: bool, role: Code | None) -> Element:
    """An active participant (A.5.2): a node by its address, the process that reports by its number."""
    element = _element("ActiveParticipant", UserID=escaped(user) or "unknown")
    if title := escaped(ae_title[:AE_TITLE_BYTES]):
        element.set("AlternativeUserID", f"AETITLES={title}")
    element.set("UserIsRequestor", "true" if requestor else "false")
    if host:
        address = ":" in host or host.replace(".", "").isdigit()
        element.set("NetworkAccessPointID", escaped(host))
        element.set("NetworkAccessPointTypeCode", _IP_ADDRESS if address else _MACHINE_NAME)
    if role is not None:
        element.append(_coded("RoleIDCode", role))
    return element


def _object(kind: str, role: str, code: Code, identifier: str, name: str) -> Element:
    element = _element(
        "ParticipantObjectIdentification",
        ParticipantObjectID=identifier,
        ParticipantObjectTypeCode=kind,
        ParticipantObjectTypeCodeRole=role,
    )
    element.append(_coded("ParticipantObjectIDTypeCode", code))
    element.append(_element("ParticipantObjectName", text=name))
    return element


def _study(uid: str, classes: Counter[str], instances: dict[str, list[str]]) -> Element:
    element = _object(_SYSTEM_OBJECT, _REPORT, _STUDY_UID, uid, uid)
    description = _element("ParticipantObjectDescription")
    for name, count in sorted(classes.items()):
        sop_class = _element("SOPClass", **{"UID": name} if _is_uid(name) else {}, NumberOfInstances=str(count))
        for instance in instances.get(name, ()):
            sop_class.append(_element("Instance", UID=instance))
        description.append(sop_class)
    element.append(description)
    return element


def _patient(identifier: str) -> Element:
    return _object(_PERSON, _PATIENT, _PATIENT_NUMBER, escaped(identifier), NOT_RECORDED)


def _subject(host: str, ae_title: str, text: str) -> Element:
    name = escaped(ae_title[:AE_TITLE_BYTES]) or "unknown"
    element = _object(_SYSTEM_OBJECT, _SECURITY_RESOURCE, _NODE_ID, escaped(host) or "unknown", name)
    said = base64.b64encode(escaped(text, 256).encode("ascii")).decode("ascii")
    element.append(_element("ParticipantObjectDetail", type="Alert Description", value=said))
    return element
