"""Every time limit of a move to the millisecond, as in test_deadlines.py."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, Final

import pytest

from fastmove.dimse.move import Loss
from fastmove.errors import TimedOut
from fastmove.notices import AssociationClosed, AssociationOpened, InstanceStored
from fastmove.services import move_scu, receipts
from fastmove.services.move_scu import Move
from fastmove.services.receipts import Receipts
from fastmove.types import PresentationContext
from tests.integration import raw
from tests.integration.virtual_time import EDGES, LIMIT_S, STEP_S, VirtualTimeLoop, only

pytestmark = pytest.mark.parametrize("loop_factory", [VirtualTimeLoop])


class MoveAssociation:
    """An association on which C-MOVE responses come when the test says."""

    connection = SimpleNamespace(host="peer.example")

    def __init__(self) -> None:
        self.responses: asyncio.Queue[Any] = asyncio.Queue()
        self.aborted = ""

    def next_message_id(self) -> int:
        """The only one."""
        return 1

    def send(self, context_id: int, command: bytes, dataset: bytes | None = None) -> None:
        """The request."""

    def abort(self, why: str = "") -> None:
        """Take it down."""
        self.aborted = why

    async def receive(self, timeout_s: float) -> Any:
        """As `AssociationHandle`."""
        try:
            async with asyncio.timeout(timeout_s):
                return await self.responses.get()
        except TimeoutError:
            raise TimedOut("response_s", timeout_s) from None

    def answers(self, at_s: float, status: int, remaining: int | None, completed: int | None) -> None:
        """A response comes at this time."""
        response = raw.c_move_rsp(1, status, (remaining, completed, 0, 0))
        command = SimpleNamespace(data=response, status=status, pc_id=1)
        asyncio.get_running_loop().call_at(
            at_s, self.responses.put_nowait, SimpleNamespace(command=command, dataset=None)
        )


@pytest.fixture
def clock(runner: asyncio.Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Moves and their receipts go by the clock of the loop."""
    loop = runner.get_loop()
    for module in (move_scu, receipts):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: 1.0 + loop.time()))


PENDING: Final = 0xFF00
CONTEXT: Final = PresentationContext(1, raw.STUDY_ROOT_MOVE, raw.IMPLICIT_LE)


def object_stored(uid: str) -> InstanceStored:
    return InstanceStored(1, raw.CT_IMAGE, uid, raw.IMPLICIT_LE, 100, f"{uid}.dcm", "new", "PACS", "", 1)


async def moved(move: Move, association: MoveAssociation) -> Any:
    """The C-MOVE itself."""
    return await move.exchange(association, CONTEXT, "FASTMOVE", b"")  # type: ignore[arg-type]


MOVE_WAITS: Final = {
    # limit: whether a response without progress keeps it alive meanwhile
    "response_s": False,
    "progress_s": True,
}
LOSSES: Final = {"response_s": Loss.TIMED_OUT, "progress_s": Loss.STALLED}


@EDGES
@pytest.mark.parametrize("name", MOVE_WAITS)
async def test_move_waits_for_its_responses_until_its_limit(name: str, over_s: float, clock: None) -> None:
    association, move = MoveAssociation(), Move(Receipts(), only(name))
    association.answers(50.0, PENDING, 5, 1)
    if MOVE_WAITS[name]:
        association.answers(100.0, PENDING, 5, 1)  # a sign of life, and no progress
    association.answers(50.0 + LIMIT_S + over_s, 0, 0, 6)
    if over_s > 0:
        with pytest.raises(TimedOut):
            await moved(move, association)
        assert (move.loss, association.aborted) == (LOSSES[name], LOSSES[name].value)
        assert asyncio.get_running_loop().time() == pytest.approx(50.0 + LIMIT_S, abs=STEP_S / 10)
    else:
        assert (await moved(move, association)).status == 0


@EDGES
@pytest.mark.parametrize("name", MOVE_WAITS)
async def test_each_stored_object_starts_the_wait_of_a_move_anew(name: str, over_s: float, clock: None) -> None:
    found = Receipts()
    association, move = MoveAssociation(), Move(found, only(name))
    asyncio.get_running_loop().call_at(50.0, found.on_stored, object_stored("1.2.3"))
    association.answers(50.0 + LIMIT_S + over_s, 0, 0, 1)
    if over_s > 0:
        with pytest.raises(TimedOut):
            await moved(move, association)
    else:
        assert (await moved(move, association)).status == 0


@EDGES
async def test_drain_s_is_how_long_objects_may_come_after_the_final_response(over_s: float, clock: None) -> None:
    loop, found = asyncio.get_running_loop(), Receipts()
    association, move = MoveAssociation(), Move(found, only("drain_s"))
    association.answers(50.0, 0, 0, 2)
    loop.call_at(60.0, found.on_stored, object_stored("1.2.3"))
    loop.call_at(60.0 + LIMIT_S + over_s, found.on_stored, object_stored("1.2.4"))
    await moved(move, association)
    assert await move.drain()
    assert len(found.stored) == (1 if over_s > 0 else 2)
    assert loop.time() == pytest.approx(60.0 + LIMIT_S + min(over_s, 0.0), abs=STEP_S / 10)


@EDGES
async def test_drain_s_is_how_long_a_c_cancel_may_be_ignored(over_s: float, clock: None) -> None:
    association, move = MoveAssociation(), Move(Receipts(), only("drain_s"))
    association.answers(10.0, PENDING, 5, 1)
    asyncio.get_running_loop().call_at(50.0, move.cancel)
    association.answers(50.0 + LIMIT_S + over_s, 0xFE00, 5, 1)
    assert (await moved(move, association)).status == 0xFE00
    assert association.aborted == ("C-CANCEL was ignored" if over_s > 0 else "")


@EDGES
async def test_uncounted_s_is_how_long_silence_after_the_last_association_lasts(over_s: float, clock: None) -> None:
    loop, found = asyncio.get_running_loop(), Receipts()
    association, move = MoveAssociation(), Move(found, only("uncounted_s"))
    for at_s, tell in (
        (20.0, AssociationOpened(1, "peer.example", 104, "PACS", "FASTMOVE", 1)),
        (60.0, AssociationClosed(1, "released", 1)),
    ):
        loop.call_at(at_s, found, tell)
    loop.call_at(30.0, found.on_stored, object_stored("1.2.3"))
    loop.call_at(60.0 + LIMIT_S + over_s, found.on_stored, object_stored("1.2.4"))
    association.answers(50.0, 0, None, None)
    await moved(move, association)
    if over_s < 0:
        loop.call_at(200.0, move.stop)
    assert await move.drain()
    assert len(found.stored) == (1 if over_s > 0 else 2)
    if over_s > 0:
        assert loop.time() == pytest.approx(60.0 + LIMIT_S, abs=STEP_S / 10)
