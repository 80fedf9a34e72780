"""The long way of a C-STORE-RQ (CommandReceived, then a file) and the short one (the receiver opens it) do the same."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from fastmove._codec import CommandReceived
from fastmove._sink import FileTemplate
from fastmove.limits import Limits
from fastmove.notices import InstanceStored, Notice, as_dict
from fastmove.services.listener import listen
from fastmove.services.storage_scp import StorageSCP
from fastmove.storage.options import OnDuplicate, WriteOptions
from fastmove.storage.target import StorageTarget
from fastmove.ul.negotiation import AcceptPolicy
from tests.conftest import LOOP_FACTORIES
from tests.integration import raw
from tests.integration.scripted import ScriptedRequestor

pytestmark = pytest.mark.parametrize("loop_factory", LOOP_FACTORIES)

LIMITS: Final = Limits(artim_s=0.3, idle_s=5.0, message_s=5.0, stop_s=1.0)

Change = Mapping[int, bytes | None]
MOVED: Final[Change] = {raw.ORIGINATOR_AE: raw.ae("MOVER"), raw.ORIGINATOR_ID: raw.us(7)}
OBJECTS: Final[tuple[tuple[str, bytes, Change], ...]] = (
    ("1.2.1", raw.dataset("1.2.1"), {}),
    ("1.2.2", raw.dataset("1.2.2", pixel_bytes=300_000), {}),
    ("1.2.34", raw.dataset("1.2.34"), MOVED),
    ("1.2.1", raw.dataset("1.2.1"), {}),  # the same again
    ("1.2.1", raw.dataset("1.2.2"), {}),  # another of that name
    ("1.2.5", b"", {}),
    ("1.2.6", b"odd", {}),
    ("1.2.x7", raw.dataset("1.2.x7"), {}),
    ("1.2.8", raw.dataset("1.2.8"), {raw.AFFECTED_SOP_CLASS: raw.uid(raw.MR_IMAGE)}),
    ("1.2.9", raw.dataset("1.2.9"), {raw.AFFECTED_SOP_INSTANCE: None}),
    ("1.2.10", raw.dataset("1.2.10"), {raw.AFFECTED_SOP_INSTANCE: b"1.2.10 "}),
    ("1.2.11", raw.dataset("1.2.11"), {}),
)
NOT_TAKEN: Final = "1.2.11"
LONGEST_P_DATA: Final = 16000


@dataclass
class Result:
    """What can be seen from outside."""

    files: dict[str, bytes]
    notices: list[dict[str, Any]]
    responses: list[dict[int, bytes]]
    complaints: list[str]


async def result(directory: Path, options: WriteOptions) -> Result:
    """Send all objects one after the other; the observer of stored objects cannot take NOT_TAKEN."""
    notices: list[dict[str, Any]] = []
    responses: list[dict[int, bytes]] = []
    complaints: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context["message"]))

    def on_stored(notice: InstanceStored) -> None:
        if notice.sop_instance_uid == NOT_TAKEN:
            raise RuntimeError("no room")
        notify(notice)

    def notify(notice: Notice) -> None:
        told = as_dict(notice)
        notices.append({**told, "association": 0, "port": 0, "path": Path(told.get("path", "")).name})

    with StorageTarget(directory, options) as target:
        async with (
            listen("127.0.0.1", 0, target, AcceptPolicy("FASTMOVE"), LIMITS, notify, on_stored) as acceptor,
            ScriptedRequestor("127.0.0.1", acceptor.port) as peer,
        ):
            await peer.associate()
            for number, (uid, dataset, change) in enumerate(OBJECTS, 1):
                command = raw.c_store_rq(uid, number, change=change)
                await peer.send(raw.message(1, command, dataset, fragment=LONGEST_P_DATA))
                responses.append((await peer.read_reply()).fields)
            await peer.send(raw.release_rq())
            await peer.expect(raw.RELEASE_RP)
    return Result({path.name: path.read_bytes() for path in directory.iterdir()}, notices, responses, complaints)


@pytest.mark.parametrize("durable", [True, False], ids=["durable", "fast"])
@pytest.mark.parametrize("on_duplicate", OnDuplicate)
async def test_both_ways_give_the_same_files_notices_and_responses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_duplicate: OnDuplicate, durable: bool
) -> None:
    options = WriteOptions(durable=durable, on_duplicate=on_duplicate)
    asked: list[int] = []
    command_received, new_template = StorageSCP.command_received, StorageSCP._new_template

    def counted(self: StorageSCP, event: CommandReceived) -> None:
        asked.append(event.message_id)
        command_received(self, event)

    def unknown_to_the_receiver(self: StorageSCP, context_id: int) -> FileTemplate:
        template = new_template(self, context_id)
        self._connection.receiver.store_by(context_id, None)
        return template

    monkeypatch.setattr(StorageSCP, "command_received", counted)
    short = await result(tmp_path / "short", options)
    assert asked == [1, 8, 9, 10]
    asked.clear()
    monkeypatch.setattr(StorageSCP, "_new_template", unknown_to_the_receiver)
    long = await result(tmp_path / "long", options)
    assert asked == list(range(1, len(OBJECTS) + 1))
    assert short == long
    assert short.complaints == [f"on_stored failed for {NOT_TAKEN}.dcm"]
    assert {"1.2.1.dcm", "1.2.2.dcm", "1.2.x7.dcm"} <= short.files.keys()
    assert f"{NOT_TAKEN}.dcm" not in short.files


async def test_what_is_odd_of_an_object_is_told_before_what_became_of_it(tmp_path: Path) -> None:
    told = [
        (n["event"], n.get("sop_instance_uid")) for n in (await result(tmp_path, WriteOptions(durable=False))).notices
    ]
    odd = told.index(("store.uid_pad", None))
    assert told[odd + 1] == ("store.stored", "1.2.10")
