"""doctor at archives, good and bad ones: what it finds, advises and remembers, and how little it takes."""

from __future__ import annotations

import re
import socket
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from benchmarks.link import Link

from fastmove.bench.spec import Spec, write
from fastmove.dimse.move import Verdict
from fastmove.errors import DimseError, ListenFailed
from fastmove.services.doctor import querying
from fastmove.services.doctor.examination import Examination
from fastmove.services.doctor.findings import Outcome, Side
from fastmove.services.profile import PacsProfile
from fastmove.types import PeerAddress
from tests.corpus import Corpus
from tests.integration.doctor import LIMITS, advice, examined, outcomes
from tests.integration.embedded import EmbeddedPacs, embedded_pacs
from tests.integration.peers import DcmtkQrScp, Orthanc, free_port

HOST: Final = "127.0.0.1"
SMALL: Final = Spec(studies=3, series=2, instances=4, size=2_000)

REAL = pytest.mark.parametrize(
    "kind",
    [
        pytest.param(DcmtkQrScp, id="dcmqrscp", marks=pytest.mark.peer("dcmtk")),
        pytest.param(Orthanc, id="orthanc", marks=pytest.mark.peer("dcmtk", "orthanc")),
    ],
)
Real = Callable[..., DcmtkQrScp | Orthanc]


@asynccontextmanager
async def pacs_with(*faults: str, source: Spec = SMALL, title: str = "ME") -> AsyncIterator[tuple[EmbeddedPacs, int]]:
    """The embedded PACS with these faults, and a port at which it knows us; `title` is what it calls us."""
    port = free_port()
    async with embedded_pacs(source, faults=faults, destinations={"ME": PeerAddress(title, HOST, port)}) as pacs:
        yield pacs, port


async def examined_with(*faults: str, source: Spec = SMALL, **config: Any) -> Examination:
    """What is found out about the embedded PACS with these faults."""
    async with pacs_with(*faults, source=source) as (pacs, port):
        return await examined(pacs.address, port=port, **{"ae_title": "ME", **config})


# ---------------------------------------------------------------------- archives that behave


@REAL
async def test_real_archive_is_examined_without_a_problem(kind: Real, corpus: Corpus) -> None:
    port = free_port()
    files = [
        file.path
        for file in corpus.files
        if kind is Orthanc or not file.transfer_syntax.startswith("1.2.840.10008.1.2.4")
    ]
    async with kind({"ME": (HOST, port)}) as archive:
        await archive.load(files)
        peer = PeerAddress(archive.ae_title, archive.host, archive.port)
        examination = await examined(peer, port=port, ae_title="ME", associations=4)
    assert outcomes(examination)[Outcome.PROBLEM] == []
    assert examination.findings["complete"].seen.startswith("COMPLETE")
    assert repr(archive.ae_title) in examination.findings["arrival"].seen
    known = PacsProfile(
        study_root=True,
        image_level=True,
        relational=kind is Orthanc,
        find_uid_lists=True,
        uid_lists=True,
        associations=4,
        association_per_object=False,
        early_success=False,
        counters=True,
        move_originator=True,
        stalls=examination.profile.stalls,  # of few objects it cannot be told
        max_pdu_length=16384 if kind is Orthanc else 131072,
    )
    assert examination.profile == known


async def test_embedded_archive_is_examined_without_a_remark() -> None:
    examination = await examined_with()
    assert outcomes(examination)[Outcome.PROBLEM] == outcomes(examination)[Outcome.NOTE] == []
    assert outcomes(examination)[Outcome.SKIPPED] == []
    assert "8 at once may bring up to" in examination.findings["outlook"].seen
    assert examination.profile.relational and examination.profile.uid_lists and not examination.profile.stalls


async def test_examination_asks_little_and_moves_one_study_and_two_of_its_instances() -> None:
    async with pacs_with() as (pacs, port):
        examination = await examined(pacs.address, port=port, ae_title="ME", associations=3)
        study = examination.visit.study
        assert study is not None
        assert set(pacs.sent) == pacs.instances(study.study_instance_uid)
        assert sorted(pacs.sent.values()) == [1] * 6 + [2] * 2
        assert pacs.queries.total() <= 16
        assert pacs.associations == 2 + 3
        assert pacs.most_associations <= 3


