/*
 * yardstick: the least C program that is still one end of a C-STORE association.
 *
 *   yardstick receive [options] PORT DIR    a storage SCP: one file per SOP Instance, bytes as received
 *   yardstick send [options] PORT TEMPLATE  a storage SCU: many SOP Instances out of memory
 *
 * What a receiver costs beside `receive`, and a sender beside `send`, is what its own layers cost: the kernel's
 * share is the same for all. Neither end checks more than it needs to stay in step; loopback only.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum {
    WINDOW_BYTES = 256 << 10,    /* one recv, and the longest control PDU */
    LONGEST_PDU = 4 << 20,       /* what `send` makes at most, whatever the peer allows */
    PIECES = 1024,               /* IOV_MAX on Linux */
    UID_BYTES = 64,              /* PS3.5 9.1 */
    COUNTER_DIGITS = 10,         /* end of the template's SOP Instance UID, counted up per object */
    PDATA_HEADER = 12,           /* PDU header and PDV header: PS3.8 9.3.5 */
    GROUP_LENGTH = 12,           /* the element (0000,0000): PS3.7 E.1 */
    TIMEOUT_S = 120,
};
static const char EXPLICIT_LE[] = "1.2.840.10008.1.2.1";
static const char IMPLEMENTATION[] = "2.25.117642099563019275834610247721880532961";

static struct {
    uint32_t pdu_length;         /* what we announce; for `send` also the longest that it makes */
    int null_sink, quickack, associations, spin_us;
    long objects, first;
    size_t head, size;           /* bytes of the template before the repeated part, bytes of a data set */
    const char *sop_class, *sop_instance, *called;
    const char *certificate, *key;   /* `send`: by TLS, with these (PEM) */
} option = {.pdu_length = 131072, .associations = 1, .objects = 1, .called = "ANY-SCP"};

static _Noreturn void fail(const char *what)
{
    fprintf(stderr, "yardstick: %s%s%s\n", what, errno ? ": " : "", errno ? strerror(errno) : "");
    exit(1);
}

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static uint16_t le16_at(const uint8_t *p) { return p[0] | p[1] << 8; }
static uint32_t le32_at(const uint8_t *p) { return le16_at(p) | (uint32_t) le16_at(p + 2) << 16; }
static uint16_t be16_at(const uint8_t *p) { return p[0] << 8 | p[1]; }
static uint32_t be32_at(const uint8_t *p) { return (uint32_t) be16_at(p) << 16 | be16_at(p + 2); }
static void le32_to(uint8_t *p, uint32_t v) { for (int i = 0; i < 4; i++) p[i] = v >> 8 * i; }
static void be16_to(uint8_t *p, uint32_t v) { p[0] = v >> 8; p[1] = v; }
static void be32_to(uint8_t *p, uint32_t v) { be16_to(p, v >> 16); be16_to(p + 2, v); }

/* All of it leaves, however the kernel cuts it; `pieces` is used up. */
static void write_pieces(int fd, struct iovec *pieces, int count)
{
    while (count) {
        ssize_t n = writev(fd, pieces, count < PIECES ? count : PIECES);
        if (n < 0) {
            if (errno == EINTR) continue;
            fail("writev");
        }
        while (count && (size_t) n >= pieces->iov_len) {
            n -= pieces->iov_len;
            pieces++, count--;
        }
        if (count) {
            pieces->iov_base = (uint8_t *) pieces->iov_base + n;
            pieces->iov_len -= n;
        }
    }
}

static void write_all(int fd, const void *bytes, size_t n)
{
    struct iovec piece = {(void *) bytes, n};
    write_pieces(fd, &piece, 1);
}

/* ---- commands: implicit VR little endian, one PDU of one PDV (PS3.7 6.3.1, E.1) */

static uint8_t *command_element(uint8_t *to, unsigned element, const void *value, size_t n)
{
    memset(to, 0, 8 + n + (n & 1));
    to[2] = element, to[3] = element >> 8;
    le32_to(to + 4, n + (n & 1));
    memcpy(to + 8, value, n);
    return to + 8 + n + (n & 1);
}

static uint8_t *command_number(uint8_t *to, unsigned element, uint16_t v)
{
    return command_element(to, element, (uint8_t[]) {v, v >> 8}, 2);
}

