"""Data sets written anew as DCMTK 3.6.7 does it: order, transfer syntax, lengths, padding (PS3.5).

examine() finds out whether the bytes that are there are those that would be written; it reads headers and text only.
rewrite() copies value by value through a buffer of 256 KiB, and large ones that stay as they are within the kernel.
Explicit lengths are written when they are known, over a placeholder.  There is no `with`, and no `return` from an
`except`: what Cython makes of them crashes if there is no memory left for a traceback.
"""

cimport cython
from libc.errno cimport EINTR, EINVAL, EIO, ENOSYS, EOPNOTSUPP, EXDEV, errno
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset
from posix.types cimport off_t

from fastmove._elements cimport (
    ASCENDING, DATA_SET_TRAILING_PADDING, DATASET_END, ELEMENT, FAILED, FRAGMENT, IN_FRAGMENTS, ITEM, ITEM_DELIMITATION,
    ITEM_END, ITEM_START, LONG_HEADER, NEWER, NOT_ASCENDING, OB_, OUT_BYTES, OW_, SEQUENCE_DELIMITATION,
    SEQUENCE_END, SEQUENCE_START, SQ_, TEXT, UID, UL_, UN_, UNDEFINED, UNIT_SHIFT, UNSEEN,
    WINDOW_BYTES, Element, Event, Level, Walk, traits,
)
from fastmove._sink cimport HELD_BYTES, FileSink, Preview
from fastmove._wire cimport load_be32, load_le32, store_be32, store_le16, store_le32

from fastmove import deflate, uids
from fastmove.errors import UnwritableDataset

cdef extern from "unistd.h" nogil:
    ssize_t pread(int fd, void* buffer, size_t count, off_t offset)
    ssize_t pwrite(int fd, const void* buffer, size_t count, off_t offset)
    ssize_t copy_file_range(int fd_in, off_t* off_in, int fd_out, off_t* off_out, size_t length, unsigned int flags)

cdef enum:
    IN_KERNEL_BYTES = 131072    # from so many on a value that stays as it is is copied by the kernel
    AT_ONCE_BYTES = 1 << 30     # copied by one call
    LOOKED_AT_FIRST = 16384     # of a data set that is still coming: most have their pixels by then
    SMALL_DATA_SET = 1048576    # up to here it costs less to keep the GIL than to get it back
    MAX_SHORT_LENGTH = 65534    # of a value with a length field of two bytes
    MAX_UID_READ = 256
    MAX_REMARKS = 64
    SOP_CLASS_UID = 0x00080016
    SOP_INSTANCE_UID = 0x00080018

cdef enum GroupLengths:
    RECALCULATED
    CREATED
    REMOVED
    KEPT                        # with wrong padding options nothing at all is done about them

cdef enum:
    REMARK_NOT_ASCENDING
    REMARK_DUPLICATE
    REMARK_ODD_LENGTH
    REMARK_BLANK_IN_UID
    REMARK_NOT_A_VR
    REMARK_SEQUENCE_IN_UN

cdef dict REMARKS = {
    REMARK_NOT_ASCENDING: "not ascending",
    REMARK_DUPLICATE: "duplicate",
    REMARK_ODD_LENGTH: "odd length",
    REMARK_BLANK_IN_UID: "blank in UID",
    REMARK_NOT_A_VR: "not a VR",
    REMARK_SEQUENCE_IN_UN: "sequence in UN",
}

cdef dict GROUP_LENGTHS = {"recalculate": RECALCULATED, "create": CREATED, "remove": REMOVED}

# What is asked of a transfer syntax that is not known, as of most that are.
cdef object UNKNOWN_SYNTAX = uids.TransferSyntax("", "", encapsulated=True)

cdef struct Plan:
    uint64_t length     # of the value as written
    uint64_t copied     # bytes of it that are in the input
    uint16_t vr
    uint8_t unit        # bytes to be reversed; 1: none
    bint changed        # a UID with characters to leave out
    bint dropped


cdef inline bint is_blank(unsigned char c) noexcept nogil:
    return c == 0x20 or 9 <= c <= 13


cdef void reverse(unsigned char* p, size_t length, size_t unit) noexcept nogil:
    # Numbers of the other byte order; what is left of a number at the end stays.
    cdef size_t i, k
    cdef unsigned char c
    i = 0
    if unit == 2:
        while i + 2 <= length:
            c = p[i]
            p[i] = p[i + 1]
            p[i + 1] = c
            i += 2
        return
    while i + unit <= length:
        for k in range(unit >> 1):
            c = p[i + k]
            p[i + k] = p[i + unit - 1 - k]
            p[i + unit - 1 - k] = c
        i += unit


