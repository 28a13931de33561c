// poll, ppoll, select, pselect6: what is ready, errors, signal masks, timeouts.
#include "t.h"
#include <sys/eventfd.h>
static int got;
static void h(int s) { got++; }
static void one(const char *n, int fd) { struct pollfd p = {fd, 0x7fff & ~POLLNVAL, 0}; int r = poll(&p, 1, 0); P("%s: %d %x\n", n, r, p.revents); }
int main(void) {
	int p[2], s[2], ls; pipe(p); socketpair(AF_UNIX, SOCK_STREAM, 0, s);
	put("f", "x"); one("file", open("f", O_RDONLY)); one("dir", open(".", O_RDONLY)); one("null", open("/dev/null", O_RDWR)); one("zero", open("/dev/zero", O_RDWR)); one("opath", open("f", O_PATH)); one("bad", 99); one("neg", -1); one("random", open("/dev/random", O_RDONLY));
	one("empty pipe r", p[0]); one("empty pipe w", p[1]); write(p[1], "x", 1); one("pipe r", p[0]); int q[2]; pipe(q); close(q[1]); one("hup r", q[0]); pipe(q); close(q[0]); one("err w", q[1]); pipe(q); write(q[1], "x", 1); close(q[1]); one("data+hup", q[0]);
	fcntl(p[1], F_SETFL, O_NONBLOCK); char big[65536]; while (write(p[1], big, 4096) > 0); one("full", p[1]);
	one("sock", s[0]); write(s[1], "x", 1); one("sock data", s[0]); shutdown(s[1], SHUT_WR); one("sock shut", s[0]); one("sock shut2", s[1]); close(s[1]); one("sock closed", s[0]); one("fresh stream", socket(AF_UNIX, SOCK_STREAM, 0)); one("fresh dgram", socket(AF_UNIX, SOCK_DGRAM, 0));
	int d[2]; socketpair(AF_UNIX, SOCK_DGRAM, 0, d); one("dgram", d[0]); close(d[1]); one("dgram closed", d[0]); socketpair(AF_UNIX, SOCK_SEQPACKET, 0, d); close(d[1]); one("seq closed", d[0]);
	one("eventfd", eventfd(0, 0)); one("eventfd1", eventfd(1, 0)); 
	T(poll((void *)1, 1, 0)); T(poll(NULL, 0, 0)); T(poll(NULL, 1 << 30, 0)); long long t = now_ms(); T(poll(NULL, 0, 50)); t = now_ms() - t; P("slept %d\n", t >= 50 && t < 1500);
	struct pollfd two[2] = {{p[0], POLLIN, 9}, {99, POLLIN, 9}}; T(poll(two, 2, -1)); P("%x %x\n", two[0].revents, two[1].revents);
	struct timespec bad = {0, 1000000000}, neg = {-1, 0}, z = {0, 0}; T(ppoll(two, 2, &bad, 0)); T(ppoll(two, 2, &neg, 0)); T(ppoll(NULL, 0, &z, 0)); T(syscall(SYS_ppoll, 0, 0, &z, &z, 4)); T(syscall(SYS_ppoll, 0, 0, (void *)1, 0, 8));
	fd_set r, w, e; FD_ZERO(&r); FD_ZERO(&w); FD_ZERO(&e); FD_SET(p[0], &r); FD_SET(p[1], &w); FD_SET(q[0], &e); struct timeval tv = {0, 0}; T(select(100, &r, &w, &e, &tv)); P("%d %d %d\n", !!FD_ISSET(p[0], &r), !!FD_ISSET(p[1], &w), !!FD_ISSET(q[0], &e));
	FD_ZERO(&r); FD_SET(60, &r); T(select(61, &r, 0, 0, &tv)); T(select(50, &r, 0, 0, &tv)); T(select(-1, 0, 0, 0, &tv)); tv.tv_usec = -1; T(select(0, 0, 0, 0, &tv)); tv.tv_usec = 1000001; T(select(0, 0, 0, 0, &tv)); T(select(1, (void *)1, 0, 0, 0)); tv.tv_sec = 0; tv.tv_usec = 20000; T(select(0, 0, 0, 0, &tv)); P("left %ld %ld\n", tv.tv_sec, tv.tv_usec); tv.tv_sec = 5; FD_ZERO(&w); FD_SET(1, &w); T(select(2, 0, &w, 0, &tv)); P("left>4 %d\n", tv.tv_sec >= 4);
	FD_ZERO(&r); FD_SET(q[0], &r); T(select(2000000, &r, 0, 0, &z) >= -1);
	on(SIGUSR1, h, SA_RESTART); sigset_t m, o; sigemptyset(&m); sigaddset(&m, SIGUSR1); sigprocmask(SIG_BLOCK, &m, &o); raise(SIGUSR1); T(ppoll(NULL, 0, NULL, &o)); P("got %d\n", got); raise(SIGUSR1); T(pselect(0, 0, 0, 0, NULL, &o)); P("got %d\n", got); raise(SIGUSR1); T(ppoll(NULL, 0, &z, &o)); P("got %d\n", got); struct pollfd rd = {q[0], POLLIN, 0}; T(ppoll(&rd, 1, NULL, &o)); P("got %d\n", got); sigprocmask(SIG_SETMASK, &o, 0); P("got %d\n", got);
	on(SIGALRM, h, SA_RESTART); struct itimerval it = {{0, 0}, {0, 50000}}; setitimer(ITIMER_REAL, &it, 0); T(poll(NULL, 0, 5000)); setitimer(ITIMER_REAL, &it, 0); T(select(0, 0, 0, 0, NULL)); struct timespec ts = {5, 0}; setitimer(ITIMER_REAL, &it, 0); T(ppoll(0, 0, &ts, 0));
	struct rlimit rl = {4, 100}; setrlimit(RLIMIT_NOFILE, &rl); struct pollfd many[5] = {{-1}, {-1}, {-1}, {-1}, {-1}}; T(poll(many, 5, 0)); T(poll(many, 4, 0));
}
