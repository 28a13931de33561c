// Packet mode of a pty master (tty_ioctl(4)), EXTPROC, and what poll(2) and epoll(7) tell of both sides.
#include "t.h"
#include <pty.h>
#include <sys/epoll.h>
#include <termios.h>
#ifndef EXTPROC
#define EXTPROC 0200000
#endif

static int m, s;

static void ready(const char *what) {
	struct pollfd p[2] = {{m, POLLIN | POLLOUT | POLLPRI | POLLRDNORM | POLLWRNORM | POLLRDBAND | POLLRDHUP}, {s, POLLIN | POLLOUT | POLLPRI | POLLRDNORM | POLLWRNORM | POLLRDBAND | POLLRDHUP}};
	poll(p, 2, 0);
	P("  poll %s: master %x slave %x\n", what, p[0].revents, p[1].revents);
}
static void show(const char *what, int fd, size_t size) {
	unsigned char b[256];
	fcntl(fd, F_SETFL, O_NONBLOCK);
	ssize_t n = read(fd, b, size);
	P("  %s:", what);
	for (int i = 0; i < n; i++)
		P(b[i] > 32 && b[i] < 127 ? " %c" : " \\%o", b[i]);
	P(" %s\n", n < 0 ? ename(errno) : n == 0 ? "eof" : "");
	fcntl(fd, F_SETFL, 0);
}
static struct termios std;
#define SET(how, ...) ({ struct termios t; tcgetattr(s, &t); __VA_ARGS__; LOK("tcsetattr " #__VA_ARGS__, tcsetattr(s, how, &t)); msleep(5); ready("then"); show("packet", m, 256); })

