"""Probes of C-FIND: which levels answer, how fast, how many matches, and a small study to move."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from typing import Final

from fastmove.dimse.status import describe
from fastmove.errors import DimseError, FastmoveError
from fastmove.services.doctor.findings import (
    Advice,
    Finding,
    at_pacs,
    counted,
    here,
    note,
    ok,
    problem,
    seconds,
    skipped,
)
from fastmove.services.doctor.visit import Answer, Study, Visit
from fastmove.ul.negotiation import is_uid

STUDY_KEYS: Final = ("PatientID", "StudyInstanceUID", "StudyDate", "NumberOfStudyRelatedInstances")
"""Asked for of each study; names are nobody's business here."""

DAYS: Final = (7, 90, 1000, None)
"""How far back to look for a small study, a little at a time; None: all."""

LISTED_STUDIES: Final = 100
"""Studies of one such look."""

PATIENTS: Final = 10
"""Patients that are looked into where studies cannot be searched by themselves."""

FEW: Final = range(3, 61)
"""Instances of a study that shows all there is to see, and is no burden."""

MANY: Final = 300
"""A study with more instances is not moved, unless it is asked for."""

LISTED_SERIES: Final = 20
CAP_DAYS: Final = (30, 365, None)
CAP_MATCHES: Final = 2000
"""When that many have come, no cap is looked for any more."""

FEWEST_FOR_CAP: Final = 10
"""From so many matches on it is tried whether there are more."""

_LOG: Final = at_pacs("see its log for this query")


# ------------------------------------------------------------------ studies


async def find_studies(visit: Visit) -> Finding:
    """C-FIND at STUDY level, and the choice of a study."""
    first: Answer | None = None
    for days in DAYS if not visit.config.study_instance_uid else (None,):
        answer = await _studies(visit, days)
        first = first or answer
        known = {study.study_instance_uid for study in visit.studies}
        fresh = {study.study_instance_uid: study for study in map(_study, answer.matches)}
        visit.studies += [study for uid, study in fresh.items() if is_uid(uid) and uid not in known]
        if answer.error is not None and not visit.studies:
            return _failed("STUDY", answer, visit)
        if answer.error is not None or any(study.instances in FEW for study in visit.studies):
            break
    assert first is not None
    find_s = round(first.first_s or first.seconds, 6)
    visit.study = _choose(visit) or visit.study
    numbers = {"find_s": find_s, "studies": len(visit.studies)}
    if not visit.studies:
        return _nothing(visit, numbers)
    words = f"first answer after {seconds(find_s)}; {_chosen(visit)}"
    if answer.error is not None:
        return note(f"{words}; a later query failed: {answer.error}", _LOG, **numbers)
    if all(study.instances is None for study in visit.studies):
        return note(f"{words}; it does not count the instances of a study", **numbers)
    return ok(words, **numbers)


def _nothing(visit: Visit, numbers: dict[str, float]) -> Finding:
    if visit.config.study_instance_uid:
        return problem(
            f"it answers, but has no study {visit.config.study_instance_uid}",
            here("is the UID right?"),
            at_pacs(f"may {visit.config.ae_title!r} see this study? Some PACS show a node only what it is entitled to"),
            cause=DimseError(0, "no such study"),
            **numbers,
        )
    return note(
        "it answers, but finds not one study",
        at_pacs(f"is the archive empty? If not: {visit.config.ae_title!r} may not see anything; change its rights"),
        here("name a study that must be there: --study UID"),
        **numbers,
    )


async def _studies(visit: Visit, days: int | None) -> Answer:
    """Studies of the last days, of all times, or the one that was asked for."""
    uid = visit.config.study_instance_uid
    keys = [f"StudyInstanceUID={uid}" if uid and key == "StudyInstanceUID" else key for key in STUDY_KEYS]
    if days is not None:  # not those of today: they may still be growing
        keys = [key for key in keys if key != "StudyDate"] + [f"StudyDate={_ago(days)}-{_ago(1)}"]
    if visit.find_model == "study":
        return await visit.ask(keys, "STUDY", LISTED_STUDIES)
    # Patient root: a patient has to be named before his studies may be asked for (PS3.4 C.6.1.1).
    answer = await visit.ask(("PatientID",), "PATIENT", PATIENTS)
    for patient in answer.values("PatientID")[:PATIENTS]:
        of_patient = await visit.ask((*keys, f"PatientID={patient}"), "STUDY", LISTED_STUDIES)
        if of_patient.error is not None or of_patient.matches:
            return of_patient
    return Answer([], answer.first_s, answer.seconds, answer.error)


def _ago(days: int) -> str:
    return f"{datetime.date.today() - datetime.timedelta(days):%Y%m%d}"


