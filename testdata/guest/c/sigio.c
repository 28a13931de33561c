// O_ASYNC on pipes, sockets and terminals: who gets which signal.
#include "t.h"
static volatile int got; static volatile int fd_, code_, sig_; static volatile long band_;
static void h(int s, siginfo_t *i, void *u) { got++; sig_ = s; fd_ = i->si_fd; code_ = i->si_code; band_ = i->si_band; }
#define SAW(label) (P("%s: %d", label, got), got ? P(" sig %s code %d", sig_ == SIGIO ? "SIGIO" : sig_ == SIGRTMIN ? "RTMIN" : sig_ == SIGUSR1 ? "USR1" : "?", code_) : 0, got && sig_ != SIGIO ? P(" fd %d band %lx", fd_, band_) : 0, P("\n"), got = 0)
static int async(int fd, int on) { int f = fcntl(fd, F_GETFL); return fcntl(fd, F_SETFL, on ? f | O_ASYNC : f & ~O_ASYNC); }
#define HAS(fd) P("O_ASYNC %d\n", !!(fcntl(fd, F_GETFL) & O_ASYNC))
int main(void) {
	onsi(SIGIO, h, 0); onsi(SIGRTMIN, h, 0); onsi(SIGUSR1, h, 0);
	int p[2], s[2], on = 1, off = 0; char c, big[70000] = {0};
	pipe(p); P("owner %d\n", fcntl(p[0], F_GETOWN)); OK(async(p[0], 1)); HAS(p[0]); write(p[1], "x", 1); SAW("nobody");
	T(fcntl(p[0], F_SETOWN, getpid())); write(p[1], "x", 1); SAW("pipe"); write(p[1], "x", 1); SAW("again"); read(p[0], big, 9); SAW("read");
	T(fcntl(p[0], F_SETSIG, SIGRTMIN)); P("F_GETSIG %d\n", fcntl(p[0], F_GETSIG) == SIGRTMIN); write(p[1], "x", 1); SAW("F_SETSIG");
	int d = dup(p[0]); write(p[1], "x", 1); SAW("dup"); OK(async(d, 0)); HAS(p[0]); write(p[1], "x", 1); SAW("off"); OK(async(d, 1)); write(p[1], "x", 1); SAW("by the copy"); close(d);
	T(fcntl(p[0], F_SETSIG, 0)); T(fcntl(p[0], F_SETSIG, 65)); T(fcntl(p[0], F_SETSIG, -1));
	OK(async(p[1], 1)); T(fcntl(p[1], F_SETOWN, getpid())); T(fcntl(p[1], F_SETSIG, SIGUSR1)); OK(async(p[0], 0)); write(p[1], "x", 1); SAW("writer's");
	read(p[0], big, 1); SAW("not full"); fcntl(p[1], F_SETFL, fcntl(p[1], F_GETFL) | O_NONBLOCK); while (write(p[1], big, 4096) > 0); got = 0; read(p[0], big, 65536); P("room %d\n", got > 0); got = 0;
	close(p[0]); SAW("reader closes"); close(p[1]);
	pipe(p); OK(async(p[0], 1)); fcntl(p[0], F_SETOWN, getpid()); close(p[1]); SAW("writer closes"); close(p[0]);
	socketpair(AF_UNIX, SOCK_STREAM, 0, s); HAS(s[0]); T(ioctl(s[0], FIOASYNC, &on)); HAS(s[0]); fcntl(s[0], F_SETOWN, getpid()); fcntl(s[0], F_SETSIG, SIGRTMIN);
	write(s[1], "x", 1); SAW("socket"); read(s[0], &c, 1); SAW("read"); write(s[0], "x", 1); SAW("write"); read(s[1], &c, 1); SAW("room"); T(ioctl(s[0], FIOASYNC, &off)); HAS(s[0]); write(s[1], "x", 1); SAW("off"); close(s[1]);
	int m = posix_openpt(O_RDWR | O_NOCTTY); grantpt(m); unlockpt(m); int t = open(ptsname(m), O_RDWR | O_NOCTTY);
	OK(async(t, 1)); HAS(t); fcntl(t, F_SETOWN, getpid()); write(m, "a", 1); msleep(20); SAW("half a line"); write(m, "\n", 1); for (int i = 0; i < 2000 && !got; i++) msleep(1); P("tty %d\n", got > 0); got = 0; async(t, 0);
	OK(async(m, 1)); HAS(m); fcntl(m, F_SETOWN, getpid()); write(t, "out", 3); for (int i = 0; i < 2000 && !got; i++) msleep(1); P("pty master %d\n", got > 0); got = 0; async(m, 0);
	int f = open("f", O_CREAT | O_RDWR, 0600); OK(async(f, 1)); HAS(f); T(ioctl(f, FIOASYNC, &on)); T(ioctl(f, FIOASYNC, (void *)8)); T(ioctl(f, FIONBIO, &on));
	f = open("/dev/null", O_RDWR); OK(async(f, 1)); HAS(f);
	pipe(p); T(fcntl(p[0], F_SETOWN, 99999999)); T(fcntl(p[0], F_SETOWN, -99999999)); T(fcntl(p[0], F_SETOWN, 0x80000000)); struct f_owner_ex o = {7, 1}; T(fcntl(p[0], F_SETOWN_EX, &o));
	o.type = F_OWNER_TID; o.pid = getpid(); T(fcntl(p[0], F_SETOWN_EX, &o)); OK(async(p[0], 1)); write(p[1], "x", 1); SAW("thread"); memset(&o, 0, sizeof o); T(fcntl(p[0], F_GETOWN_EX, &o)); P("%d %d\n", o.type, o.pid == getpid());
	pid_t c1 = fork(); if (!c1) { setpgid(0, 0); pause(); _exit(got); } while (getpgid(c1) != c1) msleep(1); insleep(c1); T(fcntl(p[0], F_SETOWN, -c1)); P("%d\n", fcntl(p[0], F_GETOWN) == -c1); write(p[1], "x", 1); int st; waitpid(c1, &st, 0); P("group: %s\n", statstr(st)); SAW("not us"); T(fcntl(p[0], F_GETOWN));
	T(fcntl(p[0], F_SETOWN, 0)); write(p[1], "x", 1); SAW("nobody");
	fcntl(p[0], F_SETOWN, getpid()); fcntl(p[0], F_SETSIG, SIGRTMIN); sigset_t b, w; sigemptyset(&b); sigaddset(&b, SIGRTMIN); sigprocmask(SIG_BLOCK, &b, 0); write(p[1], "x", 1); write(p[1], "y", 1); sigpending(&w); P("pending %d\n", sigismember(&w, SIGRTMIN)); siginfo_t si; int n = 0; struct timespec z = {0, 0}; while (sigtimedwait(&b, &si, &z) == SIGRTMIN) n++; P("queued %d\n", n);
}