@cython.final
cdef class Examination:
    """What examine() found; UIDs of the data set itself without padding, None if absent, b"" if empty.

    `identical`: rewrite() would write the very bytes that are there.  `remarks`: kind and tag of what is
    irregular (at most 64).
    """

    cdef readonly bytes sop_class_uid
    cdef readonly bytes sop_instance_uid
    cdef readonly bint identical
    cdef readonly tuple remarks


@cython.final
cdef class Rewriting(Walk):
    # A walk through the input, and where its output goes.
    cdef bint explicit_vr
    cdef bint big_endian
    cdef bint undefined_length
    cdef bint newer_vrs
    cdef bint encapsulates
    cdef bint writable
    cdef GroupLengths group_lengths
    cdef uint64_t pad_file
    cdef uint64_t pad_item
    # What examine() finds out.
    cdef bint identical
    cdef bint ordered
    cdef unsigned char[2][MAX_UID_READ] uid
    cdef int[2] uid_length          # -1: absent
    cdef uint32_t[2][MAX_REMARKS] remark
    cdef int remarks
    cdef uint64_t settled           # so far whole groups of the data set itself are there
    cdef bint settled_identical
    cdef bint continued             # more of the data set follows what is in memory
    # Where rewrite() is.
    cdef int out
    cdef unsigned char* buffer
    cdef size_t used
    cdef uint64_t buffer_at         # where in the file the buffer will be

    cdef int configure(self, str transfer_syntax, reencoding) except -1:
        # What is to be written of a data set received in that transfer syntax.
        wanted = syntax(reencoding.transfer_syntax or transfer_syntax)
        self.compressed = syntax(transfer_syntax).encapsulated
        self.explicit_vr = not wanted.implicit_vr
        self.big_endian = not wanted.little_endian
        self.encapsulates = wanted.encapsulated
        self.undefined_length = reencoding.undefined_length
        self.newer_vrs = reencoding.new_vr
        self.group_lengths = GROUP_LENGTHS[reencoding.group_length]
        if reencoding.padding is not None:
            self.pad_file, self.pad_item = reencoding.padding
            if self.pad_file & 1 or self.pad_item & 1:
                self.group_lengths = KEPT
                self.pad_file = self.pad_item = 0
        self.begin()
        return 0

    cdef void begin(self) noexcept:
        self.identical = not (self.pad_file or self.pad_item)
        self.ordered = self.writable = True
        self.uid_length[0] = self.uid_length[1] = -1
        self.remarks = 0
        self.settled = 0
        self.settled_identical = True

    def __dealloc__(self):
        free(self.buffer)

    cdef int plan(self, Plan* plan, bint big_endian) noexcept nogil:
        # How `element` is written, whose value is big endian or not; -1 as peek() fails.
        cdef const Element* element = &self.element
        cdef uint32_t what = traits(element.vr)
        plan.vr = element.vr
        plan.unit = 1 if big_endian == self.big_endian else <uint8_t>(what >> UNIT_SHIFT)
        plan.copied = plan.length = element.length
        plan.changed = plan.dropped = False
        if self.group_lengths != KEPT:
            plan.dropped = element.tag == DATA_SET_TRAILING_PADDING or (
                self.group_lengths != RECALCULATED and element.tag & 0xFFFF == 0    # new ones are CREATED
            )
        if what & UID:
            if self.plan_uid(plan):
                return -1
        elif what & TEXT and element.length & 1 == 0:
            if self.plan_text(plan):
                return -1
        elif element.length & 1 and element.vr != OW_:
            plan.length += 1
        if not self.explicit_vr:
            return 0
        if not self.newer_vrs and what & NEWER:
            plan.vr = OB_
        elif plan.length > MAX_SHORT_LENGTH and not what & LONG_HEADER:
            plan.vr = UN_ if self.newer_vrs else OB_
        if plan.vr != element.vr:       # what is no number any more is little endian (sic)
            plan.unit = <uint8_t>(what >> UNIT_SHIFT) if big_endian else 1
        return 0

    cdef int plan_text(self, Plan* plan) noexcept nogil:
        # Without the blanks at the end but one, if it takes one to be even.
        cdef const unsigned char* p
        cdef uint64_t end = plan.length
        cdef uint64_t n
        while end:
            n = end if end < 64 else 64
            p = self.peek(self.element.value + end - n, <size_t>n)
            if p == NULL:
                return -1
            while n and p[n - 1] == 0x20:
                n -= 1
                end -= 1
            if n:
                break
        plan.copied = plan.length = end + (end & 1)
        return 0

    cdef int plan_uid(self, Plan* plan) noexcept nogil:
        # Without blanks, and without the zeros at the end but one, if it takes one to be even.
        cdef const unsigned char* p
        cdef uint64_t at = 0, kept = 0, zeros = 0
        cdef size_t n, i
        while at < self.element.length:
            n = WINDOW_BYTES if self.element.length - at > WINDOW_BYTES else <size_t>(self.element.length - at)
            p = self.peek(self.element.value + at, n)
            if p == NULL:
                return -1
            for i in range(n):
                if is_blank(p[i]):
                    plan.changed = True
                else:
                    kept += 1
                    zeros = 0 if p[i] else zeros + 1
            at += n
        plan.copied = kept - zeros
        plan.length = plan.copied + (plan.copied & 1)
        return 0

    # What examine() does.

    cdef void note(self, uint32_t kind, uint32_t tag) noexcept nogil:
        if self.remarks < MAX_REMARKS:
            self.remark[0][self.remarks] = kind
            self.remark[1][self.remarks] = tag
            self.remarks += 1

    cdef int look_at_uid(self, int which) noexcept nogil:
        cdef size_t n = self.element.length if self.element.length < MAX_UID_READ else MAX_UID_READ
        cdef const unsigned char* p
        cdef size_t i
        if self.uid_length[which] >= 0:
            return 0
        p = self.peek(self.element.value, n)
        if p == NULL:
            return -1
        self.uid_length[which] = 0
        for i in range(n):
            if not is_blank(p[i]):
                self.uid[which][self.uid_length[which]] = p[i]
                self.uid_length[which] += 1
        while self.uid_length[which] and self.uid[which][self.uid_length[which] - 1] == 0:
            self.uid_length[which] -= 1
        return 0

    cdef int look_at_element(self, Level* level) noexcept nogil:
        # `element` is of that level; -1 as peek() fails.
        cdef const Element* element = &self.element
        cdef bint is_uid = element.tag == SOP_CLASS_UID or element.tag == SOP_INSTANCE_UID
        if level == self.levels:
            self.settle()
        if self.order != ASCENDING:
            self.identical = self.ordered = False
            self.note(REMARK_NOT_ASCENDING if self.order == NOT_ASCENDING else REMARK_DUPLICATE, element.tag)
        if not element.plain:
            self.identical = False
            self.note(REMARK_SEQUENCE_IN_UN if element.foreign else REMARK_NOT_A_VR, element.tag)
        if element.vr != SQ_ and element.length != UNDEFINED:
            if self.look_at_value(level.big_endian):
                return -1
            if is_uid and self.depth == 1 and self.look_at_uid(element.tag == SOP_INSTANCE_UID):
                return -1
        return self.look_at_group(level) if element.tag >> 16 != level.group else 0

    cdef int look_at_value(self, bint big_endian) noexcept nogil:
        cdef const Element* element = &self.element
        cdef Plan plan
        if self.plan(&plan, big_endian):
            return -1
        if element.length & 1:
            self.note(REMARK_ODD_LENGTH, element.tag)
        if plan.changed:
            self.note(REMARK_BLANK_IN_UID, element.tag)
        if plan.dropped and element.tag & 0xFFFF == 0 and self.group_lengths == CREATED:
            plan.dropped = element.length != 4      # another takes its place
        if plan.dropped or plan.changed or plan.length != element.length:
            self.identical = False
        elif self.explicit_vr and plan.vr != element.vr:
            self.identical = False
        return 0

    cdef void look_at_end_of_group(self, Level* level, uint64_t at) noexcept nogil:
        if level.group_at:
            if at - level.group_at != level.group_length_at or (at == level.group_at and self.group_lengths == CREATED):
                self.identical = False
        level.group_at = 0

    cdef int look_at_group(self, Level* level) noexcept nogil:
        # Another group starts with `element`.
        cdef const Element* element = &self.element
        cdef const unsigned char* p
        self.look_at_end_of_group(level, element.value - element.header)
        level.group = element.tag >> 16
        if self.group_lengths == RECALCULATED or self.group_lengths == CREATED:
            if element.tag & 0xFFFF == 0 and 4 <= element.length < UNDEFINED:
                p = self.peek(element.value, 4)
                if p == NULL:
                    return -1
                level.group_at = element.value + element.length
                level.group_length_at = load_be32(p) if level.big_endian else load_le32(p)
            elif (element.tag & 0xFFFF == 0 and element.length == 0) or self.group_lengths == CREATED:
                self.identical = False
        return 0

    cdef void settle(self) noexcept nogil:
        # Up to `element` of the data set itself, if that is the first of its group.
        if self.element.tag >> 16 != self.levels.group:
            self.settled = self.element.value - self.element.header
            self.look_at_end_of_group(self.levels, self.settled)
            self.settled_identical = self.identical

    cdef int look(self) noexcept nogil:
        # 0, or -1 after FAILED.
        cdef Event event = ITEM_START
        cdef int failed = 0
        cdef Level* level = self.top()
        if level.explicit_vr != self.explicit_vr or level.big_endian != self.big_endian:
            self.identical = False
        while event != DATASET_END and not failed:
            event = self.step()
            if event == FAILED:
                failed = -1
            elif event == ELEMENT:
                failed = self.look_at_element(self.top())
            elif event == SEQUENCE_START:
                failed = self.look_at_element(self.top() - 1)
                if self.top().kind == IN_FRAGMENTS and (not self.encapsulates or self.element.vr != OB_):
                    self.identical = False
            elif event == FRAGMENT and self.element.length & 1:
                self.identical = False
            elif event == ITEM_END or event == SEQUENCE_END or event == DATASET_END:
                self.look_at_end_of_group(&self.closed, self.at - (8 if self.closed.delimited else 0))
                if not self.ends_as_written(event == DATASET_END):
                    self.identical = False
        if not self.size:
            self.identical = not self.pad_file
        if failed:
            if not self.error and self.depth == 1 and self.at == self.element.value:
                self.settle()       # what is wrong is the value, or that it is not there yet
        elif not self.continued and self.at == self.size and not (self.cut or self.closed.delimited):
            self.settled = self.size
            self.settled_identical = self.identical
        return failed

    cdef bint ends_as_written(self, bint data_set) noexcept nogil:
        # Whether `closed` has the length, or the delimiter, that it would get.
        cdef const Level* closed = &self.closed
        if self.cut:
            return False
        if data_set:
            return self.at == self.size and not closed.delimited
        if self.undefined_length or closed.kind == IN_FRAGMENTS:
            return closed.length == UNDEFINED and closed.delimited and self.zero_length
        return not closed.delimited and self.at - closed.start == closed.length

    # What rewrite() does.

    cdef uint64_t position(self) noexcept nogil:
        return self.buffer_at + self.used

    cdef int write_at(self, const unsigned char* data, size_t length, uint64_t at) noexcept nogil:
        cdef ssize_t written
        while length:
            written = pwrite(self.out, data, length, <off_t>at)
            if written < 0:
                if errno == EINTR:
                    continue
                self.error = errno
                return -1
            data += written
            at += <uint64_t>written
            length -= <size_t>written
        return 0

    cdef int flush(self) noexcept nogil:
        if self.write_at(self.buffer, self.used, self.buffer_at):
            return -1
        self.buffer_at += self.used
        self.used = 0
        return 0

    cdef unsigned char* reserve(self, size_t n) noexcept nogil:
        # Place for the next n bytes (a few) of output; NULL with `error` set.
        cdef unsigned char* p
        if self.used + n > OUT_BYTES and self.flush():
            return NULL
        p = self.buffer + self.used
        self.used += n
        return p

    cdef void store16(self, unsigned char* p, uint16_t v) noexcept nogil:
        if self.big_endian:
            p[0] = <unsigned char>(v >> 8)
            p[1] = <unsigned char>(v & 0xFF)
        else:
            store_le16(p, v)

    cdef void store32(self, unsigned char* p, uint32_t v) noexcept nogil:
        if self.big_endian:
            store_be32(p, v)
        else:
            store_le32(p, v)

    cdef int patch(self, uint64_t at, uint32_t v) noexcept nogil:
        # A length that is known now, in place of what was written for it.
        cdef unsigned char[4] field
        self.store32(field, v)
        if at < self.buffer_at:
            return self.write_at(field, 4, at)      # reserve() never parts a field
        memcpy(self.buffer + (at - self.buffer_at), field, 4)
        return 0

    cdef int write_header(self, uint32_t tag, uint16_t vr, uint32_t length) noexcept nogil:
        # The length field is the last thing written.
        cdef bint delimits = tag == ITEM or tag == ITEM_DELIMITATION or tag == SEQUENCE_DELIMITATION
        cdef bint with_vr = self.explicit_vr and not delimits
        cdef bint long_header = with_vr and traits(vr) & LONG_HEADER
        cdef unsigned char* p = self.reserve(12 if long_header else 8)
        if p == NULL:
            return -1
        self.store16(p, <uint16_t>(tag >> 16))
        self.store16(p + 2, <uint16_t>(tag & 0xFFFF))
        if not with_vr:
            self.store32(p + 4, length)
            return 0
        p[4] = <unsigned char>(vr >> 8)
        p[5] = <unsigned char>(vr & 0xFF)
        if long_header:
            p[6] = p[7] = 0
            self.store32(p + 8, length)
        else:
            self.store16(p + 6, <uint16_t>length)
        return 0

    cdef int copy_within_kernel(self, uint64_t at, uint64_t length) noexcept nogil:
        # 1 if that is done, 0 if it has to be done by hand, -1 with `error` set.
        cdef off_t source = <off_t>(self.offset + at)
        cdef off_t target
        cdef ssize_t copied
        cdef uint64_t done = 0
        if self.flush():
            return -1
        target = <off_t>self.buffer_at
        while done < length:
            copied = copy_file_range(
                self.fd, &source, self.out, &target,
                AT_ONCE_BYTES if length - done > AT_ONCE_BYTES else <size_t>(length - done), 0,
            )
            if copied > 0:
                done += <uint64_t>copied
            elif copied < 0 and errno == EINTR:
                continue
            elif not done and (copied == 0 or errno in (EXDEV, EINVAL, ENOSYS, EOPNOTSUPP)):
                return 0
            else:
                self.error = errno if copied < 0 else EIO
                return -1
        self.buffer_at += length
        return 1

    cdef int copy(self, uint64_t at, uint64_t length, size_t unit) noexcept nogil:
        # Bytes of the input to the output, numbers of so many bytes in the other byte order.
        cdef int done
        cdef size_t n
        cdef ssize_t got
        cdef const unsigned char* p
        if unit == 1 and length >= IN_KERNEL_BYTES and self.fd >= 0:
            done = self.copy_within_kernel(at, length)
            if done:
                return 0 if done > 0 else -1
        while length:
            n = OUT_BYTES - self.used
            if n < 8:
                if self.flush():
                    return -1
                continue
            if n > length:
                n = <size_t>length
            else:
                n &= ~<size_t>7
            if n <= WINDOW_BYTES >> 2 or self.fd < 0:
                p = self.peek(at, n)
                if p == NULL:
                    return -1
                memcpy(self.buffer + self.used, p, n)
            else:
                got = pread(self.fd, self.buffer + self.used, n, <off_t>(self.offset + at))
                if got < 0 and errno == EINTR:
                    continue
                if got <= 0:
                    self.error = errno if got < 0 else EIO
                    return -1
                if <uint64_t>got < length:
                    got &= ~<ssize_t>7
                if not got:
                    self.error = EIO        # the file has become shorter
                    return -1
                n = <size_t>got
            if unit > 1:
                reverse(self.buffer + self.used, n, unit)
            self.used += n
            at += n
            length -= n
        return 0

    cdef int copy_uid(self, uint64_t length) noexcept nogil:
        # So many characters that are no blanks.
        cdef uint64_t at = 0
        cdef const unsigned char* p
        cdef unsigned char* q
        while length:
            p = self.peek(self.element.value + at, 1)
            if p == NULL:
                return -1
            if not is_blank(p[0]):
                q = self.reserve(1)
                if q == NULL:
                    return -1
                q[0] = p[0]
                length -= 1
            at += 1
        return 0

    cdef int end_group(self, Level* level) noexcept nogil:
        cdef uint64_t at = level.group_at
        level.group_at = 0
        return self.patch(level.group_length_at, <uint32_t>(self.position() - at)) if at else 0

    cdef int begin_group(self, Level* level, uint32_t tag) noexcept nogil:
        # Before each element; writes a group length where there is to be one and the input has none.
        if tag >> 16 == level.group:
            return 0
        if self.end_group(level):
            return -1
        level.group = tag >> 16
        if self.group_lengths == CREATED:
            return self.write_group_length(level, 4)
        return 0

    cdef int write_group_length(self, Level* level, uint32_t length) noexcept nogil:
        # With a value to be patched, of four bytes or more.
        cdef unsigned char* p
        if self.write_header(level.group << 16, UL_, length):
            return -1
        level.group_length_at = self.position()
        p = self.reserve(4)
        if p == NULL:
            return -1
        memset(p, 0, 4)
        level.group_at = self.position()
        return 0

    cdef int copy_value(self, const Plan* plan, size_t skipped) noexcept nogil:
        # What is padded is so before numbers are reversed: the last one may be cut short.
        cdef uint64_t at = self.element.value + plan.copied
        cdef size_t padding = <size_t>(plan.length - plan.copied)
        cdef size_t tail = <size_t>(plan.copied & (plan.unit - 1)) if padding else 0
        cdef const unsigned char* p
        cdef unsigned char* q
        if plan.changed:
            if self.copy_uid(plan.copied):
                return -1
        elif self.copy(self.element.value + skipped, plan.copied - skipped - tail, plan.unit):
            return -1
        if padding:
            q = self.reserve(tail + padding)
            if q == NULL:
                return -1
            memset(q, 0, tail + padding)
            if tail:
                p = self.peek(at - tail, tail)
                if p == NULL:
                    return -1
                memcpy(q, p, tail)
                reverse(q, tail + padding, plan.unit)
        return 0

    cdef int write_element(self) noexcept nogil:
        cdef Level* level = self.top()
        cdef const Element* element = &self.element
        cdef Plan plan
        if self.plan(&plan, level.big_endian):
            return -1
        if plan.dropped:
            return 0
        if self.begin_group(level, element.tag):
            return -1
        if element.tag & 0xFFFF == 0 and self.group_lengths != KEPT and not (element.plain and 0 < element.length < 4):
            if element.length == 0 or not element.plain:
                plan.length = plan.copied = 4       # what was no UL of one value becomes one
            if self.write_group_length(level, <uint32_t>plan.length) or self.copy_value(&plan, 4):
                return -1
            level.group_at = self.position()
            return 0
        if plan.length >= UNDEFINED:
            return self.refuse("a value too long for its length field")
        if self.write_header(element.tag, plan.vr, <uint32_t>plan.length):
            return -1
        return self.copy_value(&plan, 0)

    cdef int refuse(self, const char* reason) noexcept nogil:
        self.writable = False
        self.fail(reason)
        return -1

    cdef int begin_sequence(self) noexcept nogil:
        cdef Level* level = self.top()
        cdef const Element* element = &self.element
        cdef bint undefined = self.undefined_length or level.kind == IN_FRAGMENTS
        if level.kind == IN_FRAGMENTS and not (self.encapsulates and level.explicit_vr):
            return self.refuse("encapsulated pixel data in a transfer syntax without")
        if self.begin_group(level - 1, element.tag):
            return -1
        if self.write_header(
            element.tag, OB_ if level.kind == IN_FRAGMENTS else element.vr, UNDEFINED if undefined else 0
        ):
            return -1
        level.content_at = self.position()
        return 0

    cdef int begin_item(self) noexcept nogil:
        if self.write_header(ITEM, UN_, UNDEFINED if self.undefined_length else 0):
            return -1
        self.top().content_at = self.position()
        return 0

    cdef int end(self, uint32_t delimiter) noexcept nogil:
        # Of what is in `closed`: its length, or what takes the place of a length.
        cdef uint64_t length = self.position() - self.closed.content_at
        if self.undefined_length or self.closed.kind == IN_FRAGMENTS:
            return self.write_header(delimiter, UN_, 0)
        if length < UNDEFINED:
            return self.patch(self.closed.content_at - 4, <uint32_t>length)
        if self.patch(self.closed.content_at - 4, UNDEFINED):
            return -1
        return self.write_header(delimiter, UN_, 0)

    cdef int write_padding(self, uint64_t multiple, uint64_t length) noexcept nogil:
        # Makes what has so many bytes a multiple of so many, if it is not.
        cdef uint64_t gap, header = 12 if self.explicit_vr else 8
        cdef size_t n
        cdef unsigned char* p
        if not multiple or length % multiple == 0:
            return 0
        gap = multiple - length % multiple
        while gap < header:
            gap += multiple
        gap -= header
        gap += gap & 1      # an odd value is padded even if the multiple is missed by that (sic)
        if self.write_header(DATA_SET_TRAILING_PADDING, OB_, <uint32_t>gap):
            return -1
        while gap:
            n = 4096 if gap > 4096 else <size_t>gap
            p = self.reserve(n)
            if p == NULL:
                return -1
            memset(p, 0, n)
            gap -= n
        return 0

    cdef int write(self) noexcept nogil:
        # 0, or -1 after a failure.
        cdef Event event
        cdef int failed = self.start()
        while not failed:
            event = self.step()
            if event == ELEMENT:
                failed = self.write_element()
            elif event == SEQUENCE_START:
                failed = self.begin_sequence()
            elif event == ITEM_START:
                failed = self.begin_item()
            elif event == FRAGMENT:
                failed = self.write_fragment()
            elif event == ITEM_END:
                failed = (
                    self.end_group(&self.closed)
                    or self.write_padding(self.pad_item, self.position() - self.closed.content_at)
                    or self.end(ITEM_DELIMITATION)
                )
            elif event == SEQUENCE_END:
                failed = self.end(SEQUENCE_DELIMITATION)
            elif event == DATASET_END:
                return self.end_group(&self.closed) or self.write_padding(self.pad_file, self.position())
            else:
                return -1
        return -1

    cdef int write_fragment(self) noexcept nogil:
        cdef const Element* element = &self.element
        cdef uint64_t padded = <uint64_t>element.length + (element.length & 1)
        cdef unsigned char* p
        if self.write_header(ITEM, UN_, <uint32_t>padded) or self.copy(element.value, element.length, 1):
            return -1
        if element.length & 1:
            p = self.reserve(1)
            if p == NULL:
                return -1
            p[0] = 0
        return 0


