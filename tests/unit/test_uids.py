from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pydicom.uid
import pytest

from fastmove import uids

GENERATOR = Path(__file__).parents[2] / "tools" / "gen_uids.py"


def test_generated_file_is_current() -> None:
    done = subprocess.run([sys.executable, GENERATOR, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# Of JPIP and Papyrus pydicom only says what holds for everything that it does not know.
KNOWN_TO_PYDICOM = [uid for uid, s in uids.TRANSFER_SYNTAXES.items() if not s.keyword.startswith(("JPIP", "Papyrus"))]


@pytest.mark.parametrize("uid", KNOWN_TO_PYDICOM)
def test_flags_of_a_transfer_syntax_agree_with_pydicom(uid: str) -> None:
    syntax = uids.TRANSFER_SYNTAXES[uid]
    other = pydicom.uid.UID(uid)
    assert (syntax.implicit_vr, syntax.little_endian, syntax.encapsulated, syntax.deflated) == (
        other.is_implicit_VR,
        other.is_little_endian,
        other.is_encapsulated,
        other.is_deflated,
    )


@pytest.mark.parametrize("keyword", ["JPIPReferencedDeflate", "JPIPHTJ2KReferencedDeflate"])
def test_jpip_deflate_is_deflated_without_fragments(keyword: str) -> None:
    syntax = next(s for s in uids.TRANSFER_SYNTAXES.values() if s.keyword == keyword)
    assert syntax.deflated and not syntax.encapsulated and not syntax.implicit_vr


def test_every_named_transfer_syntax_is_a_row() -> None:
    named = {
        uids.IMPLICIT_VR_LITTLE_ENDIAN,
        uids.EXPLICIT_VR_LITTLE_ENDIAN,
        uids.EXPLICIT_VR_BIG_ENDIAN,
        uids.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    }
    assert named <= uids.TRANSFER_SYNTAXES.keys()


def test_storage_sop_classes_hold_retired_ones_but_no_directory_and_no_commitment() -> None:
    assert uids.STORAGE_SOP_CLASSES["1.2.840.10008.5.1.4.1.1.2"] == "CT Image Storage"
    assert "1.2.840.10008.5.1.4.1.1.5" in uids.STORAGE_SOP_CLASSES  # Nuclear Medicine, retired
    assert "1.2.840.10008.1.3.10" not in uids.STORAGE_SOP_CLASSES
    assert not any("Commitment" in name for name in uids.STORAGE_SOP_CLASSES.values())
    assert len(uids.STORAGE_SOP_CLASSES) > 190


def test_query_retrieve_models_name_their_sop_classes() -> None:
    assert uids.QUERY_RETRIEVE["study"].move == "1.2.840.10008.5.1.4.1.2.2.2"
    assert uids.QUERY_RETRIEVE["patient"].find == "1.2.840.10008.5.1.4.1.2.1.1"
    assert uids.QUERY_RETRIEVE["patient-study"].get == "1.2.840.10008.5.1.4.1.2.3.3"
