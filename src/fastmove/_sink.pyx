"""Streaming writes: where the bytes of a data set go as they arrive.

A file gets its final name only when it is whole.  Until then it has none (O_TMPFILE), so that
a crash leaves nothing behind; where the file system has no unnamed files it is called
`.fm-*.part`, and locked as long as somebody writes it.  Fragments are gathered where they lie
in the receive window and leave by one writev(); no byte of a data set is copied in user space.

A deferred sink leaves the disk alone while bytes come: a thread of its owner's opens, writes, syncs
and names the file, without the GIL, so that a slow disk keeps nobody waiting but its own association.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE, PyByteArray_Resize
from libc.errno cimport (
    EAGAIN, EBADF, EBADMSG, EEXIST, EFBIG, EINTR, EINVAL, EISDIR, ENOENT, ENOMEM, ENOSYS, ENOTDIR, EOPNOTSUPP, EPERM,
    errno,
)
from libc.stdio cimport snprintf
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memmove
from posix.stat cimport S_ISREG, fchmod, fstat, struct_stat
from posix.time cimport clock_gettime, timespec
from posix.types cimport mode_t
from posix.unistd cimport close as posix_close
from posix.unistd cimport fdatasync, getpid

import os

cdef extern from "fcntl.h" nogil:
    int openat(int dirfd, const char* path, int flags, ...)
    int AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_FOLLOW, AT_SYMLINK_NOFOLLOW
    int O_CLOEXEC, O_CREAT, O_EXCL, O_NOFOLLOW, O_RDWR, O_TMPFILE

cdef extern from "sys/stat.h" nogil:
    int fstatat(int dirfd, const char* path, struct_stat* status, int flags)

cdef extern from "time.h" nogil:
    int CLOCK_MONOTONIC_COARSE      # milliseconds are enough, and it costs a tenth

cdef extern from "sys/file.h" nogil:
    int flock(int fd, int operation)
    int LOCK_EX, LOCK_NB

cdef extern from "sys/uio.h" nogil:
    ssize_t writev(int fd, const iovec* iov, int count)

cdef extern from "unistd.h" nogil:
    int linkat(int olddir, const char* old, int newdir, const char* new, int flags)
    int unlinkat(int dirfd, const char* path, int flags)

cdef extern from *:
    """
    #include <stdio.h>
    #ifndef RENAME_NOREPLACE
    #define RENAME_NOREPLACE 1
    #endif
    """
    int renameat2(int olddir, const char* old, int newdir, const char* new, unsigned int flags) nogil
    unsigned int RENAME_NOREPLACE

cdef uint64_t temporary_serial = 0      # two threads may take the same: O_EXCL tells

cdef enum:
    MAX_UID = 64            # PS3.5 9.1
    MAX_VALUE = 65534       # of an element with a length of two bytes (PS3.5 7.1.2)
    MAX_AFFIX = 15
    MAX_PADDING = 2         # more than one byte makes no UID even
    SMALL_WRITE = 65536     # bytes whose copy costs less than to give up the GIL and get it back
    SMALL_PIECE = 4096      # bytes of a fragment that is rather copied than written by itself
    ASKED = 128             # files that are looked for without the GIL at once
    SLOW_NS = 20000000      # what an operation of a disk may take while everybody waits for it,
    SLOW_FOR_NS = 60000000000   # before nobody does for so long

cdef tuple STEPS = ("fs.open", "fs.write", "fs.fsync", "fs.rename", "fs.close")


cdef void write_temporary_name(char* name) noexcept nogil:
    global temporary_serial
    temporary_serial += 1
    snprintf(name, TEMPORARY_NAME_BYTES, ".fm-%d-%llu.part", <int>getpid(), <unsigned long long>temporary_serial)


cdef bint claim(int fd) noexcept nogil:
    # Marks a temporary file as that of a live process, until it is closed; False if it was swept away before.
    cdef struct_stat status
    if flock(fd, LOCK_EX | LOCK_NB) and errno == EAGAIN:
        return False
    return fstat(fd, &status) != 0 or status.st_nlink > 0


cdef int write_all(int fd, iovec* piece, int pieces) noexcept nogil:
    # Every byte of the pieces; 0 or an errno.
    cdef ssize_t written
    while pieces:
        written = writev(fd, piece, pieces)
        if written < 0:
            if errno == EINTR or errno == EAGAIN:
                continue
            return errno
        while pieces and <size_t>written >= piece.iov_len:
            written -= <ssize_t>piece.iov_len
            piece += 1
            pieces -= 1
        if pieces:
            piece.iov_base = <char*>piece.iov_base + written
            piece.iov_len -= <size_t>written
    return 0


cdef inline int64_t now_ns() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now)
    return <int64_t>now.tv_sec * 1000000000 + now.tv_nsec


@cython.final
cdef class Pace:
    """How fast a disk is: shared by all sinks of a folder, so that they are deferred while it is slow."""

    cdef void note(self, int64_t since) noexcept:
        cdef int64_t now = now_ns()
        if now - since > SLOW_NS:
            self.slow_until = now + SLOW_FOR_NS

    @property
    def slow(self) -> bool:
        """True for a minute after an operation that took more than 20 ms."""
        return self.slow_until > now_ns()


cdef class DatasetSink:
    """Where data set bytes go: the base of FileSink and MemorySink; by itself it counts and forgets."""

    cdef int push(self, const unsigned char* data, Py_ssize_t length) noexcept:
        self.nbytes += <uint64_t>length
        return 0

    cdef int end(self) noexcept:
        return 0

    cdef int flush(self) noexcept:
        return 0


cdef class Check:
    """Sees the bytes of data sets as they come, one after the other, and may refuse one.

    `refusal` is the log event of what is wrong with it, else None; `remarks` has a bit for each thing that is odd.
    """

    cdef void begin(self, bytes sop_class_uid, const char* sop_instance_uid, Py_ssize_t n) noexcept:
        pass

    cdef bint see(self, const unsigned char* data, Py_ssize_t n) noexcept:
        return False

    cdef bint finish(self) noexcept:
        return False


cdef class Preview:
    """Looks at the beginning of data sets before it is written, and may put other bytes in its place."""

    cdef int look(self, FileSink sink, bint complete) except -1:
        return True


cdef class FileSink(DatasetSink):
    """A file in the making: head first, then the data set as it arrives.

    `head` is what precedes the data set (preamble and file meta information); `mode` is that of the
    file, less the umask unless it is `exact`; `preview` sees the data set first.  Afterwards `examination` is
    what it found out of a data set that it saw as a whole, else None; `growth` the bytes that it added, less
    those that it took away.  `check`, which knows already what the data set is to be, may refuse it.  Raises
    OSError if the file cannot be created in the directory; if `deferred`, the first call that writes does.
    """

    def __cinit__(
        self, int directory_fd, bytes head not None, bint unnamed=True, int mode=0o600, Preview preview=None,
        bint deferred=False, Pace pace=None, bint exact=False, Check check=None
    ):
        cdef int64_t since
        self.fd = -1
        self.directory_fd = directory_fd
        self.head = head
        self.unnamed = unnamed
        self.mode = <mode_t>mode
        self.exact = exact
        self.deferred = deferred
        self.pace = pace
        if not deferred:
            since = now_ns()
            if self.create():
                raise OSError(self.error, os.strerror(self.error))
            self.took(since)
        if PyBytes_GET_SIZE(head):
            self.piece[0].iov_base = PyBytes_AS_STRING(head)
            self.piece[0].iov_len = <size_t>PyBytes_GET_SIZE(head)
            self.pieces = 1
        self.preview = preview
        self.check = check

    def __dealloc__(self):
        self.close()
        free(self.held)

    cdef void took(self, int64_t since) noexcept:
        if self.pace is not None:
            self.pace.note(since)

    cdef int create(self) noexcept nogil:
        # Makes the file; 0, or an errno that is that of the sink from now on.
        self.doing = OPEN
        if self.unnamed:
            while True:
                self.fd = openat(self.directory_fd, ".", O_RDWR | O_TMPFILE | O_CLOEXEC, self.mode)
                if self.fd >= 0 or errno != EINTR:
                    break
            # EISDIR: a kernel without O_TMPFILE; the others: a file system without it.
            if self.fd < 0 and errno != EOPNOTSUPP and errno != EISDIR and errno != EINVAL and errno != ENOENT:
                self.error = errno
                return self.error
        while self.fd < 0:
            write_temporary_name(self.temporary)
            self.fd = openat(
                self.directory_fd, self.temporary, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, self.mode
            )
            if self.fd < 0:
                # EEXIST: left by a dead process that had our process id, or another thread was faster.
                if errno == EEXIST or errno == EINTR:
                    continue
                self.error = errno
                self.temporary[0] = 0
                return self.error
            if not claim(self.fd):
                posix_close(self.fd)
                self.fd = -1
        if self.exact and fchmod(self.fd, self.mode):
            self.error = errno
        return self.error

    cdef void close(self) noexcept:
        if self.fd >= 0 or self.temporary[0]:
            with nogil:
                self.abandon()
        self.pieces = 0
        self.closed = True
        self.head = None
        self.preview = None
        self.check = None

    cdef void abandon(self) noexcept nogil:
        if self.fd >= 0:
            posix_close(self.fd)
            self.fd = -1
        if self.temporary[0]:
            unlinkat(self.directory_fd, self.temporary, 0)
            self.temporary[0] = 0

    cdef void forget(self) noexcept:
        # What is gathered is lost: where it lies is used for something else from now on.
        if self.pieces and not self.writing:
            self.pieces = 0
            self.error = EBADF

    cdef bint coalesce(self) noexcept:
        # Makes one piece of all that lie in the window, if they are small; False if they are not.
        cdef int first = 1 if self.head else 0
        cdef int i
        cdef char* end
        if self.pieces - first < 2 or self.gathered > <size_t>(self.pieces - first) * SMALL_PIECE:
            return False
        end = <char*>self.piece[first].iov_base + self.piece[first].iov_len
        for i in range(first + 1, self.pieces):
            memmove(end, self.piece[i].iov_base, self.piece[i].iov_len)
            end += self.piece[i].iov_len
        self.piece[first].iov_len = <size_t>(end - <char*>self.piece[first].iov_base)
        self.pieces = first + 1
        return True

    cdef int push(self, const unsigned char* data, Py_ssize_t length) noexcept:
        if self.error:
            return self.error
        if self.check is not None and self.check.see(data, length):
            return self.refuse()
        if self.pieces == IOV_PIECES and self.flush():
            return self.error
        self.piece[self.pieces].iov_base = <void*>data
        self.piece[self.pieces].iov_len = <size_t>length
        self.pieces += 1
        self.gathered += <size_t>length
        self.nbytes += <uint64_t>length
        return 0

    cdef int end(self) noexcept:
        cdef bint refused
        if self.error or self.check is None:
            return self.error
        refused = self.check.finish()
        self.remarks = self.check.remarks
        return self.refuse() if refused else 0

    cdef int refuse(self) noexcept:
        self.refusal = self.check.refusal
        self.error = EBADMSG
        return self.error

    cdef bint seen(self, bint complete) noexcept:
        # As the preview's look(); what it failed to see counts as seen, with `error` set.
        cdef bint starved = False, seen = True
        try:
            seen = self.preview.look(self, complete)
        except MemoryError:
            starved = True      # no `return` from here: Cython's crashes if there is no memory for a traceback
        if starved:
            self.error = ENOMEM
        return seen

    cdef int hold(self, size_t nbytes) noexcept:
        # Moves what has been pushed to what is held, until that is so much; 0 or an errno.
        cdef int first = 1 if self.head else 0
        cdef int taken = first
        cdef size_t n
        cdef unsigned char* room = <unsigned char*>realloc(self.held, nbytes)
        if room == NULL:
            return ENOMEM
        self.held = room
        while taken < self.pieces and self.held_bytes < nbytes:
            n = min(self.piece[taken].iov_len, nbytes - self.held_bytes)
            memcpy(self.held + self.held_bytes, self.piece[taken].iov_base, n)
            self.held_bytes += n
            self.gathered -= n
            self.piece[taken].iov_base = <char*>self.piece[taken].iov_base + n
            self.piece[taken].iov_len -= n
            taken += self.piece[taken].iov_len == 0
        memmove(&self.piece[first], &self.piece[taken], <size_t>(self.pieces - taken) * sizeof(iovec))
        self.pieces -= taken - first
        return 0

    cdef int release(self, bytes beginning, size_t replaced) noexcept:
        # What is held goes first, with this in the place of its first bytes; 0 or an errno.
        cdef Py_ssize_t first = PyBytes_GET_SIZE(self.head)
        cdef Py_ssize_t then = PyBytes_GET_SIZE(beginning)
        cdef Py_ssize_t rest = <Py_ssize_t>(self.held_bytes - replaced)
        cdef char* p
        cdef bytes whole = None
        cdef bint starved = False
        try:
            whole = PyBytes_FromStringAndSize(NULL, first + then + rest)
        except MemoryError:
            starved = True
        if starved:
            return ENOMEM
        p = PyBytes_AS_STRING(whole)
        memcpy(p, PyBytes_AS_STRING(self.head), <size_t>first)
        memcpy(p + first, PyBytes_AS_STRING(beginning), <size_t>then)
        memcpy(p + first + then, self.held + replaced, <size_t>rest)
        if not first:
            memmove(&self.piece[1], &self.piece[0], <size_t>self.pieces * sizeof(iovec))
            self.pieces += 1
        self.head = whole
        self.piece[0].iov_base = p
        self.piece[0].iov_len = <size_t>(first + then + rest)
        self.growth = <int64_t>then - <int64_t>replaced
        self.held_bytes = 0
        free(self.held)
        self.held = NULL
        return 0

    cdef int finish(self) noexcept:
        # Everything that has been pushed is written, previewed or not; 0 or an errno.
        if self.preview is not None and not self.error:
            self.seen(True)
            self.preview = None
        return self.flush()

    cdef int flush(self) noexcept:
        cdef int64_t since
        if self.preview is not None and not self.error:
            if not self.seen(False):
                return self.error
            self.preview = None
        if self.error or not self.pieces:
            return self.error
        if self.closed:
            self.error = EINVAL
            return self.error
        if self.deferred:
            with nogil:
                self.write()
        else:
            since = now_ns()
            if self.gathered < SMALL_WRITE:
                self.write()
            else:
                with nogil:
                    self.write()
            self.took(since)
        self.head = None
        return self.error

    cdef int write(self) noexcept nogil:
        # Everything that has been pushed, into a file that is created first, if need be; 0 or an errno.
        cdef int pieces = self.pieces
        if self.fd < 0 and self.create():
            return self.error
        self.doing = WRITE
        self.pieces = 0
        self.gathered = 0
        self.error = write_all(self.fd, self.piece, pieces)
        return self.error

    def write_out(self) -> None:
        """Write what is gathered, previewed so far as it can be; for the thread of a deferred sink: OSError."""
        self.writing = True
        try:
            if self.flush():
                raise OSError(self.error, os.strerror(self.error))
        finally:
            self.writing = False

    def write_head(self) -> None:
        """Write the head now, so that the rest can be written to `file_descriptor`; OSError."""
        if self.finish() or (self.fd < 0 and not self.closed and self.create()):
            raise OSError(self.error, os.strerror(self.error))

    @property
    def step(self) -> str:
        """What the sink did last, or failed to do, as the log event of its failure: fs.open, fs.write and so on."""
        return STEPS[<int>self.doing]

    @property
    def file_descriptor(self) -> int:
        """The open file, for reading back what was written; -1 after publish() and discard()."""
        return self.fd

    def sync(self) -> None:
        """Write what is gathered and wait until it is on stable storage (fdatasync)."""
        cdef int failed = self.finish()
        if not failed:
            with nogil:
                failed = self.sync_data()
        if failed:
            raise OSError(failed, os.strerror(failed))

    cdef int sync_data(self) noexcept nogil:
        self.doing = FSYNC
        if fdatasync(self.fd):
            self.error = errno      # a failed sync is never tried again into success
        return self.error

    cdef int link(self, int directory_fd, const char* name) noexcept nogil:
        # Gives an unnamed file a name that must be new; 0 or -1 with errno.
        cdef char path[32]
        if linkat(self.fd, "", directory_fd, name, AT_EMPTY_PATH) == 0:
            return 0
        if errno != ENOENT and errno != EPERM:
            return -1
        # Before Linux 6.10 AT_EMPTY_PATH takes a privilege; the way through /proc does not.
        snprintf(path, sizeof(path), "/proc/self/fd/%d", self.fd)
        return linkat(AT_FDCWD, path, directory_fd, name, AT_SYMLINK_FOLLOW)

    cdef int rename(self, int directory_fd, const char* name, bint replace) noexcept nogil:
        # The same for a file that is called `.fm-*.part`.
        cdef unsigned int flags = 0 if replace else RENAME_NOREPLACE
        if renameat2(self.directory_fd, self.temporary, directory_fd, name, flags) == 0:
            return 0
        if replace or (errno != EINVAL and errno != ENOSYS):
            return -1
        # NFS and others cannot rename without replacing; a hard link never replaces.
        if linkat(self.directory_fd, self.temporary, directory_fd, name, 0):
            return -1
        unlinkat(self.directory_fd, self.temporary, 0)
        return 0

    cdef int place(self, int directory_fd, const char* name, bint replace, bint sync) noexcept:
        # Gives the whole file its final name and closes it; 0 or an errno, EEXIST with the file still open.
        cdef int failed
        cdef int64_t since
        if self.finish():
            return self.error
        if self.fd < 0:
            return EBADF
        if self.deferred or sync:
            with nogil:
                failed = self.give_name(directory_fd, name, replace, sync)
            return failed
        since = now_ns()
        failed = self.give_name(directory_fd, name, replace, sync)
        self.took(since)
        return failed

    cdef int give_name(self, int directory_fd, const char* name, bint replace, bint sync) noexcept nogil:
        cdef int failed = 0
        if sync and self.sync_data():
            return self.error
        self.doing = RENAME
        if not self.temporary[0]:
            failed = self.link(directory_fd, name)
            if failed and errno == EEXIST and replace:
                flock(self.fd, LOCK_EX | LOCK_NB)
                while True:
                    write_temporary_name(self.temporary)
                    failed = self.link(self.directory_fd, self.temporary)
                    if not failed or errno != EEXIST:
                        break
                if failed:
                    self.temporary[0] = 0
        if self.temporary[0]:
            failed = self.rename(directory_fd, name, replace)
        if failed:
            return errno
        self.temporary[0] = 0
        self.doing = CLOSE
        failed = posix_close(self.fd)
        self.fd = -1
        self.closed = True
        if failed:
            # NFS reports a full disk only here: the name must not stay.
            failed = self.error = errno
            unlinkat(directory_fd, name, 0)
        return failed

    def publish(
        self, bytes name not None, int directory_fd=-1, bint replace=False, bint sync=False
    ) -> None:
        """Give the whole file its final name, and close it; `sync`: once it is on stable storage.

        Without `replace` an existing name is left alone: FileExistsError, and the file stays
        open.  `directory_fd` is the directory of the final name (default: that of the temporary
        file); both are on one file system.
        """
        cdef int error
        if self.closed and not self.error:
            raise ValueError("the file is closed")
        error = self.place(
            self.directory_fd if directory_fd < 0 else directory_fd, PyBytes_AS_STRING(name), replace, sync
        )
        if error:
            raise OSError(error, os.strerror(error), os.fsdecode(name))

    def discard(self) -> None:
        """Close and forget the file."""
        self.close()


cdef inline Py_ssize_t plain_uid_length(bytes uid) noexcept:
    # Length without padding of a UID as PS3.5 9.1 has it: numbers without leading zeros, dots between them; else 0.
    cdef const char* p = PyBytes_AS_STRING(uid)
    cdef Py_ssize_t i, n = PyBytes_GET_SIZE(uid)
    cdef Py_ssize_t digits = 0
    if n > MAX_UID + MAX_PADDING:
        return 0
    if n > MAX_UID + 2:     # padded without measure: not ordinary
        return 0
    while n and (p[n - 1] == 0 or p[n - 1] == 0x20):
        n -= 1
    if n > MAX_UID:
        return 0
    for i in range(n):
        if p[i] == 0x2E and digits:
            digits = 0
        elif 0x30 <= p[i] <= 0x39 and not (digits == 1 and p[i - 1] == 0x30):
            digits += 1
        else:
            return 0
    return n if digits else 0


@cython.final
cdef class FileTemplate:
    """Opens the files of one presentation context.

    `sop_class_uid` is the SOP class as requests on that context name it, padding included;
    `pieces(n)` gives what precedes and follows a SOP Instance UID of n bytes in the head; without
    it there is no head.  Sinks are `deferred`, always or while `pace` says that the disk is slow.  With
    a `suffix` whole files get their final name, prefix, UID and suffix, without asking; for want of one,
    for a deferred sink, or if that name is taken, the sink is left to its owner.  A `check`
    sees one data set after the other: only one file at a time can be in the making then.
    """

    def __cinit__(
        self, int directory_fd, bytes sop_class_uid not None, pieces, *, bytes prefix not None=b"",
        bytes suffix=None, bint unnamed=True, int mode=0o600, Preview preview=None, bint deferred=False,
        Pace pace=None, bint exact=False, Check check=None
    ):
        self.directory_fd = directory_fd
        self.deferred = deferred
        self.pace = pace
        if len(prefix) > MAX_AFFIX or (suffix is not None and len(suffix) > MAX_AFFIX):
            raise ValueError("a prefix or suffix has at most 15 bytes")
        self.prefix = prefix
        self.suffix = suffix
        self.mode = mode
        self.exact = exact
        self.preview = preview
        self.check = check
        self.sop_class_uid = sop_class_uid
        self.unnamed = unnamed
        self.make_pieces = pieces
        self.pieces = [None] * (MAX_UID + 1)

    def open(self, bytes sop_instance_uid not None) -> FileSink:
        """A sink for the object with this unpadded UID; ValueError above 65534 bytes, OSError if none can be made."""
        if PyBytes_GET_SIZE(sop_instance_uid) > MAX_VALUE:
            raise ValueError("a value of VR UI has at most 65534 bytes")
        return self.open_file(PyBytes_AS_STRING(sop_instance_uid), PyBytes_GET_SIZE(sop_instance_uid))

    cdef FileSink open_file(self, const char* uid, Py_ssize_t n):
        if self.check is not None:
            self.check.begin(self.sop_class_uid, uid, n)
        if self.make_pieces is None:
            return self.sink(b"")
        cdef tuple around = <tuple>self.pieces[n] if n <= MAX_UID else None
        if around is None:
            around = tuple(self.make_pieces(n))
            if n <= MAX_UID:
                self.pieces[n] = around
        cdef bytes before = <bytes>around[0]
        cdef bytes after = <bytes>around[1]
        cdef Py_ssize_t first = PyBytes_GET_SIZE(before)
        cdef Py_ssize_t last = PyBytes_GET_SIZE(after)
        cdef bytes head = PyBytes_FromStringAndSize(NULL, first + n + last)
        cdef char* p = PyBytes_AS_STRING(head)
        memcpy(p, PyBytes_AS_STRING(before), <size_t>first)
        memcpy(p + first, uid, <size_t>n)
        memcpy(p + first + n, PyBytes_AS_STRING(after), <size_t>last)
        return self.sink(head)

    cdef FileSink sink(self, bytes head):
        cdef bint deferred = self.deferred or (self.pace is not None and self.pace.slow_until > now_ns())
        return FileSink(
            self.directory_fd, head, self.unnamed, self.mode, self.preview, deferred, self.pace, self.exact, self.check
        )

    cdef FileSink open_plain(self, bytes sop_class_uid, bytes sop_instance_uid):
        # None if this is not the usual case, or no file can be made: who knows better tells the peer.
        cdef Py_ssize_t n
        cdef FileSink opened = None
        if sop_class_uid is None or sop_instance_uid is None or sop_class_uid != self.sop_class_uid:
            return None
        n = plain_uid_length(sop_instance_uid)
        if not n:
            return None
        try:
            opened = self.open_file(PyBytes_AS_STRING(sop_instance_uid), n)
        except OSError:
            pass
        return opened

    cdef bint place(self, FileSink sink, bytes sop_instance_uid) noexcept:
        # True if the file now has its final name.
        cdef char name[MAX_UID + 2 * MAX_AFFIX + 1]
        cdef char* p = name
        cdef Py_ssize_t n = plain_uid_length(sop_instance_uid)
        if self.suffix is None or not n or sink.deferred:
            return False
        memcpy(p, PyBytes_AS_STRING(self.prefix), <size_t>PyBytes_GET_SIZE(self.prefix))
        p += PyBytes_GET_SIZE(self.prefix)
        memcpy(p, PyBytes_AS_STRING(sop_instance_uid), <size_t>n)
        memcpy(p + n, PyBytes_AS_STRING(self.suffix), <size_t>PyBytes_GET_SIZE(self.suffix) + 1)
        return sink.place(self.directory_fd, name, False, False) == 0


cdef class MemorySink(DatasetSink):
    """A data set kept in memory, for identifiers; grows with what arrives, up to `limit_bytes`."""

    def __cinit__(self, uint64_t limit_bytes):
        self.limit_bytes = limit_bytes
        self.data = bytearray()

    cdef int push(self, const unsigned char* data, Py_ssize_t length) noexcept:
        cdef Py_ssize_t have = PyByteArray_GET_SIZE(self.data)
        cdef bint starved = False
        if self.nbytes + <uint64_t>length > self.limit_bytes:
            return EFBIG
        try:
            PyByteArray_Resize(self.data, have + length)
        except MemoryError:
            starved = True
        if starved:
            return ENOMEM
        memcpy(PyByteArray_AS_STRING(self.data) + have, data, <size_t>length)
        self.nbytes += <uint64_t>length
        return 0

    def getvalue(self) -> bytes:
        """The bytes so far."""
        return bytes(self.data)


# ---------------------------------------------------------------------- what became of it

cdef enum:
    NOTHING = -1            # in place of a length: there is nothing of that name,
    SOMETHING = -2          # or it is no file

ABSENT, NO_FILE = NOTHING, SOMETHING


cdef int look(int directory_fd, const char** name, int64_t* length, Py_ssize_t count, Py_ssize_t* at) noexcept nogil:
    # The lengths of some files; 0, or the errno of the one that is `at`.
    cdef struct_stat status
    for at[0] in range(count):
        if fstatat(directory_fd, name[at[0]], &status, AT_SYMLINK_NOFOLLOW) == 0:
            length[at[0]] = <int64_t>status.st_size if S_ISREG(status.st_mode) else SOMETHING
        elif errno == ENOENT or errno == ENOTDIR:
            length[at[0]] = NOTHING
        else:
            return errno
    return 0


def lengths(int directory_fd, paths) -> list:
    """The bytes of each of these files below a folder, in their order; ABSENT, or NO_FILE.

    `paths` are bytes without a zero among them: ValueError, OSError.  The GIL is free meanwhile: to take it back
    for each of a study's files would keep whoever receives waiting.
    """
    cdef const char* name[ASKED]
    cdef int64_t length[ASKED]
    cdef Py_ssize_t i, at, count, begin = 0
    cdef int failed
    cdef tuple known = tuple(paths)         # and nobody takes them away meanwhile
    cdef bytes path
    cdef list found = []
    while begin < len(known):
        count = min(<Py_ssize_t>len(known) - begin, <Py_ssize_t>ASKED)
        for i in range(count):
            path = known[begin + i]
            if path is None or b"\0" in path:
                raise ValueError("a path is bytes, without a zero among them")
            name[i] = PyBytes_AS_STRING(path)
        at = 0
        with nogil:
            failed = look(directory_fd, name, length, count, &at)
        if failed:
            raise OSError(failed, os.strerror(failed), os.fsdecode(known[begin + at]))
        for i in range(count):
            found.append(length[i])
        begin += count
    return found
