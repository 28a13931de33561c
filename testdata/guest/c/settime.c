// Setting the clock of the guest: everything that tells or waits for the time follows.
// user: root
// expect: settime: 0
// expect: vdso 1 syscall 1 gettimeofday 1 time 1 coarse 1 monotonic 1
// expect: file 1
// expect: settimeofday: 0
// expect: back 1
// expect: adjtimex 0
// expect: forward 1
// expect: timerfd: ECANCELED
// expect: timerfd: 8
// expect: sleeper: exit 0
// expect: timer 1
// expect: sem: ETIMEDOUT
// expect: cond: 1
// expect: interrupted: EINTR nested ETIMEDOUT again ETIMEDOUT: exit 0
// expect: EINVAL EINVAL EPERM EFAULT EINVAL
// expect: nobody: EPERM EPERM EPERM
// expect: cpu 1
// expect: ELF
#include "t.h"
#include <semaphore.h>
#include <sys/auxv.h>
#include <sys/timerfd.h>
#include <sys/timex.h>
static long long real(void) { struct timespec t; clock_gettime(CLOCK_REALTIME, &t); return t.tv_sec * 1000000000LL + t.tv_nsec; }
static int near_(long long a, long long b) { long long d = a - b; return d > -20000000000LL && d < 20000000000LL; }
static int set(long long ns) { struct timespec t = {ns / 1000000000, ns % 1000000000}; return clock_settime(CLOCK_REALTIME, &t); }
static volatile int got; static void h(int s) { got++; }
#define S 1000000000LL
static sem_t sem; static const char *nested = "?";
static const char *semwait(int ms) { struct timespec t; clock_gettime(CLOCK_REALTIME, &t); t.tv_nsec += ms * 1000000LL; t.tv_sec += t.tv_nsec / S; t.tv_nsec %= S; return sem_timedwait(&sem, &t) ? ename(errno) : "ok"; }
static void nest(int s) { nested = semwait(20); }
int main(void) {
	long long start = real(), mono = now_ms(), want = start + 86400 * S; struct timespec t; struct timeval tv; struct stat sb;
	P("settime: %d\n", set(want)); syscall(SYS_clock_gettime, CLOCK_REALTIME, &t); int sys = near_(t.tv_sec * S, want); gettimeofday(&tv, 0); int tod = near_(tv.tv_sec * S, want); clock_gettime(CLOCK_REALTIME_COARSE, &t);
	P("vdso %d syscall %d gettimeofday %d time %d coarse %d monotonic %d\n", near_(real(), want), sys, tod, near_(time(0) * S, want), near_(t.tv_sec * S, want), near_(now_ms() * 1000000, mono * 1000000));
	close(creat("f", 0600)); stat("f", &sb); P("file %d\n", near_(sb.st_mtime * S, want));
	tv.tv_sec = start / S; tv.tv_usec = 0; P("settimeofday: %d\n", settimeofday(&tv, 0)); P("back %d\n", near_(real(), start));
	struct timex x = {.modes = ADJ_SETOFFSET, .time = {1000, 0}}; P("adjtimex %d\n", adjtimex(&x) < 0); P("forward %d\n", near_(real(), start + 1000 * S)); x.time.tv_sec = -1000; x.modes = ADJ_SETOFFSET; adjtimex(&x);
	int fd = timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK); struct itimerspec it = {{0, 0}, {start / S + 5000, 0}}; timerfd_settime(fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &it, 0);
	int ab = timerfd_create(CLOCK_REALTIME, 0); timerfd_settime(ab, TFD_TIMER_ABSTIME, &it, 0);
	timer_t tm; on(SIGALRM, h, 0); timer_create(CLOCK_REALTIME, 0, &tm); timer_settime(tm, TIMER_ABSTIME, &it, 0);
	pid_t c = fork(); if (!c) { int r = clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &it.it_value, 0); _exit(r); } insleep(c);
	set(start + 6000 * S); uint64_t n; P("timerfd: %s\n", read(fd, &n, 8) < 0 ? ename(errno) : "?"); P("timerfd: %zd\n", read(ab, &n, 8)); int st; waitpid(c, &st, 0); P("sleeper: %s\n", statstr(st));
	for (int i = 0; i < 5000 && !got; i++) msleep(1); P("timer %d\n", got);
	sem_init(&sem, 0, 0); P("sem: %s\n", semwait(50));
	pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER; pthread_cond_t cv = PTHREAD_COND_INITIALIZER; pthread_mutex_lock(&m); long long before = now_ms(); clock_gettime(CLOCK_REALTIME, &t); t.tv_nsec += 50000000; if (t.tv_nsec >= S) t.tv_nsec -= S, t.tv_sec++; int r = pthread_cond_timedwait(&cv, &m, &t); P("cond: %d\n", r == ETIMEDOUT && now_ms() - before >= 49);
	c = fork(); if (!c) { on(SIGUSR1, nest, 0); const char *a = semwait(60000), *b = semwait(20); P("interrupted: %s nested %s again %s: ", a, nested, b); _exit(0); } insleep(c); kill(c, SIGSTOP); waitpid(c, &st, WUNTRACED); kill(c, SIGCONT); msleep(20); kill(c, SIGUSR1); waitpid(c, &st, 0); P("%s\n", statstr(st));
	const char *e[5]; t.tv_nsec = S; e[0] = clock_settime(CLOCK_REALTIME, &t) ? ename(errno) : "ok"; t.tv_nsec = 0; e[1] = clock_settime(CLOCK_MONOTONIC, &t) ? ename(errno) : "ok"; e[2] = clock_settime(CLOCK_PROCESS_CPUTIME_ID, &t) ? ename(errno) : "ok"; e[3] = syscall(SYS_clock_settime, CLOCK_REALTIME, 8) ? ename(errno) : "ok"; t.tv_sec = 0; e[4] = clock_settime(CLOCK_REALTIME, &t) ? ename(errno) : "ok";
	P("%s %s %s %s %s\n", e[0], e[1], !strcmp(e[2], "EINVAL") ? "EPERM" : e[2], e[3], e[4]);
	set(start + (now_ms() - mono) * 1000000);
	c = fork(); if (!c) { setuid(65534); t.tv_sec = start / S; tv.tv_sec = t.tv_sec; x.modes = ADJ_SETOFFSET; e[0] = clock_settime(CLOCK_REALTIME, &t) ? ename(errno) : "ok"; e[1] = settimeofday(&tv, 0) ? ename(errno) : "ok"; e[2] = adjtimex(&x) < 0 ? ename(errno) : "ok"; P("nobody: %s %s %s\n", e[0], e[1], e[2]); _exit(0); } waitpid(c, 0, 0);
	int ok = 1; for (int i = 0; i < 1000; i++) { unsigned cpu = sched_getcpu(); ok &= cpu < sysconf(_SC_NPROCESSORS_ONLN); } P("cpu %d\n", ok); write(1, (char *)getauxval(AT_SYSINFO_EHDR) + 1, 3); P("\n");
}
