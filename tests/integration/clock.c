/* A wall clock that jumps by an hour each time one looks: an LD_PRELOAD library (catalogue T17).
 *
 * Clocks that only go forward are left alone.  Works on calls of libc, as CPython and libuv make them.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdatomic.h>
#include <sys/time.h>
#include <time.h>

#define HOUR 3600

static time_t jump(void)
{
    static atomic_int looks;
    return atomic_fetch_add(&looks, 1) % 2 ? HOUR : -HOUR;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    static int (*real)(clockid_t, struct timespec *);
    if (!real)
        real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, now);
    if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)
        now->tv_sec += jump();
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    struct timespec exact;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *when)
{
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (when)
        *when = exact.tv_sec;
    return exact.tv_sec;
}
