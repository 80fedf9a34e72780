"""Metrics in Prometheus's form: counted from notices, and read from what counts anyway, when somebody asks.

Nothing is pushed, and nothing is done for each object: who asks for the metrics pays for them.  No label says who or
what was transferred.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from fastmove import notices
from fastmove.errors import ListenFailed
from fastmove.notices import Notice
from fastmove.types import VERSION

ANSWER_S: Final = 5.0
"""A loop that does not answer in this time is stuck, and the request for metrics fails."""

Labels = tuple[str, ...]


class Counted(NamedTuple):
    """How often something was told of."""

    name: str
    text: str
    labels: Labels = ()
    read: Callable[[Any], Labels] = lambda _: ()
    """The values of the labels, of a notice."""


def _event(notice: Any) -> Labels:
    return (notice.event,)


_EVENTS: Final = Counted("fastmove_events", "What was odd, by the key that it has in the log.", ("event",), _event)

COUNTED: Final[dict[type, Counted]] = {
    notices.AssociationOpened: Counted("fastmove_associations_opened", "Associations that were accepted."),
    notices.AssociationClosed: Counted(
        "fastmove_associations_closed", "Associations that ended.", ("how",), lambda notice: (notice.how,)
    ),
    notices.InstanceRefused: Counted("fastmove_objects_refused", "Objects that were refused.", ("reason",), _event),
    notices.EchoReceived: Counted("fastmove_echoes", "C-ECHOs that were answered."),
    notices.TlsOpened: Counted(
        "fastmove_tls_opened", "TLS connections.", ("version",), lambda notice: (notice.version,)
    ),
    notices.PeerMisbehaved: _EVENTS,
    notices.HostStrained: _EVENTS,
    notices.ManifestFailed: _EVENTS,
    notices.ErrorOccurred: _EVENTS,
}
"""Notice → what it counts for; others count for nothing."""


class Read(NamedTuple):
    """Something that is counted, or is so, anyway."""

    name: str
    text: str
    read: Callable[[], float]
    is_gauge: bool = False
    """It may become less."""


class Metrics(Collector):
    """An observer, and what a scrape is told; made in the loop, which is asked for what is read."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, Labels]] = Counter()
        self._reads: list[Read] = []
        self._loop = asyncio.get_running_loop()

    def __call__(self, notice: Notice) -> None:
        """Count it."""
        counted = COUNTED.get(type(notice))
        if counted is not None:
            self._counts[counted.name, counted.read(notice)] += 1

    def read(self, *several: Read) -> None:
        """Tell of these, too."""
        self._reads += several

    def collect(self) -> Iterable[Metric]:
        """All metrics, called by a thread; TimeoutError if the loop is stuck."""
        counts, values = self._asked(self._now).result(ANSWER_S)
        yield InfoMetricFamily("fastmove", "The program.", {"version": VERSION})
        for counted in dict.fromkeys(COUNTED.values()):
            family = CounterMetricFamily(counted.name, counted.text, labels=counted.labels)
            found = {labels: count for (name, labels), count in counts.items() if name == counted.name}
            for labels, count in sorted(found.items() if counted.labels else [((), found.get((), 0))]):
                family.add_metric(labels, count)
            yield family
        for each, value in values:
            kind = GaugeMetricFamily if each.is_gauge else CounterMetricFamily
            yield kind(each.name, each.text, value=value)

    def describe(self) -> Iterable[Metric]:
        """Nothing before it is asked for."""
        return ()

    def _now(self) -> tuple[Counter[tuple[str, Labels]], list[tuple[Read, float]]]:
        return Counter(self._counts), [(each, each.read()) for each in self._reads]

    def _asked(self, what: Callable[[], Any]) -> Future[Any]:
        """What the loop says: what is read belongs to it."""
        answer: Future[Any] = Future()

        def tell() -> None:
            try:
                answer.set_result(what())
            except BaseException as error:  # noqa: BLE001  whoever asked is told, the loop goes on
                answer.set_exception(error)

        self._loop.call_soon_threadsafe(tell)
        return answer


@contextmanager
def serving(metrics: Metrics, host: str, port: int) -> Iterator[int]:
    """Metrics by HTTP for the length of a block; the port, that of 0 being a free one.  ListenFailed."""
    registry = CollectorRegistry()
    registry.register(metrics)
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        raise ListenFailed(host, port, error) from error
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
