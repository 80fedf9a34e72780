"""What the targets of the Upper Layer do with every input: it arrives, and whoever has to act on an event does so.

Compiled, for the fuzzer alone (`make build-fuzz`): in Python nine tenths of the time would be that of the harness, and
of AddressSanitizer looking after Python's own objects.  How an input is read is said in `streams.py` and
`fuzz_dimse.py`; every input that is looked at thoroughly is compared with those, by `pieces` and `stream`.
"""

cimport cython
from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.string cimport memcpy

from fastmove._codec cimport CommandReceived, DatasetComplete, PduReceiver, WriteDue
from fastmove._sink cimport DatasetSink
from fastmove._wire cimport load_le16, store_be32

from fastmove._sink import MemorySink
from tests.fuzz import fuzz_dimse, fuzz_pdu, streams

cdef extern from "unistd.h" nogil:
    int unlinkat(int dirfd, const char* path, int flags)

cdef enum:
    MAX_INPUT = 4096
    MAX_STREAM = 2 * MAX_INPUT      # of pieces of 11 bytes, with a header of six each
    BYTEWISE = 0xF0
    SINGLE = 16
    MAX_PIECES = SINGLE + 2
    PDU_HEADER = 6
    PDV_HEADER = 6
    P_DATA = 4
    COMMAND = 1
    LAST = 2

cdef DatasetSink NOWHERE = DatasetSink()
cdef object make_memory = MemorySink
cdef Py_ssize_t WINDOW = streams.WINDOW


cdef int cut(Py_ssize_t size, int how, Py_ssize_t* piece) noexcept:
    # Lengths of the pieces, some of them empty; how many.
    cdef Py_ssize_t first, other
    cdef int count = 0
    if not how:
        piece[0] = size
        return 1
    if how >= BYTEWISE:
        first = max(0, size - SINGLE * (how - BYTEWISE + 1))
        piece[0] = first
        while count < SINGLE and first < size:
            count += 1
            piece[count] = 1
            first += 1
        piece[count + 1] = size - first
        return count + 2
    first = how * size // BYTEWISE
    piece[0] = first
    if how & 1:
        piece[1] = size - first
        return 2
    other = (size - first) * (how * 37 % 101) // 101
    piece[1] = other
    piece[2] = size - first - other
    return 3


cdef int arrive(PduReceiver receiver, object take, const unsigned char* data, Py_ssize_t size, int how) except -1:
    cdef:
        Py_ssize_t[MAX_PIECES] piece
        int i, count = cut(size, how, piece)
        Py_ssize_t n, left
        Py_buffer view
    receiver.on_event = take
    receiver.on_read = nothing
    for i in range(count):
        left = piece[i]
        while left:
            PyObject_GetBuffer(receiver.get_buffer(-1), &view, PyBUF_WRITABLE)
            n = min(left, view.len)
            memcpy(view.buf, data, <size_t>n)
            PyBuffer_Release(&view)
            data += n
            left -= n
            receiver.buffer_updated(n)
    receiver.on_event = receiver.on_read = None     # who takes has the receiver
    assert receiver.received == <size_t>size
    return 0


def nothing():
    """Nobody wants to know what was odd."""


def pieces(Py_ssize_t size, int how):
    """How long the pieces are, but for the empty ones; as `streams.cut`."""
    cdef Py_ssize_t[MAX_PIECES] piece
    cdef int count = cut(size, how, piece)
    return [piece[i] for i in range(count) if piece[i]]


@cython.final
cdef class Forgetting:
    # Nobody is interested.
    cdef PduReceiver receiver

    def __call__(self, event):
        if type(event) is CommandReceived and (<CommandReceived>event).has_dataset:
            self.receiver.attach(NOWHERE)


def pdu(bytes data not None):
    """A whole stream is read."""
    cdef Forgetting take
    cdef const unsigned char* p = <const unsigned char*>PyBytes_AS_STRING(data)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
    if size < 2:
        return
    take = Forgetting.__new__(Forgetting)
    take.receiver = fuzz_pdu.made(p[0])
    arrive(take.receiver, take, p + 2, size - 2, p[1])


