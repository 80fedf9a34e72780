"""Sinks that leave the disk to a thread of their owner's: what is gathered, when that is due, what a slow disk does."""

from __future__ import annotations

import errno
import os
import select
import threading
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.integration import raw
from tests.unit.receivers import PC_ID, after_command, arrive, directory, events, fill_up, pdus, put

from fastmove._codec import DatasetComplete, PduReceiver, WriteDue
from fastmove._sink import FileSink, FileTemplate, Pace
from fastmove.storage.filemeta import FileMeta

SOP_CLASS: Final = b"1.2.840.10008.5.1.4.1.1.2\0"
META: Final = FileMeta("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2", "MODALITY")
WINDOW: Final = 1 << 18


def deferred(place: int, head: bytes = b"head", *, unnamed: bool = True) -> FileSink:
    return FileSink(place, head, unnamed, deferred=True)


def test_deferred_sink_opens_no_file_before_its_owner_says_so(tmp_path: Path) -> None:
    with directory(tmp_path) as place:
        sink = deferred(place)
        put(sink, b"data" * 100)
        assert (sink.file_descriptor, sink.nbytes) == (-1, 400)
        sink.publish(b"object")
        assert (tmp_path / "object").read_bytes() == b"head" + b"data" * 100


@pytest.mark.parametrize("unnamed", [True, False])
def test_sink_that_was_not_opened_is_discarded_without_a_trace(tmp_path: Path, unnamed: bool) -> None:
    with directory(tmp_path) as place:
        deferred(place, unnamed=unnamed).discard()
    assert list(tmp_path.iterdir()) == []


def test_bytes_of_several_reads_wait_in_the_window_for_one_write(tmp_path: Path) -> None:
    data = os.urandom(100_000)
    stream = pdus(data, 16_000)
    with directory(tmp_path) as place:
        sink = deferred(place)
        made = after_command(sink, window=WINDOW)
        for at in range(0, len(stream), 10_000):
            arrive(made, stream[at : at + 10_000])
            event = made.next_event()
            assert event is None or at + 10_000 >= len(stream)
        assert isinstance(event, DatasetComplete)
        assert sink.file_descriptor == -1
        sink.publish(b"object")
    assert (tmp_path / "object").read_bytes() == b"head" + data


def test_write_is_due_when_the_window_has_no_room_for_another_read(tmp_path: Path) -> None:
    data = os.urandom(3 * WINDOW)
    stream = pdus(data, 100_000)
    due = 0
    with directory(tmp_path) as place:
        sink = deferred(place)
        made = after_command(sink, window=WINDOW)
        while stream:
            room = len(made.get_buffer(-1))
            assert room > 0
            arrive(made, stream[:room])
            stream = stream[room:]
            while (event := made.next_event()) is not None:
                if isinstance(event, WriteDue):
                    assert event.sink is sink
                    due += 1
                    event.sink.write_out()
        assert due >= 3
        sink.publish(b"object")
    assert (tmp_path / "object").read_bytes() == b"head" + data


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 3000), min_size=1, max_size=400),
    st.integers(1, 9000),
    st.integers(0, 2),
    st.sampled_from([4096, 70_000, WINDOW]),
)
def test_file_has_every_byte_whatever_the_fragments_and_reads(
    tmp_path_factory: pytest.TempPathFactory, fragments: list[int], piece: int, controls: int, window: int
) -> None:
    """Hundreds of small fragments are joined in the window; PDUs between them do not move it."""
    data = [os.urandom(n) for n in fragments]
    stream = b"".join(raw.p_data(raw.pdv(PC_ID, 0, fragment)) + raw.release_rq() * controls for fragment in data)
    stream += raw.p_data(raw.pdv(PC_ID, raw.LAST))
    path = tmp_path_factory.mktemp("deferred")
    with directory(path) as place:
        sink = deferred(place)
        made = after_command(sink, window=window)
        while stream:
            count = min(len(made.get_buffer(-1)), piece, len(stream))
            arrive(made, stream[:count])
            stream = stream[count:]
            list(events(made))
        sink.publish(b"object")
    assert (path / "object").read_bytes() == b"head" + b"".join(data)


def test_bytes_that_were_not_written_are_lost_with_the_association(tmp_path: Path) -> None:
    with directory(tmp_path) as place:
        sink = deferred(place)
        made = after_command(sink)
        arrive(made, pdus(b"data" * 1000, 1000, last=False))
        assert made.next_event() is None
        made.allow_data(False)
        with pytest.raises(OSError, match="Bad file descriptor"):
            sink.publish(b"object")
        sink.discard()
    assert list(tmp_path.iterdir()) == []


