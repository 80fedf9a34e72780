/* What a disk and a kernel may do to a program: an LD_PRELOAD library that lets calls fail, fall short, come late,
 * lie, or be the last.
 *
 * The plan is a file that the tester and the program both map, so that a rule may be set, and the calls that it met be
 * read, while the program runs (tests/faults/shim.py writes it; the layout is repeated there).  A rule names an
 * operation and a part of the path; of the calls that fit those from the `first` to the `last` are met.  It works on
 * calls of libc, whoever makes them: compiled code, CPython's os module, libuv.  System calls that libc makes by
 * itself (stdio) and io_uring are not seen.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define RULES 8
#define PIECES 256      /* of a write that is logged */

enum kind { NONE, FAIL, SHORT, DELAY, PRETEND, KILL_BEFORE, KILL_AFTER };

struct rule {
    char op[16];
    char fragment[80];
    uint32_t kind;      /* 0: no rule */
    int32_t value;      /* the errno of FAIL, the milliseconds of DELAY */
    uint32_t first, last;
    uint32_t seen;      /* calls that fitted */
    uint32_t met;       /* of these, those that the rule was applied to */
    uint32_t reserved[2];
};

struct plan {
    struct rule rule[RULES];
};

static struct plan *plan;
static int log_fd = -1;

/* The plan of this process from now on; 0 or an errno. */
int fault_plan(const char *path)
{
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return errno;
    void *mapped = mmap(NULL, sizeof(struct plan), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    syscall(SYS_close, fd);
    if (mapped == MAP_FAILED)
        return errno;
    plan = mapped;
    return 0;
}

/* Where calls and what is sent are written down from now on, as records of struct entry; 0 or an errno. */
int fault_log(const char *path)
{
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return errno;
    int high = (int)syscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 200);   /* out of the way of those that count descriptors */
    syscall(SYS_close, fd);
    if (high < 0)
        return errno;
    log_fd = high;
    return 0;
}

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("FASTMOVE_FAULT_PLAN");
    if (path != NULL && fault_plan(path) != 0) {
        fprintf(stderr, "FASTMOVE_FAULT_PLAN: %s: %s\n", path, strerror(errno));
        _exit(127);
    }
    path = getenv("FASTMOVE_FAULT_LOG");
    if (path != NULL && fault_log(path) != 0) {
        fprintf(stderr, "FASTMOVE_FAULT_LOG: %s: %s\n", path, strerror(errno));
        _exit(127);
    }
}

/* The path of an open file: "socket:[1]" and the like if it has none, "… (deleted)" while it has no name yet. */
static void path_of(int fd, char *path, size_t size)
{
    char link[32];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    long n = syscall(SYS_readlink, link, path, size - 1);
    path[n < 0 ? 0 : n] = 0;
}

static void path_at(int directory, const char *name, char *path, size_t size)
{
    size_t n = 0;
    if (name[0] != '/' && directory != AT_FDCWD) {
        path_of(directory, path, size);
        n = strlen(path);
        if (n + 1 < size)
            path[n++] = '/';
    }
    snprintf(path + n, size - n, "%s", name);
}

static void wait_for(int32_t milliseconds)
{
    struct timespec time = {milliseconds / 1000, (milliseconds % 1000) * 1000000L};
    nanosleep(&time, NULL);
}

/* The rule that this call meets, or NULL. */
static struct rule *met(const char *op, int directory, const char *name)
{
    char path[PATH_MAX];
    int known = 0;
    if (plan == NULL)
        return NULL;
    for (int i = 0; i < RULES; i++) {
        struct rule *rule = &plan->rule[i];
        if (__atomic_load_n(&rule->kind, __ATOMIC_ACQUIRE) == NONE || strcmp(rule->op, op))
            continue;
        if (!known) {
            if (name != NULL)
                path_at(directory, name, path, sizeof path);
            else
                path_of(directory, path, sizeof path);
            known = 1;
        }
        if (strstr(path, rule->fragment) == NULL)
            continue;
        uint32_t n = __atomic_add_fetch(&rule->seen, 1, __ATOMIC_ACQ_REL);
        if (n < rule->first || n > rule->last)
            continue;
        __atomic_add_fetch(&rule->met, 1, __ATOMIC_ACQ_REL);
        if (rule->kind != DELAY)
            return rule;
        wait_for(rule->value);      /* and then whatever other rules say */
    }
    return NULL;
}

static void die(void)
{
    syscall(SYS_kill, getpid(), SIGKILL);
    for (;;)
        pause();
}

/* What happens before the call; true if it is not to be made at all, with its result. */
static int instead(const struct rule *rule, long *result)
{
    if (rule == NULL)
        return 0;
    switch (rule->kind) {
    case FAIL:
        errno = rule->value;
        *result = -1;
        return 1;
    case PRETEND:
        *result = 0;
        return 1;
    case KILL_BEFORE:
        die();
    }
    return 0;
}

/* What happens after it. */
static void afterwards(const struct rule *rule)
{
    if (rule != NULL && rule->kind == KILL_AFTER)
        die();
}

