"""Descriptions of stored objects by threads: when all up to a moment are there, whatever order they come in."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from tests.unit.test_manifest import notice, write

from fastmove.storage import entries as module
from fastmove.storage.digest import sha256_of
from fastmove.storage.entries import Entries, Entry


class Gates:
    """Holds back the digests of files of these sizes until they are let through."""

    def __init__(self, *sizes: int) -> None:
        self.events = {size: threading.Event() for size in sizes}

    def __call__(self, fd: int) -> tuple[str, int]:
        digest, nbytes = sha256_of(fd)
        if (gate := self.events.get(nbytes)) is not None:
            assert gate.wait(10)
        return digest, nbytes


def unreadable(path: str, error: OSError) -> None:
    raise AssertionError(path)


def test_settled_when_all_before_are_written_and_not_sooner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, third = (write(tmp_path, f"{number}.dcm", f"1.2.{'9' * number}") for number in (1, 2, 3))
    gates = Gates(len(first), len(third))
    monkeypatch.setattr(module, "sha256_of", gates)
    written: list[Entry] = []
    entries = Entries(tmp_path, written.append, unreadable)
    assert entries.settled().done()
    entries.record(notice(tmp_path / "1.dcm"))
    entries.record(notice(tmp_path / "2.dcm"))
    settled = entries.settled()
    entries.record(notice(tmp_path / "3.dcm"))
    later = entries.settled()
    assert not settled.done()  # the second may be written, and the first is not
    gates.events[len(first)].set()
    settled.result(10)
    assert {entry.path for entry in written} == {"1.dcm", "2.dcm"}
    assert not later.done()
    gates.events[len(third)].set()
    later.result(10)
    assert len(written) == 3
    entries.close()


def test_close_waits_for_all_that_is_due(tmp_path: Path) -> None:
    write(tmp_path, "1.dcm")
    written: list[Entry] = []
    entries = Entries(tmp_path, written.append, unreadable)
    for _ in range(50):
        entries.record(notice(tmp_path / "1.dcm"))
    settled = entries.settled()
    entries.close()
    assert len(written) == 50
    assert settled.done()


def test_who_waits_no_longer_keeps_nobody_else_from_being_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = write(tmp_path, "1.dcm")
    gates = Gates(len(content))
    monkeypatch.setattr(module, "sha256_of", gates)
    monkeypatch.setattr(module, "BACKLOG", 2)
    entries = Entries(tmp_path, lambda _: None, unreadable)
    busy = [entries.found("1.dcm", len(content)) for _ in range(4)]
    waiting = [entries.settled() for _ in range(3)]
    assert busy[3] is not None
    assert busy[2] is not None
    assert waiting[0].cancel()
    assert busy[2].cancel()
    gates.events[len(content)].set()
    for each in (*waiting[1:], busy[3]):
        each.result(10)
    entries.found("1.dcm", len(content))
    entries.settled().result(10)
    entries.close()
