"""doctor at peers that are broken or hostile: every probe ends in time, in printable words, with no exception."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Final

import pytest

from fastmove.errors import DimseError, TimedOut
from fastmove.services.doctor import visit
from fastmove.services.doctor.findings import Outcome, Side
from tests.integration import raw
from tests.integration.doctor import (
    C_CANCEL_RQ,
    PENDING,
    Script,
    accepted,
    advice,
    examined,
    found,
    message_id,
    moved,
    one_study,
    outcomes,
    scripted,
)
from tests.integration.peers import free_port
from tests.integration.scripted import Link, Reply, ScriptedRequestor

HOST: Final = "127.0.0.1"
IMPATIENT_S: Final = 0.3
ESCAPE: Final = "\x1b[2J\n"


# ---------------------------------------------------------------------- queries


async def test_query_that_is_never_answered_is_given_up() -> None:
    async with scripted(Script()) as peer:
        examination = await examined(peer, patience_s=IMPATIENT_S)
    finding = examination.findings["find_study"]
    assert isinstance(finding.cause, TimedOut)
    assert "no answer within 0.3 s" in finding.seen


async def test_matches_that_go_on_after_cancel_are_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visit, "AFTER_CANCEL", 50)
    sent = 0

    async def flood(_: Script, link: Link, request: Reply) -> None:
        nonlocal sent
        if b"IMAGE" in request.dataset or b"SERIES" in request.dataset:
            await one_study(_, link, request)
            return
        pending = raw.response(
            0x8020, message_id(request), raw.STUDY_ROOT_FIND, PENDING, {raw.DATA_SET_TYPE: raw.us(1)}
        )
        try:
            while True:
                sent += 1
                study = raw.element(0x0020000D, raw.uid(f"1.2.{sent}")) + raw.element(0x00201208, b"3 ")
                await link.send(raw.message(request.context_id, pending, study))
        except OSError:
            link.close()

    async with scripted(Script(find=flood)) as peer:
        examination = await examined(peer)
    finding = examination.findings["find_study"]
    assert finding.outcome is Outcome.NOTE
    assert "goes on sending matches after C-CANCEL" in finding.seen
    assert examination.visit.study is not None
    assert len(examination.visit.studies) == 100


async def test_matches_are_cancelled_once_there_are_enough() -> None:
    cancelled = asyncio.Event()

    async def many(_: Script, link: Link, request: Reply) -> None:
        if b"IMAGE" in request.dataset or b"SERIES" in request.dataset:
            await one_study(_, link, request)
            return
        studies = [{0x0020000D: raw.uid(f"1.2.{n}"), 0x00201208: b"3 "} for n in range(1, 2051)]
        pending = raw.response(
            0x8020, message_id(request), raw.STUDY_ROOT_FIND, PENDING, {raw.DATA_SET_TYPE: raw.us(1)}
        )
        identifiers = (b"".join(raw.element(tag, value) for tag, value in sorted(study.items())) for study in studies)
        await link.send(*(raw.message(request.context_id, pending, identifier) for identifier in identifiers))
        cancel = await link.read_reply()
        assert cancel.fields[raw.COMMAND_FIELD] == raw.us(C_CANCEL_RQ)
        assert cancel.responded_to == message_id(request)
        cancelled.set()
        final = raw.response(0x8020, message_id(request), raw.STUDY_ROOT_FIND, 0xFE00)
        await link.send(raw.message(request.context_id, final))

    async with scripted(Script(find=many)) as peer:
        examination = await examined(peer)
    assert cancelled.is_set()
    assert examination.findings["find_cap"].outcome is Outcome.OK


GARBAGE: Final = {
    "no data set": b"\xff" * 40,
    "length beyond the end": raw.element(0x0020000D, b"1.2.3", length=5000),
    "UID that is none": raw.element(0x0020000D, b"../../etc/passwd"),
    "UID with control characters": raw.element(0x0020000D, ESCAPE.encode()),
    "number that is none": raw.element(0x0020000D, b"1.2.3\0") + raw.element(0x00201208, b"many"),
    "empty": b"",
}


@pytest.mark.parametrize("identifier", GARBAGE.values(), ids=GARBAGE)
async def test_matches_that_are_rubbish_are_told_or_left_out(identifier: bytes) -> None:
    async def rubbish(_: Script, link: Link, request: Reply) -> None:
        pending = raw.response(
            0x8020, message_id(request), raw.STUDY_ROOT_FIND, PENDING, {raw.DATA_SET_TYPE: raw.us(1)}
        )
        await link.send(raw.message(request.context_id, pending, identifier))
        await found(link, request, [])

    async with scripted(Script(find=rubbish)) as peer:
        examination = await examined(peer, port=0, patience_s=IMPATIENT_S)
    assert outcomes(examination)[Outcome.PROBLEM] in ([], ["find_study"], ["move"])
    assert all(study.study_instance_uid == "1.2.3" for study in examination.visit.studies)


async def test_comment_with_control_characters_is_shown_harmless() -> None:
    async def refuse(_: Script, link: Link, request: Reply) -> None:
        await found(link, request, [], 0xC001, {0x0902: ESCAPE.encode()})

    items = raw.max_length(16384) + raw.item(0x52, "1.2.3") + raw.item(0x55, ESCAPE)
    ac = raw.associate_ac([raw.context_ac(n) for n in range(1, 10, 2)], user_items=items)
    async with scripted(Script(find=refuse, ac=ac)) as peer:
        examination = await examined(peer)
    assert "status C001H, Unable to process" in examination.findings["find_study"].seen
    assert all(finding.seen.isprintable() for finding in examination.findings.values())
    assert all(each.text.isprintable() for finding in examination.findings.values() for each in finding.advice)


async def test_response_to_another_message_ends_the_association_and_not_the_examination() -> None:
    async def confused(_: Script, link: Link, request: Reply) -> None:
        await link.send(raw.message(request.context_id, raw.response(0x8020, 4711, raw.STUDY_ROOT_FIND, 0)))

    async with scripted(Script(find=confused)) as peer:
        examination = await examined(peer)
    assert [finding.probe for finding in examination.problems] == ["find_study"]
    assert examination.findings["parallel"].outcome is Outcome.OK


async def test_patient_root_alone_is_asked_from_the_patient_down() -> None:
    asked: list[bytes] = []

    async def patients(script: Script, link: Link, request: Reply) -> None:
        asked.append(request.dataset)
        if b"PATIENT" in request.dataset:
            await found(link, request, [{0x00100020: b"4711"}])
        else:
            await one_study(script, link, request)

    async with scripted(Script(find=patients, ac=accepted(1, 7, 9))) as peer:
        examination = await examined(peer)
    assert outcomes(examination)[Outcome.PROBLEM] == []
    assert all(b"4711" in query for query in asked if b"PATIENT" not in query and b"SERIES" in query)
    assert "--model patient" in advice(examination.findings["contexts"], Side.HERE)
    assert examination.findings["find_image"].seen.startswith("3 instances listed")
    assert examination.profile.study_root is False


# ---------------------------------------------------------------------- the move


async def test_move_that_nothing_comes_of_is_given_up_and_says_what_to_check() -> None:
    port = free_port()

    async def nothing(_: Script, link: Link, request: Reply) -> None:
        """Neither objects nor an answer: as a PACS that waits for a connection to us."""

    async with scripted(Script(find=one_study, move=nothing)) as peer:
        examination = await examined(peer, port=port, ae_title="ME", patience_s=IMPATIENT_S)
    finding = examination.findings["move"]
    assert isinstance(finding.cause, TimedOut)
    assert "nothing comes of it" in finding.seen
    assert f"port {port}" in advice(finding, Side.PACS) and f"open TCP port {port}" in advice(finding, Side.HERE)


async def test_move_that_never_ends_is_ended() -> None:
    async def for_ever(_: Script, link: Link, request: Reply) -> None:
        try:
            for completed in range(10**6):
                await moved(link, request, PENDING, 1, completed % 65536)
                await asyncio.sleep(0)
        except OSError:
            link.close()

    started = time.monotonic()
    async with scripted(Script(find=one_study, move=for_ever)) as peer:
        examination = await examined(peer, port=0, patience_s=0.1)
    assert time.monotonic() - started < 5
    assert examination.findings["move"].outcome is Outcome.PROBLEM


async def test_success_for_nothing_is_told() -> None:
    async def success(_: Script, link: Link, request: Reply) -> None:
        await moved(link, request, 0, None, 0, 0, 0)

    async with scripted(Script(find=one_study, move=success)) as peer:
        examination = await examined(peer, port=0)
    assert "nothing matched, of a study that it has" in examination.findings["arrival"].seen


async def test_connection_to_us_by_tls_is_recognised() -> None:
    async def by_tls(script: Script, link: Link, request: Reply) -> None:
        async with ScriptedRequestor(HOST, script.port) as sender:
            await sender.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
            await sender.expect(raw.ABORT)
        await moved(link, request, 0xA702, None, 0, 3, 0)

    script = Script(find=one_study, move=by_tls)
    async with scripted(script) as peer:
        examination = await examined(peer, port=script.port)
    finding = examination.findings["arrival"]
    assert isinstance(finding.cause, DimseError)
    assert "not in DICOM" in finding.seen
    assert "TLS" in advice(finding, Side.PACS)


async def test_association_to_us_without_an_object_is_told() -> None:
    async def empty(script: Script, link: Link, request: Reply) -> None:
        async with ScriptedRequestor(HOST, script.port) as sender:
            await sender.associate(raw.associate_rq(called="ME", contexts=[raw.context_rq(1, raw.STUDY_ROOT_FIND)]))
            await sender.release()
        await moved(link, request, 0xC000, None, 0, 3, 0)

    script = Script(find=one_study, move=empty)
    async with scripted(script) as peer:
        examination = await examined(peer, port=script.port, ae_title="ME")
    assert "0 usable presentation contexts, but sends nothing" in examination.findings["arrival"].seen
    assert "rq.sop_unknown" in examination.findings["arrival"].seen


async def test_objects_that_we_refuse_are_told() -> None:
    async def broken(script: Script, link: Link, request: Reply) -> None:
        async with ScriptedRequestor(HOST, script.port) as sender:
            await sender.associate(raw.associate_rq(called="ME"))
            bad = raw.c_store_rq("1.2.3.1.1", 1, raw.MR_IMAGE)  # not the SOP class of its context
            await sender.send(raw.message(1, bad, raw.dataset("1.2.3.1.1")))
            await sender.read_reply()
            await sender.release()
        await moved(link, request, 0xA702, None, 0, 3, 0)

    script = Script(find=one_study, move=broken)
    async with scripted(script) as peer:
        examination = await examined(peer, port=script.port, ae_title="ME")
    assert "we refuse its objects: store.class_context" in examination.findings["arrival"].seen


async def test_objects_of_others_are_not_taken_for_ours() -> None:
    async def stranger(script: Script, link: Link, request: Reply) -> None:
        async with ScriptedRequestor(HOST, script.port) as sender:
            await sender.associate(raw.associate_rq(called="ME"))
            await sender.store("9.9.9", raw.dataset("9.9.9"))
            for number, uid in enumerate(("1.2.3.1.1", "1.2.3.1.2", "1.2.3.1.3"), 2):
                await sender.store(uid, raw.dataset(uid), number)
            await sender.release()
        await moved(link, request, 0, None, 3, 0, 0)

    script = Script(find=one_study, move=stranger)
    async with scripted(script) as peer:
        examination = await examined(peer, port=script.port, ae_title="ME")
    finding = examination.findings["complete"]
    assert finding.outcome is Outcome.NOTE
    assert "COMPLETE: 3 objects of 3" in finding.seen and "1 object came that it does not list" in finding.seen
    assert examination.profile.counters is True


async def test_every_association_may_be_cut_at_any_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Script, "_end", staticmethod(lambda link: _cut(link)))

    async def cut(_: Script, link: Link, request: Reply) -> None:
        link.reset()

    for script in (Script(find=cut), Script(find=one_study, move=cut)):
        async with scripted(script) as peer:
            examination = await examined(peer, port=0, patience_s=IMPATIENT_S)
        assert examination.problems


async def _cut(link: Link) -> None:
    with contextlib.suppress(OSError):  # it is cut already
        link.reset()
