// What each call on a terminal says when the other side of the pair is gone, when the terminal was hung up, and when it never
// was a terminal.
// user: root
#include "t.h"
#include <linux/kd.h>
#include <linux/serial.h>
#include <pty.h>
#include <sys/sendfile.h>
#include <termios.h>

static void each(const char *who, int f) {
	P("%s\n", who);
	struct termios t = {0};
	char b[256] = "";
	int v = 0;
	struct winsize w = {0};
	struct stat st;
	struct pollfd p = {f, POLLIN | POLLOUT | POLLPRI | POLLRDHUP};
	fcntl(f, F_SETFL, O_NONBLOCK);
	poll(&p, 1, 0), P("%x\n", p.revents);
	T(write(f, "x", 1)); msleep(10); T(write(f, "", 0)); T(read(f, b, 1)); T(read(f, b, 0)); T(readv(f, &(struct iovec){b, 1}, 1)); T(writev(f, &(struct iovec){b, 1}, 1));
	T(lseek(f, 0, SEEK_CUR)); T(pread(f, b, 1, 0)); T(pwrite(f, b, 1, 0)); T(ftruncate(f, 0)); T(fsync(f)); T(isatty(f)); OK(fstat(f, &st)); T(fcntl(f, F_SETFL, O_NONBLOCK | O_ASYNC)); T(fcntl(f, F_SETFL, O_NONBLOCK)); T(mmap(0, 4096, PROT_READ, MAP_SHARED, f, 0) == MAP_FAILED ? -1 : 0);
	T(ioctl(f, TCGETS, &t)); T(ioctl(f, TCSETS, &t)); T(ioctl(f, TCSETSW, &t)); T(ioctl(f, TCSETSF, &t)); T(ioctl(f, TCGETA, b)); T(ioctl(f, TIOCGLCKTRMIOS, &t)); T(ioctl(f, TCSBRK, 0)); T(ioctl(f, TCSBRK, 1)); T(ioctl(f, TCSBRKP, 0)); T(ioctl(f, TIOCSBRK)); T(ioctl(f, TIOCCBRK));
	T(ioctl(f, TCXONC, TCOOFF)); T(ioctl(f, TCXONC, TCOON)); T(ioctl(f, TCXONC, TCIOFF)); T(ioctl(f, TCXONC, 9)); T(ioctl(f, TCFLSH, 0)); T(ioctl(f, TCFLSH, 2)); T(ioctl(f, TCFLSH, 3)); T(ioctl(f, FIONREAD, &v)); T(ioctl(f, TIOCOUTQ, &v)); v = 1; T(ioctl(f, FIONBIO, &v)); v = 0; T(ioctl(f, FIOASYNC, &v));
	T(ioctl(f, TIOCGWINSZ, &w)); T(ioctl(f, TIOCSWINSZ, &w)); T(ioctl(f, TIOCGPGRP, &v)); v = getpid(); T(ioctl(f, TIOCSPGRP, &v)); T(ioctl(f, TIOCGSID, &v)); T(ioctl(f, TIOCSCTTY, 0)); T(ioctl(f, TIOCNOTTY));
	T(ioctl(f, TIOCSTI, "")); T(ioctl(f, TIOCEXCL)); T(ioctl(f, TIOCGEXCL, &v)); T(ioctl(f, TIOCNXCL)); T(ioctl(f, TIOCGETD, &v)); v = 0; T(ioctl(f, TIOCSETD, &v)); T(ioctl(f, TIOCGDEV, &v) == 0 ? 0 : -1); T(ioctl(f, TIOCMGET, &v)); T(ioctl(f, TIOCMSET, &v)); T(ioctl(f, TIOCMIWAIT, 0)); T(ioctl(f, TIOCGICOUNT, b)); T(ioctl(f, TIOCGSERIAL, b)); T(ioctl(f, TIOCGSOFTCAR, &v)); T(ioctl(f, TIOCSSOFTCAR, &v));
	v = 0; T(ioctl(f, TIOCPKT, &v)); T(ioctl(f, TIOCGPKT, &v)); T(ioctl(f, TIOCGPTN, &v) == 0 ? 0 : -1); v = 0; T(ioctl(f, TIOCSPTLCK, &v)); T(ioctl(f, TIOCGPTLCK, &v)); T(ioctl(f, TIOCSIG, SIGINT)); T(ioctl(f, TIOCSIG, 0)); T(ioctl(f, TIOCGPTPEER, O_RDWR | O_NOCTTY) >= 0 ? 0 : -1); T(ioctl(f, KDGETMODE, &v)); T(ioctl(f, TIOCLINUX, b)); T(ioctl(f, 0x54fe, 0)); T(ioctl(f, 0xdead, 0));
	poll(&p, 1, 0), P("%x\n", p.revents);
}