def _study(match: dict[str, str]) -> Study:
    number = match.get("NumberOfStudyRelatedInstances", "")
    return Study(
        match.get("StudyInstanceUID", ""),
        match.get("PatientID", ""),
        match.get("StudyDate", ""),
        int(number) if number.isascii() and number.isdigit() else None,
    )


def _choose(visit: Visit) -> Study | None:
    """A study with few instances, yet some; of those whose instances are not counted the first."""
    if visit.config.study_instance_uid:
        return visit.studies[0] if visit.studies else None

    def rank(study: Study) -> tuple[bool, bool, int]:
        count = study.instances
        return count is None, count not in FEW, count or 0

    small = [study for study in visit.studies if study.instances is None or 0 < study.instances <= MANY]
    return min(small, key=rank, default=None)


def _chosen(visit: Visit) -> str:
    study = visit.study
    if study is None:
        return f"{counted(len(visit.studies), 'study')}, none with {MANY} instances or less"
    size = f" ({counted(study.instances, 'instance')})" if study.instances is not None else ""
    return f"we look into study {study.study_instance_uid}{size}"


# ------------------------------------------------------------------ series and images


async def find_series(visit: Visit) -> Finding:
    """C-FIND at SERIES level: the series of the study."""
    study = _of(visit)
    keys = visit.keys(study, "SeriesInstanceUID", "NumberOfSeriesRelatedInstances")
    answer = await visit.ask(keys, "SERIES", LISTED_SERIES + 1)
    uids = list(dict.fromkeys(filter(is_uid, answer.values("SeriesInstanceUID"))))
    if answer.error is not None:
        return _failed("SERIES", answer, visit)
    if not uids:
        return note("it lists no series of a study that it has", _NO_LIST, series=0)
    visit.whole = len(uids) <= LISTED_SERIES
    visit.series = dict.fromkeys(uids[:LISTED_SERIES], frozenset())
    return ok(f"{counted(len(uids), 'series')} in {seconds(answer.seconds)}", series=len(uids))


async def find_images(visit: Visit) -> Finding:
    """C-FIND at IMAGE level: the instances, series by series."""
    study = _of(visit)
    took = 0.0
    for series in visit.series:
        keys = visit.keys(study, f"SeriesInstanceUID={series}", "SOPInstanceUID")
        answer = await visit.ask(keys, "IMAGE", MANY + 1)
        took += answer.seconds
        found = frozenset(filter(is_uid, answer.values("SOPInstanceUID")))
        if answer.error is not None or not found:
            visit.profile["image_level"] = False
            visit.whole = False
            if answer.error is not None:
                return _failed("IMAGE", answer, visit, as_note=True)
            return note("it lists no instances of a series that it has", _NO_LIST)
        visit.series[series] = found
        if len(visit.instances) > MANY:
            visit.whole = False
            break
    visit.profile["image_level"] = True
    listed = len(visit.instances)
    numbers = {"instances": listed, "list_s": round(took, 6)}
    if visit.whole and study.instances not in (None, listed):
        visit.whole = False
        words = f"it lists {counted(listed, 'instance')}, but counts {study.instances:,} of this study"
        why = at_pacs("are its lists cut off, or are some instances hidden, deleted, or still being stored?")
        return note(words, why, **numbers)
    return ok(f"{counted(listed, 'instance')} listed in {seconds(took)}", **numbers)


async def relational(visit: Visit) -> Finding:
    """C-FIND at IMAGE level for a whole study at once (PS3.4 C.4.1.2.2.1)."""
    answer = await visit.ask(visit.keys(_of(visit), "SOPInstanceUID"), "IMAGE", MANY + 1)
    found = frozenset(answer.values("SOPInstanceUID"))
    able = visit.profile["relational"] = answer.error is None and bool(found) and visit.instances <= found
    if able:
        return ok(f"the instances of a study come by one query, in {seconds(answer.seconds)}", relational=True)
    why = answer.error or (f"only {len(found)} of {len(visit.instances)} come" if found else "nothing comes")
    return ok(f"no, as most PACS ({why}): instances are listed series by series", relational=False)


async def uid_lists(visit: Visit) -> Finding:
    """C-FIND with a list of UIDs (PS3.4 C.2.2.2.2): two studies by one query."""
    two = [study.study_instance_uid for study in visit.studies[:2]]
    patient = {study.patient_id for study in visit.studies[:2]}
    above = [f"PatientID={patient.pop()}"] if visit.find_model == "patient" and len(patient) == 1 else []
    if len(two) < 2 or (visit.find_model == "patient" and not above):
        return skipped("there are no two studies to ask for")
    answer = await visit.ask((*above, "StudyInstanceUID=" + "\\".join(two)), "STUDY", LISTED_STUDIES)
    found = set(answer.values("StudyInstanceUID"))
    able = visit.profile["find_uid_lists"] = answer.error is None and found == set(two)
    if able:
        return ok("a list of UIDs finds all of them", find_uid_lists=True)
    why = answer.error or f"{len(found)} of 2 found"
    return note(f"not with a list of UIDs ({why}): each study needs a query of its own", find_uid_lists=False)


