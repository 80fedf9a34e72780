"""PDU framing and P-DATA reassembly, and the fragmenting of messages (PS3.8 9.3, PS3.7 6.3.1).

The receiver is pulled: bytes arrive in its window, `next_event()` says what they mean, and
parsing stops at each event, so that the caller can open a file, refuse, or pause between any two
bytes.  No Python call is made per P-DATA-TF PDU.

Longer than others by a few lines: what walks over PDUs and what gathers messages of them share one state.
"""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.errno cimport EINTR, errno
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcpy, memmove, memset

from fastmove._sink cimport DEFLATE, IOV_PIECES, META, NESTING, NO_UID, PART10, STRUCTURE, TS_SUSPECT, iovec
from fastmove._wire cimport (
    Cursor, cursor, left, load_be32, load_le16, load_le32, put_header, store_le16, store_le32, take,
)

import os

from fastmove.limits import MAX_COMMAND_BYTES, MAX_CONTROL_PDU_LENGTH, MAX_EMPTY_PDVS, MAX_PDU_LENGTH
from fastmove.types import ControlPdu, InvalidPdu, UnexpectedData

cdef extern from "sys/uio.h" nogil:
    ssize_t preadv(int fd, const iovec* iov, int count, long long offset)

cdef extern from "stdlib.h" nogil:
    int posix_memalign(void** data, size_t alignment, size_t size)

cdef extern from "sys/socket.h" nogil:
    ssize_t send(int fd, const void* data, size_t length, int flags)
    int MSG_DONTWAIT, MSG_NOSIGNAL

cdef extern from *:
    """
    #include <sys/socket.h>
    #include <netinet/in.h>
    #include <netinet/tcp.h>
    #include <sys/ioctl.h>
    /* Acknowledges now what has come, instead of up to 40 ms later, if nothing more is waiting to be read. A sender
       under Nagle's algorithm holds back the end of a PDU until then; one that is not has sent more meanwhile, and is
       spared the needless ACK. The kernel forgets the option, so it is set again after each read. */
    static inline void quick_ack_if_idle(int fd) {
    #ifdef TCP_QUICKACK
        int waiting = 0, one = 1;
        if (ioctl(fd, FIONREAD, &waiting) == 0 && waiting == 0)
            setsockopt(fd, IPPROTO_TCP, TCP_QUICKACK, &one, sizeof one);
    #else
        (void) fd;
    #endif
    }
    """
    void quick_ack_if_idle(int fd) noexcept nogil

cdef enum:
    PAGE = 4096
    PDU_HEADER = 6
    PDV_HEADER = 6
    P_DATA_TF = 4
    A_ABORT = 7
    C_STORE_RQ = 0x0001
    C_MOVE_RSP = 0x8021
    IS_COMMAND = 1          # message control header, bit 0 (PS3.8 E.2)
    IS_LAST = 2             # bit 1; bits 2-7 are not tested
    SUCCESS = 0x0000
    NO_DATA_SET = 0x0101    # Command Data Set Type (PS3.7 E.1)
    # Bits of `remarks`: what is odd, but taken.  `_sink` has those above.
    GROUP_LENGTH = 1
    ELEMENT_ORDER = 2
    PRIORITY = 4
    UID_PADDING = 8
    MCH_BITS = 16
    ODD_PDV = 32
    PIPELINED = 64
    ODD_DATA_SET = 128
    LEAST_ROOM = 65536      # free bytes of the window that are worth another read before a deferred sink is written
    FRAGMENTS = 64          # PDVs that the writer fills by one read
    DEFAULT_FRAGMENT = 131072 - PDV_HEADER

REMARKS = {
    GROUP_LENGTH: "dimse.group_length",
    ELEMENT_ORDER: "dimse.order",
    PRIORITY: "dimse.priority",
    UID_PADDING: "store.uid_pad",
    MCH_BITS: "pdv.mch",
    ODD_PDV: "pdv.odd",
    PIPELINED: "dimse.pipelined",
    ODD_DATA_SET: "store.odd",
    NO_UID: "store.no_uid_in_ds",
    NESTING: "store.nesting",
    STRUCTURE: "store.structure",
    META: "store.meta_in_ds",
    PART10: "store.part10_in_ds",
    TS_SUSPECT: "store.ts_suspect",
    DEFLATE: "store.deflate",
}

cdef uint64_t hard_max_pdu_length = MAX_PDU_LENGTH


