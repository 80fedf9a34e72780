"""Who may connect, by /etc/hosts.allow and /etc/hosts.deny: hosts_access(5), as TCP wrappers have it.

The first rule that names daemon and client decides, in hosts.allow for it and in hosts.deny against it; without any
the client may connect.  Of the options of hosts_options(5) `allow` and `deny` decide otherwise; commands are never run:
`spawn` is passed over, and a rule whose command would decide (`aclexec`, `twist`) decides against the client, as does
an option that nobody knows.  Nobody is asked who owns a connection (RFC 931): user names are unknown.
"""

from __future__ import annotations

import functools
import re
import socket
from collections.abc import Callable, Iterator
from fnmatch import translate
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_address
from pathlib import Path
from typing import Final

HOSTS_ALLOW: Final = Path("/etc/hosts.allow")
HOSTS_DENY: Final = Path("/etc/hosts.deny")

UNKNOWN: Final = "unknown"
"""A name or an address that cannot be found out; also a pattern."""

PARANOID: Final = "paranoid"
"""A name that does not lead back to its address; also a pattern."""

MAX_FILE_DEPTH: Final = 8
"""Files of patterns that name files of patterns; libwrap has no limit, and no answer to a file that names itself."""

# Options (hosts_options(5)): those that decide, and those that let the next one decide.
_DECIDE: Final = {"allow": True, "deny": False, "aclexec": False, "twist": False}
_PASS: Final = frozenset(
    ("banners", "group", "keepalive", "linger", "nice", "rfc931", "setenv", "severity", "spawn", "umask", "user")
)

_SEPARATORS: Final = re.compile(r"[, \t\r\n]+")
_FIELD_END: Final = re.compile(r"(?<!\\):(?![^\[\]]*\])")  # a colon outside [IPv6 address], and not escaped
_NET: Final = re.compile(r"(\d+\.\d+\.\d+\.\d+)/(\d+\.\d+\.\d+\.\d+|\d+)")
_NET6: Final = re.compile(r"\[([^]]*)\](?:/(\d+))?")
_ONE_HOST: Final = "255.255.255.255"  # no valid mask, says hosts_access(5)
_NO_SERVER: Final = UNKNOWN
"""What `daemon@host` is matched with: DCMTK does not tell libwrap which of our addresses a client connected to."""

_Rule = tuple[list[str], list[str], list[str]]
_REFUSE_ALL: Final[_Rule] = (["ALL"], ["ALL"], ["deny"])


def look_up(address: str) -> str:
    """The name of an address, `unknown` or `paranoid`; blocks as long as the resolver does."""
    try:
        name = socket.getnameinfo((address, 0), socket.NI_NAMEREQD)[0]
    except OSError:
        return UNKNOWN
    try:
        found = {entry[4][0] for entry in socket.getaddrinfo(name, None)}
    except OSError:
        return PARANOID
    return name if address in found else PARANOID


def in_netgroup(netgroup: str, name: str) -> bool:
    """True if the C library finds the host in a netgroup."""
    import ctypes

    return bool(ctypes.CDLL(None).innetgr(netgroup.encode(), name.encode(), None, None))


class Host:
    """One end of a connection; its name is looked up when a pattern asks for it, and only once."""

    def __init__(self, address: str, look_up: Callable[[str], str] = look_up) -> None:
        self.address = address.removeprefix("::ffff:") or UNKNOWN
        self._look_up = look_up

    @functools.cached_property
    def name(self) -> str:
        """The host name, `unknown` or `paranoid`."""
        return UNKNOWN if self.address == UNKNOWN else self._look_up(self.address)

    @property
    def has_name(self) -> bool:
        """True if the name is known, and leads back to the address."""
        return self.name not in (UNKNOWN, PARANOID)


def permits(daemon: str, client: Host, allow: str, deny: str) -> bool:
    """True if the texts of hosts.allow and hosts.deny let the client connect to the daemon."""
    for text, verdict in ((allow, True), (deny, False)):
        for daemons, clients, options in _rules(text):
            if _listed(daemons, lambda token: _is_daemon(token, daemon)) and _listed(
                clients, lambda token: _is_client(token, client)
            ):
                return _decide(options, verdict)
    return True


def permitted(daemon: str, client: Host) -> bool:
    """The same by the files of this machine, read anew; blocks if a name must be looked up."""
    return permits(daemon, client, _read(HOSTS_ALLOW), _read(HOSTS_DENY))


