// Leases: who may have one, and how they are broken.
// user: root
#include "t.h"
static volatile int got; static volatile int fd_, code_; static int held, downgrade;
static void h(int s, siginfo_t *i, void *u) { got++; fd_ = i->si_fd; code_ = i->si_code; }
static int breaker(const char *path, int flags) { pid_t c = fork(); if (!c) { close(held); signal(SIGRTMIN, SIG_IGN); int r = open(path, flags); _exit(r < 0 ? errno : 0); } return c; }
static void finish(const char *what, pid_t c) { int st; waitpid(c, &st, 0); P("%s: %s\n", what, statstr(st)); }
#define LEASE(fd) P("lease %d\n", fcntl(fd, F_GETLEASE))
static void sig(void) { for (int i = 0; i < 2000 && !got; i++) msleep(1); P("signal %d fd %d code %d\n", got, fd_ == held, code_); got = 0; }
#define SET(fd, t) (T(fcntl(fd, F_SETLEASE, t)), fcntl(fd, F_SETSIG, SIGRTMIN))
int main(void) {
	onsi(SIGRTMIN, h, SA_RESTART); put("f", "data");
	int r = open("f", O_RDONLY), w = open("f", O_RDWR), d = open(".", O_RDONLY), p[2]; pipe(p);
	LEASE(r); T(fcntl(r, F_SETLEASE, F_UNLCK)); T(fcntl(r, F_SETLEASE, 77)); SET(r, F_RDLCK); T(fcntl(w, F_SETLEASE, F_RDLCK)); T(fcntl(w, F_SETLEASE, F_WRLCK)); T(fcntl(d, F_SETLEASE, F_RDLCK)); T(fcntl(p[0], F_SETLEASE, F_RDLCK));
	close(w); P("owner %d\n", fcntl(r, F_GETOWN)); T(fcntl(r, F_SETLEASE, F_RDLCK)); P("owner %d\n", fcntl(r, F_GETOWN) == getpid()); LEASE(r); SET(r, F_WRLCK); LEASE(r); SET(r, F_RDLCK); LEASE(r);
	held = r; T(fcntl(r, F_SETSIG, SIGRTMIN)); int r2 = open("f", O_RDONLY); P("reader %d\n", r2 >= 0); SET(r, F_WRLCK); T(fcntl(r2, F_SETLEASE, F_RDLCK)); T(fcntl(r2, F_SETLEASE, F_UNLCK)); close(r2);
	finish("nonblock", breaker("f", O_WRONLY | O_NONBLOCK)); sig(); LEASE(r); finish("nonblock read", breaker("f", O_RDONLY | O_NONBLOCK)); T(fcntl(r, F_SETLEASE, F_UNLCK)); LEASE(r);
	SET(r, F_RDLCK); pid_t c = breaker("f", O_WRONLY); sig(); insleep(c); LEASE(r); T(fcntl(r, F_SETLEASE, F_UNLCK)); finish("write open", c);
	SET(r, F_WRLCK); c = breaker("f", O_RDONLY); sig(); insleep(c); LEASE(r); SET(r, F_RDLCK); finish("read open", c); LEASE(r);
	SET(r, F_WRLCK); c = breaker("f", O_RDONLY); sig(); insleep(c); close(r); finish("closed", c);
	held = r = open("f", O_RDONLY); fcntl(r, F_SETSIG, SIGRTMIN); SET(r, F_RDLCK); c = fork(); if (!c) { close(r); signal(SIGRTMIN, SIG_IGN); _exit(truncate("f", 0) ? errno : 0); } sig(); T(fcntl(r, F_SETLEASE, F_UNLCK)); finish("truncate", c);
	SET(r, F_RDLCK); unlink("f"); P("unlink %d\n", got); int d2 = dup(r); close(r); LEASE(d2); T(fcntl(d2, F_SETLEASE, F_UNLCK));
	put("g", "x"); if (getuid() == 0) CHILD("other", setuid(65534); int f = open("g", O_RDONLY); T(fcntl(f, F_SETLEASE, F_RDLCK)));
}