@cython.final
cdef class Window:
    """A fixed piece of memory that knows how many views of it are alive."""

    def __cinit__(self, Py_ssize_t size):
        if size < 4096:
            raise ValueError("a window has at least 4096 bytes")
        cdef void* data = NULL
        if posix_memalign(&data, PAGE, <size_t>size):   # the kernel copies whole pages faster
            raise MemoryError()
        self.data = <unsigned char*>data
        self.size = size

    def __dealloc__(self):
        free(self.data)     # every view holds a reference: none can be alive here

    def __getbuffer__(self, Py_buffer* view, int flags):
        view.buf = self.data
        view.obj = self
        view.len = self.size
        view.readonly = False
        view.itemsize = 1
        view.format = NULL      # unsigned bytes, if nothing is said
        view.ndim = 1
        view.shape = &view.len
        view.strides = &view.itemsize
        view.suboffsets = NULL
        view.internal = NULL
        self.views += 1

    def __releasebuffer__(self, Py_buffer* view):
        self.views -= 1


cdef inline bint ends_in_space(bytes uid) noexcept:
    return uid is not None and PyBytes_GET_SIZE(uid) > 0 and PyBytes_AS_STRING(uid)[PyBytes_GET_SIZE(uid) - 1] == 0x20


@cython.final
@cython.freelist(16)
cdef class CommandReceived:
    """A whole command set, and the few elements of it that storage needs at once, in both roles.

    UIDs and the AE title are as received, padding included, None if absent; numbers are -1 if
    absent.
    """

    cdef object scan(self):
        # None, or the reason why this is no command set (PS3.7 6.3.1: implicit VR little endian).
        cdef:
            Cursor c = cursor(<const unsigned char*>PyBytes_AS_STRING(self.data), PyBytes_GET_SIZE(self.data))
            const unsigned char* p
            const unsigned char* value
            uint32_t length
            int element
            int previous = -1
            int size = <int>PyBytes_GET_SIZE(self.data)
            bint typed = False
            bint measured = False
            bint counted = False
            bint urgent = False
        self.command_field = -1
        self.message_id = -1
        self.status = -1
        self.move_originator_message_id = -1
        while left(&c):
            p = take(&c, 8)
            if p is NULL:
                return "dimse.malformed"
            if load_le16(p) != 0:
                return "dimse.order"
            element = load_le16(p + 2)
            length = load_le32(p + 4)
            value = take(&c, length)
            if value is NULL:
                return "dimse.malformed"
            if element <= previous:
                self.remarks |= ELEMENT_ORDER
            previous = element
            if element == 0x0000:
                if length == 4 and not counted:
                    measured = load_le32(value) == <uint32_t>(size - 12)
                    counted = True
            elif element == 0x0700:
                urgent = length == 2 and load_le16(value) <= 2
            elif element == 0x0002:
                if self.sop_class_uid is None:
                    self.sop_class_uid = PyBytes_FromStringAndSize(<const char*>value, length)
            elif element == 0x0100:
                if length != 2:
                    return "dimse.no_command"
                if self.command_field < 0:
                    self.command_field = load_le16(value)
            elif element == 0x0110 or element == 0x0120:
                # Message ID, or Message ID Being Responded To: a message has one of them.
                if length != 2 and length != 0:
                    return "dimse.malformed"
                if self.message_id < 0 and length:
                    self.message_id = load_le16(value)
            elif element == 0x0800:
                if length != 2:
                    return "dimse.malformed"
                if not typed:
                    self.has_dataset = load_le16(value) != NO_DATA_SET
                    typed = True
            elif element == 0x0900:
                if length != 2:
                    return "dimse.malformed"
                if self.status < 0:
                    self.status = load_le16(value)
            elif element == 0x1000:
                if self.sop_instance_uid is None:
                    self.sop_instance_uid = PyBytes_FromStringAndSize(<const char*>value, length)
            elif element == 0x1030:
                if self.move_originator_ae_title is None:
                    self.move_originator_ae_title = PyBytes_FromStringAndSize(<const char*>value, length)
            elif element == 0x1031 and length == 2:
                if self.move_originator_message_id < 0:
                    self.move_originator_message_id = load_le16(value)
        if not measured:
            self.remarks |= GROUP_LENGTH
        if self.command_field == C_STORE_RQ:
            if not urgent:
                self.remarks |= PRIORITY
            if ends_in_space(self.sop_class_uid) or ends_in_space(self.sop_instance_uid):
                self.remarks |= UID_PADDING
        return None if self.command_field >= 0 else "dimse.no_command"

    def __repr__(self):
        return f"CommandReceived(pc_id={self.pc_id}, command_field=0x{self.command_field:04X}, {len(self.data)} bytes)"


