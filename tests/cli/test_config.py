"""The configuration as a user meets it: which file counts, what goes before what, what `fastmove config` says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click
import pytest
from click.testing import CliRunner, Result
from tests.integration.listener import Listener
from tests.integration.programs import Program, fastmove

from fastmove.cli import options, verbs
from fastmove.cli.configuration import PeerSettings, read
from fastmove.cli.configuration_keys import PEER, PROFILE, SECTIONS, SHARED
from fastmove.cli.options import config_file, config_places, given, options_by_key, peer_profile, peer_settings
from fastmove.cli.profile_file import save_profile
from fastmove.migrate.attribute_file import read_rules
from fastmove.pacs.scenario import parse as parse_scenario
from fastmove.services.profile import PacsProfile
from fastmove.types import PeerAddress

ROOT: Final = Path(__file__).parents[2]
FILE: Final = "fastmove.toml"

PACS: Final = """
[peers]
short = "SHORT@127.0.0.1:1"

[peers.pacs]
ae = "PACS"
host = "127.0.0.1"
port = 1
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, and a user without a configuration."""
    for name in os.environ:
        if name.startswith("FASTMOVE_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    working = tmp_path / "work"
    working.mkdir()
    monkeypatch.chdir(working)
    return working


def run(*arguments: str, env: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(verbs.main, list(arguments), env=env)


Run = Callable[..., dict[str, Any]]


@pytest.fixture
def values(monkeypatch: pytest.MonkeyPatch) -> Run:
    """What a verb is run with, by key, without running it."""

    def run_with(verb: str, *arguments: str, **env: str) -> dict[str, Any]:
        command = verbs.main.get_command(click.Context(verbs.main), verb)
        assert command is not None
        found: dict[str, Any] = {}

        def callback(**given: Any) -> None:
            found.update({key: given[str(option.name)] for key, option in options_by_key(command).items()})
            if "peer" in given:
                found.update(settings=peer_settings(), profile=peer_profile())

        monkeypatch.setattr(command, "callback", options.reports_errors(callback))
        result = run(verb, *arguments, env=env)
        assert result.exit_code == 0, result.output
        return found

    return run_with


# ---------------------------------------------------------------------- what goes before what


def test_each_says_more_than_what_is_before_it(values: Run) -> None:
    retrieve = ("retrieve", "pacs")
    Path(FILE).write_text(PACS)
    assert values(*retrieve)["aet"] == "FASTMOVE"
    Path(FILE).write_text(f'aet = "TOP"\n{PACS}')
    assert values(*retrieve)["aet"] == "TOP"
    Path(FILE).write_text(f'aet = "TOP"\n[retrieve]\naet = "VERB"\n{PACS}')
    assert values(*retrieve)["aet"] == "VERB"
    Path(FILE).write_text(f'aet = "TOP"\n[retrieve]\naet = "VERB"\n{PACS}\naet = "PEER"\n')
    assert values(*retrieve)["aet"] == "PEER"
    assert values(*retrieve, FASTMOVE_AET="ENV")["aet"] == "ENV"
    assert values(*retrieve, "--aet", "OPTION", FASTMOVE_AET="ENV")["aet"] == "OPTION"
    assert values(*retrieve, FASTMOVE_AET="")["aet"] == "PEER"


def test_settings_of_a_peer_are_defaults_of_the_options(values: Run) -> None:
    Path(FILE).write_text(f"{PACS}listen_port = 11113\nparallel = 4\ntimeout = 5\nmax_pdu = 65536\nfind_cap = 500\n")
    found = values("retrieve", "pacs")
    assert (found["port"], found["timeout"], found["max_pdu"]) == (11113, 5.0, 65536)
    assert values("send", "pacs", FILE)["parallel"] == 4
    assert values("send", "pacs", FILE, "--parallel", "2")["parallel"] == 2
    assert found["settings"].parallel == 4
    assert found["profile"] == PacsProfile(find_cap=500)
    assert values("retrieve", "short")["port"] is None


def test_settings_are_those_of_the_peer_wherever_it_is_on_the_command_line(values: Run) -> None:
    Path(FILE).write_text(f"{PACS}timeout = 5\n")
    assert values("echo", "--aet", "ME", "pacs")["timeout"] == 5.0
    assert values("echo", "--timeout", "7", "pacs")["timeout"] == 7.0


def test_peer_that_is_given_by_its_address_has_no_settings(values: Run) -> None:
    Path(FILE).write_text(f"timeout = 3\n{PACS}timeout = 5\n")
    found = values("echo", "PACS@127.0.0.1:1")
    assert found["timeout"] == 3.0
    assert found["settings"] == PeerSettings(PeerAddress("PACS", "127.0.0.1", 1))
    assert found["profile"] == PacsProfile()


def test_profile_of_a_peer_is_read_from_the_file_that_it_names(values: Run) -> None:
    Path("a.toml").write_text("find_cap = 200\nimage_level = false\n")
    Path(FILE).write_text(f'{PACS}profile = "a.toml"\n')
    assert values("find", "pacs")["profile"] == PacsProfile(find_cap=200, image_level=False)
    Path(FILE).write_text(f'{PACS}profile = "a.toml"\nfind_cap = 0\n')
    assert values("find", "pacs")["profile"] == PacsProfile(find_cap=0, image_level=False)
    Path(FILE).write_text(f"{PACS}[peers.pacs.profile]\nimage_level = true\n")
    assert values("find", "pacs")["profile"] == PacsProfile(image_level=True)


def test_what_doctor_has_found_out_counts_where_the_configuration_says_nothing(
    values: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    save_profile(PeerAddress("PACS", "127.0.0.1", 1), PacsProfile(image_level=True))
    assert values("find", "PACS@127.0.0.1:1")["profile"] == PacsProfile(image_level=True)
    Path(FILE).write_text(f"{PACS}find_cap = 500\n")
    assert values("find", "pacs")["profile"] == PacsProfile(image_level=True, find_cap=500)
    Path(FILE).write_text(f"{PACS}[peers.pacs.profile]\nfind_cap = 200\n")
    assert values("find", "pacs")["profile"] == PacsProfile(find_cap=200)


def test_default_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(FILE).write_text(f"aet = 'ME'\n{PACS}timeout = 5\n")
    found: list[bool] = []
    command = verbs.main.get_command(click.Context(verbs.main), "echo")
    monkeypatch.setattr(command, "callback", lambda **_: found.append(given("aet", "timeout", "as_json")))
    for arguments in ((), ("--timeout", "5"), ("--json",)):
        assert run("echo", "pacs", *arguments, env={"FASTMOVE_AET": "ENV"}).exit_code == 0
    assert found == [False, True, True]


def test_layout_is_checked_wherever_it_comes_from(values: Run) -> None:
    assert values("retrieve", "PACS@127.0.0.1:1")["layout"] == "flat"
    Path(FILE).write_text('[retrieve]\nlayout = "{PatientID}/{SOPInstanceUID}.dcm"\nparallel = 8\n')
    found = values("retrieve", "PACS@127.0.0.1:1")
    assert (found["layout"], found["parallel"]) == ("{PatientID}/{SOPInstanceUID}.dcm", 8)
    refused = run("retrieve", "PACS@127.0.0.1:1", "--layout", "{PatientID}.dcm")
    assert refused.exit_code == 1
    assert "{SOPInstanceUID} has to be in it" in refused.output
    Path(FILE).write_text('[retrieve]\nlayout = "{PatientID}.dcm"\n')
    assert "fastmove.toml:2: retrieve.layout: nothing tells" in run("retrieve", "PACS@127.0.0.1:1").output


def test_options_that_are_required_may_be_in_the_file(values: Run) -> None:
    Path(FILE).write_text('port = 0\n[listen]\nto = "in"\ndurable = false\naccept_from = ["A", "B"]\n')
    found = values("listen")
    assert (found["port"], found["to"], found["durable"]) == (0, Path("in"), False)
    assert found["accept_from"] == ("A", "B")


def test_every_key_has_its_environment_variable(values: Run) -> None:
    found = values(
        "listen",
        FASTMOVE_PORT="0",
        FASTMOVE_TO="in",
        FASTMOVE_DURABLE="0",
        FASTMOVE_ANY_CALLED_AET="1",
        FASTMOVE_ACCEPT_FROM="A B",
        FASTMOVE_ON_DUPLICATE="fail",
    )
    assert (found["port"], found["to"], found["durable"], found["any_called_aet"]) == (0, Path("in"), False, True)
    assert (found["accept_from"], found["on_duplicate"]) == (("A", "B"), "fail")
    assert values("find", "PACS@127.0.0.1:1", FASTMOVE_FORMAT="csv", FASTMOVE_KEY="StudyDate=1")["key"] == ()


def test_value_in_the_environment_that_is_wrong_is_told_by_its_variable() -> None:
    result = run("echo", "PACS@127.0.0.1:1", env={"FASTMOVE_TIMEOUT": "soon"})
    assert result.exit_code == 1
    assert "FASTMOVE_TIMEOUT" in result.output and "soon" in result.output
    assert "FASTMOVE_TIMEOUT" in run("echo", "--help").output


@pytest.mark.parametrize("arguments", [("pacs", "--port", "0"), ("movescu", "--version")])
async def test_pacs_and_movescu_take_no_defaults(arguments: tuple[str, ...], folder: Path) -> None:
    (folder / FILE).write_text("not TOML")
    ended = await fastmove(*arguments, cwd=folder, env={"FASTMOVE_AET": "X" * 17, "FASTMOVE_FOLDER": "x"})
    assert FILE not in ended.err
    assert ended.code == (1 if arguments[0] == "pacs" else 0)
    assert "give one of --folder" in ended.err or "movescu" in ended.out


async def test_title_of_the_configuration_is_that_of_the_association(listener: Listener, folder: Path) -> None:
    (folder / FILE).write_text(f'aet = "OURS"\n[peers]\nit = "{listener.ae_title}@{listener.host}:{listener.port}"\n')
    assert (await fastmove("echo", "it", cwd=folder)).code == 0
    assert (await listener.event("assoc.opened"))["calling_ae_title"] == "OURS"


async def test_listener_needs_nothing_but_its_configuration(folder: Path) -> None:
    (folder / "a.toml").write_text('aet = "OURS"\nhost = "127.0.0.1"\nport = 0\n[listen]\nto = "in"\n')
    async with Program("listen", env={**os.environ, "FASTMOVE_CONFIG": str(folder / "a.toml")}) as program:
        assert (await program.event("listen.started"))["host"] == "127.0.0.1"
        assert await program.stopped() == 0
    assert (folder / "in").is_dir()


# ---------------------------------------------------------------------- which file counts


def test_first_place_with_a_file_counts(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert config_file() is None
    places = [path for path, _ in config_places()]
    assert places == [Path(FILE), tmp_path / "home/.config/fastmove" / FILE, Path("/etc/fastmove") / FILE]
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    places = [path for path, _ in config_places()]
    assert places[1] == tmp_path / "xdg/fastmove" / FILE
    for path in (places[1], places[0]):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        assert config_file() == path
        assert run("config", "path").output == f"{path}\n"
    monkeypatch.setenv("FASTMOVE_CONFIG", "")
    assert config_file() == Path(FILE)
    monkeypatch.setenv("FASTMOVE_CONFIG", "named.toml")
    assert config_file() == Path("named.toml")


def test_user_without_a_home_has_no_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nowhere)
    assert [path for path, _ in config_places()] == [Path(FILE), Path("/etc/fastmove") / FILE]


def test_file_that_is_named_must_be_there() -> None:
    result = run("echo", "pacs", env={"FASTMOVE_CONFIG": "nowhere.toml"})
    assert (result.exit_code, result.output) == (
        1,
        "fastmove: nowhere.toml: cannot be read: No such file or directory\n",
    )


def test_no_configuration_is_wanted(values: Run) -> None:
    Path(FILE).write_text("not TOML")
    assert values("echo", "PACS@127.0.0.1:1", FASTMOVE_CONFIG="/dev/null")["aet"] == "FASTMOVE"


def test_path_of_no_configuration_says_where_it_was_looked_for() -> None:
    result = run("config", "path")
    assert result.exit_code == 1
    assert all(str(path) in result.output for path, _ in config_places())


# ---------------------------------------------------------------------- what is wrong


@pytest.mark.parametrize("verb", SECTIONS)
def test_first_thing_that_is_wrong_stops_every_verb(verb: str) -> None:
    Path(FILE).write_text("\nprot = 1\n[retrieve]\nport = -1\n")
    result = run(verb, "PACS@127.0.0.1:1")
    assert (result.exit_code, result.output) == (
        1,
        "fastmove: fastmove.toml:2: prot: is not known; did you mean port?\n",
    )


@pytest.mark.parametrize("arguments", [("echo", "--help"), ("retrieve", "pacs", "-h"), ("--help",), ("config",)])
def test_help_is_there_whatever_is_wrong(arguments: tuple[str, ...]) -> None:
    Path(FILE).write_text("not TOML")
    assert "Usage: " in run(*arguments).output


def test_peer_for_pacs_is_told_what_is_wrong() -> None:
    Path(FILE).write_text("[peers]\na = 1\n")
    result = run("pacs", "--port", "0", "--synthetic", "", "--move-destination", "a")
    assert result.exit_code == 1
    assert "fastmove.toml:2: peers.a: must be AET@HOST:PORT or a table, not 1" in result.output


def test_check_tells_everything_that_is_wrong() -> None:
    Path(FILE).write_text(f'prot = 1\n[retrieve]\nport = -1\n{PACS}profile = "nowhere.toml"\n')
    result = run("config", "check")
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        "fastmove.toml:1: prot: is not known; did you mean port?",
        "fastmove.toml:3: retrieve.port: must be a whole number from 0 to 65535, not -1",
        "peers.pacs.profile: nowhere.toml: cannot be read: No such file or directory",
    ]
    assert "PACS@127.0.0.1:1" in result.stdout


def test_check_says_what_is_there() -> None:
    Path(FILE).write_text(
        f'aet = "ME"\n[listen]\naccept_from = ["A"]\n{PACS}aet = "THERE"\n[peers.pacs.profile]\nfind_cap = 200\n'
    )
    result = run("config", "check", env={"FASTMOVE_PORT": "11112", "FASTMOVE_PROT": "1", "FASTMOVE_CONFIG": ""})
    assert result.exit_code == 0
    lines = [re.split(r"  +", line.rstrip()) for line in result.stdout.splitlines()]
    assert lines[0] == ["fastmove.toml, in the working directory"]
    assert ["pacs", "PACS@127.0.0.1:1", "THERE", "find_cap = 200"] in lines
    assert ["short", "SHORT@127.0.0.1:1"] in lines
    assert ["aet", '"ME"', FILE] in lines
    assert ["listen.accept_from", '["A"]', FILE] in lines
    assert ["port", "11112", "FASTMOVE_PORT"] in lines
    assert result.stderr == "FASTMOVE_PROT: is not known; did you mean FASTMOVE_PORT?\n"


def test_check_of_another_file_and_of_none() -> None:
    assert run("config", "check").exit_code == 0
    assert "there is no fastmove.toml" in run("config", "check").output
    Path("a.toml").write_text("prot = 1")
    assert run("config", "check", "a.toml").stderr == "a.toml:1: prot: is not known; did you mean port?\n"
    assert run("config", "check", "b.toml").exit_code == 1


# ---------------------------------------------------------------------- examples and pages


def test_example_is_right_with_and_without_its_comments() -> None:
    result = run("config", "example")
    assert result.exit_code == 0
    assert read(result.output, Path(FILE))[1] == []
    everything, faults = read(re.sub(r"^#(?=\w+ = |\[)", "", result.output, flags=re.M), Path(FILE))
    assert faults == []
    assert everything.shared.keys() == {key.name for key in SHARED}
    for verb, keys in SECTIONS.items():
        own = {key.name for key in keys}
        assert everything.defaults(verb).keys() == own
    peer, other = everything.peers["archive"], everything.peers["mammo"]
    assert all(getattr(peer, key.name) is not None for key in PEER[3:])
    assert isinstance(other.profile, PacsProfile)
    assert all(getattr(other.profile, key.name) is not None for key in PROFILE)


@pytest.mark.parametrize("page", sorted((ROOT / "docs").rglob("*.md")), ids=lambda page: page.name)
def test_configuration_in_the_documentation_is_right(page: Path, tmp_path: Path) -> None:
    for block in re.findall(r"^```toml\n(.*?)^```", page.read_text(), re.M | re.S):
        if "[[then]]" in block:
            assert parse_scenario(block).changes  # of the embedded PACS, and no configuration
        elif "[[change]]" in block:  # rules of a migration
            (tmp_path / "rules.toml").write_text(block)
            (tmp_path / "patients.csv").write_text("old,new,name\n1,2,DOE^JANE\n")
            assert read_rules(tmp_path / "rules.toml", 0.0).rules
        else:
            assert [str(fault.error) for fault in read(block, page)[1]] == []


def test_page_of_keys_is_current() -> None:
    check = [sys.executable, ROOT / "tools/gen_configuration.py", "--check"]
    done = subprocess.run(check, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
