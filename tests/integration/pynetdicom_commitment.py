"""pynetdicom for storage commitment, in a process of its own: as SCP or as SCU.

Arguments: `scp` AET PORT FOLDER, or `scu` AET HOST PORT OWN-PORT UIDS.

The SCP stores, and reports over the association of the request; what has a UID that ends in .2 fails.  The SCU asks
for objects, and writes what it is told as JSON once a report has come: to its own listener, or over its association.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import AllTransferSyntaxes, generate_uid
from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.sop_class import StorageCommitmentPushModel, Verification  # type: ignore[attr-defined]
from pynetdicom_reactor import mended_ae

INSTANCE = "1.2.840.10008.1.20.1.1"
REPORT_S = 20.0


def store(event: evt.Event, directory: Path) -> int:
    """Write what came."""
    (directory / f"{event.request.AffectedSOPInstanceUID}.dcm").write_bytes(event.encoded_dataset())
    return 0


def commit(event: evt.Event, directory: Path, waiting: list[Dataset]) -> tuple[int, None]:
    """Take a request; the report follows the response."""
    asked = event.action_information
    report = Dataset()
    report.TransactionUID = asked.TransactionUID
    report.ReferencedSOPSequence, report.FailedSOPSequence = [], []
    for item in asked.ReferencedSOPSequence:
        uid = item.ReferencedSOPInstanceUID
        if uid.endswith(".2") or not (directory / f"{uid}.dcm").exists():
            item.FailureReason = 0x0112
            report.FailedSOPSequence.append(item)
        else:
            report.ReferencedSOPSequence.append(item)
    waiting.append(report)
    return 0, None


def answered(event: evt.Event, waiting: list[Dataset]) -> None:
    """The response has gone: now the report, from a thread, as this one has to read what is said to it."""
    if waiting and type(event.pdu).__name__ == "P_DATA_TF":
        report = waiting.pop()
        event_type = 2 if report.FailedSOPSequence else 1
        arguments = (report, event_type, StorageCommitmentPushModel, INSTANCE)
        threading.Thread(target=event.assoc.send_n_event_report, args=arguments).start()


def scp(ae_title: str, port: str, directory: str) -> None:
    """Serve until killed."""
    ae = AE(ae_title)
    for context in AllStoragePresentationContexts:
        ae.add_supported_context(context.abstract_syntax, list(AllTransferSyntaxes))
    ae.add_supported_context(Verification)
    ae.add_supported_context(StorageCommitmentPushModel)
    waiting: list[Dataset] = []
    handlers: list[Any] = [
        (evt.EVT_C_STORE, store, [Path(directory)]),
        (evt.EVT_N_ACTION, commit, [Path(directory), waiting]),
        (evt.EVT_PDU_SENT, answered, [waiting]),
    ]
    ae.start_server(("127.0.0.1", int(port)), evt_handlers=handlers)


def scu(ae_title: str, host: str, port: str, own_port: str, *uids: str) -> None:
    """Ask for CT images, wait for the report, and say what it says."""
    come, said = threading.Event(), {}

    def reported(event: evt.Event) -> tuple[int, None]:
        report = event.event_information
        said["event_type"] = event.event_type
        said["own_association"] = event.assoc is association
        for name in ("ReferencedSOPSequence", "FailedSOPSequence"):
            said[name] = {item.ReferencedSOPInstanceUID: item.get("FailureReason", 0) for item in report.get(name, [])}
        return 0, None

    def sent(event: evt.Event) -> None:
        """Before our response is on its way, pynetdicom must not be told to release."""
        if "FailedSOPSequence" in said and type(event.pdu).__name__ == "P_DATA_TF":
            come.set()

    ae = mended_ae("PYNETDICOM")
    ae.add_requested_context(StorageCommitmentPushModel)
    ae.add_supported_context(StorageCommitmentPushModel, scu_role=False, scp_role=True)
    handlers: list[Any] = [(evt.EVT_N_EVENT_REPORT, reported), (evt.EVT_PDU_SENT, sent)]
    ae.start_server(("127.0.0.1", int(own_port)), block=False, evt_handlers=handlers)
    association = ae.associate(host, int(port), ae_title=ae_title, evt_handlers=handlers)
    asked = Dataset()
    asked.TransactionUID = generate_uid()
    asked.ReferencedSOPSequence = []
    for uid in uids:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", uid
        asked.ReferencedSOPSequence.append(item)
    status, _ = association.send_n_action(asked, 1, StorageCommitmentPushModel, INSTANCE)
    said["status"] = status.get("Status")
    if said["status"] == 0:
        come.wait(REPORT_S)
    print(json.dumps(said), flush=True)
    os._exit(0)  # without A-RELEASE, in which pynetdicom may wait for ever after it was reported to


if __name__ == "__main__":
    {"scp": scp, "scu": scu}[sys.argv[1]](*sys.argv[2:])
