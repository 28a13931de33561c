// What a process has of memory, mapping by mapping, and what it has used so far.
#include "t.h"
#include <sys/resource.h>

// figure is a line of smaps for the mapping that begins at p, in KiB.
static long figure(void *p, const char *name) {
	FILE *f = fopen("/proc/self/smaps", "r");
	char line[512];
	int here = 0;
	long v = -1;
	while (fgets(line, sizeof line, f)) {
		unsigned long from, to;
		if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
			here = from == (unsigned long)p;
		else if (here && !strncmp(line, name, strlen(name)))
			v = atol(strchr(line, ':') + 1);
	}
	fclose(f);
	return v;
}

int main(void) {
	// Pages that nobody may touch keep the neighbours apart.
	char *p = mmap(NULL, 4 << 20, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) + 4096;
	mprotect(p, 1 << 20, PROT_READ | PROT_WRITE);
	madvise(p, 1 << 20, MADV_NOHUGEPAGE);
	P("untouched: Size %ld Rss %ld Anonymous %ld\n", figure(p, "Size:"), figure(p, "Rss:"), figure(p, "Anonymous:"));

	struct rusage before, after, thread;
	getrusage(RUSAGE_SELF, &before);
	for (int i = 0; i < 64; i++)
		p[i * 4096] = 1;
	for (int i = 0; i < 5; i++)
		msleep(2);
	getrusage(RUSAGE_SELF, &after);
	getrusage(RUSAGE_THREAD, &thread);
	P("touched: Rss %ld Pss %ld Private_Dirty %ld Anonymous %ld\n", figure(p, "Rss:"), figure(p, "Pss:"), figure(p, "Private_Dirty:"), figure(p, "Anonymous:"));
	P("faults %d switches %d\n", after.ru_minflt - before.ru_minflt >= 64, after.ru_nvcsw + after.ru_nivcsw - before.ru_nvcsw - before.ru_nivcsw >= 5);
	P("thread: faults %d switches %d memory %d\n", thread.ru_minflt >= 64, thread.ru_nvcsw + thread.ru_nivcsw >= 5, thread.ru_maxrss == after.ru_maxrss);

	long minflt = 0;
	FILE *f = fopen("/proc/self/stat", "r");
	fscanf(f, "%*d %*s %*c %*d %*d %*d %*d %*d %*u %ld", &minflt);
	P("stat: %d\n", minflt >= 64);

	FILE *t = tmpfile();
	ftruncate(fileno(t), 64 << 10);
	char *q = p + (2 << 20);
	mmap(q, 64 << 10, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, fileno(t), 0);
	for (int i = 0; i < 16; i++)
		q[i * 4096] = 1;
	P("file: Rss %ld Anonymous %ld\n", figure(q, "Rss:"), figure(q, "Anonymous:"));
	return 0;
}
