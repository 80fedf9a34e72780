"""The options of the audit trail, and what they make: DICOM audit messages in a file or to a collector."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from fastmove.cli.options import all_of
from fastmove.errors import ConfigurationError
from fastmove.limits import AUDIT_BACKLOG, AUDIT_CLOSE_S
from fastmove.notices import ErrorOccurred, InstanceStored, Notice, Observer
from fastmove.observe.crash import name_of, where
from fastmove.storage.head import values_of
from fastmove.types import Readiness
from fastmove.values import Value

if TYPE_CHECKING:
    from fastmove.observe.syslog import Sink


_STUDY: Final = 0x0020000D
_PATIENT_ID: Final = 0x00100020

audit_options: Final = all_of(
    click.option(
        "--audit-file",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help="Add DICOM audit messages (PS3.15 A.5) to this file, a line of XML each.",
    ),
    click.option(
        "--audit-syslog",
        metavar="[tls:|tcp:|udp:]HOST:PORT|unix:/PATH",
        help="Send them to a syslog collector (PS3.15 A.6, A.7); TLS where nothing is said.",
    ),
    click.option(
        "--audit-spool",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help="Where they wait while the collector is away.  [default: audit-spool in the state directory]",
    ),
    click.option(
        "--audit-ca",
        type=click.Path(path_type=Path, dir_okay=False, exists=True),
        metavar="FILE",
        help="Certificates (PEM) that vouch for the collector.  [default: those of the system]",
    ),
    click.option(
        "--audit-cert",
        type=click.Path(path_type=Path, dir_okay=False, exists=True),
        metavar="FILE",
        help="Our certificate and its key (PEM), for a collector that asks for one.",
    ),
    click.option("--audit-patient", is_flag=True, help="With the Patient ID; else no message says whose the study is."),
    click.option(
        "--audit-required",
        is_flag=True,
        help="Accept no association while the audit trail cannot be written.",
    ),
)
"""A verb with the options of the audit trail; `AuditPlan` takes their values by name."""


class AuditPlan(Value):
    """What the options say: where messages go, and what is in them; the same in all processes of a command."""

    audit_file: Path | None
    audit_syslog: str | None
    audit_spool: Path | None
    audit_ca: Path | None
    audit_cert: Path | None
    audit_patient: bool
    audit_required: bool

    @classmethod
    def of(cls, **values: Any) -> AuditPlan | None:
        """From the options; None without a place for messages.  ConfigurationError for options that contradict."""
        plan = cls(**values)
        if plan.audit_file is not None and plan.audit_syslog:
            raise ConfigurationError("audit", "give either --audit-file or --audit-syslog")
        if plan.audit_file is None and not plan.audit_syslog:
            if any(values.values()):
                raise ConfigurationError("audit", "say where: --audit-file or --audit-syslog")
            return None
        if plan.audit_file is not None:
            sink = plan.sink()
            try:
                sink.open()
            except OSError as error:
                raise ConfigurationError("audit file", f"cannot write {plan.audit_file}: {error.strerror}") from error
            sink.close()
        else:
            plan.sink()
        return plan

    def sink(self) -> Sink:
        """Where messages go; ConfigurationError if that is none."""
        from fastmove.observe.syslog import AuditFile, Collector, Syslog, tls_context

        if self.audit_file is not None:
            return AuditFile(self.audit_file)
        collector = Collector.parse(self.audit_syslog or "")
        return Syslog(collector, tls_context(self.audit_ca, self.audit_cert) if collector.transport == "tls" else None)

    def spool(self, process: int) -> Path | None:
        """Where messages wait: each process has a spool of its own.  ConfigurationError if there is no place for it."""
        path = self.audit_spool
        if path is None:
            if self.audit_file is not None:
                return None
            named = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]  # systemd.exec(5)
            state = named or os.environ.get("XDG_STATE_HOME", "")
            try:
                path = Path(state or Path.home() / ".local" / "state", "" if named else "fastmove", "audit-spool")
            except RuntimeError:  # a service without a home
                raise ConfigurationError("audit spool", "there is no home for it: give --audit-spool FILE") from None
        return path.with_name(f"{path.name}.{process}") if process else path


class Auditing:
    """The audit trail of a running command, for the length of a block: an observer, which takes no time of the loop."""

    def __init__(
        self, plan: AuditPlan, ae_title: str, notify: Observer, *, we_ask: bool = False, process: int = 0
    ) -> None:
        from fastmove.observe.audit import AuditTrail, Source
        from fastmove.observe.spool import AuditWriter, Spool

        host = os.uname().nodename
        path = plan.spool(process)
        spool = None if path is None else Spool(path)
        self._notify = notify
        self._tags = (_STUDY, _PATIENT_ID) if plan.audit_patient else (_STUDY,)
        self._writer = AuditWriter(plan.sink(), spool, notify, AUDIT_CLOSE_S, watch=plan.audit_required)
        self._trail = AuditTrail(self._writer.send, Source(ae_title, host, f"{ae_title}@{host}", we_ask))
        self._writer.serve(self._trail)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="audit-trail")
        self._waiting = 0
        self._lock = threading.Lock()
        self.ready: tuple[Readiness, ...] = (self._writer.objection,) if plan.audit_required else ()
        """What stands in the way of an association."""

    def __call__(self, notice: Notice) -> None:
        """Take note of anything but stored objects."""
        self._submit(partial(self._trail, notice))

    def stored(self, notice: InstanceStored) -> Future[None] | None:
        """An object is in place; if a future comes back, there should be no more before it is done."""
        return self._submit(partial(self._stored, notice))

    def _stored(self, notice: InstanceStored) -> None:
        try:
            said = values_of(notice.path, notice.transfer_syntax_uid, self._tags)
        except OSError:  # it has gone already, or cannot be read: that it came is known all the same
            said = {}
        study, patient = (
            said.get(tag, b"").strip(b"\0 ").decode("ascii", "backslashreplace") for tag in (_STUDY, _PATIENT_ID)
        )
        self._trail.stored(notice, study, patient)

    def _submit(self, job: Callable[[], None]) -> Future[None] | None:
        with self._lock:
            self._waiting += 1
            busy = self._waiting > AUDIT_BACKLOG
        done = self._pool.submit(job)
        done.add_done_callback(self._done)
        return done if busy else None

    def _done(self, job: Future[None]) -> None:
        with self._lock:
            self._waiting -= 1
        if (error := job.exception()) is not None:
            self._notify(ErrorOccurred("internal", name_of(error), where(error)))

    def reopen(self) -> None:
        """Begin a file anew: it has another name now; or connect anew."""
        self._writer.reopen()

    def __enter__(self) -> Auditing:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()
        self._trail.close()
        self._writer.close()
