/* Loaded before libc: allocations of the calling thread that fail when they are told to.
   fail_at(n, count): from the n-th from now, counted from 0, so many fail; stop() ends that, and says how many have. */
#include <errno.h>
#include <stddef.h>

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *old, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);

static __thread long until __attribute__((tls_model("initial-exec"))) = -1;
static __thread long how_many __attribute__((tls_model("initial-exec")));
static __thread long failed __attribute__((tls_model("initial-exec")));

void fail_at(long number, long count) {
    failed = 0;
    how_many = count;
    until = number;
}

long stop(void) {
    until = -1;
    return failed;
}

static int fails(void) {
    if (until < 0)
        return 0;
    if (until > 0) {
        until--;
        return 0;
    }
    failed++;
    if (failed == how_many)
        until = -1;
    errno = ENOMEM;
    return 1;
}

void *malloc(size_t size) { return fails() ? NULL : __libc_malloc(size); }
void *calloc(size_t count, size_t size) { return fails() ? NULL : __libc_calloc(count, size); }
void *realloc(void *old, size_t size) { return fails() ? NULL : __libc_realloc(old, size); }
void *memalign(size_t alignment, size_t size) { return fails() ? NULL : __libc_memalign(alignment, size); }
void *aligned_alloc(size_t alignment, size_t size) { return memalign(alignment, size); }
int posix_memalign(void **made, size_t alignment, size_t size) {
    if (fails())
        return ENOMEM;
    *made = __libc_memalign(alignment, size);
    return *made == NULL ? ENOMEM : 0;
}
