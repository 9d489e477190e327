/*
 * Preloaded into a program, shifts its wall clock by the number of seconds in the first eight bytes of the
 * file CLOCK_CONTROL, which another process may change at any time. Monotonic clocks are not affected.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static _Atomic int64_t *seconds;

__attribute__((constructor)) static void start(void) {
    const char *path = getenv("CLOCK_CONTROL");
    int file = path ? open(path, O_RDONLY) : -1;
    if (file < 0) return;
    void *mapped = mmap(NULL, 4096, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (mapped != MAP_FAILED) seconds = mapped;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    static __typeof__(clock_gettime) *real;
    if (!real) real = (__typeof__(clock_gettime) *)dlsym(RTLD_NEXT, "clock_gettime");
    int failed = real(clock, time);
    if (!failed && seconds && clock == CLOCK_REALTIME) time->tv_sec += *seconds;
    return failed;
}
