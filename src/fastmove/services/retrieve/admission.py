"""Whose associations the listener of a retrieve takes, and why objects are missing that came by others."""

from __future__ import annotations

import contextlib
import shlex
import time
from collections.abc import Callable
from typing import Final

from fastmove.errors import ConfigurationError
from fastmove.net.allowed_hosts import AllowedHosts, addresses_of
from fastmove.services.retrieve.config import RetrieveConfig
from fastmove.services.retrieve.unit import TurnedAway
from fastmove.ul.negotiation import AcceptPolicy, Rejection
from fastmove.ul.pdu import AAssociateRQ

KEPT: Final = 16
"""Hosts and titles that were turned away, the last ones; with more somebody tries what is let in."""

SHOWN: Final = 3


class Admission:
    """Who calls our AE title may send, from a host of the PACS; remembers who was turned away."""

    def __init__(self, config: RetrieveConfig) -> None:
        self._config = config
        self._hosts = AllowedHosts(config.accept_hosts)
        self._refused: dict[tuple[str, str], float] = {}

    async def policy(self) -> AcceptPolicy:
        """What our listener goes by, once names are resolved; ConfigurationError for one of ours that leads nowhere."""
        config = self._config
        await self._hosts.resolve()
        with contextlib.suppress(ConfigurationError):  # then it cannot be connected to, either, which says why
            for address in await addresses_of(config.peer.host):
                self._hosts.add(address)
        return AcceptPolicy(
            config.move_destination or config.ae_title,
            calling_ae_titles=frozenset(config.accept_from) or None,
            hosts=self._hosts,
            max_pdu_length=config.limits.max_pdu_length,
        )

    def reached(self, address: str) -> None:
        """The PACS has answered there: its name may lead elsewhere than it did at the start."""
        self._hosts.add(address)

    def turned_away(self, request: AAssociateRQ, rejection: Rejection, host: str) -> None:
        """An association was refused; who calls us by another title from elsewhere is nobody that we wait for."""
        who = {
            "rq.host": host,
            "rq.calling_ae": request.calling_ae_title,
            "rq.called_ae": request.called_ae_title if host in self._hosts else "",
        }.get(rejection.key)
        if not who:
            return
        self._refused.pop((rejection.key, who), None)
        self._refused[rejection.key, who] = time.monotonic()
        if len(self._refused) > KEPT:
            del self._refused[next(iter(self._refused))]

    def since(self, began: float) -> TurnedAway | None:
        """Who was turned away since that time of the monotonic clock; None if nobody was."""
        late = [key for key, at in self._refused.items() if at >= began]
        if not late:
            return None
        event = late[-1][0]
        return TurnedAway(event, _ADVICE[event]([who for each, who in late if each == event][-SHOWN:], self._config))


def _of_hosts(hosts: list[str], _: RetrieveConfig) -> str:
    options = " ".join(f"--accept-host {shlex.quote(host)}" for host in hosts)
    return f"the PACS sends from {' and '.join(hosts)}, which is not allowed: {options}"


def _of_callers(titles: list[str], _: RetrieveConfig) -> str:
    options = " ".join(f"--accept-from {shlex.quote(title)}" for title in titles)
    return f"the PACS sends as {' and '.join(map(repr, titles))}, which is not allowed: {options}"


def _of_called(titles: list[str], config: RetrieveConfig) -> str:
    ours = config.move_destination or config.ae_title
    return f"the PACS calls us {' and '.join(map(repr, titles))}: correct that to {ours!r} in the PACS"


_ADVICE: Final[dict[str, Callable[[list[str], RetrieveConfig], str]]] = {
    "rq.host": _of_hosts,
    "rq.calling_ae": _of_callers,
    "rq.called_ae": _of_called,
}
