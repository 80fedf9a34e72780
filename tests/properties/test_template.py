"""No value of a peer leaves the folder of the objects, and no two share a name."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Final

from hypothesis import given, settings
from hypothesis import strategies as st

from fastmove.storage.template import SOP_INSTANCE_UID, FileSystem, Layout, component, naming

FILE_SYSTEMS: Final = (FileSystem(), FileSystem(143), FileSystem(255, folds_case=True))
PATIENT, STUDY = 0x00100020, 0x0020000D
LAYOUTS: Final = ("{patient}/{study}/{sop}.dcm", "{patient}_{study}.x/{sop}", "a{patient}^_{study}/{sop}_{patient}")
RESERVED: Final = ("CON", "nul", "aux.x", "COM1", "manifest", "..", ".", "_", "~", ".fm-1-1.part", "a~0123456789ab")

values = st.one_of(
    st.binary(max_size=80),
    st.text("ab._^-~/\\ \0:A", max_size=6).map(str.encode),
    st.sampled_from(RESERVED).map(str.encode),
    st.text(max_size=30).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.integers(0, 400).map(lambda n: b"1" * n),
)
file_systems = st.sampled_from(FILE_SYSTEMS)
literals = st.sampled_from(((b"", b""), (b"", b"_", b""), (b"a", b".", b".dcm"), (b"x", b"^_", b"-", b"")))


def significant(value: bytes) -> bytes:
    """Without the padding, which tells nothing."""
    return value.rstrip(b"\0 ").lstrip(b" ")


@settings(max_examples=500, deadline=None)
@given(literals, st.lists(values, min_size=3, max_size=3), file_systems)
def test_component_is_a_name_in_its_folder(around: tuple[bytes, ...], of: list[bytes], file_system: FileSystem) -> None:
    name = component(around, tuple(of[: len(around) - 1]), file_system)
    assert name and len(name) <= file_system.longest_name
    assert name.isascii() and name.decode().isprintable()
    assert not set(name) & set(b"/\\\0 :*?\"<>|%$&;'`()[]{}!#")
    assert name[:1] not in (b".", b"-") and name[-1:] != b"."
    assert name.partition(b".")[0].upper() not in (b"CON", b"NUL", b"AUX", b"PRN", b"COM1", b"LPT1", b"MANIFEST")


@settings(max_examples=1000, deadline=None)
@given(literals, st.lists(values, min_size=3, max_size=3), st.lists(values, min_size=3, max_size=3), file_systems)
def test_different_values_never_share_a_name(
    around: tuple[bytes, ...], one: list[bytes], other: list[bytes], file_system: FileSystem
) -> None:
    fields = len(around) - 1
    names = [component(around, tuple(of[:fields]), file_system) for of in (one, other)]
    if file_system.folds_case:
        names = [name.upper() for name in names]
    same = [significant(value) for value in one[:fields]] == [significant(value) for value in other[:fields]]
    assert (names[0] == names[1]) is same


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(LAYOUTS), values, values)
def test_path_stays_below_the_root(template: str, patient: bytes, study: bytes) -> None:
    layout = naming(template)
    assert isinstance(layout, Layout)
    path = layout.path({PATIENT: patient, STUDY: study, SOP_INSTANCE_UID: b"1.2.3"}, FileSystem())
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder).resolve() / "in" / "side"
        place = root / os.fsdecode(path)
        place.parent.mkdir(parents=True)
        place.write_bytes(b"object")
        (made,) = (found.resolve() for found in Path(folder).rglob("*") if found.is_file())
        assert made == place
        assert len(made.relative_to(root).parts) == template.count("/") + 1
