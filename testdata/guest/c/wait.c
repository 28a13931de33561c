// wait4, waitid: every form.
#include "t.h"
static int h_, hcode, hstatus; static pid_t hpid;
static void h(int s, siginfo_t *i, void *u) { h_++; hcode = i->si_code; hstatus = i->si_status; hpid = i->si_pid; }
static pid_t sleeper(void) { pid_t p = fork(); if (p == 0) for (;;) pause(); return p; }
static pid_t exiter(int c) { pid_t p = fork(); if (p == 0) _exit(c); return p; }
// burn uses 60 ms of the processor, however long that takes.
static void burn(void) {
	struct timespec ts;
	do
		clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	while (ts.tv_sec == 0 && ts.tv_nsec < 60000000);
}

int main(void) {
	int st; struct rusage ru; siginfo_t si;
	T(wait(NULL)); T(waitpid(-1, 0, WNOHANG)); T(waitpid(1, 0, 0)); T(waitpid(getpid(), 0, 0)); T(waitpid(-1, 0, 0x40)); T(waitid(P_ALL, 0, &si, 0)); T(waitid(P_PID, 0, &si, WEXITED)); T(waitid(9, 0, &si, WEXITED)); T(waitid(P_ALL, 0, &si, WEXITED | 0x100)); T(waitid(P_PIDFD, 99, &si, WEXITED)); T(waitid(P_PIDFD, 1, &si, WEXITED)); T(waitpid(INT_MIN, 0, 0)); T(waitid(P_PID, -1, &si, WEXITED)); T(waitid(P_PGID, -1, &si, WEXITED));
	pid_t c = sleeper(); T(waitpid(c, &st, WNOHANG)); memset(&si, 7, sizeof si); T(waitid(P_PID, c, &si, WEXITED | WNOHANG)); P("%d %d %d\n", si.si_signo, si.si_pid, si.si_code);
	kill(c, SIGSTOP); T(waitpid(c, &st, WUNTRACED) == c); P("%s\n", statstr(st)); T(waitpid(c, &st, WUNTRACED | WNOHANG)); kill(c, SIGCONT); T(waitpid(c, &st, WCONTINUED) == c); P("%s\n", statstr(st)); T(waitpid(c, &st, WCONTINUED | WNOHANG));
	kill(c, SIGSTOP); T(waitid(P_PID, c, &si, WSTOPPED | WNOWAIT)); P("%d code %d status %d pid %d\n", si.si_signo, si.si_code, si.si_status, si.si_pid == c); T(waitid(P_PID, c, &si, WSTOPPED)); T(waitid(P_PID, c, &si, WSTOPPED | WNOHANG)); P("%d\n", si.si_pid); kill(c, SIGCONT); T(waitid(P_PID, c, &si, WCONTINUED | WNOWAIT)); P("code %d status %d\n", si.si_code, si.si_status); T(waitid(P_ALL, 0, &si, WCONTINUED)); 
	kill(c, SIGSTOP); waitpid(c, 0, WUNTRACED); kill(c, SIGTERM); T(waitpid(c, &st, WNOHANG)); kill(c, SIGCONT); T(waitpid(c, &st, 0) == c); P("%s\n", statstr(st)); c = sleeper(); kill(c, SIGSTOP); waitpid(c, 0, WUNTRACED); kill(c, SIGKILL); T(waitpid(c, &st, 0) == c); P("%s\n", statstr(st));
	c = exiter(300); T(waitid(P_PID, c, &si, WEXITED | WNOWAIT)); P("%d %d %d\n", si.si_code, si.si_status, si.si_uid == getuid()); T(waitid(P_PID, c, NULL, WEXITED | WNOWAIT)); T(kill(c, 0)); T(waitpid(c, &st, 0) == c); P("%s\n", statstr(st)); T(kill(c, 0)); T(waitpid(c, &st, 0));
	c = fork(); if (!c) { struct rlimit r = {0, 0}; setrlimit(RLIMIT_CORE, &r); abort(); } T(waitid(P_PID, c, &si, WEXITED)); P("%d %d\n", si.si_code, si.si_status);
	c = fork(); if (!c) { burn(); _exit(0); } T(wait4(c, &st, 0, &ru) == c); P("time %d\n", ru.ru_utime.tv_sec * 1000000 + ru.ru_utime.tv_usec + ru.ru_stime.tv_usec > 20000); getrusage(RUSAGE_CHILDREN, &ru); P("children %d\n", ru.ru_utime.tv_sec * 1000000 + ru.ru_utime.tv_usec + ru.ru_stime.tv_usec > 20000);
	c = fork(); if (!c) { pid_t d = fork(); if (!d) { burn(); _exit(0); } waitpid(d, 0, 0); _exit(0); } T(wait4(c, &st, 0, &ru) == c); P("time of its child %d\n", ru.ru_utime.tv_sec * 1000000 + ru.ru_utime.tv_usec + ru.ru_stime.tv_usec > 20000);
	// Groups.
	pid_t a = fork(); if (!a) { setpgid(0, 0); for (;;) pause(); } setpgid(a, a); pid_t b = exiter(1); T(waitpid(-a, &st, WNOHANG)); T(waitpid(0, &st, 0) == b); kill(-a, SIGKILL); T(waitpid(-a, &st, 0) == a); P("%s\n", statstr(st)); T(waitpid(-a, &st, 0));
	c = exiter(5); pid_t d = sleeper(); T(waitid(P_PGID, getpgrp(), &si, WEXITED)); P("%d %d\n", si.si_pid == c, si.si_status); c = exiter(6); T(waitid(P_PGID, 0, &si, WEXITED)); P("%d\n", si.si_status); T(waitpid(-1, 0, WNOHANG)); kill(d, 9); wait(0);
	// __WCLONE, __WALL, __WNOTHREAD.
	c = exiter(1); T(waitpid(c, 0, __WCLONE)); T(waitpid(c, 0, __WALL) == c); c = syscall(SYS_clone, 0, 0, 0, 0, 0); if (!c) _exit(3); T(waitpid(c, &st, WNOHANG)); T(waitpid(c, &st, __WCLONE) == c); P("%s\n", statstr(st)); c = syscall(SYS_clone, SIGUSR2, 0, 0, 0, 0); if (!c) { _exit(3); } signal(SIGUSR2, SIG_IGN); T(waitpid(c, &st, __WALL | __WNOTHREAD) == c);
	// SIGCHLD.
	onsi(SIGCHLD, h, 0); c = exiter(4); while (!h_) msleep(1); P("%d %d %d\n", hcode, hstatus, hpid == c); T(wait(0) == c); h_ = 0; c = sleeper(); kill(c, SIGSTOP); waitpid(c, 0, WUNTRACED); while (!h_) msleep(1); P("stop %d %d\n", hcode, hstatus); h_ = 0; kill(c, SIGCONT); waitpid(c, 0, WCONTINUED); while (!h_) msleep(1); P("cont %d %d\n", hcode, hstatus); h_ = 0; kill(c, SIGKILL); waitpid(c, 0, 0); while (!h_) msleep(1); P("kill %d %d\n", hcode, hstatus);
	h_ = 0; onsi(SIGCHLD, h, SA_NOCLDSTOP | SA_RESTART); c = sleeper(); kill(c, SIGSTOP); waitpid(c, 0, WUNTRACED); msleep(20); P("nocldstop %d\n", h_); kill(c, SIGKILL); T(wait(0) == c); h_ = 0; onsi(SIGCHLD, h, SA_NOCLDWAIT); c = exiter(0); T(waitpid(c, 0, 0)); msleep(20); P("nocldwait sig %d\n", h_); signal(SIGCHLD, SIG_IGN); exiter(0); exiter(0); T(wait(0)); signal(SIGCHLD, SIG_DFL);
	c = sleeper(); onsi(SIGALRM, h, 0); struct itimerval it = {{0, 0}, {0, 30000}}; setitimer(ITIMER_REAL, &it, 0); T(waitpid(c, 0, 0)); onsi(SIGALRM, h, SA_RESTART); pid_t k = fork(); if (!k) { msleep(100); kill(c, 9); _exit(0); } setitimer(ITIMER_REAL, &it, 0); T(waitpid(c, &st, 0) == c); P("%s\n", statstr(st)); wait(0);
	T(wait4(-1, (int *)1, 0, 0)); c = exiter(9); while (kill(c, 0) == 0) { siginfo_t x; if (waitid(P_PID, c, &x, WEXITED | WNOWAIT) == 0) break; } T(wait4(c, (int *)1, 0, 0)); T(waitpid(c, &st, 0)); c = exiter(9); T(syscall(SYS_waitid, P_PID, c, 1, WEXITED, 0));
	// pidfd.
	c = sleeper(); int pf = syscall(SYS_pidfd_open, c, 0); P("pidfd %d\n", pf >= 0); T(fcntl(pf, F_GETFD)); struct pollfd p = {pf, POLLIN, 0}; T(poll(&p, 1, 0)); T(syscall(SYS_pidfd_send_signal, pf, SIGKILL, 0, 0)); T(poll(&p, 1, 5000)); P("%x\n", p.revents); T(waitid(P_PIDFD, pf, &si, WEXITED)); P("%d\n", si.si_status); T(syscall(SYS_pidfd_send_signal, pf, 0, 0, 0)); T(syscall(SYS_pidfd_open, c, 0)); T(syscall(SYS_pidfd_open, -1, 0)); T(syscall(SYS_pidfd_open, getpid(), 99)); T(syscall(SYS_pidfd_getfd, pf, 0, 0)); T(syscall(SYS_pidfd_send_signal, 1, 0, 0, 0)); T(syscall(SYS_pidfd_send_signal, open("/proc/self", O_RDONLY | O_DIRECTORY), 0, 0, 0));
	for (int i = 0; i < 200; i++) exiter(i); int n = 0, sum = 0; while (wait(&st) > 0) n++, sum += WEXITSTATUS(st); P("%d %d\n", n, sum);
}
