// Helpers of the test programs. All output is by single writes to descriptor 1, so that processes may print in turn.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define P(...) dprintf(1, __VA_ARGS__)

static inline const char *ename(int e) {
	const char *s = strerrorname_np(e);
	return s ? s : "E?";
}

static inline long show_(const char *what, long r, int e) {
	if (r == -1)
		P("%s: %s\n", what, ename(e));
	else
		P("%s: %ld\n", what, r);
	return r;
}
static inline long ok_(const char *what, long r, int e) {
	if (r == -1)
		P("%s: %s\n", what, ename(e));
	else
		P("%s: ok\n", what);
	return r;
}

// T prints an expression and its value, or the errno if it is -1. OK does not print the value. L has a label of its own.
#define T(e) ({ errno = 0; long r_ = (long)(e); show_(#e, r_, errno); })
#define OK(e) ({ errno = 0; long r_ = (long)(e); ok_(#e, r_, errno); })
#define L(label, e) ({ errno = 0; long r_ = (long)(e); show_(label, r_, errno); })
#define LOK(label, e) ({ errno = 0; long r_ = (long)(e); ok_(label, r_, errno); })
// MUST ends the program if the expression is -1.
#define MUST(e) ({ errno = 0; long r_ = (long)(e); if (r_ == -1) { P("line %d: %s: %s\n", __LINE__, #e, ename(errno)); exit(99); } r_; })

static inline void msleep(int ms) {
	struct timespec ts = {ms / 1000, ms % 1000 * 1000000L};
	while (nanosleep(&ts, &ts) == -1 && errno == EINTR)
		;
}

static inline long long now_ms(void) {
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000LL + ts.tv_nsec / 1000000;
}

// statstr describes a wait status.
static inline const char *statstr(int st) {
	static __thread char b[64];
	if (WIFEXITED(st))
		snprintf(b, sizeof b, "exit %d", WEXITSTATUS(st));
	else if (WIFSIGNALED(st))
		snprintf(b, sizeof b, "signal %d%s", WTERMSIG(st), WCOREDUMP(st) ? " core" : "");
	else if (WIFSTOPPED(st))
		snprintf(b, sizeof b, "stopped %d", WSTOPSIG(st));
	else if (WIFCONTINUED(st))
		snprintf(b, sizeof b, "continued");
	else
		snprintf(b, sizeof b, "status %x", st);
	return b;
}

// CHILD runs a block in a child, waits for it and prints how it ended.
#define CHILD(label, ...) do { \
	pid_t p_ = MUST(fork()); \
	if (p_ == 0) { __VA_ARGS__; _exit(0); } \
	int st_; MUST(waitpid(p_, &st_, 0)); \
	P("%s: %s\n", label, statstr(st_ & ~0x80)); } while (0)

static inline void on(int sig, void (*h)(int), int flags) {
	struct sigaction sa = {.sa_handler = h, .sa_flags = flags};
	MUST(sigaction(sig, &sa, NULL));
}
static inline void onsi(int sig, void (*h)(int, siginfo_t *, void *), int flags) {
	struct sigaction sa = {.sa_sigaction = h, .sa_flags = flags | SA_SIGINFO};
	MUST(sigaction(sig, &sa, NULL));
}
static inline void put(const char *path, const char *text) {
	int fd = MUST(open(path, O_CREAT | O_TRUNC | O_WRONLY, 0644));
	MUST(write(fd, text, strlen(text)));
	close(fd);
}
// insleep waits until a thread or process is in an interruptible sleep (or gives up after some seconds).
static inline void insleep(pid_t tid) {
	char path[64], b[512];
	snprintf(path, sizeof path, "/proc/%d/stat", tid);
	for (int i = 0; i < 3000; i++) {
		int fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			return;
		ssize_t n = read(fd, b, sizeof b - 1);
		close(fd);
		if (n > 0) {
			b[n] = 0;
			char *p = strrchr(b, ')');
			if (p && p[2] == 'S')
				break;
		}
		msleep(1);
	}
	msleep(3);
}
