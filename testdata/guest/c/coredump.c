// Core files: when there is one, its name, its notes and memory, for all threads.
// time: 30
#include "t.h"
#include <elf.h>
#include <sys/procfs.h>
#include <sys/prctl.h>

static char secret[] = "find me in the core file";
static int mark[] = {0x1234567, 7654321, 0x1a2b3c4d};

static void limit(long n) {
	struct rlimit r = {n, RLIM_INFINITY};
	setrlimit(RLIMIT_CORE, &r);
}
static void *sleeper(void *arg) {
	mark[1]++;
	for (;;)
		pause();
}
static void *spinner(void *arg) {
	for (;;)
		;
}
static void *waiter(void *arg) {
	static pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
	pthread_mutex_lock(&m);
	pthread_mutex_lock(&m);
	return NULL;
}

static void crash(const char *how) {
	pthread_t t;
	if (!strcmp(how, "threads")) {
		pthread_create(&t, NULL, sleeper, NULL);
		pthread_create(&t, NULL, spinner, NULL);
		pthread_create(&t, NULL, waiter, NULL);
		msleep(50);
		*(volatile int *)8 = 1;
	}
	if (!strcmp(how, "undumpable"))
		prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	if (!strcmp(how, "term"))
		raise(SIGTERM);
	if (!strcmp(how, "quit"))
		raise(SIGQUIT);
	abort();
}

// look tells what is in a core file.
static void look(const char *name, pid_t pid) {
	int fd = open(name, O_RDONLY);
	if (fd < 0) {
		P("no core file\n");
		return;
	}
	struct stat st;
	fstat(fd, &st);
	P("mode %o owner %d\n", st.st_mode, st.st_uid == geteuid());
	char *b = mmap(NULL, st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	close(fd);
	if (b == MAP_FAILED || st.st_size < 4096)
		return;
	Elf64_Ehdr *e = (void *)b;
	Elf64_Phdr *p = (void *)(b + e->e_phoff);
	P("type %d machine %d\n", e->e_type, e->e_machine);
	P("memory: %d %d\n", memmem(b, st.st_size, secret, sizeof secret) != NULL, memmem(b, st.st_size, mark, sizeof mark) != NULL);
	int threads = 0, fp = 0, xstate = 0;
	for (char *n = b + p[0].p_offset, *end = n + p[0].p_filesz; n < end;) {
		Elf64_Nhdr *h = (void *)n;
		char *d = n + 12 + ((h->n_namesz + 3) & ~3);
		switch (h->n_type) {
		case NT_PRSTATUS: {
			struct elf_prstatus *s = (void *)d;
			if (threads++ == 0)
				P("status: size %d, signal %d, pid %d, parent %d, fp %d, rip %d\n", h->n_descsz, s->pr_cursig, s->pr_pid == pid, s->pr_ppid == getpid(), s->pr_fpvalid, s->pr_reg[16] > 4096);
			break;
		}
		case NT_PRPSINFO: {
			struct elf_prpsinfo *s = (void *)d;
			P("info: size %d, pid %d, uid %d, name %s, args %s\n", h->n_descsz, s->pr_pid == pid, s->pr_uid == getuid(), s->pr_fname, strchr(s->pr_psargs, ' ') ?: "");
			break;
		}
		case NT_SIGINFO: {
			siginfo_t *s = (void *)d;
			P("siginfo: size %d, signal %d code %d\n", h->n_descsz, s->si_signo, s->si_code);
			break;
		}
		case NT_AUXV:
			P("auxv: first %ld\n", *(long *)d > 0);
			break;
		case NT_FILE:
			P("files: some %d\n", *(long *)d > 0);
			break;
		case NT_PRFPREG:
			fp++;
			break;
		case NT_X86_XSTATE:
			xstate++;
		}
		n = d + ((h->n_descsz + 3) & ~3);
	}
	P("threads %d, fp %d, xstate %d\n", threads, fp, xstate);
	munmap(b, st.st_size);
}

static void run(char *self, const char *how, long lim) {
	pid_t pid = fork();
	if (pid == 0) {
		limit(lim);
		execl(self, self, how, "more args", NULL);
	}
	int st;
	waitpid(pid, &st, 0);
	P("%s, limit %ld: %s\n", how, lim, statstr(st));
	char name[64];
	look("core", pid);
	unlink("core");
}

int main(int argc, char **argv) {
	if (argc > 1)
		crash(argv[1]);
	char dir[] = "/tmp/coreXXXXXX", self[256];
	self[MUST(readlink("/proc/self/exe", self, sizeof self - 1))] = 0;
	MUST(mkdtemp(dir) ? 0 : -1);
	MUST(chdir(dir));
	FILE *f = fopen("/proc/sys/kernel/core_pattern", "r");
	char pattern[128] = "";
	fgets(pattern, sizeof pattern, f);
	fclose(f);
	if (strcmp(pattern, "core\n"))
		P("core_pattern is %s", pattern);
	run(self, "abort", -1);
	run(self, "abort", 0);
	run(self, "abort", 1 << 12);
	run(self, "quit", -1);
	run(self, "term", -1);
	run(self, "undumpable", -1);
	run(self, "threads", -1);
	MUST(symlink("elsewhere", "core"));
	run(self, "abort", -1);
	struct stat st;
	T(stat("elsewhere", &st));
	put("core", "x");
	link("core", "second name");
	run(self, "abort", -1);
	stat("second name", &st);
	P("other file: size %ld\n", (long)st.st_size);
	unlink("second name");
	rmdir(dir);
	return 0;
}