@cython.final
@cython.freelist(16)
cdef class DatasetComplete:
    """The last fragment of a data set has come; `nbytes` in all, in `sink`.

    `request` is the C-STORE-RQ if the receiver opened the file itself (`store_by`), else None; if it
    is `placed` the file has its final name already, and there is no sink any more.  `response` is
    what the receiver could not send of its answer, None if it did not answer.
    """

    def __repr__(self):
        return f"DatasetComplete(pc_id={self.pc_id}, nbytes={self.nbytes})"


@cython.final
cdef class SinkFailed:
    """The sink could not take the data; what follows of the data set is drained.

    `refusal` is the log event of what is wrong with the data set, None if it is the disk: then `error_number` says it.
    """

    def __repr__(self):
        return f"SinkFailed(error_number={self.error_number})"


@cython.final
cdef class WriteDue:
    """The pieces of a deferred sink must be written (`write_out`) before the receiver can go on.

    Its owner suspends the receiver until that is done; `request` as in DatasetComplete.
    """

    def __repr__(self):
        return f"WriteDue(nbytes={self.sink.nbytes})"


@cython.final
cdef class PduReceiver:
    """Bytes in, events out: one association's incoming stream (PS3.8 9.3, Annex E).

    `window` bytes are allocated once.  `max_pdu_length` is what we announced; 0 (no limit) is
    bounded by `limits.MAX_PDU_LENGTH`.  Events are pulled with `next_event()`, or a loop reads into
    `get_buffer()` and calls `buffer_updated()`, which gives them to `on_event`.
    """

    def __cinit__(self, *, Py_ssize_t window, uint64_t max_pdu_length,
                  uint64_t max_control_pdu_length=MAX_CONTROL_PDU_LENGTH,
                  uint64_t max_command_bytes=MAX_COMMAND_BYTES, int max_empty_pdvs=MAX_EMPTY_PDVS):
        self.window = Window(window)
        self.whole_window = memoryview(self.window)
        if max_pdu_length == 0 or max_pdu_length > hard_max_pdu_length:
            max_pdu_length = hard_max_pdu_length
        self.max_pdu_length = max_pdu_length
        self.max_control_pdu_length = max_control_pdu_length
        self.max_command_bytes = max_command_bytes
        self.max_empty_pdvs = max_empty_pdvs
        self.control_type = -1
        self.templates = {}
        self.answered = set()
        self.fd = -1

    def get_buffer(self, Py_ssize_t sizehint) -> memoryview:
        """The free tail of the window; valid until the next call.

        BufferError if the window is full: the caller must stop reading while it leaves events
        unread.
        """
        if self.sink is not None and self.sink.deferred and (<FileSink>self.sink).gathered:
            return self.whole_window[self.end:]     # its pieces lie before: there is room, or need_data() had said so
        if self.start == self.end:
            self.start = self.end = 0
            return self.whole_window
        if self.start:
            memmove(self.window.data, self.window.data + self.start, <size_t>(self.end - self.start))
            self.end -= self.start
            self.start = 0
        if self.end == self.window.size:
            raise BufferError("the receive window is full")
        return self.whole_window[self.end:]

    def buffer_updated(self, Py_ssize_t nbytes) -> None:
        """`nbytes` have arrived: give each event to `on_event`, until one sets `suspended`.

        Then `on_read` is called if there are new `remarks` or it is `wanted`, and the peer gets its
        ACK at once if it may be waiting for it: in the middle of a message, or always with
        `only_listens` (no response of ours carries the ACK of what came last).
        """
        cdef object event
        self.advance(nbytes)
        self.reading = True
        try:
            while not self.suspended:
                event = self.next_event()
                if event is None:
                    break
                self.on_event(event)
        finally:
            self.reading = False
        if self.wanted or self.remarks != self.reported:
            self.reported = self.remarks
            self.on_read()
        if self.fd >= 0 and (self.only_listens or self.is_receiving()):
            quick_ack_if_idle(self.fd)

    cpdef int advance(self, Py_ssize_t nbytes) except -1:
        """`nbytes` have arrived in the buffer handed out last."""
        if nbytes < 0 or nbytes > self.window.size - self.end:
            raise ValueError("more bytes than the window has room for")
        self.end += nbytes
        self.received += <uint64_t>nbytes
        return 0

    def allow_data(self, bint allowed) -> None:
        """Whether a P-DATA-TF PDU is legal now: the state table's word."""
        if not allowed and self.sink is not None:
            self.part_with_sink()
        self.data_allowed = allowed

    def accept(self, context_ids) -> None:
        """The presentation context IDs that may occur in PDVs."""
        memset(self.accepted, 0, sizeof(self.accepted))
        for pc_id in context_ids:
            self.accepted[<unsigned char>pc_id] = True

    def attach(self, DatasetSink sink) -> None:
        """Where the data set of the command just received goes; None: drain and count."""
        if isinstance(sink, FileSink):
            (<FileSink>sink).source = self.window
        self.sink = sink

    def store_by(self, int context_id, FileTemplate template, *, bint answer=False) -> None:
        """Open the files of ordinary C-STORE-RQs on this context by `template`, without asking; None: ask again.

        Such a request gives no CommandReceived: DatasetComplete brings it, and the sink.  One that is
        not ordinary (another SOP class, a UID that is not digits and dots, no data set, no Message
        ID), and one whose file cannot be made, is reported as ever.  With `answer` an object that has
        its final name is counted in `stored` and answered with success, and gives no event at all:
        by `writer`, through the socket `fd`.
        """
        self.answered.discard(context_id)
        if template is None:
            self.templates.pop(context_id, None)
        else:
            self.templates[context_id] = template
            if answer:
                self.answered.add(context_id)

    cpdef int count(self, uint64_t nbytes) except -1:
        """An object of `nbytes` is stored: under its final name, if the receiver did not do it itself."""
        self.stored += 1
        self.stored_bytes += nbytes
        return 0

    cdef bint is_mid_message(self) noexcept:
        return self.pdu_left > 0 or self.dataset_due or self.command is not None

    cdef bint is_receiving(self) noexcept:
        if self.control_type >= 0 or self.start != self.end or self.pdu_left > 0:
            return True
        # Some PACS announce an identifier in each pending C-MOVE-RSP, and send none: it is not waited for.
        return self.is_mid_message() and not (self.dataset_due and self.moving and not self.dataset_bytes)

    @property
    def mid_message(self) -> bool:
        """True while a message is under way: some of it has come, but not its end."""
        return self.is_mid_message()

    @property
    def receiving(self) -> bool:
        """True while a message or a PDU is under way: the peer may be waiting for our ACK."""
        return self.is_receiving()

    @property
    def unread(self) -> int:
        """Bytes in the window that no event has told of yet."""
        return self.end - self.start

    cpdef object next_event(self):
        """What came next, or None: more data is needed."""
        cdef object event
        cdef Py_ssize_t n
        while not self.closed:
            if self.pdu_left and not self.data_allowed:
                self.drop_pdu()
                if self.pdu_left:
                    return None
            elif self.in_pdv:
                event = self.take_fragment()
                if event is not None:
                    return event
                if self.in_pdv:
                    return self.need_data()
            elif self.control_type >= 0:
                event = self.take_control()
                return event if event is not None else self.need_data()
            else:
                n = PDV_HEADER if self.pdu_left else PDU_HEADER
                if self.end - self.start < n:
                    if self.pdu_left and self.pdu_left < PDV_HEADER:
                        return self.invalid("pdv.trailing")
                    return self.need_data()
                if self.pdu_left:
                    event = self.begin_pdv(self.window.data + self.start)
                else:
                    event = self.begin_pdu(self.window.data + self.start)
                if event is not None:
                    return event
                self.start += n
                self.offset += <uint64_t>n
        self.offset += <uint64_t>(self.end - self.start)
        self.dropped += <uint64_t>(self.end - self.start)
        self.start = self.end
        return None

    cdef void drop_pdu(self) noexcept:
        # The association ended in the middle of a P-DATA-TF PDU: the rest of it is not read any more.
        cdef Py_ssize_t n = self.end - self.start
        if <uint64_t>n > self.pdu_left:
            n = <Py_ssize_t>self.pdu_left
        self.start += n
        self.offset += <uint64_t>n
        self.dropped += <uint64_t>n
        self.pdu_left -= <uint64_t>n
        self.in_pdv = self.dataset_due = False
        self.sink = None
        self.command = None

    cdef object need_data(self):
        # The window is read: what lies in it must be written before it is filled again.
        if self.sink is None:
            return None
        if not self.sink.deferred:
            return self.flush_sink()
        if self.window.size - self.end >= LEAST_ROOM or not (<FileSink>self.sink).gathered:
            return None
        return self.write_due()

    cdef object write_due(self):
        cdef WriteDue event = WriteDue.__new__(WriteDue)
        event.sink = <FileSink>self.sink
        event.request = self.request
        return event

    cdef void part_with_sink(self) noexcept:
        # Its pieces must not outlive what follows, wanted or not.
        if self.sink.deferred:
            (<FileSink>self.sink).forget()
        else:
            self.sink.flush()
        self.sink = None

    cdef object flush_sink(self):
        cdef int error = self.sink.flush()
        if error:
            return self.sink_failed(error)
        return None

    cdef object sink_failed(self, int error):
        cdef SinkFailed event = SinkFailed.__new__(SinkFailed)
        event.error_number = error
        event.request = self.request
        event.refusal = self.sink.refusal
        self.sink = None
        return event

    cdef object invalid(self, str reason, str detail=""):
        self.closed = True
        if self.sink is not None:
            self.part_with_sink()
        return InvalidPdu(reason, self.offset, detail)

    cdef object begin_pdu(self, const unsigned char* p):
        cdef int pdu_type = p[0]
        cdef uint64_t length = load_be32(p + 2)
        if pdu_type == P_DATA_TF:
            if not self.data_allowed:
                self.invalid("pdu.unexpected")
                return UnexpectedData(self.offset)
            if length > self.max_pdu_length:
                return self.invalid("pdu.too_long", f"length={length}, at most {self.max_pdu_length}")
            if length < PDV_HEADER:
                return self.invalid("pdu.short", f"length={length}")
            self.pdu_left = length
            self.pdus += 1
            return None
        # A data set may be under way: what was gathered of it must not wait in the window.
        event = self.need_data()
        if event is not None:
            return event
        if pdu_type < 1 or pdu_type > A_ABORT:
            return self.invalid("pdu.unknown_type", f"type=0x{pdu_type:02x}")
        if length > self.max_control_pdu_length:
            return self.invalid("pdu.too_long", f"length={length}, at most {self.max_control_pdu_length}")
        self.control_type = pdu_type
        self.control_left = length
        self.control = bytearray()
        return None

    cdef object take_control(self):
        cdef Py_ssize_t n = self.end - self.start
        if <uint64_t>n > self.control_left:
            n = <Py_ssize_t>self.control_left
        if n:
            self.control += PyBytes_FromStringAndSize(<const char*>self.window.data + self.start, n)
            self.start += n
            self.offset += <uint64_t>n
            self.control_left -= <uint64_t>n
        if self.control_left:
            return None
        event = ControlPdu(self.control_type, bytes(self.control))
        self.control_type = -1
        self.control = None
        return event

    cdef object begin_pdv(self, const unsigned char* p):
        cdef uint64_t length = load_be32(p)
        cdef uint64_t have = 0
        cdef int context = p[4]
        cdef int header = p[5]
        if self.pdu_left < PDV_HEADER:
            return self.invalid("pdv.trailing")
        if length < 2:
            return self.invalid("pdv.length", f"length={length}")
        if length > self.pdu_left - 4:
            return self.invalid("pdv.overrun", f"length={length}, at most {self.pdu_left - 4}")
        if not self.accepted[context]:
            return self.invalid("pdv.context", f"context={context}")
        if ((header & IS_COMMAND) != 0) == self.dataset_due:
            if self.dataset_due and self.moving and not self.dataset_bytes:
                return self.no_dataset()
            return self.invalid("pdv.order")
        if self.dataset_due:
            if context != self.dataset_context:
                return self.invalid("pdv.context_switch")
        else:
            if self.command is not None:
                if context != self.command_context:
                    return self.invalid("pdv.context_switch")
                have = <uint64_t>len(self.command)
            if have + length - 2 > self.max_command_bytes:
                return self.invalid("dimse.cmd_too_long")
        self.pdu_left -= PDV_HEADER
        self.pdv_left = length - 2
        self.pdv_context = context
        self.pdv_header = header
        self.in_pdv = True
        self.pdvs += 1
        if header & ~(IS_COMMAND | IS_LAST):
            self.remarks |= MCH_BITS
        if self.pdv_left & 1:
            self.remarks |= ODD_PDV
        if self.pdv_left or header & IS_LAST:
            self.empty_pdvs = 0
        else:
            self.empty_pdvs += 1
            if self.empty_pdvs > self.max_empty_pdvs:
                return self.invalid("pdv.empty_flood")
        return None

    cdef object no_dataset(self):
        # Some PACS announce an identifier in each pending C-MOVE-RSP, and send none: the next response is here.
        cdef DatasetComplete complete = DatasetComplete.__new__(DatasetComplete)
        complete.pc_id = self.dataset_context
        complete.sink = self.sink
        self.dataset_due = False
        self.sink = None
        self.messages += 1
        return complete

    cdef object take_fragment(self):
        # Bytes of the PDV under way; an event when they complete a message or the sink fails.
        cdef:
            Py_ssize_t n = self.end - self.start
            const unsigned char* p = self.window.data + self.start
            DatasetComplete complete
            bint last
            int error = 0
        if self.sink is not None and self.sink.deferred and (<FileSink>self.sink).pieces >= IOV_PIECES:
            if not (<FileSink>self.sink).coalesce():
                return self.write_due()
        if <uint64_t>n > self.pdv_left:
            n = <Py_ssize_t>self.pdv_left
        self.start += n
        self.offset += <uint64_t>n
        self.pdv_left -= <uint64_t>n
        self.pdu_left -= <uint64_t>n
        last = self.pdv_left == 0 and self.pdv_header & IS_LAST
        if self.pdv_left == 0:
            self.in_pdv = False
        if self.pdv_header & IS_COMMAND:
            return self.take_command(p, n, last)
        self.dataset_bytes += <uint64_t>n
        if self.sink is not None:
            if n:
                error = self.sink.push(p, n)
            if last and not error:
                error = self.sink.end()
                self.remarks |= self.sink.remarks
            if last and not error and not self.sink.deferred:
                error = self.sink.flush()
            if error:
                # The end of the data set, if this was it, is told by the next call.
                if last:
                    self.in_pdv = True
                return self.sink_failed(error)
        if not last:
            return None
        complete = DatasetComplete.__new__(DatasetComplete)
        complete.pc_id = self.dataset_context
        complete.nbytes = self.dataset_bytes
        if self.request is not None:
            complete.request = self.request
            if isinstance(self.sink, FileSink) and self.dataset_bytes:
                complete.placed = self.template.place(<FileSink>self.sink, self.request.sop_instance_uid)
        if not complete.placed:
            complete.sink = self.sink
        if self.storing:
            if self.start != self.end:      # more already, before the peer has our response
                self.remarks |= PIPELINED
            if self.dataset_bytes & 1:
                self.remarks |= ODD_DATA_SET
        self.dataset_due = False
        self.sink = None
        self.messages += 1
        if complete.placed and self.writer is not None and complete.pc_id in self.answered:
            self.count(complete.nbytes)
            complete.response = self.send_response(complete.request)
            if complete.response is None:
                return None
        return complete

    cdef bytes send_response(self, CommandReceived request):
        # What the socket does not take of it at once, or None.
        cdef bytes response = self.writer.store_response(request, SUCCESS)
        cdef int sent = send_now(self.fd, response) if self.fd >= 0 else 0
        return None if sent == PyBytes_GET_SIZE(response) else response[sent:]

    cdef object take_command(self, const unsigned char* p, Py_ssize_t n, bint last):
        cdef CommandReceived event
        cdef FileTemplate template
        if not last or self.command is not None:
            if self.command is None:
                self.command = bytearray()
                self.command_context = self.pdv_context
            self.command += PyBytes_FromStringAndSize(<const char*>p, n)
            if not last:
                return None
        event = CommandReceived.__new__(CommandReceived)
        event.pc_id = self.pdv_context
        if self.command is None:
            event.data = PyBytes_FromStringAndSize(<const char*>p, n)
        else:
            event.data = bytes(self.command)
            self.command = None
        reason = event.scan()
        if reason is not None:
            return self.invalid(reason)
        self.sink = None
        self.remarks |= event.remarks
        self.storing = event.command_field == C_STORE_RQ
        self.moving = event.command_field == C_MOVE_RSP
        self.dataset_due = event.has_dataset
        self.dataset_context = event.pc_id
        self.dataset_bytes = 0
        self.request = None
        if not event.has_dataset:
            self.messages += 1
        elif self.storing and event.message_id >= 0 and self.templates:
            template = <FileTemplate>self.templates.get(event.pc_id)
            if template is not None:
                self.sink = template.open_plain(event.sop_class_uid, event.sop_instance_uid)
                if self.sink is not None:
                    (<FileSink>self.sink).source = self.window
                    self.request = event
                    self.template = template
                    return None
        return event


