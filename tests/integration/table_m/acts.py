"""What scripted PACS do with a C-MOVE."""

from __future__ import annotations

import asyncio

from tests.integration import raw
from tests.integration.scripted_archive import PENDING, Act, ScriptedMove
from tests.integration.table_m.row import STUDY

# ---------------------------------------------------------------------- responses


def answering(
    status: int | None,
    remaining: int | None = None,
    completed: int | None = None,
    failed: int | None = None,
    *,
    withholding: tuple[str, ...] = (),
    identifier: bytes | None = None,
) -> Act:
    """Everything but what is withheld, then this final response; None: one without a status."""

    async def act(move: ScriptedMove) -> None:
        if sent := [uid for uid in move.uids if uid not in withholding]:
            await move.store(*sent)
        change = {raw.STATUS: None} if status is None else None
        await move.respond(status or 0, remaining, completed, failed, 0, identifier=identifier, change=change)

    return act


def pending_with_identifier(*, sent: bool) -> Act:
    """Everything, each time with a Pending response that announces a data set, which comes or does not."""

    async def act(move: ScriptedMove) -> None:
        for number, uid in enumerate(move.uids, 1):
            await move.store(uid)
            counters = len(move.uids) - number, number, 0, 0
            data = move.archive.dataset(uid) if sent else None
            await move.respond(PENDING, *counters, identifier=data, change={raw.DATA_SET_TYPE: raw.us(1)})
        await move.succeed()

    return act


async def identifier_that_never_comes(move: ScriptedMove) -> None:
    """One object, one Pending response that announces a data set, and silence."""
    await move.store(move.uids[0])
    await move.respond(PENDING, 2, 1, 0, 0, change={raw.DATA_SET_TYPE: raw.us(1)})
    await move.over()


async def pending_for_ever(move: ScriptedMove) -> None:
    """The first object of the study, and the same counters again and again."""
    if move.number == 1:
        await move.store(move.uids[0])
    while not await move.over(within_s=0.05):
        await move.respond(PENDING, len(move.uids) - 1, 1, 0, 0)


def responding_to_something_else(field: int) -> Act:
    """Everything, then a response of another message, or of another kind."""

    async def act(move: ScriptedMove) -> None:
        await move.store(*move.uids)
        responded_to = move.message_id + (field == 0x8021)
        change = {raw.COMMAND_FIELD: raw.us(field), raw.RESPONDED_TO: raw.us(responded_to)}
        await move.respond(0, None, len(move.uids), 0, 0, change=change)

    return act


async def pending_after_the_end(move: ScriptedMove) -> None:
    """A final response, and a Pending one with it."""
    await move.store(*move.uids)
    await move.link.send(move.response(0, None, len(move.uids), 0, 0), move.response(PENDING, 9, 0, 0, 0))


async def cancelled(move: ScriptedMove) -> None:
    """One object; the rest is cancelled by C-CANCEL."""
    await move.store(move.uids[0])
    await move.respond(PENDING, len(move.uids) - 1, 1, 0, 0)
    await move.cancelled()
    await move.respond(0xFE00, len(move.uids) - 1, 1, 0, 0)


async def deaf_to_cancel(move: ScriptedMove) -> None:
    """One object, and Pending in spite of C-CANCEL."""
    await move.store(move.uids[0])
    await move.respond(PENDING, len(move.uids) - 1, 1, 0, 0)
    await move.cancelled()
    await pending_for_ever(move)


async def seventy_thousand(move: ScriptedMove) -> None:
    """Three objects, and counters of two bytes that go up to 70,000."""
    await move.store(*move.uids)
    for completed in (3, 30_000, 60_000):
        await move.respond(PENDING, min(70_000 - completed, 0xFFFF), completed, 0, 0)
    await move.succeed(70_000 - 0x10000)


def announcing_more(withholding: str) -> Act:
    """Before the first object everything remains; then one is left out, and all that were sent are all."""

    async def act(move: ScriptedMove) -> None:
        sent = [uid for uid in move.uids if uid != withholding]
        await move.respond(PENDING, len(move.uids), 0, 0, 0)
        if sent:
            await move.store(*sent)
        await move.succeed(len(sent))

    return act


def failing_at_first(withholding: str) -> Act:
    """One object fails; if there is another move, it is left out, and all that were sent are all."""

    async def act(move: ScriptedMove) -> None:
        if sent := [uid for uid in move.uids if uid != withholding]:
            await move.store(*sent)
        if move.number == 1:
            await move.respond(0xA702, None, len(sent), 1, 0)
        else:
            await move.succeed(len(sent))

    return act


# ---------------------------------------------------------------------- objects


