"""Two hosts with a network between them: namespaces, joined by a veth pair or by a wire of ours (catalogue, 5.1).

    with network() as net, net.here.entered():  # sockets made in here are those of 10.9.0.1
        async with net.there.program("pacs", ...):

The namespaces have no names and belong to processes that end with their input: whatever becomes of the test, nothing
of them stays, and tests side by side do not see each other's.
"""

from __future__ import annotations

import asyncio
import ctypes
import fcntl
import os
import random
import struct
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple, Self

from tests.integration.programs import Program
from tests.lanes import SEARCH_PATH

HERE: Final = "10.9.0.1"
THERE: Final = "10.9.0.2"
ELSEWHERE: Final = "10.9.0.3"
"""A second address of the host there."""

CLONE_NEWNET: Final = 0x40000000
TUNSETIFF: Final = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
DEVICE: Final = "wire0"
PACKET_BYTES: Final = 65536

_libc = ctypes.CDLL(None, use_errno=True)


def _enter(namespace: int) -> None:
    if _libc.setns(namespace, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


class Host:
    """A network namespace, with what one does there."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._holder = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "echo; exec cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._holder.stdout is not None and self._holder.stdin is not None
        assert self._holder.stdout.readline() == b"\n", "unshare --net failed"
        self._namespace = os.open(f"/proc/{self._holder.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self.run("ip", "link", "set", "lo", "up")

    def close(self) -> None:
        """End it, and all its devices and rules with it."""
        os.close(self._namespace)
        self._holder.communicate()

    @property
    def pid(self) -> int:
        """Of the process that the namespace belongs to."""
        return self._holder.pid

    @property
    def within(self) -> tuple[str, ...]:
        """What to put before a command that is to run there."""
        return ("nsenter", f"--net=/proc/{self.pid}/ns/net", "--")

    def run(self, *command: str, text: str | None = None) -> str:
        """Run a command there, with this input; what it says."""
        ended = subprocess.run(
            [*self.within, *command], input=text, text=True, capture_output=True, env=os.environ | {"PATH": SEARCH_PATH}
        )
        assert ended.returncode == 0, f"{' '.join(command)}: {ended.stderr}"
        return ended.stdout

    def program(self, *arguments: str | Path, env: Mapping[str, str] | None = None) -> Program:
        """The `fastmove` command there."""
        program = Program(*arguments, env=env)
        program.arguments[:0] = self.within
        return program

    @contextmanager
    def entered(self) -> Iterator[Self]:
        """Sockets that this thread makes within the block are the host's."""
        own = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _enter(self._namespace)
            try:
                yield self
            finally:
                _enter(own)
        finally:
            os.close(own)

    # ------------------------------------------------------------------ what goes wrong

    def link(self, state: str) -> None:
        """Have its end of the cable `up` or `down`."""
        self.run("ip", "link", "set", DEVICE, state)

    def firewall(self, *rules: str) -> None:
        """These rules, in the language of nft, for packets that come; none: no firewall."""
        chain = "".join(f"add rule ip fault come {rule}\n" for rule in rules)
        self.run(
            *("nft", "-f", "-"),
            text="add table ip fault\ndelete table ip fault\nadd table ip fault\n"
            f"add chain ip fault come {{ type filter hook input priority 0; }}\n{chain}",
        )

    def sends_to_port_from(self, port: int, address: str) -> None:
        """What it sends to this port comes from another address of its own."""
        self.run(
            *("nft", "-f", "-"),
            text="add table ip other\nadd chain ip other go { type nat hook postrouting priority 100; }\n"
            f"add rule ip other go tcp dport {port} snat to {address}\n",
        )

    def bandwidth(self, rate: str) -> None:
        """What it sends, as tc has it: `50mbit`."""
        self.run(
            "tc", "qdisc", "replace", "dev", DEVICE, "root", "tbf", "rate", rate, "burst", "32kb", "latency", "50ms"
        )

    def kill_connections(self, *filters: str) -> int:
        """End those that ss finds, as an administrator does; how many there were."""
        return len(self.run("ss", "-K", "-H", "-t", "-n", *filters).splitlines())


class Network(NamedTuple):
    """Two hosts that reach each other."""

    here: Host
    there: Host


@contextmanager
def _hosts() -> Iterator[Network]:
    with ExitStack() as stack:
        hosts = []
        for address in (HERE, THERE):
            hosts.append(Host(address))
            stack.callback(hosts[-1].close)
        yield Network(*hosts)


@contextmanager
def network() -> Iterator[Network]:
    """Two hosts with a cable between them, whose packets are those of an Ethernet."""
    with _hosts() as net:
        here, there = net
        here.run("ip", "link", "add", DEVICE, "type", "veth", "peer", "name", DEVICE, "netns", str(there.pid))
        for host in net:
            # A packet that is lost is one frame, not 64 KiB that the kernel would have cut later.
            host.run("ip", "link", "set", DEVICE, "gso_max_segs", "1", "up")
            host.run("ip", "address", "add", f"{host.address}/24", "dev", DEVICE)
        there.run("ip", "address", "add", f"{ELSEWHERE}/24", "dev", DEVICE)
        yield net


@dataclass
class Wire:
    """Carries packets between two hosts as it is told: late, out of order, twice, or not at all.

    What netem does, where the kernel has none.  The seed makes the order of its decisions, not of the packets.
    """

    latency_s: float = 0.0
    jitter_s: float = 0.0
    """Added to the latency of each packet, at random from 0 to this: those that are luckier overtake."""
    loss: float = 0.0
    """The probability that a packet does not arrive."""
    duplicates: float = 0.0
    """The probability that it arrives twice."""
    seed: int = 0
    carried: int = field(default=0, init=False)
    overtaken: int = field(default=0, init=False)
    """Packets that arrived after one that left later."""

    @contextmanager
    def between(self) -> Iterator[Network]:
        """Two hosts at its ends; in a running loop, which carries the packets."""
        self._random = random.Random(self.seed)
        self._loop = asyncio.get_running_loop()
        self._latest: dict[int, float] = {}
        self._connected = True
        with _hosts() as net, ExitStack() as stack:
            ends = [self._attach(host, other.address, stack) for host, other in (net, reversed(net))]
            for source, sink in (ends, reversed(ends)):
                self._loop.add_reader(source, self._carry, source, sink)
                stack.callback(self._loop.remove_reader, source)
            try:
                yield net
            finally:
                self._connected = False

    @staticmethod
    def _attach(host: Host, peer: str, stack: ExitStack) -> int:
        with host.entered():
            device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        stack.callback(os.close, device)
        with host.entered():
            fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH14x", DEVICE.encode(), IFF_TUN | IFF_NO_PI))
        host.run("ip", "address", "add", host.address, "peer", peer, "dev", DEVICE)
        host.run("ip", "link", "set", DEVICE, "up")
        return device

    def _carry(self, source: int, sink: int) -> None:
        try:
            packet = os.read(source, PACKET_BYTES)
        except BlockingIOError:
            return
        if self._random.random() < self.loss:
            return
        for _ in range(2 if self._random.random() < self.duplicates else 1):
            due = self._loop.time() + self.latency_s + self._random.uniform(0, self.jitter_s)
            latest = self._latest.get(sink, 0.0)
            self.overtaken += due < latest
            self._latest[sink] = max(due, latest)
            self._loop.call_at(due, self._deliver, sink, packet)

    def _deliver(self, sink: int, packet: bytes) -> None:
        if self._connected:
            self.carried += 1
            os.write(sink, packet)