cpdef Py_ssize_t send_now(int fd, data) except -1:
    """Send what the socket takes at once, without waiting; how many bytes that were (0 on any error)."""
    cdef ssize_t sent
    cdef Py_buffer view
    if type(data) is bytes:
        sent = send(fd, PyBytes_AS_STRING(data), <size_t>PyBytes_GET_SIZE(data), MSG_DONTWAIT | MSG_NOSIGNAL)
        return sent if sent > 0 else 0
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    with nogil:
        sent = send(fd, view.buf, <size_t>view.len, MSG_DONTWAIT | MSG_NOSIGNAL)
    PyBuffer_Release(&view)
    return sent if sent > 0 else 0


cdef inline unsigned char* put_element(unsigned char* p, int element, Py_ssize_t length) noexcept:
    # Tag (0000,element) and even length, implicit VR little endian; returns where the value goes.
    memset(p, 0, 8)
    store_le16(p + 2, <unsigned short>element)
    store_le32(p + 4, <uint32_t>length)
    return p + 8


cdef inline unsigned char* put_us(unsigned char* p, int element, int value) noexcept:
    p = put_element(p, element, 2)
    store_le16(p, <unsigned short>value)
    return p + 2


cdef inline unsigned char* put_text(unsigned char* p, int element, bytes text, int padding) noexcept:
    # Padded to an even length.
    cdef Py_ssize_t n = PyBytes_GET_SIZE(text)
    p = put_element(p, element, n + (n & 1))
    memcpy(p, PyBytes_AS_STRING(text), <size_t>n)
    if n & 1:
        p[n] = <unsigned char>padding
    return p + n + (n & 1)


