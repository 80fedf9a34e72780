"""The options that say where everything of a migration goes, and what is made of them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from fastmove.cli.options import (
    LayoutTemplate,
    Peer,
    all_of,
    group_readable_option,
    modes,
    no_durable_option,
    on_duplicate_option,
    reserve_option,
    sanitize_option,
    strict_option,
    unsolicited_option,
)
from fastmove.errors import ConfigurationError
from fastmove.ledger.model import Batch
from fastmove.migrate.attribute_file import read_rules
from fastmove.migrate.destination import Destination, Write
from fastmove.migrate.files import Files
from fastmove.migrate.forward import Forward, Proof
from fastmove.migrate.third_party import ThirdParty
from fastmove.notices import Observer
from fastmove.services.retrieve.config import RetrieveConfig
from fastmove.services.storage_commitment import CommitmentReceiver
from fastmove.storage.options import OnDuplicate, Unsolicited, WriteOptions
from fastmove.storage.template import naming
from fastmove.types import PeerAddress
from fastmove.values import Value

_FOLDER: Final = click.Path(path_type=Path, file_okay=False)

destination_options: Final = all_of(
    click.option("--to", "directory", type=_FOLDER, metavar="DIR", help="Folder for the objects."),
    click.option(
        "--layout",
        type=LayoutTemplate(),
        default="series",
        show_default=True,
        metavar="LAYOUT",
        help="Folders and names of the files, as for `retrieve`.  With a folder for each study its manifest is in "
        "there.",
    ),
    click.option(
        "--forward", type=Peer(), metavar="PEER", help="Send everything on to this PACS, instead of keeping it."
    ),
    click.option(
        "--spool",
        type=_FOLDER,
        metavar="DIR",
        help="With --forward: where objects are until it is proved that the other PACS has their study.",
    ),
    click.option(
        "--forward-parallel",
        type=click.IntRange(1, 64),
        default=4,
        show_default=True,
        metavar="N",
        help="With --forward: associations that send.",
    ),
    click.option(
        "--proof",
        type=click.Choice([each.value for each in Proof]),
        default=Proof.AUTO.value,
        show_default=True,
        help="With --forward: what proves that the other PACS has a study: that it commits to each object (storage "
        "commitment), that each is on its list (C-FIND), the first of these that it can do, or its Success alone.",
    ),
    click.option(
        "--third-party",
        type=Peer(),
        metavar="PEER",
        help="Have the PACS send everything straight to this one, which it knows by its AE title; both are asked what "
        "they have (C-FIND).",
    ),
    click.option(
        "--rules",
        "rules_file",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help="Attributes that are changed before objects are stored (TOML); see `fastmove migrate rules`.  "
        "[default: objects are stored as they come]",
    ),
    sanitize_option,
    on_duplicate_option,
    unsolicited_option,
    strict_option,
    reserve_option,
    no_durable_option,
    group_readable_option,
)
"""A verb with a destination; `Placing.of` takes their values by name."""


class Placing(Value):
    """Where everything goes; `made` opens it."""

    options: WriteOptions
    directory: Path | None
    forward: PeerAddress | None
    spool: Path | None
    parallel: int
    proof: Proof
    rules_file: Path | None
    reserve: int | None
    third_party: PeerAddress | None

    @classmethod
    def of(
        cls,
        *,
        directory: Path | None,
        layout: str,
        forward: PeerAddress | None,
        spool: Path | None,
        forward_parallel: int,
        proof: str,
        rules_file: Path | None,
        third_party: PeerAddress | None,
        sanitize: bool,
        on_duplicate: str,
        unsolicited: str,
        strict: bool,
        reserve: int | None,
        durable: bool,
        group_readable: bool,
    ) -> Placing:
        """What the options mean together; ConfigurationError if they contradict each other."""
        if sum(each is not None for each in (directory, forward, third_party)) != 1:
            raise ConfigurationError("--to", "say where everything goes: --to, --forward or --third-party, one of them")
        if (spool is None) != (forward is None):
            raise ConfigurationError("--spool", "goes with --forward: a folder for what is on its way")
        if rules_file is not None and third_party is not None:
            raise ConfigurationError("--rules", "cannot change what the PACS sends straight to a --third-party")
        options = WriteOptions(
            durable=durable,
            on_duplicate=OnDuplicate(on_duplicate),
            naming=naming(layout, sanitize=sanitize),
            modes=modes(group_readable=group_readable),
            strict=strict,
            unsolicited=Unsolicited(unsolicited),
        )
        return cls(options, directory, forward, spool, forward_parallel, Proof(proof), rules_file, reserve, third_party)

    def made(
        self,
        batch: Batch,
        write: Write,
        config: RetrieveConfig,
        reports: CommitmentReceiver,
        notify: Observer | None,
    ) -> Destination:
        """The destination; raises what it does, and ConfigurationError for the rules.

        Rules count as resolved upon when the batch was planned, however often it is run.
        """
        options = self.options
        if self.rules_file is not None:
            options = options.replace(rules=read_rules(self.rules_file, batch.created_at))
        if self.third_party is not None:
            return ThirdParty(self.third_party, config, write)
        if self.directory is not None:
            return Files(self.directory, options, write, reserve=self.reserve, notify=notify)
        assert self.forward is not None and self.spool is not None
        return Forward(
            self.forward,
            config.ae_title,
            self.spool,
            options,
            write,
            parallel=self.parallel,
            proof=self.proof,
            limits=config.limits,
            reports=reports,
            reserve=self.reserve,
            notify=notify,
        )
