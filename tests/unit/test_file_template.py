"""The receiver opens and places the files of ordinary C-STORE-RQs itself; all others go the long way."""

from __future__ import annotations

import errno
import os
import resource
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conftest import open_descriptors
from tests.integration import raw
from tests.unit.receivers import PC_ID, arrive, directory, events, fill_up, pdus, receiver, stored

from fastmove._codec import CommandReceived, DatasetComplete, PDataWriter, PduReceiver, SinkFailed
from fastmove._sink import FileSink, FileTemplate, MemorySink
from fastmove.storage.filemeta import FileMeta
from fastmove.storage.layout import FILE_SUFFIX, file_name, is_proper
from fastmove.storage.options import Placing, WriteOptions
from fastmove.storage.target import StorageTarget, Stored

UID = b"1.2.3"
NAME = "1.2.3.dcm"
SOP_CLASS = raw.uid(raw.CT_IMAGE)
META = FileMeta(raw.CT_IMAGE, raw.IMPLICIT_LE, "PEER")
DATA = bytes(range(256)) * 100

kinds = pytest.mark.parametrize("unnamed", [True, False], ids=["unnamed", "named"])


@pytest.fixture
def place(tmp_path: Path) -> Iterator[int]:
    with directory(tmp_path) as fd:
        yield fd


def template(place: int, suffix: bytes | None = FILE_SUFFIX, *, unnamed: bool = True) -> FileTemplate:
    return FileTemplate(place, SOP_CLASS, META.pieces, suffix=suffix, unnamed=unnamed)


def storing(by: FileTemplate) -> PduReceiver:
    """A receiver that opens the files of ordinary requests itself."""
    made = receiver()
    made.store_by(PC_ID, by)
    return made


def told(by: PduReceiver, data: bytes) -> list[object]:
    """What the receiver says of these bytes."""
    arrive(by, data)
    return list(events(by))


def completed(by: PduReceiver, data: bytes) -> DatasetComplete:
    """The end of an object, which is all that the receiver says of these bytes."""
    (event,) = told(by, data)
    assert isinstance(event, DatasetComplete)
    return event


def store(sop_instance: bytes = UID, dataset: bytes = DATA) -> bytes:
    """A C-STORE with this SOP Instance UID as it stands, padding included."""
    return raw.message(PC_ID, raw.c_store_rq("", change={raw.AFFECTED_SOP_INSTANCE: sop_instance}), dataset)


def names(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir())


def descriptor_opened_by(by: PduReceiver, data: bytes) -> int:
    """The file that the receiver opens without a word when these bytes come."""
    before = open_descriptors()
    assert told(by, data) == []
    ((number, _),) = open_descriptors() - before
    return int(number)


COMMAND = raw.p_data(raw.pdv(PC_ID, raw.COMMAND | raw.LAST, raw.c_store_rq(UID.decode())))


# The template


@kinds
def test_head_is_that_of_the_file_meta_for_a_uid_of_any_length(place: int, tmp_path: Path, unnamed: bool) -> None:
    opens = template(place, unnamed=unnamed)
    for uid in (("1." * 32)[:n].encode() for n in range(65)):
        opens.open(uid).publish(b"object", replace=True)
        assert (tmp_path / "object").read_bytes() == META.head(uid)


def test_file_meta_is_asked_once_for_uids_of_one_length(place: int) -> None:
    asked = []

    def pieces(n: int) -> tuple[bytes, bytes]:
        asked.append(n)
        return META.pieces(n)

    opens = FileTemplate(place, SOP_CLASS, pieces)
    for uid in (b"1.2", b"1.3", b"1.2.3", b"1.4"):
        opens.open(uid).discard()
    assert asked == [3, 5]


def test_uid_that_no_element_can_have_is_refused(place: int) -> None:
    with pytest.raises(ValueError, match="at most 65534 bytes"):
        template(place).open(b"1" * 65535)


@pytest.mark.parametrize("length", [65, 66, 255, 65534])
def test_uid_that_is_too_long_is_written_as_it_is(place: int, tmp_path: Path, length: int) -> None:
    sink = template(place).open(b"1" * length)
    stored(sink, b"data")
    sink.publish(b"object")
    assert (tmp_path / "object").read_bytes() == META.head(b"1" * length) + b"data"


