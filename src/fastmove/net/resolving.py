"""Names of hosts to addresses; a resolver that does not answer keeps nobody waiting, nor the process from its end."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from ipaddress import ip_address
from threading import Thread


async def addresses(host: str, family: int = socket.AF_UNSPEC) -> list[str]:
    """The addresses of a host, in the order in which they are to be tried; OSError, UnicodeError if there are none.

    The call that asks cannot be given up.  It is made in a thread of its own that nobody waits for: those of the loop
    are waited for when it ends, and a resolver may take half a minute for each name.
    """
    if _is_address(host):
        return [host]
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[str]] = loop.create_future()

    def settle(found: list[str] | Exception) -> None:
        if answer.done():  # nobody waits any more
            return
        if isinstance(found, Exception):
            answer.set_exception(found)
        else:
            answer.set_result(found)

    def ask() -> None:
        found: list[str] | Exception
        try:
            rows = socket.getaddrinfo(host, None, family, socket.SOCK_STREAM)
            found = list(dict.fromkeys(str(address[0]) for *_, address in rows))
        except (OSError, UnicodeError) as error:
            found = error
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(settle, found)

    Thread(target=ask, name="resolver", daemon=True).start()
    return await answer


def _is_address(host: str) -> bool:
    try:
        ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True
