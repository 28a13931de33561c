// ubench: small, self-calibrating microbenchmarks of the operating system under it.
// Each line: NAME VALUE UNIT. Static build: gcc -O2 -static -pthread -o ubench ubench.c
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e9 + t.tv_nsec;
}
static double budget = 0.4e9; // nanoseconds a benchmark may take
static const char *dir = "/tmp";
static char self[256];

typedef void (*op)(long n);
static const char *filter;

static int wanted(const char *name) { return !filter || strstr(name, filter); }

static void run(const char *name, const char *unit, double scale, op f) {
	if (!wanted(name)) return;
	f(1); // what happens only once does not count
	long n = 1;
	double best = 0, t;
	for (;;) {
		t = now(); f(n); t = now() - t;
		if (t > budget / 8 || n > 100000000) break;
		n = t < budget / 800 ? n * 10 : (long)(n * (budget / 6) / (t + 1)) + 1;
	}
	best = t / n;
	for (int i = 0; i < 2; i++) {
		t = now(); f(n); t = (now() - t) / n;
		if (t < best) best = t;
	}
	printf("%-24s %12.3f %s\n", name, best / scale, unit);
	fflush(stdout);
}
static void rate(const char *name, double bytes_per_op, op f) {
	if (!wanted(name)) return;
	f(1); // what happens only once does not count
	long n = 1;
	double best, t;
	for (;;) {
		t = now(); f(n); t = now() - t;
		if (t > budget / 8 || n > 1000000) break;
		n = t < budget / 800 ? n * 10 : (long)(n * (budget / 6) / (t + 1)) + 1;
	}
	best = t / n;
	for (int i = 0; i < 2; i++) {
		t = now(); f(n); t = (now() - t) / n;
		if (t < best) best = t;
	}
	printf("%-24s %12.3f MB/s\n", name, bytes_per_op / best * 1e9 / 1e6);
	fflush(stdout);
}

static void die(const char *s) { perror(s); exit(1); }

static int zerofd, nullfd, filefd;
static char buf[1 << 20];
static char path[512];

