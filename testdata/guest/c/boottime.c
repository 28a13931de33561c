// CLOCK_BOOTTIME: what reads it and what waits for it agree. Huge intervals do not overflow.
#include "t.h"
#include <sys/timerfd.h>

static struct timespec in(clockid_t c, int ms) {
	struct timespec t;
	clock_gettime(c, &t);
	t.tv_nsec += ms * 1000000L;
	t.tv_sec += t.tv_nsec / 1000000000;
	t.tv_nsec %= 1000000000;
	return t;
}

int main(void) {
	struct timespec a, b;
	clock_gettime(CLOCK_BOOTTIME, &a);
	syscall(SYS_clock_gettime, CLOCK_BOOTTIME, &b);
	P("both ways %d\n", b.tv_sec - a.tv_sec <= 1);
	int fd = MUST(timerfd_create(CLOCK_BOOTTIME, 0));
	struct itimerspec s = {.it_value = in(CLOCK_BOOTTIME, 30)}, g;
	T(timerfd_settime(fd, TFD_TIMER_ABSTIME, &s, 0));
	struct pollfd p = {fd, POLLIN};
	T(poll(&p, 1, 5000));
	s.it_value = in(CLOCK_BOOTTIME, 100000);
	T(timerfd_settime(fd, TFD_TIMER_ABSTIME, &s, 0));
	timerfd_gettime(fd, &g);
	P("left %d\n", g.it_value.tv_sec >= 95 && g.it_value.tv_sec <= 100);
	a = in(CLOCK_BOOTTIME, 20);
	T(clock_nanosleep(CLOCK_BOOTTIME, TIMER_ABSTIME, &a, 0));
	timer_t t;
	struct sigevent ev = {.sigev_notify = SIGEV_NONE};
	T(timer_create(CLOCK_BOOTTIME, &ev, &t));
	s.it_value = in(CLOCK_BOOTTIME, 100000);
	T(timer_settime(t, TIMER_ABSTIME, &s, 0));
	timer_gettime(t, &g);
	P("left %d\n", g.it_value.tv_sec >= 95 && g.it_value.tv_sec <= 100);
	// Far away.
	struct itimerval huge = {{LONG_MAX, 0}, {LONG_MAX, 0}}, zero = {0};
	on(SIGALRM, SIG_DFL, 0);
	on(SIGPROF, SIG_DFL, 0);
	T(setitimer(ITIMER_PROF, &huge, 0));
	T(setitimer(ITIMER_REAL, &huge, 0));
	struct itimerval tiny = {{LONG_MAX, 0}, {0, 1}};
	on(SIGVTALRM, SIG_IGN, 0);
	T(setitimer(ITIMER_VIRTUAL, &tiny, 0));
	for (long long end = now_ms() + 60; now_ms() < end;)
		;
	T(setitimer(ITIMER_REAL, &zero, 0));
}
