"""Storage SCP: C-STORE-RQ → file in place → C-STORE-RSP (PS3.4 B, PS3.7 9.1.1).

Success is sent when the object is under its final name, and with `durable` when file and
directory are on stable storage.  Everything else is answered with the status that says why.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import cast

from fastmove._codec import CommandReceived, DatasetComplete, SinkFailed, WriteDue
from fastmove._sink import FileSink, FileTemplate
from fastmove.dimse.messages import CStoreRQ, decode
from fastmove.dimse.status import (
    CANNOT_UNDERSTAND,
    INVALID_SOP_INSTANCE,
    MISSING_ATTRIBUTE,
    OUT_OF_RESOURCES,
    PROCESSING_FAILURE,
    SOP_CLASS_NOT_SUPPORTED,
    SUCCESS,
)
from fastmove.errors import RemoteProtocolError, StorageError, UnwritableDataset
from fastmove.limits import UID_BYTES
from fastmove.net.connection import Connection
from fastmove.notices import InstanceRefused, InstanceStored
from fastmove.services.disk import Disk, Outcome, outcome_of
from fastmove.services.withheld import Withheld
from fastmove.storage.content import refusal
from fastmove.storage.filemeta import FileMeta
from fastmove.storage.folders import disk_failure
from fastmove.storage.layout import UID_PADDING
from fastmove.storage.options import Placing
from fastmove.storage.target import Received, StorageTarget, Stored

AT_ONCE_BYTES = 1 << 20
"""Longer data sets are examined and written anew in the pool: nobody else is to wait for that."""

MAX_PADDING = 2
"""More than one byte makes no UID even."""

OnStored = Callable[[InstanceStored], "Future[None] | None"]
"""Told of each object; a future of its keeps the next one of the association waiting: it has enough to do.

