"""Where the profile of a PACS is kept, and that what is read is what was written."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from fastmove.cli.profile_file import profile_path, save_profile, saved_profile
from fastmove.errors import ConfigurationError
from fastmove.services.profile import PacsProfile
from fastmove.types import PeerAddress

PEER = PeerAddress("PACS", "10.0.0.5", 104)


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The state of the user, in a folder of the test."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.mark.parametrize(
    "profile",
    [
        PacsProfile(),
        PacsProfile(find_cap=0, relational=False, associations=4),
        PacsProfile(*(False if kind.startswith("bool") else 7 for kind in PacsProfile.__annotations__.values())),
    ],
    ids=["nothing", "something", "everything"],
)
def test_profile_comes_back_as_it_was_saved(profile: PacsProfile, state: Path) -> None:
    assert saved_profile(PEER) is None
    path = save_profile(PEER, profile, ["found out today", 'by "somebody"\n= 5'])
    assert path == state / "fastmove/profiles/PACS@10.0.0.5_104.toml"
    assert saved_profile(PEER) == profile
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_profile_is_for_its_owner_alone() -> None:
    path = save_profile(PEER, PacsProfile(find_cap=5))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("title", ["../..", "A/B", "..", "TWO WORDS", "%2F", "*?$(x)"])
@pytest.mark.parametrize("host", ["2001:db8::5", "../../etc", "pacs.example.org"])
def test_every_peer_has_a_file_of_its_own_in_the_folder(title: str, host: str, state: Path) -> None:
    peer = PeerAddress(title, host, 104)
    path = save_profile(peer, PacsProfile(find_cap=5))
    assert path.resolve().parent == (state / "fastmove" / "profiles").resolve()
    assert saved_profile(peer) == PacsProfile(find_cap=5)
    assert saved_profile(PeerAddress(title, host, 105)) is None


def test_relative_state_home_does_not_count(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "state")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert profile_path(PEER).parent == tmp_path / ".local/state/fastmove/profiles"


def test_file_that_is_none_is_named() -> None:
    path = save_profile(PEER, PacsProfile(find_cap=5))
    path.write_text("find_cap = ")
    with pytest.raises(ConfigurationError, match=path.name):
        saved_profile(PEER)


def test_place_that_cannot_be_written_is_named(state: Path) -> None:
    state.touch()
    with pytest.raises(ConfigurationError, match="cannot be written"):
        save_profile(PEER, PacsProfile(find_cap=5))
