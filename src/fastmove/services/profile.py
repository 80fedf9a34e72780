"""What is known of a PACS: how it answers, how much it takes.  `fastmove doctor` finds out, `retrieve` goes by it."""

from __future__ import annotations

from fastmove.values import Value


class PacsProfile(Value):
    """The habits of a PACS, as numbers and as yes or no; None where nobody knows."""

    study_root: bool | None = None
    """Its C-MOVE takes the study root model; if not, the patient root."""

    find_cap: int | None = None
    """Most matches of one C-FIND; 0: as many as there are."""

    image_level: bool | None = None
    """C-FIND at IMAGE level lists the instances of a series."""

    relational: bool | None = None
    """C-FIND at IMAGE level lists those of a whole study (PS3.4 C.4.1.2.2.1)."""

    find_uid_lists: bool | None = None
    """C-FIND at STUDY level takes several Study Instance UIDs."""

    uid_lists: bool | None = None
    """C-MOVE at IMAGE level takes several SOP Instance UIDs."""

    associations: int | None = None
    """Associations of ours that it serves at once; as many as were tried, if it may serve more."""

    association_per_object: bool | None = None
    """It opens a storage association for each object."""

    early_success: bool | None = None
    """Its final response may come before the last object."""

    counters: bool | None = None
    """Its final response counts rightly what was sent."""

    move_originator: bool | None = None
    """Its C-STORE-RQ name the C-MOVE that they belong to."""

    stalls: bool | None = None
    """Small objects of one association come a delayed acknowledgement apart."""

    max_pdu_length: int | None = None
    """What it announces, in bytes; 0: no limit."""
