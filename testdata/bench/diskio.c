// Reads and writes of a file by pread and pwrite, as fio's engine psync makes them: in order by 128 KiB, and at random by
// 4 KiB. It prints a line "name value MB/s" for each.
//
//	diskio file seconds
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SIZE (64 << 20)
static char buf[128 << 10];
static int fd;

static double now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec * 1e-9;
}

static void die(const char *what) {
	perror(what);
	exit(1);
}

// pass goes over the file once: in order, or to as many places at random.
static long pass(int out, int random, long block) {
	static uint64_t x = 88172645463325252;
	long calls = random ? SIZE / block / 8 : SIZE / block;
	for (long i = 0; i < calls; i++) {
		x ^= x << 13, x ^= x >> 7, x ^= x << 17;
		off_t at = random ? x % (SIZE / block) * block : i * block;
		if ((out ? pwrite(fd, buf, block, at) : pread(fd, buf, block, at)) != block)
			die(out ? "pwrite" : "pread");
	}
	return calls * block;
}

static void row(const char *name, int out, int random, long block, double seconds) {
	double start = now(), end;
	long done = 0;
	do
		done += pass(out, random, block);
	while ((end = now()) - start < seconds);
	printf("%-28s %.3f MB/s\n", name, done / (end - start) / 1e6);
	fflush(stdout);
}

int main(int argc, char **argv) {
	if (argc < 3 || (fd = open(argv[1], O_RDWR | O_CREAT | O_TRUNC, 0644)) < 0)
		die("diskio file seconds");
	double seconds = atof(argv[2]);
	memset(buf, 'd', sizeof buf);
	pass(1, 0, sizeof buf);
	fsync(fd);
	row("seq_read_128k", 0, 0, 128 << 10, seconds);
	row("seq_write_128k", 1, 0, 128 << 10, seconds);
	row("rand_read_4k", 0, 1, 4 << 10, seconds);
	row("rand_write_4k", 1, 1, 4 << 10, seconds);
	unlink(argv[1]);
	return 0;
}
