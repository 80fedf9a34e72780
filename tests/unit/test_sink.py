from __future__ import annotations

import errno
import gc
import os
import signal
import socket
import stat
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.integration import raw
from tests.unit.receivers import PC_ID, after_command, arrive, directory, fill_up, put, stored

from fastmove._codec import DatasetComplete, SinkFailed
from fastmove._sink import FileSink

PROJECT = Path(__file__).parents[2]
HEAD = b"preamble and file meta"
DATA = bytes(range(256)) * 100

kinds = pytest.mark.parametrize("unnamed", [True, False], ids=["unnamed", "named"])


@pytest.fixture
def place(tmp_path: Path) -> Iterator[int]:
    with directory(tmp_path) as fd:
        yield fd


def names(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir())


def run(script: str, argument: Path) -> str:
    """What a script in a process of its own prints."""
    command = [sys.executable, "-c", textwrap.dedent(script), str(argument)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=PROJECT).stdout


@kinds
def test_published_file_is_head_and_data_set(place: int, tmp_path: Path, unnamed: bool) -> None:
    sink = FileSink(place, HEAD, unnamed)
    stored(sink, DATA)
    sink.publish(b"object.dcm")
    assert names(tmp_path) == ["object.dcm"]
    assert (tmp_path / "object.dcm").read_bytes() == HEAD + DATA


def test_unnamed_file_does_not_show_before_it_is_published(place: int, tmp_path: Path) -> None:
    sink = FileSink(place, HEAD)
    stored(sink, DATA)
    assert names(tmp_path) == []
    sink.discard()


def test_named_file_is_a_part_file_before_it_is_published(place: int, tmp_path: Path) -> None:
    sink = FileSink(place, HEAD, unnamed=False)
    (name,) = names(tmp_path)
    assert name.startswith(f".fm-{os.getpid()}-")
    assert name.endswith(".part")
    sink.discard()


def test_named_files_have_different_names(place: int, tmp_path: Path) -> None:
    sinks = [FileSink(place, HEAD, unnamed=False) for _ in range(3)]
    assert len(names(tmp_path)) == 3
    for sink in sinks:
        sink.discard()


def test_leftover_of_a_dead_process_with_our_process_id_is_passed_over(tmp_path: Path) -> None:
    # In a container every fastmove may be process 1.
    script = """
        import os, sys
        from fastmove._sink import FileSink
        place = os.open(sys.argv[1], os.O_RDONLY)
        for number in range(1, 4):
            os.close(os.open(f".fm-{os.getpid()}-{number}.part", os.O_CREAT, dir_fd=place))
        sink = FileSink(place, b"head", False)
        sink.publish(b"object.dcm")
    """
    try:
        run(script, tmp_path)
        assert (tmp_path / "object.dcm").read_bytes() == b"head"
    finally:
        for leftover in tmp_path.glob(".fm-*"):
            leftover.unlink()


@kinds
def test_head_outlives_the_name_it_was_given_by(place: int, tmp_path: Path, unnamed: bool) -> None:
    sink = FileSink(place, bytes(200) + b"DICM" + os.urandom(10).hex().encode(), unnamed)
    gc.collect()
    rubbish = [bytes([i % 256]) * 224 for i in range(10000)]
    stored(sink, DATA)
    sink.publish(b"object.dcm")
    assert (tmp_path / "object.dcm").read_bytes()[:204] == bytes(200) + b"DICM"
    assert rubbish


def test_file_without_a_head_is_the_data_set_alone(place: int, tmp_path: Path) -> None:
    sink = FileSink(place, b"")
    stored(sink, DATA)
    sink.publish(b"object.dcm")
    assert (tmp_path / "object.dcm").read_bytes() == DATA


@kinds
def test_existing_name_is_left_alone_and_the_sink_stays_open(place: int, tmp_path: Path, unnamed: bool) -> None:
    (tmp_path / "object.dcm").write_bytes(b"first")
    sink = FileSink(place, HEAD, unnamed)
    stored(sink, DATA)
    with pytest.raises(FileExistsError) as caught:
        sink.publish(b"object.dcm")
    assert caught.value.filename == "object.dcm"
    assert (tmp_path / "object.dcm").read_bytes() == b"first"
    assert os.pread(sink.file_descriptor, 1 << 20, 0) == HEAD + DATA
    sink.publish(b"other.dcm")
    assert names(tmp_path) == ["object.dcm", "other.dcm"]
    assert (tmp_path / "other.dcm").read_bytes() == HEAD + DATA


@kinds
def test_replaced_file_is_gone(place: int, tmp_path: Path, unnamed: bool) -> None:
    (tmp_path / "object.dcm").write_bytes(b"first")
    sink = FileSink(place, HEAD, unnamed)
    sink.publish(b"object.dcm", replace=True)
    assert names(tmp_path) == ["object.dcm"]
    assert (tmp_path / "object.dcm").read_bytes() == HEAD


