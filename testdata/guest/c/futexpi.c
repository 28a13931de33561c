// Futexes with priority inheritance.
#include "t.h"
#include <linux/futex.h>
static int *f; static long fx(int *u, int op, int v, void *t, int *u2, int v3) { return syscall(SYS_futex, u, op, v, t, u2, v3); }
static void *pil(void *a) { T(fx(f + 3, FUTEX_TRYLOCK_PI, 0, 0, 0, 0)); struct timespec ts; clock_gettime(CLOCK_REALTIME, &ts); ts.tv_nsec += 50000000; if (ts.tv_nsec >= 1000000000) ts.tv_sec++, ts.tv_nsec -= 1000000000; T(fx(f + 3, FUTEX_LOCK_PI, 0, &ts, 0, 0)); T(fx(f + 3, FUTEX_LOCK_PI, 0, 0, 0, 0)); P("owner %d\n", (f[3] & FUTEX_TID_MASK) == gettid()); T(fx(f + 3, FUTEX_UNLOCK_PI, 0, 0, 0, 0)); return 0; }
int main(void) {
	pthread_t t[1]; f = mmap(0, 4096, 3, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	f[3] = 0; T(fx(f + 3, FUTEX_LOCK_PI, 0, 0, 0, 0)); P("%d\n", f[3] == gettid()); T(fx(f + 3, FUTEX_LOCK_PI, 0, 0, 0, 0)); T(fx(f + 3, FUTEX_TRYLOCK_PI, 0, 0, 0, 0)); pthread_create(t, 0, pil, 0); msleep(150); T(fx(f + 3, FUTEX_UNLOCK_PI, 0, 0, 0, 0)); pthread_join(*t, 0); T(fx(f + 3, FUTEX_UNLOCK_PI, 0, 0, 0, 0)); f[3] = 999999; T(fx(f + 3, FUTEX_LOCK_PI, 0, 0, 0, 0)); f[3] = 1; T(fx(f + 3, FUTEX_UNLOCK_PI, 0, 0, 0, 0));
}
