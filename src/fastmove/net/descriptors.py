"""File descriptors: as many as the limits of a listener need; or else limits that go with those that there are."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
from typing import Final

from fastmove.limits import Limits
from fastmove.notices import HostStrained, Observer
from fastmove.types import Objection

PER_ASSOCIATION: Final = 3
"""Its socket, a file that is written, and one more while that is put in place or compared."""

BESIDE: Final = 64
"""The listening socket, folders, the loop, logs, a manifest, libraries."""


def needed(limits: Limits) -> int:
    """How many a listener with these limits may come to need."""
    return limits.max_associations * PER_ASSOCIATION + limits.max_pending + BESIDE


def lowered(limits: Limits, descriptors: int) -> Limits:
    """The same for fewer descriptors: a quarter of them for connections without an association."""
    pending = min(limits.max_pending, max(descriptors // 4, 1))
    rest = descriptors - min(BESIDE, descriptors // 2) - pending
    associations = max(min(rest // PER_ASSOCIATION, limits.max_associations), 1)
    return limits.replace(max_associations=associations, max_pending=pending)


def fitted(limits: Limits, notify: Observer | None = None) -> Limits:
    """The limits as they are, if this process may open enough files, or may be let to; else lower ones, which is told.

    The soft limit of the process is raised as far as need be (RLIMIT_NOFILE, setrlimit(2)).
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = needed(limits)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return limits
    available = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
    resource.setrlimit(resource.RLIMIT_NOFILE, (available, hard))
    if available == wanted:
        return limits
    fewer = lowered(limits, available)
    if notify is not None:
        detail = f"{hard} file descriptors, {wanted} are needed: at most {fewer.max_associations} associations at once"
        notify(HostStrained("limit.nofile", detail))
    return fewer


def few_descriptors() -> Objection | None:
    """Why no association is to come in: there are no descriptors for its files.

    Whatever else took them, of this process or of this host, there are fewer associations for as long as it has them.
    """
    with contextlib.ExitStack() as opened:
        try:
            for _ in range(PER_ASSOCIATION - 1):  # it has its socket
                opened.callback(os.close, os.open("/", os.O_PATH | os.O_CLOEXEC))
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                return Objection("limit.nofile", f"{error.strerror}: no association before there are descriptors")
    return None