@kinds
def test_replacing_what_is_not_there_is_publishing(place: int, tmp_path: Path, unnamed: bool) -> None:
    FileSink(place, HEAD, unnamed).publish(b"object.dcm", replace=True)
    assert names(tmp_path) == ["object.dcm"]


@kinds
@pytest.mark.parametrize("replace", [False, True])
def test_file_is_published_in_another_directory(tmp_path: Path, unnamed: bool, replace: bool) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    if replace:
        (there / "object.dcm").write_bytes(b"first")
    with directory(here) as temporary, directory(there) as final:
        sink = FileSink(temporary, HEAD, unnamed)
        sink.publish(b"object.dcm", final, replace)
    assert names(here) == []
    assert names(there) == ["object.dcm"]
    assert (there / "object.dcm").read_bytes() == HEAD


@kinds
def test_symlink_under_the_final_name_is_not_followed(place: int, tmp_path: Path, unnamed: bool) -> None:
    target, link = tmp_path / "target", tmp_path / "object.dcm"
    link.symlink_to(target)
    sink = FileSink(place, HEAD, unnamed)
    with pytest.raises(FileExistsError):
        sink.publish(b"object.dcm")
    assert link.is_symlink()
    assert not target.exists()
    sink.publish(b"object.dcm", replace=True)
    assert not link.is_symlink()
    assert not target.exists()


@kinds
def test_directory_under_the_final_name_is_not_replaced(place: int, tmp_path: Path, unnamed: bool) -> None:
    (tmp_path / "object.dcm").mkdir()
    sink = FileSink(place, HEAD, unnamed)
    with pytest.raises(IsADirectoryError):
        sink.publish(b"object.dcm", replace=True)
    sink.discard()
    assert names(tmp_path) == ["object.dcm"]


@kinds
def test_discarded_file_leaves_nothing(place: int, tmp_path: Path, unnamed: bool) -> None:
    sink = FileSink(place, HEAD, unnamed)
    stored(sink, DATA)
    sink.discard()
    assert names(tmp_path) == []
    assert sink.file_descriptor == -1
    sink.discard()


@kinds
def test_forgotten_file_leaves_nothing(place: int, tmp_path: Path, unnamed: bool) -> None:
    sink = FileSink(place, HEAD, unnamed)
    stored(sink, DATA)
    del sink
    assert names(tmp_path) == []


@kinds
def test_file_is_closed_by_publishing(place: int, unnamed: bool) -> None:
    sink = FileSink(place, HEAD, unnamed)
    sink.publish(b"object.dcm")
    assert sink.file_descriptor == -1
    with pytest.raises(ValueError, match="closed"):
        sink.publish(b"again.dcm")
    with pytest.raises(OSError, match="Bad file descriptor"):
        sink.sync()


def test_discarded_sink_refuses_data_and_cannot_be_published(place: int, tmp_path: Path) -> None:
    sink = FileSink(place, HEAD)
    sink.discard()
    failed, complete = put(sink, DATA)
    assert isinstance(failed, SinkFailed)
    assert failed.error_number == errno.EINVAL
    assert isinstance(complete, DatasetComplete)
    with pytest.raises((OSError, ValueError)) as caught:
        sink.publish(b"object.dcm")
    assert "Success" not in str(caught.value)
    assert names(tmp_path) == []


@kinds
def test_file_cannot_be_made_where_there_is_no_directory(tmp_path: Path, unnamed: bool) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    with directory(gone) as fd:
        gone.rmdir()
        with pytest.raises(OSError, match="No such file|not permitted"):  # as the file system has it
            FileSink(fd, HEAD, unnamed)


@kinds
def test_closed_directory_is_an_error(unnamed: bool) -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        FileSink(-1, HEAD, unnamed)


@kinds
@pytest.mark.parametrize("mask", [0o000, 0o077], ids=oct)
def test_file_is_for_its_owner_alone_whatever_the_umask(place: int, tmp_path: Path, unnamed: bool, mask: int) -> None:
    before = os.umask(mask)
    try:
        FileSink(place, HEAD, unnamed).publish(b"object.dcm")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "object.dcm").stat().st_mode) == 0o600


@kinds
def test_file_in_a_setgid_directory_is_for_its_owner_alone(tmp_path: Path, unnamed: bool) -> None:
    tmp_path.chmod(0o2770)
    with directory(tmp_path) as place:
        FileSink(place, HEAD, unnamed).publish(b"object.dcm")
    assert stat.S_IMODE((tmp_path / "object.dcm").stat().st_mode) == 0o600


@kinds
def test_file_is_not_inherited_by_programs_that_are_started(place: int, unnamed: bool) -> None:
    sink = FileSink(place, HEAD, unnamed)
    assert not os.get_inheritable(sink.file_descriptor)
    sink.discard()


