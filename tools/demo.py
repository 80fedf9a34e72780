"""The demonstration: a study moved from the embedded PACS to this host, and every byte compared.

PACS and retriever are processes of their own and talk over TCP; this program only starts them, and
afterwards compares each stored data set with its source by SHA-256.
"""

from __future__ import annotations

import hashlib
import json
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pydicom

from fastmove.bench.spec import Spec, write
from fastmove.storage.filemeta import DicomFile, read_file_meta

STUDY = "studies=1,series=4,instances=100,size=526k,modality=CT"
FASTMOVE = [sys.executable, "-m", "fastmove"]


def digest(file: DicomFile) -> str:
    """SHA-256 of the data set."""
    with file.path.open("rb") as stream:
        stream.seek(file.dataset_offset)
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digests(folder: Path) -> dict[str, str]:
    """SOP Instance UID → digest of the data set, of all files of a folder."""
    files = [read_file_meta(path) for path in folder.rglob("*") if path.suffix == ".dcm"]
    return {file.sop_instance_uid: digest(file) for file in files}


def free_port() -> int:
    """A port that nobody has now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def main() -> int:
    """Run it; 0 if the retrieved study is the source's, byte for byte."""
    with tempfile.TemporaryDirectory(prefix="fastmove-demo-") as scratch:
        source, incoming = Path(scratch, "pacs"), Path(scratch, "incoming")
        source.mkdir()
        paths = list(write(Spec.parse(STUDY), source))
        study = study_instance_uid(paths[0])
        print(f"the study: {len(paths)} CT images, {sum(p.stat().st_size for p in paths) / 1e6:,.1f} MB")
        port = free_port()
        serve = ["pacs", "--port", "0", "--host", "127.0.0.1", "--folder", str(source), "--json"]
        pacs = subprocess.Popen(
            [*FASTMOVE, *serve, "--move-destination", f"DEMO@127.0.0.1:{port}"], stdout=subprocess.PIPE, text=True
        )
        try:
            assert pacs.stdout is not None
            ready = json.loads(pacs.stdout.readline())
            peer = f"FASTPACS@127.0.0.1:{ready['port']}"
            print(f"the PACS:  {peer}, process {pacs.pid}", flush=True)
            ask = ["retrieve", peer, "--aet", "DEMO", "--host", "127.0.0.1", "--port", str(port)]
            retrieved = subprocess.run(
                [*FASTMOVE, *ask, "--study", study, "--to", str(incoming), "--prove"], check=False
            )
        finally:
            pacs.terminate()
            pacs.communicate()
        if retrieved.returncode:
            print(f"the retrieve failed with exit code {retrieved.returncode}")
            return retrieved.returncode
        before, after = digests(source), digests(incoming)
        same = sum(after.get(uid) == value for uid, value in before.items())
        good = same == len(before) == len(after)
        print(f"compared:  {same} of {len(before)} data sets have the digest (SHA-256) of their source")
        print("verdict:   every byte arrived" if good else "verdict:   NOT the same")
        return 0 if good else 1


def study_instance_uid(path: Path) -> str:
    """Which study a file belongs to."""
    return str(pydicom.dcmread(path, specific_tags=["StudyInstanceUID"]).StudyInstanceUID)


if __name__ == "__main__":
    sys.exit(main())