#define REAL(name) \
    static __typeof__(name) *real; \
    if (real == NULL) \
        real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

/* ------------------------------------------------------------------ the log */

struct entry {
    uint32_t size;      /* of the whole record: this, the names, the data */
    uint32_t phase;     /* 0: begun, 1: done */
    uint32_t thread;
    uint32_t name;      /* lengths */
    uint32_t name2;
    uint32_t data;
    int64_t result;     /* of the call */
    uint64_t inode;     /* of the file that it is about */
    uint64_t inode2;    /* of the directory of the name */
    char op[16];
};

static void note(const char *op, uint32_t phase, long result, int fd, int fd2, const char *name, const char *name2,
                 const struct iovec *piece, int pieces)
{
    struct iovec out[3 + PIECES];
    struct entry entry = {0};
    struct stat status;
    int saved = errno;
    if (log_fd < 0)
        return;
    if (pieces > PIECES)
        die();      /* a log with a gap proves nothing */
    entry.phase = phase;
    entry.thread = (uint32_t)syscall(SYS_gettid);
    entry.result = result;
    strncpy(entry.op, op, sizeof entry.op - 1);
    if (fd >= 0 && fstat(fd, &status) == 0)
        entry.inode = status.st_ino;
    if (fd2 >= 0 && fstat(fd2, &status) == 0)
        entry.inode2 = status.st_ino;
    entry.name = name == NULL ? 0 : (uint32_t)strlen(name);
    entry.name2 = name2 == NULL ? 0 : (uint32_t)strlen(name2);
    for (int i = 0; i < pieces; i++) {
        entry.data += (uint32_t)piece[i].iov_len;
        out[3 + i] = piece[i];
    }
    entry.size = (uint32_t)sizeof entry + entry.name + entry.name2 + entry.data;
    out[0] = (struct iovec){&entry, sizeof entry};
    out[1] = (struct iovec){(void *)name, entry.name};
    out[2] = (struct iovec){(void *)name2, entry.name2};
    syscall(SYS_writev, log_fd, out, 3 + pieces);
    errno = saved;
}

static int is_socket(int fd)
{
    struct stat status;
    return log_fd >= 0 && fstat(fd, &status) == 0 && S_ISSOCK(status.st_mode);
}

static int is_file(int fd)
{
    struct stat status;
    return log_fd >= 0 && fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
}

/* ------------------------------------------------------------------ opening */

static int opened(int directory, const char *name, int flags, mode_t mode)
{
    long result;
    const char *op = (flags & O_TMPFILE) == O_TMPFILE ? "tmpfile" : flags & O_CREAT ? "create" : "open";
    struct rule *rule = met(op, directory, name);
    if (instead(rule, &result))
        return (int)result;
    int fd = (int)syscall(SYS_openat, directory, name, flags, mode);
    afterwards(rule);
    if (fd >= 0 && (flags & O_CREAT || op[0] == 't') && log_fd >= 0) {
        char path[PATH_MAX];
        path_of(fd, path, sizeof path);
        note(op, 1, 0, fd, directory, name, path, NULL, 0);
    }
    return fd;
}

#define OPENED(directory) \
    va_list rest; \
    mode_t mode = 0; \
    if (flags & (O_CREAT | O_TMPFILE)) { \
        va_start(rest, flags); \
        mode = va_arg(rest, mode_t); \
        va_end(rest); \
    } \
    return opened(directory, name, flags, mode)

int open(const char *name, int flags, ...) { OPENED(AT_FDCWD); }
int open64(const char *name, int flags, ...) { OPENED(AT_FDCWD); }
int openat(int directory, const char *name, int flags, ...) { OPENED(directory); }
int openat64(int directory, const char *name, int flags, ...) { OPENED(directory); }
int __open_2(const char *name, int flags) { return opened(AT_FDCWD, name, flags, 0); }
int __open64_2(const char *name, int flags) { return opened(AT_FDCWD, name, flags, 0); }
int __openat_2(int directory, const char *name, int flags) { return opened(directory, name, flags, 0); }
int __openat64_2(int directory, const char *name, int flags) { return opened(directory, name, flags, 0); }

int close(int fd)
{
    REAL(close);
    long result;
    struct rule *rule = met("close", fd, NULL);
    if (log_fd >= 0 && fd == log_fd)
        return 0;
    if (rule != NULL && rule->kind == FAIL) {
        int error = rule->value;
        real(fd);       /* Linux closes it, whatever it says */
        errno = error;
        return -1;
    }
    if (instead(rule, &result))
        return (int)result;
    int closed = real(fd);
    afterwards(rule);
    return closed;
}

/* ------------------------------------------------------------------ writing */