// settings shows what outlives a hangup.
static void settings(const char *what, int f) {
	struct termios t;
	struct winsize w;
	int v = -1;
	LOK(what, tcgetattr(f, &t));
	ioctl(f, TIOCGWINSZ, &w), ioctl(f, TIOCGEXCL, &v);
	P("%x %x %x %x %d %d; %d %d, %d\n", t.c_iflag, t.c_oflag, t.c_cflag, t.c_lflag, t.c_cc[VMIN], t.c_cc[VEOF], w.ws_row, w.ws_col, v);
}

// again opens a terminal that was hung up.
static void again(void) {
	int m, s;
	char b[64];
	openpty(&m, &s, 0, 0, 0);
	fcntl(m, F_SETFL, O_NONBLOCK);
	struct termios t;
	tcgetattr(s, &t), t.c_lflag &= ~ECHO, t.c_cc[VMIN] = 7, t.c_oflag |= OLCUC;
	T(tcsetattr(s, TCSANOW, &t));
	ioctl(s, TIOCSWINSZ, &(struct winsize){10, 20}), ioctl(s, TIOCEXCL), tcflow(s, TCOOFF);
	write(m, "before\n", 7), msleep(20);
	settings("before", m);
	T(ioctl(s, TIOCVHANGUP));
	settings("hung", m);
	T(write(m, "typed\n", 6)), msleep(20), T(read(m, b, 64));
	int u = open(ptsname(m), O_RDWR | O_NOCTTY | O_NONBLOCK);
	settings("opened", u);
	T(write(m, "more\n", 5)), msleep(20), T(read(u, b, 64)), T(read(u, b, 64));
	T(write(u, "out", 3)), T(tcflow(u, TCOON)), T(write(u, "out", 3)), msleep(20), T(read(m, b, 64));
	T(close(u)), msleep(5);
	struct pollfd p = {m, POLLIN | POLLOUT};
	poll(&p, 1, 0), P("the hung file is open: %x\n", p.revents), T(read(m, b, 64));
	T(close(s)), msleep(5);
	poll(&p, 1, 0), P("closed: %x\n", p.revents), T(read(m, b, 64));
	// The last close of the slave does not change the settings either.
	u = open(ptsname(m), O_RDWR | O_NOCTTY), tcgetattr(u, &t), t.c_oflag |= OLCUC, tcsetattr(u, TCSANOW, &t), ioctl(u, TIOCEXCL), tcflow(u, TCOOFF);
	T(write(m, "left\n", 5)), msleep(20), close(u);
	u = open(ptsname(m), O_RDWR | O_NOCTTY | O_NONBLOCK);
	settings("closed and opened", u), T(read(u, b, 64)), T(write(u, "x", 1)), T(read(m, b, 64));
	// The number of a pair is in use until both sides are closed.
	int n1, n2, x;
	ioctl(m, TIOCGPTN, &n1), close(m), x = posix_openpt(O_RDWR | O_NOCTTY), ioctl(x, TIOCGPTN, &n2), P("slave still open: %s\n", n1 == n2 ? "same number" : "another number");
	int before = n2;
	close(x), close(u), x = posix_openpt(O_RDWR | O_NOCTTY), ioctl(x, TIOCGPTN, &n2), P("closed: %s\n", n2 <= before ? "lowest" : "another number");
	close(x);
}

int main(void) {
	int m, s, p[2];
	setsid();
	signal(SIGIO, SIG_IGN); // a host may still echo what was written, from a worker, when O_ASYNC is set
	MUST(openpty(&m, &s, 0, 0, 0));
	CHILD("master", setsid(); signal(SIGHUP, SIG_IGN); each("master of an open slave", m));
	CHILD("dead slave", int m2, s2; openpty(&m2, &s2, 0, 0, 0); close(s2); each("master of a closed slave", m2));
	CHILD("dead master", int m2, s2; openpty(&m2, &s2, 0, 0, 0); write(m2, "left\n", 5); close(m2); each("slave of a closed master", s2));
	CHILD("hung", int m2, s2; openpty(&m2, &s2, 0, 0, 0); int keep = open(ptsname(m2), O_RDWR | O_NOCTTY); LOK("hang up", ioctl(s2, TIOCVHANGUP)); each("slave that was hung up", s2); close(keep); each("its master", m2));
	CHILD("fresh", int m2 = posix_openpt(O_RDWR | O_NOCTTY); each("master whose slave was never open", m2));
	again();
	pipe(p), write(p[1], "1234", 4);
	each("pipe", p[0]), each("/dev/null", open("/dev/null", O_RDWR));
	return 0;
}
