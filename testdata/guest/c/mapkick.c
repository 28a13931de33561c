// Files are mapped by three threads while signals come to them: no mapping fails, and each has what the file has.
#include "t.h"
#include <pthread.h>

static volatile pid_t tids[3];
static volatile int left = 3;
static void h(int s) {}

static void *map(void *p) {
	long i = (long)p;
	unsigned seed = i;
	char name[2] = {'a' + i}, b[20000];
	tids[i] = syscall(SYS_gettid);
	for (int n = 0; n < 150; n++) {
		int fd = MUST(open(name, O_RDWR | O_CREAT | O_TRUNC, 0600)), len = 1 + rand_r(&seed) % sizeof b;
		memset(b, n, len);
		if (write(fd, b, len) != len)
			P("write: %s\n", ename(errno));
		for (int shared = 0; shared < 2; shared++) {
			char *m = mmap(0, len, PROT_READ, shared ? MAP_SHARED : MAP_PRIVATE, fd, 0);
			if (m == MAP_FAILED)
				P("mmap, shared %d: %s\n", shared, ename(errno));
			else if (memcmp(m, b, len))
				P("shared %d: other bytes\n", shared);
			else
				MUST(munmap(m, len));
		}
		close(fd);
	}
	__sync_fetch_and_sub(&left, 1);
	pause();
	return 0;
}

int main(void) {
	on(SIGURG, h, SA_RESTART);
	pthread_t t;
	for (long i = 0; i < 3; i++)
		pthread_create(&t, 0, map, (void *)i);
	for (int i = 0; left > 0; i++) {
		if (tids[i % 3])
			syscall(SYS_tgkill, getpid(), tids[i % 3], SIGURG);
		usleep(100);
	}
	P("done\n");
	return 0;
}
