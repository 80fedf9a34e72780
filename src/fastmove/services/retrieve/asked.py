"""What a retrieve has asked for, as those see it who store what comes."""

from __future__ import annotations

from fastmove.services.retrieve.correlation import Correlation
from fastmove.services.retrieve.work import Work


class Asked:
    """An object that is on the list of a move is asked for, and so is all of a study of which something is.

    A study may have grown since it was listed, and many a PACS sends all of it where a series was asked for.
    """

    def __init__(self, correlation: Correlation, work: Work) -> None:
        self._correlation = correlation
        self._work = work

    def names(self, sop_instance_uid: str) -> bool:
        """True for an object that is on the list of a move under way."""
        return self._correlation.lists(sop_instance_uid)

    def covers(self, study_instance_uid: str) -> bool:
        """True for a study of the selection, as far as that has been found."""
        return (study_instance_uid,) in self._work.asked
