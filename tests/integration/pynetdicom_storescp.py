"""A pynetdicom storage SCP in a process of its own: AE title, port, directory."""

from __future__ import annotations

import sys
from pathlib import Path

from pydicom.uid import AllTransferSyntaxes
from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]


def store(event: evt.Event, directory: Path) -> int:
    """Write preamble, file meta and the data set bytes as received."""
    path = directory / f"{event.request.AffectedSOPInstanceUID}.dcm"
    path.write_bytes(event.encoded_dataset())
    return 0


def main(ae_title: str, port: str, directory: str) -> None:
    """Serve until killed."""
    ae = AE(ae_title)
    for context in AllStoragePresentationContexts:
        ae.add_supported_context(context.abstract_syntax, list(AllTransferSyntaxes))
    ae.add_supported_context(Verification)
    ae.maximum_pdu_size = 131072
    ae.start_server(("127.0.0.1", int(port)), evt_handlers=[(evt.EVT_C_STORE, store, [Path(directory)])])


if __name__ == "__main__":
    main(*sys.argv[1:])