`Withheld` keeps the answer waiting as well.
"""


class StorageSCP:
    """The storage service of one association; `disk` does what blocks, `on_stored` is told of each object."""

    def __init__(
        self,
        connection: Connection,
        target: StorageTarget,
        disk: Disk,
        on_stored: OnStored | None = None,
    ) -> None:
        self._connection = connection
        self._target = target
        self._disk = disk
        self._on_stored = on_stored
        options = target.options
        written_anew = options.reencoding is not None or options.rules is not None
        self._commits = written_anew or not options.keep or target.asked is not None
        self._templates: dict[int, FileTemplate] = {}
        self._request: CommandReceived | None = None
        self._sink: FileSink | None = None
        self._uids = b"", b""
        self._name = b""
        self._nbytes = 0
        self._failure: StorageError | None = None
        self._busy = False  # a thread has the sink
        self._over = False
        self._counted = 0
        connection.write_due = self._write_due

    def command_received(self, event: CommandReceived) -> None:
        """A C-STORE-RQ that is not as usual, or the first on its context: check it, open a file."""
        self._request = event
        self._failure = None
        self._name = b""
        self._nbytes = 0
        if event.message_id < 0:
            self._connection.misbehaved("dimse.no_msgid", "CStoreRQ")
            self._connection.abort("C-STORE-RQ without a Message ID")
            return
        try:
            template = self._templates.get(event.pc_id) or self._new_template(event.pc_id)
            if not self._check(event, template.sop_class_uid):
                template = self._template(event.pc_id, self._uid(event.sop_class_uid))
            self._name = self._file_name(event)
            if remark := self._target.remark(self._uids[1]):
                self._connection.misbehaved(remark)
            self._sink = template.open(self._uids[1])
        except StorageError as error:
            self._failure = error
        except OSError as error:
            self._failure = disk_failure("fs.open", error.errno or 0)
        else:
            self._connection.attach(self._sink)
        if not event.has_dataset:
            self._refuse()

    def _new_template(self, context_id: int) -> FileTemplate:
        """How files of this context begin; from now on the receiver opens those of ordinary requests itself."""
        connection = self._connection
        template = self._template(context_id, connection.contexts[context_id].abstract_syntax.encode("ascii"))
        self._templates[context_id] = template
        connection.receiver.store_by(context_id, template, answer=self._on_stored is None)
        return template

    def _template(self, context_id: int, sop_class_uid: bytes) -> FileTemplate:
        connection = self._connection
        transfer_syntax = connection.contexts[context_id].transfer_syntax
        meta = FileMeta(sop_class_uid.decode("latin-1"), transfer_syntax, connection.calling_ae_title)
        padded = sop_class_uid + b"\0" * (len(sop_class_uid) & 1)
        return self._target.template(meta, padded, connection.limits.max_object_bytes)

    def _file_name(self, request: CommandReceived) -> bytes:
        self._uids = self._uid(request.sop_class_uid), self._uid(request.sop_instance_uid)
        return self._target.name(*self._uids)

    def _uid(self, uid: bytes | None) -> bytes:
        return self._target.options.naming.uid(uid or b"")

    def _check(self, event: CommandReceived, class_uid: bytes) -> bool:
        """Whether a request has the SOP class of its context; StorageError says what is wrong with it."""
        if event.sop_class_uid is None:
            raise StorageError("store.no_class", MISSING_ATTRIBUTE, "no Affected SOP Class UID")
        if event.sop_instance_uid is None:
            raise StorageError("store.no_instance", MISSING_ATTRIBUTE, "no Affected SOP Instance UID")
        as_agreed = event.sop_class_uid.rstrip(UID_PADDING) == class_uid.rstrip(UID_PADDING)
        if not as_agreed and not self._target.options.any_sop_class:
            raise StorageError("store.class_context", SOP_CLASS_NOT_SUPPORTED, "SOP class is not that of the context")
        lengths = len(event.sop_class_uid), 0 if self._target.options.naming.sanitize else len(event.sop_instance_uid)
        if max(lengths) > UID_BYTES + MAX_PADDING:
            raise StorageError("store.uid_length", INVALID_SOP_INSTANCE, "a UID is padded beyond all measure")
        if not event.has_dataset:
            raise StorageError("store.no_dataset", CANNOT_UNDERSTAND, "C-STORE-RQ without a data set")
        return as_agreed

    def sink_failed(self, event: SinkFailed) -> None:
        """The disk refused the data, or what is in them is refused: forget the file, remember why."""
        failure = disk_failure("fs.write", event.error_number) if event.refusal is None else refusal(event.refusal)
        self._fail(event.request, failure)

    def _fail(self, request: CommandReceived | None, failure: StorageError) -> None:
        """What comes is drained, and refused for this reason; with a request that the receiver took by itself."""
        if request is not None:
            self._request = request
            self._name = self._file_name(request)
        self._discard()
        self._failure = failure

    def dataset_complete(self, event: DatasetComplete) -> None:
        """Put the object in place and answer."""
        if event.response is not None:
            self._send(event.response)
            return
        self._nbytes = event.nbytes
        if event.request is not None:
            self._request = event.request
            if event.placed:
                self._succeed(None, Placing.NEW)
                return
            self._name = self._file_name(event.request)
            self._sink = cast("FileSink | None", event.sink)
        sink = self._sink
        if sink is None:
            self._refuse()
        elif not event.nbytes:
            self._discard()
            self._failure = StorageError("store.empty", CANNOT_UNDERSTAND, "the data set is empty")
            self._refuse()
        elif sink.deferred or (self._commits and event.nbytes > AT_ONCE_BYTES):
            self._commit(sink)
        elif self._commits:
            self._conclude(outcome_of(self._target, sink, self._name, self._received()))
        else:
            try:
                name = self._target.publish(sink, self._name, self._received())
            except FileExistsError:
                self._commit(sink)
            except StorageError as error:
                self._discard()
                self._failure = error
                self._refuse()
            except OSError as error:
                self._discard()
                self._failure = disk_failure(sink.step, error.errno or 0)
                self._refuse()
            else:
                self._sink = None
                self._succeed(name, Placing.NEW)

    def closed(self) -> None:
        """The association is over: an unfinished object is gone."""
        self._over = True
        if not self._busy:
            self._discard()

    # ------------------------------------------------------------------ what blocks

    def _commit(self, sink: FileSink) -> None:
        """Write, sync and compare; the association waits, the others do not."""
        self._connection.suspend()
        self._busy = True
        self._disk.commit(sink, self._name, self._received(), self._committed)

    def _write_due(self, event: WriteDue) -> None:
        """There is no more room for what comes of an object: write what is there."""
        self._connection.suspend()
        self._busy = True
        self._disk.run(event.sink.write_out, partial(self._written, event))

    def _written(self, event: WriteDue, error: BaseException | None) -> None:
        self._busy = False
        try:
            if isinstance(error, OSError):
                self._connection.attach(None)
                self._fail(event.request, disk_failure(event.sink.step, error.errno or 0))
            elif error is not None:
                raise error
        finally:
            if self._over:
                event.sink.discard()
            self._connection.resume()

    def _fragments(self) -> int:
        """P-DATA values since the last object, less that of the command."""
        pdvs = self._connection.receiver.pdvs
        fragments, self._counted = max(pdvs - self._counted - 1, 0), pdvs
        return fragments

    def _received(self) -> Received:
        request, connection = self._request, self._connection
        assert request is not None
        transfer_syntax = connection.contexts[request.pc_id].transfer_syntax
        return Received(*self._uids, transfer_syntax, connection.calling_ae_title, self._nbytes)

    def _committed(self, outcome: Outcome) -> None:
        self._busy = False
        try:
            self._conclude(outcome)
        finally:
            self._connection.resume()

    def _conclude(self, outcome: Outcome) -> None:
        """The answer to a whole object."""
        self._sink = None
        if isinstance(outcome, Stored):
            self._name = outcome.name
            self._failure = outcome.objection
            if outcome.objection is None:
                self._succeed(outcome.name, outcome.placing, outcome.study)
                return
        elif isinstance(outcome, StorageError):
            self._failure = outcome
        elif isinstance(outcome, UnwritableDataset):
            self._failure = StorageError("store.unwritable", OUT_OF_RESOURCES, str(outcome))
        else:
            # There is no status for what cannot be parsed in DCMTK's normal mode: it aborts.
            self._connection.misbehaved("store.truncated", str(outcome))
            self._connection.abort("the data set cannot be parsed")
            return
        self._refuse()

    def _discard(self) -> None:
        if self._sink is not None:
            self._sink.discard()
            self._sink = None

    # ------------------------------------------------------------------ answers

    def _succeed(self, name: bytes | None, placing: Placing, study: str = "") -> None:
        """Tell and answer; without a name it is that of the request."""
        request = self._request
        connection = self._connection
        assert request is not None
        if placing is Placing.QUARANTINED:
            connection.misbehaved("store.unsolicited", "set aside: nobody has asked for an object of this study")
        if self._on_stored is not None:
            try:
                name = name or self._file_name(request)
                busy = self._on_stored(self._stored(request, name, placing, study))
            except Exception as error:  # noqa: BLE001  whoever is told of objects must not cost us the association
                self._name = name or self._file_name(request)
                self._withdraw(self._name, placing, error)
                self._refuse()
                return
            if isinstance(busy, Withheld):
                self._name = name
                self._connection.suspend()
                asyncio.wrap_future(busy).add_done_callback(self._decided)
                return
            if busy is not None:
                self._wait(busy)
        self._acknowledge(request)

    def _decided(self, until: asyncio.Future[None]) -> None:
        """What was withheld is to be answered now."""
        request, error = self._request, None if until.cancelled() else until.exception()
        assert request is not None
        try:
            if error is None and not until.cancelled():
                self._acknowledge(request)
            else:
                self._failure = error if isinstance(error, StorageError) else None
                self._refuse()
        finally:
            self._connection.resume()

    def _acknowledge(self, request: CommandReceived) -> None:
        """Success."""
        connection = self._connection
        connection.receiver.count(self._nbytes)
        if len(request.sop_instance_uid or b"") > UID_BYTES + MAX_PADDING:
            answer = cast("CStoreRQ", decode(request.data)).response(SUCCESS).encode()
            self._send(connection.writer.message(request.pc_id, answer))
        else:
            self._send(connection.writer.store_response(request, SUCCESS))

    def _wait(self, until: Future[None]) -> None:
        """Read nothing more of this association until then."""
        self._connection.suspend()
        asyncio.wrap_future(until).add_done_callback(lambda _: self._connection.resume())

    def _send(self, response: bytes) -> None:
        # Aborted or lost while the object was made durable: it counts all the same.
        if self._connection.association.may_send_data:
            self._connection.write(response)

    def _stored(self, request: CommandReceived, name: bytes, placing: Placing, study: str) -> InstanceStored:
        connection = self._connection
        context = connection.contexts[request.pc_id]
        return InstanceStored(
            connection.number,
            context.abstract_syntax,
            _text(request.sop_instance_uid),
            context.transfer_syntax,
            self._nbytes,
            self._target.path(name),
            placing.value,
            connection.calling_ae_title,
            _text(request.move_originator_ae_title),
            request.move_originator_message_id,
            request.message_id,
            self._fragments(),
            study,
        )

    def _withdraw(self, name: bytes, placing: Placing, error: Exception) -> None:
        """What the observer could not take is not stored: 0110, and the file goes, if nothing else had to for it."""
        asyncio.get_running_loop().call_exception_handler(
            {"message": f"on_stored failed for {name.decode('ascii')}", "exception": error}
        )
        self._failure = StorageError("internal", PROCESSING_FAILURE, "internal error")
        if placing in (Placing.NEW, Placing.BESIDE):
            self._target.withdraw(name)

    def _refuse(self) -> None:
        try:
            request = decode(self._request.data)  # type: ignore[union-attr]
        except RemoteProtocolError as error:
            self._connection.misbehaved(error.key, error.detail)
            self._connection.abort(error.key)
            return
        failure = self._failure or StorageError("internal", PROCESSING_FAILURE, "internal error")
        self._failure = None
        assert isinstance(request, CStoreRQ)
        connection = self._connection
        if connection.notify is not None:
            connection.notify(
                InstanceRefused(
                    connection.number,
                    _text(self._request.sop_class_uid),  # type: ignore[union-attr]
                    _text(self._request.sop_instance_uid),  # type: ignore[union-attr]
                    failure.status,
                    failure.key,
                    failure.error_comment,
                    _text(self._request.move_originator_ae_title),  # type: ignore[union-attr]
                    self._request.message_id,  # type: ignore[union-attr]
                    self._fragments(),
                    self._target.path(self._name) if self._name else "",
                    self._request.move_originator_message_id,  # type: ignore[union-attr]
                )
            )
        if not connection.association.may_send_data:
            return
        response = request.response(failure.status, error_comment=failure.error_comment or None)
        connection.write(connection.writer.message(self._request.pc_id, response.encode()))  # type: ignore[union-attr]


def _text(value: bytes | None) -> str:
    return "" if value is None else value.rstrip(UID_PADDING).decode("ascii", "backslashreplace")
