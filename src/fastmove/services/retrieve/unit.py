"""One study, or what is wanted of it: what it is to bring, what has come, what is asked for next, what became of it.

No I/O: moves are carried out by `session`, which takes them from here part by part.
"""

from __future__ import annotations

import time
from collections.abc import Container, Mapping, Set
from typing import Final, NamedTuple

from fastmove.dimse.move import UNPROVED, Evidence, Judgement, Loss, Verdict, judge_unit
from fastmove.dimse.status import UNABLE_TO_PERFORM_SUBOPERATIONS, StatusClass, describe
from fastmove.services.retrieve.listing import INSTANCE_UID, SERIES_UID, Listing, instances, unique_keys
from fastmove.services.retrieve.part import Part, part_limit
from fastmove.services.selection.selection import Wanted
from fastmove.values import Value

MAX_LIST: Final = 500
"""SOP Instance UIDs in one C-MOVE-RQ: 33 KiB; some PACS have trouble with an identifier of more than 64 KiB."""

FRUITLESS_ROUNDS: Final = 2
"""Rounds in a row that brought nothing, after which it is no use to ask again."""

LEVELS: Final = ("STUDY", "SERIES", "IMAGE")

SUCCESSES: Final = UNPROVED | {Verdict.COMPLETE}

_LACKING: Final = frozenset((Verdict.INCOMPLETE, Verdict.REFUSED, Verdict.UNKNOWN, Verdict.STALLED))
"""Verdicts that say, where there is no list, that something has not come."""


class TurnedAway(NamedTuple):
    """Why our listener refused an association that may have brought what is missing: log event, and what to do."""

    event: str
    advice: str


class UnitResult(Value):
    """What became of a unit; instances are counted, those that are missing are named, with the reason."""

    wanted: Wanted
    judgement: Judgement
    listed: int | None
    """On the list; None if there was none."""

    stored: int | None
    """Of the list, or of all, that are there now; None if the move went to a third party."""

    present: int = 0
    """Of these, there before."""

    rounds: int = 0
    missing: Mapping[str, str] = {}
    """SOP Instance UID → why it did not come, as far as the PACS told."""

    evidence: Evidence | None = None
    """What the last round left, with the last final response; None if no move was needed."""

    error: str = ""
    seconds: float = 0.0
    """From when its list was there to the verdict."""

    @property
    def nobody_may_reach_us(self) -> bool:
        """True if it may be for this that it ended as it did; a refusal before anything is sent is not."""
        outcome = None if self.evidence is None else self.evidence.outcome
        if self.judgement.verdict is Verdict.REFUSED:
            return outcome is not None and outcome.status == UNABLE_TO_PERFORM_SUBOPERATIONS
        return True

    def proved(self, stored: int) -> UnitResult:
        """The same, when another list has shown that all is there, so many instances, which could not be seen here."""
        verdict = Verdict.COMPLETE if self.judgement.verdict in UNPROVED else self.judgement.verdict
        return self.replace(stored=stored, judgement=self.judgement._replace(verdict=verdict))


