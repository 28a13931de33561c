// epoll: level, edge, one shot, exclusive, nesting, errors.
#include "t.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>
static struct epoll_event ev[16];
static void w(const char *n, int ep) { int r = epoll_wait(ep, ev, 16, 0); P("%s: %d", n, r); for (int i = 0; i < r; i++) P(" %x/%d", ev[i].events, (int)ev[i].data.u64); P("\n"); }
static int add(int ep, int fd, uint32_t e, int d) { struct epoll_event x = {.events = e, .data.u64 = d}; return epoll_ctl(ep, EPOLL_CTL_ADD, fd, &x); }
static int mod(int ep, int fd, uint32_t e, int d) { struct epoll_event x = {.events = e, .data.u64 = d}; return epoll_ctl(ep, EPOLL_CTL_MOD, fd, &x); }
static void *later(void *a) { msleep(50); eventfd_write((long)a, 1); return 0; }
static void *rd(void *a) { struct epoll_event e; int r = epoll_wait((long)a, &e, 1, 3000); return (void *)(long)r; }
static void h(int s) {}
int main(void) {
	int ep = epoll_create1(EPOLL_CLOEXEC), p[2]; pipe(p); char b[10];
	T(epoll_create(0)); T(epoll_create(-1)); T(epoll_create1(99)); T(fcntl(ep, F_GETFD));
	T(add(ep, p[0], EPOLLIN, 1)); T(add(ep, p[0], EPOLLIN, 1)); T(add(ep, 99, EPOLLIN, 1)); T(add(99, p[0], EPOLLIN, 1)); T(add(p[0], p[1], EPOLLIN, 1)); T(add(ep, ep, EPOLLIN, 1)); int f = open("f", O_CREAT | O_RDWR, 0600); T(add(ep, f, EPOLLIN, 1)); T(add(ep, open(".", O_RDONLY), EPOLLIN, 1)); T(add(ep, open("/dev/null", O_RDWR), EPOLLIN, 1)); T(mod(ep, p[1], 0, 0)); T(epoll_ctl(ep, EPOLL_CTL_DEL, p[1], 0)); T(epoll_ctl(ep, 9, p[0], ev)); T(epoll_ctl(ep, EPOLL_CTL_ADD, p[1], (void *)1)); T(epoll_ctl(ep, EPOLL_CTL_MOD, p[0], NULL));
	T(epoll_wait(ep, ev, 0, 0)); T(epoll_wait(ep, ev, -1, 0)); T(epoll_wait(p[0], ev, 1, 0)); T(epoll_wait(99, ev, 1, 0)); T(epoll_wait(ep, (void *)1, 1, 0)); T(epoll_wait(ep, ev, INT_MAX, 0));
	w("empty", ep); write(p[1], "x", 1); w("level", ep); w("level again", ep); T(epoll_wait(ep, (void *)1, 1, 0)); mod(ep, p[0], EPOLLIN | EPOLLET, 2); w("edge after mod", ep); w("edge again", ep); write(p[1], "y", 1); w("edge after write", ep); w("edge again", ep); read(p[0], b, 1); w("edge after partial read", ep);
	mod(ep, p[0], EPOLLIN | EPOLLONESHOT, 3); w("oneshot", ep); w("oneshot again", ep); write(p[1], "z", 1); w("oneshot after write", ep); mod(ep, p[0], EPOLLIN | EPOLLONESHOT, 4); w("rearmed", ep);
	T(add(ep, p[1], EPOLLOUT | EPOLLET, 5)); w("out", ep); w("out again", ep); close(p[1]); mod(ep, p[0], EPOLLIN, 6); w("hup", ep); read(p[0], b, 10); w("hup empty", ep); mod(ep, p[0], 0, 7); w("hup always", ep); close(p[0]); w("closed", ep);
	int e = eventfd(0, EFD_NONBLOCK); T(add(ep, e, EPOLLIN | EPOLLOUT, 8)); w("ev", ep); eventfd_write(e, 1); w("ev1", ep); int d = dup(e); close(e); w("dup keeps", ep); T(epoll_ctl(ep, EPOLL_CTL_DEL, e, 0)); close(d); w("gone", ep);
	int e2 = eventfd(0, 0), ep2 = epoll_create1(0); T(add(ep2, e2, EPOLLIN, 9)); T(add(ep, ep2, EPOLLIN, 10)); w("nested idle", ep); eventfd_write(e2, 1); w("nested", ep); w("inner", ep2); T(add(ep2, ep, EPOLLIN, 1)); eventfd_t v; eventfd_read(e2, &v); w("nested drained", ep);
	struct pollfd pf = {ep2, POLLIN, 0}; T(poll(&pf, 1, 0)); eventfd_write(e2, 1); T(poll(&pf, 1, 0)); P("%x\n", pf.revents); eventfd_read(e2, &v);
	T(mod(ep2, e2, EPOLLIN | EPOLLEXCLUSIVE, 9)); epoll_ctl(ep2, EPOLL_CTL_DEL, e2, 0); T(add(ep2, e2, EPOLLIN | EPOLLEXCLUSIVE | EPOLLONESHOT, 9)); T(add(ep2, e2, EPOLLIN | EPOLLEXCLUSIVE, 9)); T(mod(ep2, e2, EPOLLIN, 9)); T(add(ep, epoll_create1(0), EPOLLIN | EPOLLEXCLUSIVE, 1));
	pthread_t t; pthread_create(&t, 0, later, (void *)(long)e2); T(epoll_wait(ep2, ev, 1, 3000)); pthread_join(t, 0); eventfd_read(e2, &v);
	long long t0 = now_ms(); T(epoll_wait(ep2, ev, 1, 60)); P("waited %d\n", now_ms() - t0 >= 60); struct timespec ts = {0, 1000}; T(syscall(SYS_epoll_pwait2, ep2, ev, 1, &ts, 0, 8)); ts.tv_nsec = -1; T(syscall(SYS_epoll_pwait2, ep2, ev, 1, &ts, 0, 8)); T(syscall(SYS_epoll_pwait, ep2, ev, 1, 0, ev, 3));
	on(SIGALRM, h, SA_RESTART); struct itimerval it = {{0, 0}, {0, 50000}}; setitimer(ITIMER_REAL, &it, 0); T(epoll_wait(ep2, ev, 1, -1));
	sigset_t m, o; sigemptyset(&m); sigaddset(&m, SIGALRM); sigprocmask(SIG_BLOCK, &m, &o); raise(SIGALRM); T(epoll_pwait(ep2, ev, 1, -1, &o)); T(epoll_wait(ep2, ev, 1, 20));
	// Many ready: round robin.
	int ep3 = epoll_create1(0), a[4]; for (int i = 0; i < 4; i++) { a[i] = eventfd(1, 0); add(ep3, a[i], EPOLLIN, i); } for (int i = 0; i < 3; i++) { int r = epoll_wait(ep3, ev, 2, 0); P("%d: %d %d\n", r, (int)ev[0].data.u64, (int)ev[1].data.u64); }
	// Two threads on one edge: only one gets it.
	int e3 = eventfd(0, 0), ep4 = epoll_create1(0); add(ep4, e3, EPOLLIN | EPOLLET, 1); pthread_t t1, t2; pthread_create(&t1, 0, rd, (void *)(long)ep4); pthread_create(&t2, 0, rd, (void *)(long)ep4); msleep(150); eventfd_write(e3, 1); msleep(150); eventfd_write(e3, 1); void *r1, *r2; pthread_join(t1, &r1); pthread_join(t2, &r2); P("%ld\n", (long)r1 + (long)r2);
	T(read(ep, b, 1)); T(write(ep, b, 1)); T(lseek(ep, 0, 0)); struct stat st; fstat(ep, &st); P("%o\n", st.st_mode & S_IFMT);
	// Loops and depth.
	int c[7]; for (int i = 0; i < 7; i++) c[i] = epoll_create1(0); for (int i = 0; i < 6; i++) L("chain", add(c[i], c[i + 1], EPOLLIN, 0)); L("loop", add(c[3], c[0], EPOLLIN, 0));
}