/* The headers in front of a command whose elements begin at pdu + PDATA_HEADER + GROUP_LENGTH; its length in all. */
static size_t seal_command(uint8_t *pdu, const uint8_t *end, uint8_t context)
{
    uint8_t length[4];
    size_t n = end - pdu;
    le32_to(length, n - PDATA_HEADER - GROUP_LENGTH);
    command_element(pdu + PDATA_HEADER, 0x0000, length, 4);
    pdu[0] = 4, pdu[1] = 0;
    be32_to(pdu + 2, n - 6);
    be32_to(pdu + 6, n - 10);
    pdu[10] = context, pdu[11] = 3;
    return n;
}

static void find_in_command(const uint8_t *command, size_t n, unsigned element, const uint8_t **value, size_t *length)
{
    *value = NULL, *length = 0;
    for (size_t i = 0; i + 8 <= n;) {
        size_t k = le32_at(command + i + 4);
        if (k > n - i - 8) return;
        if (le16_at(command + i) == 0 && le16_at(command + i + 2) == element) {
            *value = command + i + 8, *length = k;
            return;
        }
        i += 8 + k;
    }
}

/* ---- items of A-ASSOCIATE PDUs: type, reserved, 2-byte length (PS3.8 9.3.2) */

static uint8_t *item(uint8_t *to, uint8_t type, const void *value, size_t n)
{
    to[0] = type, to[1] = 0;
    be16_to(to + 2, n);
    if (value) memcpy(to + 4, value, n);
    return to + 4 + n;
}

static uint8_t *user_information(uint8_t *to)
{
    uint8_t length[4], *at = to + 4;
    be32_to(length, option.pdu_length);
    at = item(at, 0x51, length, 4);
    at = item(at, 0x52, IMPLEMENTATION, strlen(IMPLEMENTATION));
    item(to, 0x50, NULL, at - to - 4);
    return at;
}

/* ---- receive */

enum phase { PDU_HEADER, PDV_HEADER, FRAGMENT };

struct acceptor {
    int socket, file, is_open, piece_count;
    enum phase phase;
    uint32_t pdu_left, pdv_left;
    uint8_t context, control;
    uint16_t message_id;
    size_t at, end, command_bytes, class_bytes, instance_bytes;
    char sop_class[UID_BYTES + 1], sop_instance[UID_BYTES + 1], transfer_syntax[256][UID_BYTES + 1];
    uint8_t command[4096], file_head[1024];
    struct iovec pieces[PIECES];
    uint8_t window[WINDOW_BYTES];
};

static int folder;
static atomic_ullong received_objects, received_bytes;

static void flush(struct acceptor *a)
{
    if (a->piece_count && !option.null_sink) write_pieces(a->file, a->pieces, a->piece_count);
    a->piece_count = 0;
}

static void add_piece(struct acceptor *a, void *bytes, size_t n)
{
    if (a->piece_count == PIECES) flush(a);
    a->pieces[a->piece_count++] = (struct iovec) {bytes, n};
}

static uint8_t *meta_uid(uint8_t *to, uint8_t element, const char *uid)
{
    size_t n = strlen(uid), even = n + (n & 1);
    memcpy(to, (uint8_t[]) {2, 0, element, 0, 'U', 'I', even, 0}, 8);
    to[8 + n] = 0;
    memcpy(to + 8, uid, n);
    return to + 8 + even;
}

static size_t uid_in_command(struct acceptor *a, unsigned element, char *uid)
{
    const uint8_t *value;
    size_t n;
    find_in_command(a->command, a->command_bytes, element, &value, &n);
    if (!value || n > UID_BYTES || memchr(value, '/', n)) errno = 0, fail("C-STORE-RQ without a usable UID");
    while (n && !value[n - 1]) n--;
    memcpy(uid, value, n);
    uid[n] = 0;
    return n;
}