def test_suffix_of_more_than_15_bytes_is_refused(place: int) -> None:
    template(place, b"." + b"x" * 14)
    with pytest.raises(ValueError, match="at most 15 bytes"):
        template(place, b"." + b"x" * 15)


def test_longest_uid_and_longest_suffix_make_a_whole_name(place: int, tmp_path: Path) -> None:
    suffix = b"." + b"x" * 14
    assert completed(storing(template(place, suffix)), store(b"1" * 64)).placed
    assert names(tmp_path) == ["1" * 64 + suffix.decode()]


# Ordinary requests


@kinds
def test_ordinary_object_is_placed_and_told_once(place: int, tmp_path: Path, unnamed: bool) -> None:
    event = completed(storing(template(place, unnamed=unnamed)), store(b"1.2.3\0"))
    assert (event.placed, event.sink, event.nbytes, event.pc_id) == (True, None, len(DATA), PC_ID)
    assert event.request is not None
    assert (event.request.command_field, event.request.message_id) == (1, 1)
    assert event.request.sop_instance_uid == b"1.2.3\0"
    assert names(tmp_path) == [NAME]
    assert (tmp_path / NAME).read_bytes() == META.head(UID) + DATA


def test_object_without_a_suffix_is_left_to_its_owner(place: int, tmp_path: Path) -> None:
    event = completed(storing(template(place, None)), store())
    assert not event.placed
    assert names(tmp_path) == []
    assert isinstance(event.sink, FileSink)
    event.sink.publish(b"object")
    assert (tmp_path / "object").read_bytes() == META.head(UID) + DATA


@pytest.mark.parametrize("durable", [True, False])
def test_object_that_is_to_be_durable_is_left_to_the_target(tmp_path: Path, durable: bool) -> None:
    with StorageTarget(tmp_path, WriteOptions(durable=durable)) as target:
        event = completed(storing(target.template(META, SOP_CLASS)), store())
        assert event.placed is not durable
        assert names(tmp_path) == ([] if durable else [NAME])
        if durable:
            assert isinstance(event.sink, FileSink)
            assert target.commit(event.sink, NAME.encode()) == Stored(NAME.encode(), Placing.NEW)
    assert (tmp_path / NAME).read_bytes() == META.head(UID) + DATA


@kinds
def test_object_whose_name_is_taken_is_left_to_its_owner(place: int, tmp_path: Path, unnamed: bool) -> None:
    (tmp_path / NAME).write_bytes(b"another")
    event = completed(storing(template(place, unnamed=unnamed)), store())
    assert not event.placed
    assert isinstance(event.sink, FileSink)
    event.sink.publish(b"object")
    assert (tmp_path / "object").read_bytes() == META.head(UID) + DATA
    assert (tmp_path / NAME).read_bytes() == b"another"
    assert names(tmp_path) == [NAME, "object"]


def test_empty_data_set_is_never_placed(place: int, tmp_path: Path) -> None:
    event = completed(storing(template(place)), store(dataset=b""))
    assert (event.placed, event.nbytes) == (False, 0)
    assert isinstance(event.sink, FileSink)
    assert names(tmp_path) == []


def test_name_does_not_stay_if_the_file_cannot_be_closed(place: int, tmp_path: Path) -> None:
    made = storing(template(place, unnamed=False))
    opened = descriptor_opened_by(made, COMMAND + pdus(DATA, 16000, last=False))
    os.close(opened)
    event = completed(made, pdus(b"", 1))
    assert not event.placed
    assert isinstance(event.sink, FileSink)
    assert names(tmp_path) == []
    with pytest.raises(OSError, match="Bad file descriptor"):
        event.sink.publish(b"object")


def test_other_sink_in_the_middle_of_an_object_takes_the_rest(place: int, tmp_path: Path) -> None:
    made = storing(template(place))
    assert told(made, COMMAND + pdus(DATA, 16000, last=False)) == []
    sink = MemorySink(100)
    made.attach(sink)
    event = completed(made, pdus(b"rest", 4))
    assert (event.placed, event.sink) == (False, sink)
    assert sink.getvalue() == b"rest"
    assert names(tmp_path) == []