def store_request(bytes sop_class_uid not None, bytes sop_instance_uid not None, int message_id,
                  bytes move_originator_ae_title=None, int move_originator_message_id=0) -> bytes:
    """The command set of a C-STORE-RQ with medium priority (PS3.7 9.3.1.1).

    UIDs have at most 64 bytes, the AE title of a C-MOVE's requestor at most 16: ValueError
    otherwise.
    """
    cdef unsigned char buffer[512]
    cdef unsigned char* p = put_element(buffer, 0x0000, 4) + 4
    if not 0 <= message_id < 65536 or not 0 <= move_originator_message_id < 65536:
        raise ValueError("a Message ID has 16 bits")
    if len(sop_class_uid) > 64 or len(sop_instance_uid) > 64 or \
            (move_originator_ae_title is not None and len(move_originator_ae_title) > 16):
        raise ValueError("a UID has at most 64 bytes, an AE title 16")
    p = put_text(p, 0x0002, sop_class_uid, 0)
    p = put_us(p, 0x0100, 0x0001)
    p = put_us(p, 0x0110, message_id)
    p = put_us(p, 0x0700, 0)
    p = put_us(p, 0x0800, 0x0001)
    p = put_text(p, 0x1000, sop_instance_uid, 0)
    if move_originator_ae_title is not None:
        p = put_text(p, 0x1030, move_originator_ae_title, 0x20)
        p = put_us(p, 0x1031, move_originator_message_id)
    store_le32(buffer + 8, <uint32_t>(p - buffer - 12))
    return PyBytes_FromStringAndSize(<const char*>buffer, p - buffer)


