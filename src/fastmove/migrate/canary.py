"""Is the PACS suffering?  A small question that is asked every few seconds shows it; time is passed in.

What is usual is learnt from the same answers: of each minute the median, and of these one of the lowest, so that an
hour under load does not make load the usual thing.  What is usual follows a day that gets busier, but slowly, and more
slowly still while the PACS suffers.  Three of the last five answers decide: one that is late says nothing, and both the
beginning and the end are noticed with the third.  So ask for a while before much is fetched: `LEARNT` answers.
"""

from __future__ import annotations

import math
from collections import deque
from statistics import median
from typing import Final

from fastmove.values import Value

LAST: Final = 5
"""So many last answers are looked at..."""

DECIDE: Final = 3
"""... and so many of them decide."""

LEARNT: Final = 10
"""Answers that only show what is usual; and the least that a median is taken of."""

BUCKET_S: Final = 60.0
"""A median is taken over so long, at least."""

KEPT_S: Final = 3600.0
"""Medians are kept for so long: what is older says nothing of now."""

LOW: Final = 0.1
"""What is usual is the median below which so many of them are."""

MIN_GAP_S: Final = 0.5
"""Answers that come faster one upon the other do not all count for what is usual, so that a minute has its bounds."""

RISE_PER_HOUR: Final = 1.2
"""What is usual rises no faster than by this factor: from night to noon it may double..."""

RISE_SUFFERING_PER_HOUR: Final = 1.05
"""... and than by this one while the PACS suffers: what lasts all night is taken for usual in the end."""

CALM: Final = 1.6
"""The PACS suffers no more once answers take less than this times what is usual; it begins to with more (`_Kind`)."""

STALE_S: Final = 60.0
"""Without an answer for so long nothing is known of now."""

FAILURES: Final = 2
"""Questions in a row that were not answered..."""

COMPLAINTS: Final = 2
"""... or refusals that are enough..."""

COMPLAINTS_S: Final = 10.0
"""... within so long."""

MAX_COUNTED: Final = 1000
"""Refusals that are counted: with more nobody wants to know how many exactly."""


class _Kind(Value):
    """Something that takes time: what it is called, and from when on it takes too long."""

    words: str
    factor: float
    """Times what is usual..."""

    least_s: float
    """... and by so much longer: of a PACS next door a few milliseconds say nothing."""


_ANSWER: Final = _Kind("an answer takes", 2.2, 0.010)
_FIRST_OBJECT: Final = _Kind("the first object takes", 3.0, 2.0)
"""It depends on what is asked for, too."""


class _Usual:
    """What is usual of times that vary, in bounded memory; None until enough is known."""

    def __init__(self) -> None:
        self.seconds: float | None = None
        self._medians: deque[tuple[float, float]] = deque()
        self._bucket: list[float] = []
        self._began = 0.0
        self._counted_at = -math.inf
        self._risen_at = 0.0

    def forget(self, now_s: float) -> None:
        """What is so long ago says nothing of now."""
        if now_s - self._counted_at > KEPT_S:
            self.seconds, self._bucket = None, []
            self._medians.clear()

    def learn(self, now_s: float, seconds: float, *, suffering: bool) -> None:
        """Another one."""
        if now_s - self._counted_at < MIN_GAP_S:
            return
        self.forget(now_s)
        if not self._bucket:
            self._began = now_s
        self._counted_at = now_s
        self._bucket.append(seconds)
        if self.seconds is None and len(self._bucket) == LEARNT:
            self.seconds, self._risen_at = median(self._bucket), now_s
        if now_s - self._began >= BUCKET_S and len(self._bucket) >= LEARNT:
            self._medians.append((now_s, median(self._bucket)))
            self._bucket = []
        self._follow(now_s, suffering)

    def _follow(self, now_s: float, suffering: bool) -> None:
        while self._medians and now_s - self._medians[0][0] > KEPT_S:
            self._medians.popleft()
        if self.seconds is None or not self._medians:
            return
        lately = sorted(middle for _, middle in self._medians)
        factor = RISE_SUFFERING_PER_HOUR if suffering else RISE_PER_HOUR
        most = self.seconds * factor ** ((now_s - self._risen_at) / 3600)
        self.seconds, self._risen_at = min(lately[int(LOW * len(lately))], most), now_s