@cython.final
cdef class Storing:
    # What was stored is removed.
    cdef PduReceiver receiver
    cdef int mode

    def __call__(self, event):
        if type(event) is CommandReceived:
            if (<CommandReceived>event).has_dataset:
                self.receiver.attach(self.memory())
        elif type(event) is DatasetComplete:
            if (<DatasetComplete>event).placed:
                self.unlink((<DatasetComplete>event).request.sop_instance_uid)
        elif type(event) is WriteDue:
            (<WriteDue>event).sink.write_out()

    cdef DatasetSink memory(self):
        if self.mode & SINK == IN_NOTHING:
            return NOWHERE
        return make_memory(8 if self.mode & SMALL else 1 << 20)

    cdef int unlink(self, bytes uid) except -1:
        name = PREFIX + uid.rstrip(PADDING) + SUFFIX
        assert not unlinkat(FOLDER, name, 0), name
        return 0


cdef int SINK = fuzz_dimse.SINK
cdef int IN_NOTHING = fuzz_dimse.NOWHERE
cdef int SMALL = fuzz_dimse.SMALL
cdef int ODD = fuzz_dimse.ODD
cdef int SPLIT = fuzz_dimse.SPLIT
cdef int PC_ID = fuzz_dimse.PC_ID
cdef int FOLDER = fuzz_dimse.FOLDER
cdef bytes PREFIX = fuzz_dimse.PREFIX
cdef bytes SUFFIX = fuzz_dimse.SUFFIX
cdef bytes PADDING = fuzz_dimse.PADDING


cdef unsigned char* put(unsigned char* to, const unsigned char* data, Py_ssize_t length, int header) noexcept:
    # A PDV.
    store_be32(to, <unsigned int>(length + 2))
    to[4] = <unsigned char>PC_ID
    to[5] = <unsigned char>header
    memcpy(to + PDV_HEADER, data, <size_t>length)
    return to + PDV_HEADER + length


cdef Py_ssize_t message(const unsigned char* data, Py_ssize_t size, unsigned char* to) noexcept:
    # The PDU of an input of four bytes or more; how long it is.
    cdef:
        int mode = data[0]
        Py_ssize_t length = load_le16(data + 2) % (size - 3)
        Py_ssize_t half = length // 2 if mode & SPLIT else 0
        Py_ssize_t piece = 11 if mode & ODD else 512
        const unsigned char* p = data + 4
        unsigned char* q = to + PDU_HEADER
    if half:
        q = put(q, p, half, COMMAND)
    q = put(q, p + half, length - half, COMMAND | LAST)
    p += length
    size -= 4 + length
    while size > piece:
        q = put(q, p, piece, 0)
        p += piece
        size -= piece
    q = put(q, p, size, LAST)
    to[0] = P_DATA
    to[1] = 0
    store_be32(to + 2, <unsigned int>(q - to - PDU_HEADER))
    return q - to


def stream(bytes data not None):
    """The PDU of an input of `dimse`; as `fuzz_dimse.Message.stream`."""
    cdef unsigned char[MAX_STREAM] to
    return PyBytes_FromStringAndSize(
        <const char*>to, message(<const unsigned char*>PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), to)
    )


def dimse(bytes data not None):
    """A message is received, and what was stored is removed."""
    cdef:
        unsigned char[MAX_STREAM] to
        Storing take
        const unsigned char* p = <const unsigned char*>PyBytes_AS_STRING(data)
        Py_ssize_t size = PyBytes_GET_SIZE(data)
    if size < 4:
        return
    assert size <= MAX_INPUT
    take = Storing.__new__(Storing)
    take.mode = p[0]
    take.receiver = fuzz_dimse.receiver(p[0])
    arrive(take.receiver, take, to, message(p, size, to), p[1])
