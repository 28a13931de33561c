// Pipes: end of file, EPIPE, no blocking, atomic writes, capacity, O_DIRECT.
#include "t.h"
static int got;
static void h(int s) { got = s; }
int main(void) {
	int p[2]; char b[100000];
	T(pipe((int *)1)); T(pipe2(p, O_TRUNC)); T(pipe2(p, O_NONBLOCK | O_CLOEXEC)); T(fcntl(p[0], F_GETFL)); T(fcntl(p[1], F_GETFL)); T(fcntl(p[0], F_GETFD));
	T(read(p[0], b, 10)); T(write(p[1], b, 4096)); T(write(p[1], b, 100000)); T(write(p[1], b, 1)); T(write(p[1], b, 4096)); T(ioctl(p[0], FIONREAD, b)); P("%d\n", *(int *)b);
	T(read(p[0], b, 1)); T(write(p[1], b, 1)); T(read(p[0], b, 4095)); T(write(p[1], b, 1)); T(write(p[1], b, 5000)); T(read(p[0], b, 100000));
	T(close(p[1])); T(read(p[0], b, 1)); T(read(p[0], b, 1)); close(p[0]);
	T(pipe(p)); close(p[0]); on(SIGPIPE, h, 0); T(write(p[1], "x", 1)); P("sig %d\n", got); got = 0; T(write(p[1], "x", 0)); P("sig %d\n", got); signal(SIGPIPE, SIG_IGN); T(write(p[1], "x", 1)); signal(SIGPIPE, SIG_DFL);
	CHILD("sigpipe", write(p[1], "x", 1)); close(p[1]);
	struct stat st; pipe(p); fstat(p[0], &st); P("%o %ld %ld\n", st.st_mode, (long)st.st_nlink, (long)st.st_blksize); fstat(p[1], &st); P("%o %ld\n", st.st_mode, (long)st.st_size);
	// Writes of up to PIPE_BUF are atomic: two writers of 4096 never mix.
	int bad = 0, total = 0;
	for (int w = 0; w < 2; w++) if (fork() == 0) { char x[4096]; memset(x, 'a' + w, 4096); for (int i = 0; i < 200; i++) write(p[1], x, 4096); _exit(0); }
	close(p[1]); static char all[2 * 200 * 4096]; ssize_t n; while ((n = read(p[0], all + total, 5000)) > 0) total += n;
	for (int i = 0; i + 4096 <= total; i += 4096) for (int j = 1; j < 4096; j++) if (all[i + j] != all[i]) { bad++; break; }
	P("total %d mixed %d\n", total, bad); while (wait(NULL) > 0);
	// A blocked writer gets EPIPE when the reader goes, after a short count.
	pipe(p); pid_t c = fork(); if (c == 0) { close(p[0]); signal(SIGPIPE, SIG_IGN); T(write(p[1], all, 200000)); T(write(p[1], all, 1)); _exit(0); }
	close(p[1]); insleep(c); read(p[0], b, 10000); insleep(c); close(p[0]); wait(NULL);
	// A blocked reader wakes at end of file.
	pipe(p); c = fork(); if (c == 0) { close(p[1]); char y[10]; T(read(p[0], y, 10)); _exit(0); } insleep(c); close(p[1]); close(p[0]); wait(NULL);
	// Packets.
	T(pipe2(p, O_DIRECT)); T(write(p[1], "hello", 5)); T(write(p[1], "world!", 6)); T(read(p[0], b, 100)); T(read(p[0], b, 3)); fcntl(p[0], F_SETFL, O_NONBLOCK); T(read(p[0], b, 3));
	// Through /proc.
	char path[64]; sprintf(path, "/proc/self/fd/%d", p[0]); int w = T(open(path, O_WRONLY) >= 0); sprintf(path, "/proc/self/fd/%d", p[1]); n = readlink(path, b, 100); b[n > 5 ? 5 : n] = 0; P("%s\n", b);
	T(fchown(p[0], -1, -1)); T(fchmod(p[0], 0600));
	struct iovec v[2] = {{"ab", 2}, {"cd", 2}}; pipe(p); T(writev(p[1], v, 2)); T(read(p[0], b, 10));
	T(vmsplice(p[1], v, 2, 0)); T(read(p[0], b, 10)); T(vmsplice(p[1], v, 2, 99)); T(vmsplice(1, v, 2, 0) < 0 ? -1 : 0);
}
