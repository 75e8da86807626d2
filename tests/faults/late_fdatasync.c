/* For LD_PRELOAD: each sync of a file whose name ends in "-wal" first waits a random time of 0 to LATE_SYNC_MS
   milliseconds, as a slow disk would have it. All other files are synced at once. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static void wait_if_log(int file) {
    const char *most = getenv("LATE_SYNC_MS");
    char link[64], name[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, name, sizeof name);
    if (!most || length < 4 || memcmp(name + length - 4, "-wal", 4) != 0)
        return;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    /* One thread writes; what the others draw need not be independent of it. */
    static unsigned seed;
    seed = seed * 1664525u + 1013904223u + (unsigned)now.tv_nsec;
    long ns = (long)(atol(most) * 1e6 * ((seed >> 8) / (double)(1 << 24)));
    struct timespec wait = {ns / 1000000000, ns % 1000000000};
    nanosleep(&wait, NULL);
}

static int forward(const char *name, int file) {
    int (*sync)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    wait_if_log(file);
    return sync(file);
}

int fdatasync(int file) { return forward("fdatasync", file); }
int fsync(int file) { return forward("fsync", file); }
