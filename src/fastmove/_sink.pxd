from libc.stdint cimport int64_t, uint64_t
from posix.types cimport mode_t

cdef extern from "sys/uio.h" nogil:
    struct iovec:
        void* iov_base
        size_t iov_len

cdef enum:
    IOV_PIECES = 64     # 1 KiB of iovec on the sink; a full array is written early
    TEMPORARY_NAME_BYTES = 64
    HELD_BYTES = 262144     # of a data set at most that are held back for a preview


cdef enum Step:
    OPEN, WRITE, FSYNC, RENAME, CLOSE


cdef class Pace:
    cdef int64_t slow_until     # nanoseconds of the monotonic clock

    cdef void note(self, int64_t since) noexcept


# Bits of `remarks`: what is odd about the content of a data set, but taken.  `_codec` has those below.
cdef enum Remark:
    NO_UID = 1 << 8
    NESTING = 1 << 9
    STRUCTURE = 1 << 10
    META = 1 << 11
    PART10 = 1 << 12
    TS_SUSPECT = 1 << 13
    DEFLATE = 1 << 14


cdef class DatasetSink:
    cdef readonly uint64_t nbytes
    cdef readonly bint deferred  # pieces are not written before the owner's thread does it
    cdef readonly int remarks
    cdef readonly str refusal       # why it takes no more, if it is not for the disk; else None
    # All return an errno, 0 if all is well.  Pieces are referenced, not copied: they must stay
    # in place until the next flush().
    cdef int push(self, const unsigned char* data, Py_ssize_t length) noexcept
    cdef int end(self) noexcept     # nothing more is pushed
    cdef int flush(self) noexcept


cdef class Check:
    cdef readonly int remarks
    cdef readonly str refusal
    # One data set after the other: of what it is to be, what has come, and that this was all.  True: it is refused.
    cdef void begin(self, bytes sop_class_uid, const char* sop_instance_uid, Py_ssize_t n) noexcept
    cdef bint see(self, const unsigned char* data, Py_ssize_t n) noexcept
    cdef bint finish(self) noexcept


cdef class Preview:
    # True if what has come of a data set can be written, as it is or changed; else the sink holds it back.
    # `complete`: nothing more comes.  MemoryError: nothing of it is to be written.
    cdef int look(self, FileSink sink, bint complete) except -1


cdef class FileSink(DatasetSink):
    cdef int fd
    cdef int directory_fd
    cdef int error
    cdef Step doing
    cdef bint unnamed
    cdef bint closed
    cdef bint writing           # by a thread, at this moment
    cdef mode_t mode
    cdef bint exact             # the mode is not less the umask
    cdef int pieces
    cdef size_t gathered        # bytes of the data set in the pieces
    cdef iovec piece[IOV_PIECES + 1]    # the last for what a preview puts before the first
    cdef object source          # keeps what the others lie in alive
    cdef bytes head             # keeps the bytes of piece[0] alive until they are written
    cdef char temporary[TEMPORARY_NAME_BYTES]   # empty: the file has no name yet (O_TMPFILE)
    cdef Preview preview        # None: there is none, or it is done
    cdef Pace pace
    cdef Check check
    cdef unsigned char* held    # the first bytes of the data set, until it is
    cdef size_t held_bytes
    cdef readonly object examination
    cdef readonly int64_t growth

    cdef bint seen(self, bint complete) noexcept
    cdef int hold(self, size_t nbytes) noexcept
    cdef int release(self, bytes beginning, size_t replaced) noexcept
    cdef int finish(self) noexcept
    cdef void took(self, int64_t since) noexcept
    cdef void abandon(self) noexcept nogil
    cdef void forget(self) noexcept
    cdef bint coalesce(self) noexcept
    cdef int refuse(self) noexcept

    cdef int create(self) noexcept nogil
    cdef int write(self) noexcept nogil
    cdef int sync_data(self) noexcept nogil
    cdef int link(self, int directory_fd, const char* name) noexcept nogil
    cdef int rename(self, int directory_fd, const char* name, bint replace) noexcept nogil
    cdef int give_name(self, int directory_fd, const char* name, bint replace, bint sync) noexcept nogil
    cdef int place(self, int directory_fd, const char* name, bint replace, bint sync) noexcept
    cdef void close(self) noexcept


cdef class FileTemplate:
    cdef int directory_fd
    cdef bint unnamed
    cdef readonly bytes sop_class_uid
    cdef int mode
    cdef bint exact
    cdef Preview preview
    cdef bint deferred
    cdef Pace pace
    cdef Check check
    cdef bytes prefix
    cdef bytes suffix               # None: files are not given their final name here
    cdef object make_pieces
    cdef list pieces                # by length of the UID

    cdef FileSink open_file(self, const char* uid, Py_ssize_t n)
    cdef FileSink sink(self, bytes head)
    cdef bint place(self, FileSink sink, bytes sop_instance_uid) noexcept
    cdef FileSink open_plain(self, bytes sop_class_uid, bytes sop_instance_uid)


cdef class MemorySink(DatasetSink):
    cdef bytearray data
    cdef readonly uint64_t limit_bytes
