"""No core dump: the memory of a listener has the data of patients, and so would a file of it."""

from __future__ import annotations

import resource
from typing import Final

PR_SET_DUMPABLE: Final = 4
"""prctl(2); Python has no name for it."""


def forbid_core_dumps() -> None:
    """For this process and its children: no file, no handler that is given it, no debugger of the same user.

    The limit alone does not keep a core from a handler (core(5), a pattern that begins with a pipe): the flag does.
    """
    import ctypes  # takes 10 ms: for those that serve

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
