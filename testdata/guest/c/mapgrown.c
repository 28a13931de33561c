// Mappings of files that grow afterwards, and of files that are too large to be mapped at once: calls copy from them and to
// them, and threads touch them, at places that nobody has touched before.
#include "t.h"

enum { MB = 1 << 20, SIZE = 96 };

static char *map;
static pthread_barrier_t all;

static void *touch(void *p) {
	long sum = 0;
	for (int i = 65; i < SIZE; i++) {
		pthread_barrier_wait(&all);
		for (int k = 1; k < 5; k++)
			sum += ((volatile char *)map)[(long)i * MB + k * 65536];
	}
	return (void *)sum;
}

int main(void) {
	int fd = MUST(open("file", O_RDWR | O_CREAT, 0600)), p[2], s[2];
	char b[40000];
	memset(b, 'a', sizeof b);
	T(write(fd, b, 5000));
	for (int shared = 1; shared >= 0; shared--) {
		char *m = (char *)MUST(mmap(0, 64 * 4096, PROT_READ | PROT_WRITE, shared ? MAP_SHARED : MAP_PRIVATE, fd, 0));
		MUST(ftruncate(fd, 5000));
		T(write(fd, m + 8192, 1));
		MUST(ftruncate(fd, 30 * 4096));
		T(pread(fd, m + 5 * 4096, 100, 0));
		P("%.3s\n", m + 5 * 4096);
		T(pwrite(fd, m + 10 * 4096, 100, 0));
		T(pread(fd, m + 31 * 4096, 100, 0));
		MUST(ftruncate(fd, 60 * 4096));
		MUST(pipe(p));
		T(write(p[1], m + 40 * 4096, 100));
		T(read(p[0], m + 41 * 4096, 100));
		MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, s));
		T(send(s[0], m + 45 * 4096, 8192, 0));
		struct iovec v[2] = {{b, 10}, {m + 50 * 4096, 50}};
		T(writev(p[1], v, 2));
		T(fstat(fd, (struct stat *)(m + 55 * 4096)));
		OK(open(m + 58 * 4096, O_RDONLY));
		MUST(mprotect(m + 59 * 4096, 4096, PROT_READ));
		T(read(p[0], m + 59 * 4096, 10));
		T(write(p[1], m + 59 * 4096, 10));
		MUST(munmap(m, 64 * 4096));
		close(p[0]), close(p[1]), close(s[0]), close(s[1]);
	}
	MUST(ftruncate(fd, (off_t)SIZE * MB));
	for (int i = 65; i < SIZE; i++)
		MUST(pwrite(fd, "12345678", 8, (off_t)i * MB + 65536));
	map = (char *)MUST(mmap(0, (size_t)SIZE * MB, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
	int to = MUST(open("to", O_RDWR | O_CREAT, 0600));
	T(write(to, map + 70 * MB + 65536, 8));
	T(pread(to, map + 80 * MB, 8, 0));
	T(pread(fd, b, 8, 80 * MB));
	P("%.8s\n", b);
	pthread_t t[4];
	pthread_barrier_init(&all, 0, 4);
	for (int i = 0; i < 4; i++)
		pthread_create(t + i, 0, touch, 0);
	for (int i = 0; i < 4; i++) {
		void *sum;
		pthread_join(t[i], &sum);
		P("%ld\n", (long)sum);
	}
	// What is stored in a hole is data.
	map[90 * MB + 100] = 'x';
	off_t data = lseek(fd, 89 * MB + 70000, SEEK_DATA);
	P("data before the store: %d\n", data <= 90 * MB + 100);
	P("hole there: %d\n", lseek(fd, 90 * MB + 100, SEEK_HOLE) == 90 * MB + 100);
	unlink("file");
	unlink("to");
	return 0;
}
