"""Parts of what a query asks for, by date, by time of day and by patient ID, and how they are parted further.

Ranges include both ends (PS3.4 C.2.2.2.5).  Of a day's times none goes beyond midnight.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, timedelta
from typing import Final

from fastmove.errors import ConfigurationError
from fastmove.values import Value

LAST_SECOND: Final = 24 * 60 * 60 - 1
_DATE: Final = re.compile(r"(\d{4})[.-]?(\d\d)[.-]?(\d\d)")  # with dots in ACR-NEMA 2.0 (PS3.5 6.2)
_DATE_CHARS: Final = 8
_TIME: Final = re.compile(r"(\d\d)(?:(\d\d)(?:(\d\d)(?:\.\d*)?)?)?")


class Extent(Value):
    """What has these dates, these times, this patient ID; None: any, even none."""

    dates: tuple[date, date] | None = None
    times: tuple[int, int] | None = None
    """Seconds since midnight, on a single day."""

    patient: str | None = None
    """How the patient ID begins."""

    exact: bool = False
    """And there is no more of it."""

    def keys(self) -> list[str]:
        """The keys of a C-FIND that are met by these, and by no others."""
        keys = []
        if self.dates is not None:
            keys.append(f"StudyDate={date_range(*self.dates)}")
        if self.times is not None:
            keys.append(f"StudyTime={_time_range(*self.times)}")
        if self.patient is not None:
            keys.append(f"PatientID={self.patient}{'' if self.exact else '*'}")
        return keys

    def halves(self, *cuts: date) -> tuple[Extent, Extent] | None:
        """Two that are the same together, by date, or by time of a single day; None if there are none.

        Dates are parted before the first of the `cuts` that is among them, else in the middle.
        """
        if self.patient is not None or self.dates is None:
            return None
        first, last = self.dates
        if first < last:
            middle = first + (last - first) // 2 + timedelta(1)
            cut = next((cut for cut in cuts if first < cut <= last), middle)
            return self.replace(dates=(first, cut - timedelta(1))), self.replace(dates=(cut, last))
        start, end = self.times or (0, LAST_SECOND)
        if start == end:
            return None
        noon = (start + end) // 2
        return self.replace(times=(start, noon)), self.replace(times=(noon + 1, end))

    @property
    def is_day(self) -> bool:
        """A single day, at any time or none."""
        return self.dates is not None and self.dates[0] == self.dates[1] and self.times is None

    def holds(self, match: Mapping[str, str]) -> bool | None:
        """False if what a match says of itself is outside; None if its date or time is written as ranges are not.

        A PACS that compares text finds the old forms (ACR-NEMA 2.0) in wrong ranges, and HHMM in right ones only.
        """
        day, second = plain_date(match.get("StudyDate", "")), _plain_time(match.get("StudyTime", ""))
        patient = match.get("PatientID", "").casefold()
        if self.patient and patient and not patient.startswith(self.patient.casefold()):
            return False
        if (self.dates is not None and day is None) or (self.times is not None and second is None):
            return None
        return (self.dates is None or day is None or self.dates[0] <= day <= self.dates[1]) and (
            self.times is None or second is None or self.times[0] <= second <= self.times[1]
        )

    def __str__(self) -> str:
        words = []
        if self.dates is not None:
            words.append(f"were made {'on' if self.dates[0] == self.dates[1] else 'in'} {date_range(*self.dates)}")
        if self.times is not None:
            words.append("between {} and {}".format(*map(_clock, self.times)))
        if self.patient:
            words.append("and" if words else "")
            words.append(f"have a patient ID that {'is' if self.exact else 'begins with'} {self.patient!r}")
        return " ".join(filter(None, words)) or "have no date"


def parse_dates(text: str) -> tuple[date, date]:
    """Both ends of a date or range (PS3.4 C.2.2.2.5); an open one ends with time itself.

    ConfigurationError if it is neither.
    """
    start, hyphen, end = text.strip().partition("-")
    first = parse_date(start) if start else date.min
    last = parse_date(end) if end else date.max if hyphen else first
    if first is None or last is None or not (start or end):
        raise ConfigurationError("StudyDate", f"{text!r} is neither a date nor a range, such as 20240101-20241231")
    if first > last:
        raise ConfigurationError("StudyDate", f"{text!r} ends before it begins")
    return first, last


def parse_date(text: str) -> date | None:
    """A date of VR DA; None if it is none."""
    if found := _DATE.fullmatch(text.strip()):
        try:
            return date(*map(int, found.groups()))
        except ValueError:
            return None
    return None


def plain_date(text: str) -> date | None:
    """The same, if it is written as ranges are: then a PACS that compares text finds it, too."""
    return parse_date(text) if len(text) == _DATE_CHARS else None


def _plain_time(text: str) -> int | None:
    """The seconds since midnight of a time of VR TM; None if it is none."""
    if found := _TIME.fullmatch(text):
        hours, minutes, seconds = (int(part or 0) for part in found.groups())
        return hours * 3600 + minutes * 60 + seconds
    return None


def date_range(first: date, last: date) -> str:
    """A value of VR DA that matches these days."""
    start, end = (day.isoformat().replace("-", "") for day in (first, last))
    if first == last:
        return start
    return f"{'' if first == date.min else start}-{'' if last == date.max else end}"


def _time_range(start: int, end: int) -> str:
    # A PACS that compares text finds 1015 only if what begins with this minute does not begin with 101500.
    first = _clock(start).replace(":", "")
    return f"{first.removesuffix('00') if start % 60 == 0 else first}-{_clock(end).replace(':', '')}.999999"


def _clock(second: int) -> str:
    return f"{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}"
