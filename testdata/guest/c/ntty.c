// time: 60
// The line discipline in all its modes: settings and input at random, from a fixed seed, and what comes out on both sides.
#include "t.h"
#include <pty.h>
#include <termios.h>

static unsigned long long seed = 88172645463325252ULL;
static unsigned rnd(unsigned n) {
	seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
	return (seed >> 20) % n;
}

static int m, s, pkt;
static unsigned pick(const unsigned *bits, int n) {
	unsigned v = 0;
	for (int i = 0; i < n; i++)
		if (rnd(2))
			v |= bits[i];
	return v;
}
#define PICK(...) ({ static const unsigned b_[] = {__VA_ARGS__}; pick(b_, sizeof b_ / sizeof *b_); })

// dump reads until there is nothing: the read that finds nothing has waited until all input was processed, so the slave, whose
// input is echoed, is read before the master.
//
// Where one read ends and the next begins is only shown for lines.
static void dump(const char *what, int fd) {
	static char b[20000], o[80000];
	struct termios t;
	tcgetattr(s, &t);
	int n, k = 0, lines = fd == s && t.c_lflag & ICANON;
	while ((n = read(fd, b, sizeof b)) > 0) {
		k += sprintf(o + k, lines ? "|" : "");
		// How output is cut into packets is not shown either.
		for (int i = pkt && fd == m && !b[0]; i < n; i++) {
			unsigned char c = b[i];
			k += sprintf(o + k, c > 32 && c < 127 && c != '\\' ? "%c" : "\\%o", c);
		}
		if (n == sizeof b || k > 60000)
			break;
	}
	P(" %s %.*s%s\n", what, k, o, n == 0 ? "eof" : n < 0 && errno != EAGAIN ? ename(errno) : "");
}

int main(void) {
	openpty(&m, &s, 0, 0, 0);
	fcntl(m, F_SETFL, O_NONBLOCK), fcntl(s, F_SETFL, O_NONBLOCK);
	struct termios t, std;
	tcgetattr(s, &std), t = std;
	static const char keys[] = "\003\034\177\025\004\032\022\027\026\r\n\t\b\001 _aBc1.\200\303\251\377\n\r\004";
	for (int round = 0; round < 500; round++) {
		if (rnd(3) == 0) {
			if (t.c_iflag & IXON) // echo that STOP holds back comes out as the settings are then, not as they were
				write(m, "\021", 1), dump("slave", s), dump("master", m);
			t = std;
			t.c_iflag = PICK(IGNBRK, BRKINT, PARMRK, INPCK, ISTRIP, INLCR, IGNCR, ICRNL, IUCLC, IXON, IXANY, IMAXBEL, IUTF8);
			t.c_oflag = PICK(OPOST, OLCUC, ONLCR, OCRNL, ONOCR, ONLRET, XTABS);
			t.c_lflag = PICK(ISIG, ICANON, ECHO, ECHOE, ECHOK, ECHONL, NOFLSH, ECHOCTL, ECHOPRT, ECHOKE, IEXTEN);
			if (rnd(3))
				t.c_lflag |= ICANON;
			if (rnd(3))
				t.c_lflag |= ECHO | ECHOE;
			if (rnd(4) == 0)
				t.c_cc[VEOL] = "\0x;"[rnd(3)], t.c_cc[VEOL2] = "\0y"[rnd(2)];
			t.c_cc[VMIN] = rnd(3), t.c_cc[VTIME] = 0;
			LOK("set", tcsetattr(s, rnd(4) ? TCSANOW : TCSAFLUSH, &t));
			P("%x %x %x\n", t.c_iflag, t.c_oflag, t.c_lflag);
		}
		if (rnd(40) == 0) {
			pkt = !pkt;
			LOK("packet", ioctl(m, TIOCPKT, &pkt));
		}
		char b[64];
		int n = 1 + rnd(12);
		for (int i = 0; i < n; i++)
			b[i] = rnd(3) ? keys[rnd(sizeof keys - 1)] : 'a' + rnd(26);
		// By themselves: what echo an interrupt throws away with output stopped depends on when which byte came.
		if ((t.c_iflag & IXON) && rnd(8) == 0)
			b[0] = "\021\023"[rnd(2)], n = 1;
		P("%d: typed", round);
		for (int i = 0; i < n; i++)
			P(" %o", (unsigned char)b[i]);
		P(" = %d\n", (int)write(m, b, n));
		msleep(2); // an interrupt character throws away what was not read before it: let it come first
		dump("slave", s), dump("master", m);
		if (rnd(2)) {
			n = 1 + rnd(10);
			for (int i = 0; i < n; i++)
				b[i] = rnd(2) ? "\n\r\t\b\001\033\177"[rnd(7)] : 'a' + rnd(26);
			n = write(s, b, n);
			P(" written %d %s\n", n, n < 0 ? ename(errno) : "");
			dump("master", m);
		}
		if (rnd(20) == 0) {
			LOK("flow", tcflow(s, rnd(2) ? TCOOFF : TCOON));
			tcflow(s, TCOON);
		}
		if (rnd(15) == 0)
			LOK("flush", tcflush(rnd(2) ? s : m, rnd(3)));
	}
	return 0;
}
