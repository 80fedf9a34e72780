"""M01 to M19: what a PACS says of a C-MOVE, and what it does not."""

from __future__ import annotations

from typing import Any, Final

from fastmove.limits import Limits
from tests.integration import raw
from tests.integration.scripted_archive import FAILED_LIST
from tests.integration.table_m import acts
from tests.integration.table_m.acts import answering
from tests.integration.table_m.row import NEVER, THREE, A, C, Contrast, Row, Run, embedded, scripted

ONCE: Final = "--rounds 0"
ALONE: Final = "--rounds 0 --no-prove"
NO_LIST: Final = "--no-prove"
HASTY: Final = Limits(drain_s=0.2, message_s=0.3, response_s=0.6, progress_s=0.4, retry_s=0.01)
ALL: Final = THREE["1.2.3"]


def failed_list(*uids: str) -> bytes:
    """An identifier with a Failed SOP Instance UID List."""
    return raw.element(FAILED_LIST, raw.uid("\\".join(uids)))


MANY: Final = failed_list(*(f"1.2.840.113619.2.55.3.604688119.{number:05d}" for number in range(70_000)))
TOO_LONG: Final = raw.element(FAILED_LIST, b"1.2.3.1.3\\" * ((17 << 20) // 10))
OVERFLOWN: Final = MANY[:4] + b"UI" + (len(MANY) - 8 & 0xFFFF).to_bytes(2, "little") + MANY[8:]
"""In explicit VR the length has two bytes."""


def one_missing(number: str, fault: str, act: Any, movescu: int, *more: Run, **options: Any) -> Row:
    """One of three never comes, though it is asked for again."""
    runs = (Run(71, "INCOMPLETE", 2, "--rounds 1"), *more)
    return Row(number, fault, scripted(act, **options), 3, Contrast(movescu, 2), runs)


def refused(status: str, options: str = "") -> Row:
    """Each move ends with this status."""
    pacs = embedded(f"refuse-moves={status}")
    return Row("M10", f"refuses with {status}H", pacs, 6, Contrast(69, 0), (Run(69, "REFUSED", 0, options),))


def something_else(what: str, field: int) -> Row:
    """A response that is none to our request."""
    runs = (Run(0, "COMPLETE", 3), Run(72, "UNKNOWN", 3, ALONE))
    act = acts.responding_to_something_else(field)
    return Row("M17", f"sends everything, and answers with {what}", scripted(act), 3, Contrast(0, 3, "-ta 1"), runs)


ROWS: Final = (
    Row(
        "M01",
        "counts 2 of 6 objects as completed that it never sends",
        embedded("drop=2"),
        6,
        Contrast(0, 4),
        (Run(71, "INCOMPLETE", 4), Run(71, "INCOMPLETE", 4, ONCE), Run(71, "INCOMPLETE", 4, ALONE)),
    ),
    Row(
        "M01",
        "the same, but sends them when they are asked for again",
        embedded("drop=40%", seed=8),
        6,
        Contrast(0, 4),
        (Run(0, "COMPLETE", 6), Run(71, "INCOMPLETE", 4, ONCE)),
    ),
    one_missing(
        "M02",
        "says success with 1 failed, which is missing",
        answering(0, None, 2, 1, withholding=(C,)),
        0,
        Run(71, "INCOMPLETE", 2, ALONE),
    ),
    one_missing(
        "M02",
        "says success with 1 remaining, which is missing",
        answering(0, 1, 2, 0, withholding=(C,)),
        0,
        Run(71, "INCOMPLETE", 2, ALONE),
    ),
    one_missing(
        "M02",
        "says that 3 remain, sends 2, and says success with 2 completed",
        acts.announcing_more(C),
        0,
        Run(71, "INCOMPLETE", 2, NO_LIST),
    ),
    Row(
        "M02",
        "says success with 1 failed, though it has sent everything",
        scripted(answering(0, None, 2, 1)),
        3,
        Contrast(0, 3),
        (Run(0, "COMPLETE", 3), Run(71, "INCOMPLETE", 3, NO_LIST)),
    ),
    Row(
        "M03",
        "says success with 6 completed, and sends nothing",
        embedded("nothing"),
        6,
        Contrast(0, 0),
        (Run(71, "INCOMPLETE", 0), Run(71, "INCOMPLETE", 0, ALONE)),
    ),
    Row(
        "M03",
        "counts one more than there are",
        embedded("counters=high"),
        6,
        Contrast(0, 6),
        (Run(71, "INCOMPLETE", 6), Run(71, "INCOMPLETE", 6, NO_LIST)),
    ),
    Row(
        "M04",
        "counts one less than it sends",
        embedded("counters=low"),
        6,
        Contrast(0, 6),
        (Run(0, "COMPLETE", 6), Run(0, "COUNTED", 6, NO_LIST)),
    ),
    Row(
        "M05",
        "does not count",
        embedded("counters=none"),
        6,
        Contrast(0, 6),
        (Run(0, "COMPLETE", 6), Run(0, "UNVERIFIED", 6, NO_LIST)),
    ),
    Row(
        "M05",
        "neither counts nor lists",
        embedded("counters=none", "no-image-level"),
        6,
        Contrast(0, 6),
        (Run(0, "UNVERIFIED", 6), Run(71, "UNVERIFIED", 6, "--require-proof")),
    ),
    Row(
        "M06",
        "lists 3 objects, and finds none to move",
        scripted(answering(0, 0, 0, 0, withholding=ALL)),
        3,
        Contrast(0, 0),
        (Run(71, "INCOMPLETE", 0), Run(71, "INCOMPLETE", 0, ONCE)),
    ),
    Row("M06", "does not have the study", embedded(), 0, Contrast(0, 0), (Run(71, "COUNTED", 0),), ("1.2.999",)),
    Row(
        "M07",
        "2 of 6 sub-operations fail, each time",
        embedded("fail=2"),
        6,
        Contrast(68, 4),
        (Run(71, "INCOMPLETE", 4, ONCE), Run(68, "WARNING", 4, ALONE)),
    ),
    Row(
        "M07",
        "2 of 6 sub-operations fail, and succeed when they are asked for again",
        embedded("fail=40%", seed=2),
        6,
        Contrast(68, 4),
        (Run(0, "COMPLETE", 6), Run(71, "INCOMPLETE", 4, ONCE)),
    ),
    one_missing(
        "M07",
        "1 of 3 sub-operations fails, and nobody says which",
        answering(0xB000, None, 2, 1, withholding=(C,)),
        68,
        Run(68, "WARNING", 2, ALONE),
    ),
    Row(
        "M08",
        "names an object as failed that it has sent",
        scripted(answering(0xB000, None, 2, 1, identifier=failed_list(C))),
        3,
        Contrast(68, 3),
        (Run(0, "COMPLETE", 3), Run(68, "WARNING", 3, ALONE)),
    ),
    *(
        one_missing(
            "M09",
            f"1 of 3 fails, and the list of what failed {what}",
            answering(0xB000, None, 2, 1, identifier=identifier, withholding=(C,)),
            movescu,
            transfer_syntax=transfer_syntax,
        )
        for what, identifier, movescu, transfer_syntax in (
            ("is torn", failed_list(C)[:-4], 0, raw.IMPLICIT_LE),
            ("is rubbish", b"\xff" * 64, 0, raw.IMPLICIT_LE),
            ("names another", failed_list(A), 68, raw.IMPLICIT_LE),
            ("names 70,000 objects that nobody asked for", MANY, 68, raw.IMPLICIT_LE),
            ("is longer than its length can say", OVERFLOWN, 0, raw.EXPLICIT_LE),
        )
    ),
    Row(
        "M09",
        "1 of 3 fails, and the list of what failed has 17 MiB",
        scripted(answering(0xB000, None, 2, 1, identifier=TOO_LONG, withholding=(C,))),
        3,
        Contrast(68, 2),
        (Run(72, "UNKNOWN", 2, ONCE),),
    ),
    refused("A701", ONCE),  # out of resources: in the end five rounds, half a minute later
    refused("A702", ONCE),
    *map(refused, ("A801", "A900", "0122", "0124", "C000", "1234")),
    Row(
        "M10",
        "ends without a status",
        scripted(answering(None, withholding=ALL)),
        3,
        Contrast(0, 0),
        (Run(69, "REFUSED", 0),),
    ),
    Row(
        "M10",
        "fails with C000H after 1 of 3 objects",
        scripted(answering(0xC000, None, 1, 2, withholding=ALL[1:])),
        3,
        Contrast(69, 1),
        (Run(69, "REFUSED", 1, "--rounds 1"), Run(69, "REFUSED", 1, ALONE)),
    ),
    Row(
        "M10",
        "is out of resources (A702H), and a second later it is not",
        embedded("refuse-moves=A702:50%", seed=4),
        6,
        Contrast(69, 0),
        (Run(0, "COMPLETE", 6), Run(69, "REFUSED", 0, ONCE)),
    ),
    Row(
        "M10",
        "fails with 1 of 3 objects (A702H), and leaves it out when it is asked again",
        scripted(acts.failing_at_first(C)),
        3,
        Contrast(69, 2),
        (Run(71, "INCOMPLETE", 2, "--rounds 1"), Run(71, "INCOMPLETE", 2, "--rounds 1 --no-prove")),
    ),
    Row(
        "M11",
        "says FE00H, which nobody asked for, after 1 of 3 objects",
        scripted(answering(0xFE00, 2, 1, 0, withholding=ALL[1:])),
        3,
        Contrast(0, 1),
        (Run(69, "REFUSED", 1, "--rounds 1"), Run(69, "REFUSED", 1, ALONE)),
    ),
    Row(
        "M12",
        "is cancelled after 1 of 3 objects",
        scripted(acts.cancelled),
        3,
        Contrast(0, 1, "--cancel 1"),
        (Run(72, "CANCELLED", 1, interrupted=True),),
    ),
    Row(
        "M13",
        "is cancelled after 1 of 3 objects, and takes no notice",
        scripted(acts.deaf_to_cancel),
        3,
        Contrast(NEVER, 1, "--cancel 1", deadline_s=1.5),
        (Run(72, "UNKNOWN", 1, interrupted=True),),
    ),
    Row(
        "M14",
        "says Pending for ever",
        scripted(acts.pending_for_ever),
        3,
        Contrast(NEVER, 1, deadline_s=1.5),
        (Run(74, "STALLED", 1, limits=HASTY), Run(74, "STALLED", 1, ALONE, limits=HASTY)),
    ),
    Row(
        "M15",
        "sends a data set with each Pending response",
        scripted(acts.pending_with_identifier(sent=True)),
        3,
        Contrast(0, 1, "-ta 1"),
        (Run(0, "COMPLETE", 3), Run(0, "COUNTED", 3, NO_LIST)),
    ),
    Row(
        "M16",
        "announces a data set with each Pending response, and sends none",
        scripted(acts.pending_with_identifier(sent=False)),
        3,
        Contrast(0, 3),
        (Run(0, "COMPLETE", 3), Run(0, "COUNTED", 3, NO_LIST)),
    ),
    Row(
        "M16",
        "announces a data set after 1 of 3 objects, and is silent from then on",
        scripted(acts.identifier_that_never_comes),
        3,
        Contrast(NEVER, 1, deadline_s=1.5),
        (Run(74, "STALLED", 1, ONCE, limits=HASTY),),
    ),
    *map(
        something_else,
        ("another Message ID", "a C-STORE-RSP", "a C-FIND-RSP"),
        (0x8021, 0x8001, 0x8020),
    ),
    Row(
        "M18",
        "sends a Pending response with the final one",
        scripted(acts.pending_after_the_end),
        3,
        Contrast(67, 3),
        (Run(0, "COMPLETE", 3), Run(0, "COUNTED", 3, NO_LIST)),
    ),
    Row(
        "M19",
        "counts beyond 65,535 to 70,000, and sends 3",
        scripted(acts.seventy_thousand),
        3,
        Contrast(0, 3),
        (Run(71, "INCOMPLETE", 3), Run(71, "INCOMPLETE", 3, NO_LIST)),
    ),
)