def test_write_that_fails_tells_whose_file_it_was(place: int, tmp_path: Path) -> None:
    made = storing(template(place))
    number = fill_up(descriptor_opened_by(made, COMMAND))
    failed, complete = told(made, pdus(DATA, 16000))
    assert isinstance(failed, SinkFailed) and isinstance(complete, DatasetComplete)
    assert failed.error_number == number == errno.ENOSPC
    assert failed.request is not None
    assert failed.request is complete.request
    assert failed.request.sop_instance_uid == raw.uid(UID.decode())
    assert (complete.placed, complete.sink, complete.nbytes) == (False, None, len(DATA))
    assert names(tmp_path) == []


def test_unfinished_object_is_gone_with_its_receiver(place: int, tmp_path: Path) -> None:
    made = storing(template(place, unnamed=False))
    assert told(made, COMMAND) == []
    assert len(names(tmp_path)) == 1
    made.attach(None)
    assert names(tmp_path) == []


# Names

paddings = st.text("\0 ", max_size=3).map(str.encode)
near_uids = st.text("0123456789.a/_-\0 ", max_size=66).map(str.encode)
plain_uids = st.text("0123456789.", min_size=1, max_size=66).map(str.encode)
received_uids = st.builds(bytes.__add__, st.one_of(st.binary(max_size=70), near_uids, plain_uids), paddings)


@settings(max_examples=400, deadline=None)
@given(received_uids)
def test_only_uids_as_they_should_be_are_placed_and_under_the_name_that_layout_gives(received: bytes) -> None:
    uid = received.rstrip(b"\0 ")
    with tempfile.TemporaryDirectory() as made, directory(Path(made)) as place:
        first, *others = told(storing(template(place)), store(received))
        if is_proper(uid) and len(uid) <= 64 and len(received) <= 66:
            assert isinstance(first, DatasetComplete)
            assert first.placed and first.request is not None
            assert PDataWriter(0).store_response(first.request, 0)
            assert names(Path(made)) == [file_name(uid).decode()]
        else:
            assert isinstance(first, CommandReceived)
            assert isinstance(others[0], DatasetComplete)
            assert others[0].request is None
            assert names(Path(made)) == []


# Everything else

Change = dict[int, bytes | None]
UNUSUAL: dict[str, Change] = {
    "class of another context": {raw.AFFECTED_SOP_CLASS: raw.uid(raw.MR_IMAGE)},
    "class padded with a space": {raw.AFFECTED_SOP_CLASS: raw.uid(raw.CT_IMAGE, b" ")},
    "class without padding": {raw.AFFECTED_SOP_CLASS: raw.CT_IMAGE.encode()},
    "no class": {raw.AFFECTED_SOP_CLASS: None},
    "no instance": {raw.AFFECTED_SOP_INSTANCE: None},
    "empty instance": {raw.AFFECTED_SOP_INSTANCE: b""},
    "instance of padding": {raw.AFFECTED_SOP_INSTANCE: b"\0\0"},
    "instance with a letter": {raw.AFFECTED_SOP_INSTANCE: b"1.2.a3"},
    "instance with a slash": {raw.AFFECTED_SOP_INSTANCE: b"1/2.34"},
    "instance with a dot first": {raw.AFFECTED_SOP_INSTANCE: b".1.2.3"},
    "instance padded without measure": {raw.AFFECTED_SOP_INSTANCE: b"1.2.3" + bytes(62)},
    "instance of 65 characters": {raw.AFFECTED_SOP_INSTANCE: b"1" * 65 + b"\0"},
    "no message ID": {raw.MESSAGE_ID: None},
    "empty message ID": {raw.MESSAGE_ID: b""},
    "another command": {raw.COMMAND_FIELD: raw.us(0x0020)},
}


