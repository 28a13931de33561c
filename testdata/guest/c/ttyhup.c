// Terminals and sessions: who gets a controlling terminal, loses it, and is told.
// user: root
#include "t.h"
#include <pty.h>
#include <termios.h>
#include <grp.h>
#include <linux/kd.h>

static int m;
static char name[64];
static volatile sig_atomic_t got[65];
static void note(int sig) { got[sig]++; }
static void signals(const char *what) {
	P("%s:", what);
	for (int i = 1; i < 65; i++)
		if (got[i])
			P(" %d", i), got[i] = 0;
	P("\n");
}
// arrive waits for a signal.
static void arrive(const char *what) {
	for (int n = 0, i; n < 3000; n++) {
		for (i = 1; i < 65 && !got[i]; i++)
			;
		if (i < 65)
			break;
		msleep(1);
	}
	signals(what);
}
static void newpty(void) {
	m = MUST(posix_openpt(O_RDWR | O_NOCTTY));
	grantpt(m), unlockpt(m);
	strcpy(name, ptsname(m));
}
static int slave(int flags) { return open(name, O_RDWR | flags); }
static int haveTTY(void) {
	int fd = open("/dev/tty", O_RDWR | O_NOCTTY);
	if (fd >= 0)
		close(fd);
	return fd >= 0 ? 1 : -1;
}
static void watch(void) {
	for (int i = 1; i < 32; i++)
		if (i != SIGKILL && i != SIGSTOP && i != SIGCHLD && i != SIGSEGV)
			on(i, note, 0);
}
// in a session of its own
#define SESSION(label, ...) CHILD(label, setsid(); watch(); __VA_ARGS__)

