// How long read(2) of a terminal without line editing waits: MIN and TIME in all combinations (termios(3)), also with
// O_NONBLOCK, a buffer that is smaller than MIN, a signal, and a change of the mode under the reader; the same for poll(2).
// time: 60
#include "t.h"
#include <pty.h>
#include <termios.h>

static int m, s;
static void quiet(int sig) {}

static void mode(int min, int time) {
	struct termios t;
	MUST(tcgetattr(s, &t));
	cfmakeraw(&t);
	t.c_cc[VMIN] = min, t.c_cc[VTIME] = time;
	MUST(tcsetattr(s, TCSAFLUSH, &t));
	P("MIN %d TIME %d\n", min, time);
}

// typist types each of the bytes so many milliseconds after the one before, in another process.
static pid_t typist(const char *text, int ms) {
	pid_t p = MUST(fork());
	if (p == 0) {
		for (; *text; text++)
			msleep(ms), write(m, text, 1);
		_exit(0);
	}
	return p;
}

// get reads once, and tells whether that took any time.
static void get(const char *what, size_t size) {
	char b[64] = "";
	long long t0 = now_ms();
	errno = 0;
	ssize_t n = read(s, b, size);
	long long t = now_ms() - t0;
	P("  %s: %d %.*s %s, %s\n", what, (int)n, n > 0 ? (int)n : 0, b, n < 0 ? ename(errno) : "", t < 90 ? "at once" : "waited");
}

static void ready(const char *what) {
	struct pollfd p = {s, POLLIN};
	int n = poll(&p, 1, 0), q;
	MUST(ioctl(s, FIONREAD, &q));
	P("  poll %s: %d %x, %d queued\n", what, n, p.revents, q);
}

int main(void) {
	MUST(openpty(&m, &s, 0, 0, 0));
	static const int cases[][2] = {{0, 0}, {0, 3}, {3, 0}, {3, 2}, {1, 0}, {1, 2}, {255, 2}};
	for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
		int min = cases[i][0], time = cases[i][1];
		mode(min, time);
		ready("empty");
		if (min == 0)
			get("nothing", 10);
		write(m, "ab", 2);
		msleep(30);
		ready("two");
		if (min < 3 || time)
			get("two", 10);
		else {
			get("two of a small buffer", 2);
			write(m, "ab", 2);
			pid_t p = typist("c", 150);
			get("two and a later one", 10);
			waitpid(p, 0, 0);
		}
		write(m, "abcdefgh", 8);
		msleep(30);
		ready("eight");
		get("four of eight", 4);
		get("the rest", 10);
		if (min || time) {
			pid_t p = typist("x", 150);
			get("one that comes later", min > 1 && !time ? 1 : 10);
			waitpid(p, 0, 0);
		}
		if (min > 1 && time) { // each byte starts the timer anew
			pid_t p = typist("xyz", 120);
			get("three, one by one", 10);
			waitpid(p, 0, 0);
			tcflush(s, TCIFLUSH);
		}
		fcntl(s, F_SETFL, O_NONBLOCK);
		get("nonblocking, nothing", 10);
		write(m, "q", 1);
		msleep(30);
		get("nonblocking, one", 10);
		fcntl(s, F_SETFL, 0);
		tcflush(s, TCIFLUSH);
	}
	// A signal ends a read that has nothing yet; one that has something returns that.
	on(SIGALRM, quiet, 0);
	struct itimerval it = {{0}, {0, 150000}};
	mode(3, 0);
	setitimer(ITIMER_REAL, &it, 0);
	get("interrupted", 10);
	write(m, "ab", 2);
	setitimer(ITIMER_REAL, &it, 0);
	get("interrupted with two", 10);
	mode(0, 20);
	setitimer(ITIMER_REAL, &it, 0);
	get("interrupted timer", 10);
	on(SIGALRM, quiet, SA_RESTART);
	mode(0, 4);
	setitimer(ITIMER_REAL, &it, 0);
	get("restarted timer", 10);
	// The mode changes under a reader.
	mode(1, 0);
	pid_t p = fork();
	if (p == 0) {
		struct termios t;
		msleep(100), tcgetattr(s, &t), t.c_lflag |= ICANON, tcsetattr(s, TCSANOW, &t);
		msleep(50), write(m, "li", 2), msleep(50), write(m, "ne\n", 3);
		_exit(0);
	}
	get("became canonical", 20);
	waitpid(p, 0, 0);
	p = fork();
	if (p == 0) {
		struct termios t;
		msleep(100), write(m, "ra", 2), msleep(50), tcgetattr(s, &t), t.c_lflag &= ~ICANON, tcsetattr(s, TCSANOW, &t);
		_exit(0);
	}
	get("became raw", 20);
	waitpid(p, 0, 0);
	// Lines: what does not fit stays; an end of file after a full read.
	struct termios t;
	tcgetattr(s, &t), t.c_lflag |= ICANON | ISIG | IEXTEN, t.c_iflag |= ICRNL, t.c_cc[VEOF] = 4, t.c_cc[VMIN] = 4, t.c_cc[VEOL] = '!', t.c_cc[VEOL2] = '?';
	MUST(tcsetattr(s, TCSAFLUSH, &t));
	write(m, "abcd\nef\004gh!ij?\004\nz", 18), msleep(30);
	ready("lines");
	get("part", 2), get("exactly", 2), get("newline", 10), get("eof", 10), get("eol", 10), get("eol2", 10), get("end of file", 10), get("empty", 10);
	write(m, "\004", 1), msleep(30);
	get("full then eof", 1);
	ready("eof of it");
	fcntl(s, F_SETFL, O_NONBLOCK);
	get("after", 10);
	return 0;
}
