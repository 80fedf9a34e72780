"""`--metrics`: what a command that runs for long tells Prometheus."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click

from fastmove.net.acceptor import Acceptor

if TYPE_CHECKING:
    from fastmove.bench.runner import Runner
    from fastmove.migrate.engine import Engine
    from fastmove.observe.metrics import Metrics

LOCAL: Final = "127.0.0.1"


class Address(NamedTuple):
    """Where metrics are served."""

    host: str
    port: int


class MetricsAddress(click.ParamType[Address]):
    """`PORT`, on this host alone, or `HOST:PORT`."""

    name = "address"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Address:
        """The address."""
        if isinstance(value, Address):
            return value
        host, _, port = str(value).rpartition(":")
        if not (port.isascii() and port.isdigit() and int(port) < 65536):
            self.fail(f"{value!r} is neither PORT nor HOST:PORT", param, ctx)
        return Address(host.strip("[]") or LOCAL, int(port))


metrics_option: Final = click.option(
    "--metrics",
    "metrics_at",
    type=MetricsAddress(),
    metavar="[HOST:]PORT",
    help="Serve metrics for Prometheus there, at /metrics; without HOST to this host alone. They name nobody.",
)


def serve_metrics(
    opened: ExitStack, at: Address | None, say: Callable[[str], None], process: int = 0
) -> Metrics | None:
    """Metrics until the stack is closed; None if nobody wants any.  Each further process has the next port.

    ListenFailed if the port cannot be had.
    """
    if at is None:
        return None
    from fastmove.observe.metrics import Metrics, serving  # only who wants them pays for what makes them

    metrics = Metrics()
    port = opened.enter_context(serving(metrics, at.host, at.port + process if at.port else 0))
    say(f"metrics at http://{f'[{at.host}]' if ':' in at.host else at.host}:{port}/metrics")
    return metrics


def of_listener(metrics: Metrics, acceptor: Acceptor) -> None:
    """What a listener counts anyway."""
    from fastmove.observe.metrics import Read

    metrics.read(
        Read("fastmove_objects_stored", "Objects that were stored.", lambda: acceptor.objects),
        Read("fastmove_stored_bytes", "Bytes of their data sets.", lambda: acceptor.nbytes),
        Read("fastmove_received_bytes", "Bytes that came over all connections.", lambda: acceptor.received),
        Read("fastmove_connections", "Connections that are open.", lambda: len(acceptor.connections), is_gauge=True),
    )


def of_migration(metrics: Metrics, engine: Engine) -> None:
    """How far a migration has come since this run of it began, and what holds it up."""
    from fastmove.observe.metrics import Read

    allowance = engine.allowance
    metrics.read(
        Read("fastmove_migrate_studies_complete", "Studies that were completed.", lambda: engine.complete),
        Read("fastmove_migrate_studies_parked", "Studies that were parked.", lambda: engine.parked),
        Read("fastmove_migrate_studies_put_off", "Studies that are to be tried again.", lambda: engine.tried_again),
        Read("fastmove_migrate_objects", "Objects that were stored.", lambda: engine.objects),
        Read("fastmove_migrate_bytes", "Bytes of their data sets.", lambda: engine.nbytes),
        Read("fastmove_migrate_moves", "Moves under way.", lambda: engine.moves, is_gauge=True),
        Read("fastmove_migrate_in_hand", "Studies in hand.", lambda: len(engine.claims.in_hand), is_gauge=True),
        Read("fastmove_migrate_shut", "1 while nothing may be begun.", lambda: allowance.shut, is_gauge=True),
        Read(
            "fastmove_migrate_suffering",
            "1 while the PACS is spared.",
            lambda: engine.pulse.suffers,
            is_gauge=True,
        ),
    )


def of_bench(metrics: Metrics, runner: Runner[Any]) -> None:
    """What a benchmark has measured in the run under way."""
    from fastmove.observe.metrics import Read

    def of_run(name: str) -> Callable[[], float]:
        return lambda: float(getattr(runner.measurement, name, 0))

    def of_drive(name: str) -> Callable[[], float]:
        return lambda: float(getattr(runner.drive, name, 0))

    metrics.read(
        *(
            Read(
                f"fastmove_bench_{name.removeprefix('n')}", f"{text} in the run under way.", of_run(name), is_gauge=True
            )
            for name, text in (
                ("operations", "Operations that have ended"),
                ("failed_operations", "Operations that failed"),
                ("objects", "Objects that came, or were sent"),
                ("nbytes", "Bytes of their data sets"),
            )
        ),
        Read("fastmove_bench_under_way", "Operations under way.", of_drive("under_way"), is_gauge=True),
        Read("fastmove_bench_waiting", "Operations that are due and wait.", of_drive("waiting"), is_gauge=True),
    )
