"""Every DIMSE status by class and name (PS3.7 Annex C, PS3.4 Annexes B and C)."""

from __future__ import annotations

from enum import Enum
from typing import Final


class StatusClass(Enum):
    """What a status says about the operation (PS3.7 C.1 to C.5)."""

    SUCCESS = "Success"
    PENDING = "Pending"
    CANCEL = "Cancel"
    WARNING = "Warning"
    FAILURE = "Failure"


SUCCESS: Final = 0x0000
ATTRIBUTE_LIST_ERROR: Final = 0x0107
PROCESSING_FAILURE: Final = 0x0110
DUPLICATE_SOP_INSTANCE: Final = 0x0111
NO_SUCH_SOP_INSTANCE: Final = 0x0112
NO_SUCH_EVENT_TYPE: Final = 0x0113
INVALID_ARGUMENT_VALUE: Final = 0x0115
INVALID_SOP_INSTANCE: Final = 0x0117
NO_SUCH_SOP_CLASS: Final = 0x0118
CLASS_INSTANCE_CONFLICT: Final = 0x0119
MISSING_ATTRIBUTE: Final = 0x0120
MISSING_ATTRIBUTE_VALUE: Final = 0x0121
SOP_CLASS_NOT_SUPPORTED: Final = 0x0122
NO_SUCH_ACTION: Final = 0x0123
NOT_AUTHORIZED: Final = 0x0124
DUPLICATE_INVOCATION: Final = 0x0210
UNRECOGNIZED_OPERATION: Final = 0x0211
MISTYPED_ARGUMENT: Final = 0x0212
RESOURCE_LIMITATION: Final = 0x0213
OUT_OF_RESOURCES: Final = 0xA700
UNABLE_TO_CALCULATE_MATCHES: Final = 0xA701
UNABLE_TO_PERFORM_SUBOPERATIONS: Final = 0xA702
MOVE_DESTINATION_UNKNOWN: Final = 0xA801
DATA_SET_DOES_NOT_MATCH_SOP_CLASS: Final = 0xA900
IDENTIFIER_DOES_NOT_MATCH_SOP_CLASS: Final = 0xA900
COERCION_OF_DATA_ELEMENTS: Final = 0xB000
SUBOPERATIONS_COMPLETE_WITH_FAILURES: Final = 0xB000
ELEMENTS_DISCARDED: Final = 0xB006
WARNING_DATA_SET_DOES_NOT_MATCH_SOP_CLASS: Final = 0xB007
CANNOT_UNDERSTAND: Final = 0xC000
UNABLE_TO_PROCESS: Final = 0xC000
CANCEL: Final = 0xFE00
PENDING: Final = 0xFF00
PENDING_WITH_WARNING: Final = 0xFF01

Row = tuple[int, int, StatusClass, str]
"""First and last status of a range, both included; class; the standard's wording."""

_OK = StatusClass.SUCCESS
_PENDING = StatusClass.PENDING
_CANCEL = StatusClass.CANCEL
_WARNING = StatusClass.WARNING
_FAILURE = StatusClass.FAILURE

# PS3.7 Annex C, every service.
GENERAL: Final[tuple[Row, ...]] = (
    (0x0000, 0x0000, _OK, "Success"),
    (0x0001, 0x0001, _WARNING, "Requested optional attributes not supported"),
    (0x0105, 0x0105, _FAILURE, "No such attribute"),
    (0x0106, 0x0106, _FAILURE, "Invalid attribute value"),
    (0x0107, 0x0107, _WARNING, "Attribute list error"),
    (0x0110, 0x0110, _FAILURE, "Processing failure"),
    (0x0111, 0x0111, _FAILURE, "Duplicate SOP Instance"),
    (0x0112, 0x0112, _FAILURE, "No such SOP Instance"),
    (0x0113, 0x0113, _FAILURE, "No such event type"),
    (0x0114, 0x0114, _FAILURE, "No such argument"),
    (0x0115, 0x0115, _FAILURE, "Invalid argument value"),
    (0x0116, 0x0116, _WARNING, "Attribute value out of range"),
    (0x0117, 0x0117, _FAILURE, "Invalid SOP Instance"),
    (0x0118, 0x0118, _FAILURE, "No such SOP Class"),
    (0x0119, 0x0119, _FAILURE, "Class-instance conflict"),
    (0x0120, 0x0120, _FAILURE, "Missing attribute"),
    (0x0121, 0x0121, _FAILURE, "Missing attribute value"),
    (0x0122, 0x0122, _FAILURE, "Refused: SOP Class not supported"),
    (0x0123, 0x0123, _FAILURE, "No such action"),
    (0x0124, 0x0124, _FAILURE, "Refused: not authorized"),
    (0x0210, 0x0210, _FAILURE, "Duplicate invocation"),
    (0x0211, 0x0211, _FAILURE, "Unrecognized operation"),
    (0x0212, 0x0212, _FAILURE, "Mistyped argument"),
    (0x0213, 0x0213, _FAILURE, "Resource limitation"),
    (0xFE00, 0xFE00, _CANCEL, "Operation terminated due to Cancel indication"),
)

