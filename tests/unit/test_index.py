"""The index of the test PACS, over the session's corpus."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.corpus import Corpus

from fastmove.bench.spec import Spec, objects
from fastmove.errors import DatasetError
from fastmove.pacs.attributes import KEYS, LEVELS
from fastmove.pacs.index import Index


@pytest.fixture(scope="module")
def index(corpus: Corpus) -> Index:
    index = Index()
    assert index.scan(corpus.directory) == []
    return index


def found(index: Index, level: str, **keys: str) -> list[dict[str, str]]:
    return list(index.find({"QueryRetrieveLevel": level, **keys}))


def test_everything_of_the_folder_is_counted_once(index: Index, corpus: Corpus) -> None:
    expected = [len({getattr(f, a) for f in corpus.files}) for a in ("patient_id", "study", "series", "sop_instance")]
    assert [index.count(level) for level in LEVELS] == expected


def test_study_has_counts_and_modalities_of_what_is_below_it(index: Index, corpus: Corpus) -> None:
    keys = dict.fromkeys(("ModalitiesInStudy", "NumberOfStudyRelatedSeries", "NumberOfStudyRelatedInstances"), "")
    assert found(index, "STUDY", StudyInstanceUID=corpus.studies[0], **keys) == [
        {
            "StudyInstanceUID": corpus.studies[0],
            "ModalitiesInStudy": "CT\\SR",
            "NumberOfStudyRelatedSeries": "3",
            "NumberOfStudyRelatedInstances": "7",
        }
    ]


def test_modalities_in_study_can_be_matched(index: Index, corpus: Corpus) -> None:
    matches = found(index, "STUDY", ModalitiesInStudy="MR")
    assert [match["StudyInstanceUID"] for match in matches] == [corpus.studies[1]]


def test_unique_key_of_the_level_is_returned_unasked(index: Index) -> None:
    assert found(index, "PATIENT") == [{"PatientID": "PAT1"}, {"PatientID": "PAT2"}]


def test_patient_attributes_are_keys_of_a_study(index: Index, corpus: Corpus) -> None:
    matches = found(index, "STUDY", PatientName="TEST^PATIENT2", PatientID="")
    assert matches == [{"PatientName": "Test^Patient2", "PatientID": "PAT2", "StudyInstanceUID": corpus.studies[2]}]


def test_relational_query_for_the_images_of_a_study(index: Index, corpus: Corpus) -> None:
    matches = found(index, "IMAGE", StudyInstanceUID=corpus.studies[0], SOPInstanceUID="")
    assert {match["SOPInstanceUID"] for match in matches} == {
        f.sop_instance for f in corpus.of_study(corpus.studies[0])
    }


def test_relational_query_for_an_image_without_the_levels_above(index: Index, corpus: Corpus) -> None:
    file = corpus.files[-1]
    matches = found(
        index, "IMAGE", SOPInstanceUID=file.sop_instance, StudyInstanceUID="", AvailableTransferSyntaxUID=""
    )
    assert [(m["StudyInstanceUID"], m["AvailableTransferSyntaxUID"]) for m in matches] == [
        (file.study, file.transfer_syntax)
    ]


def test_list_of_uids_finds_each_of_them(index: Index, corpus: Corpus) -> None:
    matches = found(index, "STUDY", StudyInstanceUID="\\".join(corpus.studies[1:]))
    assert [match["StudyInstanceUID"] for match in matches] == corpus.studies[1:]


def test_series_is_found_by_its_uid_alone_and_not_in_another_study(index: Index, corpus: Corpus) -> None:
    file = corpus.files[0]
    assert found(index, "SERIES", SeriesInstanceUID=file.series) == [{"SeriesInstanceUID": file.series}]
    assert found(index, "SERIES", StudyInstanceUID=corpus.studies[1], SeriesInstanceUID=file.series) == []
    assert found(index, "IMAGE", PatientID="PAT2", SOPInstanceUID=file.sop_instance) == []


def test_list_of_instances_is_moved_whatever_series_they_are_of(index: Index, corpus: Corpus) -> None:
    uids = [file.sop_instance for file in corpus.files]
    files = index.instances({"QueryRetrieveLevel": "IMAGE", "SOPInstanceUID": "\\".join(uids)})
    assert [file.sop_instance_uid for file in files] == uids


def test_sop_classes_in_study_can_be_matched(index: Index, corpus: Corpus) -> None:
    sop_class = corpus.files[-1].sop_class
    matches = found(index, "STUDY", SOPClassesInStudy=f"1.2.3\\{sop_class}")
    expected = [study for study in corpus.studies if sop_class in {file.sop_class for file in corpus.of_study(study)}]
    assert [match["StudyInstanceUID"] for match in matches] == expected != []


def test_unknown_uid_finds_nothing(index: Index) -> None:
    assert found(index, "SERIES", StudyInstanceUID="1.2.3") == []


def test_date_range_is_matched(index: Index, corpus: Corpus) -> None:
    matches = found(index, "STUDY", StudyDate="20240102-20240103")
    assert [match["StudyInstanceUID"] for match in matches] == corpus.studies[1:]


def test_keys_of_lower_levels_are_not_supported(index: Index) -> None:
    assert index.supports({"QueryRetrieveLevel": "SERIES", "Modality": "CT", "SpecificCharacterSet": "ISO_IR 192"})
    assert not index.supports({"QueryRetrieveLevel": "STUDY", "Modality": "CT"})
    assert not index.supports({"QueryRetrieveLevel": "STUDY", "0009,1001": ""})


def test_instances_are_the_files_below_what_matches(index: Index, corpus: Corpus) -> None:
    files = index.instances({"QueryRetrieveLevel": "PATIENT", "PatientID": "PAT1"})
    expected = {(f.path, f.sop_instance, f.transfer_syntax) for f in corpus.files if f.patient_id == "PAT1"}
    assert {(file.path, file.sop_instance_uid, file.transfer_syntax_uid) for file in files} == expected


@pytest.mark.parametrize("modality", ["CT", "MR", "SR"])
def test_synthetic_studies_are_known_as_if_their_files_were_read(modality: str, tmp_path: Path) -> None:
    known, read = Index(), Index()
    for file, texts in objects(Spec(studies=2, series=2, instances=2, size=3_000, modality=modality), tmp_path):
        known.add_instance(file, texts)
    assert read.scan(tmp_path) == []
    for level in LEVELS:
        keys = dict.fromkeys((keyword for above in LEVELS[: LEVELS.index(level) + 1] for keyword in KEYS[above]), "")
        assert found(known, level, **keys) == found(read, level, **keys) != []
    everything = {"QueryRetrieveLevel": "PATIENT", "PatientID": ""}
    assert known.instances(everything) == read.instances(everything)


def test_other_files_are_skipped_and_named(corpus: Corpus, tmp_path: Path) -> None:
    shutil.copy(corpus.files[0].path, tmp_path / "a.dcm")
    (tmp_path / "readme.txt").write_text("no DICOM")
    index = Index()
    assert [path.name for path, _ in index.scan(tmp_path)] == ["readme.txt"]
    assert index.count("IMAGE") == 1


def test_file_cut_within_its_first_elements_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    path = tmp_path / "cut.dcm"
    path.write_bytes(corpus.files[0].path.read_bytes()[:400])
    with pytest.raises(DatasetError):
        Index().add(path)


def test_instance_that_comes_again_replaces_the_first(corpus: Corpus, tmp_path: Path) -> None:
    file = corpus.files[0]
    again = shutil.copy(file.path, tmp_path / "again.dcm")
    index = Index()
    index.add(file.path)
    index.add(again)
    assert [f.path for f in index.instances({"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": file.study})] == [again]


def test_object_stored_during_a_query_does_not_disturb_it(corpus: Corpus) -> None:
    index = Index()
    index.add(corpus.files[0].path)
    matches = index.find({"QueryRetrieveLevel": "IMAGE", "SOPInstanceUID": ""})
    assert next(matches)["SOPInstanceUID"] == corpus.files[0].sop_instance
    index.add(corpus.files[1].path)
    assert list(matches) == []
