"""M32 and M33: lists that change, that are cut off, or that are none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from fastmove.bench.spec import Spec
from tests.integration.scripted_archive import List, study
from tests.integration.table_m import acts
from tests.integration.table_m.acts import answering
from tests.integration.table_m.row import OTHER, STUDY, Contrast, Row, Run, embedded, scripted

PROOF: Final = "--require-proof"
TWO: Final = {**study(STUDY, 3), **study(OTHER, 3)}
D: Final = TWO[OTHER][0]
SIX_IN_ONE: Final = Spec(studies=1, series=1, instances=6, size=2_000)
TWELVE_SERIES: Final = Spec(studies=1, series=12, instances=5, size=2_000)


def at_most(count: int) -> List:
    """Instances are listed up to that many, and nothing tells that there are more."""

    def cut(level: str, uids: Sequence[str]) -> Sequence[str]:
        return uids[:count] if level == "IMAGE" else uids

    return cut


ROWS: Final = (
    Row(
        "M32",
        "has a study that gets a fourth object while it is moved",
        scripted(acts.growing),
        4,
        Contrast(0, 4),
        (Run(0, "COMPLETE", 4), Run(0, "COUNTED", 4, "--no-prove")),
    ),
    Row(
        "M32",
        "counts 6 objects, of which the last 2 can be moved later only",
        embedded("growing=2", spec=SIX_IN_ONE),
        6,
        None,
        (Run(0, "COUNTED", 6), Run(71, "INCOMPLETE", 5, "--rounds 0")),
    ),
    Row(
        "M33",
        "cannot list instances",
        embedded("no-image-level"),
        6,
        Contrast(0, 6),
        (Run(0, "COUNTED", 6), Run(71, "COUNTED", 6, PROOF)),
    ),
    Row(
        "M33",
        "aborts when it is asked to list instances",
        scripted(answering(0, None, 3, 0), lists=lambda level, uids: None if level == "IMAGE" else uids),
        3,
        Contrast(0, 3),
        (Run(0, "COUNTED", 3), Run(71, "COUNTED", 3, PROOF)),
    ),
    Row(
        "M33",
        "aborts when it is asked to list instances, says success, and sends none",
        scripted(
            answering(0, None, 0, 0, withholding=tuple(f"{STUDY}.1.{n}" for n in (1, 2, 3))),
            lists=lambda level, uids: None if level == "IMAGE" else uids,
        ),
        3,
        Contrast(0, 0),
        (Run(72, "UNKNOWN", 0),),
    ),
    Row(
        "M33",
        "lists no instances",
        scripted(answering(0, None, 3, 0), lists=at_most(0)),
        3,
        Contrast(0, 3),
        (Run(0, "COUNTED", 3), Run(71, "COUNTED", 3, PROOF)),
    ),
    Row(
        "M33",
        "lists the instances of one study, and not those of another",
        scripted(answering(0, None, 3, 0), TWO, lists=lambda level, uids: [] if uids[0] == D else uids),
        6,
        None,
        (Run(0, "COUNTED", 6), Run(71, "COUNTED", 6, PROOF)),
    ),
    Row(
        "M33",
        "lists each instance twice",
        embedded("duplicate-answers"),
        6,
        Contrast(0, 6),
        (Run(0, "COMPLETE", 6), Run(0, "COMPLETE", 6, PROOF)),
    ),
    Row(
        "M33",
        "lists 2 of each 3 instances, and counts 3",
        embedded("find-cap=2"),
        6,
        Contrast(0, 6),
        (Run(0, "COUNTED", 6), Run(71, "COUNTED", 6, PROOF)),
    ),
    Row(
        "M33",
        "ends a list at 2 instances with A700H",
        embedded("find-cap=2:A700"),
        6,
        Contrast(0, 6),
        (Run(0, "COUNTED", 6), Run(71, "COUNTED", 6, PROOF)),
    ),
    Row(
        "M33",
        "lists 10 of 12 series, and nothing tells that there are more",
        embedded("find-cap=10", spec=TWELVE_SERIES),
        60,
        Contrast(0, 60),
        (Run(0, "COUNTED", 60), Run(71, "COUNTED", 60, PROOF)),
    ),
    Row(
        "M33",
        "lists 40 of 50 instances, and nothing tells that there are more",
        scripted(answering(0, None, 50, 0), study(STUDY, 50), lists=at_most(40), counts=False),
        50,
        Contrast(0, 50),
        (Run(0, "COUNTED", 50), Run(71, "COUNTED", 50, PROOF)),
    ),
    Row(
        "M33",
        "lists 2 of 4 instances, counts none, and leaves one out",
        scripted(answering(0, withholding=(f"{STUDY}.1.4",)), study(STUDY, 4), lists=at_most(2), counts=False),
        4,
        Contrast(0, 3),
        (Run(71, "UNVERIFIED", 3, PROOF),),
    ),
)