def _read(path: Path) -> str:
    """A file that is not there, or cannot be read, is empty."""
    try:
        return path.read_text("utf-8", "surrogateescape")
    except OSError:
        return ""


def _rules(text: str) -> Iterator[_Rule]:
    """Daemons, clients and options of every rule; a line that is none is passed over.

    A last line without its end is taken for a file that was cut off: whoever comes so far is refused, as by libwrap.
    """
    *lines, cut_off = text.replace("\\\n", "").split("\n")
    for line in lines:
        if line.startswith("#") or not line.strip(" \t\r"):
            continue
        daemons, *rest = _FIELD_END.split(line)
        if rest:
            options = [option.replace("\\:", ":").strip() for option in rest[1:]]
            yield _tokens(daemons), _tokens(rest[0]), options
    if cut_off:
        yield _REFUSE_ALL


def _tokens(text: str) -> list[str]:
    return [token for token in _SEPARATORS.split(text) if token]


def _decide(options: list[str], verdict: bool) -> bool:
    for number, option in enumerate(options, 1):
        keyword, *value = re.split(r"[\s=]+", option, maxsplit=1)
        keyword = keyword.lower()
        if keyword in _DECIDE:  # `allow` with a value, or before the end, is a mistake
            return _DECIDE[keyword] and number == len(options) and not any(value)
        if keyword not in _PASS:
            return False
    return verdict


def _listed(tokens: list[str], matches: Callable[[str], bool]) -> bool:
    """`list_1 EXCEPT list_2 EXCEPT list_3` is `list_1 EXCEPT (list_2 EXCEPT list_3)`."""
    upper = [token.upper() for token in tokens]
    end = upper.index("EXCEPT") if "EXCEPT" in upper else len(tokens)
    return any(map(matches, tokens[:end])) and not _listed(tokens[end + 1 :], matches)


def _is_daemon(token: str, daemon: str) -> bool:
    name, at, host = _split_at(token)
    return _text_matches(name, daemon) and (not at or _host_matches(host, Host(_NO_SERVER)))


def _is_client(token: str, client: Host) -> bool:
    user, at, host = _split_at(token)
    if not at:
        return _host_matches(token, client)
    return _host_matches(host, client) and _text_matches(user, UNKNOWN)


def _split_at(token: str) -> tuple[str, str, str]:
    """`name@host`; what begins with the sign is a netgroup."""
    name, at, host = token[1:].partition("@")
    return token[:1] + name, at, host


def _host_matches(token: str, host: Host, depth: int = 0) -> bool:
    if token.startswith("@"):
        return host.has_name and in_netgroup(token[1:], host.name)
    if token.startswith("/"):
        patterns = _tokens(_read(Path(token))) if depth < MAX_FILE_DEPTH else []
        return any(_host_matches(pattern, host, depth + 1) for pattern in patterns)
    keyword = token.upper()
    if keyword == "ALL":
        return True
    if keyword == "KNOWN":
        return host.address != UNKNOWN and host.has_name
    if keyword == "LOCAL":
        return host.has_name and "." not in host.name
    if "/" in token or token.startswith("["):
        return _net_matches(token, host.address)
    return _text_matches(token, host.address) or _text_matches(token, host.name)


def _text_matches(token: str, text: str) -> bool:
    pattern, text = token.lower(), text.lower()
    if pattern == "all":
        return True
    if pattern == "known":
        return text != UNKNOWN
    if pattern.startswith("."):
        return text.endswith(pattern) and text != pattern
    if pattern.endswith("."):
        return text.startswith(pattern)
    if "*" in pattern or "?" in pattern:
        return re.fullmatch(translate(pattern.replace("[", "[[]")), text) is not None
    return pattern == text


def _net_matches(token: str, address: str) -> bool:
    """`n.n.n.n/m.m.m.m`, `n.n.n.n/1..32`, `[n::n]/bits`; an IPv4 net with bits outside its mask matches nothing."""
    try:
        client = ip_address(address.partition("%")[0])
        if net6 := _NET6.fullmatch(token):
            return client in IPv6Network((net6[1], int(net6[2] or 128)), strict=False)
        net4 = _NET.fullmatch(token)
        if net4 is None or net4[2] in (_ONE_HOST, "0") or client.version != 4:
            return False
        mask = IPv4Address(net4[2]) if "." in net4[2] else IPv4Network(f"0.0.0.0/{net4[2]}").netmask
        return int(client) & int(mask) == int(IPv4Address(net4[1]))
    except ValueError:
        return False
