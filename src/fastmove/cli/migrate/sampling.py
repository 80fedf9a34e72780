"""A sample of studies, as `plan` has it moved: to our own listener, measured, and discarded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import click

from fastmove.bench.retrieve import RetrieveBench, Study
from fastmove.bench.runner import Target
from fastmove.bench.sampling import Amount, Sampled, measured
from fastmove.cli.options import PORT, all_of, host_option
from fastmove.cli.output import Progress
from fastmove.cli.tls import TlsOptions
from fastmove.errors import ConfigurationError
from fastmove.ledger.model import StudyJob
from fastmove.limits import Limits
from fastmove.types import PeerAddress
from fastmove.values import Value

SEED: Final = 1
"""Of the same archive the same studies are drawn."""

sample_options: Final = all_of(
    click.option(
        "--sample",
        type=click.IntRange(2, 1000),
        metavar="N",
        help="Have N studies moved here and discarded, drawn by chance from each modality: they say how many bytes "
        "there are, and how long it takes.  Needs --port.",
    ),
    click.option("--port", type=PORT, metavar="P", help="Our listening port, as the PACS knows it: for --sample."),
    click.option(
        "--sample-parallel",
        type=click.IntRange(1, 64),
        default=1,
        show_default=True,
        metavar="N",
        help="Studies of the sample that are moved at once.",
    ),
    host_option,
)
"""A verb that has a sample moved."""


class Sampling(Value):
    """How many studies are moved, how many of them at once, from whom, and where to."""

    number: int
    parallel: int
    peer: PeerAddress
    ae_title: str
    model: str
    limits: Limits
    host: str
    port: int | None
    tls: TlsOptions

    def __init__(self, *arguments: object, **values: object) -> None:
        super().__init__(*arguments, **values)
        if self.port is None:
            raise ConfigurationError("--sample", "comes to our listening port: give --port, as the PACS knows it")

    async def moved(
        self, drawn: Mapping[str, Sequence[StudyJob]], amounts: Mapping[str, Amount], *, quiet: bool
    ) -> Sampled:
        """What there was to measure of those that were drawn, by kind; raises what the run of a benchmark raises."""
        from fastmove.cli.bench.live import Live  # with numpy, which takes a tenth of a second

        target = Target(self.tls.reach(self.peer), self.ae_title, self.model, self.limits)
        bench = RetrieveBench(target, host=self.host, port=self.port or 0, listener_tls=self.tls.listener())
        studies = {kind: list(map(_asked, jobs)) for kind, jobs in drawn.items()}
        live = Live(bench)
        live.title = f"a sample of {self.number:,} studies"
        with Progress(live, "received", quiet=quiet):
            return await measured(bench, studies, amounts, number=self.number, parallel=self.parallel)


def _asked(job: StudyJob) -> Study:
    patient = (f"PatientID={job.patient_id}",) if job.patient_id else ()
    return Study((*patient, f"StudyInstanceUID={job.study_instance_uid}"), kind=job.study_instance_uid)
