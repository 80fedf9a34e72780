from __future__ import annotations

from typing import Any

import pytest

from fastmove.dimse.messages import CEchoRSP, CFindRSP, CMoveRSP, CStoreRSP, Message
from fastmove.dimse.move import (
    Counters,
    Finished,
    MoveOperation,
    MoveOutcome,
    Oddity,
    Progress,
)
from fastmove.dimse.status import StatusClass
from fastmove.errors import DimseError, LocalProtocolError, RemoteProtocolError

PENDING = 0xFF00


def rsp(status: int | None, *counters: int | None, has_dataset: bool = False, **values: Any) -> CMoveRSP:
    """A response of message 1; counters are remaining, completed, failed, warning."""
    names = ("remaining", "completed", "failed", "warning")
    numbers = {f"number_of_{name}_suboperations": n for name, n in zip(names, counters, strict=False)}
    values = {"message_id_being_responded_to": 1, **numbers, **values}
    return CMoveRSP(status=status, has_dataset=has_dataset, **values)


def failed_list(identifier: bytes) -> tuple[str, ...]:
    if identifier == b"rubbish":
        raise DimseError(0xC000, "identifier cannot be read")
    return tuple(identifier.decode().split("\\"))


@pytest.fixture
def move() -> MoveOperation:
    return MoveOperation(1, failed_list)


def test_pending_responses_report_progress_and_the_final_one_the_outcome(move: MoveOperation) -> None:
    assert move.update(rsp(PENDING, 2, 0, 0, 0)) == [Progress(Counters(2, 0, 0, 0), advanced=True)]
    assert move.update(rsp(PENDING, 1, 1, 0, 0)) == [Progress(Counters(1, 1, 0, 0), advanced=True)]
    assert move.outcome is None
    outcome = MoveOutcome(0, completed=2, failed=0, warning=0)
    assert move.update(rsp(0, None, 2, 0, 0)) == [Finished(outcome)]
    assert move.outcome == outcome


# M14
def test_m14_pending_with_frozen_counters_does_not_advance(move: MoveOperation) -> None:
    move.update(rsp(PENDING, 5, 0, 0, 0))
    assert move.update(rsp(PENDING, 5, 0, 0, 0)) == [Progress(Counters(5, 0, 0, 0), advanced=False)]


def test_pending_without_counters_does_not_advance(move: MoveOperation) -> None:
    assert move.update(rsp(PENDING)) == [Progress(Counters(), advanced=False)]


# M15
def test_m15_data_set_of_a_pending_response_is_noted_and_not_read(move: MoveOperation) -> None:
    events = move.update(rsp(PENDING, 1, 0, 0, 0, has_dataset=True), b"rubbish")
    assert events == [
        Oddity("move.pending_dataset", "7 bytes, not read"),
        Progress(Counters(1, 0, 0, 0), advanced=True),
    ]


def test_status_detail_of_a_pending_response_is_noted(move: MoveOperation) -> None:
    events = move.update(rsp(PENDING, 1, 0, 0, 0, error_comment="slow tape"))
    assert events[0] == Oddity("move.pending_detail", "slow tape")


def test_final_response_without_counters_keeps_those_of_the_last_pending_one(move: MoveOperation) -> None:
    move.update(rsp(PENDING, 0, 4, 2, 1))
    move.update(rsp(0))
    assert move.outcome == MoveOutcome(0, completed=4, failed=2, warning=1, remaining=None)


def test_silent_final_response_does_not_say_what_became_of_those_that_remained(move: MoveOperation) -> None:
    move.update(rsp(PENDING, 3, 4, 2, 1))
    move.update(rsp(0))
    assert move.outcome == MoveOutcome(0, completed=None, failed=2, warning=1, remaining=None)


def test_counters_that_never_came_are_none(move: MoveOperation) -> None:
    move.update(rsp(0))
    assert move.outcome == MoveOutcome(0)


