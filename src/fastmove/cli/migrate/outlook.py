"""What `plan` says of what is to be moved: how much it is, and how long it takes, as far as that was measured.

By what the ledger has moved already, and by a sample; where there is neither, nothing is said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta, tzinfo
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from fastmove.bench.confidence import Interval
from fastmove.bench.sampling import Amount, Part, Sampled, kind_of, together, total
from fastmove.cli.migrate.ledger import is_shared
from fastmove.cli.output import megabytes, say
from fastmove.errors import LedgerError
from fastmove.ledger.model import JobState, Volume
from fastmove.ledger.store import Ledger
from fastmove.migrate.forecast import Forecast, Minute, Remaining, forecast
from fastmove.migrate.situation import LEFT
from fastmove.migrate.situation import windows as windows_of
from fastmove.migrate.windows import Ceiling, Windows

if TYPE_CHECKING:
    from fastmove.migrate.web.figures import Look  # with what makes pages, so it is imported when it is needed

DAY: Final = timedelta(1)

MOST: Final = 10
"""So many times as fast as a sample that says little: it may be faster yet, but nobody should count on it."""

LEDGER: Final = "ledger"
SAMPLE: Final = "sample"
_MEASURED: Final = {LEDGER: "what was moved so far", SAMPLE: "the sample"}


# ---------------------------------------------------------------------- what a ledger knows


class Known(NamedTuple):
    """A batch that is there already."""

    look: Look
    volumes: Sequence[Volume]

    def left(self) -> dict[str, Amount]:
        """What has not ended, by kind; of studies that have begun to come, what is missing."""

        found: dict[str, Amount] = {}
        for each in self.volumes:
            if each.state in LEFT:
                amount = Amount(each.studies, each.counted, max(each.expected - each.stored, 0))
                kind = kind_of(each.modalities)
                found[kind] = found[kind].plus(amount) if kind in found else amount
        return found

    def moved(self) -> dict[str, list[Part]]:
        """What is complete and came by us, by kind."""

        found: dict[str, dict[int, Part]] = {}
        for each in self.volumes:
            if each.state is JobState.COMPLETE and each.stored and each.nbytes:
                parts, part = (
                    found.setdefault(kind_of(each.modalities), {}),
                    Part(each.studies, each.stored, each.nbytes),
                )
                parts[each.part] = parts[each.part].plus(part) if each.part in parts else part
        return {kind: list(parts.values()) for kind, parts in found.items()}

    def minutes(self, windows: Windows) -> list[Minute]:
        """Those in which it was at work, if anything came."""

        from fastmove.migrate.web.figures import minutes_of

        minutes = minutes_of(self.look, windows)
        return minutes if any(each.studies or each.instances for each in minutes) else []


async def known_of(where: str, batch: str, source: str, now: datetime, zone: tzinfo) -> Known | None:
    """A batch of that peer; None if it, or the ledger, is not there.  What cannot be read is said, and not known."""

    if not is_shared(where) and not Path(where).exists():
        return None
    from fastmove.migrate.web.figures import look

    try:
        async with Ledger.open(where, read_only=True) as ledger:
            found = next((each for each in await ledger.batches() if (each.name, each.source) == (batch, source)), None)
            seen = None if found is None else await look(ledger, found.id, now.timestamp(), zone)
            return None if seen is None else Known(seen, await ledger.volumes(seen.batch.id))
    except LedgerError as error:
        say(f"what was moved so far is not known: {error}", err=True)
        return None


# ---------------------------------------------------------------------- the outlook


class Outlook(NamedTuple):
    """What is to be moved; None for what was not measured."""

    at: datetime
    amount: Amount
    nbytes: Interval | None
    sized_by: tuple[str, ...]
    until: Forecast | None
    rated_by: str
    """Empty: no rate was measured."""

    windows: Windows

    @classmethod
    def of(
        cls,
        amounts: Mapping[str, Amount],
        known: Known | None,
        sampled: Sampled | None,
        parallel: int,
        windows: Windows,
        now: datetime,
    ) -> Outlook:
        """Of these amounts by kind; `parallel` studies of the sample were moved at once.

        If there are no windows, those of the batch count.
        """
        amount = reduce(Amount.plus, amounts.values(), Amount())
        theirs = windows if known is None else windows_of(known.look.batch, windows.timezone)
        moved = {} if known is None else known.moved()
        came = {} if sampled is None else sampled.parts
        nbytes = total(amounts, together(moved, came))
        counted = amount.instances if amount.counted == amount.studies else None
        remaining = Remaining(amount.studies, counted, None if nbytes is None else round(nbytes.estimate))
        windows = windows if windows.windows else theirs
        rated_by, until = "", None
        if minutes := [] if known is None else known.minutes(theirs):
            rated_by, until = LEDGER, forecast(remaining, minutes, windows, now)
        elif (seconds := total(amounts, came, "seconds")) is not None:
            rated_by, until = SAMPLE, _by_sample(remaining, seconds, parallel, windows, now)
        return cls(
            now,
            amount,
            nbytes,
            tuple(name for name, measured in ((LEDGER, moved), (SAMPLE, came)) if measured),
            until,
            rated_by,
            windows,
        )

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        until = self.until
        return {
            "studies": self.amount.studies,
            "instances": self.amount.instances,
            "bytes": None
            if self.nbytes is None
            else {name: round(value or 0) for name, value in self.nbytes._asdict().items()} | {"by": self.sized_by},
            "forecast": None
            if until is None
            else {
                "days": round((until.likely - self.at) / DAY, 3),
                **{
                    name: None if end is None else end.isoformat(timespec="seconds")
                    for name, end in vars(until).items()
                },
                "by": self.rated_by,
            },
        }

    def show(self, what: str) -> None:
        """For people, as `what` it is."""
        if not self.amount.studies:
            say(f"{what}: nothing")
            return
        say(f"{what}: {', '.join(self._how_much())}")
        say(self._how_long())

    def _how_much(self) -> Iterator[str]:
        amount, nbytes = self.amount, self.nbytes
        yield f"{amount.studies:,} studies"
        uncounted = amount.studies - amount.counted
        yield f"{'at least ' if uncounted else ''}{amount.instances:,} instances"
        if nbytes is None:
            yield "how many bytes is not known (--sample measures some of them)"
        else:
            low, high = (megabytes(round(value or 0)) for value in (nbytes.low, nbytes.high))
            by = " and ".join(_MEASURED[each] for each in self.sized_by)
            yield f"about {megabytes(round(nbytes.estimate))} ({low} to {high}) by {by}"

    def _how_long(self) -> str:
        if not self.rated_by:
            return "how long it takes is not known: no rate was measured (--sample measures one)"
        when = "within the windows" if self.windows.windows else "at all hours"
        by = f"by the rate of {_MEASURED[self.rated_by]}, {when}"
        if self.until is None:
            return f"it takes years, or for ever, {by}"
        likely, earliest, latest = (
            None if end is None else _lasting(end - self.at)
            for end in (self.until.likely, self.until.earliest, self.until.latest)
        )
        end = self.until.likely.strftime("%Y-%m-%d %H:%M")
        return f"it takes about {likely} ({earliest} to {latest or 'years'}) {by}: until {end}"


def _by_sample(
    remaining: Remaining, seconds: Interval, parallel: int, windows: Windows, now: datetime
) -> Forecast | None:
    """By how long all of it would take, one study after the other: of some kinds a sample has more than there are."""

    def until(lasting: float) -> Forecast | None:
        studies, instances, nbytes = (
            float(each or 0) for each in (remaining.studies, remaining.instances, remaining.nbytes)
        )
        all_of_it = Minute(Ceiling(parallel), studies, instances, nbytes, lasting / parallel)
        return forecast(remaining, [all_of_it], windows, now)

    likely = until(seconds.estimate)
    sooner = until(max(seconds.low or 0.0, seconds.estimate / MOST))
    later = until(seconds.high or seconds.estimate)
    if likely is None or sooner is None:
        return None
    return Forecast(likely.likely, sooner.earliest, None if later is None else later.latest)


_UNITS: Final = ((DAY, "days"), (timedelta(hours=1), "hours"), (timedelta(minutes=1), "minutes"))


def _lasting(time: timedelta) -> str:
    """In days, or in something smaller where there are not two of them."""
    for unit, words in _UNITS:
        if time >= 2 * unit:
            return f"{time / unit:,.1f} {words}"
    return f"{time.total_seconds():,.1f} seconds"