cdef syntax(str uid):
    return uids.TRANSFER_SYNTAXES.get(uid, UNKNOWN_SYNTAX)


cdef Rewriting walk(int fd, uint64_t offset, uint64_t nbytes, str transfer_syntax, reencoding, dictionary):
    received = syntax(transfer_syntax)
    cdef bint explicit_vr = not received.implicit_vr
    cdef bint big_endian = not received.little_endian
    cdef Rewriting rewriting = Rewriting(fd, offset, nbytes, explicit_vr, big_endian, dictionary)
    rewriting.configure(transfer_syntax, reencoding)
    return rewriting


cdef Rewriting looked_through(int fd, uint64_t offset, uint64_t nbytes, str transfer_syntax, reencoding, dictionary):
    cdef Rewriting found = walk(fd, offset, nbytes, transfer_syntax, reencoding, dictionary)
    cdef int failed
    if found.size <= SMALL_DATA_SET:
        failed = found.look()
    else:
        with nogil:
            failed = found.look()
    if failed:
        found.raise_failure()
    return found


cdef bytes uid_found(Rewriting walk, int which):
    return walk.uid[which][:walk.uid_length[which]] if walk.uid_length[which] >= 0 else None


cdef Examination examination_of(Rewriting walk, bint identical):
    cdef Examination examination = Examination.__new__(Examination)
    examination.sop_class_uid = uid_found(walk, 0)
    examination.sop_instance_uid = uid_found(walk, 1)
    examination.identical = identical
    examination.remarks = tuple([(REMARKS[walk.remark[0][i]], walk.remark[1][i]) for i in range(walk.remarks)])
    return examination


