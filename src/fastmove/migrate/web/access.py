"""Who may see the pages and push their buttons; what a browser may do with them.  Before everything else.

A token opens them, once, by its address; then a cookie does, another one each time.  A page of somebody else's that
leads a browser here has neither the cookie (SameSite) nor the secret of the forms, and a name of somebody else's is no
name of ours.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from http.cookies import CookieError, SimpleCookie
from typing import Final
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fastmove.values import Value

TOKEN: Final = "token"
"""The parameter of the address that opens the pages."""

SECRET_FIELD: Final = "secret"
"""The field that every form has."""

MAX_FORM_BYTES: Final = 16 << 10

MAX_FIELDS: Final = 32

KEPT_S: Final = 7 * 86400
"""How long a cookie opens the pages, whatever the browser thinks."""

_SESSION: Final = re.compile(r"([0-9]{1,12})\.[\w-]{22}\.([0-9a-f]{64})", re.ASCII)
"""A cookie: when it was made, what no other one has, and what only who has the token can make of both."""

SAFE: Final = frozenset(("GET", "HEAD"))

_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

_POLICY: Final = (
    "default-src 'none'; script-src 'nonce-{0}'; style-src 'nonce-{0}'; img-src data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


class Rules(Value):
    """Who may what; without a token everybody who can connect may see the pages."""

    secret = frozenset(("token", "key"))

    token: str | None
    names: frozenset[str]
    """What this host is called, in small letters; addresses that are numbers are always right."""

    cookie: str
    key: bytes
    """What cookies and secrets of forms are made from."""

    read_only: bool = False
    https: bool = False
    """Browsers come by HTTPS, through a proxy: they send the cookie by nothing else."""

    @classmethod
    def of(
        cls, token: str | None, names: Iterable[str], port: int, *, read_only: bool = False, https: bool = False
    ) -> Rules:
        """With a token cookies outlive the server, as long as it has the same one."""
        key = secrets.token_bytes() if token is None else token.encode()
        known = frozenset(name.lower().rstrip(".") for name in names)
        return cls(token, known | {"localhost"}, f"fastmove-{port}", key, read_only, https)

    def session(self, now: float) -> str:
        """What a new cookie has."""
        begun = f"{now:.0f}.{secrets.token_urlsafe(16)}"
        return f"{begun}.{self._made('session', begun)}"

    def is_session(self, cookie: str, now: float) -> bool:
        """True for one of ours that is not too old."""
        found = _SESSION.fullmatch(cookie)
        if found is None or not _equal(found[2], self._made("session", cookie.rpartition(".")[0])):
            return False
        return now - int(found[1]) <= KEPT_S

    def form_secret(self, session: str = "") -> str:
        """What forms have that are for whoever has this cookie."""
        return self._made("form", session)

    def _made(self, purpose: str, of: str) -> str:
        return hmac.new(self.key, f"{purpose} {of}".encode("utf-8", "surrogatepass"), "sha256").hexdigest()

    def is_ours(self, host: str) -> bool:
        """True for a name of this host: DNS can lead another name here, but no number."""
        name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name.lower().rstrip(".") in self.names
        return True


class Access:
    """Lets through what the rules allow, and says to browsers what pages may do: nothing but what is in them.

    A request that comes through has in its state `nonce` and `secret`, that of its forms, and a form its fields as
    `form`.
    """

    def __init__(self, app: ASGIApp, rules: Rules, now: Callable[[], float] = time.time) -> None:
        self._app = app
        self._rules = rules
        self._now = now

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A request."""
        if scope["type"] != "http":
            return
        nonce = secrets.token_urlsafe(16)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Content-Security-Policy"] = _POLICY.format(nonce)
                for name, value in _HEADERS.items():
                    headers[name] = value
            await send(message)

        request = Request(scope, receive)
        request.state.nonce = nonce
        session = "" if self._rules.token is None else _cookies(request.headers).get(self._rules.cookie, "")
        request.state.secret = self._rules.form_secret(session)
        answer = self._answer(request, session)
        if answer is None and request.method not in SAFE:
            answer = await self._of_form(request)
        await (answer or self._app)(scope, receive, send_with_headers)

    def _answer(self, request: Request, session: str) -> Response | None:
        """What is said instead of the page."""
        rules = self._rules
        hosts = request.headers.getlist("host")
        if len(hosts) != 1 or not rules.is_ours(hosts[0]):
            return _refused("This host is not called that: see `fastmove migrate serve --name`.")
        if rules.token is None:
            return None
        given = request.query_params.get(TOKEN)
        if given is not None and request.method in SAFE:
            if not _equal(given, rules.token):
                return _refused("The token is not the right one.")
            rest = urlencode([each for each in request.query_params.multi_items() if each[0] != TOKEN])
            # A path that begins with // would be another host.
            path = "/" + request.url.path.lstrip("/")
            found = RedirectResponse(path + (f"?{rest}" if rest else ""), 303)
            session = rules.session(self._now())
            found.set_cookie(rules.cookie, session, KEPT_S, httponly=True, samesite="strict", secure=rules.https)
            return found
        if not rules.is_session(session, self._now()):
            return _refused(f"Open this address with ?{TOKEN}= and the token of `fastmove migrate serve` behind it.")
        return None

    async def _of_form(self, request: Request) -> Response | None:
        """Read a form; what is said instead if it is none of ours."""
        if self._rules.read_only:
            return _refused("These pages are to look at only.")
        headers = request.headers
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2] != headers["host"]:
            return _refused("The form is of another page.")
        if headers.get("sec-fetch-site", "same-origin") != "same-origin":
            return _refused("The form is of another page.")
        form = await _form(request)
        if form is None:
            return PlainTextResponse("That is no form of these pages.\n", 400)
        if not _equal(form.pop(SECRET_FIELD, ""), request.state.secret):
            return _refused("The form is of another page, or of before a restart: load it anew.")
        request.state.form = form
        return None


async def _form(request: Request) -> dict[str, str] | None:
    """Its fields; None for anything else, and for what is too long."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        return None
    body = bytearray()
    try:
        async for part in request.stream():
            body += part
            if len(body) > MAX_FORM_BYTES:
                return None
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS))
    except (ValueError, ClientDisconnect):
        return None


def _cookies(headers: Headers) -> Mapping[str, str]:
    try:
        return {name: each.value for name, each in SimpleCookie(headers.get("cookie", "")).items()}
    except CookieError:
        return {}


def _equal(given: str, wanted: str) -> bool:
    """In a time that says nothing of how much of it is right."""
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), wanted.encode())


def _refused(why: str) -> Response:
    return PlainTextResponse(f"{why}\n", 403)