/* The C-STORE-RQ is complete: open the file, and let preamble and file meta be its first piece (PS3.10 7.1). */
static void begin_object(struct acceptor *a)
{
    const uint8_t *id;
    size_t n;
    find_in_command(a->command, a->command_bytes, 0x0110, &id, &n);
    a->message_id = id ? le16_at(id) : 0;
    a->class_bytes = uid_in_command(a, 0x0002, a->sop_class);
    a->instance_bytes = uid_in_command(a, 0x1000, a->sop_instance);
    a->command_bytes = 0;
    if (option.null_sink) return;
    char name[UID_BYTES + 8];
    snprintf(name, sizeof name, "%s.dcm", a->sop_instance);
    if ((a->file = openat(folder, name, O_WRONLY | O_CREAT | O_TRUNC, 0644)) < 0) fail(name);
    uint8_t *meta = a->file_head + 144, *at = meta;     /* preamble, prefix and the group length lie before */
    memcpy(a->file_head + 128, "DICM\2\0\0\0UL\4\0", 12);
    memcpy(at, "\2\0\1\0OB\0\0\2\0\0\0\0\1", 14);
    at = meta_uid(at + 14, 0x02, a->sop_class);
    at = meta_uid(at, 0x03, a->sop_instance);
    at = meta_uid(at, 0x10, a->transfer_syntax[a->context]);
    at = meta_uid(at, 0x12, IMPLEMENTATION);
    le32_to(a->file_head + 140, at - meta);
    add_piece(a, a->file_head, at - a->file_head);
}

/* The data set is complete: close the file, then answer Success in one send (PS3.7 9.3.1.2). */
static void end_object(struct acceptor *a)
{
    flush(a);
    if (!option.null_sink && close(a->file)) fail("close");
    received_objects++;
    uint8_t pdu[512], *at = pdu + PDATA_HEADER + GROUP_LENGTH;
    at = command_element(at, 0x0002, a->sop_class, a->class_bytes);
    at = command_number(at, 0x0100, 0x8001);
    at = command_number(at, 0x0120, a->message_id);
    at = command_number(at, 0x0800, 0x0101);
    at = command_number(at, 0x0900, 0x0000);
    at = command_element(at, 0x1000, a->sop_instance, a->instance_bytes);
    write_all(a->socket, pdu, seal_command(pdu, at, a->context));
}

/* A-ASSOCIATE-AC: every context accepted, Explicit VR Little Endian where it is offered, else the first offer. */
static void accept_association(struct acceptor *a, const uint8_t *rq, size_t n)
{
    uint8_t *ac = malloc(2 * WINDOW_BYTES), *to = ac + 74;
    memset(ac, 0, 74);
    memcpy(ac + 6, rq, 68);
    ac[0] = 2;
    to = item(to, 0x10, "1.2.840.10008.3.1.1.1", 21);
    for (size_t i = 68, k; i + 4 <= n; i += 4 + k) {
        k = be16_at(rq + i + 2);
        if (rq[i] != 0x20 || i + 4 + k > n) continue;
        uint8_t context = rq[i + 4], *body = to + 8;
        char *chosen = a->transfer_syntax[context];
        chosen[0] = 0;
        for (size_t j = i + 8, m; j + 4 <= i + 4 + k; j += 4 + m) {
            m = be16_at(rq + j + 2);
            int wanted = m == strlen(EXPLICIT_LE) && !memcmp(rq + j + 4, EXPLICIT_LE, m);
            if (rq[j] == 0x40 && m <= UID_BYTES && (wanted || !chosen[0])) {
                memcpy(chosen, rq + j + 4, m);
                chosen[m] = 0;
            }
        }
        memcpy(to + 4, (uint8_t[]) {context, 0, 0, 0}, 4);
        body = item(body, 0x40, chosen, strlen(chosen));
        item(to, 0x21, NULL, body - to - 4);
        to = body;
    }
    to = user_information(to);
    be32_to(ac + 2, to - ac - 6);
    write_all(a->socket, ac, to - ac);
    free(ac);
}