_RETRIEVE: Final[tuple[Row, ...]] = (
    (0xA701, 0xA701, _FAILURE, "Refused: out of resources, unable to calculate number of matches"),
    (0xA702, 0xA702, _FAILURE, "Refused: out of resources, unable to perform sub-operations"),
    (0xA900, 0xA9FF, _FAILURE, "Identifier does not match SOP Class"),
    (0xAA00, 0xAA00, _FAILURE, "None of the frames requested were found in the SOP Instance"),
    (0xAA01, 0xAA01, _FAILURE, "Unable to create new object for this SOP Class"),
    (0xAA02, 0xAA02, _FAILURE, "Unable to extract frames"),
    (0xAA03, 0xAA03, _FAILURE, "Time-based request received for a non-time-based original SOP Instance"),
    (0xAA04, 0xAA04, _FAILURE, "Invalid request"),
    (0xB000, 0xB000, _WARNING, "Sub-operations complete, one or more failures or warnings"),
    (0xC000, 0xCFFF, _FAILURE, "Unable to process"),
    (0xFE00, 0xFE00, _CANCEL, "Sub-operations terminated due to Cancel indication"),
    (0xFF00, 0xFF00, _PENDING, "Sub-operations are continuing"),
)

BY_SERVICE: Final[dict[str, tuple[Row, ...]]] = {
    "C-ECHO": (),
    "C-STORE": (  # PS3.4 Table B.2-1
        (0xA700, 0xA7FF, _FAILURE, "Refused: out of resources"),
        (0xA900, 0xA9FF, _FAILURE, "Error: data set does not match SOP Class"),
        (0xB000, 0xB000, _WARNING, "Coercion of data elements"),
        (0xB006, 0xB006, _WARNING, "Elements discarded"),
        (0xB007, 0xB007, _WARNING, "Data set does not match SOP Class"),
        (0xC000, 0xCFFF, _FAILURE, "Error: cannot understand"),
    ),
    "C-FIND": (  # PS3.4 Table C.4-1
        (0xA700, 0xA7FF, _FAILURE, "Refused: out of resources"),
        (0xA900, 0xA9FF, _FAILURE, "Identifier does not match SOP Class"),
        (0xC000, 0xCFFF, _FAILURE, "Unable to process"),
        (0xFE00, 0xFE00, _CANCEL, "Matching terminated due to Cancel request"),
        (0xFF00, 0xFF00, _PENDING, "Matches are continuing"),
        (0xFF01, 0xFF01, _PENDING, "Matches are continuing, one or more optional keys were not supported"),
    ),
    "C-MOVE": (  # PS3.4 Table C.4-2
        (0xA801, 0xA801, _FAILURE, "Refused: move destination unknown"),
        *_RETRIEVE,
    ),
    "C-GET": _RETRIEVE,  # PS3.4 Table C.4-3
    "N-ACTION": (),  # PS3.4 J.3.2 and J.3.3 have none of their own
    "N-EVENT-REPORT": (),
}

# What a status means that no service defines: its first digits tell (PS3.7 C.1 to C.5).
_BY_RANGE: Final[tuple[Row, ...]] = (
    (0xB000, 0xBFFF, _WARNING, "Unknown warning"),
    (0xFF00, 0xFFFF, _PENDING, "Pending"),
    (0x0000, 0xFFFF, _FAILURE, "Unknown status"),
)


def describe(status: int, service: str = "") -> tuple[StatusClass, str]:
    """Class and wording of a status (0 to FFFFH) in a service ("C-MOVE"); what is undefined is a failure."""
    for rows in (BY_SERVICE.get(service, ()), GENERAL, _BY_RANGE):
        for first, last, status_class, name in rows:
            if first <= status <= last:
                return status_class, name if rows is not _BY_RANGE else f"{name} {status:04X}H"
    raise ValueError(f"a status has 16 bits, not {status:#x}")
