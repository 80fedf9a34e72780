"""The vocabulary: AE titles, peers, presentation contexts, and what the receive path reports.

The values that drive the Upper Layer state machine live here, so that `ul` can name them
without knowing the compiled receiver that makes them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, NamedTuple

from fastmove.errors import ConfigurationError
from fastmove.limits import AE_TITLE_BYTES
from fastmove.values import Value

if TYPE_CHECKING:
    from fastmove.credentials import TlsSettings, UserIdentity

IMPLEMENTATION_CLASS_UID: Final = "2.25.261605382073377655708291806201210383432"
"""Who we are on the wire and in file meta (PS3.7 D.3.3.2, PS3.10 7.1)."""

IMPLEMENTATION_VERSION_NAME: Final = "FASTMOVE_0.1"

VERSION: Final = "0.1.0"
"""That of the package, known without importing what reads the metadata of packages."""

VERSION_DATE: Final = "2026-11-23"
"""When this version was made, as movescu's first line says it."""


def ae_title(text: str, what: str = "AE title") -> str:
    """The AE title without insignificant spaces; ConfigurationError if it is none (PS3.5 6.2, VR AE)."""
    title = text.strip(" ")
    if not title or len(title) > AE_TITLE_BYTES:
        raise ConfigurationError(what, f"{text!r} must have 1 to {AE_TITLE_BYTES} characters")
    if any(not " " <= c <= "~" or c == "\\" for c in title):
        raise ConfigurationError(what, f"{text!r} must be printable ASCII without a backslash")
    return title


class PeerAddress(Value):
    """A DICOM node: AE title, host, port; and how it is spoken to."""

    ae_title: str
    host: str
    port: int

    tls: TlsSettings | None = None
    """None: without TLS."""

    user: UserIdentity | None = None
    """Who we say to be; None: it is not said."""

    @classmethod
    def parse(cls, text: str) -> PeerAddress:
        """`AET@HOST:PORT`, with `[...]` around an IPv6 address; ConfigurationError otherwise."""
        title, at, address = text.rpartition("@")
        host, colon, port = address.rpartition(":")
        if not at or not colon or not host:
            raise ConfigurationError("peer", f"{text!r} is not AET@HOST:PORT")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        if not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
            raise ConfigurationError("peer", f"port {port!r} in {text!r} must be 1 to 65535")
        return cls(ae_title(title), host, int(port))

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.ae_title}@{host}:{self.port}"


class Objection(NamedTuple):
    """Why no association is to be accepted for now: a log event, and its detail."""

    key: str
    detail: str


Readiness = Callable[[], Objection | None]
"""What stands in the way of another association, None if nothing does; asked on the loop's thread, it never waits."""


def first_objection(ready: Iterable[Readiness]) -> Objection | None:
    """What the first says that has an objection; None if nobody has one."""
    return next(filter(None, (objection() for objection in ready)), None)


class ProposedContext(Value):
    """A presentation context as proposed: odd ID, abstract syntax, transfer syntaxes in order (PS3.8 9.3.2.2)."""

    context_id: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]


class PresentationContext(Value):
    """An accepted presentation context, with the roles that the requestor may play (PS3.7 D.3.3.4)."""

    context_id: int
    abstract_syntax: str
    transfer_syntax: str
    scu: bool = True
    scp: bool = False


# What drives an Association (ul/association.py).


class ControlPdu(Value):
    """A whole PDU other than P-DATA-TF: its type, and its bytes after the 6-byte header."""

    pdu_type: int
    data: bytes


class InvalidPdu(Value):
    """The byte stream broke a rule: `reason` is a log event, `offset` counts bytes from the stream's start."""

    reason: str
    offset: int = -1
    detail: str = ""


class UnexpectedData(Value):
    """A P-DATA-TF PDU came in a state that does not allow one."""

    offset: int = -1


class TransportOpened(Value):
    """The TCP connection is there: Evt2 for the requestor, Evt5 for the acceptor."""


class TransportClosed(Value):
    """The TCP connection is gone (Evt17)."""


class TimerExpired(Value):
    """ARTIM ran out (Evt18)."""
