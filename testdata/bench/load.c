// load: how the kernel under it does beside other threads and processes. Each line: NAME VALUE UNIT.
// Static build: gcc -O2 -static -pthread -o load load.c
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double budget = 0.2; // seconds a measurement takes

static double now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec * 1e-9;
}

static void die(const char *s) { perror(s); exit(1); }

// getppid_us returns the time of one getppid: the best third of the budget.
static double getppid_us(void) {
	double best = 1e9;
	for (int i = 0; i < 3; i++) {
		long n = 0;
		double start = now(), t;
		do {
			for (int k = 0; k < 20; k++) syscall(SYS_getppid);
			n += 20;
			t = now() - start;
		} while (t < budget / 3);
		if (t / n < best) best = t / n;
	}
	return best * 1e6;
}

static int gate[2];

static void *sleeper(void *a) {
	char c;
	if (read(gate[0], &c, 1) < 0) die("read");
	return 0;
}

static void sleepers(int n) {
	double alone = getppid_us();
	pthread_t *t = calloc(n, sizeof *t);
	pthread_attr_t attr;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 65536);
	if (pipe(gate)) die("pipe");
	for (int i = 0; i < n; i++)
		if (pthread_create(&t[i], &attr, sleeper, 0)) die("pthread_create");
	usleep(300000);
	double beside = getppid_us();
	close(gate[1]);
	for (int i = 0; i < n; i++) pthread_join(t[i], 0);
	printf("getppid_1000_sleepers %.3f us\nsleepers_slowdown %.3f x\n", beside, beside / alone);
	fflush(stdout);
}

// looper maps a file for ever: each mmap of a file is a call that a tracer has to carry out.
static void looper(int fd) {
	for (;;) {
		void *p = mmap(0, 4096, PROT_READ, MAP_PRIVATE, fd, 0);
		if (p == MAP_FAILED) die("mmap");
		munmap(p, 4096);
	}
}

static void loopers(int n, const char *file) {
	int fd = open(file, O_RDONLY);
	if (fd < 0) die(file);
	pid_t *p = calloc(n, sizeof *p);
	for (int i = 0; i < n; i++) {
		p[i] = fork();
		if (p[i] < 0) die("fork");
		if (!p[i]) looper(fd);
	}
	usleep(100000);
	printf("getppid_8_loopers %.3f us\n", getppid_us());
	fflush(stdout);
	for (int i = 0; i < n; i++) kill(p[i], SIGKILL);
	while (wait(0) > 0) {}
}

static void shell(int n) {
	char script[200];
	snprintf(script, sizeof script, "i=0; while [ $i -lt %d ]; do /bin/true; i=$((i+1)); done", n);
	double start = now();
	pid_t p = fork();
	if (p < 0) die("fork");
	if (!p) { execl("/bin/busybox", "sh", "-c", script, (char *)0); _exit(127); }
	int st;
	if (waitpid(p, &st, 0) != p || st) die("busybox sh");
	printf("sh_100_true %.3f ms\n", (now() - start) * 1e3);
	fflush(stdout);
}

int main(int argc, char **argv) {
	if (argc > 1) budget = atof(argv[1]);
	sleepers(1000);
	loopers(8, argv[0]);
	shell(100);
	return 0;
}
