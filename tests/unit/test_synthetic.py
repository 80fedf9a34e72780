"""Synthetic archives: what is computed is what is found in the files that the same archive is written as."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from random import Random
from typing import Any, Final

import pytest

from fastmove.bench.corpus import Corpus, written
from fastmove.bench.modality import MODALITIES, Pixels
from fastmove.bench.profiles import PROFILES, Examination, Series
from fastmove.errors import ConfigurationError
from fastmove.pacs.attributes import ADDITIONAL, KEYS, LEVELS
from fastmove.pacs.index import Index
from fastmove.pacs.synthetic import EXACT_COUNTS, SyntheticArchive
from fastmove.storage.filemeta import DicomFile
from fastmove.uids import EXPLICIT_VR_BIG_ENDIAN

SMALL: Final = (
    Examination(
        "CT small", 2, (Series("Scout", "CT", Pixels(9, 7), 1, 1), Series("Axial", "CT", Pixels(40, 31), 2, 5))
    ),
    Examination("US small", 1, (Series("Clip", "US", Pixels(8, 9, 3, 3), 1, 2), Series("Report", "SR", 300, 1, 1))),
)
STUDIES: Final = 12


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return Corpus(STUDIES, SMALL, 3)


@pytest.fixture(scope="module")
def folder(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("synthetic")
    assert all(file.path.is_file() for file, _ in written(corpus, folder))
    return folder


@pytest.fixture(scope="module")
def index(folder: Path) -> Index:
    index = Index()
    assert index.scan(folder) == []
    return index


def dataset(file: DicomFile) -> bytes:
    """What is sent of it."""
    assert file.source is not None
    found, at = file.before, file.dataset_offset
    while len(found) < file.nbytes:
        part = file.source.view[at : at + file.nbytes - len(found)]
        found, at = found + part, 0
    return found


def queries(index: Index) -> Iterator[dict[str, str]]:
    """Keys of all kinds, by chance and with values that some entity has."""
    random = Random(5)
    everything = {level: list(index.find(asked(level))) for level in LEVELS}
    for _ in range(400):
        level = random.choice(LEVELS)
        keys = asked(level)
        entity = random.choice(everything[level])
        for keyword in random.sample(sorted(entity), k=random.randint(0, 3)):
            value = entity[keyword]
            if value and "\\" not in value:
                keys[keyword] = random.choice((value, value, value[: len(value) // 2] + "*", "?" + value[1:]))
        if random.random() < 0.4:
            keys["StudyDate"] = random.choice(("20000103-20000107", "-20000104", "20000110-", "20000105", "20001399"))
        if random.random() < 0.3 and level != "PATIENT":
            other = random.choice(everything[level])
            unique = KEYS[level][0]
            keys[unique] = f"{entity[unique]}\\{other[unique]}\\1.2.3"
        yield keys


def asked(level: str) -> dict[str, str]:
    """All attributes of a level and of those above it."""
    above = LEVELS[: LEVELS.index(level) + 1]
    keywords = [keyword for each in above for keyword in KEYS[each]]
    keywords += [keyword for keyword, of in ADDITIONAL.items() if of in above]
    return {"QueryRetrieveLevel": level, **dict.fromkeys(keywords, "")}


def found(archive: Any, keys: dict[str, str]) -> list[tuple[tuple[str, str], ...]]:
    return sorted(tuple(sorted(match.items())) for match in archive.find(keys))


def test_queries_find_what_they_find_in_the_files(corpus: Corpus, index: Index) -> None:
    archive = SyntheticArchive(corpus)
    sizes = set()
    for keys in queries(index):
        expected = found(index, keys)
        assert found(archive, keys) == expected, keys
        moved = sorted(file.sop_instance_uid for file in index.instances(keys))
        assert sorted(file.sop_instance_uid for file in archive.instances(keys)) == moved, keys
        sizes.add(min(len(expected), 3))
    assert sizes == {0, 1, 2, 3}, "queries that find nothing, one and many"


def test_objects_that_are_sent_are_the_files_byte_for_byte(corpus: Corpus, index: Index) -> None:
    everything = {"QueryRetrieveLevel": "PATIENT", "PatientID": ""}
    files = {file.sop_instance_uid: file for file in index.instances(everything)}
    sent = SyntheticArchive(corpus).instances(everything)
    assert {file.sop_instance_uid for file in sent} == files.keys()
    for file in sent:
        other = files[file.sop_instance_uid]
        assert (file.sop_class_uid, file.transfer_syntax_uid) == (other.sop_class_uid, other.transfer_syntax_uid)
        assert dataset(file) == other.path.read_bytes()[other.dataset_offset :]


def test_counts_are_those_of_the_files(corpus: Corpus, index: Index) -> None:
    archive = SyntheticArchive(corpus)
    assert [archive.count(level) for level in LEVELS] == [index.count(level) for level in LEVELS]


def test_what_is_stored_beside_it_is_found_with_it(corpus: Corpus, tmp_path: Path) -> None:
    archive = SyntheticArchive(corpus)
    other = Corpus(1, SMALL, 99)
    file = other.write(1, 1, 1, tmp_path / "other.dcm")
    archive.add(file.path)
    assert archive.count("STUDY") == STUDIES + 1
    keys = {"QueryRetrieveLevel": "IMAGE", "SOPInstanceUID": file.sop_instance_uid}
    assert [each.path for each in archive.instances(keys)] == [file.path]


@pytest.mark.parametrize("uid", ["", "1.2.3", "2.25.1", "2.25.1" + "0" * 38, "2.25.1" + "9" * 38, "2.25.1" + "x" * 38])
def test_uids_that_are_none_of_the_archive_lead_nowhere(corpus: Corpus, uid: str) -> None:
    assert corpus.place(uid) is None


def test_uids_say_their_place_and_only_of_what_there_is(corpus: Corpus) -> None:
    counts = corpus.study(5).instances
    for numbers in ((5,), (5, 1), (5, len(counts), counts[-1])):
        assert corpus.place(corpus.uid(*numbers)) == numbers
    for numbers in ((STUDIES + 1,), (5, len(counts) + 1), (5, 1, counts[0] + 1)):
        assert corpus.place(corpus.uid(*numbers)) is None


def test_archive_of_a_hundred_million_studies_is_queried_at_once() -> None:
    corpus = Corpus.of_profile("hospital", 99_999_999)
    archive = SyntheticArchive(corpus)
    number = 77_777_777
    for keyword, value in {"StudyInstanceUID": corpus.uid(number), "AccessionNumber": f"ACC{number:08d}"}.items():
        matches = list(archive.find({"QueryRetrieveLevel": "STUDY", keyword: value}))
        assert [match["StudyInstanceUID"] for match in matches] == [corpus.uid(number)]
    day = corpus.day(number)
    assert number in corpus.between(day, day)
    assert list(corpus.between(date(1990, 1, 1), date(1999, 12, 31))) == []
    assert archive.count("IMAGE") > 10 * archive.count("STUDY") > EXACT_COUNTS


@pytest.mark.parametrize("name", sorted(PROFILES))
def test_profile_holds_what_it_says_in_the_proportions_of_its_weights(name: str) -> None:
    studies = 2_000
    corpus = Corpus.of_profile(name, studies)
    done = [corpus.study(number) for number in range(1, studies + 1)]
    total = sum(examination.weight for examination in PROFILES[name])
    for examination in PROFILES[name]:
        share = sum(study.examination.description == examination.description for study in done) / studies
        assert share == pytest.approx(examination.weight / total, abs=0.04)
    for study in done[:50]:
        for series, count in zip(study.examination.series, study.instances, strict=True):
            assert series.least <= count <= series.most


@pytest.mark.parametrize("modality", sorted(MODALITIES))
def test_objects_of_every_modality_are_read_by_pydicom(modality: str, tmp_path: Path) -> None:
    import pydicom

    payload: Pixels | int = 500 if modality == "SR" else Pixels(12, 10, 4 if modality in ("TOMO", "US", "SM") else 1)
    if isinstance(payload, Pixels) and modality in ("US", "SM"):
        payload = payload.replace(samples=3)
    corpus = Corpus(1, (Examination("Any", 1, (Series("One", modality, payload, 1, 1),)),))
    corpus.write(1, 1, 1, tmp_path / "one.dcm")
    read = pydicom.dcmread(tmp_path / "one.dcm")
    assert read.SOPClassUID == MODALITIES[modality].sop_class_uid
    assert read.SeriesDescription == "One"
    if isinstance(payload, Pixels):
        assert len(read.PixelData) == payload.nbytes
        assert read.pixel_array.size == payload.nbytes // (1 if payload.samples > 1 else 2)


def test_big_endian_pixels_are_swapped(tmp_path: Path) -> None:
    import pydicom

    corpus = Corpus(1, SMALL[:1], transfer_syntax=EXPLICIT_VR_BIG_ENDIAN)
    corpus.write(1, 2, 1, tmp_path / "one.dcm")
    assert pydicom.dcmread(tmp_path / "one.dcm").pixel_array.max() < 4096


def test_unknown_profile_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ConfigurationError, match="hospital"):
        Corpus.of_profile("dentist", 1)
