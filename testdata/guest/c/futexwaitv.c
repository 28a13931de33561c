// futex_waitv.
#include "t.h"
#include <linux/futex.h>
static int *f; static long fx(int *u, int op, int v, void *t, int *u2, int v3) { return syscall(SYS_futex, u, op, v, t, u2, v3); }
int main(void) {
	struct timespec ms; pid_t c; f = mmap(0, 4096, 3, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct { uint64_t val, addr; uint32_t flags, res; } v[2] = {{0, (long)f, 2}, {0, (long)(f + 1), 2}}; f[0] = 1; T(syscall(449, v, 2, 0, 0, 0)); T(syscall(449, v, 0, 0, 0, 0)); T(syscall(449, v, 200, 0, 0, 0)); T(syscall(449, v, 2, 1, 0, 0)); f[0] = 0; f[1] = 0; clock_gettime(CLOCK_MONOTONIC, &ms); T(syscall(449, v, 2, 0, &ms, CLOCK_MONOTONIC)); T(syscall(449, v, 2, 0, &ms, 7)); c = fork(); if (!c) { msleep(60); T(fx(f + 1, FUTEX_WAKE, 1, 0, 0, 0)); _exit(0); } T(syscall(449, v, 2, 0, 0, 0)); wait(0);
}
