"""Messages whose data set is in memory, sent from where it is: the kernel copies it, and nobody else does.

For who makes objects instead of reading them: a load generator, an archive that holds none.  The framing is that of
`_codec.PDataWriter` (PS3.8 9.3.5).
"""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint64_t
from libc.string cimport memcpy, memset

from fastmove._codec cimport PDataWriter
from fastmove._sink cimport iovec
from fastmove._wire cimport put_header

cdef extern from "<sys/socket.h>" nogil:
    struct msghdr:
        iovec* msg_iov
        size_t msg_iovlen
    ssize_t sendmsg(int fd, const msghdr* message, int flags)
    int MSG_DONTWAIT
    int MSG_NOSIGNAL

cdef enum:
    PIECES = 64
    HEADER = 12             # of a PDU and its PDV
    IS_COMMAND = 1          # message control header (PS3.8 E.2)
    IS_LAST = 2


@cython.final
cdef class MemoryMessage:
    """A message: its command set, and a data set that is `before`, and then `nbytes` in all of a memory that repeats.

    The memory is read from `start` on, and from its beginning wherever it ends; it is held as long as the message is.
    """

    def __cinit__(
        self, PDataWriter writer not None, int pc_id, bytes command not None, bytes before not None, memory,
        uint64_t start, uint64_t nbytes,
    ):
        if not nbytes or <uint64_t>PyBytes_GET_SIZE(before) > nbytes:
            raise ValueError("a data set has at least one element, and what is before the memory is a part of it")
        PyObject_GetBuffer(memory, &self.memory, PyBUF_SIMPLE)
        self.is_held = True
        if self.memory.len <= 0 or start >= <uint64_t>self.memory.len:
            raise ValueError("there is nothing in the memory from there on")
        self.pc_id = pc_id
        self.command = writer.frame(pc_id, command, IS_COMMAND)
        self.before = before
        self.start = start
        self.nbytes = nbytes
        self.fragment = <uint64_t>writer.fragment
        self.total = <uint64_t>PyBytes_GET_SIZE(self.command) + nbytes \
            + HEADER * ((nbytes + self.fragment - 1) // self.fragment)

    def __dealloc__(self):
        if self.is_held:
            PyBuffer_Release(&self.memory)

    @property
    def left(self) -> int:
        """Bytes that have not been sent or taken yet, headers included."""
        return self.total - self.position

    def send(self, int fd) -> bool:
        """Send what the socket takes at once, without waiting; True if that was all (an error sends nothing)."""
        cdef iovec pieces[PIECES]
        cdef unsigned char headers[HEADER * PIECES]
        cdef msghdr message
        cdef ssize_t sent = 1
        while sent > 0 and self.position < self.total:
            memset_message(&message, pieces, self.gather(pieces, headers, self.total))
            with nogil:
                sent = sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL)
            if sent > 0:
                self.position += <uint64_t>sent
        return self.position == self.total

    def take(self, Py_ssize_t most) -> bytes:
        """The next bytes, at most so many, for who has to send them in another way; empty at the end."""
        cdef iovec pieces[PIECES]
        cdef unsigned char headers[HEADER * PIECES]
        cdef uint64_t until = min(self.total, self.position + <uint64_t>max(most, 0))
        cdef int count = self.gather(pieces, headers, until)
        cdef Py_ssize_t size = 0
        cdef int i
        for i in range(count):
            size += <Py_ssize_t>pieces[i].iov_len
        cdef bytes taken = PyBytes_FromStringAndSize(NULL, size)
        cdef unsigned char* p = <unsigned char*>PyBytes_AS_STRING(taken)
        for i in range(count):
            memcpy(p, pieces[i].iov_base, pieces[i].iov_len)
            p += pieces[i].iov_len
        self.position += <uint64_t>size
        return taken

    cdef int gather(self, iovec* pieces, unsigned char* headers, uint64_t until) noexcept:
        # What comes next of the stream, as far as there is room for its pieces; how many those are.
        cdef:
            uint64_t at = self.position, framed = <uint64_t>PyBytes_GET_SIZE(self.command)
            uint64_t step = self.fragment + HEADER, inside, number, data, ahead, n
            int count = 0
        if at < framed and at < until:
            n = min(framed, until) - at
            put(pieces, &count, <unsigned char*>PyBytes_AS_STRING(self.command) + at, n)
            at += n
        # A fragment takes a header and up to three pieces: what is before, the memory's end and its beginning.
        while framed <= at < until and count + 4 <= PIECES:
            number, inside = (at - framed) // step, (at - framed) % step
            data = number * self.fragment
            ahead = min(self.fragment, self.nbytes - data)
            if inside < HEADER:
                put_header(headers, ahead, self.pc_id, IS_LAST if data + ahead == self.nbytes else 0)
                n = min(HEADER - inside, until - at)
                put(pieces, &count, headers + inside, n)
                headers += HEADER
                at += n
                inside += n
            if at < until:
                n = min(ahead - (inside - HEADER), until - at)
                at += self.put_data(pieces, &count, data + inside - HEADER, n)
        return count

    cdef uint64_t put_data(self, iovec* pieces, int* count, uint64_t offset, uint64_t n) noexcept:
        # So many bytes of the data set from an offset on; fewer where there is no room for more pieces.
        cdef uint64_t known = <uint64_t>PyBytes_GET_SIZE(self.before), put_n = 0, size = <uint64_t>self.memory.len
        cdef uint64_t at, part
        if offset < known:
            part = min(known - offset, n)
            put(pieces, count, <unsigned char*>PyBytes_AS_STRING(self.before) + offset, part)
            put_n = part
        while put_n < n and count[0] < PIECES:
            at = (self.start + offset + put_n - known) % size
            part = min(size - at, n - put_n)
            put(pieces, count, <unsigned char*>self.memory.buf + at, part)
            put_n += part
        return put_n


cdef inline void put(iovec* pieces, int* count, unsigned char* base, uint64_t n) noexcept:
    pieces[count[0]].iov_base = base
    pieces[count[0]].iov_len = <size_t>n
    count[0] += 1


cdef inline void memset_message(msghdr* message, iovec* pieces, int count) noexcept:
    memset(message, 0, sizeof(msghdr))
    message.msg_iov = pieces
    message.msg_iovlen = <size_t>count