async def test_small_study_is_preferred_to_large_ones_and_to_single_images(tmp_path: Path) -> None:
    for seed, instances in enumerate((70, 1, 5, 80), 1):
        folder = tmp_path / str(instances)
        folder.mkdir()
        write(Spec(studies=1, series=1, instances=instances, size=2_000, seed=seed), folder)
    async with embedded_pacs(tmp_path) as pacs:
        examination = await examined(pacs.address, ae_title="ME")
    assert examination.visit.study is not None
    assert examination.visit.study.instances == 5


async def test_study_with_too_many_instances_is_not_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(querying, "MANY", 5)
    async with pacs_with() as (pacs, port):
        examination = await examined(pacs.address, port=port, ae_title="ME")
        assert not pacs.sent
        assert "--study" in examination.findings["move"].seen
        study = next(iter(pacs.studies))
        asked_for = await examined(pacs.address, port=port, ae_title="ME", study_instance_uid=study)
        assert set(pacs.sent) == pacs.instances(study)
    assert asked_for.findings["complete"].outcome is Outcome.OK


async def test_objects_leave_nothing_unless_they_are_to_be_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    async with pacs_with() as (pacs, port):
        before = set(tmp_path.iterdir())
        await examined(pacs.address, port=port, ae_title="ME")
        assert set(tmp_path.iterdir()) == before
        await examined(pacs.address, port=port, ae_title="ME", directory=tmp_path / "kept")
        assert {path.stem for path in (tmp_path / "kept").iterdir()} == set(pacs.sent)


async def test_without_a_port_nothing_is_moved() -> None:
    async with pacs_with() as (pacs, _):
        examination = await examined(pacs.address, ae_title="ME")
        assert not pacs.sent
    assert "--port" in examination.findings["move"].seen
    assert outcomes(examination)[Outcome.PROBLEM] == []
    assert examination.profile.associations == 8


async def test_plan_asks_nothing_and_names_what_would_be_asked() -> None:
    async with pacs_with() as (pacs, port):
        config = (await examined(pacs.address, port=port, ae_title="ME")).visit.config
        asked = pacs.associations
        plan = {probe.name: asks for probe, asks in Examination(config.replace(study_instance_uid="1.2.3")).plan()}
        assert pacs.associations == asked
    assert plan["move"] == "C-MOVE of 1.2.3 to our listener"
    assert "8 at most" in plan["parallel"]
    without = {probe.name: asks for probe, asks in Examination(config.replace(port=None)).plan()}
    assert "--port" in without["move"] and "--port" in without["uid_lists"]


# ---------------------------------------------------------------------- the destination


@REAL
async def test_destination_that_a_real_archive_does_not_know_is_to_be_entered_there(kind: Real, corpus: Corpus) -> None:
    port = free_port()
    async with kind() as archive:
        await archive.load(corpus.paths[:1])
        peer = PeerAddress(archive.ae_title, archive.host, archive.port)
        examination = await examined(peer, port=port, ae_title="ME", associations=1)
    finding = examination.findings["move"]
    assert isinstance(finding.cause, DimseError)
    assert finding.cause.status == (0xC000 if kind is Orthanc else 0xA801)
    assert f"enter 'ME' with host {HOST}, port {port}" in advice(finding, Side.PACS)
    assert examination.findings["arrival"].outcome is Outcome.SKIPPED


@REAL
async def test_destination_that_a_real_archive_cannot_reach_is_a_matter_of_firewalls(
    kind: Real, corpus: Corpus
) -> None:
    port = free_port()
    async with kind({"ME": (HOST, free_port())}) as archive:
        await archive.load(corpus.paths[:1])
        peer = PeerAddress(archive.ae_title, archive.host, archive.port)
        examination = await examined(peer, port=port, ae_title="ME", associations=1)
    (problem,) = examination.problems
    assert problem.probe == ("move" if kind is Orthanc else "arrival")
    assert f"open TCP port {port}" in advice(problem, Side.HERE)
    assert f"port {port}" in advice(problem, Side.PACS)


