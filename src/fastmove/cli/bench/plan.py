"""The options of a load, and the plan of runs that follows from them."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final

import click

from fastmove.bench.runner import Target
from fastmove.cli.metrics import Address, metrics_option
from fastmove.cli.options import Peer, all_of
from fastmove.errors import ConfigurationError
from fastmove.limits import Limits
from fastmove.types import PeerAddress
from fastmove.uids import TRANSFER_SYNTAXES
from fastmove.values import Value

MOST_UNDER_WAY: Final = 32
"""Operations at once in an open loop, unless told otherwise: a peer has a limit, and what is due can wait."""


class Numbers(click.ParamType[tuple[int, ...]]):
    """One number, or several separated by commas: a sweep."""

    name = "n[,n...]"

    def __init__(self, least: int, most: int) -> None:
        self._least, self._most = least, most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """The numbers, each once."""
        if isinstance(value, tuple):
            return value
        parts = str(value).split(",")
        if not all(part.isascii() and part.isdigit() and self._least <= int(part) <= self._most for part in parts):
            self.fail(f"{value!r}: give numbers from {self._least} to {self._most}, separated by commas", param, ctx)
        return tuple(dict.fromkeys(map(int, parts)))


also_option: Final = click.option(
    "--also",
    type=Peer(),
    multiple=True,
    metavar="PEER",
    help="Measure this one, too, in turn with the first: the same PACS with TLS, by another way, or another PACS with "
    "the same studies. Can be repeated.",
)


def load_options(what: str) -> Callable[[Any], Any]:
    """The options of a load of such operations; `Plan.of` takes their values by name."""
    return all_of(
        click.option(
            "--parallel",
            type=Numbers(1, 256),
            default=(),
            metavar="N[,N...]",
            help=f"{what} at once (closed loop): as soon as one ends the next begins. Several numbers are a sweep. "
            f"With --rate the most that may be under way.  [default: 1; with --rate {MOST_UNDER_WAY}]",
        ),
        click.option("--ramp", is_flag=True, help="Find the knee: 1 at once, 2, 3, 4, 6 ... while throughput grows."),
        click.option(
            "--ramp-to",
            type=click.IntRange(2, 256),
            default=32,
            show_default=True,
            metavar="N",
            help="No more than these.",
        ),
        click.option(
            "--rate",
            type=click.FloatRange(min=0, min_open=True),
            metavar="PER-SECOND",
            help="So many a second at random moments (open loop), whatever becomes of them; latencies count from when "
            "each was due.",
        ),
        click.option("--count", type=click.IntRange(min=1), metavar="N", help=f"{what} of a run."),
        click.option(
            "--duration",
            type=click.FloatRange(min=0, min_open=True),
            metavar="SECONDS",
            help="Length of a run; what there is to ask for is asked for again and again.",
        ),
        click.option(
            "--warm-up",
            type=click.FloatRange(min=0),
            default=0.0,
            show_default=True,
            metavar="SECONDS",
            help="At the beginning of a run, not counted.",
        ),
        click.option(
            "--repeat",
            type=click.IntRange(1, 100),
            default=1,
            show_default=True,
            metavar="N",
            help="Each run so often: without repetitions nobody knows how far chance goes.",
        ),
        click.option(
            "--max-pdu",
            "max_pdus",
            type=Numbers(4096, 16 << 20),
            default=str(Limits().max_pdu_length),
            show_default=True,
            metavar="N[,N...]",
            help="Longest PDU to announce, in bytes.",
        ),
        click.option("--new-associations", is_flag=True, help="An association for each of them."),
        metrics_option,
        click.option(
            "--pacs-metrics",
            metavar="URL",
            help="Where the PACS serves metrics of its own (Prometheus): asked for before and after each run, and what "
            "changed is in the result.",
        ),
        click.option(
            "--seed", type=click.IntRange(min=0), default=1, show_default=True, help="Chance follows from it."
        ),
    )


_PLANNED: Final = (
    "parallel",
    "ramp",
    "ramp_to",
    "rate",
    "count",
    "duration",
    "warm_up",
    "repeat",
    "max_pdus",
    "new_associations",
    "seed",
    "metrics_at",
    "pacs_metrics",
)


class TransferSyntaxes(click.ParamType[tuple[str, ...]]):
    """Keywords or UIDs of transfer syntaxes, separated by commas."""

    name = "ts[,ts...]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """The keywords; `any` is empty."""
        if isinstance(value, tuple):
            return value
        found = []
        for part in str(value).split(","):
            keyword = "" if part == "any" else _KEYWORDS.get(part.lower(), part)
            if keyword and not transfer_syntax_uid(keyword):
                self.fail(f"{part!r} is no transfer syntax, such as ExplicitVRLittleEndian", param, ctx)
            found.append(keyword)
        return tuple(dict.fromkeys(found))


_KEYWORDS: Final = {row.keyword.lower(): row.keyword for row in TRANSFER_SYNTAXES.values()} | {
    uid: row.keyword for uid, row in TRANSFER_SYNTAXES.items()
}
_UIDS: Final = {row.keyword: uid for uid, row in TRANSFER_SYNTAXES.items()}


def transfer_syntax_uid(keyword: str) -> str:
    """That of a keyword; empty for none."""
    return _UIDS.get(keyword, "")


def planned_of(options: dict[str, Any]) -> dict[str, Any]:
    """Of the options of a command those of its load, which are taken out."""
    return {name: options.pop(name) for name in _PLANNED}


class Point(Value):
    """What differs between the runs of one benchmark."""

    parallel: int
    rate_per_s: float | None
    max_pdu_length: int
    level: str = ""
    transfer_syntax: str = ""
    peer: str = ""
    """Empty: the one that the command is for."""


class Plan(Value):
    """What is run: points, each several times."""

    points: tuple[Point, ...]
    repetitions: int
    ramp_to: int | None
    duration_s: float | None
    warm_up_s: float
    count: int | None
    seed: int
    new_associations: bool
    metrics_at: Address | None = None
    pacs_metrics: str | None = None

    @classmethod
    def of(
        cls,
        *,
        parallel: tuple[int, ...],
        ramp: bool,
        ramp_to: int,
        rate: float | None,
        count: int | None,
        duration: float | None,
        warm_up: float,
        repeat: int,
        max_pdus: tuple[int, ...],
        new_associations: bool,
        seed: int,
        metrics_at: Address | None = None,
        pacs_metrics: str | None = None,
        levels: Sequence[str] = ("",),
        transfer_syntaxes: Sequence[str] = ("",),
        also: Sequence[PeerAddress] = (),
    ) -> Plan:
        """What the options mean together; ConfigurationError if they contradict each other."""
        if ramp and (rate is not None or parallel):
            raise ConfigurationError("--ramp", "finds out how many at once by itself: leave --rate and --parallel out")
        if warm_up and duration is None:
            raise ConfigurationError("--warm-up", "needs a --duration that it is the beginning of")
        if duration is not None and warm_up >= duration:
            raise ConfigurationError("--warm-up", f"{warm_up:g} s leave nothing of {duration:g} s to measure")
        at_once = (1,) if ramp else parallel or ((1,) if rate is None else (MOST_UNDER_WAY,))
        peers = ["", *map(str, also)]
        varied = itertools.product(at_once, [rate], max_pdus, levels, transfer_syntaxes, peers)
        points = tuple(Point(*each) for each in varied)
        if ramp and len(points) > 1:
            raise ConfigurationError("--ramp", "varies how many at once and nothing else: give one of everything")
        if pacs_metrics is not None:
            from fastmove.observe.scrape import checked  # it is for few

            checked(pacs_metrics)
        return cls(
            points,
            repeat,
            ramp_to if ramp else None,
            duration,
            warm_up,
            count,
            seed,
            new_associations,
            metrics_at,
            pacs_metrics,
        )

    def asked(self, what: str, once: int | None) -> str:
        """What the peer will be asked for, in words; `once` is how many there are if each is asked for once."""
        runs = len(self.points) * self.repetitions
        number = self.count if self.duration_s is not None else self.count or once
        many = "as many as it takes" if number is None else f"{number:,}"
        lasting = "" if self.duration_s is None else f" for {self.duration_s:g} s each"
        at_once = sorted({point.parallel for point in self.points})
        return (
            f"{runs} run{'s' * (runs != 1)}{lasting}, {what} in each: {many}, "
            f"at once: {', '.join(map(str, at_once))}{', then more while it pays' * (self.ramp_to is not None)}"
        )

    def scenario(self, target: Target, **more: Any) -> dict[str, Any]:
        """For the result: what it takes to do the same again."""
        return {
            "peer": str(target.peer),
            "arguments": sys.argv[1:],
            "ae_title": target.ae_title,
            "duration_s": self.duration_s,
            "warm_up_s": self.warm_up_s,
            "count": self.count,
            "repetitions": self.repetitions,
            "seed": self.seed,
            "new_associations": self.new_associations,
            "tls": target.peer.tls is not None,
            **more,
        }
