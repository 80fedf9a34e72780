"""A small retrieve is over in half a second: what it does not need must not be imported for it."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("pydicom", "numpy", "rich", "tomllib", "json", "importlib.metadata")


def imported_by(program: str) -> set[str]:
    """Which of the heavy modules a fresh interpreter has after a program."""
    report = f"import sys\n{program}\nprint(*(name for name in {HEAVY} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", report], capture_output=True, text=True, check=True, timeout=60)
    return set(done.stdout.split())


def test_command_line_of_retrieve_imports_nothing_heavy() -> None:
    assert imported_by("import fastmove.cli.main, fastmove.cli.verbs, fastmove.cli.retrieve") == set()


def test_request_with_everyday_keys_needs_no_data_dictionary() -> None:
    assert (
        imported_by("""
from fastmove.cli.find import DEFAULT_KEYS
from fastmove.dimse import identifier
from fastmove.uids import TRANSFER_SYNTAXES
for syntax in TRANSFER_SYNTAXES:
    identifier.encode(identifier.retrieve(["StudyInstanceUID=1.2.3"]), syntax)
    identifier.encode(identifier.retrieve(["0020,000D=1.2.3", "SeriesInstanceUID=1.4\\\\1.5"]), syntax)
    identifier.encode(identifier.query([*DEFAULT_KEYS["STUDY"], "PatientName=M\\u00fcller*"]), syntax)
""")
        == set()
    )


def test_final_response_of_a_move_is_read_without_pydicom() -> None:
    assert (
        imported_by("""
from fastmove.dimse import identifier
from fastmove.dimse.messages import CMoveRSP
from fastmove.dimse.move import MoveOperation
for syntax in ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"):
    failed = identifier.encode(identifier.from_text({"FailedSOPInstanceUIDList": "1.2\\\\1.3"}), syntax)
    for data in (failed, None):
        move = MoveOperation(1, lambda data: identifier.failed_sop_instance_uids(data, syntax))
        move.update(CMoveRSP(message_id_being_responded_to=1, status=0xB000, has_dataset=bool(data)), data)
        assert move.outcome.failed_sop_instance_uids == (("1.2", "1.3") if data else ())
""")
        == set()
    )


def test_key_beyond_the_everyday_ones_imports_the_data_dictionary() -> None:
    program = "from fastmove.dimse import identifier\nidentifier.parse_key('BitsStored=12')"
    assert "pydicom" in imported_by(program)


def test_verb_without_a_configuration_imports_nothing_to_read_one() -> None:
    program = """
from click.testing import CliRunner
before = set(sys.modules)
import os
os.environ["FASTMOVE_CONFIG"] = ""
os.environ["HOME"] = os.environ["XDG_CONFIG_HOME"] = "/nonexistent"
os.chdir("/")
from fastmove.cli.verbs import main
assert CliRunner().invoke(main, ["echo", "nobody"]).exit_code == 1
assert not {"tomllib", "difflib", "json", "fastmove.cli.toml_lines"} & (set(sys.modules) - before)
"""
    assert "tomllib" not in imported_by(program)


def test_movescu_knows_nothing_of_the_configuration() -> None:
    program = """
from fastmove.cli.main import _movescu
assert _movescu(["--version"], "movescu") == 0
assert not {"click", "fastmove.cli.configuration_keys", "fastmove.cli.options"} & set(sys.modules)
"""
    assert "tomllib" not in imported_by(program)