@pytest.mark.parametrize("fragments", [255, 256, 257, 1000])
def test_more_fragments_than_one_writev_takes_are_written_in_order(place: int, tmp_path: Path, fragments: int) -> None:
    data = b"".join(i.to_bytes(2, "big") for i in range(fragments))
    pieces = [raw.pdv(PC_ID, 0, data[at : at + 2]) for at in range(0, len(data), 2)]
    sink = FileSink(place, HEAD)
    receiver = after_command(sink)
    arrive(receiver, raw.p_data(*pieces, raw.pdv(PC_ID, raw.LAST)))
    assert isinstance(receiver.next_event(), DatasetComplete)
    sink.publish(b"object.dcm")
    assert (tmp_path / "object.dcm").read_bytes() == HEAD + data


def test_sync_writes_what_is_gathered(place: int) -> None:
    sink = FileSink(place, HEAD)
    sink.sync()
    assert os.pread(sink.file_descriptor, 100, 0) == HEAD
    sink.discard()


def test_full_disk_is_told_by_the_receiver_and_by_publish(place: int, tmp_path: Path) -> None:
    sink = FileSink(place, HEAD)
    number = fill_up(sink.file_descriptor)
    failed, _ = put(sink, DATA)
    assert isinstance(failed, SinkFailed)
    assert failed.error_number == number == errno.ENOSPC
    for _ in range(2):
        with pytest.raises(OSError, match="No space left"):
            sink.publish(b"object.dcm")
        with pytest.raises(OSError, match="No space left"):
            sink.sync()
    sink.discard()
    assert names(tmp_path) == []


def test_failed_sync_is_not_tried_again_into_success(place: int, tmp_path: Path) -> None:
    sink = FileSink(place, HEAD)
    here, there = socket.socketpair()
    with here, there:
        os.dup2(here.fileno(), sink.file_descriptor, inheritable=False)
        with pytest.raises(OSError, match="Invalid argument"):
            sink.sync()  # a socket takes the bytes, but cannot be synced
        with pytest.raises(OSError, match="Invalid argument"):
            sink.publish(b"object.dcm")
        sink.discard()
    assert names(tmp_path) == []


def test_file_size_limit_ends_the_data_set_after_a_short_write(tmp_path: Path) -> None:
    script = """
        import os, resource, sys
        from fastmove._sink import FileSink
        from tests.unit.receivers import put
        place = os.open(sys.argv[1], os.O_RDONLY)
        sink = FileSink(place, bytes(100))
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        failed, complete = put(sink, bytes(2000), fragment=300)
        print(failed.error_number, os.fstat(sink.file_descriptor).st_size, complete.nbytes)
        sink.discard()
    """
    assert run(script, tmp_path).split() == [str(errno.EFBIG), "1000", "2000"]


SLOW_READER = """
import os, signal, sys
while block := os.read(0, 3000):
    sys.stdout.buffer.write(block)
    if sys.argv[1:]:
        os.kill(os.getppid(), signal.SIGUSR1)
"""


@contextmanager
def slow_reader(reader: socket.socket, received: Path, *, interrupted: bool) -> Iterator[None]:
    """Reads in small pieces, and interrupts the writer after each; a process: a small write keeps the GIL."""
    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    command = [sys.executable, "-c", SLOW_READER, *(["interrupt"] if interrupted else [])]
    try:
        with received.open("wb") as file, subprocess.Popen(command, stdin=reader, stdout=file) as process:
            yield
        assert process.returncode == 0
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize(("blocking", "interrupted"), [(True, True), (False, False), (False, True)])
def test_short_and_interrupted_writes_lose_nothing(
    place: int, tmp_path: Path, blocking: bool, interrupted: bool
) -> None:
    data = os.urandom(1 << 20)
    received = tmp_path / "received"
    reader, writer = socket.socketpair()
    writer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    writer.setblocking(blocking)
    with reader, slow_reader(reader, received, interrupted=interrupted):
        sink = FileSink(place, HEAD)
        try:
            os.dup2(writer.fileno(), sink.file_descriptor, inheritable=False)
            stored(sink, data)
        finally:
            writer.close()
            sink.discard()
    assert received.read_bytes() == HEAD + data


def test_file_beyond_4_gib_is_written_and_published(place: int, tmp_path: Path) -> None:
    sink = FileSink(place, HEAD)
    sink.sync()
    os.lseek(sink.file_descriptor, 5 << 30, os.SEEK_SET)  # a hole, no bytes
    stored(sink, DATA)
    sink.publish(b"object.dcm")
    with (tmp_path / "object.dcm").open("rb") as file:
        assert file.seek(0, 2) == (5 << 30) + len(DATA)
        file.seek(5 << 30)
        assert file.read() == DATA
    (tmp_path / "object.dcm").unlink()
