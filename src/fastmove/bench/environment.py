"""What a result has to say of where it was measured, so that another one can be held against it."""

from __future__ import annotations

import os
import platform
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from fastmove.types import VERSION

_PACKAGES = ("Cython", "hdrhistogram", "numpy", "pydicom", "uvloop")


def environment() -> dict[str, Any]:
    """Versions, machine and clock; no names of hosts or people."""
    clock = time.get_clock_info("monotonic")
    return {
        "fastmove": VERSION,
        "python": sys.version.split()[0],
        "packages": {name: found for name in _PACKAGES if (found := _version(name)) is not None},
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "processor": _processor(),
        "processors": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "load_before": [round(each, 2) for each in os.getloadavg()],
        "clock": {"implementation": clock.implementation, "resolution_s": clock.resolution},
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
