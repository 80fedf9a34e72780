"""The log: what a line says and never says, what repeats, and a place that does not take it."""

from __future__ import annotations

import errno
import os
import re
import threading
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from fastmove import notices
from fastmove.errors import ConfigurationError
from fastmove.limits import LOG_BURST, LOG_QUEUE_LINES, LOG_SUMMARY_S, MAX_LOG_LINE_BYTES, MAX_LOG_WINDOWS
from fastmove.notices import (
    AssociationClosed,
    AssociationOpened,
    InstanceRefused,
    InstanceStored,
    ManifestFailed,
    Notice,
    PeerMisbehaved,
    QueryUnresolved,
    StudyRetrieved,
)
from fastmove.observe.columns import COLUMNS, Level, escaped
from fastmove.observe.lines import LogFile, Stream
from fastmove.observe.log import Log, LogOptions, Repetition, read_key

UID: Final = "1.2.826.0.1.3680043.10.9999.1"
EVERYTHING: Final = LogOptions(Level.DEBUG)
FULL: Final = OSError(errno.ENOSPC, "full")


class Paper:
    """A place that takes lines, unless told to fail or to block."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.failures: list[OSError] = []
        self.room = threading.Event()
        self.room.set()
        self.reopened = 0

    def write(self, line: bytes) -> None:
        if not self.room.wait(5):
            raise AssertionError("nobody made room")
        if self.failures:
            raise self.failures.pop(0)
        self.lines.append(line.decode("ascii"))

    def reopen(self) -> None:
        self.reopened += 1

    def close(self) -> None:
        pass


@pytest.fixture
def paper() -> Paper:
    return Paper()


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastmove.observe.lines.LOG_RETRY_S", 0.01)


def logged(paper: Paper, *told: Notice, options: LogOptions | None = EVERYTHING) -> list[str]:
    """The lines of some notices."""
    with Log(paper, options) as log:
        for notice in told:
            log(notice)
    return paper.lines


def refused(number: int = 1, host: str = "10.0.0.9") -> PeerMisbehaved:
    return PeerMisbehaved(number, host, "rq.called_ae", "called 'NOBODY'", 4711, "STRANGER")


STORED: Final = InstanceStored(
    4, "1.2.840.10008.5.1.4.1.1.2", UID, "1.2.840.10008.1.2", 512, "DOE^J/x.dcm", "new", "", "", 0
)


# ---------------------------------------------------------------------- what a line says


def test_line_has_level_event_association_peer_and_title(paper: Paper) -> None:
    assert logged(paper, refused()) == [
        'W event=rq.called_ae assoc=1 peer=10.0.0.9:4711 aet="STRANGER" detail="called \'NOBODY\'"'
    ]


def test_lines_of_an_association_say_whose_it_is(paper: Paper) -> None:
    opened = AssociationOpened(4, "fe80::1", 104, "CT1", "ME", 3, 16384)
    stored, closed = STORED, AssociationClosed(4, "released", 1)
    lines = logged(paper, opened, stored, closed, stored)
    assert lines[0] == 'I event=assoc.opened assoc=4 peer=[fe80::1]:104 aet="CT1" called="ME" contexts=3 pdu=16384'
    assert 'peer=[fe80::1]:104 aet="CT1"' in lines[1]
    assert lines[2] == 'I event=assoc.closed assoc=4 peer=[fe80::1]:104 aet="CT1" how=released objects=1'
    assert "peer=" not in lines[3], "it is over"


def test_association_is_known_though_its_beginning_is_not_logged(paper: Paper) -> None:
    opened = AssociationOpened(4, "10.0.0.9", 104, "CT1", "ME", 3)
    refusal = InstanceRefused(4, "1.2", UID, 0xA700, "fs.write", "ENOSPC: No space left on device")
    (line,) = logged(paper, opened, refusal, options=None)
    assert line.startswith('E event=fs.write assoc=4 peer=10.0.0.9:104 aet="CT1" status=A700 class=1.2 sop=#')


def test_line_of_a_file_has_time_and_process(tmp_path: Path) -> None:
    with Log(LogFile(tmp_path / "log"), timed=True) as log:
        log(refused())
    line = (tmp_path / "log").read_text()
    assert re.match(rf"W event=rq.called_ae time=\d{{4}}-\d\d-\d\dT[\d:.]{{12}}Z pid={os.getpid()} assoc=1 ", line)
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(("level", "letters"), [("DEBUG", "DIWE"), ("INFO", "IWE"), ("WARNING", "WE"), ("ERROR", "E")])
def test_level_leaves_out_what_is_less_grave(paper: Paper, level: str, letters: str) -> None:
    told = (
        STORED,
        PeerMisbehaved(1, "h", "conn.lost"),
        refused(),
        InstanceRefused(1, "1.2", UID, 0xA700, "fs.write"),
    )
    lines = logged(paper, *told, options=LogOptions(Level[level]))
    assert "".join(line[0] for line in lines) == letters


def test_kinds_that_are_not_wanted_are_not_logged(paper: Paper) -> None:
    with Log(paper, EVERYTHING, only=frozenset((PeerMisbehaved,))) as log:
        log(STORED)
        log(refused())
    assert [line.split()[1] for line in paper.lines] == ["event=rq.called_ae"]


def test_every_notice_has_its_columns() -> None:
    assert set(COLUMNS) == set(typing.get_args(Notice))
    for kind, (level, columns) in COLUMNS.items():
        fields: Any = kind
        assert {column.field for column in columns} <= set(fields._fields)
        assert (level is None) == ("event" not in fields._field_defaults or kind in _GRADED), kind


_GRADED: Final = {ManifestFailed}
"""They have one event, whose level is in the catalogue."""


# ---------------------------------------------------------------------- what it never says


def test_uids_and_paths_are_hashed(paper: Paper) -> None:
    (line,) = logged(paper, STORED)
    assert UID not in line
    assert "DOE" not in line
    assert re.search(r" sop=#[0-9a-f]{16} bytes=512 placing=new path=#[0-9a-f]{16}$", line)


def test_hash_joins_the_lines_of_a_run_and_none_of_another(paper: Paper) -> None:
    first, again = logged(paper, STORED, STORED)
    (other,) = logged(Paper(), STORED)
    assert first == again != other


def test_hash_with_a_key_is_the_same_in_all_runs(paper: Paper) -> None:
    options = LogOptions(Level.DEBUG, key=b"0123456789abcdef")
    assert logged(paper, STORED, options=options) == logged(Paper(), STORED, options=options)
    assert logged(paper, STORED, options=options) != logged(Paper(), STORED, options=options.replace(key=b"x" * 16))


def test_uids_and_paths_are_shown_if_asked_for(paper: Paper) -> None:
    (line,) = logged(paper, STORED, options=LogOptions(Level.DEBUG, uids=True))
    assert f'sop="{UID}"' in line
    assert 'path="DOE^J/x.dcm"' in line


def test_key_is_not_in_the_repr_of_the_options() -> None:
    assert "sesame" not in repr(LogOptions(key=b"sesame"))


@pytest.mark.parametrize(
    "notice",
    [
        PeerMisbehaved(0, "h", "move.pending_detail", "no study for DOE^JOHN"),
        QueryUnresolved(("PatientName=DOE^JOHN",), "nothing of DOE^JOHN", 0),
        StudyRetrieved(
            UID, "", "REFUSED", ("move.refused",), 3, 0, 0, {UID: "DOE^JOHN"}, 0, 0xA801, "DOE^JOHN", "DOE^JOHN"
        ),
        ManifestFailed("DOE^JOHN/1.dcm", "Permission denied"),
        notices.FileSkipped("DOE^JOHN.dcm", "no DICOM: DOE^JOHN"),
        notices.FaultCommitted("drop", "DOE^JOHN"),
    ],
    ids=lambda notice: type(notice).__name__,
)
def test_words_of_a_pacs_and_keys_of_a_query_are_in_no_line(paper: Paper, notice: Notice) -> None:
    (line,) = logged(paper, notice)
    assert "DOE" not in line
    assert UID not in line


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("CT1", "CT1"),
        ("a\nW event=fake", "a\\nW event=fake"),
        ("\x1b[2J", "\\x1b[2J"),
        ("\0", "\\x00"),
        ('a"b', "a\\x22b"),
        ("\\", "\\\\"),
        ("é\u2028\udc80", "\\xe9\\u2028\\udc80"),
        ("%n%s{0}", "%n%s{0}"),
        ("x" * 64, "x" * 64),
        ("x" * 65, "x" * 61 + "..."),
        ("\x1b" * 4096, "\\x1b" * 15 + "..."),
    ],
)
def test_L02_what_a_peer_wrote_is_escaped_on_one_line_and_cut(text: str, shown: str) -> None:
    assert escaped(text) == shown


def test_L02_title_and_detail_of_any_length_make_one_short_line(paper: Paper) -> None:
    wild = "".join(map(chr, range(256))) * 16
    (line,) = logged(paper, PeerMisbehaved(1, "10.0.0.9", "rq.ae_chars", wild, 104, wild))
    assert line.isascii() and line.isprintable()
    assert len(line) < 256


def test_line_is_never_longer_than_a_pipe_takes_at_once(paper: Paper) -> None:
    with Log(paper) as log:
        log.say("x" * 5000)
    assert list(map(len, paper.lines)) == [MAX_LOG_LINE_BYTES]


# ---------------------------------------------------------------------- what repeats


def test_L05_flood_of_one_event_is_ten_lines_and_a_sum(paper: Paper) -> None:
    lines = logged(paper, *map(refused, range(15_000)))
    assert len(lines) == LOG_BURST + 1
    assert lines[-1] == f"W event=rq.called_ae peer=10.0.0.9 repeated={15_000 - LOG_BURST}"


def test_L05_flood_of_one_peer_hides_no_other(paper: Paper) -> None:
    lines = logged(
        paper, *map(refused, range(1000)), refused(host="10.0.0.7"), PeerMisbehaved(1, "10.0.0.9", "rq.host")
    )
    assert sum("10.0.0.7" in line for line in lines) == 1
    assert sum("rq.host" in line for line in lines) == 1


def test_objects_are_not_counted_as_a_flood(paper: Paper) -> None:
    assert len(logged(paper, *[STORED] * 100)) == 100


def test_sum_is_told_every_ten_seconds_until_the_peer_is_quiet() -> None:
    repetition = Repetition()
    told = [repetition.lets_through(Level.WARNING, "e", "p", 0.0) for _ in range(15)]
    assert told == [True] * 10 + [False] * 5
    assert repetition.due(LOG_SUMMARY_S - 0.1) == []
    assert repetition.due(LOG_SUMMARY_S) == [(Level.WARNING, "e", "p", 5)]
    assert not repetition.lets_through(Level.WARNING, "e", "p", 11.0), "it goes on: only counted"
    assert repetition.due(2 * LOG_SUMMARY_S) == [(Level.WARNING, "e", "p", 1)]
    assert repetition.due(3 * LOG_SUMMARY_S) == []
    assert repetition.next_due() is None
    assert repetition.lets_through(Level.WARNING, "e", "p", 31.0), "it was quiet for ten seconds"


def test_peers_without_end_take_no_memory_without_end() -> None:
    repetition = Repetition()
    through = [repetition.lets_through(Level.INFO, "e", f"p{n}", 0.0) for n in range(MAX_LOG_WINDOWS + 100)]
    assert through.count(True) == MAX_LOG_WINDOWS + LOG_BURST
    assert repetition.due(LOG_SUMMARY_S) == [(Level.INFO, "e", "*", 90)]


# ---------------------------------------------------------------------- a place that does not take it


def test_R10_place_that_blocks_blocks_nobody_and_is_told_what_it_missed(paper: Paper) -> None:
    paper.room.clear()
    with Log(paper, EVERYTHING) as log:
        for _ in range(LOG_QUEUE_LINES + 500):
            log(STORED)
        paper.room.set()
    dropped = [line for line in paper.lines if "log.dropped" in line]
    assert len(paper.lines) - len(dropped) == LOG_QUEUE_LINES
    assert sum(int(line.rpartition("=")[2]) for line in dropped) == 500


def test_R10_full_disk_keeps_lines_until_there_is_room(paper: Paper) -> None:
    paper.failures = [FULL] * 5
    with Log(paper, EVERYTHING) as log:
        log(STORED)
        while paper.failures:
            threading.Event().wait(0.001)
        log(STORED)
    assert len(paper.lines) == 2


def test_R10_place_that_fails_for_good_does_not_keep_the_program(paper: Paper) -> None:
    paper.failures = [FULL] * 10_000
    log = Log(paper, EVERYTHING)
    for _ in range(10):
        log(STORED)
    log.close()
    assert paper.lines == []
    assert log._writer.dropped == 0 or not log._writer._thread.is_alive()


def test_R10_reader_that_has_gone_is_written_to_once(paper: Paper) -> None:
    paper.failures = [BrokenPipeError(errno.EPIPE, "gone")]
    assert logged(paper, STORED, STORED) == []


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Both ends of a pipe."""
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def test_R10_pipe_that_nobody_reads_holds_nobody_up(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    os.set_blocking(writing, False)
    filling = os.write(writing, bytes(1 << 20))  # as much as fits
    os.set_blocking(writing, True)
    with open(writing, "w", closefd=False) as stream:
        log = Log(Stream(lambda: stream), EVERYTHING)
        log(STORED)
        log.close()
        assert not log._writer._thread.is_alive(), "it has given up"
    os.set_blocking(reading, False)
    assert os.read(reading, 1 << 20) == bytes(filling)


def test_full_disk_is_no_error(paper: Paper) -> None:
    with Log(LogFile(Path("/dev/full")), EVERYTHING) as log:
        log(STORED)


def test_fifo_that_nobody_reads_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(ConfigurationError, match="cannot write"):
        LogFile(tmp_path / "fifo")


def test_R10_deleted_file_is_begun_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log"
    file = LogFile(path)
    file.write(b"one")
    path.unlink()
    threading.Event().wait(0.02)  # as long as it does not look
    file.write(b"two")
    file.close()
    assert path.read_bytes() == b"two\n"


def test_T25_file_is_begun_anew_when_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastmove.observe.lines.LOG_RETRY_S", 3600.0)
    path, old = tmp_path / "log", tmp_path / "log.1"
    with Log(LogFile(path)) as log:
        log(refused(1))
        while not path.read_bytes().endswith(b"\n"):
            threading.Event().wait(0.001)
        path.rename(old)
        log.reopen()
        log(refused(2))
    assert "assoc=1 " in old.read_text()
    assert "assoc=2 " in path.read_text()


def test_torn_line_is_ended_before_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, write = tmp_path / "log", os.write
    file = LogFile(path)
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:3]))
    with pytest.raises(OSError, match="No space"):
        file.write(b"first")
    monkeypatch.undo()
    file.write(b"first")
    file.close()
    assert path.read_bytes() == b"fir\nfirst\n"


# ---------------------------------------------------------------------- the key


def test_key_is_read_from_a_file_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"0123456789abcdef")
    path.chmod(0o600)
    assert read_key(path) == b"0123456789abcdef"


@pytest.mark.parametrize(
    ("content", "mode", "complaint"),
    [(b"0123456789abcdef", 0o640, "chmod 600"), (b"short", 0o600, "fewer than 16"), (None, 0, "No such file")],
)
def test_key_that_is_no_secret_is_refused(tmp_path: Path, content: bytes | None, mode: int, complaint: str) -> None:
    path = tmp_path / "key"
    if content is not None:
        path.write_bytes(content)
        path.chmod(mode)
    with pytest.raises(ConfigurationError, match=complaint):
        read_key(path)
