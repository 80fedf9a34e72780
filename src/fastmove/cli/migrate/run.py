"""`fastmove migrate run`: move what is planned, until nothing is left to do."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import click

from fastmove.cli.exit_codes import ExitCode, for_error
from fastmove.cli.limits import Setting, limit_option, limits_from
from fastmove.cli.log import LogPlan, Reporting, log_options, tell_errors
from fastmove.cli.metrics import Address, metrics_option, of_migration, serve_metrics
from fastmove.cli.migrate.destination import Placing, destination_options
from fastmove.cli.migrate.ledger import is_shared, of_a_batch, opened
from fastmove.cli.migrate.windows import local_zone, window_options
from fastmove.cli.options import (
    AUTO,
    PORT,
    accept_from_option,
    accept_host_option,
    aet_option,
    host_option,
    json_option,
    max_object_option,
    max_pdu_option,
    peer_argument,
    peer_profile,
    reports_errors,
    timeout_option,
)
from fastmove.cli.output import Progress, Tally, observers, say, write_json
from fastmove.cli.retrieve import Parallel, observer
from fastmove.cli.tls import TlsOptions, retrieves_options
from fastmove.dimse.identifier import LEVELS
from fastmove.errors import ConfigurationError, DirectoryLocked
from fastmove.ledger.model import Batch, JobState, Wish
from fastmove.ledger.sharing import Slots
from fastmove.ledger.store import Ledger
from fastmove.migrate.allowance import Policy
from fastmove.migrate.claims import Claims, MakeClaims
from fastmove.migrate.destination import Destination
from fastmove.migrate.engine import Ended, Engine
from fastmove.migrate.windows import Window, Windows
from fastmove.net.loop import interruptions, run
from fastmove.notices import MigrationNoted
from fastmove.services.retrieve.config import RetrieveConfig
from fastmove.services.storage_commitment import CommitmentReceiver
from fastmove.storage.lock import FolderLock
from fastmove.storage.reserve import Reserve
from fastmove.types import PeerAddress

AWAY_S: Final = 120.0
"""How long a retrieve waits for a PACS that has gone away, before it is begun anew."""


PAUSED: Final = "an operator has it paused: it begins nothing before `fastmove migrate resume`"
OPERATOR: Final = "an operator ended it; the hosts of a fleet may begin again after `fastmove migrate resume`"


class MigrationTally(Tally):
    """Where a migration stands."""

    def __init__(self, engine: Engine, left: int) -> None:
        super().__init__()
        self.source = engine
        self._engine = engine
        self._left = left

    def line(self, verb: str) -> str:
        """The state as text."""
        engine = self._engine
        left = max(self._left - engine.complete - engine.parked, 0)
        shut = engine.allowance.shut  # a narrow terminal has room for what is said first
        parts = [
            engine.state if shut else "",
            f"{engine.complete:,} studies complete, {left:,} left",
            f"{engine.parked:,} parked" if engine.parked else "",
            f"{engine.tried_again:,} to be tried again" if engine.tried_again else "",
            super().line(verb),
            "" if shut else engine.state,
        ]
        return ", ".join(filter(None, parts))


@click.command("run")
@of_a_batch
@peer_argument
@aet_option
@click.option("--port", type=PORT, metavar="P", help="Our listening port, as the PACS knows it.")
@destination_options
@window_options
@click.option(
    "--closing",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="When a window closes, moves under way have so long yet; then they are cancelled, and go on at the next one.",
)
@click.option(
    "--parallel",
    type=Parallel(),
    default=AUTO,
    show_default=True,
    metavar="N|auto",
    help="Moves at once, where a window does not allow fewer; auto: as many as pay.",
)
@click.option(
    "--model",
    type=click.Choice(list(LEVELS)),
    default="study",
    show_default=True,
    help="Query/Retrieve model (PS3.4 C.3) that the PACS is asked by.",
)
@click.option(
    "--require-proof",
    is_flag=True,
    help="A study of which the PACS gives no list is not complete: it is tried again, and parked as `unproved`.",
)
@click.option(
    "--gentle/--no-gentle",
    default=True,
    show_default=True,
    help="Ask the PACS a small question every two seconds, over an association of its own, and have half as many moves "
    "at once while the answers come late.",
)
@metrics_option
@accept_host_option("the PACS alone")
@accept_from_option
@max_object_option
@max_pdu_option
@timeout_option
@limit_option
@host_option
@log_options
@retrieves_options
@json_option
@reports_errors
def command(
    where: str,
    batch: str | None,
    peer: PeerAddress,
    aet: str,
    port: int | None,
    windows: tuple[Window, ...],
    timezone: ZoneInfo | None,
    closing: float,
    parallel: int,
    model: str,
    require_proof: bool,
    gentle: bool,
    metrics_at: Address | None,
    accept_host: tuple[str, ...],
    accept_from: tuple[str, ...],
    max_object: int,
    max_pdu: int,
    timeout: float,
    limits: tuple[Setting, ...],
    host: str,
    log_file: Path | None,
    log_level: str,
    log_uids: bool,
    log_key: Path | None,
    tls: TlsOptions,
    as_json: bool,
    **placed: Any,
) -> None:
    """Move what is planned in the LEDGER, until all is done.

    PEER is the PACS of the plan.  Everything goes into a folder or an object store (--to), or by us to another PACS
    (--forward), or straight there (--third-party).

    Each study is listed, moved, held against its list and recorded; what fails is tried again later, by its cause,
    and parked with the reason when that is no use.  It can be stopped at any time, also by a power cut: run it again,
    and it goes on where it was.  Ctrl-C ends with what is in hand, a second one cancels that, a third one aborts.

    \b
    Exit codes: 0 everything is complete   71 studies are parked   72 it was stopped
    61 no association   66 the PACS does not offer C-MOVE   69 the PACS does not know us   60 cannot listen
    45 the folder or the spool cannot be used   73 the disk is full, or the ledger fails   1 usage

    \b
    Examples:
      fastmove migrate run archive.ledger pacs --port 11112 --to /data
      fastmove migrate run archive.ledger pacs --port 11112 --to /data --window "daily 19:00-07:00 parallel=8 rate=50M"
      fastmove migrate run archive.ledger pacs --port 11112 --forward orthanc --spool /data/spool
      fastmove migrate run archive.ledger pacs --third-party orthanc --parallel 4
    """
    placing = Placing.of(**placed)
    third_party = placing.third_party
    if (port is None) != (third_party is not None):
        raise ConfigurationError("--port", "is our listening port: needed unless a --third-party gets everything")
    if third_party is not None and any(each.ceiling.has_rate for each in windows):
        why = "rate= and objects= hold for what comes to us, and nothing does with a --third-party: say parallel="
        raise ConfigurationError("--window", why)
    if placing.forward is not None:
        accept_host += (placing.forward.host,)  # reports of storage commitment come from there
    config = RetrieveConfig(
        tls.reach(peer),
        ae_title=aet,
        move_destination=aet if third_party is None else third_party.ae_title,
        model=model,
        parallel=parallel,
        limits=limits_from(limits, also={"timeout": ("connect_s", "associate_s")}, away_s=AWAY_S),
        rounds=1,
        profile=peer_profile(),
        accept_hosts=accept_host,
        accept_from=accept_from,
        listener_tls=tls.listener(),
    )
    policy = Policy(Windows(windows, timezone or local_zone(windows)), closing, require_proof, gentle)
    logging = LogPlan.of(log_file, log_level, log_uids, log_key)
    with ExitStack() as entered:
        entered.enter_context(only_runner(where))
        reporting = entered.enter_context(Reporting(logging))
        tell = observer(reporting, as_json=as_json)

        async def main() -> ExitCode:
            tell_errors(tell)
            async with opened(where, batch) as (ledger, known):
                if known.source != str(peer):
                    why = f"batch {known.name!r} is of {known.source}: plan another one for this PACS"
                    raise ConfigurationError("PEER", why)
                total = (await ledger.summary(known.id)).total
                if not total.studies:
                    why = f"nothing is planned in {known.name!r}: begin with `fastmove migrate plan`"
                    raise ConfigurationError("LEDGER", why)
                if stored := total.stored:
                    _same_destination(placing, known, shared=is_shared(where))
                wished = await ledger.wished(known.id)
                if wished in (Wish.DRAIN, Wish.STOP) and not is_shared(where):  # there it may be meant for all hosts
                    await ledger.wish(known.id, Wish.RUN)
                if wished is Wish.PAUSE and not as_json:
                    reporting.stderr.say(PAUSED)
                room = () if is_shared(where) else (entered.enter_context(Reserve(Path(where).resolve().parent)),)
                owner = f"{os.uname().nodename}:{os.getpid()}:{aet}"
                metrics = serve_metrics(entered, metrics_at, reporting.stderr.say)
                notify = observers(tell, metrics)
                reports = CommitmentReceiver(notify)
                async with AsyncExitStack() as shared:
                    claims, slots = await _way(shared, where, ledger, known)
                    engine = Engine(
                        ledger,
                        known,
                        config,
                        policy,
                        owner,
                        host=host,
                        port=port or 0,
                        notify=notify,
                        reports=reports,
                        claims=claims,
                        slots=slots,
                        ready=[each.objection for each in room],
                    )
                    made = placing.made(known, engine.recorder.add, config, reports, notify)
                    if warned := await _write_down(ledger, known, owner, policy, parallel, placing, stored):
                        notify(MigrationNoted("migrate.rules_changed", warned))
                        if not as_json:
                            reporting.stderr.say(f"warning: {warned}")
                    if metrics is not None:
                        of_migration(metrics, engine)
                    async with made as destination:
                        gc.freeze()  # what is there stays; to look through it again and again takes 4 % of a run
                        return await _run(engine, destination, ledger, known, reporting, as_json=as_json)

        code = run(main())
    raise click.exceptions.Exit(code)


def _same_destination(placing: Placing, batch: Batch, *, shared: bool) -> None:
    """What is recorded lies where it went to; ConfigurationError if this is somewhere else."""
    before = placing.other_than(batch.settings, shared=shared)
    if before and not placing.moved:
        name = next(iter(placing.identity))
        why = (
            f"what is recorded of batch {batch.name!r} went elsewhere ({before}): plan another batch for another "
            "destination (migrate plan --batch), or say --destination-moved if it is the same one by another name"
        )
        raise ConfigurationError(f"--{name}", why)


async def _write_down(
    ledger: Ledger, batch: Batch, owner: str, policy: Policy, parallel: int, placing: Placing, stored: int
) -> str:
    """How it is migrated from now on, for those who look at it; what it was before is among the events.

    A warning comes back if what is `stored` already was changed by other rules.
    """
    windows, terms = policy.windows, placing.terms()
    when = {"windows": [str(each) for each in windows.windows], "timezone": str(windows.timezone)}
    how = {"parallel": parallel or AUTO, "gentle": policy.gentle, "require-proof": policy.require_proof}
    before, now = (each.get("rules", "none") for each in (batch.settings, terms))
    await ledger.settle(batch.id, when | how | terms)
    text = ", ".join([owner, *(f"{name} {value}" for name, value in terms.items()), *when["windows"]])
    await ledger.event(batch.id, "migrate.began", text, time.time())
    if not stored or not batch.settings or before == now:
        return ""
    warned = f"{stored:,} objects of this batch are stored by other --rules ({before}) than those of now on ({now})"
    await ledger.event(batch.id, "migrate.rules_changed", warned, time.time())
    return warned


async def _way(opened: AsyncExitStack, where: str, ledger: Ledger, batch: Batch) -> tuple[MakeClaims, Slots | None]:
    """How an engine comes by studies: alone, or as one host of a fleet, where the ledger is a database for several."""
    if not is_shared(where):
        await ledger.recover(time.time(), batch_id=batch.id, all_owners=True)
        return Claims, None
    from fastmove.migrate.fleet import FleetClaims, queue_of  # for those who have one

    queue = await opened.enter_async_context(queue_of(where, batch))
    slots = await opened.enter_async_context(ledger.slots(batch.id))
    return partial(FleetClaims, queue=queue), slots


async def _run(
    engine: Engine, destination: Destination, ledger: Ledger, batch: Batch, reporting: Reporting, *, as_json: bool
) -> ExitCode:
    loop = asyncio.get_running_loop()

    def interrupt(number: int) -> None:
        how = engine.interrupt(at_once=number != signal.SIGINT)
        if not as_json:
            reporting.stderr.say(f"stopping: {how}")

    for number in interruptions():
        loop.add_signal_handler(number, interrupt, number)
    before = await ledger.summary(batch.id)
    left = sum(before.states[state].studies for state in (JobState.READY, JobState.WAITING))
    with Progress(MigrationTally(engine, left), "received", quiet=as_json, tell=reporting.stderr.say):
        ended = await engine.run(destination)
    summary = await ledger.summary(batch.id)
    why = engine.why
    if not why and await ledger.wished(batch.id) in (Wish.DRAIN, Wish.STOP):
        why = OPERATOR
    unfinished = summary.total.studies - summary.states[JobState.COMPLETE].studies
    if as_json:
        counts = {state.value: total.studies for state, total in summary.states.items()}
        write_json({"event": "migrate.ended", "how": ended.value, "why": why, "studies": counts})
    else:
        complete = summary.states[JobState.COMPLETE]
        say(f"{ended.value}: {complete.studies:,} of {summary.total.studies:,} studies are complete")
        if why:
            say(f"fastmove: {why}", err=True)
    if ended is Ended.FAILED:
        return ExitCode.REFUSED if engine.error is None else for_error(engine.error, established=engine.established)
    if ended is not Ended.FINISHED:
        return ExitCode.UNKNOWN
    return ExitCode.INCOMPLETE if unfinished else ExitCode.SUCCESS


@contextmanager
def only_runner(where: str) -> Iterator[None]:
    """Nobody else runs a ledger that is a file, as long as the block lasts; ConfigurationError if somebody does."""
    if is_shared(where):
        yield
        return
    path = Path(where).resolve()
    if not path.exists():  # whoever opens it says so
        yield
        return
    try:
        lock = FolderLock(path.parent, "fastmove migrate run", name=f".{path.name}.lock")
    except DirectoryLocked as locked:
        raise ConfigurationError("LEDGER", f"{where} is run already, by {locked.holder}") from None
    with lock:
        yield
