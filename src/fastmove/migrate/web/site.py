"""What all pages share: the ledger, what has been looked at already, templates, and how times are written."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from datetime import datetime, tzinfo
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse

from fastmove.ledger.model import Batch, Progress
from fastmove.ledger.store import Ledger
from fastmove.migrate.report import PROOF_WORDS, REASON_WORDS, VERDICT_WORDS
from fastmove.migrate.situation import STATES as PEER_STATES
from fastmove.migrate.web.access import SECRET_FIELD, Rules
from fastmove.migrate.web.figures import STATES, Look, look
from fastmove.observe.page import Templates, templates
from fastmove.types import VERSION

KEPT_S: Final = 2.0
"""What has been seen is shown again for so long..."""

TIMES_KEPT: Final = 10.0
"""... or so many times as long as it took to see it, whichever is longer."""

PARTS_HEADER: Final = "X-Parts-Only"
"""With it a page is asked for without style and script: a script of the page that is there takes its parts over."""

PAGES: Final = ("batches", "failed", "overview", "studies", "study")
"""The templates."""

LIVE_MS: Final = 3000
"""How often a page asks what is new."""


class Site:
    """A ledger and how it is shown; with `patients` the page of a study names the patient."""

    def __init__(
        self,
        ledger: Ledger,
        rules: Rules,
        zone: tzinfo,
        *,
        patients: bool = False,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.ledger = ledger
        self.rules = rules
        self.zone = zone
        self.patients = patients
        self.now = now
        self._environment = self._templates()
        self._looks: dict[int, tuple[float, Look]] = {}
        self._all: dict[int, tuple[float, list[Progress]]] = {}
        self._looking = asyncio.Lock()

    # ------------------------------------------------------------------ what is shown

    async def batch(self, request: Request) -> Batch:
        """The one that the path names; 404 if there is none."""
        wanted = request.path_params["batch"]
        for each in await self.ledger.batches():
            if each.id == wanted:
                return each
        raise HTTPException(404)

    async def look(self, batch_id: int) -> Look:
        """A batch as it was moments ago: who all look at it see the same; 404 if there is none."""
        async with self._looking:
            until, seen = self._looks.get(batch_id, (0.0, None))
            began = time.monotonic()
            if seen is None or began >= until:
                seen = await look(self.ledger, batch_id, self.now(), self.zone)
                if seen is None:
                    raise HTTPException(404)
                self._looks[batch_id] = self._until(began), seen
            return seen

    async def progress(self, batch_id: int) -> list[Progress]:
        """All that ever came, minute by minute."""
        async with self._looking:
            until, known = self._all.get(batch_id, (0.0, []))
            began = time.monotonic()
            if began >= until:
                known = await self.ledger.progress(batch_id, 0)
                self._all[batch_id] = self._until(began), known
            return known

    async def warm(self) -> None:
        """Do once what is slow only the first time, so that whoever comes first need not wait for it."""
        for name in PAGES:
            self._environment.get_template(f"{name}.html.jinja")
        for batch in await self.ledger.batches():
            await self.look(batch.id)

    def forget(self) -> None:
        """Something has been changed: look anew."""
        self._looks.clear()

    @staticmethod
    def _until(began: float) -> float:
        ended = time.monotonic()
        return ended + max(KEPT_S, TIMES_KEPT * (ended - began))

    # ------------------------------------------------------------------ how it is shown

    def page(self, request: Request, name: str, values: Mapping[str, Any], status: int = 200) -> HTMLResponse:
        """A page of this template."""
        page = self._environment.get_template(f"{name}.html.jinja")
        text = page.render(
            nonce=request.state.nonce,
            secret=request.state.secret,
            read_only=self.rules.read_only,
            parts_only=PARTS_HEADER in request.headers,
            **{"live": False, "refresh_s": 0, "done": None, **values},
        )
        return HTMLResponse(text, status)

    def clock(self, at: float | datetime | None) -> str:
        """A time as people write it, by the clock of this place."""
        if at is None:
            return ""
        moment = datetime.fromtimestamp(at, self.zone) if isinstance(at, float | int) else at.astimezone(self.zone)
        this_year = moment.year == datetime.fromtimestamp(self.now(), self.zone).year
        return moment.strftime("%a %d %b %H:%M" if this_year else "%d %b %Y %H:%M")

    def _templates(self) -> Templates:
        environment = templates(("fastmove.migrate.web", "templates"))
        environment.filters |= {"clock": self.clock, "status": _status}
        environment.globals |= {
            "version": VERSION,
            "live_ms": LIVE_MS,
            "parts_header": PARTS_HEADER,
            "zone": str(self.zone),
            "secret_field": SECRET_FIELD,
            "peer_words": PEER_STATES,
            "state_words": {state.value: words for state, words in STATES.items()},
            "verdict_words": VERDICT_WORDS,
            "proof_words": PROOF_WORDS,
            "reason_words": REASON_WORDS,
            "patients": self.patients,
        }
        return environment


def _status(status: int | None) -> str:
    """A DIMSE status as the standard writes it."""
    return "" if status is None else f"{status:04X}"