int main(void) {
	int v;
	newpty();
	SESSION("open takes it",
		T(haveTTY()); int a = T(slave(O_NOCTTY) >= 0); T(haveTTY()); int s = slave(0); T(haveTTY());
		T(tcgetsid(s) == getpid()); T(tcgetpgrp(s) == getpid()); T(tcgetsid(m) == getpid()); T(tcgetpgrp(m) == getpid());
		LOK("again", ioctl(s, TIOCSCTTY, 0));
		CHILD("no leader", T(ioctl(s, TIOCSCTTY, 0)); T(ioctl(s, TIOCNOTTY)); T(haveTTY()); T(tcgetsid(s)); T(tcgetpgrp(s)));
		T(haveTTY()); T(ioctl(m, TIOCNOTTY)); T(ioctl(s, TIOCNOTTY)); signals("notty"); T(haveTTY()); T(ioctl(s, TIOCNOTTY));
		T(tcgetsid(s)); T(tcgetpgrp(m)); T(ioctl(m, TIOCSCTTY, 0)); T(haveTTY()));
	close(m), newpty();
	SESSION("write-only does not", int s = open(name, O_WRONLY); T(s >= 0); T(haveTTY()); T(ioctl(s, TIOCSCTTY, 0)); T(haveTTY()));
	close(m), newpty();
	SESSION("stolen",
		int s = slave(0); int p[2]; pipe(p);
		CHILD("thief", setsid(); T(haveTTY()); T(ioctl(s, TIOCSCTTY, 0)); T(ioctl(s, TIOCSCTTY, 1)); T(haveTTY()); T(tcgetsid(s) == getpid()));
		T(haveTTY()); T(tcgetsid(s)); signals("after"));
	close(m), newpty();
	SESSION("foreground",
		int s = slave(0); T(tcsetpgrp(s, 99999)); T(tcsetpgrp(s, -1)); T(tcsetpgrp(s, getpgid(getppid()))); int q = fork(); if (!q) { setpgid(0, 0); pause(); _exit(0); }
		setpgid(q, q); T(tcsetpgrp(s, q)); T(tcgetpgrp(s) == q); v = SIGWINCH; T(ioctl(m, TIOCSIG, 0)); T(ioctl(m, TIOCSIG, 65));
		T(read(s, &v, 1)); signals("background read"); struct termios t; tcgetattr(s, &t); t.c_lflag |= TOSTOP; T(tcsetattr(s, TCSANOW, &t)); signals("background set");
		signal(SIGTTOU, SIG_IGN); T(tcsetattr(s, TCSANOW, &t)); signal(SIGTTOU, note); T(write(s, "x", 1)); signals("background write"); signal(SIGTTOU, SIG_IGN); T(write(s, "x", 1)); signal(SIGTTIN, SIG_IGN); T(read(s, &v, 1));
		T(ioctl(s, TIOCSWINSZ, &(struct winsize){1, 2, 3, 4})); kill(q, SIGKILL); wait(0); T(tcgetpgrp(s) == q); T(tcsetpgrp(s, q)); T(tcsetpgrp(s, getpid())); T(write(s, "x", 1)));
	close(m), newpty();
	SESSION("signals",
		int s = slave(0); struct winsize w = {10, 20}; T(ioctl(m, TIOCSWINSZ, &w)); signals("winch"); T(ioctl(s, TIOCSWINSZ, &w)); signals("same size"); w.ws_col = 5; ioctl(s, TIOCSWINSZ, &w); signals("other");
		write(m, "\003", 1); arrive("^C"); write(m, "\034", 1); arrive("^\\"); write(m, "\032", 1); arrive("^Z");
		T(ioctl(m, TIOCSIG, SIGUSR1)); T(ioctl(m, TIOCSIG, SIGINT)); arrive("TIOCSIG"); T(ioctl(s, TIOCSTI, "\003")); arrive("TIOCSTI"); T(ioctl(s, TIOCSTI, "x")); T(ioctl(s, TIOCSTI, "\n")); char b[10]; T(read(s, b, 10)); P("%c\n", b[0]); T(ioctl(s, TIOCSTI, 1)); T(ioctl(m, TIOCSTI, "y")));
	close(m), newpty();
	SESSION("master closes", close(m); newpty();
		int s = slave(0); int q = fork(); if (!q) { close(m); setpgid(0, 0); pause(); signals("foreground"); _exit(0); } setpgid(q, q); signal(SIGTTOU, SIG_IGN); tcsetpgrp(s, q); insleep(q);
		close(m); arrive("leader"); T(haveTTY()); T(write(s, "x", 1)); T(read(s, &v, 1)); struct pollfd p = {s, POLLIN | POLLOUT}; T(poll(&p, 1, 0)); P("%x\n", p.revents); T(ioctl(s, TIOCGWINSZ, &v)); v = getpid(); T(ioctl(s, TIOCSPGRP, &v)); T(ioctl(s, FIONREAD, &v)); T(isatty(s)); T(slave(0)); kill(q, SIGUSR2); int st; waitpid(q, &st, 0); P("%s\n", statstr(st)));
	close(m), newpty();
	CHILD("leader exits", pid_t l = fork(); if (!l) { setsid(); watch(); int s = slave(0); int q = fork(); if (!q) { pause(); arrive("member"); T(haveTTY()); T(write(s, "x", 1)); _exit(0); } insleep(q); _exit(0); } waitpid(l, 0, 0); msleep(100));
	close(m), newpty();
	SESSION("vhangup", int s = slave(0); int t = slave(O_NOCTTY); T(vhangup()); signals("signals"); T(haveTTY()); T(write(s, "x", 1)); T(read(t, &v, 1)); T(ioctl(t, TCGETS, &(struct termios){0})); int u = slave(O_NOCTTY); T(u >= 0); T(write(u, "ok", 2)); T(read(m, name, 9)));
	close(m), newpty();
	SESSION("exclusive", int s = slave(0); T(ioctl(s, TIOCEXCL)); T(ioctl(s, TIOCGEXCL, &v)); P("%d\n", v); CHILD("nobody", if (geteuid() == 0) { setgroups(0, 0); setresgid(65534, 65534, 65534); setresuid(65534, 65534, 65534); } T(open(name, O_RDWR | O_NOCTTY)); T(open("/dev/tty", O_RDWR)); ); T(ioctl(s, TIOCNXCL)); T(ioctl(s, TIOCGEXCL, &v)); P("%d\n", v));
	close(m), newpty();
	char b[256]; int k = -1; T(ioctl(m, TIOCGPTPEER, O_RDWR | O_NOCTTY) >= 0); T(ioctl(m, TIOCGPKT, &k)); P("%d\n", k); T(ioctl(m, TIOCGPTLCK, &k)); P("%d\n", k); k = 1; T(ioctl(m, TIOCSPTLCK, &k)); T(open(name, O_RDWR | O_NOCTTY)); T(ioctl(m, TIOCGPTPEER, O_RDWR | O_NOCTTY) >= -1); k = 0; ioctl(m, TIOCSPTLCK, &k);
	int s = slave(O_NOCTTY); T(ioctl(s, TIOCGPTN, &k)); T(ioctl(s, TIOCPKT, &k)); T(ioctl(s, TIOCMGET, &k)); T(ioctl(s, TIOCGICOUNT, b)); T(ioctl(s, TIOCGSERIAL, &k)); T(ioctl(s, KDGKBMODE, &k)); T(ioctl(s, TIOCLINUX, &k)); T(ioctl(s, TIOCGETD, &k)); P("%d\n", k); k = 99; T(ioctl(s, TIOCSETD, &k)); T(ioctl(s, TIOCGDEV, &k)); T(ioctl(s, TIOCVHANGUP)); T(ioctl(s, TCGETS, &(struct termios){0}));
	return 0;
}
