"""`fastmove bench` as a user calls it: what it shows and writes, its exit codes, and how it is stopped."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from pathlib import Path
from typing import Any, Final

import pytest

from fastmove.bench.result import load
from fastmove.bench.spec import Spec
from tests.compat.harness import reserved_port
from tests.integration import raw
from tests.integration.embedded import HOST, embedded_pacs
from tests.integration.programs import Ended, Program, fastmove, listen_program

SPEC: Final = Spec(studies=4, series=1, instances=10, size=20_000)


async def bench(*arguments: str | Path) -> Ended:
    return await fastmove("bench", *arguments)


async def retrieve(pacs: Any, port: int, *options: str | Path) -> Ended:
    pacs.going_to("ME", port)
    return await bench("retrieve", str(pacs.address), "--aet", "ME", "--port", str(port), "--date", "1990..", *options)


async def test_retrieve_shows_a_summary_and_writes_result_and_page(tmp_path: Path) -> None:
    out, page = tmp_path / "a.json", tmp_path / "a.html"
    with reserved_port() as port:
        async with embedded_pacs(SPEC, faults=("delay=0.003",)) as pacs:
            ended = await retrieve(pacs, port, "--parallel", "1,2", "--repeat", "2", "--out", out, "--html", page)
    assert ended.code == 0, ended.err
    assert "4 studies, 40 instances" in ended.out
    assert "1 at once" in ended.out
    assert "2 at once" in ended.out
    assert "the PACS thinks" in ended.out
    document = load(out)
    assert document["complete"]
    assert [run["objects"] for run in document["runs"]] == [40] * 4
    assert [(run["point"]["parallel"], run["repetition"]) for run in document["runs"]] == [
        (1, 1),
        (2, 1),
        (1, 2),
        (2, 2),
    ]
    assert document["peer"]["implementation_version_name"].startswith("FASTMOVE")
    assert document["scenario"]["arguments"][:2] == ["bench", "retrieve"]
    assert document["environment"]["processors"]
    assert page.read_text().startswith("<!doctype html>")
    again = await bench("report", out, "--html", tmp_path / "b.html")
    assert again.code == 0
    assert (tmp_path / "b.html").read_text() == page.read_text()


async def test_dry_run_asks_for_the_list_and_for_nothing_else() -> None:
    with reserved_port() as port:
        async with embedded_pacs(SPEC) as pacs:
            ended = await retrieve(pacs, port, "--sample", "3", "--parallel", "2", "--repeat", "5", "--dry-run")
            assert not pacs.moves
    assert ended.code == 0
    assert "3 studies, 30 instances that are known of; 5 runs, C-MOVEs in each: 3, at once: 2" in ended.out


async def test_dry_run_of_the_tutorial_says_what_the_tutorial_says() -> None:
    tutorial = (Path(__file__).parents[2] / "docs/tutorials/benchmark-your-pacs.md").read_text()
    pacs, asked, answered = (
        re.search(pattern, tutorial, re.M)
        for pattern in (r"^\$ fastmove (pacs .*)$", r"^\$ fastmove (bench .*--dry-run)$", r"^\d+ studies, .*$")
    )
    assert pacs and asked and answered
    async with Program(*pacs[1].replace("11113", "0").split()) as program:
        started = await program.event("pacs.ready")
        ended = await fastmove(*asked[1].replace("11113", str(started["port"])).split())
    assert ended.code == 0, ended.err
    assert ended.out.strip() == answered[0]


async def test_sample_is_the_same_for_the_same_seed(tmp_path: Path) -> None:
    chosen = []
    with reserved_port() as port:
        async with embedded_pacs(SPEC) as pacs:
            for seed in ("7", "7", "8"):
                before = dict(pacs.sent)
                await retrieve(pacs, port, "--sample", "2", "--seed", seed)
                chosen.append({uid for uid, count in pacs.sent.items() if count > before.get(uid, 0)})
    assert chosen[0] == chosen[1] != chosen[2]


async def test_levels_ask_for_the_same_instances_in_other_pieces(tmp_path: Path) -> None:
    spec = Spec(studies=2, series=2, instances=3, size=2_000)
    with reserved_port() as port:
        async with embedded_pacs(spec) as pacs:
            ended = await retrieve(pacs, port, "--level", "study,series,image", "--out", tmp_path / "a.json")
    assert ended.code == 0, ended.err
    runs = load(tmp_path / "a.json")["runs"]
    assert [(run["point"]["level"], run["operations"], run["objects"]) for run in runs] == [
        ("STUDY", 2, 12),
        ("SERIES", 4, 12),
        ("IMAGE", 12, 12),
    ]


async def test_transfer_syntax_that_the_pacs_cannot_make_is_a_failure_and_its_own_is_none(tmp_path: Path) -> None:
    with reserved_port() as port:
        async with embedded_pacs(SPEC) as pacs:
            wanted = ("--transfer-syntax", "ExplicitVRLittleEndian,1.2.840.10008.1.2")
            ended = await retrieve(pacs, port, *wanted, "--out", tmp_path / "a.json")
    assert ended.code == 69
    runs = {run["point"]["transfer_syntax"]: run for run in load(tmp_path / "a.json")["runs"]}
    assert runs["ExplicitVRLittleEndian"]["objects"] == 40
    assert not runs["ExplicitVRLittleEndian"]["failed_operations"]
    assert runs["ImplicitVRLittleEndian"]["objects"] == 0
    assert runs["ImplicitVRLittleEndian"]["failed_operations"] == 4


async def test_another_pacs_is_measured_in_turn_with_the_first(tmp_path: Path) -> None:
    with reserved_port() as port:
        async with embedded_pacs(SPEC) as pacs, embedded_pacs(SPEC, faults=("delay=0.01",)) as slower:
            slower.going_to("ME", port)
            also = ("--also", str(slower.address), "--repeat", "2", "--out", tmp_path / "a.json")
            ended = await retrieve(pacs, port, *also)
            assert slower.objects_sent == pacs.objects_sent == 80
    assert ended.code == 0, ended.err
    assert f"peer {slower.address}" in ended.out
    assert [run["point"]["peer"] for run in load(tmp_path / "a.json")["runs"]] == ["", str(slower.address)] * 2


async def test_ramp_ends_behind_the_knee_and_tells_it(tmp_path: Path) -> None:
    with reserved_port() as port:
        async with embedded_pacs(SPEC, faults=("served=2", "delay=0.02")) as pacs:
            ended = await retrieve(pacs, port, "--ramp", "--duration", "0.6", "--out", tmp_path / "a.json")
    assert ended.code == 0, ended.err
    assert "knee: " in ended.out
    document = load(tmp_path / "a.json")
    assert document["knee"]["reached"]
    assert document["knee"]["parallel"] == pytest.approx(2, rel=0.15)
    assert max(run["point"]["parallel"] for run in document["runs"]) <= 8


async def test_failed_moves_are_told_and_end_with_69() -> None:
    with reserved_port() as port:
        async with embedded_pacs(SPEC, faults=("refuse-moves=A701",)) as pacs:
            ended = await retrieve(pacs, port)
    assert ended.code == 69
    assert "A701" in ended.out


async def test_destination_that_the_pacs_does_not_know_is_told() -> None:
    with reserved_port() as port:
        async with embedded_pacs(SPEC) as pacs:
            ended = await bench(
                "retrieve", str(pacs.address), "--aet", "NOBODY", "--port", str(port), "--date", "1990.."
            )
    assert ended.code == 69
    assert "A801" in ended.out


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ((), "say what to retrieve"),
        (("--date", "1990..", "--ramp", "--parallel", "3"), "--ramp"),
        (("--date", "1990..", "--warm-up", "1"), "--duration"),
        (("--date", "1990..", "--duration", "1", "--warm-up", "2"), "leave nothing"),
        (("--date", "1990..", "--parallel", "0"), "separated by commas"),
        (("--date", "1990..", "--level", "patient"), "none of study, series, image"),
        (("--date", "1990..", "--rate", "0"), "0"),
        (("--date", "1990..", "--transfer-syntax", "JPEG3000"), "no transfer syntax"),
    ],
)
async def test_what_contradicts_itself_is_refused_before_anything_is_asked(
    arguments: tuple[str, ...], why: str
) -> None:
    ended = await bench("retrieve", "PACS@127.0.0.1:1", "--port", "0", *arguments)
    assert ended.code == 1
    assert why in ended.err


async def test_pacs_that_is_not_there_ends_with_61() -> None:
    ended = await bench("retrieve", "PACS@127.0.0.1:1", "--port", "0", "--study", "1.2.3")
    assert ended.code == 61
    assert "127.0.0.1:1" in ended.err


async def test_disk_that_does_not_take_what_comes_ends_with_73_and_is_told(tmp_path: Path) -> None:
    with reserved_port() as port:
        async with embedded_pacs(SPEC) as pacs:
            pacs.going_to("ME", port)
            where = (str(pacs.address), "--aet", "ME", "--port", str(port), "--date", "1990..", "--to", tmp_path / "in")
            full = ("prlimit", "--fsize=10000")  # an object has 20,000 bytes
            ended = await fastmove("bench", "retrieve", *where, within=full)
    assert ended.code == 73, ended.err
    assert "10 objects could not be stored on this host" in ended.out
    assert not [path for path in (tmp_path / "in").rglob("*") if path.is_file()]


@pytest.mark.parametrize("verb", ["echo", "store", "find"])
async def test_load_that_nobody_takes_in_ends_with_61_and_does_not_hammer(verb: str) -> None:
    key = ("-k", "PatientName") if verb == "find" else ()
    ended = await bench(verb, "PACS@127.0.0.1:1", *key, "--duration", "1", "--json")
    assert ended.code == 61
    assert 1 <= json.loads(ended.out)["runs"][0]["failures"]["not-connected"] <= 11


async def test_pacs_that_aborts_at_once_is_not_hammered() -> None:
    async def aborts(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        header = await reader.readexactly(6)
        await reader.readexactly(int.from_bytes(header[2:], "big"))
        writer.write(raw.abort(2, 0))
        writer.close()

    async with await asyncio.start_server(aborts, HOST, 0) as server:
        port = server.sockets[0].getsockname()[1]
        ended = await bench("echo", f"X@{HOST}:{port}", "--duration", "1", "--json")
    assert ended.code == 69
    assert 1 <= json.loads(ended.out)["runs"][0]["failures"]["aborted"] <= 11


async def test_runs_before_the_pacs_went_away_are_not_lost(tmp_path: Path) -> None:
    out = tmp_path / "a.json"
    with reserved_port() as port:
        async with embedded_pacs(SPEC, faults=("delay=0.005",)) as pacs:
            pacs.going_to("ME", port)
            where = (str(pacs.address), "--aet", "ME", "--port", str(port), "--date", "1990..")
            async with Program("bench", "retrieve", *where, "--repeat", "100", "--out", out) as program:
                async with asyncio.timeout(20):
                    while len(pacs.moves) < 8:
                        await asyncio.sleep(0.02)
                await pacs.acceptor.stop()
                async with asyncio.timeout(60):  # what may come yet of a move that was aborted is waited for
                    assert await program.process.wait() == 61
    document = load(out)
    assert not document["complete"]
    assert document["runs"][0]["objects"] == 40


async def test_ceiling_that_is_none_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    out = tmp_path / "a.json"
    async with embedded_pacs(SPEC) as pacs:
        assert (await bench("echo", str(pacs.address), "--out", out)).code == 0
        where = (str(pacs.address), "--port", "0", "--date", "1990..", "--ceiling", out)
        ended = await bench("retrieve", *where)
        assert not pacs.queries
    assert ended.code == 1
    assert "no result of fastmove bench self" in ended.err


async def test_interrupt_cancels_and_reports_what_was_measured(tmp_path: Path) -> None:
    out = tmp_path / "a.json"
    with reserved_port() as port:
        async with embedded_pacs(SPEC, faults=("delay=0.02",)) as pacs:
            pacs.going_to("ME", port)
            where = (str(pacs.address), "--aet", "ME", "--port", str(port), "--date", "1990..")
            async with Program("bench", "retrieve", *where, "--duration", "60", "--out", out) as program:
                async with asyncio.timeout(20):
                    while pacs.objects_sent < 5:
                        await asyncio.sleep(0.02)
                program.signal(signal.SIGINT)
                async with asyncio.timeout(10):
                    assert await program.process.wait() == 72
            async with asyncio.timeout(5):
                while not any(move.status == 0xFE00 for move in pacs.moves):
                    await asyncio.sleep(0.02)
    document = load(out)
    assert not document["complete"]
    assert document["runs"][0]["objects"] >= 5


async def test_result_that_cannot_be_written_is_told_after_it_was_shown(tmp_path: Path) -> None:
    with reserved_port() as port:
        async with embedded_pacs(SPEC) as pacs:
            ended = await retrieve(pacs, port, "--out", tmp_path / "nowhere" / "a.json")
    assert ended.code == 1
    assert "1 at once" in ended.out
    assert "cannot be written" in ended.err


# ---------------------------------------------------------------------- the other loads


async def test_store_sends_objects_that_nobody_has_seen_each_time(tmp_path: Path) -> None:
    stored = tmp_path / "stored"
    async with listen_program(stored, "--no-durable", "--any-called-aet") as program:
        started = await program.event("listen.started")
        peer = f"X@{HOST}:{started['port']}"
        load_of = ("--synthetic", "series=1,instances=6,size=5k", "--count", "3")
        for number in (1, 2):
            ended = await bench("store", peer, *load_of, "--parallel", "2", "--out", tmp_path / "a.json")
            assert ended.code == 0, ended.err
            assert len(list(stored.glob("*.dcm"))) == 18 * number
        assert await program.stopped() == 0
    run = load(tmp_path / "a.json")["runs"][0]
    assert (run["operations"], run["objects"]) == (3, 18)
    assert run["latencies_ms"]["store"]["count"] == 18
    assert run["latencies_ms"]["study"]["count"] == 3


async def test_store_sends_given_files_under_uids_of_their_own(tmp_path: Path) -> None:
    import pydicom

    from fastmove.bench.spec import write

    given = write(Spec(series=2, instances=2, size=9_000), tmp_path / "given")
    stored = tmp_path / "stored"
    async with listen_program(stored, "--no-durable", "--any-called-aet") as program:
        started = await program.event("listen.started")
        ended = await bench("store", f"X@{HOST}:{started['port']}", tmp_path / "given", "--count", "3")
        assert ended.code == 0, ended.err
        assert await program.stopped() == 0
    theirs = [pydicom.dcmread(path) for path in given]
    ours = [pydicom.dcmread(path) for path in stored.glob("*.dcm")]
    assert len(ours) == 12
    assert not {each.SOPInstanceUID for each in ours} & {each.SOPInstanceUID for each in theirs}
    assert len({each.StudyInstanceUID for each in ours}) == 3
    assert len({each.SeriesInstanceUID for each in ours}) == 6
    assert {each.PixelData for each in ours} == {each.PixelData for each in theirs}
    for each in ours:
        assert each.file_meta.MediaStorageSOPInstanceUID == each.SOPInstanceUID
        assert each.PatientID == theirs[0].PatientID


async def test_store_tells_of_objects_that_were_refused(tmp_path: Path) -> None:
    async with listen_program(tmp_path, "--no-durable", "--any-called-aet", "--max-object", "1000") as program:
        started = await program.event("listen.started")
        peer, out = f"X@{HOST}:{started['port']}", tmp_path / "a.json"
        ended = await bench("store", peer, "--synthetic", "size=5k,series=1,instances=2", "--count", "3", "--out", out)
        assert await program.stopped() == 0
    assert ended.code == 69
    assert "A700" in ended.out
    assert load(out)["runs"][0]["failed_suboperations"] == 6


async def test_echo_and_find_measure_what_they_ask(tmp_path: Path) -> None:
    queries = tmp_path / "queries.txt"
    queries.write_text("# some\nStudyDate=20000102 PatientName\nPatientID=SYN00000003\n\n")
    async with embedded_pacs(SPEC) as pacs:
        echoed = await bench("echo", str(pacs.address), "--count", "50", "--out", tmp_path / "e.json")
        found = await bench("find", str(pacs.address), "--from", queries, "--count", "10", "--out", tmp_path / "f.json")
        assert pacs.queries["STUDY"] == 10
    assert (echoed.code, found.code) == (0, 0), found.err
    echo, find = load(tmp_path / "e.json")["runs"][0], load(tmp_path / "f.json")["runs"][0]
    assert echo["latencies_ms"]["echo"]["count"] == 50
    assert (find["operations"], find["objects"]) == (10, 10)
    assert find["latencies_ms"]["first_match"]["count"] == 10


async def test_find_counts_what_a_pacs_refuses() -> None:
    async with embedded_pacs(SPEC, faults=("refuse-finds=A700",)) as pacs:
        ended = await bench("find", str(pacs.address), "-k", "PatientName", "--count", "3")
    assert ended.code == 69
    assert "3 x A700" in ended.out


@pytest.mark.parametrize("arguments", [(), ("-k", "NoSuchKeyword=1")])
async def test_find_without_a_question_is_refused(arguments: tuple[str, ...]) -> None:
    ended = await bench("find", "PACS@127.0.0.1:1", *arguments)
    assert ended.code == 1


async def test_self_says_what_this_host_can_do_and_a_result_is_held_against_it(tmp_path: Path) -> None:
    ceiling = tmp_path / "self.json"
    ended = await bench("self", "--seconds", "0.6", "--to", tmp_path, "--out", ceiling, "--html", tmp_path / "s.html")
    assert ended.code == 0, ended.err
    document = load(ceiling)
    assert {run["point"]["objects"] for run in document["runs"]} == {"8 kB", "526 kB", "100 MB"}
    assert all(run["objects"] for run in document["runs"] if run["point"]["objects"] != "100 MB")
    assert document["machine"]["loopback_bytes_per_s"] > 1e8
    assert document["machine"]["disk_durable_files_per_s"] > 0
    assert not list(tmp_path.glob(".fastmove-bench-*"))
    with reserved_port() as port:
        async with embedded_pacs(SPEC, faults=("rate=50",)) as pacs:
            held = await retrieve(pacs, port, "--ceiling", ceiling, "--out", tmp_path / "a.json")
    assert "of objects of 8 kB (bench self)" in held.out
    assert 0 < load(tmp_path / "a.json")["ceiling"]["share"] < 0.5


# ---------------------------------------------------------------------- against each other


async def measured(pacs: Any, port: int, out: Path) -> None:
    ended = await retrieve(pacs, port, "--parallel", "2", "--repeat", "4", "--out", out)
    assert ended.code == 0, ended.err


async def test_slow_down_of_the_pacs_is_flagged_and_the_same_once_more_is_not(tmp_path: Path) -> None:
    before, same, slower = (tmp_path / f"{name}.json" for name in ("before", "same", "slower"))
    with reserved_port() as port:
        async with embedded_pacs(SPEC, faults=("rate=100",)) as pacs:
            await measured(pacs, port, before)
            await measured(pacs, port, same)
            pacs.misbehave("rate=87")
            await measured(pacs, port, slower)
    equal = await bench("compare", before, same, "--fail-if-slower", "10%")
    assert equal.code == 0, equal.out
    flagged = await bench("compare", before, slower, "--fail-if-slower", "10%", "--json")
    assert flagged.code == 76, flagged.out
    told = json.loads(flagged.out)
    assert told["verdict"] == "slower"
    assert told["points"][0]["ratio"]["estimate"] == pytest.approx(0.87, rel=0.03)
    unfailing = await bench("compare", before, slower)
    assert unfailing.code == 0
    assert "SLOWER" in unfailing.out
    history = await bench("history", tmp_path)
    assert history.code == 0
    assert history.out.count("2 at once") == 3


async def test_history_of_nothing_is_told(tmp_path: Path) -> None:
    ended = await bench("history", tmp_path)
    assert ended.code == 1
    assert "no results" in ended.err
