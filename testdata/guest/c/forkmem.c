// Forks that share memory are not counted once for each: together they would be larger than the guest.
// time: 30
#include "t.h"
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>

enum { SIZE = 100 << 20, N = 20 };

int main(void)
{
	pid_t pid[N];
	char *p = mmap(0, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memset(p, 1, SIZE);
	for (int i = 0; i < N; i++)
		if (!(pid[i] = fork())) {
			pause();
			_exit(1);
		}
	nanosleep(&(struct timespec){.tv_sec = 1, .tv_nsec = 500000000}, 0); /* the use of memory is looked at every second at least */
	int killed = 0;
	for (int i = 0; i < N; i++) {
		int status;
		if (waitpid(pid[i], &status, WNOHANG))
			killed++;
		kill(pid[i], SIGKILL);
	}
	while (wait(0) > 0)
		;
	printf("%d killed\n", killed);
}
