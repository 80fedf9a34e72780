from libc.stdint cimport uint64_t

from fastmove._sink cimport DatasetSink, FileSink, FileTemplate, iovec


cdef class Window:
    cdef unsigned char* data
    cdef Py_ssize_t size
    cdef readonly Py_ssize_t views


cdef class CommandReceived:
    cdef readonly int pc_id
    cdef readonly bytes data
    cdef readonly int command_field
    cdef readonly int message_id
    cdef readonly int status
    cdef readonly int remarks
    cdef readonly bint has_dataset
    cdef readonly bytes sop_class_uid
    cdef readonly bytes sop_instance_uid
    cdef readonly bytes move_originator_ae_title
    cdef readonly int move_originator_message_id
    cdef object scan(self)


cdef class DatasetComplete:
    cdef readonly int pc_id
    cdef readonly uint64_t nbytes
    cdef readonly CommandReceived request
    cdef readonly DatasetSink sink
    cdef readonly bint placed
    cdef readonly bytes response


cdef class SinkFailed:
    cdef readonly int error_number
    cdef readonly str refusal
    cdef readonly CommandReceived request


cdef class WriteDue:
    cdef readonly FileSink sink
    cdef readonly CommandReceived request


cdef class PDataWriter


cdef class PduReceiver:
    cdef Window window
    cdef object whole_window            # one memoryview, handed out again and again
    cdef Py_ssize_t start, end          # unread bytes of the window
    cdef uint64_t max_pdu_length
    cdef uint64_t max_control_pdu_length
    cdef uint64_t max_command_bytes
    cdef int max_empty_pdvs
    cdef uint64_t offset                # bytes consumed since the stream began
    cdef bint data_allowed
    cdef bint closed                    # the stream is broken: everything more is dropped
    cdef bint accepted[256]

    cdef int control_type               # -1: none under way
    cdef uint64_t control_left
    cdef bytearray control

    cdef uint64_t pdu_left              # of the P-DATA-TF PDU under way
    cdef bint in_pdv
    cdef uint64_t pdv_left
    cdef int pdv_context
    cdef int pdv_header                 # message control header
    cdef int empty_pdvs

    cdef bint dataset_due               # the next PDV belongs to a data set, on dataset_context
    cdef int dataset_context
    cdef bint storing                   # that data set is a C-STORE-RQ's
    cdef bint moving                    # or a C-MOVE-RSP's
    cdef uint64_t dataset_bytes
    cdef bytearray command              # fragments so far; None: none
    cdef int command_context
    cdef DatasetSink sink
    cdef dict templates                 # context ID: FileTemplate
    cdef CommandReceived request        # the C-STORE-RQ whose file the receiver opened itself,
    cdef FileTemplate template          # by this template
    cdef set answered                   # context IDs whose objects the receiver answers itself,
    cdef public PDataWriter writer      # by this writer
    cdef public int fd                  # through this socket; -1: none

    cdef readonly uint64_t received     # bytes, read or unread
    cdef readonly uint64_t pdus, pdvs, messages, dropped
    cdef readonly int remarks
    cdef int reported                   # those that on_read has been called for
    cdef readonly uint64_t stored, stored_bytes

    cdef public object on_event, on_read
    cdef public bint suspended          # events wait
    cdef public bint wanted             # on_read is called after every read
    cdef public bint only_listens       # no response of ours carries the ACK of what came last
    cdef readonly bint reading          # in buffer_updated: it will read on by itself

    cpdef int count(self, uint64_t nbytes) except -1
    cpdef int advance(self, Py_ssize_t nbytes) except -1
    cpdef object next_event(self)
    cdef bint is_mid_message(self) noexcept
    cdef bint is_receiving(self) noexcept
    cdef bytes send_response(self, CommandReceived request)
    cdef void drop_pdu(self) noexcept
    cdef object need_data(self)
    cdef object flush_sink(self)
    cdef object write_due(self)
    cdef void part_with_sink(self) noexcept
    cdef object sink_failed(self, int error)
    cdef object invalid(self, str reason, str detail=*)
    cdef object begin_pdu(self, const unsigned char* p)
    cdef object begin_pdv(self, const unsigned char* p)
    cdef object take_control(self)
    cdef object no_dataset(self)
    cdef object take_fragment(self)
    cdef object take_command(self, const unsigned char* p, Py_ssize_t n, bint last)


cdef class PDataWriter:
    cdef Window window
    cdef Py_ssize_t fragment            # longest data of one PDV
    cdef int pc_id
    cdef bytes command
    cdef int fd
    cdef uint64_t file_offset, dataset_left
    cdef bytes before                   # comes before the file
    cdef Py_ssize_t before_at

    cpdef bytes store_response(self, CommandReceived request, int status)
    cdef bytes frame(self, int pc_id, bytes data, int kind)
    cdef int fill(self, iovec* piece, int count, uint64_t wanted) except -1
