"""What the package brings for pytest: a PACS for the tests of other programs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from fastmove.testing import Pacs


@pytest.fixture
def fastmove_pacs() -> Iterator[Callable[..., Pacs]]:
    """Makes PACS that run until the end of the test; its arguments are those of `fastmove.testing.Pacs`."""
    from fastmove.testing import Pacs  # only tests that have a PACS need what it is made of

    with ExitStack() as running:

        def pacs(**options: Any) -> Pacs:
            return running.enter_context(Pacs(**options))

        yield pacs
