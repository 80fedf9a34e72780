"""The application: which address leads to which page, and what is said if there is none."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from starlette.applications import Starlette
from starlette.convertors import IntegerConvertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fastmove.errors import LedgerError
from fastmove.migrate.web.access import Access
from fastmove.migrate.web.actions import Actions
from fastmove.migrate.web.pages import Pages
from fastmove.migrate.web.site import Site

Answer = Callable[[Request], Awaitable[Response]]

_TEXTS: Final = {
    400: "That is nothing that these pages ask for.",
    404: "There is no such page, batch or study.",
    405: "That cannot be done with this page.",
}


class _Number(IntegerConvertor):
    """Of a batch: Python refuses to read thousands of digits."""

    regex = "[0-9]{1,18}"


def application(site: Site) -> Access:
    """Pages and buttons of a ledger, with nothing before the rules."""
    pages, actions = Pages(site), Actions(site)
    register_url_convertor("number", _Number())
    batch, study = "/batch/{batch:number}", "/batch/{batch:number}/study/{uid}"
    looks: dict[str, Answer] = {
        "/": pages.batches,
        batch: pages.overview,
        f"{batch}/studies": pages.studies,
        study: pages.study,
    }
    pushes: dict[str, Answer] = {
        f"{batch}/wish": actions.wish,
        f"{batch}/retry": actions.retry,
        f"{batch}/park": actions.park,
        f"{study}/retry": actions.retry_study,
        f"{study}/park": actions.park_study,
        f"{study}/prioritise": actions.prioritise_study,
    }
    routes = [Route(path, answer, methods=["GET"]) for path, answer in looks.items()]
    routes += [Route(path, answer, methods=["POST"]) for path, answer in pushes.items()]

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        text = _TEXTS.get(error.status_code, error.detail)
        return site.page(request, "failed", {"text": text}, error.status_code)

    async def failed(request: Request, error: Exception) -> Response:
        return site.page(request, "failed", {"text": f"The ledger cannot be used now: {error}"}, 503)

    return Access(
        Starlette(routes=routes, exception_handlers={HTTPException: refused, LedgerError: failed}), site.rules, site.now
    )
