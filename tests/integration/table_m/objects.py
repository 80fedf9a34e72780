"""M20 to M31: how objects come, when, over what, from where, and what they are."""

from __future__ import annotations

from typing import Final

from fastmove.bench.spec import Spec
from tests.integration.scripted_archive import HOST, study
from tests.integration.table_m import acts
from tests.integration.table_m.row import NEVER, OTHER, STUDY, THREE, C, Contrast, Row, Run, embedded, scripted

ONCE: Final = "--rounds 0"
ALONE: Final = "--rounds 0 --no-prove"
NO_LIST: Final = "--no-prove"
TWO: Final = {**THREE, **study(OTHER, 3)}
STUDIES: Final = Spec(studies=6, series=1, instances=4, size=2_000)
SIDE_BY_SIDE: Final = "--rounds 0 --parallel 4"


def several_at_once(*faults: str, what: str) -> Row:
    """Six studies moved at once, of some of which something is missing."""
    pacs = embedded("drop=1:50%", "delay=0.005", *faults, seed=2, spec=STUDIES)
    runs = (Run(71, "INCOMPLETE", 22, SIDE_BY_SIDE),)
    return Row("M27", f"brings 6 studies at once, one object too few of 2 of them{what}", pacs, 24, None, runs)


ROWS: Final = (
    Row(
        "M20",
        "says success first, and sends 0.1 s later",
        embedded("early-success=0.1"),
        6,
        Contrast(0, 0),
        (Run(0, "COMPLETE", 6), Run(0, "COUNTED", 6, NO_LIST)),
    ),
    Row(
        "M20",
        "says success in the middle of the last object",
        scripted(acts.final_response_in_mid_object),
        3,
        Contrast(0, 3),
        (Run(0, "COMPLETE", 3), Run(0, "COUNTED", 3, NO_LIST)),
    ),
    Row(
        "M21",
        "says success, and sends when `--drain` is over",
        embedded("early-success=0.7"),
        6,
        Contrast(0, 0),
        (Run(0, "COMPLETE", 6), Run(71, "INCOMPLETE", 0, ONCE), Run(71, "INCOMPLETE", 0, ALONE)),
    ),
    Row(
        "M22",
        "aborts after 2 of 6 objects, and goes on sending",
        embedded("abort-after=2", "go-on"),
        6,
        Contrast(0, 2),
        (Run(0, "COMPLETE", 6), Run(72, "UNKNOWN", 6, ALONE)),
    ),
    Row(
        "M22",
        "aborts after 2 objects, each time",
        embedded("abort-after=2"),
        6,
        Contrast(0, 2),
        (Run(0, "COMPLETE", 6), Run(72, "UNKNOWN", 2, ONCE), Run(72, "UNKNOWN", 2, ALONE)),
    ),
    Row(
        "M22",
        "closes the connection after 2 objects, each time",
        embedded("close-after=2"),
        6,
        Contrast(0, 2),
        (Run(0, "COMPLETE", 6), Run(72, "UNKNOWN", 2, ONCE)),
    ),
    Row(
        "M23",
        "sends one object over two associations at once",
        scripted(acts.same_object_twice_at_once),
        3,
        Contrast(NEVER, 0, deadline_s=1.5),
        (Run(0, "COMPLETE", 3), Run(0, "COUNTED", 3, NO_LIST)),
    ),
    Row(
        "M23",
        "sends one object twice, which it counts twice, and another never",
        scripted(acts.one_twice(C)),
        3,
        Contrast(0, 2),
        (Run(71, "INCOMPLETE", 2, "--rounds 1"), Run(71, "INCOMPLETE", 2, NO_LIST)),
    ),
    Row(
        "M24",
        "sends another object under the UID of one that it has sent",
        scripted(acts.same_uid_other_bytes),
        3,
        Contrast(0, 3),
        (Run(68, "WARNING", 3), Run(68, "WARNING", 3, NO_LIST)),
    ),
    Row(
        "M25",
        "sends an object of another study as well",
        scripted(acts.along_with_others(), TWO),
        3,
        Contrast(0, 3),
        (
            Run(0, "COMPLETE", 3, aside=1),
            Run(71, "INCOMPLETE", 3, NO_LIST, aside=1),
            Run(0, "COMPLETE", 3, "--no-durable", aside=1),
            Run(0, "COMPLETE", 3, "--unsolicited keep"),
        ),
        (STUDY,),
    ),
    Row(
        "M25",
        "sends an object of another study as well, which is refused",
        scripted(acts.along_with_others(refused=True), TWO),
        3,
        None,
        (Run(0, "COMPLETE", 3, "--unsolicited refuse"), Run(68, "WARNING", 3, f"--unsolicited refuse {NO_LIST}")),
        (STUDY,),
    ),
    Row(
        "M25",
        "sends an object of another study in place of one",
        scripted(acts.along_with_others(instead=True), TWO),
        3,
        Contrast(0, 2),
        (Run(71, "INCOMPLETE", 2, "--rounds 1", aside=1), Run(71, "INCOMPLETE", 2, ALONE, aside=1)),
        (STUDY,),
    ),
    Row(
        "M25",
        "mixes the objects of two studies that are both asked for",
        scripted(acts.along_with_others(), TWO),
        6,
        None,
        (Run(0, "COMPLETE", 6), Run(71, "INCOMPLETE", 6, NO_LIST)),
    ),
    Row(
        "M26",
        "sends from another address under another title",
        scripted(acts.from_elsewhere()),
        3,
        Contrast(0, 3),
        (
            Run(75, "POLICY", 0),
            Run(75, "POLICY", 0, NO_LIST),
            Run(0, "COMPLETE", 3, "--accept-host 127.0.0.2"),
            Run(0, "COUNTED", 3, f"{NO_LIST} --accept-host any"),
        ),
    ),
    Row(
        "M26",
        "sends from its own address under another title",
        scripted(acts.from_elsewhere(source=HOST)),
        3,
        Contrast(0, 3),
        (Run(0, "COMPLETE", 3), Run(75, "POLICY", 0, "--accept-from SCRIPTED")),
    ),
    Row(
        "M26",
        "calls us by another title",
        scripted(acts.from_elsewhere(called="ANOTHER", source=HOST)),
        3,
        Contrast(0, 3),
        (Run(75, "POLICY", 0, ONCE), Run(75, "POLICY", 0, ALONE)),
    ),
    Row(
        "M26",
        "calls us by another title, from another address",
        scripted(acts.from_elsewhere(called="ANOTHER")),
        3,
        None,
        (Run(69, "REFUSED", 0, ONCE),),
    ),
    several_at_once(what=""),
    several_at_once("originator=none", what=", and does not say what belongs to what"),
    several_at_once("originator=wrong", what=", and says that all belong to something else"),
    several_at_once("originator=none", "no-image-level", what=", says nothing of that, and cannot list"),
    Row(
        "M28",
        "opens 50 associations at once",
        scripted(acts.all_at_once(), study(STUDY, 50)),
        50,
        Contrast(0, 50),
        (Run(0, "COMPLETE", 50), Run(0, "COUNTED", 50, NO_LIST)),
    ),
    Row(
        "M28",
        "opens 80 associations, and sends when 64 are open",
        scripted(acts.all_at_once(together=64), study(STUDY, 80)),
        80,
        Contrast(NEVER, 0, deadline_s=1.5),
        (Run(0, "COMPLETE", 80), Run(0, "COMPLETE", 80, "--parallel 1")),
    ),
    Row(
        "M29",
        "fails 1 of 3 objects, and sends all with other bytes when it is asked for again",
        scripted(acts.transcoded_at_the_second_try),
        3,
        Contrast(68, 2),
        (Run(68, "WARNING", 3),),
    ),
    Row(
        "M30",
        "does not know our title",
        embedded(),
        6,
        Contrast(69, 0, "-aem NOBODY"),
        (Run(69, "REFUSED", 0, "--aet NOBODY"),),
    ),
    Row(
        "M31",
        "opens an association for each object",
        embedded("association-per-object", spec=Spec(studies=1, series=1, instances=3, size=2_000)),
        3,
        Contrast(0, 3),
        (Run(0, "COMPLETE", 3), Run(0, "COUNTED", 3, NO_LIST)),
    ),
)
