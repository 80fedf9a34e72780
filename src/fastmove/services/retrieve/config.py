"""What a retrieve is asked to do, and what it says in the end."""

from __future__ import annotations

from collections.abc import Mapping

from fastmove.credentials import TlsSettings
from fastmove.dimse.move import Evidence, Judgement, Verdict
from fastmove.limits import Limits
from fastmove.services.profile import PacsProfile
from fastmove.services.retrieve.unit import UnitResult
from fastmove.services.selection.resolution import Unresolved
from fastmove.services.selection.selection import Selection
from fastmove.types import PeerAddress
from fastmove.values import Value


class RetrieveConfig(Value):
    """What to ask of whom, and how."""

    peer: PeerAddress
    keys: tuple[str, ...] = ()
    """Query keys of what is wanted, `StudyInstanceUID=1.2.3` or `0020,000D=1.2.3`; a short form of `selection`."""

    ae_title: str = "FASTMOVE"
    """Ours: the calling AE title."""

    move_destination: str = ""
    """The AE title that the PACS sends to; empty: ours."""

    model: str = "study"
    level: str | None = None
    """PATIENT, STUDY, SERIES or IMAGE, of `keys`; None: the deepest whose unique key is given."""

    prove: bool = True
    """Ask for the list of instances first (C-FIND), so that the verdict rests on UIDs and not on counters."""

    limits: Limits = Limits()

    listener_tls: TlsSettings | None = None
    """How the PACS is to send to us; None: without TLS."""

    selection: Selection = Selection()
    """What is wanted."""

    parallel: int = 0
    """Moves at once; 0: as many as pay."""

    rounds: int = 5
    """How often what is missing is asked for again, at most."""

    profile: PacsProfile = PacsProfile()
    """What is known of the PACS."""

    accept_hosts: tuple[str, ...] = ()
    """Who may send to us, beside the PACS itself: addresses, networks, names, or `any` for everybody."""

    accept_from: tuple[str, ...] = ()
    """The calling AE titles that may; none: all, since many a PACS sends by another title than it is called."""


class RetrieveResult(Value):
    """The verdict on everything, and on each unit that is worth a word."""

    judgement: Judgement
    """That of the unit with the gravest verdict."""

    verdicts: Mapping[Verdict, int]
    """How many units came to which."""

    units: tuple[UnitResult, ...]
    """The first of each verdict; and of verdicts other than complete and counted up to a thousand of each."""

    seconds: float
    """From the first C-MOVE-RQ to the last response or object."""

    first_object_s: float | None
    """From the first C-MOVE-RQ to the first stored object."""

    error: Exception | None = None
    """What ended the run before its time, or the first move without a final response."""

    unsolicited: int = 0
    """Objects that came and belong to none of our moves."""

    unattempted: int = 0
    """Units that were found and not taken up, as the run ended before."""

    selection_failed: bool = False
    """There may be more: an error or a stop ended the search for what is wanted."""

    unresolved: tuple[Unresolved, ...] = ()
    """Queries of the selection that found nothing, or not all."""

    missing: int = 0
    """Instances that are missing, of all units together."""

    @property
    def all_complete(self) -> bool:
        """True if the list of each unit says that everything is there, and every query found what it should."""
        return self.verdicts.keys() <= {Verdict.COMPLETE} and not (
            self.unattempted or self.unresolved or self.selection_failed
        )

    @property
    def evidence(self) -> Evidence:
        """Of the last C-MOVE of the first unit."""
        none = Evidence(outcome=None, stored=frozenset())
        return (self.units[0].evidence if self.units else None) or none
