"""The state table against a transcription of PS3.8 Table 9-10, and against another implementation's."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from pynetdicom import fsm

from fastmove.errors import InternalError
from fastmove.ul.states import NEXT_STATE, TABLE, Action, Event, State, data_allowed, possible, transition

TRANSCRIPTION = Path(__file__).with_name("state_table.csv")


def transcribed_cells() -> dict[tuple[str, str], str]:
    with TRANSCRIPTION.open(newline="") as file:
        header, *rows = csv.reader(file)
    return {
        (row[0], column): cell for row in rows for column, cell in zip(header[1:], row[1:], strict=True) if cell != ""
    }


def cell_text(action: Action, following: State | tuple[State, State]) -> str:
    choices = following if isinstance(following, tuple) else (following,)
    return f"{action} {' or '.join(map(str, choices))}"


def test_table_equals_the_transcription_of_table_9_10() -> None:
    ours = {(str(event), str(state)): cell_text(*cell) for (event, state), cell in TABLE.items()}
    assert ours == transcribed_cells()


def test_table_has_the_123_cells_of_the_standard() -> None:
    assert len(TABLE) == 123


def test_actions_agree_with_pynetdicom() -> None:
    assert {(str(event), str(state)): str(action) for (event, state), (action, _) in TABLE.items()} == dict(
        fsm.TRANSITION_TABLE
    )


def test_next_states_agree_with_pynetdicom_where_it_has_one() -> None:
    for action, following in NEXT_STATE.items():
        theirs = fsm.ACTIONS[str(action)][2]
        if isinstance(theirs, str):
            assert theirs == str(following)
        else:
            assert set(theirs) == {str(state) for state in following}


def test_every_action_is_used() -> None:
    assert {action for action, _ in TABLE.values()} == set(Action)


def test_labels_are_the_standards() -> None:
    assert [str(state) for state in State] == [f"Sta{n}" for n in range(1, 14)]
    assert [str(event) for event in Event] == [f"Evt{n}" for n in range(1, 20)]
    assert all(
        member.name == str(member).upper().replace("-", "_") for kind in (State, Event, Action) for member in kind
    )


def test_empty_cell_is_our_own_bug() -> None:
    with pytest.raises(InternalError, match="Evt1 .* cannot happen in Sta6"):
        transition(Event.EVT1, State.STA6)


def test_data_is_allowed_where_the_table_gives_it_to_the_user() -> None:
    assert {state for state in State if data_allowed(state)} == {State.STA6, State.STA7}


def test_data_may_be_sent_until_release_is_answered() -> None:
    assert {state for state in State if possible(Event.EVT9, state)} == {State.STA6, State.STA8}


def test_only_two_actions_choose_their_next_state() -> None:
    choosing = {action for action, following in NEXT_STATE.items() if isinstance(following, tuple)}
    assert choosing == {Action.AE_6, Action.AR_8}