/* Everything between `at` and `end` that is complete enough to act on; the rest stays for the next recv. */
static void consume(struct acceptor *a)
{
    for (;;) {
        uint8_t *p = a->window + a->at;
        size_t have = a->end - a->at;
        if (a->phase == FRAGMENT) {
            size_t take = have < a->pdv_left ? have : a->pdv_left;
            if (a->control & 1) {
                if (take > sizeof a->command - a->command_bytes) errno = 0, fail("command too long");
                memcpy(a->command + a->command_bytes, p, take);
                a->command_bytes += take;
            } else if (take) {
                add_piece(a, p, take);
                if (option.null_sink) received_bytes += take;
            }
            a->at += take, a->pdv_left -= take, a->pdu_left -= take;
            if (a->pdv_left) return;
            if (a->control & 2) (a->control & 1 ? begin_object : end_object)(a);
            a->phase = a->pdu_left ? PDV_HEADER : PDU_HEADER;
            continue;
        }
        if (have < 6) return;
        if (a->phase == PDV_HEADER) {
            uint32_t n = be32_at(p);
            if (a->pdu_left < 6 || n < 2 || n - 2 > a->pdu_left - 6) errno = 0, fail("PDV and PDU do not fit");
            a->pdv_left = n - 2, a->context = p[4], a->control = p[5];
            a->pdu_left -= 6, a->at += 6;
            a->phase = FRAGMENT;
            continue;
        }
        uint32_t n = be32_at(p + 2);
        if (p[0] == 4) {
            a->pdu_left = n, a->at += 6;
            a->phase = PDV_HEADER;
            continue;
        }
        if (n > WINDOW_BYTES - 6) errno = 0, fail("control PDU too long");
        if (have < 6 + n) return;
        if (p[0] == 1 && n >= 68) accept_association(a, p + 6, n);
        if (p[0] == 5) write_all(a->socket, "\6\0\0\0\0\4\0\0\0\0", 10);
        a->at += 6 + n;
    }
}

static void *serve(void *socket)
{
    struct acceptor *a = calloc(1, sizeof *a);
    a->socket = (int) (intptr_t) socket;
    int one = 1;
    setsockopt(a->socket, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    for (;;) {
        ssize_t n = recv(a->socket, a->window + a->end, WINDOW_BYTES - a->end, 0);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break;
        a->end += n;
        consume(a);
        flush(a);                                   /* the pieces point into the window */
        memmove(a->window, a->window + a->at, a->end - a->at);
        a->end -= a->at, a->at = 0;
    }
    close(a->socket);
    free(a);
    return NULL;
}

static void *report_on_sigterm(void *set)
{
    int signal_number;
    sigwait(set, &signal_number);
    printf("{\"objects\": %llu, \"bytes\": %llu}\n", (unsigned long long) received_objects,
           (unsigned long long) received_bytes);
    exit(0);
}

static _Noreturn void receive(int port, const char *path)
{
    static sigset_t stop;
    pthread_t thread;
    sigemptyset(&stop);
    sigaddset(&stop, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &stop, NULL);
    signal(SIGPIPE, SIG_IGN);
    pthread_create(&thread, NULL, report_on_sigterm, &stop);
    if ((folder = open(path, O_RDONLY | O_DIRECTORY)) < 0) fail(path);
    int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *) &address, sizeof address) || listen(listener, 64)) fail("listen");
    for (;;) {
        int s = accept(listener, NULL, NULL);
        if (s < 0) continue;
        if (pthread_create(&thread, NULL, serve, (void *) (intptr_t) s)) fail("thread");
        pthread_detach(thread);
    }
}

/* ---- send */

/* ---- TLS of `send`: the OpenSSL that is there, without its headers; whole records, many of them a system call */

enum {
    RECORD_BYTES = 16 << 10,     /* RFC 8446 5.1 */
    RECORDS_BYTES = 64 << 10,    /* encrypted at once, and sent */
    SET_BUFFER_SIZE = 117, FLUSH = 11, PEM_FILE = 1,     /* BIO_C_SET_BUFF_SIZE, BIO_CTRL_FLUSH, SSL_FILETYPE_PEM */
};

static struct {
    void *(*client_method)(void), *(*context_new)(const void *), *(*new)(void *);
    int (*use_certificate)(void *, const char *), (*use_key)(void *, const char *, int);
    void *(*buffer)(void), *(*bio_new)(const void *), *(*bio_socket)(int, int), *(*push)(void *, void *);
    long (*bio_int)(void *, int, long, int), (*control)(void *, int, long, void *);
    void (*set_bio)(void *, void *, void *);
    int (*connect)(void *), (*read)(void *, void *, int), (*write)(void *, const void *, int), (*pending)(const void *);
    void *context;
} openssl;

