"""`fastmove bench store`: C-STORE under load."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import click

from fastmove.bench.corpus import MAX_STUDIES, Corpus
from fastmove.bench.given import again_and_again, read
from fastmove.bench.profiles import PROFILES
from fastmove.bench.runner import Target
from fastmove.bench.spec import Spec
from fastmove.bench.store import Sending, StoreBench, at_most, of_corpus
from fastmove.cli.bench.output import out_options, write
from fastmove.cli.bench.plan import Plan, Point, load_options, planned_of
from fastmove.cli.bench.session import Session
from fastmove.cli.limits import Setting, limit_option, limits_from
from fastmove.cli.options import aet_option, json_option, peer_argument, reports_errors, timeout_option
from fastmove.cli.output import say
from fastmove.cli.send import files_below
from fastmove.cli.tls import TlsOptions, requests_options
from fastmove.errors import ConfigurationError
from fastmove.limits import MAX_PRESENTATION_CONTEXTS
from fastmove.net.loop import run
from fastmove.services.storage_scu import contexts_of, storage_contexts
from fastmove.types import PeerAddress, ProposedContext

DEFAULT_COUNT: Final = 20

Studies = Callable[[], Iterator[Sending]]
"""Studies that nobody has had yet, without end."""


def _source(
    paths: tuple[Path, ...], profile: str | None, synthetic: str | None, seed: int
) -> tuple[Studies, tuple[ProposedContext, ...]]:
    """What is sent, and what has to be proposed for it: the same for a seed but for its UIDs, which are always new."""
    own = secrets.randbelow(1 << 32)
    if paths:
        files = [each for path in paths for each in (files_below(path) if path.is_dir() else [path])]
        given = read(files)
        contexts = storage_contexts(each.file for study in given for each in study)
        several = again_and_again(given, own)
        return lambda: (Sending(kind, objects) for kind, objects in several), contexts
    if synthetic is not None:
        corpus = Spec.parse(synthetic).corpus(studies=MAX_STUDIES, own=own)
    else:
        corpus = Corpus.of_profile(profile or "ct", MAX_STUDIES, seed, own=own)
    studies = of_corpus(corpus)
    return lambda: studies, contexts_of(corpus.pairs)


@click.command("store")
@peer_argument
@click.argument("paths", nargs=-1, metavar="[PATH...]", type=click.Path(exists=True, path_type=Path))
@aet_option
@click.option(
    "--profile",
    type=click.Choice(list(PROFILES)),
    help="Send synthetic studies of this kind, or a hospital's mixture.  [default: ct]",
)
@click.option(
    "--synthetic",
    metavar="SPEC",
    help="Send synthetic studies that are all alike: series=2,instances=50,size=526k,modality=CT, as in fastmove pacs.",
)
@click.option(
    "--operations",
    type=click.IntRange(1, 1000),
    default=1,
    show_default=True,
    metavar="N",
    help="Objects of an association that may wait for their answers at once, if the PACS agrees; few do.",
)
@load_options("Studies")
@out_options
@timeout_option
@limit_option
@requests_options
@json_option
@reports_errors
def command(
    peer: PeerAddress,
    paths: tuple[Path, ...],
    aet: str,
    profile: str | None,
    synthetic: str | None,
    operations: int,
    out: Path | None,
    page: Path | None,
    timeout: float,
    limits: tuple[Setting, ...],
    tls: TlsOptions,
    as_json: bool,
    **others: Any,
) -> None:
    """Measure how a PACS takes in studies (C-STORE): a load generator for ingest.

    Sends synthetic studies, or those in PATH under UIDs of their own.  Every object is new to the
    PACS, which keeps it: never run this against an archive that is in use.  Without --count or
    --duration a run sends 20 studies.  With --new-associations each study has one of its own, as
    modalities have it.

    \b
    Exit codes: 0 all were stored   69 some were not   72 it was stopped   61 no association

    \b
    Examples:
      fastmove bench store TEST@10.0.0.5:104 --parallel 4
      fastmove bench store TEST@10.0.0.5:104 --profile hospital --rate 0.2 --duration 600 --new-associations
      fastmove bench store TEST@10.0.0.5:104 --synthetic series=1,instances=1000,size=8k,modality=SR --ramp
      fastmove bench store TEST@10.0.0.5:104 ~/study --count 50
    """
    if [bool(paths), profile is not None, synthetic is not None].count(True) > 1:
        raise ConfigurationError("PATH", "give one of files, --profile and --synthetic")
    plan = Plan.of(**planned_of(others))
    bounds = limits_from(limits, also={"timeout": ("connect_s", "associate_s")})
    target = Target(tls.reach(peer), aet, limits=bounds, new_associations=plan.new_associations, operations=operations)
    studies, contexts = _source(paths, profile, synthetic, plan.seed)
    if len(contexts) > MAX_PRESENTATION_CONTEXTS:
        raise ConfigurationError("PATH", f"{len(contexts)} kinds of objects: an association takes 128")
    sent = "files" if paths else synthetic or profile or "ct"
    session = Session(
        StoreBench(target, contexts), plan, plan.scenario(target, sent=sent, operations=operations), as_json=as_json
    )
    count = plan.count if plan.duration_s is not None else plan.count or DEFAULT_COUNT
    if not as_json:
        say(plan.asked("studies", DEFAULT_COUNT))

    def items(_: Point) -> Iterator[Sending]:
        return at_most(studies(), count)

    document = run(session.run(items))
    write(document, out, page, as_json=as_json)
    raise click.exceptions.Exit(session.exit_code(document))