class _Watched:
    """The last of what takes time, and what is usual of it."""

    def __init__(self, kind: _Kind) -> None:
        self._kind = kind
        self._usual = _Usual()
        self._last: deque[float] = deque(maxlen=LAST)
        self._at = -math.inf
        self._slow = False

    def took(self, now_s: float, seconds: float) -> None:
        """Another one; infinite: it did not end."""
        if now_s - self._at > STALE_S:
            self._last.clear()
        self._at = now_s
        self._last.append(seconds)
        if math.isfinite(seconds):
            self._usual.learn(now_s, seconds, suffering=self._slow)
        if (usual := self._usual.seconds) is not None:
            factor = CALM if self._slow else self._kind.factor
            too_long = max(usual * factor, usual + self._kind.least_s * factor / self._kind.factor)
            self._slow = sum(each > too_long for each in self._last) >= DECIDE

    def usual_s(self, now_s: float) -> float | None:
        """What is usual now; None until it is known."""
        self._usual.forget(now_s)
        return self._usual.seconds

    def complaint(self, now_s: float) -> str:
        """How long it takes, if that is too long."""
        usual = self._usual.seconds
        if not self._slow or usual is None or now_s - self._at > STALE_S:
            return ""
        now = sorted(self._last)[-DECIDE]  # those that decide take at least this
        if math.isinf(now):
            return f"{sum(map(math.isinf, self._last))} of the last {len(self._last)} questions were not answered"
        return f"{self._kind.words} {_shown(now)}, usually {_shown(usual)}"


class _Counted:
    """Complaints of one kind, lately."""

    def __init__(self, words: str) -> None:
        self._words = words
        self._at: deque[float] = deque(maxlen=MAX_COUNTED)

    def came(self, now_s: float) -> None:
        """Another one."""
        self._at.append(now_s)

    def complaint(self, now_s: float) -> str:
        """How many there were, if that is enough."""
        number = sum(now_s - at <= COMPLAINTS_S for at in self._at)
        return f"{number:,} {self._words} within {COMPLAINTS_S:g} s" if number >= COMPLAINTS else ""


class Canary:
    """What a PACS lets us feel of its load; all times by one monotonic clock."""

    def __init__(self) -> None:
        self._answers = _Watched(_ANSWER)
        self._first_objects = _Watched(_FIRST_OBJECT)
        self._refused = _Counted("moves refused for want of resources")
        self._rejected = _Counted("associations rejected for now")
        self._unanswered = 0
        self._failed_at = -math.inf

    def usual_s(self, now_s: float) -> float | None:
        """How long an answer takes, usually; None until it is known."""
        return self._answers.usual_s(now_s)

    def answered(self, now_s: float, seconds: float) -> None:
        """The small question was answered, after so long."""
        self._unanswered = 0
        self._answers.took(now_s, seconds)

    def failed(self, now_s: float) -> None:
        """It was not answered, or with a failure."""
        if now_s - self._failed_at > STALE_S:
            self._unanswered = 0
        self._unanswered += 1
        self._failed_at = now_s
        self._answers.took(now_s, math.inf)

    def first_object(self, now_s: float, seconds: float) -> None:
        """A move has brought its first object, after so long."""
        self._first_objects.took(now_s, seconds)

    def refused(self, now_s: float) -> None:
        """A move was refused for want of resources (A7xx)."""
        self._refused.came(now_s)

    def rejected(self, now_s: float) -> None:
        """An association was rejected for now (A-ASSOCIATE-RJ, result 2)."""
        self._rejected.came(now_s)

    def suffering(self, now_s: float) -> str:
        """Why the PACS is taken to suffer, with figures; empty if it is not."""
        complaints = (
            self._silence(now_s) or self._answers.complaint(now_s),
            self._first_objects.complaint(now_s),
            self._refused.complaint(now_s),
            self._rejected.complaint(now_s),
        )
        return "; ".join(filter(None, complaints))

    def _silence(self, now_s: float) -> str:
        if self._unanswered < FAILURES or now_s - self._failed_at > STALE_S:
            return ""
        return f"the last {self._unanswered:,} questions were not answered"


def _shown(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"
