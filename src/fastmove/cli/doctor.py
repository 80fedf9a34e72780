"""`fastmove doctor`: why it does not work, and how fast it could."""

from __future__ import annotations

import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any, Final, NoReturn

import click

from fastmove.cli.exit_codes import VERDICTS, ExitCode, for_error
from fastmove.cli.main import die_of
from fastmove.cli.options import (
    PORT,
    AETitle,
    aet_option,
    host_option,
    json_option,
    max_pdu_option,
    peer_argument,
    reports_errors,
    timeout_option,
)
from fastmove.cli.output import write_json
from fastmove.cli.profile_file import save_profile, saved_profile
from fastmove.cli.tls import TlsOptions, retrieves_options
from fastmove.dimse.move import Verdict
from fastmove.errors import ConfigurationError
from fastmove.limits import Limits
from fastmove.net.loop import Interrupted, run_until_signal
from fastmove.services.doctor.examination import PROBES, Examination, Probe
from fastmove.services.doctor.findings import Advice, Finding, Outcome, Side
from fastmove.services.doctor.visit import DoctorConfig
from fastmove.services.profile import PacsProfile
from fastmove.types import PeerAddress
from fastmove.ul.negotiation import is_uid

# Outcome → mark on a terminal, its colour, and what stands for it elsewhere.
MARKS: Final = {
    Outcome.OK: ("✓", "green", "ok"),
    Outcome.NOTE: ("!", "yellow", "note"),
    Outcome.PROBLEM: ("✗", "red", "PROBLEM"),
    Outcome.SKIPPED: ("-", "bright_black", "skipped"),
}
PLACES: Final = {Side.PACS: "in the PACS", Side.HERE: "here"}
TITLE_WIDTH: Final = max(len(probe.title) for probe in PROBES)
SHOWN_SKIPPED: Final = 4
BLANK: Final = "\r\x1b[K"
"""Wipes the line of a terminal."""

RELEASE_S: Final = 5.0
"""A PACS that does not answer A-RELEASE is not waited for longer."""

REMARKED: Final = frozenset(("tcp", "implementation", "echo", "speed", "outlook"))
"""Probes of which a saved profile tells what was seen."""

BY_IMPORTANCE: Final = (Outcome.PROBLEM, Outcome.NOTE)