static void load_openssl(void)
{
    static const struct { void *to; const char *name; } names[] = {
        {&openssl.client_method, "TLS_client_method"}, {&openssl.context_new, "SSL_CTX_new"},
        {&openssl.new, "SSL_new"}, {&openssl.use_certificate, "SSL_CTX_use_certificate_chain_file"},
        {&openssl.use_key, "SSL_CTX_use_PrivateKey_file"}, {&openssl.buffer, "BIO_f_buffer"},
        {&openssl.bio_new, "BIO_new"}, {&openssl.bio_socket, "BIO_new_socket"}, {&openssl.push, "BIO_push"},
        {&openssl.bio_int, "BIO_int_ctrl"}, {&openssl.control, "BIO_ctrl"}, {&openssl.set_bio, "SSL_set_bio"},
        {&openssl.connect, "SSL_connect"}, {&openssl.read, "SSL_read"}, {&openssl.write, "SSL_write"},
        {&openssl.pending, "SSL_pending"}};
    void *library = dlopen("libssl.so.3", RTLD_NOW | RTLD_GLOBAL);
    errno = 0;
    if (!library) fail("TLS needs OpenSSL 3 (libssl.so.3)");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        void *found = dlsym(library, names[i].name);
        if (!found) fail(names[i].name);
        memcpy(names[i].to, &found, sizeof found);
    }
    openssl.context = openssl.context_new(openssl.client_method());
    if (!openssl.context || openssl.use_certificate(openssl.context, option.certificate) != 1 ||
        openssl.use_key(openssl.context, option.key, PEM_FILE) != 1)
        fail("certificate and key cannot be used");
}

struct tls {
    void *connection, *out;
    size_t have;                 /* of the record that is being filled */
    uint8_t record[RECORD_BYTES];
};

static struct tls *begin_tls(int fd)
{
    struct tls *t = calloc(1, sizeof *t);
    t->connection = openssl.new(openssl.context);
    t->out = openssl.bio_new(openssl.buffer());
    openssl.bio_int(t->out, SET_BUFFER_SIZE, RECORDS_BYTES, 1);
    openssl.push(t->out, openssl.bio_socket(fd, 0));
    openssl.set_bio(t->connection, openssl.bio_socket(fd, 0), t->out);
    errno = 0;
    if (openssl.connect(t->connection) != 1) fail("no TLS with the peer");
    return t;
}

static void write_records(struct tls *t, const void *bytes, size_t n)
{
    errno = 0;
    if (n && openssl.write(t->connection, bytes, n) != (int) n) fail("the peer ended TLS");
}

static void write_encrypted(struct tls *t, const struct iovec *pieces, int count)
{
    for (int i = 0; i < count; i++) {
        const uint8_t *at = pieces[i].iov_base;
        for (size_t left = pieces[i].iov_len, n; left; at += n, left -= n) {
            if (!t->have && left >= RECORD_BYTES) {
                write_records(t, at, n = left / RECORD_BYTES * RECORD_BYTES);
                continue;
            }
            n = left < RECORD_BYTES - t->have ? left : RECORD_BYTES - t->have;
            memcpy(t->record + t->have, at, n);
            t->have += n;
            if (t->have == RECORD_BYTES) write_records(t, t->record, RECORD_BYTES), t->have = 0;
        }
    }
    write_records(t, t->record, t->have);
    t->have = 0;
    errno = 0;
    if (openssl.control(t->out, FLUSH, 0, NULL) != 1) fail("cannot send");
}

struct requestor {
    pthread_t thread;
    int socket;
    struct tls *tls;             /* NULL: without */
    long first, count, refused;
    uint16_t status;             /* of the first refusal */
    uint32_t fragment;           /* data bytes in a full PDU */
    double begun, ended, first_s;    /* first_s: from the connection to the first response */
    float *wait_us;
    uint8_t *head, *head_counter, *command_counter, *message_id;
    uint8_t command[512], full[PDATA_HEADER], last[PDATA_HEADER];
    size_t command_bytes, have;
    uint8_t answer[8192];
};

static void put(struct requestor *r, struct iovec *pieces, int count)
{
    if (r->tls) write_encrypted(r->tls, pieces, count);
    else write_pieces(r->socket, pieces, count);
}

static ssize_t get(struct requestor *r, int wait)
{
    uint8_t *to = r->answer + r->have;
    size_t room = sizeof r->answer - r->have;
    if (!r->tls) return recv(r->socket, to, room, wait ? 0 : MSG_DONTWAIT);
    if (!wait && !openssl.pending(r->tls->connection) && recv(r->socket, to, 1, MSG_PEEK | MSG_DONTWAIT) < 0) return -1;
    return openssl.read(r->tls->connection, to, room);
}

static uint8_t *template_bytes, *pattern;     /* pattern: repeated until any PDU is one piece of it */
static size_t period;
static int port_number;
static pthread_barrier_t all_associated;

