"""Table T of the catalogue of faults as rows: what the network does, and what `fastmove retrieve` makes of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, Final

from fastmove.bench.spec import Spec
from tests.integration import raw
from tests.integration.embedded import LIMITS, embedded_pacs
from tests.integration.faults import End, Fate, Toxics
from tests.integration.proxied import SHORT, proxied
from tests.integration.scripted import Link
from tests.integration.scripted_archive import (
    DEADLINE_S,
    HOST,
    PENDING,
    Act,
    ScriptedArchive,
    ScriptedMove,
    ScriptedRequestor,
)
from tests.integration.table_m.row import NEVER, SIX, THREE, Contrast, PacsMaker, Row, Run, scripted

ONCE: Final = "--rounds 0"
ALONE: Final = "--rounds 0 --no-prove"
NO_LIST: Final = "--no-prove"
EIGHT: Final = Spec(studies=8, series=1, instances=3, size=2_000)
PATIENT: Final = LIMITS.replace(stop_s=0.3)
SIX_PACS: Final[PacsMaker] = partial(embedded_pacs, SIX, limits=PATIENT)
EIGHT_PACS: Final[PacsMaker] = partial(embedded_pacs, EIGHT, faults=("delay=0.01",), limits=PATIENT)

IN_AN_OBJECT: Final = 3_000
"""Bytes of a storage association: its request, the first object, and some of the second."""
IN_THE_ANSWER: Final = 300
"""Bytes that come back: the A-ASSOCIATE-AC, and some of the first C-STORE-RSP."""
IN_THE_ACCEPT: Final = 100
IN_A_RESPONSE: Final = 20
"""Of a C-MOVE-RSP."""
IN_A_HEADER: Final = 4


# ---------------------------------------------------------------------- what the network does


def sending(end: End, at: int) -> Sequence[Fate]:
    """The first connection for storing comes to this end after so many bytes from the PACS."""
    return [Fate(outgoing=Toxics(limit_bytes=at, end=end, stall_s=0.15))]


def answered(end: End, at: int) -> Sequence[Fate]:
    """The same for bytes that go back on the first connection that is made."""
    return [Fate(incoming=Toxics(limit_bytes=at, end=end, stall_s=0.15))]


def always(**toxics: Any) -> Fate:
    """Both directions of every connection."""
    return Fate(Toxics(**toxics), Toxics(**toxics))


UNREACHABLE: Final = Fate(outgoing=Toxics(after_s=0, end=End.RESET))


# ---------------------------------------------------------------------- what a scripted PACS does


async def well(move: ScriptedMove) -> None:
    """As it should."""
    await move.store(*move.uids)
    await move.succeed()


async def by_abort(link: Link) -> None:
    """A-ABORT."""
    await link.send(raw.abort())
    await link.expect_closed()
    raise ConnectionResetError("as the script has it")


async def by_reset(link: Link) -> None:
    """RST."""
    link.reset()
    raise ConnectionResetError("as the script has it")


async def by_fin(link: Link) -> None:
    """FIN."""
    link.close()
    raise ConnectionResetError("as the script has it")


def lost(lose: Callable[[Link], Awaitable[None]], *, after: int = 0, torn: int = 0) -> Act:
    """The first move ends after so many objects and so many bytes of a response; those after it go well."""

    async def act(move: ScriptedMove) -> None:
        if move.number > 1:
            await well(move)
            return
        if after:
            await move.store(*move.uids[:after])
            await move.respond(PENDING, len(move.uids) - after, after, 0, 0)
        if torn:
            await move.link.send(move.response(0, None, len(move.uids), 0, 0)[:torn])
        await lose(move.link)

    return act


async def silent_at_first(move: ScriptedMove) -> None:
    """Nothing at all comes of the first move."""
    if move.number == 1:
        await move.over()
    else:
        await well(move)


async def deaf_to_release(move: ScriptedMove) -> None:
    """Everything, and no A-RELEASE-RP."""
    await well(move)
    await move.link.next_type()
    await move.link.expect(raw.RELEASE_RQ)
    await move.over()


async def keeps_the_connection(move: ScriptedMove) -> None:
    """Everything, a response to something else, and no end of the connection after the A-ABORT for that."""
    await move.store(*move.uids)
    await move.respond(0, None, len(move.uids), 0, 0, change={raw.RESPONDED_TO: raw.us(move.message_id + 7)})
    await move.link.expect(raw.ABORT)
    await move.link.next_type(SHORT.artim_s + 5)


async def again_as_the_answer_was_lost(move: ScriptedMove) -> None:
    """The first object twice: of the first time the answer is not read."""
    first = move.uids[0]
    storage = ScriptedRequestor(HOST, move.archive.destinations[move.destination], DEADLINE_S)
    async with storage:
        await storage.associate(raw.associate_rq(called=move.destination))
        await storage.send(raw.message(1, move.request(first), move.archive.dataset(first)))
        await storage.next_type()
        storage.reset()
    await well(move)


async def all_failed(move: ScriptedMove) -> None:
    """No object can be sent, as the responses say one by one."""
    for number in range(1, len(move.uids)):
        await move.respond(PENDING, len(move.uids) - number, 0, number, 0)
    await move.respond(0xB000, None, 0, len(move.uids), 0)


@asynccontextmanager
async def never_releasing() -> AsyncIterator[ScriptedArchive]:
    """Storage associations stay open to the end."""
    async with AsyncExitStack() as kept:

        async def act(move: ScriptedMove) -> None:
            storage = ScriptedRequestor(HOST, move.archive.destinations[move.destination], DEADLINE_S)
            await kept.enter_async_context(storage)
            await storage.associate(raw.associate_rq(called=move.destination))
            await move.send(storage, *move.uids)
            await move.succeed()

        yield await kept.enter_async_context(ScriptedArchive(act, dict(THREE)))


# ---------------------------------------------------------------------- the rows


def of(
    number: str,
    fault: str,
    pacs: PacsMaker,
    movescu: tuple[int | None, int] | None,
    *runs: tuple[int, str, int] | tuple[int, str, int, str],
    held: int = 6,
    options: str = "",
    **fields: Any,
) -> Row:
    """A row with short timers."""
    contrast = None
    if movescu is not None:
        contrast = Contrast(*movescu, options, deadline_s=3.0 if movescu[0] is NEVER else 10.0)
    return Row(number, fault, pacs, held, contrast, tuple(Run(*each, limits=SHORT) for each in runs), **fields)


def behind(number: str, fault: str, movescu: tuple[int | None, int], *runs: Any, **network: Any) -> Row:
    """The embedded PACS, behind this network."""
    fields = {name: network.pop(name) for name in ("options", "answers_lost") if name in network}
    return of(number, fault, partial(proxied, SIX_PACS, **network), movescu, *runs, **fields)


def move_lost(number: str, fault: str, act: Act, movescu: tuple[int, int], came: int) -> Row:
    """The association of the first move of three objects is lost."""
    runs = ((0, "COMPLETE", 3), (72, "UNKNOWN", came, ONCE), (72, "UNKNOWN", came, ALONE))
    return of(number, fault, scripted(act), movescu, *runs, held=3)


ROWS: Final[tuple[Row, ...]] = (
    behind(
        "T01",
        "resets the storage association in the middle of an object, once",
        (68, 1),
        (0, "COMPLETE", 6),
        (71, "INCOMPLETE", 1, ONCE),
        storing=sending(End.RESET, IN_AN_OBJECT),
    ),
    move_lost(
        "T01", "resets the move association in the header of a response", lost(by_reset, torn=IN_A_HEADER), (0, 0), 0
    ),
    move_lost(
        "T01",
        "resets the move association in a response, after 1 of 3 objects",
        lost(by_reset, after=1, torn=IN_A_RESPONSE),
        (67, 1),
        1,
    ),
    behind(
        "T01",
        "resets the connection in the A-ASSOCIATE-AC of the storage association",
        (69, 0),
        (0, "COMPLETE", 6),
        storing=answered(End.RESET, IN_THE_ACCEPT),
    ),
    behind("T01", "resets the connection while it moves", (67, 2), (0, "COMPLETE", 6), asking=answered(End.RESET, 450)),
    behind(
        "T02",
        "closes the storage association in the middle of an object, once",
        (68, 1),
        (0, "COMPLETE", 6),
        (71, "INCOMPLETE", 1, ONCE),
        storing=sending(End.CUT, IN_AN_OBJECT),
    ),
    behind(
        "T02",
        "closes its half of the storage association in the middle of an object, once",
        (68, 1),
        (0, "COMPLETE", 6),
        (71, "INCOMPLETE", 1, ONCE),
        storing=sending(End.HALF_CLOSE, IN_AN_OBJECT),
    ),
    move_lost(
        "T02",
        "closes the move association in a response, after 1 of 3 objects",
        lost(by_fin, after=1, torn=IN_A_RESPONSE),
        (0, 1),
        1,
    ),
    behind(
        "T03",
        "falls silent in the middle of an object, once",
        (NEVER, 1),
        (0, "COMPLETE", 6),
        (72, "UNKNOWN", 1, ONCE),
        storing=sending(End.FREEZE, IN_AN_OBJECT),
    ),
    of(
        "T05",
        "never releases its storage association",
        never_releasing,
        (NEVER, 3),
        (0, "COMPLETE", 3),
        (0, "COUNTED", 3, NO_LIST),
        held=3,
    ),
    of(
        "T06",
        "does not answer A-RELEASE-RQ",
        scripted(deaf_to_release),
        (67, 3),
        (0, "COMPLETE", 3),
        (0, "COUNTED", 3, NO_LIST),
        held=3,
        options="-ta 1",
    ),
    of(
        "T07",
        "keeps the connection after our A-ABORT",
        scripted(keeps_the_connection),
        (0, 3),
        (0, "COMPLETE", 3),
        (72, "UNKNOWN", 3, ALONE),
        held=3,
        options="-ta 1",
    ),
    behind(
        "T09",
        "does not get the answer to an object that is stored",
        (69, 1),
        (0, "COMPLETE", 6),
        (69, "REFUSED", 1, ONCE),
        storing=answered(End.RESET, IN_THE_ANSWER),
        answers_lost=True,
    ),
    of(
        "T09",
        "sends an object again, as it did not get the answer",
        scripted(again_as_the_answer_was_lost),
        (0, 3),
        (0, "COMPLETE", 3),
        (0, "COUNTED", 3, NO_LIST),
        held=3,
    ),
    behind(
        "T11",
        "is 100 ms away, and its bytes come unevenly",
        (0, 6),
        (0, "COMPLETE", 6),
        (0, "COUNTED", 6, NO_LIST),
        asking=always(latency_s=0.05, jitter_s=0.05),
        storing=always(latency_s=0.05, jitter_s=0.05),
    ),
    behind(
        "T11",
        "gets 1 to 5 bytes at a time, and so do we",
        (0, 6),
        (0, "COMPLETE", 6),
        (0, "COUNTED", 6, NO_LIST),
        asking=always(slice_bytes=5),
        storing=always(slice_bytes=5),
    ),
    behind(
        "T12",
        "is cut off for a moment in the middle of an object",
        (0, 6),
        (0, "COMPLETE", 6, ONCE),
        storing=sending(End.STALL, IN_AN_OBJECT),
    ),
    *(
        move_lost("T14", f"loses the move association by {how} after the request", lost(lose), (0, 0), 0)
        for how, lose in (("A-ABORT", by_abort), ("RST", by_reset), ("FIN", by_fin))
    ),
    *(
        move_lost("T14", f"loses the move association by {how} after 1 of 3 objects", lost(lose, after=1), (0, 1), 1)
        for how, lose in (("A-ABORT", by_abort), ("RST", by_reset), ("FIN", by_fin))
    ),
    of(
        "T14",
        "says nothing to the first move",
        scripted(silent_at_first),
        (NEVER, 0),
        (0, "COMPLETE", 3),
        (72, "UNKNOWN", 0, ONCE),
        held=3,
    ),
    of(
        "T15",
        "resets one of 8 storage associations in the middle of an object",
        partial(proxied, EIGHT_PACS, storing=[*[Fate()] * 3, *sending(End.RESET, IN_AN_OBJECT)]),
        None,
        (0, "COMPLETE", 24, "--parallel 8"),
        held=24,
    ),
    behind("T26", "cannot reach us", (69, 0), (69, "REFUSED", 0), (69, "REFUSED", 0, ALONE), storing=UNREACHABLE),
    of(
        "T26",
        "cannot reach us, and says success with failures",
        scripted(all_failed),
        (68, 0),
        (71, "INCOMPLETE", 0),
        (68, "WARNING", 0, ALONE),
        held=3,
    ),
)