async def test_destination_entered_under_another_ae_title_is_found_out() -> None:
    async with pacs_with(title="YOU") as (pacs, port):
        examination = await examined(pacs.address, port=port, ae_title="ME")
    finding = examination.findings["arrival"]
    assert finding.cause is Verdict.REFUSED
    assert "calls us 'YOU', not 'ME'" in finding.seen
    assert "correct the AE title" in advice(finding, Side.PACS) and "--aet YOU" in advice(finding, Side.HERE)


async def test_success_with_objects_that_went_elsewhere_is_no_success() -> None:
    examination = await examined_with("nothing")
    finding = examination.findings["arrival"]
    assert finding.cause is Verdict.INCOMPLETE
    assert "8 objects were sent, and nothing has come" in finding.seen
    assert "who gets what it sends to that AE title?" in advice(finding, Side.PACS)


async def test_port_of_another_program_is_said_to_be_taken() -> None:
    async with pacs_with() as (pacs, _):
        with socket.create_server((HOST, 0)) as taken:
            examination = await examined(pacs.address, port=taken.getsockname()[1], ae_title="ME", host=HOST)
    finding = examination.findings["listen"]
    assert isinstance(finding.cause, ListenFailed)
    assert "another program has this port" in advice(finding, Side.HERE)
    assert examination.findings["parallel"].outcome is Outcome.OK


async def test_folder_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    examination = await examined_with(directory=tmp_path / "file")
    assert [finding.probe for finding in examination.problems] == ["listen"]
    assert "--to" in advice(examination.findings["listen"], Side.HERE)


# ---------------------------------------------------------------------- habits

HABITS: Final[dict[str, tuple[str, Outcome, str, dict[str, object]]]] = {
    "association-per-object": (
        "storage",
        Outcome.NOTE,
        "8 objects over 8 associations",
        {"association_per_object": True},
    ),
    "early-success=0.1": ("early_success", Outcome.NOTE, "8 objects after it", {"early_success": True}),
    "counters=zero": ("counters", Outcome.NOTE, "says that 0 are completed, 8 came", {"counters": False}),
    "counters=none": ("counters", Outcome.NOTE, "does not say how many", {"counters": False}),
    "originator=none": ("originator", Outcome.NOTE, "do not say which C-MOVE", {"move_originator": False}),
    "originator=wrong": ("originator", Outcome.NOTE, "name another C-MOVE", {"move_originator": False}),
    "no-image-level": ("find_image", Outcome.NOTE, "status A900H", {"image_level": False, "relational": None}),
    "no-relational": ("find_relational", Outcome.OK, "series by series", {"relational": False, "image_level": True}),
    "no-uid-list": ("uid_lists", Outcome.NOTE, "1 come", {"uid_lists": False}),
    "association-limit=3": ("parallel", Outcome.NOTE, "3 associations at once", {"associations": 3}),
    "delay=0.045": ("stalls", Outcome.NOTE, r"small objects come [4-9]\d\.", {"stalls": True}),
    "duplicate-answers": ("find_image", Outcome.OK, "8 instances", {"image_level": True}),
}


@pytest.mark.parametrize("fault", HABITS)
async def test_habit_is_told_and_remembered_and_no_problem(fault: str) -> None:
    probe, outcome, seen, known = HABITS[fault]
    examination = await examined_with(fault)
    assert outcomes(examination)[Outcome.PROBLEM] == []
    assert examination.findings[probe].outcome is outcome
    assert re.search(seen, examination.findings[probe].seen)
    assert {name: getattr(examination.profile, name) for name in known} == known


async def test_distance_is_not_taken_for_stalls() -> None:
    port = free_port()
    async with (
        embedded_pacs(SMALL) as pacs,
        Link(pacs.address.port, rtt_s=0.04) as to_it,
        Link(port, rtt_s=0.04) as to_us,
    ):
        pacs.destinations["ME"] = PeerAddress("ME", HOST, to_us.port)
        peer = PeerAddress(pacs.ae_title, HOST, to_it.port)
        examination = await examined(peer, port=port, ae_title="ME", associations=1)
    assert examination.profile.stalls is False
    assert "make up for the distance" in examination.findings["stalls"].seen


