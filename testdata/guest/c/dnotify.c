// F_NOTIFY on a file and on a directory.
#include "t.h"
static volatile int got, lastfd; static volatile long band;
static void h(int s) { got++; }
static void hi(int s, siginfo_t *i, void *u) { got++; lastfd = i->si_fd; band = i->si_band; P("sig %d code %d\n", s == SIGRTMIN, i->si_code); }
#define SAW(label) (P("%s: %d\n", label, got), got = 0)
int main(void) {
	int fd = open("f", O_CREAT | O_RDWR, 0600), d = open(".", O_RDONLY); T(fcntl(fd, F_NOTIFY, DN_CREATE)); on(SIGIO, h, SA_RESTART);
	P("owner %d\n", fcntl(d, F_GETOWN) == 0); T(fcntl(d, F_NOTIFY, DN_CREATE)); P("owner %d\n", fcntl(d, F_GETOWN) == getpid());
	close(creat("x", 0600)); SAW("create"); close(creat("y", 0600)); SAW("again"); T(fcntl(d, F_NOTIFY, 0));
	T(fcntl(d, F_SETSIG, SIGRTMIN)); onsi(SIGRTMIN, hi, SA_RESTART); mkdir("sub", 0700);
	T(fcntl(d, F_NOTIFY, DN_MULTISHOT | DN_CREATE | DN_DELETE | DN_RENAME | DN_ATTRIB | DN_MODIFY | DN_ACCESS));
	close(creat("z", 0600)); SAW("create"); P("fd %d band %lx\n", lastfd == d, band); write(fd, "x", 1); SAW("write"); lseek(fd, 0, 0); char c; read(fd, &c, 1); SAW("read");
	chmod("f", 0640); SAW("chmod"); unlink("z"); SAW("unlink"); mkdir("m", 0700); SAW("mkdir"); rmdir("m"); SAW("rmdir"); close(creat("sub/q", 0600)); SAW("in sub"); truncate("f", 0); SAW("truncate");
	T(fcntl(d, F_NOTIFY, 0)); close(creat("w", 0600)); SAW("off");
	T(fcntl(d, F_NOTIFY, DN_MULTISHOT | DN_RENAME)); rename("x", "xx"); SAW("rename"); link("xx", "l"); SAW("link"); unlink("l"); SAW("unlink");
	T(fcntl(d, F_NOTIFY, DN_CREATE)); close(creat("v", 0600)); SAW("added"); close(creat("u", 0600)); SAW("twice");
	int d2 = dup(d); close(d2); rename("xx", "x"); SAW("a copy was closed");
	T(fcntl(d, F_NOTIFY, DN_MULTISHOT | DN_CREATE)); CHILD("child", close(creat("t", 0600)); SAW("in the child")); SAW("by the child");
}
