# Big- and little-endian loads and stores, and the checked Cursor: C only, no module of its own.
# Nothing else in the compiled core may do pointer arithmetic on received bytes.

from libc.stdint cimport uint16_t, uint32_t, uint64_t


cdef inline uint16_t load_be16(const unsigned char* p) noexcept nogil:
    return <uint16_t>(p[0] << 8 | p[1])


cdef inline uint32_t load_be32(const unsigned char* p) noexcept nogil:
    return <uint32_t>p[0] << 24 | <uint32_t>p[1] << 16 | <uint32_t>p[2] << 8 | <uint32_t>p[3]


cdef inline uint16_t load_le16(const unsigned char* p) noexcept nogil:
    return <uint16_t>(p[0] | p[1] << 8)


cdef inline uint32_t load_le32(const unsigned char* p) noexcept nogil:
    return <uint32_t>p[0] | <uint32_t>p[1] << 8 | <uint32_t>p[2] << 16 | <uint32_t>p[3] << 24


cdef inline void store_be32(unsigned char* p, uint32_t v) noexcept nogil:
    p[0] = <unsigned char>(v >> 24)
    p[1] = <unsigned char>(v >> 16 & 0xFF)
    p[2] = <unsigned char>(v >> 8 & 0xFF)
    p[3] = <unsigned char>(v & 0xFF)


cdef inline void store_le16(unsigned char* p, uint16_t v) noexcept nogil:
    p[0] = <unsigned char>(v & 0xFF)
    p[1] = <unsigned char>(v >> 8)


cdef inline void store_le32(unsigned char* p, uint32_t v) noexcept nogil:
    p[0] = <unsigned char>(v & 0xFF)
    p[1] = <unsigned char>(v >> 8 & 0xFF)
    p[2] = <unsigned char>(v >> 16 & 0xFF)
    p[3] = <unsigned char>(v >> 24)


cdef struct Cursor:
    const unsigned char* at
    const unsigned char* end


cdef inline Cursor cursor(const unsigned char* data, Py_ssize_t length) noexcept nogil:
    cdef Cursor c
    c.at = data
    c.end = data + length
    return c


cdef inline uint64_t left(const Cursor* c) noexcept nogil:
    return <uint64_t>(c.end - c.at)


cdef inline const unsigned char* take(Cursor* c, uint64_t n) noexcept nogil:
    # The next n bytes, or NULL if so many are not there.
    cdef const unsigned char* p = c.at
    if n > left(c):
        return NULL
    c.at += n
    return p


cdef inline unsigned char* put_header(unsigned char* p, uint64_t length, int pc_id, int header) noexcept nogil:
    # PDU header and PDV header of a P-DATA-TF PDU (type 4) with one PDV of `length` data bytes (PS3.8 9.3.5).
    p[0] = 4
    p[1] = 0
    store_be32(p + 2, <uint32_t>(length + 6))
    store_be32(p + 6, <uint32_t>(length + 2))
    p[10] = <unsigned char>pc_id
    p[11] = <unsigned char>header
    return p + 12
