/*
 * Stands between a program and the C library, and lets writes, syncs and truncations of some files
 * fail. Which files is said by FAULTS_FILES, a part of their path; when and how by the control file
 * FAULTS_CONTROL, which another process may change at any time. Its eight words are named below and
 * in disk.rs.
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
    _Atomic uint64_t calls;   /* how many calls of these kinds there were */
    _Atomic uint64_t first;   /* the first of them that fails, counted from 1; 0 for none */
    _Atomic uint64_t count;   /* how many fail from then on */
    _Atomic uint64_t error;   /* the errno that they fail with */
    _Atomic uint64_t kinds;   /* which kinds count, as a sum */
    _Atomic uint64_t halve;   /* not 0: the first one writes half, as a disk does that runs full */
    _Atomic uint64_t struck;  /* how many failed */
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

/* Whether a call on this file is to fail, with errno set; 2 where it is to write half. */
static int strikes(int file, uint64_t kind) {
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
    atomic_fetch_add(&control->struck, 1);
    if (control->halve && kind == WRITES && call == first) return 2;
    errno = (int)control->error;
    return 1;
}

#define REAL(name) \
    static __typeof__(name) *real; \
    if (!real) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

ssize_t write(int file, const void *bytes, size_t length) {
    REAL(write);
    int how = strikes(file, WRITES);
    return how == 1 ? -1 : real(file, bytes, how == 2 ? length / 2 : length);
}

ssize_t writev(int file, const struct iovec *parts, int count) {
    REAL(writev);
    return strikes(file, WRITES) ? -1 : real(file, parts, count);
}

ssize_t pwrite(int file, const void *bytes, size_t length, off_t at) {
    REAL(pwrite);
    int how = strikes(file, WRITES);
    return how == 1 ? -1 : real(file, bytes, how == 2 ? length / 2 : length, at);
}

ssize_t pwrite64(int file, const void *bytes, size_t length, off64_t at) {
    REAL(pwrite64);
    int how = strikes(file, WRITES);
    return how == 1 ? -1 : real(file, bytes, how == 2 ? length / 2 : length, at);
}

int fsync(int file) {
    REAL(fsync);
    return strikes(file, SYNCS) ? -1 : real(file);
}

int fdatasync(int file) {
    REAL(fdatasync);
    return strikes(file, SYNCS) ? -1 : real(file);
}

int ftruncate(int file, off_t length) {
    REAL(ftruncate);
    return strikes(file, TRUNCATIONS) ? -1 : real(file, length);
}

int ftruncate64(int file, off64_t length) {
    REAL(ftruncate64);
    return strikes(file, TRUNCATIONS) ? -1 : real(file, length);
}
