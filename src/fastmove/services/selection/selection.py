"""What is to be retrieved: studies, series and instances by UID, or queries that find them (PS3.4 C.4)."""

from __future__ import annotations

from fastmove.values import Value


class Wanted(Value):
    """A study; or a series of it; or instances of that series."""

    study_instance_uid: str
    series_instance_uid: str = ""
    sop_instance_uids: tuple[str, ...] = ()
    patient_id: str = ""
    """Where it is known: the patient root model needs it."""

    told: tuple[tuple[str, str], ...] = ()
    """What the PACS said of it, by keyword, if somebody wanted to know (`resolve`)."""

    failures: int = 0
    """How often in a row the PACS has failed over it before: it is asked for in parts, which are the smaller."""

    @property
    def level(self) -> str:
        """Query/Retrieve Level."""
        return "IMAGE" if self.sop_instance_uids else "SERIES" if self.series_instance_uid else "STUDY"


class Query(Value):
    """Keys of a C-FIND, and its level; what it finds is wanted as a whole."""

    keys: tuple[str, ...]
    """`AccessionNumber=A1`, `StudyDate=20240101-20241231`, ..."""

    level: str = "STUDY"


class Worklist(Value):
    """A table or a list that says what is to be retrieved, as `worklist` reads it."""

    name: str
    """That of the file, for messages."""

    data: bytes
    columns: tuple[str, ...] = ()
    """`study=NAME`, `NAME`, or `study` of a list without a header; empty: as the header says."""

    filters: tuple[str, ...] = ()
    """Keys that a study must match, too: then all its rows are queries."""

    secret = frozenset(("data",))


class Selection(Value):
    """Everything that one run is to retrieve; what is named twice is retrieved once."""

    wanted: tuple[Wanted, ...] = ()
    queries: tuple[Query, ...] = ()
    worklists: tuple[Worklist, ...] = ()


class Once:
    """Tells what is new from what has been before; 16 bytes of each are kept, as there may be millions."""

    def __init__(self) -> None:
        from hashlib import blake2b  # it brings OpenSSL, which takes 7 ms

        self._known: set[bytes] = set()
        self._hash = blake2b

    def __len__(self) -> int:
        return len(self._known)

    def __contains__(self, parts: tuple[str, ...]) -> bool:
        return self._digest(parts) in self._known

    def is_new(self, *parts: str) -> bool:
        """True the first time."""
        before = len(self._known)
        self._known.add(self._digest(parts))
        return len(self._known) > before

    def _digest(self, parts: tuple[str, ...]) -> bytes:
        return self._hash("\0".join(parts).encode("utf-8", "surrogatepass"), digest_size=16).digest()
