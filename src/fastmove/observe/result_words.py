"""What is in a result of `fastmove bench`, in words: the same on a terminal and on a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

STALLS: Final = {
    "pacs": "the PACS thinks",
    "network": "network",
    "nagle": "delayed acknowledgements",
    "disk": "our disk",
    "cpu": "our processor",
    "limit": "our own limit (--max-rate)",
}
"""What a second may be spent on, in words and in the order of the plots."""

LATENCIES: Final = {
    "move": "C-MOVE, whole",
    "first_object": "to the first object",
    "gap": "between two objects",
    "store": "C-STORE: object and answer",
    "association": "association",
    "find": "C-FIND, whole",
    "first_match": "to the first match",
    "echo": "C-ECHO",
    "move_failed": "C-MOVE that failed",
    "study_failed": "study, not all of it stored",
    "find_failed": "C-FIND that failed",
    "store_failed": "C-STORE that failed",
    "echo_failed": "C-ECHO that failed",
}
"""In words and in the order of the plots; what is not here is shown by its own name."""

RATES: Final = {
    "bytes_per_s": ("MB/s", 1e6),
    "objects_per_s": ("objects/s", 1.0),
    "operations_per_s": ("per second", 1.0),
}


def in_words(point: Mapping[str, Any], among: Sequence[Mapping[str, Any]] = ()) -> str:
    """What a point is: how many at once, or how often, and what else differs among these."""
    rate = point.get("rate_per_s")
    parts = [f"{point['parallel']} at once" if rate is None else f"{rate:g} a second"]
    for name, value in point.items():
        if name not in ("parallel", "rate_per_s") and any(other[name] != value for other in among):
            parts.append(f"{name.replace('_', ' ')} {value}")
    return ", ".join(parts)
