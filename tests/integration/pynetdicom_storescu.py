"""A pynetdicom storage SCU in a process of its own: AE title, host, port, files; each is sent as it is."""

from __future__ import annotations

import sys

import pydicom
from pynetdicom import _config
from pynetdicom_reactor import mended_ae


def main(ae_title: str, host: str, port: str, *paths: str) -> int:
    """The number of files that were not answered with success."""
    _config.STORE_SEND_CHUNKED_DATASET = True  # the bytes of the file, not what pydicom makes of them
    ae = mended_ae()
    for path in paths:
        meta = pydicom.dcmread(path, specific_tags=[]).file_meta
        ae.add_requested_context(meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID)
    association = ae.associate(host, int(port), ae_title=ae_title)
    if not association.is_established:
        return len(paths)
    statuses = [association.send_c_store(path).get("Status") for path in paths]
    association.release()
    return sum(status != 0 for status in statuses)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