static void b_getppid(long n) { while (n--) syscall(SYS_getppid); }
static void b_clock(long n) { struct timespec t; while (n--) clock_gettime(CLOCK_REALTIME, &t); }
static void b_read1(long n) { while (n--) if (read(zerofd, buf, 1) != 1) die("read"); }
static void b_write1(long n) { while (n--) if (write(nullfd, buf, 1) != 1) die("write"); }
static void b_stat(long n) { struct stat s; while (n--) if (stat(path, &s)) die("stat"); }
static void b_fstat(long n) { struct stat s; while (n--) fstat(filefd, &s); }
static void b_open(long n) { while (n--) { int f = open(path, O_RDONLY); if (f < 0) die("open"); close(f); } }
static void b_pread4k(long n) { while (n--) if (pread(filefd, buf, 4096, 0) != 4096) die("pread"); }
static void b_pwrite4k(long n) { while (n--) if (pwrite(filefd, buf, 4096, 0) != 4096) die("pwrite"); }
static volatile int got;
static void onsig(int s) { got++; }
static void b_siginst(long n) { struct sigaction sa = {.sa_handler = onsig}; while (n--) sigaction(SIGUSR1, &sa, 0); }
static void b_sigself(long n) { signal(SIGUSR1, onsig); int p = getpid(); while (n--) kill(p, SIGUSR1); }
static void b_sigmask(long n) { sigset_t s; sigemptyset(&s); while (n--) sigprocmask(SIG_BLOCK, &s, 0); }
static void b_segv_setup(int s, siginfo_t *si, void *u) {
	mprotect((void *)((unsigned long)si->si_addr & ~4095ul), 4096, PROT_READ | PROT_WRITE);
}
static void b_segv(long n) {
	struct sigaction sa = {.sa_sigaction = b_segv_setup, .sa_flags = SA_SIGINFO};
	sigaction(SIGSEGV, &sa, 0);
	char *p = mmap(0, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	while (n--) { *(volatile char *)p = 1; mprotect(p, 4096, PROT_NONE); }
	munmap(p, 4096);
	signal(SIGSEGV, SIG_DFL);
}

static void b_fork(long n) { while (n--) { int p = fork(); if (p < 0) die("fork"); if (!p) _exit(0); waitpid(p, 0, 0); } }
static void b_forkexec(long n) {
	while (n--) {
		int p = fork();
		if (p < 0) die("fork");
		if (!p) { execl(self, "ubench", "--exit", (char *)0); _exit(1); }
		int st; waitpid(p, &st, 0); if (st) { fprintf(stderr, "exec failed %x\n", st); exit(1); }
	}
}
static void b_vforkexec(long n) {
	while (n--) {
		int p = vfork();
		if (p < 0) die("vfork");
		if (!p) { execl(self, "ubench", "--exit", (char *)0); _exit(1); }
		int st; waitpid(p, &st, 0);
	}
}
static void b_shell(long n) { while (n--) if (system("/bin/true")) die("system"); }
static char *dirty; static size_t dirtysz;
static void b_forkdirty(long n) {
	if (!dirty) { dirtysz = 16 << 20; dirty = mmap(0, dirtysz, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); memset(dirty, 1, dirtysz); }
	while (n--) {
		int p = fork();
		if (!p) { for (size_t i = 0; i < dirtysz / 4; i += 4096) dirty[i] = 2; _exit(0); }
		waitpid(p, 0, 0);
	}
}
static void *nothing(void *a) { return 0; }
static void b_thread(long n) { while (n--) { pthread_t t; if (pthread_create(&t, 0, nothing, 0)) die("pthread"); pthread_join(t, 0); } }

static void b_mmap(long n) { while (n--) { void *p = mmap(0, 65536, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); munmap(p, 65536); } }
static void b_fault(long n) { // one op = one page
	while (n > 0) {
		long k = n > 4096 ? 4096 : n;
		char *p = mmap(0, k * 4096, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		madvise(p, k * 4096, MADV_NOHUGEPAGE);
		for (long i = 0; i < k; i++) p[i * 4096] = 1;
		munmap(p, k * 4096);
		n -= k;
	}
}
static void b_filefault(long n) { // file-backed read faults over 1 MiB
	volatile char c; (void)c;
	while (n > 0) {
		long k = n > 256 ? 256 : n;
		char *p = mmap(0, k * 4096, PROT_READ, MAP_PRIVATE, filefd, 0);
		if (p == MAP_FAILED) die("mmap");
		for (long i = 0; i < k; i++) c = p[i * 4096];
		munmap(p, k * 4096);
		n -= k;
	}
}

static void pingpong(int a_r, int a_w, int b_r, int b_w, long n) {
	int p = fork();
	if (!p) { char c; for (long i = 0; i < n; i++) { if (read(b_r, &c, 1) != 1) _exit(1); if (write(b_w, &c, 1) != 1) _exit(1); } _exit(0); }
	char c = 0;
	for (long i = 0; i < n; i++) { if (write(a_w, &c, 1) != 1) die("pp write"); if (read(a_r, &c, 1) != 1) die("pp read"); }
	waitpid(p, 0, 0);
}
static void b_pipe(long n) { int x[2], y[2]; if (pipe(x) || pipe(y)) die("pipe"); pingpong(y[0], x[1], x[0], y[1], n); close(x[0]); close(x[1]); close(y[0]); close(y[1]); }
static void b_unix(long n) { int s[2]; if (socketpair(AF_UNIX, SOCK_STREAM, 0, s)) die("socketpair"); pingpong(s[0], s[0], s[1], s[1], n); close(s[0]); close(s[1]); }
static int tcp_pair(int *a, int *b) {
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t l = sizeof sa;
	int ls = socket(AF_INET, SOCK_STREAM, 0), one = 1;
	if (ls < 0 || bind(ls, (void *)&sa, sizeof sa) || listen(ls, 1) || getsockname(ls, (void *)&sa, &l)) return -1;
	*a = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(*a, (void *)&sa, sizeof sa)) return -1;
	*b = accept(ls, 0, 0);
	close(ls);
	setsockopt(*a, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	setsockopt(*b, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	return *b < 0 ? -1 : 0;
}
static int have_tcp(void) { int a, b; if (tcp_pair(&a, &b)) return 0; close(a); close(b); return 1; }
static void b_tcp(long n) { int a, b; if (tcp_pair(&a, &b)) die("tcp"); pingpong(a, a, b, b, n); close(a); close(b); }
static void stream(int r, int w, long n, size_t chunk) {
	int p = fork();
	if (!p) { close(r); for (long i = 0; i < n; i++) { size_t o = 0; while (o < chunk) { ssize_t k = write(w, buf + o, chunk - o); if (k <= 0) _exit(1); o += k; } } _exit(0); }
	close(w);
	size_t tot = 0; ssize_t k;
	while ((k = read(r, buf, chunk)) > 0) tot += k;
	waitpid(p, 0, 0);
	if (tot != (size_t)n * chunk) { fprintf(stderr, "stream short %zu\n", tot); exit(1); }
}
static void b_pipebw(long n) { int x[2]; if (pipe(x)) die("pipe"); stream(x[0], x[1], n, 65536); close(x[0]); }
static void b_tcpbw(long n) { int a, b; if (tcp_pair(&a, &b)) die("tcp"); stream(a, b, n, 65536); close(a); }
static void b_unixbw(long n) { int s[2]; if (socketpair(AF_UNIX, SOCK_STREAM, 0, s)) die("sp"); stream(s[0], s[1], n, 65536); close(s[0]); }

static int fut[2];
static void *futpeer(void *a) {
	long n = (long)a;
	for (long i = 0; i < n; i++) {
		while (__atomic_load_n(&fut[0], __ATOMIC_ACQUIRE) == 0) syscall(SYS_futex, &fut[0], FUTEX_WAIT_PRIVATE, 0, 0, 0, 0);
		__atomic_store_n(&fut[0], 0, __ATOMIC_RELEASE);
		__atomic_store_n(&fut[1], 1, __ATOMIC_RELEASE);
		syscall(SYS_futex, &fut[1], FUTEX_WAKE_PRIVATE, 1, 0, 0, 0);
	}
	return 0;
}
static void b_futex(long n) {
	pthread_t t; fut[0] = fut[1] = 0;
	pthread_create(&t, 0, futpeer, (void *)n);
	for (long i = 0; i < n; i++) {
		__atomic_store_n(&fut[0], 1, __ATOMIC_RELEASE);
		syscall(SYS_futex, &fut[0], FUTEX_WAKE_PRIVATE, 1, 0, 0, 0);
		while (__atomic_load_n(&fut[1], __ATOMIC_ACQUIRE) == 0) syscall(SYS_futex, &fut[1], FUTEX_WAIT_PRIVATE, 0, 0, 0, 0);
		__atomic_store_n(&fut[1], 0, __ATOMIC_RELEASE);
	}
	pthread_join(t, 0);
}
static void b_epoll(long n) {
	int e = epoll_create1(0), x[2]; if (pipe(x)) die("pipe");
	struct epoll_event ev = {.events = EPOLLIN}; epoll_ctl(e, EPOLL_CTL_ADD, x[0], &ev);
	if (write(x[1], "x", 1) != 1) die("w");
	while (n--) if (epoll_wait(e, &ev, 1, -1) != 1) die("epoll");
	close(e); close(x[0]); close(x[1]);
}
static void b_create(long n) {
	char p[600];
	for (long i = 0; i < n; i++) { snprintf(p, sizeof p, "%s/ub.%ld", dir, i % 1000); int f = open(p, O_CREAT | O_WRONLY, 0644); if (f < 0) die("create"); if (write(f, buf, 1024) != 1024) die("write"); close(f); unlink(p); }
}
static void b_fsync(long n) { while (n--) { if (pwrite(filefd, buf, 4096, 0) != 4096) die("w"); fsync(filefd); } }
static void b_readbw(long n) { while (n--) if (pread(filefd, buf, 1 << 20, 0) != 1 << 20) die("pread"); }
static void b_writebw(long n) { static long off; while (n--) { if (pwrite(filefd, buf, 1 << 20, off) != 1 << 20) die("pwrite"); off = (off + (1 << 20)) & ((64 << 20) - 1); } }
static void b_memcpy(long n) { static char *a, *b; if (!a) { a = malloc(8 << 20); b = malloc(8 << 20); memset(a, 1, 8 << 20); memset(b, 1, 8 << 20); } while (n--) memcpy(a, b, 8 << 20); }
static void b_cpu(long n) { volatile unsigned x = 1; while (n--) for (int i = 0; i < 1000; i++) x = x * 1664525 + 1013904223; }

static void *spin(void *a) { b_cpu((long)a); return 0; }
static void b_smp(long n) { pthread_t t; pthread_create(&t, 0, spin, (void *)n); b_cpu(n); pthread_join(t, 0); }

int main(int argc, char **argv) {
	if (argc > 1 && !strcmp(argv[1], "--exit")) return 0;
	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "-d") && i + 1 < argc) dir = argv[++i];
		else if (!strcmp(argv[i], "-t") && i + 1 < argc) budget = atof(argv[++i]) * 1e9;
		else filter = argv[i];
	}
	if (readlink("/proc/self/exe", self, sizeof self - 1) < 0) strcpy(self, argv[0]);
	snprintf(path, sizeof path, "%s/ubench.dat", dir);
	zerofd = open("/dev/zero", O_RDONLY); nullfd = open("/dev/null", O_WRONLY);
	filefd = open(path, O_CREAT | O_RDWR | O_TRUNC, 0644);
	if (zerofd < 0 || nullfd < 0 || filefd < 0) die("setup");
	for (int i = 0; i < 4; i++) if (write(filefd, buf, sizeof buf) != sizeof buf) die("fill");
	run("getppid", "us", 1e3, b_getppid);
	run("clock_gettime", "us", 1e3, b_clock);
	run("read_zero_1", "us", 1e3, b_read1);
	run("write_null_1", "us", 1e3, b_write1);
	run("stat", "us", 1e3, b_stat);
	run("fstat", "us", 1e3, b_fstat);
	run("open_close", "us", 1e3, b_open);
	run("pread_4k", "us", 1e3, b_pread4k);
	run("pwrite_4k", "us", 1e3, b_pwrite4k);
	run("sigaction", "us", 1e3, b_siginst);
	run("sigprocmask", "us", 1e3, b_sigmask);
	run("signal_self", "us", 1e3, b_sigself);
	run("segv_handler", "us", 1e3, b_segv);
	run("mmap_munmap", "us", 1e3, b_mmap);
	run("anon_page_fault", "us", 1e3, b_fault);
	run("file_page_fault", "us", 1e3, b_filefault);
	run("fork_exit_wait", "us", 1e3, b_fork);
	run("fork_dirty16M", "us", 1e3, b_forkdirty);
	run("fork_exec_wait", "us", 1e3, b_forkexec);
	run("vfork_exec_wait", "us", 1e3, b_vforkexec);
	run("system_sh_true", "us", 1e3, b_shell);
	run("pthread_create_join", "us", 1e3, b_thread);
	run("futex_pingpong", "us", 1e3, b_futex);
	run("pipe_pingpong", "us", 1e3, b_pipe);
	run("unix_pingpong", "us", 1e3, b_unix);
	int tcp = have_tcp();
	if (tcp) run("tcp_pingpong", "us", 1e3, b_tcp);
	run("epoll_wait_ready", "us", 1e3, b_epoll);
	rate("pipe_bw", 65536, b_pipebw);
	rate("unix_bw", 65536, b_unixbw);
	if (tcp) rate("tcp_bw", 65536, b_tcpbw);
	run("create_write_unlink", "us", 1e3, b_create);
	run("pwrite_fsync", "us", 1e3, b_fsync);
	rate("file_read_bw", 1 << 20, b_readbw);
	rate("file_write_bw", 1 << 20, b_writebw);
	rate("memcpy_bw", 8 << 20, b_memcpy);
	run("cpu_1000_ops", "us", 1e3, b_cpu);
	run("smp_2x_cpu_1000_ops", "us", 1e3, b_smp);
	unlink(path);
	return 0;
}
