"""What the verbs of a migration share: the ledger and the batch that they are about."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import click

from fastmove.cli.options import all_of
from fastmove.errors import ConfigurationError
from fastmove.ledger.model import Batch
from fastmove.ledger.reading import Reading
from fastmove.ledger.store import Ledger

BATCH: Final = "migration"
"""The batch of a ledger that has but one."""

ledger_argument: Final = click.argument("where", metavar="LEDGER")

batch_option: Final = click.option(
    "--batch", metavar="NAME", help="Which of the ledger, if it has several.  [default: the only one]"
)

of_a_batch: Final[Callable[[Any], Any]] = all_of(ledger_argument, batch_option)
"""A verb about a batch of a ledger."""


def is_shared(where: str) -> bool:
    """True for a database that several hosts may use, and no file."""
    return "://" in where


@asynccontextmanager
async def opened(where: str, batch: str | None, *, read_only: bool = False) -> AsyncIterator[tuple[Ledger, Batch]]:
    """A ledger that is there, and its batch; LedgerError, ConfigurationError if it is not clear which."""
    async with Ledger.open(where, read_only=read_only) as ledger:
        yield ledger, await chosen_batch(ledger, batch)


async def chosen_batch(ledger: Reading, batch: str | None) -> Batch:
    """The one of that name, or the only one; LedgerError, ConfigurationError if it is not clear which."""
    if batch is not None:
        return await ledger.batch(batch)
    batches = await ledger.batches()
    if len(batches) != 1:
        names = ", ".join(each.name for each in batches)
        why = f"say which: {names}" if batches else "nothing is planned in it: begin with `fastmove migrate plan`"
        raise ConfigurationError("--batch", why)
    return batches[0]
