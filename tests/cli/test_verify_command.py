"""`fastmove verify` as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.unit.test_manifest import notice, write
from tests.unit.test_verify import flip

from fastmove.cli.verbs import main
from fastmove.storage.manifest import Manifest


def verify(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["verify", *map(str, arguments)])


def events(result: Result) -> list[dict[str, object]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.fixture(params=["manifest.jsonl", "manifest.csv"])
def folder(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A folder of objects with a manifest of either form."""
    made = tmp_path / "objects"
    made.mkdir()
    with Manifest(made / request.param, made) as manifest:
        for number in range(4):
            write(made, f"{number}.dcm", f"1.2.{number}")
            manifest.record(notice(made / f"{number}.dcm", f"1.2.{number}"))
    return made


@pytest.mark.parametrize("arguments", [(), ("--quick",), ("--jobs", "1")])
def test_sound_folder_is_success(folder: Path, arguments: tuple[str, ...]) -> None:
    result = verify(folder, *arguments)
    assert result.exit_code == 0, result.output
    assert "all is well: 4 objects" in result.stderr
    assert "4" in result.stdout


def test_what_is_wrong_is_named_with_what_to_do_and_is_71(folder: Path) -> None:
    (folder / "0.dcm").unlink()
    flip(folder / "1.dcm")
    write(folder, "new\x1b[31m.dcm", "1.9")
    result = verify(folder)
    assert result.exit_code == 71
    assert "missing: 0.dcm\n" in result.stdout
    assert "of other content: 1.dcm\n" in result.stdout
    assert "not in the manifest: new\\x1b[31m.dcm\n" in result.stdout
    assert "run the same `fastmove retrieve` again" in result.stdout
    assert "not all is well: 4 objects" in result.stderr
    assert "\x1b" not in result.output


def test_quick_look_sees_what_is_missing_and_no_digests(folder: Path) -> None:
    flip(folder / "1.dcm")
    assert verify(folder, "--quick").exit_code == 0
    (folder / "1.dcm").unlink()
    assert verify(folder, "--quick").exit_code == 71


def test_json_names_everything(folder: Path) -> None:
    (folder / "0.dcm").unlink()
    flip(folder / "1.dcm")
    result = verify(folder, "--json")
    *faults, ended = events(result)
    assert result.exit_code == 71
    assert sorted((fault["fault"], fault["path"], fault["sop_instance_uid"]) for fault in faults) == [  # type: ignore[type-var]
        ("digest", "1.dcm", "1.2.1"),
        ("missing", "0.dcm", "1.2.0"),
    ]
    assert (ended["event"], ended["objects"], ended["damaged_lines"]) == ("verify.finished", 4, 0)
    assert ended["faults"] == {
        "missing": 1,
        "size": 0,
        "digest": 1,
        "unreadable": 0,
        "undigested": 0,
        "unlisted": 0,
    }
    assert result.stderr == ""


def test_long_list_of_faults_is_cut_for_people(folder: Path) -> None:
    for number in range(30):
        write(folder, f"new{number}.dcm", f"1.9.{number}")
    result = verify(folder)
    assert result.stdout.count("not in the manifest: new") == 20
    assert "not in the manifest: 10 more, which `--json` names" in result.stdout


def test_objects_that_are_not_listed_are_added(folder: Path) -> None:
    write(folder, "new.dcm", "1.9")
    assert verify(folder).exit_code == 71
    result = verify(folder, "--add")
    assert (result.exit_code, "added to the manifest: new.dcm\n" in result.stdout) == (0, True)
    result = verify(folder, "--add", "--json")
    (ended,) = events(result)
    assert (result.exit_code, ended["objects"], ended["added"]) == (0, 5, 0)


def test_manifest_may_lie_elsewhere(folder: Path, tmp_path: Path) -> None:
    (manifest,) = folder.glob("manifest.*")
    elsewhere = manifest.rename(tmp_path / f"list{manifest.suffix}")
    assert verify(elsewhere, "--folder", folder).exit_code == 0
    assert verify(elsewhere).exit_code == 71


def test_unreadable_line_is_71_and_told(folder: Path) -> None:
    (manifest,) = folder.glob("manifest.*")
    with manifest.open("a") as file:
        file.write("rubbish\n")
    result = verify(folder)
    assert result.exit_code == 71
    assert "unreadable lines" in result.stdout


def test_folder_without_a_manifest_says_how_to_get_one(tmp_path: Path) -> None:
    result = verify(tmp_path)
    assert result.exit_code == 1
    assert "there is none in" in result.stderr and "--add" in result.stderr


def test_folder_without_a_manifest_gets_one(tmp_path: Path) -> None:
    write(tmp_path, "a/b.dcm", "1.2.3")
    assert verify(tmp_path, "--add").exit_code == 0
    assert verify(tmp_path).exit_code == 0
    assert '"found"' in (tmp_path / "manifest.jsonl").read_text()


@pytest.mark.parametrize("arguments", [(), ("gone",)])
def test_command_line_without_something_to_verify_is_usage(arguments: tuple[str, ...], tmp_path: Path) -> None:
    assert verify(*arguments).exit_code == 1


def test_file_that_is_no_manifest_is_an_error_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "m.txt").touch()
    assert verify(tmp_path / "m.txt").exit_code == 1
    (tmp_path / "m.jsonl").write_bytes(b"\0\xff" * 100)
    assert verify(tmp_path / "m.jsonl").exit_code == 71
