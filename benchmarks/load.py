"""What `receive` and `send` share: the settings, and how many objects a program gets for its seconds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.objects import Template, Workload

CALIBRATION_OBJECTS = {"report": 20, "image": 5, "multi-frame": 1}
CALIBRATION_SIZE = 16 << 20
CALIBRATION_SHARE = 0.05
"""Of the seconds to come, at least: from less than that, nobody can tell how many objects fit."""


def setting(workload: str, associations: int, *, one_core: bool = False) -> str:
    """The name under which runs are compared."""
    plural = "s" if associations > 1 else ""
    return f"{workload}, {associations} association{plural}" + (", one core" if one_core else "")


@dataclass(frozen=True)
class Load:
    """What every program gets in one setting; `seconds` is about how long a run of it shall take at most."""

    workload: Workload
    associations: int
    seconds: float
    one_core: bool
    folder: Path

    @property
    def setting(self) -> str:
        return setting(self.workload.name, self.associations, one_core=self.one_core)

    @property
    def needed_bytes(self) -> int:
        """The most that a run leaves in its folder, calibration included."""
        return self.workload.objects * self.workload.size * 5 // 4


def calibrate(load: Load, attempt: Callable[[Template, int], float]) -> tuple[int, Template]:
    """How many objects, and which, fit into the load's seconds; `attempt` sends so many and returns its seconds."""
    workload = load.workload
    subject = workload.template(min(workload.size, CALIBRATION_SIZE))
    objects = max(CALIBRATION_OBJECTS[workload.kind], load.associations)
    most = max(objects, workload.objects * workload.size // subject.size // 10)
    while (seconds := attempt(subject, objects)) < CALIBRATION_SHARE * load.seconds and objects < most:
        objects = min(most, objects * 10)
    bytes_per_s = objects * subject.size / max(seconds, 1e-3)
    objects, size = workload.within(load.seconds * bytes_per_s / workload.size, load.associations)
    return objects, workload.template(size)
