"""Addresses, networks and names that may send to us."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any

import pytest

from fastmove.errors import ConfigurationError
from fastmove.net.allowed_hosts import AllowedHosts, addresses_of, is_ours, parse


@pytest.mark.parametrize(
    ("entries", "inside", "outside"),
    [
        (["10.0.0.7"], ["10.0.0.7", "::ffff:10.0.0.7"], ["10.0.0.8", "::1", "::a00:7"]),
        (["::ffff:10.0.0.7"], ["10.0.0.7"], ["10.0.0.8"]),
        (["10.0.0.0/24"], ["10.0.0.0", "10.0.0.255", "::ffff:10.0.0.3"], ["10.0.1.0", "9.255.255.255", "::"]),
        (["10.0.0.77/24"], ["10.0.0.1"], ["10.0.1.1"]),
        (["::ffff:10.0.0.0/120"], ["10.0.0.9"], ["10.0.1.9"]),
        (["2001:db8::/32"], ["2001:db8::1", "2001:0db8:0::2"], ["2001:db9::1", "32.1.13.184"]),
        (["[2001:db8::5]"], ["2001:db8::5"], ["2001:db8::6"]),
        (["fe80::1"], ["fe80::1", "fe80::1%eth0"], ["fe80::2%eth0"]),
        (["fe80::1%eth0"], ["fe80::1%eth0"], ["fe80::1%eth1", "fe80::1"]),
        (["fe80::/10"], ["fe80::1%eth7"], ["fec0::1"]),
        (["127.0.0.1"], ["127.0.0.1", "::1", "::ffff:127.0.0.1"], ["127.0.0.2", "10.0.0.1"]),
        (["::1"], ["127.0.0.1"], ["127.0.0.2", "::2"]),
        (["127.0.0.2"], ["127.0.0.2"], ["127.0.0.1", "::1", "127.0.0.3"]),
        (["10.0.0.7", "10.0.0.9"], ["10.0.0.7", "10.0.0.9"], ["10.0.0.8"]),
        (["any"], ["10.0.0.7", "::1", ""], []),
        (["10.0.0.7", "ANY"], ["10.0.0.8"], []),
        ([], [], ["127.0.0.1", "::1", "10.0.0.7"]),
    ],
    ids=str,
)
def test_address_is_allowed_or_not(entries: Sequence[str], inside: Sequence[str], outside: Sequence[str]) -> None:
    hosts = AllowedHosts(entries)
    assert [host for host in inside if host not in hosts] == []
    assert [host for host in outside if host in hosts] == []


@pytest.mark.parametrize("host", ["", "/run/socket", "pacs.example", "10.0.0", "10.0.0.7 ", None, 7])
def test_what_is_no_address_is_not_allowed(host: object) -> None:
    assert host not in AllowedHosts(["10.0.0.7", "0.0.0.0/0", "::/0"])


@pytest.mark.parametrize(
    "entry", ["", " ", "10.0.0.300", "10.0.0", "10.0.0.0/33", "10.0.0.0/x", "pacs/24", "PACS@10.0.0.7:104", "a:b", "-h"]
)
def test_entry_that_says_nothing_is_an_error(entry: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        AllowedHosts([entry])
    assert caught.value.field == "accept-host"


@pytest.mark.parametrize("name", ["pacs", "pacs-7.example.org", "pacs_7", "3com.example", "müller.example"])
def test_anything_else_is_the_name_of_a_host(name: str) -> None:
    assert parse(name) == name
    assert AllowedHosts([name, "10.0.0.7"]).names == [name]


def resolver(monkeypatch: pytest.MonkeyPatch, **found: Sequence[str]) -> list[str]:
    """A resolver that knows these names with _ for .; which it was asked for."""
    asked: list[str] = []

    async def getaddrinfo(_: object, name: str, port: None, **__: object) -> list[tuple[Any, ...]]:
        asked.append(name)
        if name not in found:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in found[name]]

    monkeypatch.setattr("asyncio.base_events.BaseEventLoop.getaddrinfo", getaddrinfo)
    return asked


@pytest.fixture
def loop_factory() -> Any:
    """One whose resolver can be another."""
    import asyncio

    return asyncio.new_event_loop


async def test_names_are_resolved_once_and_forward(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = resolver(monkeypatch, pacs=["10.0.0.7", "2001:db8::7"], other=["10.0.0.8"])
    hosts = AllowedHosts(["pacs", "other", "10.9.0.0/16"])
    assert "10.0.0.7" not in hosts
    await hosts.resolve()
    assert [host in hosts for host in ("10.0.0.7", "2001:db8::7", "10.0.0.8", "10.0.0.9")] == [True, True, True, False]
    assert asked == ["pacs", "other"], "whoever connects is not looked up"


async def test_name_that_leads_nowhere_is_an_error_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    resolver(monkeypatch)
    with pytest.raises(ConfigurationError, match="'nowhere' leads to no address: Name or service not known"):
        await AllowedHosts(["nowhere"]).resolve()


async def test_address_needs_no_resolver(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = resolver(monkeypatch)
    assert await addresses_of("10.0.0.7") == ["10.0.0.7"]
    assert asked == []


def test_address_that_is_added_is_allowed() -> None:
    hosts = AllowedHosts(["10.0.0.7"])
    hosts.add("10.0.0.8")
    hosts.add("")
    assert ("10.0.0.8" in hosts, "" in hosts) == (True, False)


@pytest.mark.parametrize(
    ("address", "ours"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("127.0.0.2", False),
        ("192.0.2.1", False),
        ("0.0.0.0", False),
        ("255.255.255.255", False),
        ("fe80::1", False),
    ],
)
def test_address_of_this_host(address: str, ours: bool) -> None:
    assert is_ours(ip_address(address)) is ours


def test_pacs_on_this_host_may_send_from_any_address_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = {ip_address(each) for each in ("127.0.0.1", "::1", "10.0.0.5")}
    monkeypatch.setattr("fastmove.net.allowed_hosts.is_ours", lambda address: address in ours)
    for pacs in ("127.0.0.1", "10.0.0.5"):
        hosts = AllowedHosts([pacs])
        assert [each in hosts for each in ("127.0.0.1", "::1", "10.0.0.5", "10.0.0.7")] == [True, True, True, False]
    assert "10.0.0.5" not in AllowedHosts(["10.0.0.7"])