@pytest.mark.parametrize("change", UNUSUAL.values(), ids=UNUSUAL)
def test_request_that_is_not_ordinary_is_reported_as_ever(place: int, tmp_path: Path, change: Change) -> None:
    before = open_descriptors()
    command, complete = told(
        storing(template(place)), raw.message(PC_ID, raw.c_store_rq(UID.decode(), change=change), DATA)
    )
    assert isinstance(command, CommandReceived) and isinstance(complete, DatasetComplete)
    assert (complete.request, complete.sink, complete.placed) == (None, None, False)
    assert open_descriptors() == before
    assert names(tmp_path) == []


def test_request_without_a_data_set_is_reported_as_ever(place: int) -> None:
    change: Change = {raw.DATA_SET_TYPE: raw.us(raw.NO_DATA_SET)}
    (event,) = told(storing(template(place)), raw.message(PC_ID, raw.c_store_rq(UID.decode(), change=change)))
    assert isinstance(event, CommandReceived)


def test_request_on_another_context_is_reported_as_ever(place: int) -> None:
    made = storing(template(place))
    made.accept([PC_ID, 3])
    command, _ = told(made, raw.message(3, raw.c_store_rq(UID.decode()), DATA))
    assert isinstance(command, CommandReceived)
    assert completed(made, store()).placed


def test_request_after_one_that_is_not_ordinary_is_ordinary_again(place: int) -> None:
    made = storing(template(place))
    unusual, complete = told(made, store(b"letter"))
    assert isinstance(unusual, CommandReceived) and isinstance(complete, DatasetComplete)
    assert completed(made, store()).placed


def test_template_that_is_taken_back_is_asked_for_again(place: int, tmp_path: Path) -> None:
    made = storing(template(place))
    made.store_by(PC_ID, None)
    made.store_by(PC_ID, None)
    command, complete = told(made, store())
    assert isinstance(command, CommandReceived) and isinstance(complete, DatasetComplete)
    assert complete.request is None
    assert names(tmp_path) == []


def test_file_that_cannot_be_made_is_reported_as_a_request(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    with directory(gone) as place:
        gone.rmdir()
        command, _ = told(storing(template(place)), store())
    assert isinstance(command, CommandReceived)


@contextmanager
def no_more_descriptors() -> Iterator[None]:
    """Every open fails (EMFILE)."""
    lowest = os.open("/dev/null", os.O_RDONLY)
    os.close(lowest)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_want_of_descriptors_is_reported_as_a_request_and_passes(place: int, tmp_path: Path) -> None:
    made = storing(template(place))
    with no_more_descriptors():
        command, _ = told(made, store())
    assert isinstance(command, CommandReceived)
    assert completed(made, store()).placed
    assert names(tmp_path) == [NAME]


# Cuts

OBJECTS = {"1.2.3": b"first object", "1.2.34": b"the second"}
STREAM = b"".join(
    raw.message(PC_ID, raw.c_store_rq(uid, number), data, fragment=7)
    for number, (uid, data) in enumerate(OBJECTS.items(), 1)
)
FILES = {f"{uid}.dcm": META.head(uid.encode()) + data for uid, data in OBJECTS.items()}
RESPONSES = b"".join(raw.message(PC_ID, raw.c_store_rsp(number, uid)) for number, uid in enumerate(OBJECTS, 1))


def outcome(pieces: list[bytes]) -> tuple[dict[str, bytes], bytes]:
    """The files that a stream in these pieces makes, and the responses to it."""
    responses = b""
    with tempfile.TemporaryDirectory() as made, directory(Path(made)) as place:
        stream = storing(template(place))
        for piece in pieces:
            for event in told(stream, piece):
                assert isinstance(event, DatasetComplete)
                assert event.placed and event.request is not None
                responses += PDataWriter(0).store_response(event.request, 0)
        return {path.name: path.read_bytes() for path in Path(made).iterdir()}, responses


def test_files_and_responses_are_the_same_wherever_the_stream_is_cut() -> None:
    for at in range(len(STREAM)):
        assert outcome([STREAM[:at], STREAM[at:]]) == (FILES, RESPONSES), f"cut at {at}"


@pytest.mark.parametrize("size", [1, 2, 3, 5, 11, 100])
def test_files_and_responses_are_the_same_in_pieces_of_any_size(size: int) -> None:
    assert outcome([STREAM[at : at + size] for at in range(0, len(STREAM), size)]) == (FILES, RESPONSES)