int main(void) {
	int v = 1, q;
	MUST(openpty(&m, &s, 0, 0, 0));
	tcgetattr(s, &std);
	ready("at first");
	T(ioctl(m, TIOCPKT, 8));
	T(ioctl(m, TIOCPKT, &v));
	ready("packet mode");
	show("empty", m, 256);
	P("data\n");
	write(s, "out", 3);
	ready("data"); T(ioctl(m, FIONREAD, &q)); P("%d\n", q);
	show("small", m, 1); show("two", m, 2); show("rest", m, 256);
	P("flow\n");
	T(tcflow(s, TCOOFF)); ready("stop"); show("stop", m, 256);
	T(tcflow(s, TCOOFF)); show("again", m, 256);
	T(tcflow(s, TCOON)); ready("start"); show("start", m, 256);
	T(tcflow(s, TCOOFF)); T(tcflow(s, TCOON)); show("both", m, 256);
	write(m, "\023", 1); msleep(20); show("^S", m, 256); write(m, "\021", 1); msleep(20); show("^Q", m, 256);
	T(tcflow(s, TCIOFF)); show("TCIOFF", m, 256); T(tcflow(s, TCION)); show("TCION", m, 256);
	P("flush\n");
	T(tcflush(s, TCIFLUSH)); ready("in"); show("in", m, 256); T(tcflush(s, TCOFLUSH)); show("out", m, 256); write(s, "lost?", 5); msleep(20); T(tcflush(s, TCIOFLUSH)); show("both", m, 256); show("data", m, 256);
	T(tcflush(m, TCIFLUSH)); show("master in", m, 256); T(tcflush(m, TCOFLUSH)); show("master out", m, 256);
	write(m, "\003", 1); msleep(20); show("^C", m, 256); show("echo", m, 256);
	P("settings\n");
	SET(TCSANOW, t.c_iflag &= ~IXON); SET(TCSANOW, t.c_iflag |= IXON); SET(TCSANOW, t.c_cc[VSTOP] = 'x'); SET(TCSANOW, t.c_cc[VSTOP] = 023); SET(TCSANOW, t.c_cc[VINTR] = 'i'); SET(TCSAFLUSH, t.c_cc[VINTR] = 3); SET(TCSADRAIN, t.c_lflag &= ~ECHO);
	SET(TCSANOW, t.c_lflag |= EXTPROC); SET(TCSANOW, t.c_lflag |= ECHO); SET(TCSANOW, t.c_lflag |= ECHO);
	P("EXTPROC\n");
	write(m, "ab\177\003\004\rq\n", 9); msleep(20); ready("typed"); T(ioctl(s, FIONREAD, &q)); P("%d\n", q); show("in", s, 4); show("in", s, 256); show("echo", m, 256);
	T(write(m, "part", 4)); msleep(20); ready("part"); show("part", s, 256);
	SET(TCSANOW, t.c_lflag &= ~EXTPROC); SET(TCSANOW, t.c_lflag |= ECHO);
	struct winsize w = {3, 4}; T(ioctl(s, TIOCSWINSZ, &w)); show("size", m, 256);
	T(ioctl(m, TIOCSWINSZ, &w)); show("same", m, 256);
	write(s, "x", 1); tcflow(s, TCOOFF); ready("status and data"); show("status first", m, 256); show("data", m, 256); tcflow(s, TCOON); show("", m, 256);
	tcflow(s, TCOOFF); v = 0; T(ioctl(m, TIOCPKT, &v)); ready("off"); v = 1; T(ioctl(m, TIOCPKT, &v)); show("forgotten", m, 256); tcflow(s, TCOON); show("", m, 256);
	v = 0; T(ioctl(m, TIOCPKT, &v));
	tcsetattr(s, TCSAFLUSH, &std);

	P("epoll\n");
	int e = MUST(epoll_create1(0));
	struct epoll_event ev = {EPOLLIN | EPOLLOUT | EPOLLPRI | EPOLLET, {.u32 = 1}}, got[4];
	epoll_ctl(e, EPOLL_CTL_ADD, m, &ev), ev.data.u32 = 2, epoll_ctl(e, EPOLL_CTL_ADD, s, &ev);
#define EP(what) do { int n = epoll_wait(e, got, 4, 50); unsigned x[3] = {0}; for (int i = 0; i < n; i++) x[got[i].data.u32] = got[i].events; P("  %s: %x %x\n", what, x[1], x[2]); } while (0)
	EP("added"); EP("nothing new");
	write(m, "l", 1); msleep(20); EP("part of a line"); write(m, "\n", 1); msleep(20); EP("line"); show("read", s, 256); show("echo", m, 256);
	write(s, "o", 1); EP("output"); show("read", m, 256);
	v = 1; ioctl(m, TIOCPKT, &v); tcflow(s, TCOOFF); EP("stop"); tcflow(s, TCOON); EP("start"); show("", m, 256); v = 0; ioctl(m, TIOCPKT, &v);
	P("full\n");
	fcntl(s, F_SETFL, O_NONBLOCK);
	char big[65536]; memset(big, 'f', sizeof big);
	for (int i = 0; i < 20; i++) // what was written goes on its way in the background
		while (msleep(2), write(s, big, sizeof big) > 0) ;
	ready("slave is full"); T(write(s, "x", 1)); ioctl(s, TIOCOUTQ, &q); P("%d\n", q); tcflow(s, TCOOFF); ready("stopped too"); tcflow(s, TCOON);
	fcntl(m, F_SETFL, O_NONBLOCK);
	while (read(m, big, sizeof big) > 0) ;
	ready("drained");
	struct termios t = std; cfmakeraw(&t), t.c_cc[VMIN] = 1; tcsetattr(s, TCSANOW, &t);
	for (int i = 0; i < 20; i++)
		while (msleep(2), write(m, big, sizeof big) > 0) ;
	ready("master is full"); fcntl(s, F_SETFL, 0); T(read(s, big, 10)); T(tcflush(s, TCIFLUSH)); msleep(20); ready("flushed");
	P("ends\n");
	close(s); msleep(5); ready("slave closed"); EP("slave closed"); T(read(m, big, 1)); T(write(m, "x", 1));
	s = open(ptsname(m), O_RDWR | O_NOCTTY); ready("opened again"); write(s, "last", 4); close(s); ready("data left"); show("data", m, 256); show("end", m, 256);
	s = open(ptsname(m), O_RDWR | O_NOCTTY); ev.data.u32 = 2; epoll_ctl(e, EPOLL_CTL_ADD, s, &ev); EP("opened"); write(m, "gone\n", 5); msleep(20); close(m); m = -1; ready("master closed"); EP("master closed");
	show("read", s, 256);
	return 0;
}
