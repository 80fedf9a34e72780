"""What a data set says of itself as it goes by: is it the object that its C-STORE-RQ names, and is all of it there?

The elements of the first 64 KiB are walked through where they lie in the receive window, in whatever fragments they
come.  Values are passed over: nothing is held back, and nothing copied but what a fragment cuts in two.  A data set is
refused for what it plainly says; where the walk makes no sense it ends, and the data set is stored as it came.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memmove

from fastmove._elements cimport (
    ITEM, ITEM_DELIMITATION, PIXEL_DATA, SEQUENCE_DELIMITATION, UN_, UNDEFINED, capital, has_long_header,
    load_tag, traits,
)
from fastmove._sink cimport DEFLATE, META, NESTING, NO_UID, PART10, STRUCTURE, TS_SUSPECT, Check
from fastmove._wire cimport Cursor, cursor, left, load_be16, load_be32, load_le16, load_le32, take

from fastmove import limits, uids

cdef uint64_t looked_at = limits.LOOKED_AT_BYTES
cdef size_t max_depth = limits.LOOKED_AT_DEPTH * 2      # a level each for sequence and item

cdef enum:
    SOP_CLASS_UID = 0x00080016
    SOP_INSTANCE_UID = 0x00080018
    MAX_UID = 66            # PS3.5 9.1, and some padding
    GROUPS = 0x0100         # below: those that a data set begins with, and none of them with its bytes swapped
    META_GROUP = 0x0002
    DELIMITERS = 0xFFFE     # the group of items and the ends of items and sequences
    PREAMBLE = 132          # of a file, with its prefix (PS3.10 7.1)

cdef enum Step:             # what the next bytes are
    FIRST           # the header of the first element
    HEADER          # of another one, of an item, or of an end
    LENGTH          # the rest of a header, VR and reserved bytes being read
    NAME            # the value of a SOP Class or SOP Instance UID
    PREFIX          # perhaps a preamble, and DICM
    DONE            # of no concern


cdef inline size_t unpadded(const unsigned char* uid, size_t n) noexcept nogil:
    while n and (uid[n - 1] == 0 or uid[n - 1] == 0x20):
        n -= 1
    return n


cdef bint begins(const unsigned char* p, bint explicit_vr, bint big_endian) noexcept nogil:
    # Whether a data set in that encoding may begin with these eight bytes.
    cdef uint32_t group = load_tag(p, big_endian) >> 16
    cdef uint32_t length = load_le32(p + 4)
    cdef bint has_vr = capital(p[4]) and capital(p[5])
    if not 0 < group < GROUPS or has_vr != explicit_vr:
        return False
    return explicit_vr or length < looked_at or length == UNDEFINED


cdef bytes before_damage(object inflater, bytes piece, Py_ssize_t most):
    # What a piece with damage in it gives before that: zlib keeps that to itself, and where TCP cut should not matter.
    import zlib

    cdef bytearray out = bytearray()
    try:
        for byte in piece:
            if len(out) == most:
                break
            out += inflater.decompress(bytes((byte,)), most - len(out))
    except zlib.error:
        pass
    return bytes(out)


@cython.final
cdef class ContentCheck(Check):
    """Looks at the data sets of one presentation context as they go by, one after the other.

    A data set is refused if it has another SOP Class or SOP Instance UID than its request (`store.class_mismatch`,
    `store.uid_mismatch`), if it ends before its last element does (`store.truncated`), or if it has more than
    `max_bytes` bytes (`store.too_big`; 0: any number); with `strict` also if it has no UIDs where they belong
    (`store.no_uid_in_ds`), or cannot be inflated (`store.deflate`).
    """

    cdef bint syntax_known, deflated, strict
    cdef bint agreed_explicit, agreed_big       # the encoding of the transfer syntax,
    cdef bint explicit_vr, big_endian           # that of the data set,
    cdef bint explicit_here, big_here           # and that of the level: both off in UN of undefined length
    cdef uint64_t max_bytes
    # What it is to be.
    cdef bytes sop_class_uid
    cdef size_t sop_class_uid_length            # without padding
    cdef unsigned char sop_instance_uid[MAX_UID]
    cdef size_t sop_instance_uid_length
    # Where in it we are.
    cdef uint64_t nbytes
    cdef Step step
    cdef uint64_t at            # where the next header is, or began
    cdef uint64_t skip          # bytes before it
    cdef uint64_t end           # after the last value that is not passed over as a whole
    cdef size_t want, have      # bytes, and how many of them lie in `room`
    cdef unsigned char room[PREAMBLE]
    cdef uint32_t tag
    cdef uint16_t vr
    cdef int64_t last           # tag before, of the data set itself; -1 at the start
    cdef size_t depth           # levels that are open: sequences (odd) and items (even) of undefined length
    cdef size_t foreign         # the level from which on all is in implicit VR little endian; 0: none
    # What is known of it.
    cdef bint has_class, has_instance
    cdef bint overlong          # one of them is no UID
    cdef bint suspect           # it is in another encoding
    cdef bint astray            # what has been read may be none of what it was taken for
    cdef bint in_meta, in_file
    cdef bint in_pixels         # what is open is encapsulated pixel data
    cdef object inflater
    cdef uint64_t fed, inflated
    cdef bint damaged, whole    # the deflated stream...
    cdef bint looked            # ... of which no more is looked at

    def __cinit__(self, str transfer_syntax not None, *, uint64_t max_bytes=0, bint strict=False):
        syntax = uids.TRANSFER_SYNTAXES.get(transfer_syntax)
        self.syntax_known = syntax is not None
        self.agreed_explicit = syntax is None or not syntax.implicit_vr
        self.agreed_big = syntax is not None and not syntax.little_endian
        self.deflated = syntax is not None and syntax.deflated
        self.max_bytes = max_bytes
        self.strict = strict

    def judge(self, bytes sop_class_uid not None, bytes sop_instance_uid not None, pieces):
        """What becomes of a data set that comes in these pieces: why it is refused (or None), and the remarks on it."""
        cdef bytes piece
        self.begin(sop_class_uid, PyBytes_AS_STRING(sop_instance_uid), PyBytes_GET_SIZE(sop_instance_uid))
        for piece in pieces:
            if self.see(<const unsigned char*>PyBytes_AS_STRING(piece), PyBytes_GET_SIZE(piece)):
                break
        else:
            self.finish()
        return self.refusal, self.remarks

    cdef void begin(self, bytes sop_class_uid, const char* sop_instance_uid, Py_ssize_t n) noexcept:
        self.refusal = None
        self.remarks = 0
        self.sop_class_uid = sop_class_uid
        self.sop_class_uid_length = unpadded(
            <const unsigned char*>PyBytes_AS_STRING(sop_class_uid), <size_t>PyBytes_GET_SIZE(sop_class_uid)
        )
        self.sop_instance_uid_length = unpadded(<const unsigned char*>sop_instance_uid, <size_t>n)
        memcpy(self.sop_instance_uid, sop_instance_uid, min(self.sop_instance_uid_length, <size_t>MAX_UID))
        self.nbytes = self.at = self.skip = self.end = self.fed = self.inflated = 0
        self.step = FIRST
        self.want = 8
        self.have = self.depth = self.foreign = 0
        self.last = -1
        self.has_class = self.has_instance = self.overlong = self.suspect = self.astray = False
        self.in_meta = self.in_file = self.in_pixels = self.damaged = self.whole = self.looked = False
        self.inflater = None

    cdef bint see(self, const unsigned char* data, Py_ssize_t n) noexcept:
        self.nbytes += <uint64_t>n
        if self.max_bytes and self.nbytes > self.max_bytes:
            return self.refuse("store.too_big")
        if self.deflated:
            self.inflate(data, n)       # even if nothing more is looked for: the stream has to be whole
        elif self.step != DONE:
            self.walk(data, n)
        return self.refusal is not None

    cdef bint finish(self) noexcept:
        cdef uint64_t total = self.nbytes
        cdef bint cut
        self.inflater = None
        if not total:
            return False
        if self.deflated:
            total = self.inflated
            if self.damaged or not self.looked:
                if self.strict:
                    return self.refuse("store.deflate")
                self.remarks |= DEFLATE
        if self.deflated and not self.whole:
            cut = False
        elif self.step == DONE:
            cut = self.end > total
        elif self.step == PREFIX:
            cut = False
            self.begin_as_nothing()
        else:
            cut = self.skip > 0 or self.step == LENGTH or self.step == NAME or not self.is_padding()
        if cut and not self.astray and (not self.suspect or (self.has_class and self.has_instance)):
            return self.refuse("store.truncated")
        if cut or (self.depth and self.step == HEADER and not self.in_pixels):
            self.remarks |= STRUCTURE
        if self.overlong:
            return self.refuse("store.uid_mismatch" if self.has_class else "store.class_mismatch")
        if not self.has_class or not self.has_instance:
            if self.strict:
                return self.refuse("store.no_uid_in_ds")
            self.remarks |= NO_UID
        return False

    cdef bint is_padding(self) noexcept:
        # What there is of a header that is not all there, if anything.  A single byte is what makes a length odd.
        cdef size_t i
        for i in range(self.have):
            if self.room[i] and self.have > 1:
                return False
        return True

    cdef bint refuse(self, str why) noexcept:
        self.refusal = why
        self.step = DONE
        return True

    cdef void inflate(self, const unsigned char* data, Py_ssize_t n) noexcept:
        # At most so much is put in, and taken out, as is looked at of other data sets.
        import zlib     # few data sets are deflated

        cdef bytes piece, out
        cdef Py_ssize_t most = <Py_ssize_t>(looked_at - self.inflated)
        if self.looked:
            return
        try:
            if self.inflater is None:
                self.inflater = zlib.decompressobj(-zlib.MAX_WBITS)
            piece = data[:min(n, <Py_ssize_t>(looked_at - self.fed))]
            before = self.inflater.copy()
            try:
                out = self.inflater.decompress(piece, most)
            except zlib.error:
                self.damaged = True
                out = before_damage(before, piece, most)
        except (MemoryError, ValueError):   # the latter of copy(), should it not be able to
            self.looked = True
            self.step = DONE
            return
        self.fed += <uint64_t>PyBytes_GET_SIZE(piece)
        self.inflated += <uint64_t>PyBytes_GET_SIZE(out)
        self.whole = not self.damaged and self.inflated < looked_at and self.inflater.eof
        self.looked = self.whole or self.damaged or self.fed == looked_at or self.inflated == looked_at
        self.walk(<const unsigned char*>PyBytes_AS_STRING(out), PyBytes_GET_SIZE(out))
        if self.looked and not self.whole:
            self.step = DONE

    cdef void walk(self, const unsigned char* data, Py_ssize_t n) noexcept:
        cdef Cursor c = cursor(data, n)
        cdef const unsigned char* p
        cdef uint64_t k
        while self.step != DONE:
            if self.skip:
                k = min(self.skip, left(&c))
                take(&c, k)
                self.skip -= k
                if self.skip:
                    return
            p = NULL
            if not self.have:
                p = take(&c, self.want)
            if p == NULL:
                k = min(self.want - self.have, left(&c))
                memcpy(self.room + self.have, take(&c, k), k)
                self.have += k
                if self.have < self.want:
                    return
                p = self.room
                self.have = 0
            self.at += self.want
            if self.step == HEADER:
                self.read_header(p)
            elif self.step == LENGTH:
                self.open_element(load_be32(p) if self.big_here else load_le32(p))
            elif self.step == NAME:
                self.compare(p)
            elif self.step == FIRST:
                self.read_first(p)
            else:
                self.read_prefix(p)
            if self.at >= looked_at and self.step != DONE:
                self.end = self.at
                self.step = DONE

    cdef void read_first(self, const unsigned char* p) noexcept:
        # Finds out how the data set is encoded, by the header of its first element, or the first after group 0002.
        cdef bint agreed
        self.explicit_vr = self.agreed_explicit
        self.big_endian = self.agreed_big
        agreed = begins(p, self.explicit_vr, self.big_endian)
        if not agreed:
            if begins(p, True, False):
                self.explicit_vr, self.big_endian = True, False
            elif begins(p, False, False):
                self.explicit_vr = self.big_endian = False
            elif begins(p, True, True):
                self.explicit_vr = self.big_endian = True
            elif 0 < load_tag(p, self.big_endian) >> 16 < GROUPS:
                self.astray = self.agreed_explicit      # with a VR that is none, or else a length beyond all measure
                agreed = True
            elif self.at == 8:
                memmove(self.room, p, 8)
                self.at = 0
                self.have = 8
                self.want = PREAMBLE
                self.step = PREFIX
                return
            else:
                self.lose_the_way()
                return
            if not agreed and self.syntax_known and load_tag(p, self.big_endian) >> 16 != META_GROUP:
                self.suspect = True
                self.remarks |= TS_SUSPECT
        self.explicit_here = self.explicit_vr
        self.big_here = self.big_endian
        self.step = HEADER
        self.read_header(p)

    cdef void read_prefix(self, const unsigned char* p) noexcept:
        if memcmp(p + 128, b"DICM", 4) == 0:
            self.remarks |= PART10
            self.in_file = True
            self.step = FIRST
            self.want = 8
        else:
            self.begin_as_nothing()

    cdef void begin_as_nothing(self) noexcept:
        if self.syntax_known:
            self.remarks |= TS_SUSPECT
        self.astray = True
        self.step = DONE

    cdef void lose_the_way(self) noexcept:
        self.remarks |= STRUCTURE
        self.astray = True
        self.step = DONE

    cdef void read_header(self, const unsigned char* p) noexcept:
        cdef uint32_t tag = load_tag(p, self.big_here)
        cdef uint32_t length = load_be32(p + 4) if self.big_here else load_le32(p + 4)
        cdef uint16_t vr = 0
        cdef uint32_t what
        cdef bint in_sequence = self.depth & 1
        cdef uint32_t delimitation = SEQUENCE_DELIMITATION if in_sequence else ITEM_DELIMITATION
        if tag >> 16 == DELIMITERS:
            if tag == ITEM and in_sequence:
                if length == UNDEFINED:
                    self.enter()
                else:
                    self.pass_over(length)
            elif self.depth and tag == delimitation:
                self.leave()
            else:
                self.lose_the_way()
            return
        if in_sequence:
            self.lose_the_way()
            return
        if not self.depth:
            if tag >> 16 == META_GROUP and not self.astray:
                self.in_meta = True
                if not self.in_file:
                    self.remarks |= META
            elif self.in_meta:
                self.in_meta = False
                self.read_first(p)
                return
            if tag <= self.last:
                self.astray = True
                if self.has_class and self.has_instance:
                    self.step = DONE
                    return
            self.last = tag
        if self.explicit_here:
            vr = load_be16(p + 4)
            what = traits(vr)
            if not what:
                self.astray = True
            if has_long_header(what, p + 4):
                self.tag = tag
                self.vr = vr
                self.want = 4
                self.step = LENGTH
                return
            length = load_be16(p + 6) if self.big_here else load_le16(p + 6)
        self.tag = tag
        self.vr = vr
        self.open_element(length)

    cdef void open_element(self, uint32_t length) noexcept:
        # The one whose header has been read.
        self.step = HEADER
        self.want = 8
        if length == UNDEFINED:
            if not self.depth:
                self.in_pixels = self.tag == PIXEL_DATA
            self.enter()
            if self.explicit_here and self.vr == UN_:       # PS3.5 6.2.2, note 2
                self.foreign = self.depth
                self.explicit_here = self.big_here = False
            return
        if not self.depth and length and (self.tag == SOP_CLASS_UID or self.tag == SOP_INSTANCE_UID):
            if length <= MAX_UID:
                self.want = length
                self.step = NAME
                return
            if self.tag == SOP_INSTANCE_UID and self.sop_instance_uid_length > MAX_UID:
                self.has_instance = True        # they are both no UIDs: that is all that is to be said
            else:
                self.overlong = True
        self.pass_over(length)

    cdef void compare(self, const unsigned char* value) noexcept:
        # With what the request says; padding does not count.
        cdef size_t n = unpadded(value, self.want)
        cdef bint is_class = self.tag == SOP_CLASS_UID
        cdef bint again = self.has_class if is_class else self.has_instance
        cdef bint same
        if is_class:
            same = n == self.sop_class_uid_length and memcmp(value, PyBytes_AS_STRING(self.sop_class_uid), n) == 0
        else:
            same = n == self.sop_instance_uid_length and memcmp(value, self.sop_instance_uid, n) == 0
        self.step = HEADER
        self.want = 8
        if not n or (again and self.astray):
            return
        if is_class:
            self.has_class = True
        else:
            self.has_instance = True
        if not same:
            self.refuse("store.class_mismatch" if is_class else "store.uid_mismatch")

    cdef void pass_over(self, uint32_t length) noexcept:
        self.at += length
        self.skip = length

    cdef void enter(self) noexcept:
        self.depth += 1
        if self.depth > max_depth:
            self.remarks |= NESTING

    cdef void leave(self) noexcept:
        if self.foreign == self.depth:
            self.foreign = 0
            self.explicit_here = self.explicit_vr
            self.big_here = self.big_endian
        self.depth -= 1
