// glibc's mutexes with priority inheritance: robust, recursive, timed, shared between processes; deadlock and requeueing.
#include "t.h"
#include <linux/futex.h>

static long fx(int *u, int op, long v, void *t, int *u2, int v3) { return syscall(SYS_futex, u, op, v, t, u2, v3); }

static pthread_mutex_t *mk(pthread_mutex_t *m, int robust, int shared, int type) {
	pthread_mutexattr_t a;
	pthread_mutexattr_init(&a);
	P("protocol %d\n", pthread_mutexattr_setprotocol(&a, PTHREAD_PRIO_INHERIT));
	if (robust)
		pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
	if (shared)
		pthread_mutexattr_setpshared(&a, PTHREAD_PROCESS_SHARED);
	pthread_mutexattr_settype(&a, type);
	P("init %d\n", pthread_mutex_init(m, &a));
	return m;
}

static pthread_mutex_t m1, m2;
static long counter;
static void *add(void *arg) {
	for (int i = 0; i < 400; i++) {
		pthread_mutex_lock(&m1);
		long c = counter;
		if (i % 16 == 0)
			sched_yield();
		counter = c + 1;
		pthread_mutex_unlock(&m1);
	}
	return NULL;
}
static void *die(void *arg) {
	pthread_mutex_lock(arg);
	msleep(40);
	return NULL;
}

// Two raw locks taken in opposite order.
static int a, b, tids[2];
static void *cross(void *arg) {
	tids[0] = gettid();
	fx(&b, FUTEX_LOCK_PI_PRIVATE, 0, 0, 0, 0);
	fx(&a, FUTEX_LOCK_PI_PRIVATE, 0, 0, 0, 0);
	fx(&a, FUTEX_UNLOCK_PI_PRIVATE, 0, 0, 0, 0);
	fx(&b, FUTEX_UNLOCK_PI_PRIVATE, 0, 0, 0, 0);
	return NULL;
}

static int cond, lock, woken;
static void *waiter(void *arg) {
	tids[(long)arg] = gettid();
	long r = fx(&cond, FUTEX_WAIT_REQUEUE_PI_PRIVATE, 0, 0, &lock, 0);
	__atomic_add_fetch(&woken, 1, __ATOMIC_SEQ_CST);
	if (r || (lock & FUTEX_TID_MASK) != gettid())
		P("waiter: %ld, lock %d\n", r, (lock & FUTEX_TID_MASK) == gettid());
	if (fx(&lock, FUTEX_UNLOCK_PI_PRIVATE, 0, 0, 0, 0))
		P("waiter: unlock\n");
	return NULL;
}

static void *unowned(void *arg) {
	fx(&a, FUTEX_LOCK_PI_PRIVATE, 0, 0, 0, 0);
	msleep(60);
	return NULL; // without unlocking, and not robust
}
static void handler(int sig) {}

