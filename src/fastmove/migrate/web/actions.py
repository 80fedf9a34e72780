"""The buttons: what an operator wishes of a batch, and of a study; each leaves an event."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from fastmove.ledger.model import Batch, Job, Wish
from fastmove.migrate.report import OPERATOR, REASON_WORDS, studies_are
from fastmove.migrate.web.site import Site

WISHES: Final = {
    "pause": Wish.PAUSE,
    "resume": Wish.RUN,
    "drain": Wish.DRAIN,
    "stop": Wish.STOP,
}
"""The buttons of a batch."""

DONE: Final = {
    "pause": "Nothing more is begun.",
    "resume": "It may go on.",
    "drain": "The run ends with what is in hand.",
    "stop": "Moves under way are cancelled.",
    "retry": "Studies that are tried again: {}.",
    "park": "It is parked.",
    "park-class": "Studies that are parked now: {}.",
    "prioritise": "Its priority is {}.",
    "not-retried": "It is not parked, and does not wait: there is nothing to try again.",
    "not-parked": "It is being moved, or has ended: it cannot be parked.",
}
"""What is said when a button was pushed; with a number."""

_NUMBER: Final = re.compile(r"(-?\d{1,18})?", re.ASCII)
"""What the address of a page may have: Python refuses to read thousands of digits."""

MAX_PRIORITY: Final = 1_000_000
MAX_REASON: Final = 300


def said(query: Mapping[str, str]) -> str | None:
    """The sentence that the address of a page asks for; None for anything that is none of ours."""
    text, number = DONE.get(query.get("done", "")), query.get("n", "")
    if text is None or not _NUMBER.fullmatch(number):
        return None
    return text.format(f"{int(number or 0):,}")


class Actions:
    """What is done when somebody pushes a button."""

    def __init__(self, site: Site) -> None:
        self._site = site

    async def wish(self, request: Request) -> Response:
        """Pause, resume, drain or stop."""
        batch, name = await self._site.batch(request), _field(request, "wish")
        if name not in WISHES:
            raise HTTPException(400)
        await self._site.ledger.wish(batch.id, WISHES[name])
        return await self._done(batch, name, DONE[name])

    async def retry(self, request: Request) -> Response:
        """All studies that failed for a class of reasons."""
        batch, reason_class = await self._site.batch(request), _field(request, "class")
        count = await self._site.ledger.retry(batch.id, reason_class=reason_class)
        return await self._done(batch, "retry", studies_are(count, reason_class, "tried again"), count)

    async def park(self, request: Request) -> Response:
        """All studies that wait to be tried again for a class of reasons, with a reason."""
        batch, reason_class = await self._site.batch(request), _field(request, "class")
        reason = _reason(request)
        count = await self._site.ledger.park_class(batch.id, reason_class, reason, self._site.now())
        text = f"{studies_are(count, reason_class, 'parked')}: {reason}"
        return await self._done(batch, "park-class", text, count)

    async def retry_study(self, request: Request) -> Response:
        """One study."""
        batch, job = await self._study(request)
        study = job.job.study_instance_uid
        count = await self._site.ledger.retry(batch.id, study=study)
        if not count:
            return self._back(batch, "not-retried", job=job)
        return await self._done(batch, "retry", "it is tried again", count, job)

    async def park_study(self, request: Request) -> Response:
        """One study, with a reason."""
        batch, job = await self._study(request)
        reason = _reason(request)
        if not await self._site.ledger.park(batch.id, job.job.study_instance_uid, reason, self._site.now()):
            return self._back(batch, "not-parked", job=job)
        return await self._done(batch, "park", f"parked: {reason}", job=job)

    async def prioritise_study(self, request: Request) -> Response:
        """One study, by a number."""
        batch, job = await self._study(request)
        try:
            priority = int(_field(request, "priority"))
        except ValueError:
            raise HTTPException(400) from None
        if abs(priority) > MAX_PRIORITY:
            raise HTTPException(400)
        await self._site.ledger.prioritise(batch.id, study=job.job.study_instance_uid, priority=priority)
        return await self._done(batch, "prioritise", f"its priority is {priority:,}", priority, job)

    async def _study(self, request: Request) -> tuple[Batch, Job]:
        batch = await self._site.batch(request)
        job = await self._site.ledger.job(batch.id, request.path_params["uid"])
        if job is None:
            raise HTTPException(404)
        return batch, job

    async def _done(
        self, batch: Batch, name: str, text: str, number: int | None = None, job: Job | None = None
    ) -> Response:
        kind = f"operator.{name.removesuffix('-class')}"
        job_id = None if job is None else job.id
        await self._site.ledger.event(batch.id, kind, text, self._site.now(), job_id=job_id)
        self._site.forget()
        return self._back(batch, name, number, job)

    @staticmethod
    def _back(batch: Batch, name: str, number: int | None = None, job: Job | None = None) -> Response:
        path = f"/batch/{batch.id}" + ("" if job is None else f"/study/{job.job.study_instance_uid}")
        return RedirectResponse(f"{path}?done={name}" + ("" if number is None else f"&n={number}"), 303)


def _reason(request: Request) -> str:
    """That of the form, or the usual one."""
    return " ".join(_field(request, "reason").split())[:MAX_REASON] or REASON_WORDS[OPERATOR]


def _field(request: Request, name: str) -> str:
    """Of the form; 400 if it is not there."""
    form: Mapping[str, str] = request.state.form
    if name not in form:
        raise HTTPException(400)
    return form[name]
