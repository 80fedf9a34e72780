"""`fastmove retrieve`: have a PACS send studies here, and say truly what came."""

from __future__ import annotations

import asyncio
import signal
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import click

from fastmove.cli.exit_codes import ExitCode, for_outcome
from fastmove.cli.options import (
    PORT,
    AETitle,
    aet_option,
    fail,
    host_option,
    json_option,
    max_pdu_option,
    no_durable_option,
    on_duplicate_option,
    peer_argument,
    timeout_option,
)
from fastmove.cli.output import (
    Progress,
    Tally,
    json_lines,
    megabytes,
    observers,
    warnings_only,
    write_json,
)
from fastmove.dimse.identifier import LEVELS, UNIQUE_KEYS
from fastmove.dimse.move import Verdict
from fastmove.dimse.status import describe
from fastmove.errors import ConfigurationError, FastmoveError
from fastmove.limits import Limits
from fastmove.net.loop import run
from fastmove.notices import MoveProgressed, Notice
from fastmove.services.retrieve_scu import Retrieve, RetrieveConfig, RetrieveResult
from fastmove.storage.options import OnDuplicate, WriteOptions
from fastmove.storage.target import StorageTarget
from fastmove.types import PeerAddress

DEFAULTS = Limits()
SHOWN_MISSING = 10

# What to do about it, in words of the person who has to.
ADVICE: Final[dict[int | str, str]] = {
    0xA801: "the PACS does not know the move destination {destination!r}: enter this AE title with this host and "
    "port {port} in the PACS, or choose another with --aet or --destination",
    0xA702: "the PACS could not send: it may not reach {destination!r} on port {port} of this host (firewall, "
    "address, or another port entered in the PACS)",
    "move.incomplete": "run the same command again: what is here already is not replaced",
    "move.association_lost": "run the same command again: what is here already is not replaced",
    "move.empty": "nothing matched: are the keys right?",
}


@click.command("retrieve")
@peer_argument
@aet_option
@click.option("--port", type=PORT, metavar="P", help="Our listening port, as the PACS knows it; 0 takes a free one.")
@click.option(
    "--to",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Folder for the objects, one file each: SOPInstanceUID.dcm.",
)
@click.option(
    "--destination",
    type=AETitle(),
    metavar="AE",
    help="Move destination, if it is not us: without --port and --to the PACS sends to that third party.",
)
@click.option("--study", metavar="UID", help="Same as --key StudyInstanceUID=UID.")
@click.option("--series", metavar="UID", help="Same as --key SeriesInstanceUID=UID.")
@click.option("--image", metavar="UID", help="Same as --key SOPInstanceUID=UID.")
@click.option("--patient", metavar="ID", help="Same as --key PatientID=ID.")
@click.option("-k", "--key", "keys", multiple=True, metavar="KEY=VALUE", help="Any other key: keyword or gggg,eeee.")
@click.option(
    "--level",
    type=click.Choice(list(UNIQUE_KEYS), case_sensitive=False),
    help="[default: that of the deepest key given]",
)
@click.option("--model", type=click.Choice(list(LEVELS)), default="study", show_default=True)
@click.option(
    "--prove",
    is_flag=True,
    help="Ask for the list of instances first (C-FIND), so that the verdict rests "
    "on UIDs and not on the PACS's counters.",
)
@click.option("--require-proof", is_flag=True, help="Like --prove, and fail (71) if the PACS cannot give the list.")
@on_duplicate_option
@max_pdu_option
@click.option(
    "--drain",
    type=click.FloatRange(min=0),
    default=DEFAULTS.drain_s,
    show_default=True,
    metavar="SECONDS",
    help="How long without an object to wait for those that the PACS says it sent.",
)
@timeout_option
@no_durable_option
@host_option
@json_option
def command(
    peer: PeerAddress,
    aet: str,
    port: int | None,
    directory: Path | None,
    destination: str | None,
    study: str | None,
    series: str | None,
    image: str | None,
    patient: str | None,
    keys: tuple[str, ...],
    level: str | None,
    model: str,
    prove: bool,
    require_proof: bool,
    on_duplicate: str,
    max_pdu: int,
    drain: float,
    timeout: float,
    durable: bool,
    host: str,
    as_json: bool,
) -> None:
    """Have a PACS send studies here (C-MOVE), store them, and say truly what came.

    Opens its own listener, sends the request, follows it to the end, waits for objects that come
    late, and gives a verdict.  The PACS must know our AE title with this host and port.
    PEER is AET@HOST:PORT, or a name from fastmove.toml.

    \b
    Exit codes: 0 complete   68 warning   69 refused or failed   71 success was reported but objects
    are missing   72 no final response   73 an object could not be stored   74 no progress
    75 an object was refused by our rules   60 cannot listen   61 no association   1 usage

    \b
    Examples:
      fastmove retrieve PACS@10.0.0.5:104 --aet ME --port 11112 --study 1.2.3 --to /data/study
      fastmove retrieve PACS@10.0.0.5:104 --aet ME --destination ARCHIVE --study 1.2.3
    """
    unique = {"PatientID": patient, "StudyInstanceUID": study, "SeriesInstanceUID": series, "SOPInstanceUID": image}
    given = tuple(f"{name}={value}" for name, value in unique.items() if value)
    limits = Limits(max_pdu_length=max_pdu, drain_s=drain, connect_s=timeout, associate_s=timeout)
    config = RetrieveConfig(
        peer, (*given, *keys), aet, destination or aet, model, level, prove or require_proof, limits
    )
    tally = Tally()
    session: list[Retrieve] = []

    def observe(notice: Notice) -> None:
        if type(notice) is MoveProgressed and notice.remaining is not None:
            tally.total = notice.remaining + (notice.completed or 0) + (notice.failed or 0) + (notice.warning or 0)

    async def main() -> RetrieveResult:
        notify = observers(observe, tally.observe, json_lines if as_json else warnings_only)
        with ExitStack() as stack:
            target = None
            if directory is not None:
                options = WriteOptions(durable=durable, on_duplicate=OnDuplicate(on_duplicate))
                target = stack.enter_context(StorageTarget(directory, options))
            told = json_lines if as_json else None
            retrieve = Retrieve(config, target, host=host, port=port or 0, notify=notify, on_stored=told)
            tally.source = retrieve.receipts
            session.append(retrieve)
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, _interrupt, retrieve, as_json)
            stack.enter_context(Progress(tally, "stored", quiet=as_json))
            result = await retrieve.run()
            tally.refresh()
            return result

    try:
        if (port is None) != (directory is None):
            raise ConfigurationError("--port and --to", "to retrieve to this host give both, for a third party none")
        if port is None and destination is None:
            raise ConfigurationError("--to", "say where to store (--port P --to DIR), or a third party (--destination)")
        started = time.monotonic()
        result = run(main())
    except FastmoveError as error:
        fail(error, established=bool(session) and session[0].established)
    code = for_outcome(result.judgement, require_proof=require_proof)
    _report(result, tally, code, time.monotonic() - started, as_json, {"destination": destination or aet, "port": port})
    raise click.exceptions.Exit(code)


