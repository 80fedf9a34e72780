"""The examination: every probe in its order, what each needs, and what each would ask."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from typing import Final, NamedTuple

from fastmove.errors import AssociationError, FastmoveError, NoAcceptedContext, TimedOut
from fastmove.notices import Observer
from fastmove.services.doctor import associating, moving, querying, reaching, securing, sending
from fastmove.services.doctor.findings import Finding, Outcome, note, problem, skipped
from fastmove.services.doctor.visit import DoctorConfig, Visit
from fastmove.services.profile import PacsProfile

PATIENCES_PER_PROBE: Final = 30
"""However much it waits for, a probe is given up after so many times the patience."""


_SMALL: Final = f"one small study ({querying.MANY} instances at most)"


class Probe(NamedTuple):
    """Something to find out."""

    name: str
    title: str
    run: Callable[[Visit], Awaitable[Finding]]
    needs: tuple[str, ...] = ()
    """Probes without whose success it makes no sense."""

    asks: str = ""
    """What it asks of the PACS; empty: nothing of its own."""

    missing: Callable[[Visit], str] = lambda _: ""
    """Why it cannot be tried; empty if it can."""

    wanted: Callable[[Visit], bool] = lambda _: True
    """Whether it is a question at all."""


def _no_port(visit: Visit) -> str:
    return "" if visit.config.port is not None else "no --port given: our port, as the PACS has it"


def _by_tls(visit: Visit) -> bool:
    return visit.config.peer.tls is not None


def _tls_failed(visit: Visit) -> str:
    return "not tried: see TLS" if visit.tls_failed else ""


def _no_find(visit: Visit) -> str:
    return "" if visit.find_model else "it offers no C-FIND"


def _no_study(visit: Visit) -> str:
    if visit.study is not None:
        return ""
    return "no small study was found: name one with --study UID"


def _not_to_be_moved(visit: Visit) -> str:
    return _no_port(visit) or _no_study(visit)


def _no_list(visit: Visit) -> str:
    return "" if visit.instances else "the instances of the study are not known"


PROBES: Final = (
    Probe("name", "Host name", reaching.resolve, asks="the name server for its address"),
    Probe("tcp", "TCP connection", reaching.connect, ("name",), "one connection, closed at once"),
    Probe("tls", "TLS", securing.handshake, ("tcp",), "a handshake", wanted=_by_tls),
    Probe(
        "dicom",
        "DICOM",
        reaching.speak,
        ("tcp",),
        "one association; if that fails, what TLS and HTTP answer",
        _tls_failed,
    ),
    Probe("association", "Association", associating.associate, ("dicom",)),
    Probe("contexts", "Services", associating.contexts, ("association",)),
    Probe("implementation", "Implementation", associating.implementation, ("association",)),
    Probe("asynchronous", "Asynchronous operations", associating.asynchronous, ("association",), "one association"),
    Probe("echo", "C-ECHO", associating.echo, ("association",), f"C-ECHO, {associating.ECHOES} times"),
    Probe(
        "find_study",
        "C-FIND of studies",
        querying.find_studies,
        ("contexts",),
        f"C-FIND for studies of the last days, at most {querying.LISTED_STUDIES} each time, cancelled beyond; no names",
        _no_find,
    ),
    Probe("find_series", "C-FIND of series", querying.find_series, ("find_study",), "C-FIND: series of one", _no_study),
    Probe(
        "find_image",
        "C-FIND of instances",
        querying.find_images,
        ("find_series",),
        f"C-FIND for the instances of its series, {querying.LISTED_SERIES} series at most",
        _no_study,
    ),
    Probe(
        "find_relational",
        "C-FIND of a whole study",
        querying.relational,
        ("find_image",),
        "C-FIND for the instances of the study at once",
        _no_list,
    ),
    Probe(
        "find_uid_lists", "C-FIND with a list of UIDs", querying.uid_lists, ("find_study",), "C-FIND for two studies"
    ),
    Probe(
        "find_cap",
        "Most matches of C-FIND",
        querying.cap,
        ("find_study",),
        f"C-FIND for studies of longer and longer times, {querying.CAP_MATCHES:,} matches at most, cancelled beyond",
    ),
    Probe("listen", "Our listener", moving.open_listener, ("contexts",), missing=_no_port),
    Probe(
        "move",
        "C-MOVE",
        moving.move,
        ("listen",),
        "C-MOVE of {study} to our listener",
        _not_to_be_moved,
    ),
    Probe("arrival", "Reaching us", moving.arrival, ("move",)),
    Probe("complete", "Completeness", moving.complete, ("arrival",)),
    Probe("storage", "Storage associations", sending.storage, ("arrival",)),
    Probe("counters", "Counters", sending.counters, ("arrival",)),
    Probe("early_success", "Final response", sending.early_success, ("arrival",)),
    Probe("originator", "Move originator", sending.originator, ("arrival",)),
    Probe("speed", "Speed", sending.speed, ("arrival",)),
    Probe("stalls", "Stalls", sending.stalls, ("arrival",)),
    Probe(
        "uid_lists",
        "C-MOVE with a list of UIDs",
        moving.uid_lists,
        ("arrival",),
        "C-MOVE of two of its instances",
        _no_list,
    ),
    Probe(
        "parallel",
        "Associations at once",
        associating.parallel,
        ("association",),
        "associations at once, one after the other until one is refused, {associations} at most; C-ECHO on each",
    ),
    Probe("outlook", "How fast it could be", sending.outlook, ("arrival",)),
)


_BY_NAME: Final = {probe.name: probe for probe in PROBES}


def _rests_on(probe: Probe, name: str) -> bool:
    return any(need == name or _rests_on(_BY_NAME[need], name) for need in probe.needs)


class Examination:
    """Everything that can be found out about a PACS, one probe after the other.

    No probe raises for what the peer does: it becomes a finding.
    """

    def __init__(self, config: DoctorConfig, notify: Observer | None = None) -> None:
        self.visit = Visit(config, notify)
        self.findings: dict[str, Finding] = {}
        """By probe, as far as it has come."""

    def plan(self) -> Iterator[tuple[Probe, str]]:
        """What each probe would ask, of those that ask anything; or why it would not."""
        config = self.visit.config
        for probe in PROBES:
            if probe.asks and probe.wanted(self.visit):
                hindrance = _no_port(self.visit) if _rests_on(probe, "listen") else ""
                study = config.study_instance_uid or _SMALL
                yield probe, hindrance or probe.asks.format(associations=config.associations, study=study)

    async def run(
        self, on_begin: Callable[[Probe], None] = lambda _: None
    ) -> AsyncGenerator[tuple[Probe, Finding], None]:
        """Each probe with its finding, as it comes; `on_begin` is told of each that is tried."""
        try:
            for probe in filter(self._wanted, PROBES):
                reason = self._hindrance(probe)
                if reason:
                    finding = skipped(reason)
                else:
                    on_begin(probe)
                    finding = await self._tried(probe)
                finding = self.findings[probe.name] = finding.replace(probe=probe.name)
                yield probe, finding
        except BaseException:
            self.visit.abort()
            raise
        finally:
            await self.visit.close()

    def _wanted(self, probe: Probe) -> bool:
        return probe.wanted(self.visit)

    def _hindrance(self, probe: Probe) -> str:
        """Why a probe is not tried, going back to what began it; empty if it is."""
        for name in probe.needs:
            found = self.findings[name]
            if found.outcome is Outcome.SKIPPED:
                return found.seen
            if found.outcome is Outcome.PROBLEM:
                return f"not tried: see {_BY_NAME[name].title}"
        return probe.missing(self.visit)

    async def _tried(self, probe: Probe) -> Finding:
        visit = self.visit
        limit_s = PATIENCES_PER_PROBE * visit.config.patience_s
        try:
            async with asyncio.timeout(limit_s):
                return await probe.run(visit)
        except TimeoutError:
            error: FastmoveError = TimedOut("response_s", limit_s)
        except NoAcceptedContext as refused:
            return note(f"not possible: {refused}")
        except FastmoveError as failed:
            error = failed
        await visit.hang_up()
        lost = isinstance(error, AssociationError)
        return problem(f"the association does not last: {error}" if lost else str(error), cause=error)

    @property
    def established(self) -> bool:
        """True if there was an association."""
        found = self.findings.get("association")
        return found is not None and found.outcome is Outcome.OK

    @property
    def profile(self) -> PacsProfile:
        """What is known of the PACS by now."""
        return self.visit.known

    @property
    def problems(self) -> list[Finding]:
        """What does not work, the first cause first."""
        return [each for each in self.findings.values() if each.outcome is Outcome.PROBLEM]