class StudyUID(click.ParamType[str]):
    """A UID: digits and dots, 64 at most."""

    name = "uid"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The UID."""
        if not is_uid(value):
            self.fail(f"{value!r} is no UID", param, ctx)
        return str(value)


@click.command("doctor")
@peer_argument
@aet_option
@click.option(
    "--port",
    type=PORT,
    metavar="P",
    help="Our listening port, as the PACS knows it. Without it nothing is moved, only asked.",
)
@click.option(
    "--destination", type=AETitle(), metavar="AE", help="Our AE title as move destination, if it is not that of --aet."
)
@click.option("--study", type=StudyUID(), metavar="UID", help="Move this study, and not a small one that is found.")
@click.option(
    "--to",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Keep the objects in this folder.  [default: they are received, and not kept]",
)
@click.option(
    "--associations",
    type=click.IntRange(1, 64),
    default=8,
    show_default=True,
    metavar="N",
    help="How many to open at once at most.",
)
@click.option(
    "--patience",
    type=click.FloatRange(min=0.1),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="How long a query may take, and the move be silent.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be asked, and ask nothing.")
@click.option(
    "--save/--no-save", default=True, show_default=True, help="Keep what was found out, for retrieve to go by."
)
@max_pdu_option
@timeout_option
@host_option
@retrieves_options
@json_option
@reports_errors
def command(
    peer: PeerAddress,
    aet: str,
    port: int | None,
    destination: str | None,
    study: str | None,
    directory: Path | None,
    associations: int,
    patience: float,
    dry_run: bool,
    save: bool,
    max_pdu: int,
    timeout: float,
    host: str,
    tls: TlsOptions,
    as_json: bool,
) -> None:
    """Find out why a PACS does not send us what we ask for, and how fast it could.

    Goes the whole way step by step: TCP, association, services, C-ECHO, C-FIND, our listener, a C-MOVE
    of one small study to it, and how that comes; then says in plain words what to change, in the PACS
    or here.  Meant for a PACS in use: one study is moved, queries are few and limited, names of
    patients are not asked for.  What it found out is kept, and retrieve goes by it.
    PEER is AET@HOST:PORT, or a name from fastmove.toml.

    \b
    Exit codes: 0 no problem, else that of the first problem: 61 no association   66 a service is
    not offered   69 refused   60 cannot listen   71 objects are missing   72 no final response

    \b
    Examples:
      fastmove doctor PACS@10.0.0.5:104 --aet ME
      fastmove doctor PACS@10.0.0.5:104 --aet ME --port 11112
      fastmove doctor PACS@10.0.0.5:104 --aet ME --port 11112 --study 1.2.3 --dry-run
    """
    limits = Limits(
        max_pdu_length=max_pdu,
        connect_s=timeout,
        associate_s=timeout,
        release_s=min(RELEASE_S, timeout),
        artim_s=timeout,
    )
    config = DoctorConfig(
        tls.reach(peer), aet, port, host, destination or "", study or "", directory, associations, patience, limits
    )
    if port is not None:
        config = config.replace(listener_tls=tls.listener())
    examination = Examination(config)
    show = JsonLines() if as_json else Terminal() if sys.stdout.isatty() else PlainLines()
    if dry_run:
        for probe, asks in examination.plan():
            show.planned(probe, asks)
        return

    async def main() -> None:
        async with aclosing(examination.run(show.begin)) as findings:
            async for probe, finding in findings:
                show.finding(probe, finding)

    try:
        run_until_signal(main(), lambda: click.echo("stopping", err=True))
    except Interrupted as interrupted:
        _end_by(interrupted.number)
    code = _exit_code(examination)
    saved = _saved(examination, peer) if save else None
    show.end(examination, code, saved)
    raise click.exceptions.Exit(code)


def _end_by(number: int) -> NoReturn:
    sys.stdout.flush()
    die_of(number)


def _exit_code(examination: Examination) -> ExitCode:
    """That of the first problem: the others mostly follow from it."""
    for problem in examination.problems:
        cause = problem.cause
        if isinstance(cause, Verdict):
            return VERDICTS[cause]
        if cause is not None:
            return for_error(cause, established=examination.established)
    return ExitCode.SUCCESS


def _saved(examination: Examination, peer: PeerAddress) -> Path | None:
    """Where what was found out is kept now; None if there was nothing, or no place for it."""
    found = examination.profile
    if found == PacsProfile():
        return None
    try:
        known = saved_profile(peer) or PacsProfile()
    except ConfigurationError:
        known = PacsProfile()  # nobody can use what is there
    news = {name: value for name in found.fields if (value := getattr(found, name)) is not None}
    ours = examination.visit.config.ae_title
    remarks = [f"fastmove doctor {peer} as {ours}, {time.strftime('%Y-%m-%d %H:%M %z')}"]
    remarks += [f"{each.title}: {examination.findings[each.name].seen}" for each in PROBES if each.name in REMARKED]
    try:
        return save_profile(peer, known.replace(**news), remarks)
    except ConfigurationError as error:
        click.echo(f"not kept: {error}", err=True)
        return None


def to_do(examination: Examination) -> Iterator[Advice]:
    """What to change, the most important first; what is said twice once."""
    findings = examination.findings.values()
    advice = (
        each
        for outcome in BY_IMPORTANCE
        for finding in findings
        if finding.outcome is outcome
        for each in finding.advice
    )
    return iter(dict.fromkeys(advice))


class PlainLines:
    """A line for each probe; one for several that were skipped for the same reason."""

    def __init__(self) -> None:
        self._skipped: dict[str, list[str]] = {}

    def planned(self, probe: Probe, asks: str) -> None:
        """What a probe would ask."""
        click.echo(f"{probe.title:{TITLE_WIDTH}}  {asks}")

    def begin(self, probe: Probe) -> None:
        """A probe is tried now."""

    def finding(self, probe: Probe, finding: Finding) -> None:
        """What it found."""
        if finding.outcome is Outcome.SKIPPED:
            self._skipped.setdefault(finding.seen, []).append(probe.title)
            return
        self._tell_skipped()
        self.line(finding.outcome, f"{probe.title:{TITLE_WIDTH}}  {finding.seen}")

    def _tell_skipped(self) -> None:
        for reason, titles in self._skipped.items():
            rest = len(titles) - SHOWN_SKIPPED
            shown = titles[:SHOWN_SKIPPED] + ([f"{rest} more"] if rest > 0 else [])
            self.line(Outcome.SKIPPED, f"{', '.join(shown)}: {reason}")
        self._skipped.clear()

    def line(self, outcome: Outcome, text: str) -> None:
        """A line of what was found."""
        click.echo(f"{MARKS[outcome][2]:7}  {text}")

    def end(self, examination: Examination, code: ExitCode, saved: Path | None) -> None:
        """What to do about it all."""
        self._tell_skipped()
        for number, advice in enumerate(to_do(examination), 1):
            if number == 1:
                click.echo("\nWhat to do, the most important first:")
            self.advice(number, f"{PLACES[advice.side]}: {advice.text}")
        problems = len(examination.problems)
        click.echo(
            f"\n{problems} {'problem' if problems == 1 else 'problems'} found" if problems else "\nno problem found"
        )
        if saved is not None:
            click.echo(f"what is known of it now is kept in {saved}")

    def advice(self, number: int, text: str) -> None:
        """A line of what to do."""
        click.echo(f"{number:2}. {text}")


class Terminal(PlainLines):
    """The same for people: marks and colours, and what is under way."""

    def begin(self, probe: Probe) -> None:
        """Until the finding comes."""
        click.echo(f"{BLANK}  {probe.title} ...", nl=False)

    def line(self, outcome: Outcome, text: str) -> None:
        """In place of that."""
        mark, colour, _ = MARKS[outcome]
        skipped = outcome is Outcome.SKIPPED
        text = self._wrapped(text, 2 if skipped else TITLE_WIDTH + 4)
        click.echo(BLANK + click.style(mark, fg=colour) + " " + (click.style(text, fg=colour) if skipped else text))

    def advice(self, number: int, text: str) -> None:
        """Within the width of the terminal."""
        click.echo(f"{number:2}. {self._wrapped(text, 4)}")

    def _wrapped(self, text: str, indent: int) -> str:
        import shutil

        width = max(shutil.get_terminal_size().columns - 1, 2 * indent)
        wrap = textwrap.TextWrapper(width, "  ", " " * indent, break_long_words=False, break_on_hyphens=False)
        return wrap.fill(text).lstrip()


class JsonLines(PlainLines):
    """An object for each probe, and one for the whole."""

    def planned(self, probe: Probe, asks: str) -> None:
        """What a probe would ask."""
        write_json({"event": "doctor.planned", "probe": probe.name, "title": probe.title, "asks": asks})

    def finding(self, probe: Probe, finding: Finding) -> None:
        """What it found."""
        write_json(
            {
                "event": "doctor.found",
                "probe": probe.name,
                "title": probe.title,
                "outcome": finding.outcome.value,
                "seen": finding.seen,
                "numbers": dict(finding.numbers),
                "advice": [{"side": each.side.value, "text": each.text} for each in finding.advice],
            }
        )

    def end(self, examination: Examination, code: ExitCode, saved: Path | None) -> None:
        """The exit code, what is known, and where that is kept."""
        profile = examination.profile
        write_json(
            {
                "event": "doctor.finished",
                "peer": str(examination.visit.config.peer),
                "exit_code": int(code),
                "problems": [finding.probe for finding in examination.problems],
                "profile": {name: getattr(profile, name) for name in profile.fields},
                "saved": None if saved is None else str(saved),
            }
        )
