"""The bounds that a user may set: each has a range, and a value outside is refused with a word on what it has to be."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Final

import pytest

from fastmove.cli.configuration_keys import LIMITS
from fastmove.errors import ConfigurationError
from fastmove.limits import RANGES, Limits, check, is_whole

DEFAULTS = Limits()


def test_every_limit_has_a_range_that_holds_its_default() -> None:
    assert tuple(RANGES) == Limits.fields
    for name in RANGES:
        check(name, getattr(DEFAULTS, name))


@pytest.mark.parametrize("name", RANGES)
def test_range_ends_where_it_says(name: str) -> None:
    step = 1 if is_whole(name) else 0.0001
    least, most = RANGES[name]
    for value in (least, least + step, most - step, most):
        check(name, value)
    for value in (least - step, most + step, -1):
        with pytest.raises(ConfigurationError, match=f"^{name}: must be a (whole )?number"):
            check(name, value)


@pytest.mark.parametrize("name", RANGES)
def test_value_of_another_kind_is_refused(name: str) -> None:
    for value in (True, float("inf"), float("nan"), *((2e4 + 0.5,) if is_whole(name) else ())):
        with pytest.raises(ConfigurationError):
            check(name, value)


def test_no_wait_is_without_an_end() -> None:
    assert all(most <= 7 * 86_400 for name, (_, most) in RANGES.items() if name.endswith("_s"))


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("window_bytes", "256Ki", 262144),
        ("window_bytes", 262144, 262144),
        ("min_rate", "2k", 2000),
        ("message_s", "1.5", 1.5),
        ("message_s", 2, 2.0),
        ("keepalive_probes", "3", 3),
    ],
)
def test_limit_is_read_from_text_and_from_toml(name: str, text: str | int, value: float) -> None:
    kind = next(key.kind for key in LIMITS if key.name == name)
    assert (kind.read(text), type(kind.read(text))) == (value, type(value))


@pytest.mark.parametrize(
    ("name", "value"),
    [("message_s", "soon"), ("message_s", "nan"), ("window_bytes", "1e5"), ("message_s", []), ("max_pending", "2.5")],
)
def test_what_is_no_limit_is_not_read(name: str, value: object) -> None:
    with pytest.raises(ValueError):
        next(key.kind for key in LIMITS if key.name == name).read(value)


# ---------------------------------------------------------------------- each is tested where it ends

TESTS: Final = Path(__file__).parents[1]
DEADLINES: Final = "integration/test_deadlines.py"
MOVES: Final = "integration/test_move_deadlines.py"
COMMITMENT: Final = "integration/test_storage_commitment.py"
EDGES: Final = "integration/test_limit_edges.py"
REQUESTS: Final = f"{EDGES}::test_request_is_taken_up_to_its_limit_and_aborted_beyond"
MESSAGES: Final = f"{EDGES}::test_message_is_taken_up_to_its_limit_and_aborted_beyond"
WINDOWS: Final = f"{EDGES}::test_windows_are_large_up_to_their_number_and_small_beyond"
WAITS: Final = f"{DEADLINES}::test_requestor_waits_until_its_limit_and_no_longer"
KERNEL: Final = f"{DEADLINES}::test_both_roles_set_the_timers_of_tcp"
RATES: Final = "unit/test_watchdog.py::test_T04_rate_is_an_average_over_its_time"
PENDING: Final = "unit/test_pending.py::test_T21"
EDGE_TESTS: Final = {
    # limit: the test of what is just below it, and just above
    "max_pdu_length": MESSAGES,
    "max_control_pdu_length": REQUESTS,
    "max_items": REQUESTS,
    "max_user_items": REQUESTS,
    "max_command_bytes": MESSAGES,
    "max_identifier_bytes": f"{EDGES}::test_identifier_is_taken_up_to_its_limit_and_aborted_beyond",
    "max_empty_pdvs": MESSAGES,
    "window_bytes": WINDOWS,
    "small_window_bytes": WINDOWS,
    "large_windows": WINDOWS,
    "connect_s": WAITS,
    "tls_s": f"{DEADLINES}::test_tls_s_is_how_long_the_handshake_may_take",
    "associate_s": WAITS,
    "artim_s": f"{DEADLINES}::test_artim_s_is_how_long_a_connection_may_have_no_association",
    "release_s": WAITS,
    "idle_s": "unit/test_watchdog.py::test_silence_ends_at_its_limit",
    "message_s": "unit/test_watchdog.py::test_silence_ends_at_its_limit",
    "min_rate": RATES,
    "rate_s": RATES,
    "response_s": WAITS,
    "progress_s": f"{MOVES}::test_move_waits_for_its_responses_until_its_limit",
    "drain_s": f"{MOVES}::test_drain_s_is_how_long_objects_may_come_after_the_final_response",
    "uncounted_s": f"{MOVES}::test_uncounted_s_is_how_long_silence_after_the_last_association_lasts",
    "retry_s": "unit/test_reach.py::test_pause_doubles_from_retry_s_up_to_max_back_off_s",
    "away_s": "unit/test_reach.py::test_T16_pacs_is_away_until_its_limit",
    "max_back_off_s": "unit/test_reach.py::test_max_back_off_s_cuts_what_is_longer",
    "commit_s": f"{DEADLINES}::test_commit_s_is_how_long_a_report_is_waited_for",
    "commit_instances": f"{COMMITMENT}::test_commit_instances_is_how_many_go_into_one_request",
    "stop_s": f"{DEADLINES}::test_stop_s_is_how_long_an_object_in_flight_is_waited_for",
    "big_folder_files": "integration/test_catalogue_names.py::test_U12_folder_of_many_files_works_and_is_told_of",
    "folder_look_s": "integration/test_catalogue_names.py::test_U11_change_at_the_very_end_is_told_of_too",
    "max_associations": f"{EDGES}::test_R01_associations_are_taken_up_to_their_limit",
    "max_associations_per_host": f"{EDGES}::test_R01_associations_are_taken_up_to_their_limit",
    "max_pending": f"{PENDING}_of_too_many_in_all_the_oldest_of_the_host_that_has_most_has_to_go",
    "max_pending_per_host": f"{PENDING}_oldest_of_a_host_with_too_many_has_to_go",
    "pending_bytes": "unit/test_pending.py::test_R03_largest_has_to_go_when_the_budget_is_spent",
    "user_timeout_s": KERNEL,
    "keepalive_s": KERNEL,
    "keepalive_interval_s": KERNEL,
    "keepalive_probes": KERNEL,
    "lag_s": f"{DEADLINES}::test_T19_lag_s_is_how_late_the_loop_may_be",
    "slow_disk_s": f"{DEADLINES}::test_F18_slow_disk_s_is_how_long_a_call_of_the_disk_may_take",
    "max_object_bytes": f"{EDGES}::test_object_is_stored_up_to_its_limit_and_refused_beyond",
}


def test_every_limit_has_a_test_of_its_edges() -> None:
    assert tuple(EDGE_TESTS) == Limits.fields, "a new limit wants a test of what is just below it, and just above"


@pytest.mark.parametrize("name", EDGE_TESTS)
def test_test_of_the_edges_is_there_and_sets_the_limit(name: str) -> None:
    path, _, test = EDGE_TESTS[name].partition("::")
    tree = ast.parse((TESTS / path).read_text())
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    assert test in functions
    named = {node.arg for node in ast.walk(tree) if isinstance(node, ast.keyword)}
    named |= {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    assert name in named
