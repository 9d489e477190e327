/*
 * Preloaded into a program, makes writes, syncs and truncations of some files fail. FAULTS_FILES is a part
 * of the paths of these files. The control file FAULTS_CONTROL, which another process may change at any
 * time, says when and how they fail. Its words are named below and in disk.rs.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

enum { WRITES = 1, SYNCS = 2, TRUNCATIONS = 4 };

struct control {
    _Atomic uint64_t calls;   /* number of calls of these kinds */
    _Atomic uint64_t first;   /* the first call that fails, counted from 1; 0 for none */
    _Atomic uint64_t count;   /* how many calls fail from then on */
    _Atomic uint64_t error;   /* their errno */
    _Atomic uint64_t kinds;   /* the sum of the kinds that count */
    _Atomic uint64_t halve;   /* not 0: the first call writes half, like a disk that runs full */
    _Atomic uint64_t failed;  /* number of calls that failed */
};

static struct control *control;
static const char *files;

__attribute__((constructor)) static void start(void) {
    const char *path = getenv("FAULTS_CONTROL");
    files = getenv("FAULTS_FILES");
    int file = path && files ? open(path, O_RDWR) : -1;
    if (file < 0) return;
    void *mapped = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (mapped != MAP_FAILED) control = mapped;
}

/* 1 if a call on this file fails, with errno set; 2 if it writes half; 0 if it succeeds. */
static int fails(int file, uint64_t kind) {
    if (!control || !(control->kinds & kind)) return 0;
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    if (!strstr(path, files)) return 0;
    uint64_t call = atomic_fetch_add(&control->calls, 1) + 1;
    uint64_t first = control->first;
    if (!first || call < first || call - first >= control->count) return 0;
    atomic_fetch_add(&control->failed, 1);
    if (control->halve && kind == WRITES && call == first) return 2;
    errno = (int)control->error;
    return 1;
}

#define REAL(name) \
    static __typeof__(name) *real; \
    if (!real) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

ssize_t write(int file, const void *bytes, size_t length) {
    REAL(write);
    int how = fails(file, WRITES);
    return how == 1 ? -1 : real(file, bytes, how == 2 ? length / 2 : length);
}

ssize_t writev(int file, const struct iovec *parts, int count) {
    REAL(writev);
    return fails(file, WRITES) ? -1 : real(file, parts, count);
}

ssize_t pwrite(int file, const void *bytes, size_t length, off_t at) {
    REAL(pwrite);
    int how = fails(file, WRITES);
    return how == 1 ? -1 : real(file, bytes, how == 2 ? length / 2 : length, at);
}

ssize_t pwrite64(int file, const void *bytes, size_t length, off64_t at) {
    REAL(pwrite64);
    int how = fails(file, WRITES);
    return how == 1 ? -1 : real(file, bytes, how == 2 ? length / 2 : length, at);
}

int fsync(int file) {
    REAL(fsync);
    return fails(file, SYNCS) ? -1 : real(file);
}

int fdatasync(int file) {
    REAL(fdatasync);
    return fails(file, SYNCS) ? -1 : real(file);
}

int ftruncate(int file, off_t length) {
    REAL(ftruncate);
    return fails(file, TRUNCATIONS) ? -1 : real(file, length);
}

int ftruncate64(int file, off64_t length) {
    REAL(ftruncate64);
    return fails(file, TRUNCATIONS) ? -1 : real(file, length);
}