static ssize_t written(int fd, const struct iovec *piece, int pieces, off_t offset)
{
    long result;
    struct rule *rule = met("write", fd, NULL);
    struct iovec half[64];
    if (instead(rule, &result))
        return result;
    if (rule != NULL && (rule->kind == SHORT || rule->kind == KILL_AFTER)) {
        size_t all = 0, some;
        int n = 0;
        for (int i = 0; i < pieces; i++)
            all += piece[i].iov_len;
        some = all > 1 ? all / 2 : all;
        for (; n < pieces && n < 64 && some > 0; n++) {
            half[n].iov_base = piece[n].iov_base;
            half[n].iov_len = piece[n].iov_len < some ? piece[n].iov_len : some;
            some -= half[n].iov_len;
        }
        piece = half;
        pieces = n;
    }
    int socket = is_socket(fd), file = !socket && is_file(fd);
    if (socket)
        note("send", 0, 0, -1, -1, NULL, NULL, piece, pieces);
    ssize_t n = offset < 0 ? syscall(SYS_writev, fd, piece, pieces)
                           : syscall(SYS_pwritev, fd, piece, pieces, offset, 0);
    if (file && n >= 0)
        note("write", 1, n, fd, -1, NULL, NULL, piece, pieces);
    afterwards(rule);
    return n;
}

ssize_t write(int fd, const void *data, size_t size)
{
    struct iovec piece = {(void *)data, size};
    return written(fd, &piece, 1, -1);
}

ssize_t writev(int fd, const struct iovec *piece, int pieces) { return written(fd, piece, pieces, -1); }

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset)
{
    struct iovec piece = {(void *)data, size};
    return written(fd, &piece, 1, offset);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset)
{
    struct iovec piece = {(void *)data, size};
    return written(fd, &piece, 1, offset);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    REAL(sendmsg);
    if (is_socket(fd))
        note("send", 0, 0, -1, -1, NULL, NULL, message->msg_iov, (int)message->msg_iovlen);
    return real(fd, message, flags);
}

ssize_t send(int fd, const void *data, size_t size, int flags)
{
    REAL(send);
    struct iovec piece = {(void *)data, size};
    if (is_socket(fd))
        note("send", 0, 0, -1, -1, NULL, NULL, &piece, 1);
    return real(fd, data, size, flags);
}

/* ------------------------------------------------------------------ syncing */

#define SYNCED(name) \
    int name(int fd) \
    { \
        REAL(name); \
        long result; \
        struct rule *rule = met(#name, fd, NULL); \
        note(#name, 0, 0, fd, -1, NULL, NULL, NULL, 0); \
        if (instead(rule, &result)) \
            return (int)result; \
        int failed = real(fd); \
        afterwards(rule); \
        note(#name, 1, failed, fd, -1, NULL, NULL, NULL, 0); \
        return failed; \
    }

SYNCED(fsync)
SYNCED(fdatasync)
SYNCED(syncfs)

/* ------------------------------------------------------------------ names */

#define CALLED(op, directory, name, call) \
    long result; \
    struct rule *rule = met(op, directory, name); \
    if (instead(rule, &result)) \
        return (int)result; \
    int failed = (int)(call); \
    afterwards(rule)

int linkat(int from, const char *old, int to, const char *name, int flags)
{
    CALLED("link", to, name, syscall(SYS_linkat, from, old, to, name, flags));
    if (failed == 0 && log_fd >= 0) {
        int fd = (int)syscall(SYS_openat, to, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        note("link", 1, 0, fd, to, name, NULL, NULL, 0);
        syscall(SYS_close, fd);
    }
    return failed;
}

int link(const char *old, const char *name) { return linkat(AT_FDCWD, old, AT_FDCWD, name, 0); }

int renameat2(int from, const char *old, int to, const char *name, unsigned int flags)
{
    CALLED(flags ? "rename_new" : "rename", to, name, syscall(SYS_renameat2, from, old, to, name, flags));
    if (failed == 0 && log_fd >= 0)
        note("rename", 1, 0, from, to, old, name, NULL, 0);
    return failed;
}

int renameat(int from, const char *old, int to, const char *name) { return renameat2(from, old, to, name, 0); }
int rename(const char *old, const char *name) { return renameat2(AT_FDCWD, old, AT_FDCWD, name, 0); }

int unlinkat(int directory, const char *name, int flags)
{
    CALLED("unlink", directory, name, syscall(SYS_unlinkat, directory, name, flags));
    if (failed == 0 && log_fd >= 0)
        note("unlink", 1, 0, -1, directory, name, NULL, NULL, 0);
    return failed;
}

int unlink(const char *name) { return unlinkat(AT_FDCWD, name, 0); }

int mkdirat(int directory, const char *name, mode_t mode)
{
    CALLED("mkdir", directory, name, syscall(SYS_mkdirat, directory, name, mode));
    if (failed == 0 && log_fd >= 0) {
        int fd = (int)syscall(SYS_openat, directory, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        note("mkdir", 1, 0, fd, directory, name, NULL, NULL, 0);
        syscall(SYS_close, fd);
    }
    return failed;
}

int mkdir(const char *name, mode_t mode) { return mkdirat(AT_FDCWD, name, mode); }

int ftruncate(int fd, off_t size)
{
    CALLED("ftruncate", fd, NULL, syscall(SYS_ftruncate, fd, size));
    return failed;
}

int ftruncate64(int fd, off64_t size) { return ftruncate(fd, size); }
