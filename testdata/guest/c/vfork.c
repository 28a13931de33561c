// vfork and CLONE_VM: shared memory, the parent's wait, exec.
#include "t.h"
static int shared; static char stk[65536]; static int fdn;
static int vm(void *a) { shared = 5; fdn = dup(1); chdir("/"); return 9; }
static int par(void *a) { return getppid() == *(int *)a; }
int main(int argc, char **argv) {
	if (argc > 1) return 23;
	volatile int x = 1; int st; pid_t p = vfork(); if (!p) { x = 2; _exit(3); } P("x %d\n", x); waitpid(p, &st, 0); P("%s\n", statstr(st));
	p = vfork(); if (!p) { x = 3; execl("/proc/self/exe", "x", "y", NULL); _exit(99); } P("x %d\n", x); waitpid(p, &st, 0); P("%s\n", statstr(st));
	p = vfork(); if (!p) { execl("/none", "x", NULL); x = errno; _exit(1); } P("%s\n", ename(x)); waitpid(p, &st, 0);
	long long t = now_ms(); p = vfork(); if (!p) { msleep(80); _exit(0); } P("held %d\n", now_ms() - t >= 80); wait(0);
	p = vfork(); if (!p) { kill(getpid(), SIGKILL); _exit(0); } waitpid(p, &st, 0); P("%s\n", statstr(st)); for (int i = 0; i < 30; i++) { p = vfork(); if (!p) { if (i & 1) execl("/proc/self/exe", "x", "y", NULL); _exit(i); } waitpid(p, &st, 0); } P("%s\n", statstr(st));
	char cwd[64]; p = clone(vm, stk + sizeof stk, CLONE_VM | SIGCHLD, 0); waitpid(p, &st, 0); P("%s shared %d fd %d cwd %d\n", statstr(st), shared, fcntl(fdn, F_GETFD), strcmp(getcwd(cwd, 64), "/") != 0); shared = 0; p = clone(vm, stk + sizeof stk, CLONE_FILES | CLONE_FS | SIGCHLD, 0); waitpid(p, &st, 0); P("%s shared %d fd %d cwd %s\n", statstr(st), shared, fcntl(fdn, F_GETFD), getcwd(cwd, 64));
	int pp = getppid(); p = fork(); if (!p) { int me = getppid(); pid_t k = clone(par, stk + sizeof stk, CLONE_PARENT | SIGCHLD, &me); P("waits for it: %s\n", waitpid(k, &st, 0) < 0 ? ename(errno) : "yes"); _exit(0); } int n = 0; while (wait(&st) > 0) n += 1 + WEXITSTATUS(st); P("%d\n", n);
}
