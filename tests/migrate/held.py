"""What an archive holds, found out without fastmove: from an Orthanc by its REST interface, and from files.

Two objects are alike if all of their elements are: however the lengths of sequences are written, and values padded.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import threading
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, Final, NamedTuple

import pydicom
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from tests.integration.peers import HOST, Orthanc

AT_ONCE: Final = 4
_BINARY: Final = frozenset(
    ("AT", "FD", "FL", "OB", "OD", "OF", "OL", "OV", "OW", "SL", "SS", "SV", "UL", "UN", "US", "UV")
)
_PADDING: Final = b" \0"
_VR_OF_PIXELS: Final = "OB or OW"
"""Encapsulated pixels are OB, and makers write OW; DCMTK, that is Orthanc, puts that right (PS3.5 A.4)."""
_PIXEL_DATA: Final = Tag(0x7FE0, 0x0010)
_DECODED: Final = (Tag(0x0008, 0x0005), Tag(0x0028, 0x0103))
"""What pydicom may have decoded already, as others depend on it."""
_DATA_SET_TRAILING_PADDING: Final = Tag(0xFFFC, 0xFFFC)


class Held(NamedTuple):
    """An object: where it belongs, what it is, and the digest of all of its elements."""

    study: str
    series: str
    sop_class: str
    transfer_syntax: str
    elements: str


def held(content: bytes) -> tuple[str, Held]:
    """The SOP Instance UID of a Part 10 file, and the object."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # makers write what they like
        dataset = pydicom.dcmread(BytesIO(content))
        digest = hashlib.sha256()
        _add(dataset, digest)
        study, series, sop_class = dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.SOPClassUID
    syntax = dataset.file_meta.TransferSyntaxUID
    return str(dataset.SOPInstanceUID), Held(str(study), str(series), str(sop_class), str(syntax), digest.hexdigest())


def _add(dataset: Dataset, digest: Any) -> None:
    """Every element in its order: tag, VR and value; of a sequence the items."""
    for tag in sorted(dataset.keys()):
        if tag.element == 0 or tag == _DATA_SET_TRAILING_PADDING:
            continue  # of these nobody need keep anything (PS3.5 7.2, PS3.10 7.2)
        element = dataset.get_item(tag)
        vr = element.VR or (dictionary_VR(tag) if dictionary_has_tag(tag) else "UN")
        digest.update(f"{tag:08x} {_VR_OF_PIXELS if tag == _PIXEL_DATA else vr} ".encode())
        if vr == "SQ":
            for item in dataset[tag].value:
                digest.update(b"item ")
                _add(item, digest)
            digest.update(b"end ")
        elif tag in _DECODED:
            digest.update(str(dataset[tag].value).encode())
        else:
            value = element.value or b""
            digest.update(value if vr in _BINARY else value.rstrip(_PADDING))


class Rest:
    """The REST interface of an Orthanc; threads may share it."""

    def __init__(self, orthanc: Orthanc) -> None:
        self._port = orthanc.http_port
        self._local = threading.local()
        self._connections: list[http.client.HTTPConnection] = []

    def close(self) -> None:
        for each in self._connections:
            each.close()

    def content(self, path: str, body: bytes | None = None) -> bytes:
        """What it answers, to GET or, with a body, to POST."""
        if not hasattr(self._local, "connection"):
            self._local.connection = http.client.HTTPConnection(HOST, self._port, timeout=60)
            self._connections.append(self._local.connection)
        connection = self._local.connection
        connection.request("GET" if body is None else "POST", path, body)
        answer = connection.getresponse()
        content: bytes = answer.read()
        assert answer.status == 200, (path, answer.status, content)
        return content

    def json(self, path: str, body: bytes | None = None) -> Any:
        return json.loads(self.content(path, body))


@contextmanager
def rest(orthanc: Orthanc) -> Iterator[Rest]:
    """Its REST interface, as long as the block lasts."""
    made = Rest(orthanc)
    try:
        yield made
    finally:
        made.close()


def upload(orthanc: Orthanc, paths: Iterable[Path]) -> None:
    """Have it store files as they are; each has to be new to it."""
    with rest(orthanc) as asked, ThreadPoolExecutor(AT_ONCE) as pool:
        answers = pool.map(lambda path: asked.json("/instances", path.read_bytes())["Status"], paths)
        assert set(answers) == {"Success"}


def statistics(orthanc: Orthanc) -> dict[str, int]:
    """How many patients, studies, series and instances it has."""
    with rest(orthanc) as asked:
        answer = asked.json("/statistics")
        return {name: answer[f"Count{name}"] for name in ("Patients", "Studies", "Series", "Instances")}


def counted(orthanc: Orthanc) -> dict[str, int]:
    """Study Instance UID → instances."""
    with rest(orthanc) as asked:
        return {
            each["MainDicomTags"]["StudyInstanceUID"]: asked.json(f"/studies/{each['ID']}/statistics")["CountInstances"]
            for each in asked.json("/studies?expand")
        }


def present(orthanc: Orthanc) -> set[str]:
    """The SOP Instance UIDs of all that it has."""
    with rest(orthanc) as asked:
        return {each["MainDicomTags"]["SOPInstanceUID"] for each in asked.json("/instances?expand")}


def files(orthanc: Orthanc) -> Iterator[bytes]:
    """All that it has, as Part 10 files."""
    with rest(orthanc) as asked, ThreadPoolExecutor(AT_ONCE) as pool:
        yield from pool.map(asked.content, [f"/instances/{each}/file" for each in asked.json("/instances")])
