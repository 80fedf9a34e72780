"""The options that say where everything of a migration goes, and what is made of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import click

from fastmove.cli.options import (
    LayoutTemplate,
    Peer,
    Size,
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
from fastmove.migrate.attribute_file import read_rules, rules_digest
from fastmove.migrate.bucket import SCHEME, Access, Bucket, parse_bucket
from fastmove.migrate.destination import Destination, Write
from fastmove.migrate.files import Files
from fastmove.migrate.forward import Forward, Proof
from fastmove.migrate.object_store import ObjectStore
from fastmove.migrate.spool import Answer
from fastmove.migrate.third_party import ThirdParty
from fastmove.migrate.uploads import LEAST_PART_BYTES, PART_BYTES, Verify
from fastmove.notices import Observer
from fastmove.services.retrieve.config import RetrieveConfig
from fastmove.services.storage_commitment import CommitmentReceiver
from fastmove.storage.options import OnDuplicate, Unsolicited, WriteOptions
from fastmove.storage.template import naming
from fastmove.types import PeerAddress
from fastmove.values import Value

_FOLDER: Final = click.Path(path_type=Path, file_okay=False)
_IDENTITY: Final = ("to", "s3-endpoint", "forward", "third-party")
"""Options that say which destination it is."""


class Place(click.ParamType[Path | Bucket]):
    """A folder, or a place in an object store."""

    name = "place"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path | Bucket:
        """A path, or what `s3://bucket/prefix` means."""
        if isinstance(value, Path | Bucket):
            return value
        if not str(value).startswith(SCHEME):
            return Path(_FOLDER.convert(value, param, ctx))
        try:
            return parse_bucket(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)  # the value may have a password in it


destination_options: Final = all_of(
    click.option(
        "--to",
        "place",
        type=Place(),
        metavar="PLACE",
        help="Folder for the objects, or s3://BUCKET/PREFIX in an object store.",
    ),
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
        help="With --forward, and with --to s3://: where objects are until their study is proved to be there.",
    ),
    click.option(
        "--answer",
        type=click.Choice([each.value for each in Answer]),
        default=Answer.DISK.value,
        show_default=True,
        help="When an object is answered with Success: it is on our disk, or the destination has it.  With a folder "
        "both are the same.",
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
        help="With --forward: what proves that the other PACS has a study.  commit: it commits to each object (storage "
        "commitment); find: each is on its list (C-FIND); auto: commit, or find where it does not offer that; none: "
        "nothing but its Success to each.",
    ),
    click.option(
        "--third-party",
        type=Peer(),
        metavar="PEER",
        help="Have the PACS send everything straight to this one, which it knows by its AE title; both are asked what "
        "they have (C-FIND).",
    ),
    click.option(
        "--destination-moved",
        is_flag=True,
        help="The destination is that of the runs before; it has another name or place now.",
    ),
    click.option(
        "--s3-endpoint",
        default="",
        metavar="URL",
        help="Object store that is not Amazon's.  [default: AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, or the profile]",
    ),
    click.option(
        "--s3-region", default="", metavar="REGION", help="Of the bucket.  [default: AWS_REGION, or the profile]"
    ),
    click.option(
        "--s3-allow-http", is_flag=True, help="Speak to the store without TLS, also if it is not on this host."
    ),
    click.option(
        "--s3-parallel",
        type=click.IntRange(1, 64),
        default=8,
        show_default=True,
        metavar="N",
        help="Objects that are uploaded at once.",
    ),
    click.option(
        "--s3-part-size",
        type=Size(),
        default=f"{PART_BYTES >> 20}Mi",
        show_default=True,
        metavar="BYTES",
        help="Larger objects are uploaded in parts of this size.",
    ),
    click.option(
        "--verify",
        type=click.Choice([each.value for each in Verify]),
        default=Verify.CHECKSUM.value,
        show_default=True,
        help="How each uploaded object is compared.  checksum: by the MD5 that the store says it has, or by reading it "
        "back where that is none, or another one; read: always by reading it back.",
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
    layout: str
    place: Path | Bucket | None
    forward: PeerAddress | None
    spool: Path | None
    answer: Answer
    parallel: int
    proof: Proof
    access: Access
    uploads: int
    part_bytes: int
    verify: Verify
    rules_file: Path | None
    reserve: int | None
    third_party: PeerAddress | None
    moved: bool
    """It is the one of the runs before, whatever it is called now."""

    @classmethod
    def of(
        cls,
        *,
        place: Path | Bucket | None,
        layout: str,
        forward: PeerAddress | None,
        spool: Path | None,
        answer: str,
        forward_parallel: int,
        proof: str,
        s3_endpoint: str,
        s3_region: str,
        s3_allow_http: bool,
        s3_parallel: int,
        s3_part_size: int,
        verify: str,
        rules_file: Path | None,
        third_party: PeerAddress | None,
        destination_moved: bool,
        sanitize: bool,
        on_duplicate: str,
        unsolicited: str,
        strict: bool,
        reserve: int | None,
        durable: bool,
        group_readable: bool,
    ) -> Placing:
        """What the options mean together; ConfigurationError if they contradict each other."""
        if sum(each is not None for each in (place, forward, third_party)) != 1:
            raise ConfigurationError("--to", "say where everything goes: --to, --forward or --third-party, one of them")
        if (spool is None) != (forward is None and not isinstance(place, Bucket)):
            raise ConfigurationError("--spool", "goes with --forward and --to s3://: a folder for what is on its way")
        if s3_part_size < LEAST_PART_BYTES:
            raise ConfigurationError("--s3-part-size", f"stores take no parts of less than {LEAST_PART_BYTES:,} bytes")
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
        return cls(
            options,
            layout,
            place,
            forward,
            spool,
            Answer(answer),
            forward_parallel,
            Proof(proof),
            Access(s3_endpoint, s3_region, s3_allow_http),
            s3_parallel,
            s3_part_size,
            Verify(verify),
            rules_file,
            reserve,
            third_party,
            destination_moved,
        )

    @property
    def identity(self) -> dict[str, str]:
        """Which destination it is, by the names of the options: two with the same are one, however they are got to."""
        if self.third_party is not None:
            return {"third-party": str(self.third_party)}
        if self.forward is not None:
            return {"forward": str(self.forward)}
        if isinstance(self.place, Bucket):
            endpoint = self.access.completed().endpoint
            return {"to": str(self.place)} | ({"s3-endpoint": endpoint} if endpoint else {})
        assert self.place is not None
        return {"to": str(self.place.resolve())}

    def other_than(self, settings: Mapping[str, Any], *, shared: bool) -> str:
        """Which other destination what is recorded went to, as options; empty if that was this one, or is not known.

        `shared`: several hosts are at it, each with a folder of its own.
        """
        before = {name: settings[name] for name in _IDENTITY if name in settings}
        now = self.identity
        if not before or before == now or (shared and _is_folder(before) and _is_folder(now)):
            return ""
        return " ".join(f"--{name} {value}" for name, value in before.items())

    def terms(self) -> dict[str, str]:
        """What is written down of it, by the names of the options; of rules their digest, as they may name patients."""
        terms = self.identity
        if self.forward is not None:
            terms |= {"proof": self.proof.value, "answer": self.answer.value}
        elif isinstance(self.place, Bucket):
            terms |= {"layout": self.layout, "verify": self.verify.value, "answer": self.answer.value}
        elif self.place is not None:
            terms |= {"layout": self.layout}
        if self.rules_file is not None:
            terms["rules"] = f"SHA256:{rules_digest(self.rules_file)}"
        return terms

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
        if isinstance(self.place, Path):
            return Files(self.place, options, write, reserve=self.reserve, notify=notify)
        assert self.spool is not None
        if self.place is not None:
            return ObjectStore(
                self.place,
                self.access,
                self.spool,
                options,
                write,
                parallel=self.uploads,
                part_bytes=self.part_bytes,
                verify=self.verify,
                answer=self.answer,
                reserve=self.reserve,
                notify=notify,
            )
        assert self.forward is not None
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
            answer=self.answer,
            reserve=self.reserve,
            notify=notify,
        )


def _is_folder(identity: Mapping[str, str]) -> bool:
    return "to" in identity and not identity["to"].startswith(SCHEME)
