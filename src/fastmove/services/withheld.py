"""An answer that waits: Success to a C-STORE-RQ only when somebody says that the object is where it is to be."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from functools import partial


class Withheld(Future[None]):
    """What `on_stored` gives back to have the C-STORE-RSP wait for it: a StorageError of its becomes the status."""


def later(busy: Future[None] | None, seconds: float) -> Future[None]:
    """What is done when that is, and not before so many seconds have passed; what withholds an answer goes on to."""
    held: Future[None] = Future() if busy is None else type(busy)()

    def go_on(done: Future[None] | None = None) -> None:
        error = None if done is None or done.cancelled() else done.exception()
        if held.done():
            return  # whoever waited has gone
        if error is None:
            held.set_result(None)
        else:
            held.set_exception(error)

    passed = go_on if busy is None else partial(busy.add_done_callback, go_on)
    asyncio.get_running_loop().call_later(seconds, passed)
    return held
