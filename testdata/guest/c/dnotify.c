// F_NOTIFY on a file and on a directory.
#include "t.h"
static volatile int got; static void h(int s) { got++; }
int main(void) {
	int fd = open("f", O_CREAT | O_RDWR, 0600), d = open(".", O_RDONLY); T(fcntl(fd, F_NOTIFY, DN_CREATE)); on(SIGIO, h, 0); T(fcntl(d, F_NOTIFY, DN_CREATE)); close(creat("x", 0600)); P("%d\n", got); close(creat("y", 0600)); P("%d\n", got); T(fcntl(d, F_NOTIFY, 0));
}
