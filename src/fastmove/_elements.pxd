from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from fastmove._wire cimport load_be32, load_le16

cdef extern from *:
    """
    #ifndef FASTMOVE_WINDOW_BYTES       /* the fuzzer has less, so that its short data sets do not fit */
    #define FASTMOVE_WINDOW_BYTES 32768
    #define FASTMOVE_OUT_BYTES 262144
    #endif
    """
    int WINDOW_BYTES "FASTMOVE_WINDOW_BYTES"    # of the data set in memory; headers and text are read from it
    int OUT_BYTES "FASTMOVE_OUT_BYTES"          # of what is written anew, before it goes to the file

cdef enum:
    UNDEFINED = 0xFFFFFFFF      # length of sequences and items that end by a delimiter (PS3.5 7.5)

    # What a VR is (PS3.5 6.2, 7.1.2).
    KNOWN = 1
    LONG_HEADER = 2     # two reserved bytes, length of four
    TEXT = 4            # padded with blanks
    UID = 8             # padded with a zero
    NEWER = 16          # came after the first edition: OB for readers that do not know it
    UNIT_SHIFT = 8      # above: bytes per number, which are in the byte order of the transfer syntax

    AE_ = 0x4145
    OB_ = 0x4F42
    OW_ = 0x4F57
    SQ_ = 0x5351
    SS_ = 0x5353
    UL_ = 0x554C
    UN_ = 0x554E
    US_ = 0x5553

    ITEM = 0xFFFEE000
    ITEM_DELIMITATION = 0xFFFEE00D
    SEQUENCE_DELIMITATION = 0xFFFEE0DD
    PIXEL_DATA = 0x7FE00010
    DATA_SET_TRAILING_PADDING = 0xFFFCFFFC

cdef enum Event:
    FAILED
    ELEMENT             # with a value; `element` says which
    SEQUENCE_START      # so is `element`, and the new level on top of the stack
    ITEM_START
    FRAGMENT            # of encapsulated pixel data: `element`
    ITEM_END            # `closed` is what was the level on top
    SEQUENCE_END
    DATASET_END

cdef enum Kind:
    IN_ITEM             # or in the data set itself
    IN_SEQUENCE
    IN_FRAGMENTS        # of encapsulated pixel data (PS3.5 A.4)

cdef enum Order:
    ASCENDING
    NOT_ASCENDING
    DUPLICATE

cdef enum Pixels:
    UNSEEN
    NATIVE
    ENCAPSULATED

cdef struct Element:
    uint64_t value      # where the value starts
    uint32_t tag
    uint32_t length     # as announced
    uint16_t vr         # both letters; never an unknown one
    uint8_t header      # bytes before the value
    uint8_t foreign     # a sequence in implicit VR little endian within another transfer syntax
    uint8_t plain       # the header is as it would be written: a known VR, zeros in the reserved bytes

cdef struct Level:
    Kind kind
    uint32_t tag            # of the sequence; of the item 0
    uint32_t length         # as announced
    uint32_t number         # of the item within its sequence, of the sequence: items so far
    uint64_t start          # where the content starts
    bint explicit_vr
    bint big_endian
    bint delimited          # ended by a delimiter
    bint signed_pixels      # Pixel Representation of this item is 1
    bint has_creators
    int64_t last            # tag before, -1 at the start
    # Elements of an item in ascending order, if they are not so themselves.
    Element* index
    size_t indexed
    size_t done
    uint64_t end
    bint cut
    # For the writer.
    uint64_t length_at      # where the length field is
    uint64_t content_at
    uint64_t group_length_at
    uint64_t group_at       # where what is counted starts; 0: the group has no group length
    uint32_t group          # of the element before; UNDEFINED at the start


cdef uint32_t traits(uint16_t vr) noexcept nogil


cdef inline bint capital(unsigned char letter) noexcept nogil:
    return 65 <= letter <= 90


cdef inline bint has_long_header(uint32_t what, const unsigned char* vr) noexcept nogil:
    # Whether an element with this VR, of these traits, has a length of four bytes behind two that are reserved.
    # Capitals that are no VR: one to come, of the only form that is left (PS3.5 6.2.2); else taken for a short one.
    return what & LONG_HEADER != 0 if what else capital(vr[0]) and capital(vr[1])


cdef inline uint32_t load_tag(const unsigned char* p, bint big_endian) noexcept nogil:
    if big_endian:
        return load_be32(p)
    return <uint32_t>load_le16(p) << 16 | load_le16(p + 2)


cdef class Walk:
    cdef int fd
    cdef uint64_t offset
    cdef uint64_t size
    cdef uint64_t at            # what comes next, from the start of the data set
    cdef unsigned char* memory  # that of the window on a file
    cdef const unsigned char* window
    cdef uint64_t window_at
    cdef size_t window_length
    cdef int error              # errno of a read
    cdef const char* reason     # why the data set cannot be read
    cdef bint cut               # it ended within a header
    cdef bint compressed        # the transfer syntax is one for encapsulated pixel data
    cdef Pixels pixels          # the first pixel data of the data set itself
    cdef bint by_index          # elements are given in ascending order whatever their order is
    cdef Element element
    cdef Order order            # of the element among those of its level
    cdef bint zero_length       # of the delimiter that ended `closed`
    cdef Level closed
    cdef Level* levels
    cdef size_t depth           # levels on the stack; the data set itself is the first
    cdef size_t room
    cdef size_t index_room      # elements that may yet be indexed
    cdef bytes table            # keep what follows in place
    cdef bytes ranges
    cdef const unsigned char* records
    cdef size_t record_count
    cdef const unsigned char* range_records
    cdef size_t range_count
    cdef object dictionary
    cdef dict creators

    cdef void forget_levels(self) noexcept
    cdef void restart(self, const unsigned char* data, size_t nbytes) noexcept
    cdef Level* top(self) noexcept nogil
    cdef const unsigned char* peek(self, uint64_t at, size_t n) noexcept nogil
    cdef int start(self) noexcept nogil
    cdef Event step(self) noexcept nogil
    cdef Event fail(self, const char* reason) noexcept nogil
    cdef Event push(self, Kind kind, uint32_t tag, uint32_t length, bint explicit_vr, bint big_endian) noexcept nogil
    cdef Event close(self) noexcept nogil
    cdef Event step_item(self) noexcept nogil
    cdef Event step_sequence(self) noexcept nogil
    cdef bint overruns(self, const Level* level) noexcept nogil
    cdef bint cut_at(self, uint32_t* length) noexcept nogil
    cdef Event open_element(self) noexcept nogil
    cdef int read_header(self, const unsigned char* p, uint64_t left, uint32_t tag) noexcept nogil
    cdef uint16_t vr_of(self, uint32_t tag) noexcept nogil
    cdef uint16_t private_vr(self, uint32_t tag) noexcept
    cdef void note_creator(self, const unsigned char* name, Py_ssize_t length) noexcept
    cdef int index_level(self) noexcept nogil
    cdef int raise_failure(self) except -1