def _interrupt(retrieve: Retrieve, quiet: bool) -> None:
    cancelled = retrieve.cancel()
    if not quiet:
        how = "C-CANCEL sent; what is whole is kept; once more to abort" if cancelled else "what is whole is kept"
        click.echo(f"stopping: {how}", err=True)


def _report(
    result: RetrieveResult, tally: Tally, code: ExitCode, seconds: float, as_json: bool, where: dict[str, object]
) -> None:
    judgement, evidence = result.judgement, result.evidence
    outcome = evidence.outcome
    status = None if outcome is None else outcome.status
    if as_json:
        write_json(
            {
                "event": "retrieve.finished",
                "verdict": judgement.verdict.name,
                "reasons": list(judgement.reasons),
                "exit_code": int(code),
                "status": None if status is None else f"{status:04X}",
                "error_comment": "" if outcome is None else outcome.error_comment,
                "stored": None if evidence.stored is None else len(evidence.stored),
                "bytes": tally.nbytes,
                "seconds": round(result.seconds, 6),
                "first_object_s": None if result.first_object_s is None else round(result.first_object_s, 6),
                "expected": None if evidence.expected is None else len(evidence.expected),
                "missing": sorted(judgement.missing),
                "completed": None if outcome is None else outcome.completed,
                "failed": None if outcome is None else outcome.failed,
                "warning": None if outcome is None else outcome.warning,
                "failed_sop_instance_uids": [] if outcome is None else list(outcome.failed_sop_instance_uids),
                "error": None if result.error is None else str(result.error),
            }
        )
        return
    if evidence.stored is not None:
        rate = f"{tally.nbytes / 1e6 / result.seconds:,.1f} MB/s, {tally.objects / result.seconds:,.0f} objects/s"
        click.echo(f"{len(evidence.stored):,} objects, {megabytes(tally.nbytes)} in {result.seconds:.2f} s ({rate})")
    elif outcome is not None:
        click.echo(f"the PACS reports {outcome.completed or 0:,} sent, {outcome.failed or 0:,} failed")
    if status:
        comment = f": {outcome.error_comment}" if outcome is not None and outcome.error_comment else ""
        click.echo(f"status {status:04X}H {describe(status, 'C-MOVE')[1]}{comment}", err=True)
    if result.error is not None:
        click.echo(str(result.error), err=True)
    for uid in sorted(judgement.missing)[:SHOWN_MISSING]:
        click.echo(f"missing: {uid}", err=True)
    if len(judgement.missing) > SHOWN_MISSING:
        click.echo(f"... and {len(judgement.missing) - SHOWN_MISSING:,} more (all of them with --json)", err=True)
    why = f" ({', '.join(judgement.reasons)})" if judgement.reasons else ""
    click.echo(f"verdict: {judgement.verdict.name}: {judgement.verdict.value}{why}", err=code != ExitCode.SUCCESS)
    for key in (status or 0, *judgement.reasons):
        if key in ADVICE and judgement.verdict is not Verdict.COMPLETE:
            click.echo(f"hint: {ADVICE[key].format(**where)}", err=True)