/* At least `wanted` bytes of the answer are in the buffer; polls first, as a sleeping CPU takes long to wake. */
static void await(struct requestor *r, size_t wanted)
{
    double until = option.spin_us ? now_s() + option.spin_us * 1e-6 : 0;
    if (wanted > sizeof r->answer) errno = 0, fail("answer too long");
    while (r->have < wanted) {
        int wait = !until || now_s() > until;
        ssize_t n = get(r, wait);
        if (n < 0 && (errno == EINTR || (!wait && errno == EAGAIN))) continue;
        if (n <= 0) fail(n ? "no answer" : "connection closed by the peer");
        r->have += n;
        int one = 1;
        if (option.quickack) setsockopt(r->socket, IPPROTO_TCP, TCP_QUICKACK, &one, sizeof one);
    }
}

static size_t await_pdu(struct requestor *r, uint8_t type)
{
    await(r, 6);
    size_t n = be32_at(r->answer + 2) + 6;
    await(r, n);
    if (r->answer[0] != type) {
        fprintf(stderr, "yardstick: PDU type %u instead of %u\n", r->answer[0], type);
        exit(1);
    }
    return n;
}

static void drop(struct requestor *r, size_t n)
{
    memmove(r->answer, r->answer + n, r->have - n);
    r->have -= n;
}

static void associate(struct requestor *r)
{
    uint8_t rq[1024] = {1}, *at = rq + 74, *context = at, *inside;
    rq[7] = 1;
    memset(rq + 10, ' ', 32);
    memcpy(rq + 10, option.called, strnlen(option.called, 16));
    memcpy(rq + 26, "YARDSTICK", 9);
    context = item(at, 0x10, "1.2.840.10008.3.1.1.1", 21);
    memcpy(context + 4, "\1\0\0\0", 4);
    inside = item(context + 8, 0x30, option.sop_class, strlen(option.sop_class));
    inside = item(inside, 0x40, EXPLICIT_LE, strlen(EXPLICIT_LE));
    item(context, 0x20, NULL, inside - context - 4);
    at = user_information(inside);
    be32_to(rq + 2, at - rq - 6);
    put(r, &(struct iovec) {rq, at - rq}, 1);

    size_t n = await_pdu(r, 2);
    uint32_t longest = option.pdu_length;
    for (size_t i = 74, k; i + 4 <= n; i += 4 + k) {
        const uint8_t *p = r->answer + i;
        k = be16_at(p + 2);
        if (p[0] == 0x21 && p[6]) errno = 0, fail("presentation context refused");
        if (p[0] == 0x50) k = 0;                    /* step into the user information */
        if (p[0] == 0x51 && be32_at(p + 4) && be32_at(p + 4) < longest) longest = be32_at(p + 4);
    }
    drop(r, n);
    r->fragment = (longest - 6) & ~1u;
}

static void prepare(struct requestor *r)
{
    r->head = malloc(option.head);
    memcpy(r->head, template_bytes, option.head);
    size_t n = strlen(option.sop_instance);
    uint8_t *uid = memmem(r->head, option.head, option.sop_instance, n);
    if (!uid) errno = 0, fail("the template does not hold its SOP Instance UID");
    r->head_counter = uid + n - COUNTER_DIGITS;
    uint8_t *at = r->command + PDATA_HEADER + GROUP_LENGTH;
    at = command_element(at, 0x0002, option.sop_class, strlen(option.sop_class));
    at = command_number(at, 0x0100, 0x0001);
    r->message_id = at + 8;
    at = command_number(at, 0x0110, 0);
    at = command_number(at, 0x0700, 0);
    at = command_number(at, 0x0800, 0x0001);
    r->command_counter = at + 8 + n - COUNTER_DIGITS;
    at = command_element(at, 0x1000, option.sop_instance, n);
    r->command_bytes = seal_command(r->command, at, 1);
    size_t rest = option.size % r->fragment ? option.size % r->fragment : r->fragment;
    for (int is_last = 0; is_last < 2; is_last++) {
        uint8_t *header = is_last ? r->last : r->full;
        uint32_t data = is_last ? rest : r->fragment;
        memcpy(header, (uint8_t[PDATA_HEADER]) {4, [10] = 1, [11] = is_last ? 2 : 0}, PDATA_HEADER);
        be32_to(header + 2, data + 6);
        be32_to(header + 6, data + 2);
    }
}

