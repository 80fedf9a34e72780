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


class Query(Value):
    """Keys of a C-FIND, and its level; what it finds is wanted as a whole."""

    keys: tuple[str, ...]
    """`AccessionNumber=A1`, `StudyDate=20240101-20241231`, ..."""

    level: str = "STUDY"


class Selection(Value):
    """Everything that one run is to retrieve; what is named twice is retrieved once."""

    wanted: tuple[Wanted, ...] = ()
    queries: tuple[Query, ...] = ()
