"""`--limit NAME=VALUE`, FASTMOVE_LIMIT and [limits]: which of them counts, and what is said of a wrong one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from fastmove.cli.verbs import main
from fastmove.limits import Limits

Given = Callable[..., Limits]


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Given:
    """Which limits `fastmove echo` takes from arguments, from a file, and from the environment."""
    taken: list[Limits] = []
    monkeypatch.setattr("fastmove.cli.echo.echo", lambda peer, aet, limits, notify: limits)
    monkeypatch.setattr("fastmove.cli.echo.run", taken.append)

    def given(*arguments: str, file: str = "", **environment: str) -> Limits:
        path = tmp_path / "fastmove.toml"
        path.write_text(file)
        peer = "pacs" if "[peers" in file else "PACS@127.0.0.1:104"
        ended = CliRunner().invoke(
            main, ["echo", peer, *arguments], env={"FASTMOVE_CONFIG": str(path), **environment}, catch_exceptions=False
        )
        assert ended.exit_code == 0, ended.output
        return taken[-1]

    return given


def test_limit_is_set_by_its_name_as_often_as_one_likes(given: Given) -> None:
    limits = given("--limit", "artim_s=5", "--limit", "window_bytes=256Ki", "--limit", "artim_s=7")
    assert limits == given().replace(artim_s=7.0, window_bytes=262144)


PEER = '[peers.pacs]\nae = "PACS"\nhost = "127.0.0.1"\nport = 104\ntimeout = 4\n'


@pytest.mark.parametrize(
    ("arguments", "file", "environment", "connect_s"),
    [
        ((), "", {}, 30),
        ((), "timeout = 3", {}, 3),
        ((), "timeout = 3\n[limits]\nconnect_s = 2", {}, 2),
        ((), f"{PEER}[limits]\nconnect_s = 2", {}, 4),
        ((), "[limits]\nconnect_s = 2", {"FASTMOVE_TIMEOUT": "6"}, 6),
        ((), "[limits]\nconnect_s = 2", {"FASTMOVE_TIMEOUT": "6", "FASTMOVE_LIMIT": "artim_s=1 connect_s=7"}, 7),
        (("--timeout", "8"), "[limits]\nconnect_s = 2", {"FASTMOVE_LIMIT": "connect_s=7"}, 8),
        (("--timeout", "8", "--limit", "connect_s=9"), "", {"FASTMOVE_LIMIT": "connect_s=7"}, 9),
    ],
    ids=[
        "nothing",
        "key of the file",
        "table of the file goes before its keys",
        "what the file says of the peer goes before the table",
        "environment goes before the file",
        "name goes before the option, both of the environment",
        "command line goes before the environment",
        "name goes before the option, both of the command line",
    ],
)
def test_what_is_nearer_goes_before(
    given: Given, arguments: tuple[str, ...], file: str, environment: dict[str, str], connect_s: float
) -> None:
    assert given(*arguments, file=file, **environment).connect_s == connect_s


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("artim", "'artim' is not NAME=VALUE, as message_s=120"),
        ("artim_x=5", "artim_x: is not known; did you mean artim_s?"),
        ("artim_s=soon", "artim_s: must be a number of seconds from 0.001 to 604,800.0, not 'soon'"),
        ("artim_s=0", "artim_s: must be a number of seconds from"),
        ("max_pending=0", "max_pending: must be a whole number from 1 to 1,048,576, not '0'"),
        ("max_pending=1.5", "max_pending: must be a whole number"),
    ],
)
def test_wrong_limit_is_a_usage_error_that_says_what_is_meant(setting: str, said: str) -> None:
    ended = CliRunner().invoke(main, ["echo", "PACS@127.0.0.1:104", "--limit", setting])
    assert ended.exit_code == 1
    assert said in " ".join(ended.output.split())


def test_value_of_an_option_that_is_out_of_all_bounds_is_refused() -> None:
    ended = CliRunner().invoke(main, ["echo", "PACS@127.0.0.1:104", "--timeout", "1e9"])
    assert (ended.exit_code, "connect_s: must be a number of seconds" in ended.output) == (1, True)


def test_file_with_a_wrong_limit_says_where(tmp_path: Path) -> None:
    path = tmp_path / "fastmove.toml"
    path.write_text('[limits]\nartim_s = 5\nmesage_s = 1\nmax_pending = "many"\n')
    ended = CliRunner().invoke(main, ["config", "check", str(path)])
    assert ended.exit_code == 1
    assert f"{path}:3: limits.mesage_s: is not known; did you mean message_s?" in ended.output
    assert f"{path}:4: limits.max_pending: must be a whole number from 1 to 1,048,576" in ended.output


def test_check_shows_the_limits_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "fastmove.toml"
    path.write_text('[limits]\nwindow_bytes = "256Ki"\n')
    ended = CliRunner().invoke(main, ["config", "check", str(path)])
    assert (ended.exit_code, "limits.window_bytes" in ended.output, "262144" in ended.output) == (0, True, True)