static void send_object(struct requestor *r, long number)
{
    char digits[COUNTER_DIGITS + 1];
    snprintf(digits, sizeof digits, "%010ld", number);
    memcpy(r->head_counter, digits, COUNTER_DIGITS);
    memcpy(r->command_counter, digits, COUNTER_DIGITS);
    r->message_id[0] = number, r->message_id[1] = number >> 8;
    struct iovec pieces[PIECES] = {{r->command, r->command_bytes}};
    int count = 1;
    for (size_t at = 0; at < option.size;) {
        size_t n = option.size - at <= r->fragment ? option.size - at : r->fragment;
        pieces[count++] = (struct iovec) {at + n == option.size ? r->last : r->full, PDATA_HEADER};
        size_t from_head = at >= option.head ? 0 : option.head - at < n ? option.head - at : n;
        if (from_head) pieces[count++] = (struct iovec) {r->head + at, from_head};
        if (from_head < n)
            pieces[count++] = (struct iovec) {pattern + (at + from_head - option.head) % period, n - from_head};
        at += n;
        if (count > PIECES - 3 || at == option.size) {
            put(r, pieces, count);
            count = 0;
        }
    }
}

static uint16_t await_status(struct requestor *r)
{
    uint8_t command[1024];
    for (size_t used = 0;;) {
        size_t n = await_pdu(r, 4);
        int complete = 0;
        for (size_t i = 6; i + 6 <= n;) {
            size_t k = be32_at(r->answer + i) - 2;
            if (k > n - i - 6 || k > sizeof command - used) errno = 0, fail("malformed C-STORE-RSP");
            memcpy(command + used, r->answer + i + 6, k);
            used += k;
            complete |= r->answer[i + 5] & 2;
            i += 6 + k;
        }
        drop(r, n);
        if (!complete) continue;
        const uint8_t *value;
        find_in_command(command, used, 0x0900, &value, &n);
        if (!value) errno = 0, fail("C-STORE-RSP without a status");
        return le16_at(value);
    }
}

static void *request(void *argument)
{
    struct requestor *r = argument;
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port_number), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    struct timeval timeout = {TIMEOUT_S, 0};
    int one = 1;
    r->socket = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(r->socket, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(r->socket, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
    setsockopt(r->socket, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout);
    double connecting = now_s();
    if (connect(r->socket, (struct sockaddr *) &address, sizeof address)) fail("connect");
    if (option.certificate) r->tls = begin_tls(r->socket);
    associate(r);
    double associated = now_s();
    prepare(r);
    pthread_barrier_wait(&all_associated);
    r->begun = now_s();
    for (long i = 0; i < r->count; i++) {
        send_object(r, r->first + i);
        double sent = now_s();
        uint16_t status = await_status(r);
        r->wait_us[i] = (now_s() - sent) * 1e6;
        if (!i) r->first_s = associated - connecting + now_s() - r->begun;     /* not the wait for the others */
        if (status && !r->refused++) r->status = status;
    }
    r->ended = now_s();
    put(r, &(struct iovec) {"\5\0\0\0\0\4\0\0\0\0", 10}, 1);
    await_pdu(r, 6);
    close(r->socket);
    return NULL;
}

static int ascending(const void *a, const void *b)
{
    float x = *(const float *) a, y = *(const float *) b;
    return (x > y) - (x < y);
}

static void read_template(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (!f || fseek(f, 0, SEEK_END)) fail(path);
    size_t n = ftell(f);
    rewind(f);
    template_bytes = malloc(n);
    if (fread(template_bytes, 1, n, f) != n) fail(path);
    fclose(f);
    period = n - option.head;
    if (n < option.head || option.size < option.head || (option.size > option.head && !period))
        errno = 0, fail("the template is too short");
    if (!period) return;
    pattern = malloc(period + LONGEST_PDU);
    for (size_t i = 0; i < period + LONGEST_PDU; i += period) {
        size_t room = period + LONGEST_PDU - i;
        memcpy(pattern + i, template_bytes + option.head, room < period ? room : period);
    }
}

static int send_objects(const char *path)
{
    if (!option.sop_class || !option.sop_instance || strlen(option.sop_instance) <= COUNTER_DIGITS ||
        option.associations < 1 || option.objects < option.associations || option.pdu_length > LONGEST_PDU)
        errno = 0, fail("send needs --class, --instance, no fewer objects than associations, and PDUs up to 4 MiB");
    read_template(path);
    if (option.certificate) load_openssl();
    struct requestor *all = calloc(option.associations, sizeof *all);
    float *wait_us = calloc(option.objects, sizeof *wait_us);
    pthread_barrier_init(&all_associated, NULL, option.associations);
    long given = 0, refused = 0;
    for (int i = 0; i < option.associations; i++) {
        all[i].count = (option.objects - given) / (option.associations - i);
        all[i].first = option.first + given;
        all[i].wait_us = wait_us + given;
        given += all[i].count;
        if (pthread_create(&all[i].thread, NULL, request, all + i)) fail("thread");
    }
    double begun = 0, ended = 0, first_s = 0;
    unsigned status = 0;
    for (int i = 0; i < option.associations; i++) {
        pthread_join(all[i].thread, NULL);
        if (!i || all[i].begun < begun) begun = all[i].begun;
        if (all[i].ended > ended) ended = all[i].ended;
        if (all[i].first_s > first_s) first_s = all[i].first_s;
        if (all[i].refused) status = all[i].status;
        refused += all[i].refused;
    }
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    qsort(wait_us, option.objects, sizeof *wait_us, ascending);
    long n = option.objects;
    printf("{\"objects\": %ld, \"bytes\": %zu, \"refused\": %ld, \"status\": %u, \"seconds\": %.6f, \"cpu_s\": %.6f, "
           "\"first_ms\": %.3f, \"response_us\": {\"p50\": %.1f, \"p90\": %.1f, \"p99\": %.1f, \"max\": %.1f}}\n",
           n, n * option.size, refused, status, ended - begun,
           used.ru_utime.tv_sec + used.ru_stime.tv_sec + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) * 1e-6,
           first_s * 1e3, wait_us[n / 2], wait_us[n * 9 / 10], wait_us[n * 99 / 100], wait_us[n - 1]);
    return refused != 0;
}

