"""fastmove under test: a listener and a requestor in the test's own loop, with short timers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from fastmove.limits import Limits
from fastmove.net.requestor import AssociationHandle, open_association
from fastmove.notices import as_dict
from fastmove.services.listener import listen
from fastmove.storage.options import WriteOptions
from fastmove.storage.target import StorageTarget
from fastmove.types import PeerAddress
from fastmove.ul.negotiation import AcceptPolicy, contexts_for, propose
from tests.integration import raw
from tests.integration.listener import ARTIM_S, Listener

if TYPE_CHECKING:
    from tests.certificates import Certificates
    from tests.integration.tls import TlsListener

TLS_S: Final = 0.3
LIMITS: Final = Limits(
    connect_s=2.0, associate_s=2.0, artim_s=ARTIM_S, release_s=2.0, idle_s=5.0, message_s=5.0, stop_s=1.0
)


@pytest.fixture
def listener_options() -> dict[str, Any]:
    """Fields of the AcceptPolicy that a test wants otherwise; parametrize to set them."""
    return {}


@pytest.fixture
def durable() -> bool:
    """Whether the listener syncs; parametrize to say yes."""
    return False


@pytest.fixture
def write_options() -> dict[str, Any]:
    """Fields of the WriteOptions that a test wants otherwise; parametrize to set them."""
    return {}


@pytest.fixture
def limits() -> Limits:
    """The bounds of the listener; parametrize to set others."""
    return LIMITS


@pytest.fixture
def listener(
    runner: asyncio.Runner,
    tmp_path: Path,
    listener_options: dict[str, Any],
    durable: bool,
    write_options: dict[str, Any],
    limits: Limits,
) -> Iterator[Listener]:
    """A storage listener; after the test it must still answer C-ECHO on a new association."""
    under_test = Listener(tmp_path / "stored")
    policy = AcceptPolicy(under_test.ae_title, **listener_options)
    with StorageTarget(under_test.directory, WriteOptions(durable=durable, **write_options)) as target:
        context = listen(under_test.host, 0, target, policy, limits, lambda notice: under_test.record(as_dict(notice)))
        under_test.port = runner.run(context.__aenter__()).port
        try:
            yield under_test
            if not listener_options.keys() & {"calling_ae_titles", "hosts"}:
                runner.run(goes_on_serving(under_test))
        finally:
            runner.run(context.__aexit__(None, None, None))


@pytest.fixture
def tls_change() -> Callable[[Certificates], dict[str, Any]]:
    """Fields of the TlsSettings of `tls_listener` that a test wants otherwise; parametrize to set them."""
    return lambda _: {}


@pytest.fixture
def tls_listener(
    runner: asyncio.Runner,
    tmp_path: Path,
    certificates: Certificates,
    tls_change: Callable[[Certificates], dict[str, Any]],
) -> Iterator[TlsListener]:
    """A storage listener with TLS; after the test it must still answer C-ECHO to who shows the right certificate."""
    from tests.integration.tls import echoes, listening  # for those who need it

    context = listening(tmp_path / "stored", certificates, LIMITS.replace(tls_s=TLS_S), **tls_change(certificates))
    under_test = runner.run(context.__aenter__())
    try:
        yield under_test
        runner.run(echoes(under_test))
    finally:
        runner.run(context.__aexit__(None, None, None))


async def goes_on_serving(listener: Listener) -> None:
    """A new association answers C-ECHO."""
    async with listener.connect() as peer:
        await peer.associate(raw.associate_rq(contexts=[raw.context_rq(3, raw.VERIFICATION)]))
        await peer.echo()
        await peer.release()


@pytest.fixture
def associate(runner: asyncio.Runner) -> Iterator[Callable[[str, int], Awaitable[AssociationHandle]]]:
    """Opens associations to a scripted acceptor; their connections are closed after the test."""
    opened: list[AssociationHandle] = []

    async def associate(host: str, port: int) -> AssociationHandle:
        contexts = contexts_for([raw.CT_IMAGE], [raw.IMPLICIT_LE])
        request = propose("FASTMOVE", "SCRIPTED", contexts)
        opened.append(await open_association(PeerAddress("SCRIPTED", host, port), request, LIMITS))
        return opened[-1]

    async def close() -> None:
        for association in opened:
            association.connection.cut()
            await association.close()

    yield associate
    runner.run(close())
