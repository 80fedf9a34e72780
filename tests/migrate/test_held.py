"""What the independent comparison takes for the same object, and what not."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Final

import pydicom
import pytest
from pydicom.dataset import Dataset

from tests import mixed
from tests.migrate.held import held


@pytest.fixture(scope="module")
def structures(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A structure set: implicit VR, sequences in sequences."""
    files = mixed.write(len(mixed.EXAMINATIONS), tmp_path_factory.mktemp("archive"))
    return next(file.path for file in files if file.kind == "structures").read_bytes()


def rewritten(content: bytes, change: Callable[[Dataset], object]) -> bytes:
    """The same file but for a change."""
    file = BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = pydicom.dcmread(BytesIO(content))
        change(dataset)
        dataset.save_as(file)
    return file.getvalue()


def defined_lengths(dataset: Dataset) -> None:
    for element in dataset.iterall():
        if element.VR == "SQ":
            element.is_undefined_length = False
            for item in element.value:
                item.is_undefined_length_sequence_item = False


def one_point(dataset: Dataset) -> None:
    contour = dataset.ROIContourSequence[0].ContourSequence[0]
    contour.ContourData = [*contour.ContourData[:-1], 0.5]


CHANGES: Final[dict[str, Callable[[Dataset], object]]] = {
    "a point": one_point,
    "a name": lambda dataset: setattr(dataset, "PatientName", "Another"),
    "an element more": lambda dataset: setattr(dataset, "PatientComments", ""),
    "an item less": lambda dataset: dataset.ROIContourSequence.pop(),
}


def test_lengths_of_sequences_make_no_other_object(structures: bytes) -> None:
    other = rewritten(structures, defined_lengths)
    assert other != structures
    assert held(other) == held(structures)


@pytest.mark.parametrize("change", CHANGES)
def test_every_other_difference_does(structures: bytes, change: str) -> None:
    assert held(rewritten(structures, CHANGES[change])) != held(structures)


def test_archive_is_mixed(tmp_path: Path) -> None:
    files = mixed.write(len(mixed.EXAMINATIONS), tmp_path)
    objects = dict(held(file.path.read_bytes()) for file in files)
    assert len(objects) == len(files)
    assert {file.kind for file in files} == set(mixed.KINDS)
    assert len({each.sop_class for each in objects.values()}) == 17
    assert len({each.transfer_syntax for each in objects.values()}) == 12
    assert {len(uid) % 2 for uid in objects} == {0, 1}
