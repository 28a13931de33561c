// FIFOs: who waits for whom in open, end of file, O_RDWR.
#include "t.h"
static void h(int s) {}
int main(void) {
	char b[10];
	T(mkfifo("f", 0600)); T(mkfifo("f", 0600)); T(mkfifo("none/f", 0600)); T(mknod("f2", S_IFIFO | 0644, 0)); struct stat st; stat("f2", &st); P("%o\n", st.st_mode);
	T(open("f", O_WRONLY | O_NONBLOCK)); int r = T(open("f", O_RDONLY | O_NONBLOCK)); T(read(r, b, 1)); int w = T(open("f", O_WRONLY | O_NONBLOCK)); T(read(r, b, 1)); T(write(w, "hi", 2)); T(read(r, b, 10)); T(lseek(r, 0, 0));
	struct pollfd pf = {r, POLLIN, 0}; close(w); T(poll(&pf, 1, 0)); P("%x\n", pf.revents); close(r);
	r = open("f", O_RDONLY | O_NONBLOCK); pf.fd = r; T(poll(&pf, 1, 0)); P("never a writer: %x\n", pf.revents); close(r);
	int rw = T(open("f", O_RDWR)); T(write(rw, "abc", 3)); T(read(rw, b, 10)); close(rw);
	pid_t c = fork(); if (c == 0) { int x = open("f", O_WRONLY); write(x, "from child", 10); _exit(0); }
	insleep(c); r = open("f", O_RDONLY); int n = 0, k; while ((k = read(r, b, 10)) > 0) n += k; P("got %d\n", n); wait(NULL); close(r);
	c = fork(); if (c == 0) { on(SIGALRM, h, 0); alarm(1); T(open("f", O_RDONLY)); on(SIGALRM, h, SA_RESTART); struct itimerval it = {{0, 0}, {0, 100000}}; setitimer(ITIMER_REAL, &it, 0); int x = open("f", O_RDONLY); P("restarted open: %d\n", x >= 0); _exit(0); }
	msleep(1300); w = open("f", O_WRONLY); P("writer %d\n", w >= 0); wait(NULL);
	signal(SIGPIPE, SIG_IGN); T(write(w, "x", 1)); close(w);
	T(open("f", O_PATH) >= 0); T(truncate("f", 0)); r = open("f", O_RDONLY | O_NONBLOCK); unlink("f"); T(open("f", O_RDONLY)); T(close(r)); T(open("f2", O_RDONLY | O_DIRECTORY)); r = open("f2", O_RDWR | O_TRUNC); T(r >= 0);
	T(rename("f2", "f3")); T(link("f3", "f4")); T(unlink("f3")); T(unlink("f4"));
}
