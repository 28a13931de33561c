// signalfd.
#include "t.h"
#include <sys/signalfd.h>
int main(void) {
	struct signalfd_siginfo i[3]; sigset_t m; sigemptyset(&m); sigaddset(&m, SIGUSR1); sigaddset(&m, SIGRTMIN); sigaddset(&m, SIGCHLD); sigaddset(&m, SIGKILL); sigprocmask(SIG_BLOCK, &m, 0);
	T(signalfd(-1, &m, 99)); T(signalfd(99, &m, 0)); T(signalfd(1, &m, 0)); T(syscall(SYS_signalfd4, -1, &m, 4, 0)); T(syscall(SYS_signalfd4, -1, 1, 8, 0)); int f = T(signalfd(-1, &m, SFD_NONBLOCK | SFD_CLOEXEC)); T(read(f, i, sizeof i)); struct pollfd p = {f, POLLIN | POLLOUT, 0}; T(poll(&p, 1, 0));
	raise(SIGUSR1); raise(SIGUSR1); T(poll(&p, 1, 0)); P("%x\n", p.revents); T(read(f, i, 100)); T(read(f, i, sizeof *i)); P("%d %d %d %d\n", i->ssi_signo, i->ssi_code, i->ssi_pid == getpid(), i->ssi_uid == getuid()); T(read(f, i, sizeof *i));
	union sigval v = {.sival_int = 42}; sigqueue(getpid(), SIGRTMIN, v); v.sival_int = 43; sigqueue(getpid(), SIGRTMIN, v); kill(getpid(), SIGUSR1); T(read(f, i, sizeof i) / (long)sizeof *i); for (int k = 0; k < 3; k++) P("%d code %d int %d\n", i[k].ssi_signo, i[k].ssi_code, i[k].ssi_int);
	pid_t c = fork(); if (c == 0) { T(read(f, i, sizeof i)); raise(SIGUSR1); T(read(f, i, sizeof *i)); _exit(7); } poll(&p, 1, 5000); T(read(f, i, sizeof *i)); P("%d %d pid %d st %d\n", i->ssi_signo, i->ssi_code, i->ssi_pid == c, i->ssi_status); wait(0);
	sigset_t n; sigemptyset(&n); sigaddset(&n, SIGUSR2); T(signalfd(f, &n, 0) == f); raise(SIGUSR1); T(read(f, i, sizeof *i)); sigpending(&m); P("%d\n", sigismember(&m, SIGUSR1)); T(read(f, (void *)1, 200)); T(write(f, i, 128)); T(lseek(f, 0, 0));
	// A sleeping reader.
	sigaddset(&n, SIGUSR1); int g = signalfd(-1, &n, 0); read(g, i, 128); c = fork(); if (c == 0) { pid_t pp = getppid(); insleep(pp); kill(pp, SIGUSR1); _exit(0); } T(read(g, i, 128)); P("%d %d\n", i->ssi_signo, i->ssi_pid == c);
}