def test_sink_outlives_its_receiver(tmp_path: Path) -> None:
    data = os.urandom(1000)
    with directory(tmp_path) as place:
        sink = deferred(place)
        put(sink, data)  # the receiver is gone afterwards, its window is not
        sink.publish(b"object")
    assert (tmp_path / "object").read_bytes() == b"head" + data


@pytest.mark.parametrize("sync", [True, False])
def test_step_says_what_failed(tmp_path: Path, sync: bool) -> None:
    with directory(tmp_path) as place:
        sink = deferred(-1)
        put(sink, b"data")
        with pytest.raises(OSError, match="Bad file descriptor"):
            sink.write_out()
        assert sink.step == "fs.open"
        sink = deferred(place)
        put(sink, b"data")
        sink.write_out()
        number = fill_up(sink.file_descriptor)
        with pytest.raises(OSError, match=os.strerror(errno.EINVAL if sync else errno.EXDEV)):
            sink.publish(b"object", sync=sync)  # /dev/full can be written to no more, nor synced, nor named here
        assert number == errno.ENOSPC
        assert sink.step == ("fs.fsync" if sync else "fs.rename")
        sink.discard()
    assert list(tmp_path.iterdir()) == []


def test_failed_sync_is_never_tried_again_into_success(tmp_path: Path) -> None:
    with directory(tmp_path) as place:
        sink = deferred(place)
        put(sink, b"data")
        sink.write_out()
        saved = os.dup(sink.file_descriptor)
        fill_up(sink.file_descriptor)
        with pytest.raises(OSError, match="Invalid argument"):
            sink.sync()
        os.dup2(saved, sink.file_descriptor, inheritable=False)
        os.close(saved)
        for again in (sink.sync, lambda: sink.publish(b"object")):
            with pytest.raises(OSError, match="Invalid argument"):
                again()
        sink.discard()
    assert list(tmp_path.iterdir()) == []


def test_others_run_while_a_deferred_sink_waits_for_its_disk(tmp_path: Path) -> None:
    """A pipe that nobody reads is as slow as a disk can be."""
    with directory(tmp_path) as place:
        sink = deferred(place)
        put(sink, b"x")
        sink.write_out()
        read, write = os.pipe()
        os.dup2(write, sink.file_descriptor, inheritable=False)
        os.close(write)
        size = 150_000
        put(sink, bytes(size), read=size + 100)
        writer = threading.Thread(target=sink.write_out)
        writer.start()
        got = 0
        while got < size:  # this thread could not read if that one had the interpreter's lock
            got += len(os.read(read, 1 << 16))
        writer.join()
        os.close(read)
        sink.discard()


def test_template_defers_sinks_always_or_while_the_disk_is_slow(tmp_path: Path) -> None:
    with directory(tmp_path) as place:
        for asked in (True, False):
            template = FileTemplate(place, SOP_CLASS, META.pieces, suffix=b"", deferred=asked, pace=Pace())
            sink = template.open(b"1.2.3")
            assert sink.deferred is asked
            sink.discard()


def test_slow_write_defers_what_comes_after_it(tmp_path: Path) -> None:
    pace = Pace()
    size = 200_000
    with directory(tmp_path) as place:
        template = FileTemplate(place, SOP_CLASS, META.pieces, pace=pace)
        sink = template.open(b"1.2.3")
        read, write = os.pipe()
        os.dup2(write, sink.file_descriptor, inheritable=False)
        os.close(write)

        def slow() -> None:
            select.select([read], [], [])  # only when the write has begun...
            threading.Event().wait(0.03)  # ... does the disk take that long
            got = 0
            while got < size:
                got += len(os.read(read, 1 << 16))

        disk = threading.Thread(target=slow)
        disk.start()
        assert not pace.slow
        put(sink, bytes(size), read=size + 100)
        disk.join()
        os.close(read)
        sink.discard()
        assert pace.slow
        later = template.open(b"1.2.4")
        assert later.deferred
        later.discard()


def test_receiver_leaves_the_name_of_a_deferred_sink_to_its_owner(tmp_path: Path) -> None:
    with directory(tmp_path) as place:
        made = PduReceiver(window=WINDOW, max_pdu_length=0)
        made.accept([PC_ID])
        made.allow_data(True)
        made.store_by(PC_ID, FileTemplate(place, SOP_CLASS, META.pieces, suffix=b".dcm", deferred=True))
        request = raw.c_store_rq("1.2.3", sop_class=SOP_CLASS.rstrip(b"\0").decode())
        arrive(made, raw.message(PC_ID, request, b"data" * 10))
        complete = made.next_event()
        assert isinstance(complete, DatasetComplete)
        assert not complete.placed
        assert isinstance(complete.sink, FileSink)
        complete.sink.publish(b"1.2.3.dcm", sync=True)
    assert (tmp_path / "1.2.3.dcm").read_bytes().endswith(b"data" * 10)