MANY_STUDIES: Final = Spec(studies=30, series=1, instances=1, size=2_000)


@pytest.mark.parametrize("cap", ["find-cap=12", "find-cap=12:A700"])
async def test_matches_that_are_cut_off_are_noticed(cap: str) -> None:
    examination = await examined_with(cap, source=MANY_STUDIES)
    finding = examination.findings["find_cap"]
    assert finding.outcome is Outcome.NOTE, finding
    assert "12 matches" in finding.seen
    assert "ask narrow queries" in advice(finding, Side.HERE)
    assert examination.profile.find_cap == 12


async def test_wide_query_ends_at_its_limit_and_the_rest_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(querying, "CAP_MATCHES", 20)
    examination = await examined_with(source=MANY_STUDIES)
    assert examination.findings["find_cap"].seen == "none up to 20 matches: the rest was cancelled"
    assert examination.profile.find_cap is None  # there may be one beyond


async def test_list_that_is_shorter_than_the_count_is_not_taken_for_the_whole() -> None:
    examination = await examined_with("find-cap=3")
    assert "lists 6 instances, but counts 8" in examination.findings["find_image"].seen
    assert "8 objects" in examination.findings["complete"].seen
    assert outcomes(examination)[Outcome.PROBLEM] == []


# ---------------------------------------------------------------------- what goes wrong


async def test_query_that_is_refused_is_a_problem_and_a_named_study_is_moved_all_the_same() -> None:
    async with pacs_with("refuse-finds=A700") as (pacs, port):
        study = next(iter(pacs.studies))
        examination = await examined(pacs.address, port=port, ae_title="ME", study_instance_uid=study)
        assert len(pacs.sent) == 8
    assert [finding.probe for finding in examination.problems] == ["find_study"]
    assert "status A700H, Refused: out of resources" in examination.findings["find_study"].seen
    assert examination.findings["complete"].seen == "COUNTED: 8 objects"


async def test_study_that_is_not_there_is_told() -> None:
    examination = await examined_with(study_instance_uid="1.2.3")
    assert "has no study 1.2.3" in examination.findings["find_study"].seen
    assert [finding.probe for finding in examination.problems][0] == "find_study"


async def test_move_that_is_refused_is_told_with_its_status() -> None:
    examination = await examined_with("refuse-moves=A701")
    assert [finding.probe for finding in examination.problems] == ["move"]
    assert "status A701H" in examination.findings["move"].seen


async def test_objects_that_do_not_come_are_named() -> None:
    async with pacs_with("drop=2") as (pacs, port):
        examination = await examined(pacs.address, port=port, ae_title="ME")
        finding = examination.findings["complete"]
        assert finding.cause is Verdict.INCOMPLETE
        assert "6 objects of 8" in finding.seen
        assert all(
            uid in finding.seen
            for uid in pacs.instances(examination.visit.studies[0].study_instance_uid) - set(pacs.sent)
        )
    assert examination.profile.counters is False


async def test_association_that_is_lost_in_the_middle_of_the_move_is_told() -> None:
    examination = await examined_with("abort-after=3")
    assert "no final response" in examination.findings["move"].seen
    assert examination.findings["complete"].cause is Verdict.UNKNOWN
    assert "3 objects of 8" in examination.findings["complete"].seen
    assert examination.findings["parallel"].outcome is Outcome.OK


async def test_empty_archive_is_told(tmp_path: Path) -> None:
    async with embedded_pacs(tmp_path) as pacs:
        examination = await examined(pacs.address, port=0, ae_title="ME", limits=LIMITS)
    assert outcomes(examination)[Outcome.PROBLEM] == []
    assert "finds not one study" in examination.findings["find_study"].seen
    assert "may not see anything" in advice(examination.findings["find_study"], Side.PACS)