int main(int argc, char **argv)
{
    static const struct option names[] = {
        {"pdu", 1, 0, 'p'}, {"null", 0, 0, 'n'}, {"quickack", 0, 0, 'q'}, {"associations", 1, 0, 'a'},
        {"spin", 1, 0, 's'}, {"objects", 1, 0, 'o'}, {"first", 1, 0, 'f'}, {"head", 1, 0, 'h'}, {"size", 1, 0, 'b'},
        {"class", 1, 0, 'c'}, {"instance", 1, 0, 'i'}, {"called", 1, 0, 'C'},
        {"certificate", 1, 0, 't'}, {"key", 1, 0, 'k'}, {0, 0, 0, 0}};
    for (int o; (o = getopt_long(argc, argv, "", names, NULL)) != -1;) switch (o) {
        case 'p': option.pdu_length = strtoul(optarg, NULL, 10); break;
        case 'n': option.null_sink = 1; break;
        case 'q': option.quickack = 1; break;
        case 'a': option.associations = atoi(optarg); break;
        case 's': option.spin_us = atoi(optarg); break;
        case 'o': option.objects = atol(optarg); break;
        case 'f': option.first = atol(optarg); break;
        case 'h': option.head = strtoull(optarg, NULL, 10); break;
        case 'b': option.size = strtoull(optarg, NULL, 10); break;
        case 'c': option.sop_class = optarg; break;
        case 'i': option.sop_instance = optarg; break;
        case 'C': option.called = optarg; break;
        case 't': option.certificate = optarg; break;
        case 'k': option.key = optarg; break;
        default: return 2;
    }
    const char *mode = argc - optind == 3 ? argv[optind] : "";
    if (*mode) port_number = atoi(argv[optind + 1]);
    if (!strcmp(mode, "receive")) receive(port_number, argv[optind + 2]);
    if (!strcmp(mode, "send")) return send_objects(argv[optind + 2]);
    fprintf(stderr, "usage: yardstick receive [--null] [--pdu N] PORT DIR\n"
                    "       yardstick send --class UID --instance UID --head N --size N [--objects N] [--first N]\n"
                    "                      [--associations N] [--pdu N] [--spin US] [--quickack] [--called AE]\n"
                    "                      [--certificate FILE --key FILE] PORT FILE\n");
    return 2;
}
