"""Where a migration goes, as options say it: what is written down of it, and which destination it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import click
import pytest

from fastmove.cli.migrate.destination import Placing, destination_options
from tests.migrate.stores import environment

FORWARD: Final = ("--forward", "NEW@10.0.0.9:104", "--spool", "/spool")
BUCKET: Final = ("--to", "s3://archive/ct", "--spool", "/spool")
HERE: Final = ("--s3-endpoint", "https://store:9000")


@click.command()
@destination_options
def _placing(**placed: Any) -> Placing:
    return Placing.of(**placed)


def placing(*options: str) -> Placing:
    made = _placing.main(options, standalone_mode=False)
    assert isinstance(made, Placing)
    return made


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    environment(monkeypatch, tmp_path)


@pytest.mark.parametrize(
    ("options", "terms"),
    [
        (("--to", "/data"), {"to": "/data", "layout": "series"}),
        (FORWARD, {"forward": "NEW@10.0.0.9:104", "proof": "auto", "answer": "disk"}),
        (
            (*BUCKET, *HERE),
            {
                "to": "s3://archive/ct",
                "s3-endpoint": "https://store:9000",
                "layout": "series",
                "verify": "checksum",
                "answer": "disk",
            },
        ),
        (("--third-party", "NEW@10.0.0.9:104"), {"third-party": "NEW@10.0.0.9:104"}),
    ],
    ids=["folder", "forward", "bucket", "third party"],
)
def test_terms_are_those_of_the_options(options: tuple[str, ...], terms: dict[str, str]) -> None:
    assert placing(*options).terms() == terms


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (("--to", "/data"), ("--to", "/data2")),
        (("--to", "/data"), BUCKET),
        (("--to", "/data"), ("--third-party", "NEW@10.0.0.9:104")),
        (FORWARD, ("--third-party", "NEW@10.0.0.9:104")),
        (FORWARD, ("--forward", "NEW@10.0.0.8:104", "--spool", "/spool", "--proof", "none")),
        (BUCKET, ("--to", "s3://archive/mr", "--spool", "/spool")),
        (BUCKET, ("--to", "s3://other/ct", "--spool", "/spool")),
        (BUCKET, (*BUCKET, *HERE)),
    ],
)
@pytest.mark.parametrize("shared", [False, True])
def test_another_destination_is_told_from_the_one_before(
    before: tuple[str, ...], now: tuple[str, ...], shared: bool
) -> None:
    first, second = placing(*before), placing(*now)
    for one, other in ((first, second), (second, first)):
        assert one.other_than(one.terms(), shared=shared) == ""
        told = other.other_than(one.terms(), shared=shared)
        if shared and before[1] == "/data" and now[1] == "/data2":
            assert told == ""  # hosts have folders of their own
        else:
            assert told == " ".join(f"--{name} {value}" for name, value in one.identity.items())


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (("--to", "/data"), ("--to", "/data/", "--layout", "flat", "--on-duplicate", "skip")),
        (FORWARD, (*FORWARD[:2], "--spool", "/elsewhere", "--proof", "none", "--answer", "destination")),
        (BUCKET, ("--to", "s3://archive/ct/", "--spool", "/elsewhere", "--verify", "read")),
    ],
)
def test_destination_is_the_same_however_it_is_got_to(before: tuple[str, ...], now: tuple[str, ...]) -> None:
    assert placing(*now).other_than(placing(*before).terms(), shared=False) == ""


def test_folder_is_the_same_by_any_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in").mkdir()
    monkeypatch.chdir(tmp_path)
    settings = placing("--to", str(tmp_path / "in")).terms()
    assert placing("--to", "in").other_than(settings, shared=False) == ""


def test_nothing_is_told_of_batches_that_have_not_written_down_where_they_went() -> None:
    assert placing("--to", "/data").other_than({"windows": []}, shared=False) == ""
