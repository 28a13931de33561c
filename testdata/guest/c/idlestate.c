// Threads that wait for a mutex or a condition, or run, as /proc shows them.
#include "t.h"
#include <pthread.h>
static pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER; static pthread_cond_t c = PTHREAD_COND_INITIALIZER; static volatile int tid[3], end;
static char state(int t) { char p[64], b[256]; sprintf(p, "/proc/self/task/%d/stat", t); int f = open(p, O_RDONLY), n = read(f, b, 255); close(f); b[n > 0 ? n : 0] = 0; char *e = strrchr(b, ')'); return e ? e[2] : '?'; }
static char becomes(int i, char want) { for (int n = 0; n < 3000; n++) { if (tid[i] && state(tid[i]) == want) return want; msleep(2); } return state(tid[i]); }
static void *lock(void *x) { tid[0] = gettid(); pthread_mutex_lock(&m); pthread_mutex_unlock(&m); return 0; }
static void *cond(void *x) { static pthread_mutex_t l = PTHREAD_MUTEX_INITIALIZER; tid[1] = gettid(); pthread_mutex_lock(&l); while (!end) pthread_cond_wait(&c, &l); pthread_mutex_unlock(&l); return 0; }
static void *spin(void *x) { tid[2] = gettid(); while (!end); return 0; }
int main(void) {
	pthread_t t[3]; pthread_mutex_lock(&m); pthread_create(&t[0], 0, lock, 0); pthread_create(&t[1], 0, cond, 0); pthread_create(&t[2], 0, spin, 0);
	P("mutex %c\n", becomes(0, 'S')); P("condition %c\n", becomes(1, 'S')); P("spins %c\n", becomes(2, 'R')); P("self %c\n", state(getpid()));
	end = 1; pthread_mutex_unlock(&m); pthread_cond_broadcast(&c);
	for (int i = 0; i < 3; i++) { while (pthread_tryjoin_np(t[i], 0)) { pthread_cond_broadcast(&c); msleep(1); } }
	return 0;
}
