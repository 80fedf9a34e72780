"""Connections that have no association yet: how many there may be, of whom, and what they may cost."""

from __future__ import annotations

from typing import Final, Protocol

from fastmove.limits import Limits

CONNECTION_BYTES: Final = 16 << 10
"""What a connection costs that has sent nothing: objects, and the kernel's part (measured: 12 KiB)."""


class Applicant(Protocol):
    """A connection that may become an association."""

    host: str

    @property
    def buffered(self) -> int:
        """Bytes of memory that what it has sent takes up."""

    def turn_away(self, why: str) -> None:
        """Close it without an answer: there is no room for it (PS3.8 9.1.5 leaves that to the acceptor)."""


class Pending:
    """Keeps connections without an association within the limits: one more, or a byte more, and another has to go.

    Of too many it is the oldest of the host that has most: whoever means it sends its request at once, and whoever
    floods us drives out himself.  Of too much memory it is the one that has taken most, the oldest of several.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._sizes: dict[Applicant, int] = {}
        self._of_host: dict[str, dict[Applicant, None]] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._sizes)

    @property
    def nbytes(self) -> int:
        """What they cost together."""
        return self._bytes

    def add(self, applicant: Applicant) -> None:
        """A connection was made."""
        limits, host = self._limits, applicant.host
        self._sizes[applicant] = 0
        here = self._of_host.setdefault(host, {})
        here[applicant] = None
        self.grew(applicant)
        if len(here) > limits.max_pending_per_host:
            why = f"more than {limits.max_pending_per_host} connections without an association from {host}"
            self._turn_away(next(iter(here)), why)
        elif len(self._sizes) > limits.max_pending:
            most = max(self._of_host.values(), key=len)
            self._turn_away(next(iter(most)), f"more than {limits.max_pending} connections without an association")

    def grew(self, applicant: Applicant) -> None:
        """It has sent something."""
        if applicant not in self._sizes:
            return
        size = CONNECTION_BYTES + applicant.buffered
        self._bytes += size - self._sizes[applicant]
        self._sizes[applicant] = size
        if self._bytes > self._limits.pending_bytes:
            why = f"more than {self._limits.pending_bytes:,} bytes for connections without an association"
            self._turn_away(max(self._sizes, key=self._sizes.__getitem__), why)

    def _turn_away(self, applicant: Applicant, why: str) -> None:
        self.remove(applicant)
        applicant.turn_away(why)

    def remove(self, applicant: Applicant) -> None:
        """It has an association now, or it is gone; nothing if it is none of these connections any more."""
        size = self._sizes.pop(applicant, None)
        if size is None:
            return
        self._bytes -= size
        here = self._of_host[applicant.host]
        del here[applicant]
        if not here:
            del self._of_host[applicant.host]
