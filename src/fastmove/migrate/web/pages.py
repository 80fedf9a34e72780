"""The pages: all batches, one of them, its studies, one of these."""

from __future__ import annotations

from typing import Final, NamedTuple
from urllib.parse import urlencode

from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from fastmove.ledger.model import Job, JobState, Summary
from fastmove.migrate.report import outcome
from fastmove.migrate.situation import of_late
from fastmove.migrate.web.actions import said
from fastmove.migrate.web.content import Contents
from fastmove.migrate.web.figures import SPANS, over_time, parts, terms, week
from fastmove.migrate.web.site import Site
from fastmove.observe.page import share

ROWS: Final = 50
"""Studies on a page."""

EVENTS: Final = 50

REFRESH_S: Final = 10
"""How often a page comes anew where scripts are off."""


class Pages:
    """What is answered to those who look."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._contents = Contents(site.ledger)

    async def batches(self, request: Request) -> Response:
        """All batches of the ledger; the only one at once."""
        batches = await self._site.ledger.batches()
        if len(batches) == 1:
            return RedirectResponse(f"/batch/{batches[0].id}", 303)
        rows = [(each, (await self._site.look(each.id))) for each in batches]
        shown = [(batch, seen, _share_complete(seen.summary)) for batch, seen in rows]
        return self._site.page(request, "batches", {"rows": shown})

    async def overview(self, request: Request) -> Response:
        """How far a batch is."""
        seen = await self._site.look(request.path_params["batch"])
        span = request.query_params.get("span", "24h")
        if span not in SPANS:
            raise HTTPException(404)
        progress = seen.progress if SPANS[span][0] else await self._site.progress(seen.batch.id)
        summary = seen.summary
        return self._site.page(
            request,
            "overview",
            {
                "seen": seen,
                "batch": seen.batch,
                "parts": parts(summary),
                "share": _share_complete(summary),
                "reasons": sorted(summary.reasons.items(), key=lambda each: (-each[1], each[0])),
                "waiting": summary.waiting,
                "week": week(seen.situation.windows, seen.at),
                "terms": terms(seen.batch),
                "rate": of_late(seen.progress, seen.at),
                "forecast": seen.forecast,
                "figures": over_time(progress, span, seen.at, self._site.zone),
                "span": span,
                "spans": SPANS,
                "live": True,
                "refresh_s": REFRESH_S,
                "done": said(request.query_params),
            },
        )

    async def studies(self, request: Request) -> Response:
        """Those that fit, from one of them on."""
        batch = await self._site.batch(request)
        wanted = _Wanted.of(request.query_params)
        jobs = await self._exact(batch.id, wanted) or await self._some(batch.id, wanted)
        reasons = (await self._site.look(batch.id)).summary.reasons
        return self._site.page(
            request,
            "studies",
            {
                "batch": batch,
                "wanted": wanted,
                "jobs": jobs[:ROWS],
                "next": f"?{urlencode(wanted.query | {'after': jobs[ROWS - 1].id})}" if len(jobs) > ROWS else None,
                "classes": sorted({*reasons, *filter(None, (wanted.reason_class,))}),
            },
        )

    async def study(self, request: Request) -> Response:
        """All that is known of a study."""
        batch = await self._site.batch(request)
        job = await self._site.ledger.job(batch.id, request.path_params["uid"])
        if job is None:
            raise HTTPException(404)
        ledger = self._site.ledger
        return self._site.page(
            request,
            "study",
            {
                "batch": batch,
                "job": job,
                "outcome": outcome(job),
                "attempts": await ledger.attempts(job.id),
                "events": await ledger.events(batch.id, job_id=job.id, limit=EVENTS),
                "content": await self._contents.of(job),
                "live": True,
                "may_retry": job.state in (JobState.PARKED, JobState.WAITING),
                "may_park": job.state in (JobState.READY, JobState.WAITING),
                "done": said(request.query_params),
            },
        )

    async def _exact(self, batch_id: int, wanted: _Wanted) -> list[Job]:
        """A study whose whole UID was given."""
        job = await self._site.ledger.job(batch_id, wanted.text) if wanted.text else None
        return [job] if job is not None and wanted.fits(job) else []

    async def _some(self, batch_id: int, wanted: _Wanted) -> list[Job]:
        """The next ones, and one more if there is one."""
        return await self._site.ledger.jobs(
            batch_id,
            states=wanted.states,
            reason_class=wanted.reason_class,
            text=wanted.text,
            patients=self._site.patients,
            after_id=wanted.after,
            limit=ROWS + 1,
        )


class _Wanted(NamedTuple):
    """What is looked for."""

    state: str
    reason_class: str | None
    text: str
    after: int

    @classmethod
    def of(cls, given: QueryParams) -> _Wanted:
        """From the address; 404 for what no page leads to."""
        state, after = given.get("state", ""), given.get("after", "0")
        if state and state not in list(JobState) or not (after.isascii() and after.isdigit() and len(after) < 19):
            raise HTTPException(404)
        return cls(state, given.get("class") or None, given.get("uid", "").strip(), int(after))

    @property
    def states(self) -> tuple[JobState, ...]:
        """In which states; those that have a reason, if one is looked for."""
        if self.state:
            return (JobState(self.state),)
        return (JobState.WAITING, JobState.PARKED) if self.reason_class else ()

    @property
    def query(self) -> dict[str, str | int]:
        """For the address of the next page."""
        given = {"state": self.state, "class": self.reason_class or "", "uid": self.text}
        return {name: value for name, value in given.items() if value}

    def fits(self, job: Job) -> bool:
        """True for a study of these states, and of this class."""
        right_class = self.reason_class is None or job.reason_class == self.reason_class
        return right_class and (not self.states or job.state in self.states)


def _share_complete(summary: Summary) -> str:
    return share(summary.states[JobState.COMPLETE].studies, summary.total.studies)
