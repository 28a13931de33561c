// A server that fills memory and then forks workers shares it with them: together they use little more than it alone,
// and must not be killed for their sum, which is beyond the guest's memory.

#include "t.h"

#define SIZE (300UL << 20)
#define WORKERS 5

int main(void)
{
	char *p = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	pid_t pids[WORKERS];
	int fds[2], status;
	char c;

	T(p != MAP_FAILED);
	memset(p, 1, SIZE);
	T(pipe(fds));
	for (int i = 0; i < WORKERS; i++) {
		pids[i] = fork();
		if (pids[i] == 0) {
			close(fds[1]);
			memset(p + i * 4096, 2, 4096);
			read(fds[0], &c, 1); // until the end of the pipe
			_exit(p[i * 4096]);
		}
	}
	for (volatile long i = 0; i < 300000000; i++)
		; // long enough to be looked at
	close(fds[1]);
	for (int i = 0; i < WORKERS; i++) {
		waitpid(pids[i], &status, 0);
		P("worker %#x\n", status);
	}
	return 0;
}
