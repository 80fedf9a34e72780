"""What a fastmove.toml says, and what is wrong with it: file, line, key, and what was meant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest

from fastmove.cli.configuration import (
    Configuration,
    PeerSettings,
    load,
    load_profile,
    profile_lines,
    read,
    shown,
)
from fastmove.cli.configuration_keys import OPTIONS_OF_PEER, PEER, PROFILE, SECTIONS, SHARED, SWITCH, Key, Kind
from fastmove.cli.metrics import MetricsAddress
from fastmove.cli.migrate.destination import Place
from fastmove.cli.migrate.windows import TimeZone
from fastmove.cli.options import AETitle, CommandPeer, LayoutTemplate, Size, options_by_key
from fastmove.cli.retrieve import MAX_PARALLEL, Parallel
from fastmove.cli.verbs import MOVESCU, VERBS, main
from fastmove.errors import ConfigurationError
from fastmove.services.profile import PacsProfile
from fastmove.types import PeerAddress

FILE = Path("/etc/fastmove/fastmove.toml")

OF_ONE_RUN = {
    "doctor": {"study", "to", "dry_run"},
    "find": {"key", "keys_file", "patient", "study", "series", "level", "matches"},
    "migrate": {
        *("study", "series", "image", "accession", "patient", "from", "column", "date", "modality", "description"),
        *("key", "keys_file", "batch", "order", "priority", "dry_run", "forward", "third_party", "destination_moved"),
        *("all", "priors_of", "seen_within", "sample", "sample_parallel"),
    },
    "retrieve": {
        *("study", "series", "image", "accession", "patient", "from", "column", "date", "modality", "description"),
        *("key", "keys_file", "refetch"),
    },
}
"""Options that nobody wants to have a default for; `--json` nowhere."""


def right(text: str) -> Configuration:
    configuration, faults = read(text, FILE)
    assert [str(fault.error) for fault in faults] == []
    return configuration


def wrong(text: str) -> list[str]:
    """What is wrong, without the name of the file."""
    return [str(fault.error).removeprefix(f"{FILE}:") for fault in read(text, FILE)[1]]


# ---------------------------------------------------------------------- what is right


def test_empty_file_says_nothing() -> None:
    assert right("# nothing\n") == Configuration()


def test_verb_has_its_own_keys_and_those_of_all_verbs() -> None:
    configuration = right('aet = " ME "\nport = 104\ndurable = false\n[listen]\nport = 0\n[echo]\n')
    assert configuration.defaults("listen") == {"aet": "ME", "port": 0, "durable": False}
    assert configuration.defaults("echo") == {"aet": "ME"}
    assert configuration.defaults("pacs") == {}


def test_values_are_what_the_commands_want() -> None:
    text = '[retrieve]\ntimeout = 5\nprove = true\n[listen]\naccept_from = ["A", "B"]\nto = "/data"\nhost = "[::1]"\n'
    configuration = right(text)
    assert configuration.defaults("retrieve") == {"timeout": 5.0, "prove": True}
    assert configuration.defaults("listen") == {"accept_from": ("A", "B"), "to": Path("/data"), "host": "::1"}


def test_relative_path_counts_from_the_folder_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    text = (
        '[listen]\nto = "in"\n[retrieve]\nto = "~/in"\n[peers.a]\nae = "A"\nhost = "a"\nport = 1\nprofile = "a.toml"\n'
    )
    configuration = right(text)
    assert configuration.defaults("listen") == {"to": Path("/etc/fastmove/in")}
    assert configuration.defaults("retrieve") == {"to": Path("/home/me/in")}
    assert configuration.peers["a"].profile == Path("/etc/fastmove/a.toml")


def test_peer_is_an_address_or_a_table() -> None:
    configuration = right("""
[peers]
short = "SHORT@10.0.0.5:104"
inline = {ae = "INLINE", host = "pacs.example", port = 11112}

[peers.full]
ae = "FULL"
host = "[2001:db8::5]"
port = 104
aet = "ME"
listen_port = 11113
parallel = 4
timeout = 10
max_pdu = 65536
find_cap = 500