async def final_response_in_mid_object(move: ScriptedMove) -> None:
    """Success between the two halves of the last object."""
    *first, last = move.uids
    async with move.storage() as storage:
        await move.send(storage, *first)
        whole = raw.message(1, move.request(last), move.archive.dataset(last))
        await storage.send(whole[:-300])
        await move.succeed()
        await move.over(within_s=0.2)
        await storage.send(whole[-300:])
        await storage.expect_status(0)
        move.archive.sent[last] += 1


async def same_object_twice_at_once(move: ScriptedMove) -> None:
    """The first object over two associations, which go side by side."""
    first, *rest = move.uids
    whole = raw.message(1, move.request(first), move.archive.dataset(first))
    async with move.storage() as one, move.storage() as other:
        for part in (whole[:-300], whole[-300:]):
            await one.send(part)
            await other.send(part)
        for storage in (one, other):
            await storage.expect_status(0)
            move.archive.sent[first] += 1
    if rest:
        await move.store(*rest)
    await move.succeed()


def one_twice(withholding: str) -> Act:
    """One object is sent twice and counted twice, another never."""

    async def act(move: ScriptedMove) -> None:
        sent = [uid for uid in move.uids if uid != withholding]
        if sent:
            await move.store(*sent, sent[0])
        await move.succeed()

    return act


async def same_uid_other_bytes(move: ScriptedMove) -> None:
    """The first object once more, but longer."""
    await move.store(*move.uids)
    await move.store(move.uids[0], pixel_bytes=1024)
    await move.succeed(len(move.uids) + 1)


async def transcoded_at_the_second_try(move: ScriptedMove) -> None:
    """Two of three objects; whatever is asked for then, everything, and what was sent before with other bytes."""
    *first, last = move.archive.studies[STUDY]
    if move.number == 1:
        await move.store(*first)
        await move.respond(0xB000, None, len(first), 1, 0)
        return
    await move.store(*first, pixel_bytes=1024)
    await move.store(last)
    await move.succeed(len(first) + 1)


def along_with_others(*, instead: bool = False, refused: bool = False) -> Act:
    """An object of another study over the same association, beside ours or in place of one; it may be refused."""

    async def act(move: ScriptedMove) -> None:
        other = next(uids for uids in move.archive.studies.values() if not set(uids) & set(move.uids))[0]
        ours = move.uids[:-1] if instead else move.uids
        if not refused:
            await move.store(*ours, other)
            await move.succeed(len(ours) + 1)
            return
        async with move.storage() as storage:
            await move.send(storage, *ours)
            await storage.send(raw.message(1, move.request(other, len(ours) + 1), move.archive.dataset(other)))
            await storage.expect_status(0x0124, len(ours) + 1)
        await move.respond(0xB000, None, len(ours), 1, 0)

    return act


def from_elsewhere(*, called: str | None = None, source: str = "127.0.0.2") -> Act:
    """From another address than that of the PACS, by another title than its own; what cannot be sent has failed."""

    async def act(move: ScriptedMove) -> None:
        try:
            async with move.storage(called=called, calling="ELSEWHERE", source=source) as storage:
                await move.send(storage, *move.uids)
        except AssertionError as rejected:
            assert "A-ASSOCIATE-RJ" in str(rejected)
            await move.respond(0xA702, None, 0, len(move.uids), 0)
        else:
            await move.succeed()

    return act


def all_at_once(*, together: int = 0) -> Act:
    """An association for each object, all asked for at the same time; those that are rejected are tried again.

    Nothing is sent before so many are open `together`, or all.
    """

    async def act(move: ScriptedMove) -> None:
        opened, enough = 0, asyncio.Event()

        async def send(uid: str) -> None:
            nonlocal opened
            while True:
                try:
                    async with move.storage() as storage:
                        opened += 1
                        if opened >= min(together, len(move.uids)):
                            enough.set()
                        await enough.wait()
                        await move.send(storage, uid)
                        return
                except AssertionError as rejected:
                    assert "A-ASSOCIATE-RJ" in str(rejected)
                    await enough.wait()

        sending = [asyncio.create_task(send(uid)) for uid in move.uids]
        try:
            await asyncio.gather(*sending)
        finally:
            for task in sending:
                task.cancel()
            await asyncio.gather(*sending, return_exceptions=True)
        await move.succeed()

    return act


async def growing(move: ScriptedMove) -> None:
    """The study gets a fourth object before the first move of it."""
    if move.number == 1:
        move.archive.studies[STUDY] = move.uids = (*move.uids, f"{STUDY}.1.4")
    await move.store(*move.uids)
    await move.succeed()
