from libc.stdint cimport uint64_t

from fastmove._sink cimport iovec


cdef class MemoryMessage:
    cdef Py_buffer memory
    cdef bint is_held
    cdef int pc_id
    cdef bytes command                  # framed
    cdef bytes before
    cdef uint64_t start, nbytes, fragment
    cdef uint64_t total, position       # of the stream: command, headers and data

    cdef int gather(self, iovec* pieces, unsigned char* headers, uint64_t until) noexcept
    cdef uint64_t put_data(self, iovec* pieces, int* count, uint64_t offset, uint64_t n) noexcept