@cython.final
cdef class DatasetPreview(Preview):
    """Writes the beginning of data sets anew in memory, up to the pixels, where the whole file would have to be else.

    For data sets of one transfer syntax that stay in it.  Only whole groups are touched, and only where nothing is
    irregular: whatever they are followed by, examine() and rewrite() of the file come to what they would have come to.
    """

    cdef Rewriting walk

    def __cinit__(self, str transfer_syntax not None, reencoding, dictionary):
        received = syntax(transfer_syntax)
        if received.deflated or (reencoding.transfer_syntax or transfer_syntax) != transfer_syntax:
            raise ValueError("only data sets that stay in their transfer syntax")
        self.walk = walk(-1, 0, 0, transfer_syntax, reencoding, dictionary)
        self.walk.out = -1

    cdef int look(self, FileSink sink, bint complete) except -1:
        cdef Rewriting walk = self.walk
        cdef size_t wanted = LOOKED_AT_FIRST
        cdef bint identical, seen = False
        while wanted < sink.held_bytes:
            wanted *= 4
        while not seen:
            sink.error = sink.hold(wanted)
            if sink.error:
                return True
            if sink.held_bytes < wanted and not complete:
                return False
            walk.restart(sink.held, sink.held_bytes)
            walk.begin()
            walk.continued = not complete or sink.held_bytes < sink.nbytes
            walk.look()
            # More would not help where the pixels begin, or a value that is not going to be held as a whole.
            seen = walk.pixels != UNSEEN or walk.element.length > HELD_BYTES or sink.held_bytes < wanted
            seen = seen or wanted == HELD_BYTES
            wanted *= 4
        identical = walk.settled_identical
        beginning = b""
        if not identical and walk.settled and walk.ordered and not (walk.remarks or walk.pad_file or walk.pad_item):
            beginning = self.rewritten(sink)
            identical = len(beginning) > 0
        if not walk.continued and walk.settled == sink.nbytes:
            sink.examination = examination_of(walk, identical)
        sink.error = sink.release(beginning, <size_t>walk.settled if beginning else 0)
        return True

    cdef bytes rewritten(self, FileSink sink):
        # The settled groups as they are to be; b"" if that does not work out.
        cdef Rewriting walk = self.walk
        cdef uint64_t settled = walk.settled
        if walk.buffer == NULL:
            walk.buffer = <unsigned char*>malloc(OUT_BYTES)
            if walk.buffer == NULL:
                raise MemoryError
        walk.used = 0
        walk.buffer_at = 0
        walk.restart(sink.held, <size_t>settled)
        if walk.write():
            return b""
        return walk.buffer[:walk.used]


