"""Which hosts may send to us: addresses, networks, and what names lead to.

Names are resolved forward, once.  Nobody is ever asked what the name of a host that connects is (reverse DNS): whoever
has that address decides what the answer is, and how long it takes.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from fastmove.errors import ConfigurationError

ANY: Final = "any"
"""Every host."""

_LOOPBACK: Final = frozenset(map(ip_address, ("127.0.0.1", "::1")))

_MAPPED_BITS: Final = 96
"""What comes before an IPv4 address that is written as one of IPv6 (RFC 4291 2.5.5.2)."""

_NAME: Final = re.compile(r"[^\s/@:,\[\]%-][^\s/@:,\[\]%]{0,252}")
"""Of a host: resolvers know better, but what was meant to be something else is no name."""

_DISCARD_PORT: Final = 9
"""Nothing is sent there: a datagram socket is only asked which way it would go."""

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


class AllowedHosts:
    """`address in hosts`, of an address as text.

    Both loopback addresses are one host; where one of the entries is this host, so are its other addresses.
    ConfigurationError for an entry that says nothing.
    """

    def __init__(self, entries: Iterable[str]) -> None:
        self.names: list[str] = []
        """Entries that are names; `resolve` finds out what they lead to."""
        self._any = False
        self._addresses: set[Address] = set()
        self._networks: list[Network] = []
        self._here = False
        for entry in entries:
            self._take(entry)

    def _take(self, entry: str) -> None:
        parsed = parse(entry)
        if parsed == ANY:
            self._any = True
        elif isinstance(parsed, str):
            self.names.append(parsed)
        elif isinstance(parsed, IPv4Network | IPv6Network):
            self._networks.append(parsed)
        else:
            self._add(parsed)

    def add(self, address: str) -> None:
        """This one, too; what is no address is passed over."""
        parsed = _address(address)
        if parsed is not None:
            self._add(parsed)

    def _add(self, address: Address) -> None:
        if address not in self._addresses:
            self._addresses.add(address)
            self._here = self._here or is_ours(address)

    async def resolve(self) -> None:
        """Look the names up; ConfigurationError for one that leads nowhere."""
        for name in self.names:
            for address in await addresses_of(name):
                self.add(address)

    def __contains__(self, host: object) -> bool:
        if self._any:
            return True
        address = _address(host) if isinstance(host, str) else None
        if address is None:
            return False
        bare = _without_zone(address)
        if address in self._addresses or bare in self._addresses or any(bare in network for network in self._networks):
            return True
        return self._here and is_ours(bare)


def parse(entry: str) -> Address | Network | str:
    """What an entry means: an address, a network (CIDR), `any`, or the name of a host; ConfigurationError."""
    text = entry.strip().removeprefix("[").removesuffix("]")
    if text.lower() == ANY:
        return ANY
    if (address := _address(text)) is not None:
        return address
    if "/" in text:
        try:
            network = ip_network(text, strict=False)
        except ValueError as error:
            raise ConfigurationError("accept-host", f"{entry!r} is no network: {error}") from None
        return _unmapped(network)
    if _NAME.fullmatch(text) and not text.replace(".", "").isdigit():
        return text
    raise ConfigurationError(
        "accept-host", f"{entry!r} is no address, network (10.0.0.0/24), name of a host or {ANY!r}"
    )


async def addresses_of(name: str) -> list[str]:
    """The addresses that a name leads to, itself if it is one; ConfigurationError for none."""
    if _address(name) is not None:
        return [name]
    try:
        found = await asyncio.get_running_loop().getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise ConfigurationError("accept-host", f"{name!r} leads to no address: {why}") from None
    return [str(address[0]) for *_, address in found]


def is_ours(address: Address) -> bool:
    """True for an address of this host; of 127.0.0.0/8 only 127.0.0.1 is, so that others may stand for other hosts."""
    if address.is_loopback:
        return address in _LOOPBACK
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            # What we would reach over itself is here; to bind it would say nothing where foreign ones may be bound.
            probe.connect((str(address), _DISCARD_PORT))
            return _address(probe.getsockname()[0]) == address
    except OSError:
        return False


def _address(text: str) -> Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return address if mapped is None else mapped


def _without_zone(address: Address) -> Address:
    return address if isinstance(address, IPv4Address) or not address.scope_id else IPv6Address(int(address))


def _unmapped(network: Network) -> Network:
    mapped = network.network_address.ipv4_mapped if isinstance(network, IPv6Network) else None
    if mapped is None or network.prefixlen < _MAPPED_BITS:
        return network
    return IPv4Network((mapped, network.prefixlen - _MAPPED_BITS))
