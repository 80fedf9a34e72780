"""Synthetic studies."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pydicom
import pytest

from fastmove.bench.spec import Spec, write
from fastmove.errors import ConfigurationError
from fastmove.storage.filemeta import read_file_meta


def test_spec_has_defaults_for_what_is_left_out() -> None:
    assert Spec.parse("studies=3, size=12k") == Spec(studies=3, size=12_000)


def test_transfer_syntax_goes_by_keyword_or_uid() -> None:
    by_keyword = Spec.parse("transfer-syntax=ImplicitVRLittleEndian")
    assert by_keyword == Spec.parse("transfer-syntax=1.2.840.10008.1.2")
    assert by_keyword.transfer_syntax == "1.2.840.10008.1.2"


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("patients=1", "synthetic"),
        ("studies", "synthetic"),
        ("studies=0", "studies"),
        ("studies=many", "studies"),
        ("instances=1M", "instances"),
        ("size=-1", "size"),
        ("modality=XX", "modality"),
        ("transfer-syntax=JPEGBaseline8Bit", "transfer-syntax"),
    ],
)
def test_bad_spec_names_the_field(text: str, field: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Spec.parse(text)
    assert caught.value.field == field


def test_size_without_room_for_pixels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="size"):
        write(Spec(size=100), tmp_path)


@pytest.mark.parametrize("syntax", ["ImplicitVRLittleEndian", "ExplicitVRLittleEndian", "ExplicitVRBigEndian"])
@pytest.mark.parametrize("modality", ["CT", "MR", "SR"])
def test_files_are_valid_and_of_the_size_that_was_asked_for(modality: str, syntax: str, tmp_path: Path) -> None:
    spec = Spec.parse(f"series=1,instances=2,size=12k,modality={modality},transfer-syntax={syntax}")
    for number, path in enumerate(write(spec, tmp_path), 1):
        dataset = pydicom.dcmread(path)
        meta = read_file_meta(path)
        assert abs(path.stat().st_size - spec.size) < 200
        assert (dataset.InstanceNumber, dataset.Modality) == (number, modality)
        assert (dataset.SOPClassUID, dataset.SOPInstanceUID) == (meta.sop_class_uid, meta.sop_instance_uid)
        assert meta.transfer_syntax_uid == spec.transfer_syntax
        if modality == "SR":
            assert dataset.ContentSequence[0].TextValue.isalpha()
        else:
            assert len(dataset.PixelData) == dataset.Rows * dataset.Columns * 2
            assert 0 < dataset.pixel_array.max() < 4096


def test_payload_differs_between_instances(tmp_path: Path) -> None:
    payloads = [pydicom.dcmread(path).PixelData for path in write(Spec(instances=20, size=12_000), tmp_path)]
    assert len(set(payloads)) == 40


def test_uids_differ_between_studies_series_and_instances(tmp_path: Path) -> None:
    datasets = [pydicom.dcmread(path) for path in write(Spec(studies=2, series=3, instances=4, size=2000), tmp_path)]
    for keyword, count in (("PatientID", 2), ("StudyInstanceUID", 2), ("SeriesInstanceUID", 6), ("SOPInstanceUID", 24)):
        assert len({dataset[keyword].value for dataset in datasets}) == count
    assert all(pydicom.uid.UID(dataset.SOPInstanceUID).is_valid for dataset in datasets)


def test_same_spec_writes_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    def digests(spec: Spec, name: str) -> list[bytes]:
        return [hashlib.sha256(path.read_bytes()).digest() for path in write(spec, tmp_path / name)]

    spec = Spec(instances=2, size=5000)
    assert digests(spec, "a") == digests(spec, "b")
    assert set(digests(spec, "c")).isdisjoint(digests(Spec(instances=2, size=5000, seed=2), "d"))


def test_payload_longer_than_the_noise_is_whole(tmp_path: Path) -> None:
    path = write(Spec(series=1, instances=1, size=10_000_000), tmp_path)[0]
    dataset = pydicom.dcmread(path)
    assert len(dataset.PixelData) == dataset.Rows * dataset.Columns * 2
    assert path.stat().st_size == pytest.approx(10_000_000, rel=0.001)
