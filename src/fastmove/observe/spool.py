"""Audit messages on their way: kept on the disk while their sink does not take them, so that none is lost."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from fastmove.errors import ConfigurationError
from fastmove.limits import LOG_RETRY_S, MAX_SPOOL_BYTES
from fastmove.notices import HostStrained, Observer
from fastmove.observe.audit import AuditTrail
from fastmove.observe.lines import LineWriter
from fastmove.observe.syslog import Sink
from fastmove.types import Objection


class Spool:
    """Messages in a file, a line each, in the order in which they came; ConfigurationError if it cannot be used.

    What a killed process has left is there again; of messages that were on their way some may be sent twice.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            self._fd = os.open(path, flags, 0o600)
        except OSError as error:
            raise ConfigurationError("audit spool", f"cannot write {path}: {error.strerror}") from error
        self._size = os.fstat(self._fd).st_size
        self._sent = 0

    @property
    def empty(self) -> bool:
        """True if nothing waits."""
        return self._sent >= self._size

    def add(self, message: str) -> None:
        """Keep one more; OSError if there is no room for it."""
        data = message.encode("ascii") + b"\n"
        if self._size + len(data) > MAX_SPOOL_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if os.write(self._fd, data) < len(data):
            os.ftruncate(self._fd, self._size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fdatasync(self._fd)
        self._size += len(data)

    def waiting(self) -> Iterator[str]:
        """Each message that waits; asked for the next one, it takes the one before for sent."""
        while not self.empty:
            message, found, _ = self._read().partition(b"\n")
            if found:
                yield message.decode("ascii", "replace")
            # else it is torn: the process that wrote it has said of none that it is kept
            self._sent += len(message) + 1
        self._sent = self._size = 0
        os.ftruncate(self._fd, 0)

    def _read(self) -> bytes:
        length = 64 << 10
        while True:
            data = os.pread(self._fd, length, self._sent)
            if b"\n" in data or len(data) < length:
                return data
            length *= 2

    def close(self) -> None:
        """Close it; what waits stays, an empty one goes."""
        if self.empty:
            self.path.unlink(missing_ok=True)
        os.close(self._fd)


class _Delivery:
    """The place that messages are written to: the sink, or the spool as long as the sink takes none."""

    def __init__(self, sink: Sink, spool: Spool | None, notify: Observer) -> None:
        self._sink = sink
        self._spool = spool
        self._notify = notify
        self.down = False

    def write(self, line: bytes) -> None:
        message = line.decode("ascii")
        if self._spool is None:
            try:
                self._deliver(message)
            except OSError as error:  # whatever it is, the sink may come back: EPIPE would be for good
                raise OSError(errno.EIO, str(error)) from error
        elif self.down or not self._spool.empty:
            self._spool.add(message)
        else:
            try:
                self._deliver(message)
            except OSError:
                self._spool.add(message)

    def _deliver(self, message: str | None) -> None:
        """Send it; None: see whether it could be."""
        try:
            if message is None:
                self._sink.open()
            else:
                self._sink.send(message)
        except OSError as error:
            if not self.down:
                self.down = True
                kept = "messages wait in memory" if self._spool is None else "messages are spooled"
                self._notify(HostStrained("audit.failed", f"{error.strerror or type(error).__name__}; {kept}"))
            raise
        if self.down:
            self.down = False
            self._notify(HostStrained("audit.restored"))

    def retry(self) -> None:
        """See whether the sink takes messages, and send what waits; OSError."""
        self._deliver(None)
        if self._spool is not None and not self._spool.empty:
            for message in self._spool.waiting():
                self._deliver(message)

    @property
    def waits(self) -> bool:
        return self.down or (self._spool is not None and not self._spool.empty)

    def reopen(self) -> None:
        self._sink.close()

    def close(self) -> None:
        self._sink.close()
        if self._spool is not None:
            self._spool.close()


class AuditWriter:
    """Sends messages by a thread of its own; nobody who has one sent waits for the sink.

    `watch`: look at the sink even if there is nothing to send, so that `objection` is up to date.
    """

    def __init__(
        self, sink: Sink, spool: Spool | None, notify: Observer, close_s: float, *, watch: bool = False
    ) -> None:
        self._delivery = _Delivery(sink, spool, notify)
        self._watch = watch
        self._name = sink.name
        self._looked = float("-inf")
        self._trail: AuditTrail | None = None
        self._dropped: Callable[[int], str] = str
        self._lines = LineWriter(
            self._delivery, lambda number: self._dropped(number), self._tick, name="audit", close_s=close_s
        )

    def serve(self, trail: AuditTrail) -> None:
        """The trail that is written: it is asked from time to time what it has held back."""
        self._dropped = trail.lost
        self._trail = trail

    def send(self, message: str) -> None:
        """Have it sent."""
        self._lines.write(message)

    def objection(self) -> Objection | None:
        """Why no association should be accepted now, if every one has to be audited."""
        return Objection("audit.required", "the audit trail cannot be written") if self._delivery.down else None

    def reopen(self) -> None:
        """Begin a file anew, or connect anew."""
        self._lines.reopen()

    def close(self) -> None:
        """Send what is there, or have the spool keep it."""
        self._lines.close()

    def _tick(self) -> float | None:
        now = time.monotonic()
        due = None if self._trail is None else self._trail.tick(now)
        pauses = [] if due is None else [due - now]
        if self._delivery.waits or self._watch or self._looked < 0:
            if now - self._looked >= LOG_RETRY_S:
                self._looked = now
                try:
                    self._delivery.retry()
                except OSError:
                    pass  # told already; it is tried again
            pauses.append(LOG_RETRY_S)
        return max(min(pauses), 0.0) if pauses else None