int main(void) {
	pthread_t t[4];
	struct timespec ts;
	mk(&m1, 0, 0, PTHREAD_MUTEX_NORMAL);
	for (int i = 0; i < 4; i++)
		pthread_create(t + i, NULL, add, NULL);
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	P("counter %ld\n", counter);

	mk(&m2, 1, 0, PTHREAD_MUTEX_RECURSIVE);
	pthread_create(t, NULL, die, &m2);
	msleep(15);
	P("owner died while waiting: %s\n", ename(pthread_mutex_lock(&m2)));
	P("consistent %d\n", pthread_mutex_consistent(&m2));
	P("again %d\n", pthread_mutex_lock(&m2));
	P("unlock %d %d\n", pthread_mutex_unlock(&m2), pthread_mutex_unlock(&m2));
	pthread_join(t[0], NULL);
	pthread_create(t, NULL, die, &m2);
	pthread_join(t[0], NULL);
	P("owner died before: %s\n", ename(pthread_mutex_trylock(&m2)));
	P("unlock %d\n", pthread_mutex_unlock(&m2));
	P("not recoverable: %s\n", ename(pthread_mutex_lock(&m2)));

	pthread_mutex_t m3;
	mk(&m3, 0, 0, PTHREAD_MUTEX_ERRORCHECK);
	P("lock %d, %s\n", pthread_mutex_lock(&m3), ename(pthread_mutex_lock(&m3)));
	P("trylock %s\n", ename(pthread_mutex_trylock(&m3)));
	pthread_mutex_unlock(&m3);
	P("not owner %s\n", ename(pthread_mutex_unlock(&m3)));

	pthread_mutex_t *sh = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	mk(sh, 1, 1, PTHREAD_MUTEX_NORMAL);
	pid_t c = fork();
	if (c == 0) {
		pthread_mutex_lock(sh);
		msleep(50);
		_exit(0);
	}
	msleep(20);
	P("shared: %s\n", ename(pthread_mutex_lock(sh)));
	pthread_mutex_consistent(sh);
	pthread_mutex_unlock(sh);
	waitpid(c, NULL, 0);
	c = fork();
	if (c == 0) {
		pthread_mutex_lock(sh);
		for (;;)
			pause();
	}
	msleep(30);
	clock_gettime(CLOCK_REALTIME, &ts);
	ts.tv_nsec += 20000000;
	if (ts.tv_nsec >= 1000000000)
		ts.tv_sec++, ts.tv_nsec -= 1000000000;
	P("timed: %s\n", ename(pthread_mutex_timedlock(sh, &ts)));
	kill(c, SIGKILL);
	P("killed owner: %s\n", ename(pthread_mutex_lock(sh)));
	waitpid(c, NULL, 0);

	T(fx(&a, FUTEX_LOCK_PI_PRIVATE, 0, 0, 0, 0));
	pthread_create(t, NULL, cross, NULL);
	while (!tids[0])
		msleep(1);
	insleep(tids[0]);
	T(fx(&b, FUTEX_LOCK_PI_PRIVATE, 0, 0, 0, 0));
	T(fx(&a, FUTEX_UNLOCK_PI_PRIVATE, 0, 0, 0, 0));
	pthread_join(t[0], NULL);

	// A lock without an entry in the robust list, whose owner ends.
	a = 0;
	pthread_create(t, NULL, unowned, NULL);
	msleep(20);
	T(fx(&a, FUTEX_LOCK_PI_PRIVATE, 0, 0, 0, 0));
	P("died %d, owner %d\n", !!(a & FUTEX_OWNER_DIED), (a & FUTEX_TID_MASK) == gettid());
	T(fx(&a, FUTEX_UNLOCK_PI_PRIVATE, 0, 0, 0, 0));
	P("word %d\n", a);
	pthread_join(t[0], NULL);

	// Timeouts and signals.
	c = fork();
	if (c == 0) {
		*(int *)(sh + 1) = 0;
		fx((int *)(sh + 1), FUTEX_LOCK_PI, 0, 0, 0, 0);
		for (;;)
			pause();
	}
	msleep(30);
	int *w = (int *)(sh + 1);
	clock_gettime(CLOCK_MONOTONIC, &ts);
	T(fx(w, FUTEX_LOCK_PI2, 0, &ts, 0, 0));
	T(fx(w, FUTEX_LOCK_PI | FUTEX_CLOCK_REALTIME, 0, &ts, 0, 0));
	clock_gettime(CLOCK_REALTIME, &ts);
	T(fx(w, FUTEX_LOCK_PI2 | FUTEX_CLOCK_REALTIME, 0, &ts, 0, 0));
	ts.tv_nsec = -1;
	T(fx(w, FUTEX_LOCK_PI, 0, &ts, 0, 0));
	T(fx(w, FUTEX_TRYLOCK_PI, 0, 0, 0, 0));
	P("waiters %d\n", *w < 0);
	on(SIGALRM, handler, 0);
	ualarm(20000, 0);
	clock_gettime(CLOCK_REALTIME, &ts);
	ts.tv_nsec += 100000000;
	if (ts.tv_nsec >= 1000000000)
		ts.tv_sec++, ts.tv_nsec -= 1000000000;
	T(fx(w, FUTEX_LOCK_PI, 0, &ts, 0, 0)); // restarted after the signal
	kill(c, SIGKILL);
	waitpid(c, NULL, 0);
	T(fx(w, FUTEX_LOCK_PI, 0, 0, 0, 0)); // whose owner is gone without a trace

	// Requeueing.
	tids[0] = tids[1] = 0;
	T(fx(&lock, FUTEX_LOCK_PI_PRIVATE, 0, 0, 0, 0));
	for (long i = 0; i < 2; i++) {
		pthread_create(t + i, NULL, waiter, (void *)i);
		while (!tids[i])
			msleep(1);
		insleep(tids[i]);
	}
	T(fx(&cond, FUTEX_CMP_REQUEUE_PI_PRIVATE, 1, (void *)1, &lock, 1));
	T(fx(&cond, FUTEX_CMP_REQUEUE_PI_PRIVATE, 2, (void *)1, &lock, 0));
	T(fx(&cond, FUTEX_CMP_REQUEUE_PI_PRIVATE, 1, (void *)1, &cond, 0));
	T(fx(&cond, FUTEX_CMP_REQUEUE_PI_PRIVATE, 1, (void *)1, &lock, 0));
	P("woken %d\n", woken);
	T(fx(&lock, FUTEX_UNLOCK_PI_PRIVATE, 0, 0, 0, 0));
	pthread_join(t[0], NULL);
	pthread_join(t[1], NULL);
	P("woken %d, lock %d\n", woken, lock);
	for (long i = 0; i < 2; i++) {
		tids[i] = 0;
		pthread_create(t + i, NULL, waiter, (void *)i);
		while (!tids[i])
			msleep(1);
		insleep(tids[i]);
	}
	T(fx(&cond, FUTEX_CMP_REQUEUE_PI_PRIVATE, 1, (void *)0, &lock, 0));
	msleep(20);
	T(fx(&cond, FUTEX_CMP_REQUEUE_PI_PRIVATE, 1, (void *)0, &lock, 0));
	T(fx(&cond, FUTEX_CMP_REQUEUE_PI_PRIVATE, 1, (void *)0, &lock, 0));
	pthread_join(t[0], NULL);
	pthread_join(t[1], NULL);
	P("woken %d, lock %d\n", woken, lock);
	clock_gettime(CLOCK_MONOTONIC, &ts);
	T(fx(&cond, FUTEX_WAIT_REQUEUE_PI_PRIVATE, 0, &ts, &lock, 0));
	T(fx(&cond, FUTEX_WAIT_REQUEUE_PI_PRIVATE, 1, &ts, &lock, 0));
	T(fx(&cond, FUTEX_WAIT_REQUEUE_PI_PRIVATE, 0, &ts, &cond, 0));

	T(fx((int *)((char *)&a + 1), FUTEX_LOCK_PI, 0, 0, 0, 0));
	T(fx(NULL, FUTEX_LOCK_PI, 0, 0, 0, 0));
	T(fx(NULL, FUTEX_UNLOCK_PI, 0, 0, 0, 0));
	int *ro = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	T(fx(ro, FUTEX_LOCK_PI, 0, 0, 0, 0));
	return 0;
}