_NO_LIST: Final = here("retrieve cannot know then what should come: its verdict rests on the counters of the PACS")


# ------------------------------------------------------------------ how many


async def cap(visit: Visit) -> Finding:
    """Whether matches are cut off: a wider and wider query, and the same in two halves."""
    answer = Answer([], None, 0.0)
    for days in CAP_DAYS:
        answer = await _dated(visit, f"{_ago(days)}-" if days is not None else "")
        if answer.error is not None or len(answer.matches) >= CAP_MATCHES:
            break
    found = set(answer.values("StudyInstanceUID"))
    if answer.error is not None:
        return _cut_off(visit, answer, len(answer.matches))
    if len(found) >= CAP_MATCHES:
        # Not that there is none: there may be one beyond.
        return ok(f"none up to {_matches(CAP_MATCHES)}: the rest was cancelled", matches=len(found))
    dates = sorted(day for each in answer.values("StudyDate") if (day := _day(each)) is not None)
    if len(found) < FEWEST_FOR_CAP or not dates:
        return ok(f"none seen: {_matches(len(found))} are all there are", matches=len(found))
    return await _halves(visit, found, dates)


async def _halves(visit: Visit, found: set[str], dates: list[datetime.date]) -> Finding:
    middle = dates[len(dates) // 2]
    next_day = middle + datetime.timedelta(1)
    everything = set(found)
    for part in (f"-{middle:%Y%m%d}", f"{next_day:%Y%m%d}-"):
        answer = await _dated(visit, part)
        everything |= set(answer.values("StudyInstanceUID"))
    if len(everything) <= len(found):
        return ok(f"none seen: {_matches(len(found))}, and no more in parts", matches=len(found))
    visit.profile["find_cap"] = len(found)
    words = f"cut off after {_matches(len(found))} without a word: asked in two parts it finds {len(everything):,}"
    return note(words, *_NARROW, find_cap=len(found))


def _day(date: str) -> datetime.date | None:
    try:
        return datetime.datetime.strptime(date, "%Y%m%d").date()
    except ValueError:
        return None


async def _dated(visit: Visit, dates: str) -> Answer:
    return await visit.ask(("StudyInstanceUID", f"StudyDate={dates}"), "STUDY", CAP_MATCHES)


def _cut_off(visit: Visit, answer: Answer, found: int) -> Finding:
    if isinstance(answer.error, DimseError) and found:
        visit.profile["find_cap"] = found
        return note(f"after {_matches(found)} it ends with {_status(answer.error)}", *_NARROW, find_cap=found)
    words = f"a wide query fails after {_matches(found)}: {_status(answer.error)}"
    return note(words, here("ask narrow queries: by date, patient or accession number"), _LOG, matches=found)


def _matches(number: int) -> str:
    return f"{number:,} {'match' if number == 1 else 'matches'}"


_NARROW: Final = (
    here("retrieve goes by that, and asks in parts; with find, ask narrow queries, by date for example"),
    at_pacs("raise the limit of matches of a query"),
)


# ------------------------------------------------------------------ what is said of failures


def _of(visit: Visit) -> Study:
    assert visit.study is not None
    return visit.study


def _failed(level: str, answer: Answer, visit: Visit, *, as_note: bool = False) -> Finding:
    error = answer.error
    assert error is not None
    words = f"C-FIND at {level} level: {_status(error)}"
    if answer.matches:
        words += f", after {_matches(len(answer.matches))}"
    advice: Iterable[Advice] = (_LOG,)
    if isinstance(error, DimseError):
        advice = _REFUSALS.get(error.status & 0xFF00, _REFUSALS.get(error.status, (_LOG,)))
    if as_note:
        return note(words, *advice, _NO_LIST)
    return problem(words, *advice, cause=error)


def _status(error: FastmoveError | None) -> str:
    """An error in words; of a status its meaning too."""
    if not isinstance(error, DimseError):
        return str(error)
    name = describe(error.status, "C-FIND")[1]
    comment = "" if error.error_comment in ("", name) else f" ({ascii(error.error_comment)})"
    return f"status {error.status:04X}H, {name}{comment}"


# Status, or the first byte of it → what to do.
_REFUSALS: Final[dict[int, tuple[Advice, ...]]] = {
    0x0100: (at_pacs("this AE title may not query, or not at this level: change its rights"), _LOG),
    0xA700: (
        at_pacs("it is out of resources, or has too many matches: raise its limits"),
        here("ask narrower queries"),
    ),
    0xA900: (at_pacs("it does not take the keys of the query: see its conformance statement and its log"),),
    0xC000: (_LOG,),
}