@cython.final
cdef class PDataWriter:
    """Messages out, as P-DATA-TF PDUs of at most `max_pdu_length` (PS3.8 9.3.5; 0: no limit).

    A data set from a file is read straight into the place behind its headers: read once, sent
    from there.
    """

    def __cinit__(self, uint64_t max_pdu_length, *, Py_ssize_t buffer_bytes=524288):
        if max_pdu_length and max_pdu_length < PDV_HEADER + 2:
            raise ValueError("no data fits into PDUs so short")
        self.fragment = DEFAULT_FRAGMENT
        if max_pdu_length and max_pdu_length - PDV_HEADER < DEFAULT_FRAGMENT:
            self.fragment = <Py_ssize_t>(max_pdu_length - PDV_HEADER) & ~<Py_ssize_t>1
        self.window = Window(max(buffer_bytes, DEFAULT_FRAGMENT + 4096))
        self.fd = -1

    def message(self, int pc_id, bytes command not None, bytes dataset=None) -> bytes:
        """A whole message from memory: command set, and data set if there is one."""
        cdef bytes framed = self.frame(pc_id, command, IS_COMMAND)
        return framed if dataset is None else framed + self.frame(pc_id, dataset, 0)

    cdef bytes frame(self, int pc_id, bytes data, int kind):
        cdef:
            Py_ssize_t size = PyBytes_GET_SIZE(data), at = 0, n
            Py_ssize_t fragments = 1 + (size - 1) // self.fragment if size else 1
            bytes framed = PyBytes_FromStringAndSize(NULL, size + 12 * fragments)
            unsigned char* p = <unsigned char*>PyBytes_AS_STRING(framed)
        while True:
            n = min(self.fragment, size - at)
            p = put_header(p, <uint64_t>n, pc_id, kind | (IS_LAST if at + n == size else 0))
            memcpy(p, PyBytes_AS_STRING(data) + at, <size_t>n)
            p += n
            at += n
            if at == size:
                return framed

    cpdef bytes store_response(self, CommandReceived request, int status):
        """C-STORE-RSP without an error comment (PS3.7 9.3.1.2), ready to be sent.

        The UIDs are those of the request as they came, so that the peer finds what it sent.
        ValueError if the request lacks a Message ID or a UID, or a UID has more than 66 bytes.
        """
        cdef unsigned char buffer[512]
        cdef unsigned char* p = buffer + 12
        cdef Py_ssize_t n
        if request is None or request.sop_class_uid is None or request.sop_instance_uid is None \
                or request.message_id < 0 or len(request.sop_class_uid) > 66 or len(request.sop_instance_uid) > 66:
            raise ValueError("not a C-STORE-RQ that can be answered in short")
        p = put_element(p, 0x0000, 4) + 4
        p = put_text(p, 0x0002, request.sop_class_uid, 0)
        p = put_us(p, 0x0100, 0x8001)
        p = put_us(p, 0x0120, request.message_id)
        p = put_us(p, 0x0800, NO_DATA_SET)
        p = put_us(p, 0x0900, status)
        p = put_text(p, 0x1000, request.sop_instance_uid, 0)
        n = p - buffer - 12
        store_le32(buffer + 12 + 8, <uint32_t>(n - 12))
        if n > self.fragment:
            return self.frame(request.pc_id, PyBytes_FromStringAndSize(<const char*>buffer + 12, n), IS_COMMAND)
        put_header(buffer, <uint64_t>n, request.pc_id, IS_COMMAND | IS_LAST)
        return PyBytes_FromStringAndSize(<const char*>buffer, n + 12)

    def begin(
        self, int pc_id, bytes command not None, int fd, uint64_t offset, uint64_t nbytes,
        bytes before not None=b"",
    ) -> None:
        """Start a message whose data set is `before`, and then the file `fd` from `offset` on: `nbytes` in all."""
        if not nbytes or <uint64_t>PyBytes_GET_SIZE(before) > nbytes:
            raise ValueError("a data set has at least one element, and what is before the file is a part of it")
        self.pc_id = pc_id
        self.command = self.frame(pc_id, command, IS_COMMAND)
        if PyBytes_GET_SIZE(self.command) > 4096:
            raise ValueError("command set too long")
        self.fd = fd
        self.file_offset = offset
        self.dataset_left = nbytes
        self.before = before
        self.before_at = 0

    def next_chunk(self):
        """The next PDUs as a view, or None at the end of the message.

        The view is valid until the next call.  OSError if the file cannot be read, EOFError if it
        is shorter than announced.
        """
        cdef:
            iovec piece[FRAGMENTS]
            unsigned char* p = self.window.data
            unsigned char* end = p + self.window.size
            Py_ssize_t n
            uint64_t ahead = self.dataset_left
            int count = 0
        if self.dataset_left == 0:
            return None
        if self.command is not None:
            memcpy(p, PyBytes_AS_STRING(self.command), <size_t>PyBytes_GET_SIZE(self.command))
            p += PyBytes_GET_SIZE(self.command)
            self.command = None
        while ahead and count < FRAGMENTS and <uint64_t>(end - p) > 12 + min(<uint64_t>self.fragment, ahead):
            n = <Py_ssize_t>min(<uint64_t>self.fragment, ahead)
            ahead -= <uint64_t>n
            piece[count].iov_base = put_header(p, <uint64_t>n, self.pc_id, 0 if ahead else IS_LAST)
            piece[count].iov_len = <size_t>n
            p += 12 + n
            count += 1
        self.fill(piece, count, self.dataset_left - ahead)
        self.dataset_left = ahead
        return memoryview(self.window)[:p - self.window.data]

    cdef int fill(self, iovec* piece, int count, uint64_t wanted) except -1:
        cdef ssize_t got
        while wanted:
            got = PyBytes_GET_SIZE(self.before) - self.before_at
            if got:
                got = <ssize_t>min(<size_t>got, piece.iov_len)
                memcpy(piece.iov_base, PyBytes_AS_STRING(self.before) + self.before_at, <size_t>got)
                self.before_at += got
            else:
                with nogil:
                    got = preadv(self.fd, piece, count, <long long>self.file_offset)
                if got < 0:
                    if errno == EINTR:
                        continue
                    raise OSError(errno, os.strerror(errno))
                if got == 0:
                    raise EOFError("the file is shorter than it was")
                self.file_offset += <uint64_t>got
            wanted -= <uint64_t>got
            while count and <size_t>got >= piece.iov_len:
                got -= <ssize_t>piece.iov_len
                piece += 1
                count -= 1
            if count:
                piece.iov_base = <char*>piece.iov_base + got
                piece.iov_len -= <size_t>got
        return 0
