"""How a PACS carries out its operations: as PS3.4 has it, or as somebody wants it to go wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from typing import Protocol

from fastmove.net.requestor import Through as Through
from fastmove.storage.filemeta import DicomFile
from fastmove.values import Value

Originator = tuple[str, int]
"""Move Originator: AE title and Message ID (PS3.7 9.1.1.1)."""


Turn = Callable[[], AbstractAsyncContextManager[None]]


class MovePlan(Value):
    """How a C-MOVE is carried out; the defaults are what PS3.4 C.4.2 asks for."""

    originator: Originator | None
    """What its sub-operations say of where they come from."""

    unsent: frozenset[str] = frozenset()
    """SOP Instance UIDs of sub-operations that are counted as completed, and not performed."""

    failing: frozenset[str] = frozenset()
    """Those of sub-operations that are counted as failed, and not performed."""

    unreadable: frozenset[str] = frozenset()
    """Those at which the C-MOVE ends with C000: the sub-operations that would follow are not performed either."""

    told: Callable[[dict[str, int]], dict[str, int]] | None = None
    """What responses say of the counters of sub-operations, given what is true."""

    answer_first: bool = False
    """The final response comes before the first sub-operation, and counts all of them."""

    first_delay_s: float = 0.0
    """Before the first sub-operation."""

    turn: Turn | None = None
    """Each is performed within one, which may have to be waited for, and may take its time; None: at once."""

    set_up_s: float = 0.0
    """Before each association to the destination."""

    through: Callable[[], Through] | None = None
    """What the pieces of an object go through, made for each; None: as fast as may be."""

    association_per_object: bool = False
    """None is used for a second object."""

    break_after: int | None = None
    """The association that asked for the move is ended after so many sub-operations."""

    break_by_closing: bool = False
    """Without A-ABORT."""

    goes_on: bool = False
    """The other sub-operations are performed all the same (PS3.4 C.4.2.3 leaves that open)."""


class CommitmentPlan(Value):
    """How a request for storage commitment is carried out; the defaults are what PS3.4 J.3 asks for."""

    failing: frozenset[str] = frozenset()
    """SOP Instance UIDs that are reported as not there."""

    reports: bool = True
    """There is a report."""

    delay_s: float = 0.0
    """Before it."""

    same_association: bool = False
    """It goes over the association of the request, while that stands."""


class Conduct(Protocol):
    """Decides how operations are carried out; its methods raise DimseError where they are refused."""

    def find(self, keys: Mapping[str, str]) -> float:
        """A C-FIND begins: the seconds before its first response."""

    def move(
        self, keys: Mapping[str, str], files: Sequence[DicomFile], originator: Originator
    ) -> AbstractContextManager[MovePlan]:
        """The plan of a C-MOVE that covers these files; the block lasts as long as the move."""

    def stored(self, file: DicomFile) -> None:
        """A destination has taken an object."""

    def commit(self, sop_instance_uids: Sequence[str]) -> CommitmentPlan:
        """The plan of a request for storage commitment."""


class Correct:
    """As the standard has it."""

    def find(self, keys: Mapping[str, str]) -> float:
        """At once."""
        return 0.0

    def move(
        self, keys: Mapping[str, str], files: Sequence[DicomFile], originator: Originator
    ) -> AbstractContextManager[MovePlan]:
        """Every one of them."""
        return nullcontext(MovePlan(originator))

    def stored(self, file: DicomFile) -> None:
        """That is all there is to it."""

    def commit(self, sop_instance_uids: Sequence[str]) -> CommitmentPlan:
        """A report at once, over another association."""
        return CommitmentPlan()