def test_counter_that_goes_back_is_noted(move: MoveOperation) -> None:
    move.update(rsp(PENDING, 3, 7, 0, 0))
    events = move.update(rsp(PENDING, 3, 5, 0, 0))
    assert events[0] == Oddity("move.counter_conflict", "completed went back by 2 to 5")
    assert move.counters.completed == 5


def test_counter_may_leap_forward_in_one_step(move: MoveOperation) -> None:
    move.update(rsp(PENDING, 60000, 0, 0, 0))
    assert move.update(rsp(PENDING, 0, 60000, 0, 0)) == [Progress(Counters(0, 60000, 0, 0), advanced=True)]


# M19
def test_m19_counter_that_starts_again_at_65536_goes_on_counting(move: MoveOperation) -> None:
    move.update(rsp(PENDING, 65535, 65000, 0, 0))
    events = move.update(rsp(PENDING, 4464, 100, 0, 0))
    assert events[0] == Oddity("move.counter_wrap", "completed started again at 100")
    move.update(rsp(0, None, 4464, 0, 0))
    assert move.outcome is not None
    assert move.outcome.completed == 70000


# M17
@pytest.mark.parametrize(
    "message",
    [
        rsp(PENDING, message_id_being_responded_to=2),
        CStoreRSP(message_id_being_responded_to=1, status=0),
        CFindRSP(message_id_being_responded_to=1, status=0),
        CEchoRSP(message_id_being_responded_to=1, status=0),
    ],
    ids=["message id", "C-STORE", "C-FIND", "C-ECHO"],
)
def test_m17_response_to_something_else_is_a_protocol_error(move: MoveOperation, message: Message) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        move.update(message)
    assert (caught.value.key, caught.value.source, caught.value.reason) == ("move.protocol", 0, 0)
    assert move.outcome is None


# M18
@pytest.mark.parametrize("status", [PENDING, 0])
def test_m18_response_after_the_final_one_leaves_the_outcome(move: MoveOperation, status: int) -> None:
    move.update(rsp(0, None, 2, 0, 0))
    with pytest.raises(RemoteProtocolError) as caught:
        move.update(rsp(status, None, 9, 0, 0))
    assert (caught.value.key, caught.value.source) == ("move.after_final", 0)
    assert move.outcome == MoveOutcome(0, completed=2, failed=0, warning=0)


def test_failed_list_of_the_final_response_becomes_part_of_the_outcome(move: MoveOperation) -> None:
    move.update(rsp(0xB000, None, 1, 2, 0, has_dataset=True, error_comment="two failed"), b"1.2\\1.3")
    assert move.outcome == MoveOutcome(
        0xB000, "two failed", completed=1, failed=2, warning=0, failed_sop_instance_uids=("1.2", "1.3")
    )


# M09
def test_m09_failed_list_that_cannot_be_read_is_noted_and_ignored(move: MoveOperation) -> None:
    events = move.update(rsp(0xB000, None, 1, 2, 0, has_dataset=True), b"rubbish")
    assert events[0] == Oddity("move.failed_list", "identifier cannot be read")
    assert move.outcome == MoveOutcome(0xB000, completed=1, failed=2, warning=0)


# M10
def test_m10_response_without_status_is_final_and_a_failure(move: MoveOperation) -> None:
    move.update(rsp(None))
    assert move.outcome is not None
    assert move.outcome.status is None
    assert move.outcome.status_class is StatusClass.FAILURE


# M12
def test_m12_cancel_names_the_request_and_marks_the_outcome(move: MoveOperation) -> None:
    assert move.cancel().message_id_being_responded_to == 1
    move.update(rsp(PENDING, 2, 1, 0, 0))
    move.update(rsp(0xFE00, 2, 1, 0, 0))
    assert move.outcome == MoveOutcome(0xFE00, completed=1, failed=0, warning=0, remaining=2, cancelled_by_us=True)


def test_cancel_after_the_final_response_is_a_local_error(move: MoveOperation) -> None:
    move.update(rsp(0))
    with pytest.raises(LocalProtocolError):
        move.cancel()