def examine(
    int fd, uint64_t offset, uint64_t nbytes, str transfer_syntax not None, reencoding, dictionary
) -> Examination:
    """Look through a data set of `nbytes` bytes at `offset` of an open file, as it was received.

    DatasetError if DCMTK could not read it; OSError.
    """
    cdef Rewriting found
    if syntax(transfer_syntax).deflated:
        found = deflate.of_inflated(
            fd, offset, nbytes, lambda fd, size: looked_through(fd, 0, size, transfer_syntax, reencoding, dictionary)
        )
        found.identical = False
    else:
        found = looked_through(fd, offset, nbytes, transfer_syntax, reencoding, dictionary)
    return examination_of(found, found.identical)


def rewrite(
    int fd_in, uint64_t offset, uint64_t nbytes, str transfer_syntax not None,
    int fd_out, uint64_t start, reencoding, dictionary,
) -> int:
    """Write a data set anew into an open file, from byte `start` on; the number of bytes written.

    DatasetError as examine(), before anything is written; UnwritableDataset; OSError.
    """
    if syntax(transfer_syntax).deflated:
        return deflate.of_inflated(
            fd_in, offset, nbytes,
            lambda fd, size: _write_anew(fd, 0, size, transfer_syntax, fd_out, start, reencoding, dictionary),
        )
    return _write_anew(fd_in, offset, nbytes, transfer_syntax, fd_out, start, reencoding, dictionary)