class Unit:
    """What is wanted of one study, while it is under way; `present` says what is there already."""

    def __init__(self, wanted: Wanted, model: str, listing: Listing, present: Container[str]) -> None:
        self.wanted = wanted
        self.model = model
        self._began = time.monotonic()
        self.series: dict[str, str] | None = None if listing.series is None else dict(instances(listing.series))
        """SOP Instance UID → Series Instance UID, of everything that is to come."""
        self.certain = listing.certain
        """There is nothing but what is on the list; if there may be, all of it is moved, which shows what there is."""
        self.number = listing.number or 0
        """Of instances, as the PACS counts them; 0 if it does not."""
        self.counted = 0
        """Sub-operations of a move of all of them, by the response that counts most."""
        self.doubted = False
        """A move had more sub-operations than the list has instances: whether that is cut off has to be asked..."""
        self.confirmed = False
        """... and it is not: the PACS counts as many instances as it lists, whatever its moves count."""
        self.stored: set[str] = set()
        self.rounds = 0
        self.fruitless = 0
        self.failures = wanted.failures
        """Rounds over which the PACS has failed, those of earlier attempts included."""
        self.out = 0
        """Parts under way."""
        self.differing = 0
        """Objects that came with other content than those that are there."""
        self.errors: list[str] = []
        self.evidences: list[Evidence] = []
        """Of the moves of the round under way, or of the last one while there are none."""
        self.grew = 0
        """Instances that came and were not on the list."""
        self.unlisted: set[str] = set()
        """Those that are on no list to this moment."""
        self.relisted = False
        self.turned_away: TurnedAway | None = None
        """Of whom our listener took no association while something of this was under way."""
        self.other_level = False
        """The PACS has shown that it must be asked at another level."""
        self._asked = False
        self._anew = False
        self._brought = 0
        self._reasons: dict[str, str] = {}
        if self.series is not None:
            self.stored.update(uid for uid in self.series if uid in present)
        self.present = len(self.stored)
        self._todo: dict[str, list[str]] = {}
        self._plan()

    # ------------------------------------------------------------------ what is to be asked for

    @property
    def missing(self) -> frozenset[str]:
        """On the list and not there."""
        return frozenset() if self.series is None else frozenset(self.series.keys() - self.stored)

    @property
    def remaining(self) -> int:
        """Instances that no part of this round has asked for yet; without a list 1 stands for all of them."""
        if self.series is None:
            return not self._asked
        left = sum(map(len, self._todo.values()))
        # What may not be all has to be moved as a whole once, although everything that is known of is there.
        return left or not (self._asked or self.certain or (self.rounds and not self.lacking))

    def _plan(self) -> None:
        self._asked = False
        self._todo = {}
        missing = self.missing
        for uid, series in (self.series or {}).items():
            if uid in missing:
                self._todo.setdefault(series, []).append(uid)
        self._most = part_limit(len(missing), self.failures)

    @property
    def lacking(self) -> int:
        """Instances that the PACS counts and cannot list, and that did not come."""
        unlisted = self.series is None or self.number > len(self.series)
        return max(0, self.number - len(self.stored)) if unlisted else 0

    @property
    def outgrown(self) -> bool:
        """True if the list should be asked for once more: the study may have grown meanwhile, or have more."""
        return bool(self.lacking or (self.grew and not self.relisted) or self.in_doubt)

    @property
    def in_doubt(self) -> bool:
        """True if the list should be asked for once more, as it may not be the whole."""
        return self.doubted and self.certain and not self.confirmed

    def relist(self, listing: Listing) -> None:
        """The list, asked for once more: what is on either counts; NOTHING if it could not be asked for."""
        self.relisted = True
        if listing.series is None:
            self.number = max(self.number, listing.number or 0)
            self.certain = self.certain and not (self.in_doubt or self.lacking)
            return
        found = dict(instances(listing.series))
        self.confirmed = self.doubted and listing.certain
        self.certain = listing.certain
        if self.confirmed:
            self.counted = 0
        self.unlisted = (self.unlisted if self.series is not None else self.stored) - found.keys()
        self.series = {**(self.series or {}), **found}
        if listing.number == len(found):
            # It lists as many as it counts: what else has come belongs to something else.
            self.grew -= len(self.unlisted)
            for uid in self.unlisted:
                self.series.pop(uid, None)
            self.unlisted = set()

    def next_round(self) -> None:
        """Ask again for what is missing; in parts, if the PACS may have left it out for the sake of something else."""
        self.rounds += 1
        fruitless = not self.brought and all(e.fine for e in self.evidences)
        if fruitless or any(e.failed_over for e in self.evidences):
            self.failures += 1
        self._brought = len(self.stored)
        self._plan()
        self._anew = bool(self.remaining)  # else it has come late

    def part(self, size: int, finest: str = "IMAGE") -> Part:
        """The next part, of `size` instances or so, at the finest level that the PACS serves; `remaining` gets less."""
        wanted = self.wanted
        size = min(size, self._most)
        above = unique_keys(wanted, self.model)
        self.out += 1
        first = not self._asked
        self._asked = True
        if self.series is None:
            return self._whole(None)
        untouched = first and not self.stored and not wanted.sop_instance_uids
        one_by_one = bool(wanted.sop_instance_uids) and finest != "IMAGE"
        if not one_by_one and ((untouched and size >= self.remaining) or finest == "STUDY" or not self.certain):
            self._todo = {}
            return self._whole(self.missing or None)
        if one_by_one:
            size, finest = 1, "IMAGE"
        series, todo = next(iter(self._todo.items()))
        study = above if not wanted.series_instance_uid else above[:-1]
        keys = (*study, f"{SERIES_UID}={series}")
        if finest == "SERIES" or (size >= len(todo) and not wanted.sop_instance_uids):
            of_series = frozenset(uid for uid, each in self.series.items() if each == series)
            if finest == "SERIES" or len(of_series) == len(todo):
                del self._todo[series]
                return Part(self, "SERIES", keys, frozenset(todo), of_series)
        chosen, rest = todo[: min(size, MAX_LIST)], todo[min(size, MAX_LIST) :]
        if rest:
            self._todo[series] = rest
        else:
            del self._todo[series]
        uids = frozenset(chosen)
        return Part(self, "IMAGE", (*keys, f"{INSTANCE_UID}=" + "\\".join(chosen)), uids, uids, chosen[0])

    def _whole(self, uids: frozenset[str] | None) -> Part:
        wanted = self.wanted
        keys = tuple(unique_keys(wanted, self.model))
        if wanted.sop_instance_uids:
            images = f"{INSTANCE_UID}=" + "\\".join(wanted.sop_instance_uids)
            return Part(self, "IMAGE", (*keys, images), uids, uids)
        covers = None if self.series is None else frozenset(self.series)
        return Part(self, "SERIES" if wanted.series_instance_uid else "STUDY", keys, uids, covers)

    # ------------------------------------------------------------------ what came of it

    def record(self, part: Part, evidence: Evidence, error: Exception | None) -> None:
        """A part is over."""
        self.out -= 1
        if self._anew:  # until now the last round counted
            self.evidences = []
            self._anew = False
        self.evidences.append(evidence if part.covers is None else evidence.replace(expected=part.covers))
        if error is not None:
            self.errors.append(str(error))
        self.differing += evidence.differing
        stored = evidence.stored or frozenset()
        self.stored |= stored
        self.doubted |= part.outnumbered(evidence)
        if not self.confirmed and (part.covers is None or self.series is None or part.covers >= self.series.keys()):
            self.counted = max(self.counted, evidence.announced)
        if self.series is not None and (more := stored - self.series.keys()):
            # The study has grown, or the list was cut short: what came belongs to it.
            self.grew += len(more)
            self.unlisted |= more
            self.series.update(dict.fromkeys(more, ""))
        reason = _reason(evidence, error)
        failed = frozenset() if evidence.outcome is None else frozenset(evidence.outcome.failed_sop_instance_uids)
        for uid in (part.uids or failed) - self.stored:
            self._reasons[uid] = "the PACS counted it as failed: " + reason if uid in failed else reason

    @property
    def settled(self) -> bool:
        """True if the round is over: nothing is under way, and nothing left to ask for."""
        return self.out == 0 and not self.remaining

    @property
    def brought(self) -> bool:
        """True if this round has brought something."""
        return len(self.stored) > self._brought

    @property
    def lost(self) -> bool:
        """True if the association of a move of this round was lost: then it says nothing of what is to be had."""
        return any(e.outcome is None and e.loss is Loss.ASSOCIATION_LOST for e in self.evidences)

    def worth_another_round(self, most: int) -> bool:
        """True if what is missing may still come."""
        if any(e.stored is None or e.storage_failures or e.policy_refusals or e.oversized for e in self.evidences):
            return False  # what a third party has got cannot be seen from here; the rest would be refused again
        if self.brought:
            self.fruitless = 0
        elif not self.lost and not any(e.exhausted for e in self.evidences):
            self.fruitless += 1
        if self.turned_away is not None and not self.brought:
            return False  # they would be turned away again
        unlisted = self.lacking or (self.series is None and not all(e.fine for e in self.evidences))
        again = bool(self.missing or unlisted)
        refused = all(e.ended is StatusClass.FAILURE and not e.arrivals and not e.exhausted for e in self.evidences)
        if refused and not (self.other_level or self._divisible):  # it would refuse the same again
            return False
        self.other_level = False
        return again and self.rounds < most and self.fruitless < FRUITLESS_ROUNDS

    @property
    def _divisible(self) -> bool:
        """True if it was refused as a whole, perhaps for the sake of one object, and can be asked for in parts."""
        unable = not self.failures and any(e.unable for e in self.evidences)
        return unable and self.certain and len(self.missing) > 1

    def result(self) -> UnitResult:
        """The verdict."""
        third_party = any(e.stored is None for e in self.evidences)
        missing = frozenset[str]() if third_party else self.missing
        expected = None if self.series is None else self.series.keys()
        judgement = self._judgement(None if third_party else self.stored)
        if self.grew:
            judgement = judgement._replace(reasons=(*judgement.reasons, "list.grew"))
        if self.differing and judgement.verdict in SUCCESSES:  # in an earlier round
            reasons = dict.fromkeys((*judgement.reasons, "store.duplicate_differs"))
            judgement = judgement._replace(verdict=Verdict.WARNING, reasons=tuple(reasons))
        away = self.turned_away
        lacking = missing or (judgement.verdict in _LACKING and (expected is None or self.lacking))
        if away is not None and lacking and judgement.verdict is not Verdict.STORAGE_FAILED:
            # What is missing came, or was about to: it was our rules that kept it out.
            judgement = judgement._replace(verdict=Verdict.POLICY, reasons=(away.event, *judgement.reasons))
            self._reasons.update(dict.fromkeys(missing, away.advice))
            self.errors.append(away.advice)
        return UnitResult(
            wanted=self.wanted,
            judgement=judgement,
            listed=None if self.series is None else len(self.series) - self.grew,
            stored=None if third_party else len(self.stored if expected is None else self.stored & expected),
            present=self.present,
            rounds=self.rounds,
            missing={uid: self._reasons.get(uid, "not asked for any more") for uid in sorted(missing)},
            evidence=self._evidence() if self.evidences else None,
            error=self.errors[-1] if self.errors else "",
            seconds=time.monotonic() - self._began,
        )

    def _judgement(self, stored: Set[str] | None) -> Judgement:
        expected = None if self.series is None else self.series.keys()
        if stored is None or self._proves:
            return judge_unit(self.evidences, stored, expected)
        unsure = () if self.series is None else ("list.uncertain",)
        if self.missing:
            judgement = judge_unit(self.evidences, stored, expected)
            return judgement if self.certain else judgement._replace(reasons=(*judgement.reasons, *unsure))
        # All that is on the list has come, but there may be more: only the counters tell.
        moves = self.evidences
        if self.series is not None:
            moves = [move.replace(stored=frozenset(stored), expected=None) for move in moves]
        judgement = judge_unit(moves, stored, None) if moves else Judgement(Verdict.COUNTED)
        # Of what a move was to bring something may have come twice, or have failed before and been left out then.
        if (self.lacking or len(stored) < self.counted) and judgement.verdict in UNPROVED:
            return Judgement(Verdict.INCOMPLETE, ("move.incomplete", *judgement.reasons, *unsure))
        if not (stored or self.series or self.certain) and judgement.verdict in UNPROVED:
            # Three lists failed, and a move brought nothing: that there is nothing may be a failure, too.
            return Judgement(Verdict.UNKNOWN, ("list.failed", *judgement.reasons))
        return judgement._replace(reasons=(*judgement.reasons, *unsure))

    @property
    def _proves(self) -> bool:
        """True if the list is of all that there is: the PACS counts as many, or has sent as many when asked for all."""
        if self.series is None or self.unlisted:
            return False
        number = len(self.series)
        sent_all = self.counted <= number and any(e.fine and e.delivered == number for e in self.evidences)
        return self.certain or sent_all

    def _evidence(self) -> Evidence:
        last = self.evidences[-1]
        if last.fine and self.missing:  # of several parts one that failed says more
            last = next((e for e in reversed(self.evidences) if e.failed_over), last)
        expected = None if self.series is None else self.series.keys()
        arrivals = sum(e.arrivals for e in self.evidences)
        if last.stored is None:
            return last
        return last.replace(stored=frozenset(self.stored), expected=expected and frozenset(expected), arrivals=arrivals)


def _reason(evidence: Evidence, error: Exception | None) -> str:
    outcome = evidence.outcome
    if outcome is None:
        return f"no final response: {error}" if error is not None else "no final response"
    if outcome.status is None:
        return "a final response without a status"
    if outcome.status == 0:
        return "never sent, though the PACS said success"
    comment = f": {outcome.error_comment}" if outcome.error_comment else ""
    return f"{outcome.status:04X}H {describe(outcome.status, 'C-MOVE')[1]}{comment}"