[peers.full.profile]
find_cap = 200
image_level = false
""")
    assert configuration.peers == {
        "short": PeerSettings(PeerAddress("SHORT", "10.0.0.5", 104)),
        "inline": PeerSettings(PeerAddress("INLINE", "pacs.example", 11112)),
        "full": PeerSettings(
            PeerAddress("FULL", "2001:db8::5", 104),
            aet="ME",
            listen_port=11113,
            parallel=4,
            timeout=10.0,
            max_pdu=65536,
            find_cap=500,
            profile=PacsProfile(find_cap=200, image_level=False),
        ),
    }
    assert configuration.peers["full"].defaults == {
        "aet": "ME",
        "port": 11113,
        "parallel": 4,
        "timeout": 10.0,
        "max_pdu": 65536,
    }
    assert configuration.peers["short"].defaults == {}


def test_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_bytes(b'\xef\xbb\xbfaet = "ME"\r\n')
    configuration, faults = load(tmp_path / "a.toml")
    assert (dict(configuration.shared), faults) == ({"aet": "ME"}, [])


# ---------------------------------------------------------------------- what is wrong

KEYS_FOR_ALL = [key.name for key in SHARED]

WRONG = {
    "unknown key": ("\nprot = 1", ["2: prot: is not known; did you mean port?"]),
    "key that is spelled as an option": (
        '[retrieve]\n# x\non-duplicate = "fail"',
        ["3: retrieve.on-duplicate: is not known; did you mean on_duplicate?"],
    ),
    "key of a verb at the top": ("drain = 1", ["1: drain: is not known here; it is a key of [retrieve]"]),
    "nothing like it": (
        "[echo]\nzzz = 1",
        [f"2: echo.zzz: is not known; known are {', '.join(key.name for key in SECTIONS['echo'])}"],
    ),
    "unknown table": ("[lisetn]\nport = 1", ["1: lisetn: is not known; did you mean listen?"]),
    "movescu has no defaults": (
        "[movescu]",
        [f"1: movescu: is not known; known are {', '.join([*KEYS_FOR_ALL, *SECTIONS, 'limits', 'peers'])}"],
    ),
    "value for a table": (
        'peers = "x"\nsend = 1',
        ["1: peers: must be a table, [peers]", "2: send: must be a table, [send]"],
    ),
    "AE title too long": (
        'aet = "SEVENTEEN_LETTERS"',
        ["1: aet: 'SEVENTEEN_LETTERS' must have 1 to 16 characters"],
    ),
    "AE title of another kind": (
        "aet = 5",
        ["1: aet: must be an AE title, not 5"],
    ),
    "port too high": ("port = 65536", ["1: port: must be a whole number from 0 to 65535, not 65536"]),
    "port as text": ('port = "104"', ['1: port: must be a whole number from 0 to 65535, not "104"']),
    "true is no number": ("port = true", ["1: port: must be a whole number from 0 to 65535, not true"]),
    "number is no switch": ("durable = 1", ["1: durable: must be true or false, not 1"]),
    "no end": ("timeout = inf", ["1: timeout: must be a number of seconds of at least 0.1, not inf"]),
    "no number": ("timeout = nan", ["1: timeout: must be a number of seconds of at least 0.1, not nan"]),
    "none of the choices": ("[find]\nformat = []", ["2: find.format: must be one of table, json, csv, not []"]),
    "no path": ('[listen]\nto = ""', ['2: listen.to: must be the path of a folder, not ""']),
    "one in a list": (
        '[listen]\naccept_from = [\n"A",\n1]',
        ['2: listen.accept_from: must be a list, each an AE title, not ["A", 1]'],
    ),
    "layout that is none": (
        '[retrieve]\nlayout = "{PatientID}.dcm"',
        ["2: retrieve.layout: nothing tells one object from another: {SOPInstanceUID} has to be in it"],
    ),
    "address that is none": ('[peers]\na = "A"', ["2: peers.a: 'A' is not AET@HOST:PORT"]),
    "address without a port": ('[peers]\na = "A@h:0"', ["2: peers.a: port '0' in 'A@h:0' must be 1 to 65535"]),
    "address with a bad title": (
        '[peers]\na = "A\\\\@h:1"',
        ["2: peers.a: 'A\\\\' must be printable ASCII without a backslash"],
    ),
    "peer of another kind": ("[peers]\na = 5", ["2: peers.a: must be AET@HOST:PORT or a table, not 5"]),
    "several peers of one name": (
        '[[peers.a]]\nae = "A"',
        ["1: peers.a: must be AET@HOST:PORT or a table, not [a table]"],
    ),
    "peer that lacks something": ('[peers.a]\nae = "A"', ["1: peers.a: lacks host, port"]),
    "port of a peer": (
        '[peers.a]\nae = "A"\nhost = "h"\nport = 0',
        ["4: peers.a.port: must be a whole number from 1 to 65535, not 0"],
    ),
    "nothing that a peer has": (
        '[peers]\na = {ae = "A", host = "h", port = 1, zzz = true}',
        [f"2: peers.a.zzz: is not known; known are {', '.join(key.name for key in PEER)}"],
    ),
    "name that is an address": (
        '[peers]\n"a@b" = "A@h:1"',
        ["2: peers.a@b: a name must be printable, without blanks and @, and begin with no hyphen"],
    ),
    "profile": (
        '[peers.a]\nae = "A"\nhost = "h"\nport = 1\n[peers.a.profile]\nfind_cap = -1\nfindcap = 1',
        [
            "6: peers.a.profile.find_cap: must be a whole number of at least 0, not -1",
            "7: peers.a.profile.findcap: is not known; did you mean find_cap?",
        ],
    ),
    "profile of another kind": (
        '[peers.a]\nae = "A"\nhost = "h"\nport = 1\nprofile = 1',
        ["5: peers.a.profile: must be the path of a file or a table, not 1"],
    ),
    "not TOML": ('aet = "A"\n[peers\n', ["2: not TOML: Expected ']' at the end of a table declaration"]),
    "end too early": ("aet = \n\n", ["1: not TOML: Invalid value"]),
    "said twice": ("port = 1\nport = 1\n", ["2: not TOML: Cannot overwrite a value"]),
}


@pytest.mark.parametrize(("text", "faults"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_told_with_its_line(text: str, faults: list[str]) -> None:
    assert wrong(text) == faults


def test_everything_that_is_wrong_is_told_at_once_from_the_top() -> None:
    text = 'prot = 1\n[retrieve]\nport = -1\n[peers]\nb = "B@h:1"\na = 1\n[lisetn]\n[echo]\naet = 1\nport = 1\n'
    assert [line.partition(":")[0] for line in wrong(text)] == ["1", "3", "6", "7", "9", "10"]
    assert read(text, FILE)[0].peers.keys() == {"b"}


@pytest.mark.parametrize("text", ["a = " + "[" * 5000, "a = " + "1" * 5000])
def test_text_that_is_too_much_for_the_parser_is_told(text: str) -> None:
    assert wrong(text)[0].startswith("1: not TOML: ")


def test_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nowhere\.toml: cannot be read: No such file or directory"):
        load(tmp_path / "nowhere.toml")
    (tmp_path / "latin.toml").write_bytes(b'aet = "M\xfcLLER"')
    with pytest.raises(ConfigurationError, match=r"latin\.toml: is not UTF-8: .*, byte 8"):
        load(tmp_path / "latin.toml")


# ---------------------------------------------------------------------- profiles


def example(kind: Kind) -> Any:
    return kind.read(list(kind.example) if isinstance(kind.example, tuple) else kind.example)


def test_profile_comes_back_as_it_was_written(tmp_path: Path) -> None:
    profile = PacsProfile(**{key.name: example(key.kind) for key in PROFILE})
    assert all(getattr(profile, name) is not None for name in PacsProfile.fields)
    (tmp_path / "a.toml").write_text("\n".join(profile_lines(profile)), "utf-8")
    assert load_profile(tmp_path / "a.toml") == profile
    (tmp_path / "a.toml").write_text("")
    assert load_profile(tmp_path / "a.toml") == PacsProfile()


def test_profile_that_is_wrong_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("\nfind_cap = true\n")
    with pytest.raises(
        ConfigurationError, match=r"a\.toml:2: find_cap: must be a whole number of at least 0, not true"
    ):
        load_profile(tmp_path / "a.toml")


@pytest.mark.parametrize("text", ["", 'a"b\\c', "ä\x7f\x9b\n\U0001f600", "\t"])
def test_value_is_shown_as_toml_reads_it(text: str) -> None:
    import tomllib

    assert tomllib.loads(f"a = {shown(text)}") == {"a": text}
    assert shown(text).isprintable()


# ---------------------------------------------------------------------- the keys and the options


def verb(name: str) -> click.Command:
    found = main.get_command(click.Context(main), name)
    assert found is not None
    return found


def keys_of_verbs() -> list[Any]:
    return [pytest.param(name, key, id=f"{name}.{key.name}") for name, keys in SECTIONS.items() for key in keys]


def takes(kind: Kind, value: Any) -> bool:
    try:
        kind.read(value)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize(("name", "key"), keys_of_verbs())
def test_key_takes_what_its_option_takes(name: str, key: Key) -> None:
    option = options_by_key(verb(name))[key.name]
    if option.multiple:
        (each, *_) = key.kind.example
        assert takes(key.kind, [each]) and not takes(key.kind, each)
    elif isinstance(option.type, click.Choice):
        assert key.kind.text == f"one of {', '.join(option.type.choices)}"
    elif isinstance(option.type, click.IntRange):
        low, high = option.type.min, option.type.max
        assert low is not None and takes(key.kind, low) and not takes(key.kind, low - 1)
        assert high is None or (takes(key.kind, high) and not takes(key.kind, high + 1))
        assert takes(key.kind, 1 << 40) == (high is None)
    elif isinstance(option.type, click.FloatRange):
        low_s = option.type.min
        assert low_s is not None and takes(key.kind, low_s) and not takes(key.kind, low_s - 0.01)
        assert takes(key.kind, 1e6) == (option.type.max is None)
    elif isinstance(option.type, Parallel):
        assert all(takes(key.kind, value) for value in ("auto", 1, MAX_PARALLEL))
        assert not any(takes(key.kind, value) for value in ("all", 0, MAX_PARALLEL + 1))
    elif isinstance(option.type, LayoutTemplate):
        assert takes(key.kind, "{PatientID}/{SOPInstanceUID}.dcm") and not takes(key.kind, "{PatientID}.dcm")
    elif isinstance(option.type, Size):
        assert all(takes(key.kind, value) for value in (0, 1 << 40, "1.5G"))
        assert takes(key.kind, "auto") == (option.default == "auto")
        assert not any(takes(key.kind, value) for value in ("all", -1, True, "G"))
    else:
        kinds = {
            click.types.BoolParamType: bool,
            click.Path: Path,
            AETitle: str,
            MetricsAddress: str,
            Place: str,
            TimeZone: str,
            click.types.StringParamType: str,
        }
        assert isinstance(example(key.kind), kinds[type(option.type)])
        assert (key.kind is SWITCH) == option.is_flag


@pytest.mark.parametrize("name", SECTIONS)
def test_option_has_a_key_or_is_of_one_run(name: str) -> None:
    keys = {key.name for key in SECTIONS[name]}
    without = options_by_key(verb(name)).keys() - keys - {"json", "help", "limit"}  # which has a table of its own
    assert without == OF_ONE_RUN.get(name, set()), "a row in SECTIONS of cli/configuration_keys.py, or a name here"


@pytest.mark.parametrize("name", sorted(VERBS.keys() - {MOVESCU}))
def test_verb_that_asks_a_peer_has_defaults(name: str) -> None:
    if any(isinstance(parameter.type, CommandPeer) for parameter in verb(name).params):
        assert name in SECTIONS


def test_key_of_all_verbs_is_one_of_some_verb() -> None:
    assert set(SHARED) <= {key for keys in SECTIONS.values() for key in keys}


def test_settings_of_a_peer_are_its_keys() -> None:
    assert set(PeerSettings.fields) == {key.name for key in PEER} - {"ae", "host", "port"} | {"address"}
    assert {key.name for key in PROFILE} == set(PacsProfile.fields)
    kinds = {key.name: key.kind for key in PEER}
    for name, key in OPTIONS_OF_PEER.items():
        assert any(row.name == key and row.kind.text == kinds[name].text for keys in SECTIONS.values() for row in keys)
