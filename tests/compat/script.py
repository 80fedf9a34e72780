"""A scenario as data: what the peer of the program under test does, step by step."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Final, Protocol

from tests.compat.tape import CLOSED, Channel, Tape
from tests.integration import raw
from tests.integration.scripted import Link, Pdu, ScriptedRequestor

HOST: Final = "127.0.0.1"
C_MOVE_RQ: Final = 0x0021
LINK_S: Final = 20.0

Change = Mapping[int, bytes | None]
Context = tuple[int, str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class Object:
    """What a C-STORE brings: the data set as bytes in its transfer syntax, and what the command says of it."""

    instance: str
    data: bytes
    sop_class: str = raw.CT_IMAGE
    transfer_syntax: str = raw.EXPLICIT_LE


class Step(Protocol):
    """One step of a script."""

    async def run(self, channel: Channel, play: Play) -> None:
        """Do it on this association."""


# ---------------------------------------------------------------- steps of any association


@dataclass(frozen=True, slots=True)
class Send:
    """Send these bytes."""

    data: bytes

    async def run(self, channel: Channel, play: Play) -> None:
        await channel.send(self.data)


@dataclass(frozen=True, slots=True)
class Hear:
    """Wait for the next thing that the program does."""

    async def run(self, channel: Channel, play: Play) -> None:
        await channel.hear()


@dataclass(frozen=True, slots=True)
class Close:
    """End the connection by FIN."""

    async def run(self, channel: Channel, play: Play) -> None:
        channel.close()


@dataclass(frozen=True, slots=True)
class Reset:
    """End the connection by RST."""

    async def run(self, channel: Channel, play: Play) -> None:
        channel.open = False
        channel.link.reset()


@dataclass(frozen=True, slots=True)
class Until:
    """Wait for an event that another association sets by `Tell`."""

    event: str

    async def run(self, channel: Channel, play: Play) -> None:
        await play.event(self.event).wait()


@dataclass(frozen=True, slots=True)
class Tell:
    """Set an event."""

    event: str

    async def run(self, channel: Channel, play: Play) -> None:
        play.event(self.event).set()


# ---------------------------------------------------------------- steps of the move association


@dataclass(frozen=True, slots=True)
class Accept:
    """A-ASSOCIATE-AC: each context with the transfer syntax given, else with the first that was proposed."""

    syntaxes: Mapping[int, str] = field(default_factory=dict)
    results: Mapping[int, int] = field(default_factory=dict)
    max_length: int = 16384
    calling: bytes | None = None
    contexts: Sequence[bytes] | None = None

    async def run(self, channel: Channel, play: Play) -> None:
        answers = [
            raw.context_ac(number, self.results.get(number, 0), self.syntaxes.get(number, syntaxes[0]))
            for number, (_, syntaxes) in channel.proposed.items()
        ]
        answer = raw.associate_ac(
            answers if self.contexts is None else self.contexts,
            called=channel.called,
            calling=channel.calling if self.calling is None else self.calling,
            user_items=raw.max_length(self.max_length) + raw.item(0x52, "1.2.826.0.1.3680043.10.9999.1"),
        )
        await channel.send(answer)


@dataclass(frozen=True, slots=True)
class Respond:
    """A C-MOVE-RSP to the last request; counters are remaining, completed, failed, warning."""

    status: int = 0
    counters: Sequence[int | None] = (None, None, None, None)
    identifier: bytes | None = None
    change: Change = field(default_factory=dict)
    context_id: int = 3
    announced: bool | None = None
    """Whether the command says that an identifier follows; None: whether it does."""

    async def run(self, channel: Channel, play: Play) -> None:
        await channel.send(self.message(channel))

    def message(self, channel: Channel) -> bytes:
        """The bytes."""
        assert channel.request is not None
        fields = channel.request.fields
        announced = self.identifier is not None if self.announced is None else self.announced
        change: dict[int, bytes | None] = {raw.AFFECTED_SOP_CLASS: fields.get(raw.AFFECTED_SOP_CLASS)}
        if announced:
            change[raw.DATA_SET_TYPE] = raw.us(1)
        number = int.from_bytes(fields.get(raw.MESSAGE_ID, b"\1\0"), "little")
        command = raw.c_move_rsp(number, self.status, self.counters, {**change, **self.change})
        return raw.message(self.context_id, command, self.identifier)


@dataclass(frozen=True, slots=True)
class Glued:
    """Several responses in one P-DATA-TF PDU."""

    responses: Sequence[Respond]

    async def run(self, channel: Channel, play: Play) -> None:
        await channel.send(raw.p_data(*(answer.message(channel)[6:] for answer in self.responses)))


# ---------------------------------------------------------------- steps of a storage association


@dataclass(frozen=True, slots=True)
class Store:
    """C-STORE an object over the context that was accepted for it, and wait for the answer."""

    object: Object
    message_id: int = 1
    change: Change = field(default_factory=dict)
    fragment: int = 16000
    last: bool = True
    """False: the last fragment is left out, and no answer is waited for."""

    async def run(self, channel: Channel, play: Play) -> None:
        wanted = play.contexts[channel.name]
        own = self.object
        fitting = [
            n for n, abstract, syntaxes in wanted if abstract == own.sop_class and own.transfer_syntax in syntaxes
        ]
        usable = [n for n in fitting if channel.accepted.get(n) == (0, own.transfer_syntax)]
        if not usable:
            channel.tape.write(channel.name, f"no context for {own.instance}")
            return
        command = raw.c_store_rq(own.instance, self.message_id, own.sop_class, self.change)
        message = raw.message(usable[0], command, own.data, fragment=self.fragment)
        if self.last:
            await channel.send(message)
            await channel.hear()
        else:
            *_, fragment = range(0, len(own.data), self.fragment)
            await channel.send(message[: -(12 + len(own.data) - fragment)])


@dataclass(frozen=True, slots=True)
class Echo:
    """C-ECHO, and wait for the answer."""

    message_id: int = 1

    async def run(self, channel: Channel, play: Play) -> None:
        number = next(n for n, abstract, _ in play.contexts[channel.name] if abstract == raw.VERIFICATION)
        await channel.send(raw.message(number, raw.c_echo_rq(self.message_id)))
        await channel.hear()


@dataclass(frozen=True, slots=True)
class Release:
    """A-RELEASE-RQ, and wait for the answer, which ends the connection."""

    async def run(self, channel: Channel, play: Play) -> None:
        await channel.send(raw.release_rq())
        if channel.open:
            await channel.hear()


# ---------------------------------------------------------------- storage associations as steps of the move


@dataclass(frozen=True, slots=True)
class Storage:
    """A storage association from its A-ASSOCIATE-RQ to its end.

    `early`: connected as soon as the program has connected, so that a program that looks at its listener once a
    second finds it there at its first look.
    """

    steps: Sequence[Step]
    name: str = "store"
    contexts: Sequence[Context] | None = None
    associate: Mapping[str, object] = field(default_factory=dict)
    early: bool = True
    first: bytes | None = None
    """These bytes instead of an A-ASSOCIATE-RQ; then nobody waits for an answer."""

    def wanted(self) -> Sequence[Context]:
        """The contexts to propose: those given, or one for each class and syntax that the steps need."""
        if self.contexts is not None:
            return self.contexts
        objects = [step.object for step in self.steps if isinstance(step, Store)]
        pairs = dict.fromkeys((own.sop_class, own.transfer_syntax) for own in objects)
        if any(isinstance(step, Echo) for step in self.steps):
            pairs[raw.VERIFICATION, raw.IMPLICIT_LE] = None
        return [(2 * index + 1, abstract, (syntax,)) for index, (abstract, syntax) in enumerate(pairs)]

    async def connect(self, play: Play) -> None:
        """Connect, and say the first thing."""
        requestor = ScriptedRequestor(HOST, play.listen_port, LINK_S)
        try:
            await play.stack.enter_async_context(requestor)
        except ConnectionRefusedError:
            play.tape.write(self.name, "connection refused")
            return
        channel = play.channels[self.name] = Channel(self.name, requestor, play.tape)
        play.contexts[self.name] = wanted = self.wanted()
        rows = [raw.context_rq(number, abstract, syntaxes) for number, abstract, syntaxes in wanted]
        fields = {"called": "MOVESCU", "calling": "PACS", "contexts": rows, **self.associate}
        await channel.send(raw.associate_rq(**fields) if self.first is None else self.first)

    async def run(self, channel: Channel, play: Play) -> None:
        if self.name not in play.channels:
            await self.connect(play)
        if (own := play.channels.get(self.name)) is None:
            return
        if self.first is None and await own.hear() == CLOSED:
            return
        await play.steps(own, self.steps)


@dataclass(frozen=True, slots=True)
class On:
    """Go on with a storage association that was left open."""

    name: str
    steps: Sequence[Step]

    async def run(self, channel: Channel, play: Play) -> None:
        await play.steps(play.channels[self.name], self.steps)


@dataclass(frozen=True, slots=True)
class Together:
    """Several steps at once."""

    members: Sequence[Step]

    async def run(self, channel: Channel, play: Play) -> None:
        await asyncio.gather(*(step.run(channel, play) for step in self.members))


# ---------------------------------------------------------------- the scenario and its performance

ACCEPTS: Final[Sequence[Step]] = (Accept(),)
RELEASES: Final[Sequence[Step]] = (Send(raw.release_rp()), Hear())
SUCCEEDS: Final[Sequence[Step]] = (Respond(),)
STUDY_KEYS: Final = ("-S", "-k", "0008,0052=STUDY", "-k", "0020,000D=1.2.3")


@dataclass(frozen=True)
class Scenario:
    """A command line, and a peer that does what it is told to."""

    name: str
    options: Sequence[str] = ()
    moves: Sequence[Sequence[Step]] = (SUCCEEDS,)
    """What follows the n-th C-MOVE-RQ; the last one again for all later ones."""
    connect: Sequence[Step] = ACCEPTS
    release: Sequence[Step] = RELEASES
    keys: Sequence[str] = STUDY_KEYS
    queries: Sequence[str] = ()
    listen: bool | None = None
    """Whether +P is given; None: if an object is to come, or something is said of where it goes."""
    peer: tuple[str, str] = (HOST, "{peer}")
    files: Mapping[str, bytes] = field(default_factory=dict)
    """What lies in the working directory before; a name that ends in a slash is a directory."""
    modes: Mapping[str, int] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    privileged: bool = True
    deadline_s: float = 15.0

    def __str__(self) -> str:
        return self.name

    @property
    def listens(self) -> bool:
        """Whether +P is given."""
        storing = any(isinstance(step, Storage | Together) for steps in self.moves for step in steps)
        return storing or "-od" in self.options if self.listen is None else self.listen


class Play:
    """One performance of a scenario, as a script of `ScriptedAcceptor`."""

    def __init__(self, scenario: Scenario, tape: Tape, listen_port: int) -> None:
        self.scenario = scenario
        self.tape = tape
        self.listen_port = listen_port
        self.stack = AsyncExitStack()
        self.channels: dict[str, Channel] = {}
        self.contexts: dict[str, Sequence[Context]] = {}
        self._events: dict[str, asyncio.Event] = {}

    def event(self, name: str) -> asyncio.Event:
        """The event with this name."""
        return self._events.setdefault(name, asyncio.Event())

    async def steps(self, channel: Channel, steps: Sequence[Step]) -> None:
        """Run the steps as long as the association is there."""
        for step in steps:
            if not channel.open:
                break
            await step.run(channel, self)

    async def run(self, link: Link, received: list[Pdu]) -> None:
        """From the first PDU to the end of the connection, and of what the script opened."""
        channel = Channel("move", link, self.tape)
        link.deadline = LINK_S
        moves = iter(self.scenario.moves)
        steps: Sequence[Step] = ()
        async with self.stack:
            if await channel.hear() == CLOSED:
                return
            await self._connect_early()
            await self.steps(channel, self.scenario.connect)
            while channel.open:
                kind = await channel.hear()
                if kind == C_MOVE_RQ:
                    steps = next(moves, steps)
                    await self.steps(channel, steps)
                elif kind == raw.RELEASE_RQ:
                    await self.steps(channel, self.scenario.release)

    async def _connect_early(self) -> None:
        steps = [member for step in self.scenario.moves[0] for member in (*getattr(step, "members", ()), step)]
        first = next((step for step in steps if isinstance(step, Storage)), None)
        if first is not None and first.early and self.scenario.listens:
            await first.connect(self)
