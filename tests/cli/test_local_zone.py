"""By what clock windows go if nobody says: by that of the host, and by no other."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Final

import pytest

from fastmove.cli.migrate import windows
from fastmove.cli.migrate.windows import local_zone
from fastmove.errors import ConfigurationError
from fastmove.migrate.windows import parse_window

NIGHT: Final = [parse_window("daily 19:00-07:00")]
RULES: Final = "CET-1CEST,M3.5.0,M10.5.0/3"


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[str], None]]:
    """Gives this process a time zone, as that of its host; nothing else says what it is."""
    monkeypatch.setattr(windows, "TIMEZONE", tmp_path / "timezone")

    def is_in(zone: str) -> None:
        monkeypatch.setenv("TZ", zone)
        time.tzset()

    yield is_in
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def berlin(tmp_path: Path) -> Path:
    """The file of a zone, among other zones."""
    path = tmp_path / "zoneinfo/Europe/Berlin"
    path.parent.mkdir(parents=True)
    path.write_bytes((files("tzdata") / "zoneinfo/Europe/Berlin").read_bytes())
    return path


def test_zone_that_has_a_name_is_known_by_it(host: Callable[[str], None], berlin: Path) -> None:
    for zone in ("Europe/Berlin", ":Europe/Berlin", f":{berlin}", str(berlin)):
        host(zone)
        assert local_zone(NIGHT).key == "Europe/Berlin"
    host("UTC")
    assert local_zone(NIGHT).key == "UTC"


def test_zone_that_was_copied_is_known_by_the_name_that_was_written_down_beside_it(
    host: Callable[[str], None], berlin: Path, tmp_path: Path
) -> None:
    host(str(berlin.rename(tmp_path / "localtime")))
    with pytest.raises(ConfigurationError, match="--timezone"):
        local_zone(NIGHT)
    (tmp_path / "timezone").write_text("America/New_York\n")  # as it was before
    with pytest.raises(ConfigurationError, match="--timezone"):
        local_zone(NIGHT)
    (tmp_path / "timezone").write_text("Europe/Berlin\n")
    assert local_zone(NIGHT).key == "Europe/Berlin"


def test_zone_that_has_no_name_is_of_no_use_for_windows(host: Callable[[str], None]) -> None:
    for zone in (RULES, "EST5EDT4,M3.2.0,M11.1.0", "XYZ-5:30"):
        host(zone)
        with pytest.raises(ConfigurationError, match="--timezone: is needed"):
            local_zone(NIGHT)
        assert local_zone().key == "UTC"


@pytest.mark.parametrize(
    "verb", [("run", "--port", "11112", "--to", "in"), ("plan", "--all")], ids=lambda verb: verb[0]
)
def test_command_with_windows_says_that_it_has_to_be_given(tmp_path: Path, verb: tuple[str, ...]) -> None:
    name, *options = verb
    command = [sys.executable, "-m", "fastmove", "migrate", name, "a.ledger", "PACS@127.0.0.1:1", *options]
    done = subprocess.run(
        [*command, "--window", "daily 19:00-07:00"],
        cwd=tmp_path,
        env=os.environ | {"TZ": RULES},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1, done.stderr
    assert "--timezone" in done.stderr
    assert list(tmp_path.iterdir()) == []
