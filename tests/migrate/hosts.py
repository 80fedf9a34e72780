"""Hosts at one switch, each a network namespace with an address of its own: a PACS, a PostgreSQL and those of a fleet.

    with at_one_switch(3) as site, site.database() as cluster:
        async with site.pacs(tmp_path / "pacs", spec) as pacs:
            async with site.run(1, where, tmp_path) as program:

The namespaces have no names and end with their processes, as those of `tests.integration.network` do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from fastmove.ledger.postgresql import USER
from tests.contract.postgresql import Cluster, running
from tests.integration.network import DEVICE, Host
from tests.integration.programs import Program

NETWORK: Final = "10.9.0.0/24"
PACS: Final = "10.9.0.1"
POSTGRESQL: Final = "10.9.0.2"
FIRST: Final = 11
"""The first host of the fleet is 10.9.0.11."""

PORT: Final = 11112
"""Of everybody who listens for associations: each has an address of its own."""

PEER: Final = f"FASTPACS@{PACS}:{PORT}"


class Site:
    """All of them."""

    def __init__(self, pacs: Host, postgresql: Host, hosts: Sequence[Host]) -> None:
        self._others = {PACS: pacs, POSTGRESQL: postgresql}
        self.hosts = {f"HOST{number}": host for number, host in enumerate(hosts, 1)}
        """Of the fleet, by AE title."""

    def cut_off(self, title: str, address: str) -> None:
        """No packet goes from this host to that address, or comes from there, until they `join` again."""
        self._between(title, address, "drop")

    def join(self, title: str, address: str) -> None:
        """Packets go both ways again."""
        self._between(title, address)

    def _between(self, title: str, address: str, *verdict: str) -> None:
        host = self.hosts[title]
        for here, other in ((host, address), (self._others[address], host.address)):
            here.firewall(*(f"ip saddr {other} {each}" for each in verdict))

    def database(self) -> AbstractContextManager[Cluster]:
        """A PostgreSQL that all may use."""
        return running(self._others[POSTGRESQL].within, POSTGRESQL, NETWORK)

    @staticmethod
    def url(name: str) -> str:
        """That of one of its databases, as the hosts reach it."""
        return f"postgresql://{USER}@{POSTGRESQL}/{name}"

    def pacs(self, folder: Path, synthetic: str, *faults: str) -> Program:
        """The PACS, which writes synthetic studies into this folder, and may send them to all hosts of the fleet."""
        to = [f"{title}@{host.address}:{PORT}" for title, host in self.hosts.items()]
        return self._others[PACS].program(
            *("pacs", "--host", PACS, "--port", str(PORT), "--synthetic", synthetic, "--keep", folder, "--no-durable"),
            *(word for each in to for word in ("--move-destination", each)),
            *(word for fault in faults for word in ("--fault", fault)),
        )

    def plan(self, title: str, where: str) -> Program:
        """What plans everything that the PACS has, on one of the hosts."""
        return self.hosts[title].program("migrate", "plan", where, PEER, "--aet", title, "--date", "1990..")

    def run(self, title: str, where: str, folder: Path, window: str, *options: str) -> Program:
        """The run of one of the hosts, into a folder of its own within this one."""
        return self.hosts[title].program(
            *("migrate", "run", where, PEER, "--aet", title, "--port", str(PORT), "--to", folder / title),
            *("--no-durable", "--reserve", "0", "--no-gentle", "--window", f"daily 00:00-24:00 {window}", *options),
        )


@contextmanager
def at_one_switch(number: int) -> Iterator[Site]:
    """A PACS, a PostgreSQL and so many hosts of a fleet: none of them runs anything yet."""
    addresses = (PACS, POSTGRESQL, *(f"10.9.0.{FIRST + n}" for n in range(number)))
    with ExitStack() as stack:
        switch = Host("")
        stack.callback(switch.close)
        switch.run("ip", "link", "add", "switch", "type", "bridge")
        switch.run("ip", "link", "set", "switch", "up")
        hosts = []
        for at, address in enumerate(addresses):
            host = Host(address)
            stack.callback(host.close)
            cable = ("ip", "link", "add", DEVICE, "type", "veth", "peer", "name", f"port{at}", "netns", str(switch.pid))
            host.run(*cable)
            switch.run("ip", "link", "set", f"port{at}", "master", "switch", "up")
            host.run("ip", "address", "add", f"{address}/24", "dev", DEVICE)
            host.run("ip", "link", "set", DEVICE, "up")
            hosts.append(host)
        pacs, postgresql, *fleet = hosts
        yield Site(pacs, postgresql, fleet)


class Asked(NamedTuple):
    """What the log of a PACS says of the C-MOVEs that it carried out."""

    most: int
    """Under way at once, at most."""

    under_way: Sequence[Mapping[str, Any]]
    """How those that are not over began."""

    instances: Mapping[str, Counter[str]]
    """How many it was asked for, by study and move destination."""


def asked(log: Sequence[Mapping[str, Any]]) -> Asked:
    """From its events: a move begins with `move.requested`, and ends with its answer or with its association."""
    under_way: dict[int, Mapping[str, Any]] = {}
    most = 0
    instances: dict[str, Counter[str]] = {}
    for event in log:
        match event["event"]:
            case "move.requested":
                under_way[event["association"]] = event
                of_study = instances.setdefault(event["study_instance_uid"], Counter())
                of_study[event["move_destination"]] += event["instances"]
            case "move.answered" | "assoc.closed":
                under_way.pop(event["association"], None)
        most = max(most, len(under_way))
    return Asked(most, tuple(under_way.values()), instances)