def _write_anew(
    int fd_in, uint64_t offset, uint64_t nbytes, str transfer_syntax, int fd_out, uint64_t start, reencoding, dictionary
):
    if syntax(reencoding.transfer_syntax or transfer_syntax).deflated:
        return deflate.deflated_from(
            lambda fd: write_plain(fd_in, offset, nbytes, transfer_syntax, fd, start, reencoding, dictionary),
            fd_out, start, reencoding.compression_level,
        )
    return write_plain(fd_in, offset, nbytes, transfer_syntax, fd_out, start, reencoding, dictionary)


cdef uint64_t write_plain(
    int fd_in, uint64_t offset, uint64_t nbytes, str transfer_syntax, int fd_out, uint64_t start, reencoding, dictionary
) except? 0:
    cdef Rewriting first = looked_through(fd_in, offset, nbytes, transfer_syntax, reencoding, dictionary)
    cdef Rewriting then
    cdef int failed
    then = walk(fd_in, offset, nbytes, transfer_syntax, reencoding, dictionary)
    then.by_index = not first.ordered
    then.out = fd_out
    then.buffer_at = start
    then.buffer = <unsigned char*>malloc(OUT_BYTES)
    if then.buffer == NULL:
        raise MemoryError
    if nbytes <= SMALL_DATA_SET:
        failed = then.write() or then.flush()
    else:
        with nogil:
            failed = then.write() or then.flush()
    if failed:
        if not then.writable:
            raise UnwritableDataset((<bytes>then.reason).decode("ascii"), offset=then.at)
        then.raise_failure()
    return then.buffer_at - start
