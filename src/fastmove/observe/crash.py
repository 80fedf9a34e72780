"""What is said of an error of our own: where, and of which class; never a value, as that may be a patient's."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import PurePath
from types import TracebackType
from typing import Final

VARIABLE: Final = "FASTMOVE_TRACEBACK"
"""Set to 1, tracebacks are shown in full: messages of exceptions may quote a data set."""

_OURS: Final = "fastmove"


def name_of(error: BaseException) -> str:
    """Its class; of an OSError also what went wrong, which is text of the system."""
    name = type(error).__name__
    if isinstance(error, OSError) and error.errno is not None:
        return f"{name} ({os.strerror(error.errno)})"
    return name


def where(error: BaseException, frames: int = 4) -> str:
    """File and line of the innermost frames, those of this program if it has any part in it, innermost first."""
    found = list(_frames(error.__traceback__))
    ours = [place for place, is_ours in found if is_ours]
    return " < ".join(reversed((ours or [place for place, _ in found])[-frames:]))


def _frames(traceback: TracebackType | None) -> Iterator[tuple[str, bool]]:
    while traceback is not None:
        path = PurePath(traceback.tb_frame.f_code.co_filename)
        yield f"{path.name}:{traceback.tb_lineno}", _OURS in path.parts
        traceback = traceback.tb_next


def described(error: BaseException) -> str:
    """The crash in one line, and what to do about it."""
    chain: list[str] = []
    cause: BaseException | None = error
    while cause is not None and len(chain) < 4:
        chain.append(f"{name_of(cause)} at {where(cause) or '?'}")
        cause = cause.__cause__ or cause.__context__
    text = ", from ".join(chain)
    return f"fastmove: internal error: {text}; please report it ({VARIABLE}=1 shows more, and maybe data of patients)"
