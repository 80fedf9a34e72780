"""Data elements as they lie in a file, one after the other: tags, VRs, lengths, sequences, items (PS3.5 7).

A Walk goes through a data set of any size with a window of 32 KiB on it and a record for each open sequence and item.
Values are skipped, not read.  What is taken for well-formed, and how far what is not, is what DCMTK 3.6.7 does:
lengths of sequences and items are only looked at between elements, so that contents may overrun them.

peek() is for those who want a few values from the beginning of a data set, and no opinion on it.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.errno cimport EINTR, EIO, ENOMEM, errno
from libc.stdlib cimport free, malloc, qsort, realloc
from posix.types cimport off_t

from fastmove._wire cimport Cursor, cursor, load_be16, load_be32, load_le16, load_le32, take

import os

from fastmove import limits, uids
from fastmove.errors import DatasetError

cdef extern from "unistd.h" nogil:
    ssize_t pread(int fd, void* buffer, size_t count, off_t offset)

cdef size_t MAX_DEPTH = limits.MAX_SEQUENCE_DEPTH * 2 + 1      # a level each for sequence and item
cdef size_t MAX_INDEXED = limits.MAX_INDEXED_ELEMENTS
cdef size_t MAX_CREATOR = limits.MAX_PRIVATE_CREATOR_BYTES

cdef enum:
    UNDECIDED = 0x7873      # "xs" of the dictionary: US or SS, as Pixel Representation says (PS3.3 C.7.6.3)
    RECORD_BYTES = 8        # of the dictionary's tables
    RANGE_BYTES = 16
    PIXEL_REPRESENTATION = 0x00280103
    FIRST_PIXEL_DATA = 0x7FE00008   # Float Pixel Data
    MAX_PEEK = 65536        # bytes
    MAX_PEEK_DEPTH = 64     # sequences and items within each other

cdef uint32_t[26 * 26] TRAITS

for _vr, _flags, _unit in (
    *((vr, TEXT, 1) for vr in ("AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM")),
    ("UI", UID, 1),
    ("UC", TEXT | LONG_HEADER | NEWER, 1), ("UR", TEXT | LONG_HEADER | NEWER, 1), ("UT", TEXT | LONG_HEADER | NEWER, 1),
    ("AT", 0, 2), ("US", 0, 2), ("SS", 0, 2), ("UL", 0, 4), ("SL", 0, 4), ("FL", 0, 4), ("FD", 0, 8),
    ("OB", LONG_HEADER, 1), ("OW", LONG_HEADER, 2), ("SQ", LONG_HEADER, 1), ("UN", LONG_HEADER | NEWER, 1),
    ("OF", LONG_HEADER | NEWER, 4), ("OL", LONG_HEADER | NEWER, 4),
    ("OD", LONG_HEADER | NEWER, 8), ("OV", LONG_HEADER | NEWER, 8),
    ("SV", LONG_HEADER | NEWER, 8), ("UV", LONG_HEADER | NEWER, 8),
):
    TRAITS[(ord(_vr[0]) - 65) * 26 + ord(_vr[1]) - 65] = KNOWN | _flags | _unit << UNIT_SHIFT


cdef uint32_t traits(uint16_t vr) noexcept nogil:
    # 0 for letters that are no VR.
    cdef uint32_t first = (vr >> 8) - 65u
    cdef uint32_t second = (vr & 0xFF) - 65u
    if first >= 26 or second >= 26:
        return 0
    return TRAITS[first * 26 + second]


cdef uint16_t find(const unsigned char* records, size_t count, uint32_t tag) noexcept nogil:
    # The VR of a tag in a table of the dictionary; 0 if it is not there.
    cdef size_t low = 0, high = count, middle
    cdef uint32_t found
    while low < high:
        middle = (low + high) >> 1
        found = load_le32(records + middle * RECORD_BYTES)
        if found == tag:
            return load_be16(records + middle * RECORD_BYTES + 4)
        if found < tag:
            low = middle + 1
        else:
            high = middle
    return 0


cdef inline bint within(uint16_t number, uint16_t first, uint16_t last, unsigned char parity) noexcept nogil:
    return first <= number <= last and (parity == 2 or (number & 1) == parity)


cdef uint16_t find_range(const unsigned char* records, size_t count, uint32_t tag) noexcept nogil:
    cdef const unsigned char* p
    cdef size_t i
    cdef uint16_t group = <uint16_t>(tag >> 16)
    for i in range(count):
        p = records + i * RANGE_BYTES
        if within(group, load_le16(p), load_le16(p + 2), p[8]) and within(
            <uint16_t>(tag & 0xFFFF), load_le16(p + 4), load_le16(p + 6), p[9]
        ):
            return load_be16(p + 10)
    return 0


cdef int in_ascending_order(const void* a, const void* b) noexcept nogil:
    cdef const Element* x = <const Element*>a
    cdef const Element* y = <const Element*>b
    if x.tag != y.tag:
        return -1 if x.tag < y.tag else 1
    return -1 if x.value < y.value else 1       # of two the first in the file counts


cdef class Walk:
    """A data set in an open file: `nbytes` at `offset`, with explicit VR or not, big endian or not.

    `dictionary` is asked for VRs where there are none.
    """

    def __cinit__(self, int fd, uint64_t offset, uint64_t nbytes, bint explicit_vr, bint big_endian, dictionary):
        self.fd = fd
        self.offset = offset
        self.size = nbytes
        self.dictionary = dictionary
        self.table = dictionary.table
        self.records = self.table
        self.record_count = <size_t>len(self.table) // RECORD_BYTES
        self.ranges = dictionary.range_table
        self.range_records = self.ranges
        self.range_count = <size_t>len(self.ranges) // RANGE_BYTES
        self.creators = {}
        self.reason = "there is no memory"
        self.room = 16
        self.index_room = MAX_INDEXED
        self.levels = <Level*>malloc(self.room * sizeof(Level))
        self.memory = <unsigned char*>malloc(WINDOW_BYTES)
        if self.levels == NULL or self.memory == NULL:
            raise MemoryError
        self.window = self.memory
        self.push(IN_ITEM, 0, UNDEFINED, explicit_vr, big_endian)

    def __dealloc__(self):
        if self.levels != NULL:
            self.forget_levels()
        free(self.levels)
        free(self.memory)

    cdef void forget_levels(self) noexcept:
        while self.depth:
            self.depth -= 1
            free(self.levels[self.depth].index)

    cdef void restart(self, const unsigned char* data, size_t nbytes) noexcept:
        # Anew, through a data set in memory, which has to stay there.
        self.forget_levels()
        self.creators.clear()
        self.window = data
        self.window_at = 0
        self.window_length = <size_t>nbytes
        self.size = nbytes
        self.at = 0
        self.error = 0
        self.cut = self.by_index = False
        self.pixels = UNSEEN
        self.index_room = MAX_INDEXED
        self.push(IN_ITEM, 0, UNDEFINED, self.levels[0].explicit_vr, self.levels[0].big_endian)

    cdef int start(self) noexcept nogil:
        # Call once `by_index` is set; 0, or -1 as step() fails.
        return self.index_level() if self.by_index else 0

    cdef Level* top(self) noexcept nogil:
        return &self.levels[self.depth - 1]

    cdef const unsigned char* peek(self, uint64_t at, size_t n) noexcept nogil:
        # n bytes (at most WINDOW_BYTES) of the data set from `at`, until the next peek(); NULL with `error` set.
        cdef ssize_t got
        cdef size_t wanted
        if self.window_at <= at and at + n <= self.window_at + self.window_length:
            return self.window + (at - self.window_at)
        if n > WINDOW_BYTES or at > self.size or n > self.size - at:
            self.error = EIO
            return NULL
        wanted = WINDOW_BYTES if self.size - at > WINDOW_BYTES else <size_t>(self.size - at)
        self.window = self.memory
        self.window_at = at
        self.window_length = 0
        while self.window_length < wanted:
            got = pread(
                self.fd, self.memory + self.window_length, wanted - self.window_length,
                <off_t>(self.offset + at + self.window_length),
            )
            if got > 0:
                self.window_length += <size_t>got
            elif got == 0 or errno != EINTR:
                self.error = errno if got < 0 else EIO      # 0: the file is shorter than it is said to be
                return NULL
        return self.window

    cdef Event fail(self, const char* reason) noexcept nogil:
        self.reason = reason
        return FAILED

    cdef Event push(self, Kind kind, uint32_t tag, uint32_t length, bint explicit_vr, bint big_endian) noexcept nogil:
        cdef Level* grown
        cdef Level* level
        if self.depth == MAX_DEPTH:
            return self.fail("sequences are nested too deeply")
        if self.depth == self.room:
            grown = <Level*>realloc(self.levels, self.room * 2 * sizeof(Level))
            if grown == NULL:
                return self.fail("no memory for nested sequences")
            self.levels = grown
            self.room *= 2
        level = &self.levels[self.depth]
        self.depth += 1
        level.kind = kind
        level.tag = tag
        level.length = length
        level.number = 0
        level.start = self.at
        level.explicit_vr = explicit_vr
        level.big_endian = big_endian
        level.delimited = level.signed_pixels = level.has_creators = level.cut = False
        level.last = -1
        level.index = NULL
        level.indexed = level.done = 0
        level.group_length_at = level.group_at = 0
        level.group = UNDEFINED
        if kind != IN_ITEM:
            return SEQUENCE_START
        if self.by_index and self.depth > 1 and self.index_level():
            return FAILED
        return ITEM_START

    cdef Event close(self) noexcept nogil:
        cdef Level* level = self.top()
        if level.has_creators:
            with gil:
                self.creators.pop(self.depth, None)
        if level.index != NULL:
            free(level.index)
            level.index = NULL
            self.index_room += level.indexed
        self.closed = level[0]
        self.depth -= 1
        if level.kind != IN_ITEM:
            return SEQUENCE_END
        if self.depth:
            return ITEM_END
        if self.compressed and self.pixels == NATIVE and not self.cut:
            return self.fail("pixel data that are not encapsulated in a transfer syntax for such as are")
        return DATASET_END

    cdef Event step(self) noexcept nogil:
        # What comes next.  After FAILED and DATASET_END there is nothing more.
        if self.top().kind == IN_ITEM:
            return self.step_item()
        return self.step_sequence()

    cdef Event step_item(self) noexcept nogil:
        cdef Level* level = self.top()
        cdef const unsigned char* p
        cdef uint64_t left
        cdef uint32_t tag
        cdef int complete
        if level.index != NULL:
            if level.done == level.indexed:
                self.at = level.end
                self.cut = level.cut
                return self.close()
            self.element = level.index[level.done]
            level.done += 1
            self.order = ASCENDING
            self.cut = False        # an element before this one may have been the last in the file
            return self.open_element()
        if self.cut or (level.length != UNDEFINED and self.at - level.start >= level.length):
            return self.close()
        left = self.size - self.at
        if left < 8:
            self.cut = left > 0
            self.at = self.size
            return self.close()
        p = self.peek(self.at, 12 if left >= 12 else 8)
        if p == NULL:
            return FAILED
        tag = load_tag(p, level.big_endian)
        if tag == ITEM_DELIMITATION:
            level.delimited = True
            self.zero_length = load_le32(p + 4) == 0
            self.at += 8
            return self.close()
        if tag == ITEM or tag == SEQUENCE_DELIMITATION:
            return self.fail("an item or the end of a sequence where there is none")
        complete = self.read_header(p, left, tag)
        if complete <= 0:
            if complete < 0:
                return FAILED
            self.cut = True
            self.at = self.size
            return self.close()
        if tag > level.last:
            self.order = ASCENDING
            level.last = tag
        else:
            self.order = DUPLICATE if tag == level.last else NOT_ASCENDING
        return self.open_element()

    cdef int read_header(self, const unsigned char* p, uint64_t left, uint32_t tag) noexcept nogil:
        # Of the element at `at` into `element`: 1, 0 if the data set ends within it, -1 if that failed.
        cdef Element* element = &self.element
        cdef Level* level = self.top()
        cdef uint32_t what
        element.tag = tag
        element.plain = True
        element.foreign = False
        element.header = 8
        if not level.explicit_vr:
            element.length = load_be32(p + 4) if level.big_endian else load_le32(p + 4)
            element.vr = self.vr_of(tag)
            if self.error:
                return -1
        else:
            element.vr = load_be16(p + 4)
            what = traits(element.vr)
            if not what:
                element.vr = UN_
                element.plain = False
            if has_long_header(what, p + 4):
                if left < 12:
                    return 0
                element.header = 12
                element.length = load_be32(p + 8) if level.big_endian else load_le32(p + 8)
                element.plain = element.plain and p[6] == 0 and p[7] == 0
            else:
                element.length = load_be16(p + 6) if level.big_endian else load_le16(p + 6)
        element.value = self.at + element.header
        if tag & 0xFFFF == 0:
            element.plain = element.plain and element.vr == UL_
            element.vr = UL_
        elif tag == PIXEL_REPRESENTATION and element.length >= 2 and element.length <= left - element.header:
            p = self.peek(element.value, 2)
            if p == NULL:
                return -1
            level.signed_pixels = (load_be16(p) if level.big_endian else load_le16(p)) == 1
        elif (
            # Only those in ascending order are known (sic).
            not level.explicit_vr and 0x10010 <= tag & 0x1FFFF <= 0x100FF and tag > level.last
            and element.length <= MAX_CREATOR and element.length <= left - element.header
        ):
            p = self.peek(element.value, element.length)
            if p == NULL:
                return -1
            with gil:
                self.note_creator(p, <Py_ssize_t>element.length)
            if self.error:
                return -1
        return 1

    cdef Event open_element(self) noexcept nogil:
        cdef Element* element = &self.element
        cdef Level* level = self.top()
        cdef bint explicit_vr = level.explicit_vr
        cdef bint big_endian = level.big_endian
        self.at = element.value
        if element.tag == PIXEL_DATA and self.depth == 1 and self.pixels == UNSEEN:
            self.pixels = ENCAPSULATED if element.length == UNDEFINED else NATIVE
        if element.length != UNDEFINED and level.index == NULL and self.overruns(level):
            return self.fail("an element that is longer than its item")
        if element.vr == SQ_ and element.length != UNDEFINED:
            return self.push(IN_SEQUENCE, element.tag, element.length, explicit_vr, big_endian)
        if element.length != UNDEFINED:
            if element.length > self.size - self.at and not self.cut_at(&element.length):
                return self.fail("a value that is longer than what is left")
            self.at += element.length
            return ELEMENT
        if element.tag == PIXEL_DATA and (element.vr == OB_ or element.vr == OW_):
            return self.push(IN_FRAGMENTS, element.tag, element.length, explicit_vr, big_endian)
        if element.vr == UN_:
            # In implicit VR little endian whatever the transfer syntax (PS3.5 6.2.2, note 2).
            element.vr = SQ_
            element.plain = not explicit_vr
            element.foreign = explicit_vr
        if element.foreign:
            big_endian = explicit_vr = False
        if element.vr == SQ_:
            return self.push(IN_SEQUENCE, element.tag, element.length, explicit_vr, big_endian)
        return self.fail("undefined length of what is no sequence")

    cdef bint overruns(self, const Level* level) noexcept nogil:
        # A value that starts within its item and ends behind it; one that starts behind it is well (sic).
        cdef uint64_t used = self.at - level.start
        return level.length != UNDEFINED and used <= level.length and self.element.length > level.length - used

    cdef bint cut_at(self, uint32_t* length) noexcept nogil:
        # If the data set ends before the first byte of a value, that is empty, and all well (sic).
        if self.at < self.size:
            return False
        length[0] = 0
        self.cut = True
        return True

    cdef Event step_sequence(self) noexcept nogil:
        cdef Level* level = self.top()
        cdef const unsigned char* p
        cdef uint64_t left = self.size - self.at
        cdef uint32_t tag, length
        if self.cut or (level.length != UNDEFINED and self.at - level.start >= level.length):
            return self.close()
        if left < 8:
            if not left and level.number:
                return self.fail("the end of a sequence is missing")
            self.cut = left > 0
            self.at = self.size
            return self.close()
        p = self.peek(self.at, 8)
        if p == NULL:
            return FAILED
        tag = load_tag(p, level.big_endian)
        length = load_be32(p + 4) if level.big_endian else load_le32(p + 4)
        self.at += 8
        if tag == SEQUENCE_DELIMITATION:
            level.delimited = True
            self.zero_length = length == 0
            return self.close()
        if tag != ITEM:
            self.at -= 8
            return self.fail("neither item nor end of sequence")
        level.number += 1
        if level.kind == IN_SEQUENCE:
            return self.push(IN_ITEM, 0, length, level.explicit_vr, level.big_endian)
        if length == UNDEFINED or (length > self.size - self.at and not self.cut_at(&length)):
            return self.fail("a fragment that is longer than what is left")
        self.element.tag = tag
        self.element.length = length
        self.element.header = 8
        self.element.vr = OB_
        self.element.value = self.at
        self.at += length
        return FRAGMENT

    cdef uint16_t vr_of(self, uint32_t tag) noexcept nogil:
        # The VR that an element without one has (PS3.5 A.1); UN if nobody knows.
        cdef Level* level = self.top()
        cdef uint16_t vr
        if tag & 0xFFFF == 0:
            return UL_
        vr = find(self.records, self.record_count, tag)
        if not vr:
            vr = find_range(self.range_records, self.range_count, tag)
        if not vr and level.has_creators and tag & 0x10000:
            with gil:
                vr = self.private_vr(tag)
        if vr == UNDECIDED:
            return SS_ if level.signed_pixels else US_
        return vr if traits(vr) else UN_

    cdef uint16_t private_vr(self, uint32_t tag) noexcept:
        # As vr_of(); without memory `error` says so.
        cdef bytes records = None
        cdef uint16_t vr
        cdef bint starved = False
        try:
            records = self.creators.get(self.depth, {}).get(tag >> 8)
        except MemoryError:
            starved = True
        if starved:
            self.error = ENOMEM
        if records is None:
            return 0
        vr = find(records, <size_t>len(records) // RECORD_BYTES, tag)
        return vr or find(records, <size_t>len(records) // RECORD_BYTES, tag & <uint32_t>0xFFFF00FF)

    cdef void note_creator(self, const unsigned char* name, Py_ssize_t length) noexcept:
        # Which block of private elements belongs to whom (PS3.5 7.8.1); without memory `error` says so.
        cdef bytes records
        cdef bint starved = False
        try:
            records = self.dictionary.private_table(name[:length].decode("latin-1").rstrip(" \0"))
            if records:
                blocks = self.creators.setdefault(self.depth, {})
                blocks[(self.element.tag & 0xFFFF0000 | (self.element.tag & 0xFF) << 8) >> 8] = records
                self.top().has_creators = True
        except MemoryError:
            starved = True
        if starved:
            self.error = ENOMEM

    cdef int index_level(self) noexcept nogil:
        # The elements of the level on top in ascending order, each tag once; 0, or -1 as step() fails.
        cdef size_t depth = self.depth, count = 0, kept = 0, i, room = 64
        cdef uint64_t at = self.at
        cdef bint cut = self.cut
        cdef Event event = ITEM_START
        cdef Element* index = <Element*>malloc(room * sizeof(Element))
        cdef Element* grown
        cdef Level* level
        self.by_index = False       # what lies deeper is only passed through
        while index != NULL:
            event = self.step()
            if event == FAILED or self.depth < depth:
                break
            if (event == ELEMENT and self.depth == depth) or (event == SEQUENCE_START and self.depth == depth + 1):
                if count == room:
                    room *= 2
                    grown = <Element*>realloc(index, room * sizeof(Element))
                    if grown == NULL:
                        break
                    index = grown
                if count == self.index_room:
                    event = self.fail("too many elements out of order")
                    break
                index[count] = self.element
                count += 1
        self.by_index = True
        if event == FAILED or index == NULL or self.depth >= depth:
            free(index)
            if event != FAILED:
                self.fail("no memory for elements out of order")
            return -1
        qsort(index, count, sizeof(Element), in_ascending_order)
        for i in range(count):
            if not kept or index[i].tag != index[kept - 1].tag:
                index[kept] = index[i]
                kept += 1
        self.index_room -= kept
        self.depth = depth
        level = self.top()
        level[0] = self.closed
        level.has_creators = False      # the elements in the index have their VRs
        level.index = index
        level.indexed = kept
        level.end = self.at
        level.cut = self.cut
        self.at = at
        self.cut = cut
        return 0

    cdef int raise_failure(self) except -1:
        # After FAILED.
        cdef size_t i
        path = ""
        if self.error:
            raise OSError(self.error, os.strerror(self.error))
        for i in range(1, self.depth):
            if self.levels[i].kind != IN_ITEM:
                path += f"({self.levels[i].tag >> 16:04X},{self.levels[i].tag & 0xFFFF:04X})[{self.levels[i].number}]"
        raise DatasetError((<bytes>self.reason).decode("ascii"), path, self.at)


cdef bint read_length(
    Cursor* c, const unsigned char* p, bint explicit_vr, bint big_endian, uint16_t* vr, uint32_t* length
) noexcept nogil:
    # Of the element whose first eight bytes are p, just taken; False if its header is not all there.
    cdef uint32_t what
    vr[0] = UN_
    if not explicit_vr:
        length[0] = load_be32(p + 4) if big_endian else load_le32(p + 4)
        return True
    vr[0] = load_be16(p + 4)
    what = traits(vr[0])
    if not has_long_header(what, p + 4):
        length[0] = load_be16(p + 6) if big_endian else load_le16(p + 6)
        return True
    p = take(c, 4)
    if p == NULL:
        return False
    length[0] = load_be32(p) if big_endian else load_le32(p)
    return True


cdef bint skip_to_delimiter(Cursor* c, bint explicit_vr, bint big_endian) noexcept nogil:
    # Past a value of undefined length, with whatever it holds; False if it does not end here.
    cdef bint[MAX_PEEK_DEPTH] explicit_at      # what opens a level decides on what is in it
    cdef bint[MAX_PEEK_DEPTH] big_at
    cdef size_t depth = 1
    cdef const unsigned char* p
    cdef uint32_t tag, length
    cdef uint16_t vr
    explicit_at[0] = explicit_vr
    big_at[0] = big_endian
    while depth:
        explicit_vr = explicit_at[depth - 1]
        big_endian = big_at[depth - 1]
        p = take(c, 8)
        if p == NULL:
            return False
        tag = load_tag(p, big_endian)
        if tag == ITEM_DELIMITATION or tag == SEQUENCE_DELIMITATION:
            depth -= 1
            continue
        if tag == ITEM:
            vr = 0
            length = load_be32(p + 4) if big_endian else load_le32(p + 4)
        elif not read_length(c, p, explicit_vr, big_endian, &vr, &length):
            return False
        if length != UNDEFINED:
            if take(c, length) == NULL:
                return False
        elif depth == MAX_PEEK_DEPTH:
            return False
        else:
            explicit_at[depth] = explicit_vr and vr != UN_      # PS3.5 6.2.2, note 2
            big_at[depth] = big_endian and vr != UN_
            depth += 1
    return True


def peek(bytes data not None, str transfer_syntax not None, tags) -> dict:
    """Values of these attributes of the data set itself, as they are there, by tag; what it does not find is left out.

    `data` is the beginning of a data set as it is transferred; its first 64 KiB (inflated, if it is deflated) are
    looked at, up to the last of the tags, or the pixel data, or what makes no sense.  No bytes make it raise.
    """
    cdef:
        dict found = {}
        frozenset wanted = frozenset(tags)
        object syntax = uids.TRANSFER_SYNTAXES.get(transfer_syntax)
        bint explicit_vr = syntax is None or not syntax.implicit_vr
        bint big_endian = syntax is not None and not syntax.little_endian
        const unsigned char* p
        uint32_t tag, length, last
        uint16_t vr
        bint foreign
        Cursor c
    if not wanted:
        return found
    if syntax is not None and syntax.deflated:
        data = inflated_beginning(data)
    last = min(max(wanted), FIRST_PIXEL_DATA - 1)
    c = cursor(<const unsigned char*>PyBytes_AS_STRING(data), min(PyBytes_GET_SIZE(data), MAX_PEEK))
    while len(found) < len(wanted):
        p = take(&c, 8)
        if p == NULL:
            break
        tag = load_tag(p, big_endian)
        if tag > last or not read_length(&c, p, explicit_vr, big_endian, &vr, &length):
            break
        if length == UNDEFINED:
            foreign = explicit_vr and vr == UN_
            if not skip_to_delimiter(&c, explicit_vr and not foreign, big_endian and not foreign):
                break
            continue
        p = take(&c, length)
        if p == NULL:
            break
        if tag in wanted and tag not in found:
            found[tag] = PyBytes_FromStringAndSize(<const char*>p, length)
    return found


cdef bytes inflated_beginning(bytes data):
    import zlib     # few data sets are deflated

    inflated = b""
    try:
        inflated = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, MAX_PEEK)
    except zlib.error:
        pass            # no `return` from here: Cython's crashes if there is no memory for a traceback
    return inflated
