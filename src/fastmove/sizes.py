"""Sizes in bytes as people write them: 131072, 512k, 1.5G, 64Mi."""

from __future__ import annotations

import re
from typing import Final

_UNITS: Final = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_UNITS_OF_1024: Final = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40}

_SIZE: Final = re.compile(r"(\d{1,18}(?:\.\d{1,9})?)\s?([kMGT]|[KMGT]i|)B?", re.ASCII)


def parse_size(text: str) -> int:
    """The bytes of `512k` or `1.5G` (powers of 1000), of `64Mi` (of 1024), of plain digits; ValueError for all else."""
    found = _SIZE.fullmatch(text.strip())
    if found is None or ("." in found[1] and not found[2]):
        raise ValueError(f"{text!r} is no size: 131072, 512k, 1.5G, 64Mi")
    number, unit = found[1], (_UNITS | _UNITS_OF_1024)[found[2]]
    return int(number) * unit if number.isdigit() else int(float(number) * unit)


def shown_size(nbytes: int) -> str:
    """Bytes in the largest unit of 1000 that leaves digits before the point: 2.10 GB, 512 kB."""
    if abs(nbytes) < 1000:
        return f"{nbytes} B"
    name, unit = next((n, u) for n, u in reversed(_UNITS.items()) if abs(nbytes) >= u)
    return f"{nbytes / unit:,.{2 if nbytes < 100 * unit else 0}f} {name}B"
