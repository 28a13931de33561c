// seccomp(2): strict mode, filters, their actions and precedence, native calls, inheritance, threads, tracers.
#include "t.h"
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/user.h>

#define LOADNR BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr))
#define ARG(n) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[n]))
#define RET(v) BPF_STMT(BPF_RET | BPF_K, v)
#define ON(nr, v) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1), RET(v)

static long install(struct sock_filter *f, int n, int flags) {
	struct sock_fprog p = {n, f};
	return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &p);
}
#define INSTALL(flags, ...) ({ struct sock_filter f_[] = {__VA_ARGS__}; install(f_, sizeof f_ / sizeof *f_, flags); })
#define FILTER(...) INSTALL(0, LOADNR, __VA_ARGS__, RET(SECCOMP_RET_ALLOW))

static void nnp(void) { MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)); }
static void status(void) {
	char b[4096];
	int fd = open("/proc/thread-self/status", O_RDONLY);
	ssize_t n = read(fd, b, sizeof b - 1);
	close(fd);
	b[n < 0 ? 0 : n] = 0;
	for (char *l = strtok(b, "\n"); l; l = strtok(NULL, "\n"))
		if (!strncmp(l, "Seccomp", 7) || !strncmp(l, "NoNewPrivs", 10))
			P("%s\n", l);
}

static volatile int handled;
static void sigsys(int sig, siginfo_t *si, void *uc) {
	greg_t *g = ((ucontext_t *)uc)->uc_mcontext.gregs;
	P("SIGSYS code %d errno %d nr %d arch %x, rax %d, addr %d\n", si->si_code, si->si_errno, si->si_syscall, si->si_arch,
		(int)g[REG_RAX], (uintptr_t)si->si_call_addr == g[REG_RIP]);
	g[REG_RAX] = 1234;
	handled++;
}

static void *bad(void *arg) {
	syscall(SYS_getppid);
	P("not reached\n");
	return NULL;
}
static int go, synced, ready;
static void *spin(void *arg) {
	while (!__atomic_load_n(&go, __ATOMIC_SEQ_CST))
		sched_yield();
	synced = syscall(SYS_getppid) == -1 && errno == EDOM;
	status();
	return NULL;
}
static void *own(void *arg) {
	FILTER(ON(SYS_getuid, SECCOMP_RET_ERRNO));
	__atomic_store_n(&ready, 1, __ATOMIC_SEQ_CST);
	while (!__atomic_load_n(&go, __ATOMIC_SEQ_CST))
		sched_yield();
	return NULL;
}
static void usr1(int s) {}

int main(void) {
	pthread_t t;
	setvbuf(stdout, NULL, _IONBF, 0);
	CHILD("strict", prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT); write(1, "strict\n", 7); syscall(SYS_exit, 3));
	CHILD("strict kill", prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT); syscall(SYS_getpid); write(1, "no\n", 3));
	CHILD("strict native", prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT); sched_yield(); write(1, "no\n", 3));
	CHILD("strict by seccomp", T(syscall(SYS_seccomp, SECCOMP_SET_MODE_STRICT, 1, 0)); T(syscall(SYS_seccomp, SECCOMP_SET_MODE_STRICT, 0, 0)); syscall(SYS_exit, 4));
	CHILD("rights",
		if (getuid()) { T(FILTER(ON(SYS_getpid, SECCOMP_RET_ERRNO | EPERM))); } else P("FILTER(ON(SYS_getpid, SECCOMP_RET_ERRNO | EPERM)): EACCES\n");
		nnp(); T(FILTER(ON(SYS_getppid, SECCOMP_RET_ERRNO | EPERM))); T(syscall(SYS_getppid)); T(prctl(PR_GET_SECCOMP)); status();
		T(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT)));
	nnp();
	CHILD("errno", FILTER(ON(SYS_getppid, SECCOMP_RET_ERRNO), ON(SYS_getuid, SECCOMP_RET_ERRNO | 0xffff));
		T(syscall(SYS_getppid)); P("%ld %d\n", syscall(SYS_getuid), errno));
	CHILD("native", FILTER(ON(SYS_sched_yield, SECCOMP_RET_ERRNO | EXDEV), ON(SYS_futex, SECCOMP_RET_ERRNO | EDOM), ON(SYS_munmap, SECCOMP_RET_ERRNO | EBADE));
		T(sched_yield()); T(syscall(SYS_futex, &handled, 1, 1, 0, 0, 0)); T(syscall(SYS_munmap, 0x1000, 4096)); OK(mmap(0, 4096, 3, 0x22, -1, 0)); T(madvise(0, 0, 0)); T(getppid() > 0));
	CHILD("arguments", INSTALL(0, LOADNR, BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_dup, 0, 4), ARG(0), BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, 7, 0, 2),
			BPF_STMT(BPF_ALU | BPF_OR | BPF_K, SECCOMP_RET_ERRNO), BPF_STMT(BPF_RET | BPF_A, 0), RET(SECCOMP_RET_ALLOW));
		T(dup(9)); T(dup(13)); T(dup(-1)); T(dup(0) > 0));
	CHILD("precedence", FILTER(ON(SYS_getppid, SECCOMP_RET_ERRNO | 1)); FILTER(ON(SYS_getppid, SECCOMP_RET_ERRNO | 2)); T(syscall(SYS_getppid));
		FILTER(ON(SYS_getppid, SECCOMP_RET_LOG)); T(syscall(SYS_getppid)); FILTER(ON(SYS_getppid, SECCOMP_RET_TRACE | 3)); T(syscall(SYS_getppid)); status();
		FILTER(ON(SYS_getppid, SECCOMP_RET_TRAP)); FILTER(ON(SYS_getppid, SECCOMP_RET_ERRNO | 5)); syscall(SYS_getppid));
	CHILD("trace", FILTER(ON(SYS_getppid, SECCOMP_RET_TRACE)); T(syscall(SYS_getppid)));
	CHILD("kill process", FILTER(ON(SYS_getppid, SECCOMP_RET_KILL_PROCESS)); signal(SIGSYS, SIG_IGN); pthread_create(&t, 0, bad, 0); pthread_join(t, 0); P("no\n"));
	CHILD("kill thread", FILTER(ON(SYS_getppid, SECCOMP_RET_KILL_THREAD)); pthread_create(&t, 0, bad, 0); pthread_join(t, 0); P("on\n"));
	CHILD("kill only thread", onsi(SIGSYS, sigsys, 0); FILTER(ON(SYS_getppid, SECCOMP_RET_KILL_THREAD)); syscall(SYS_getppid); P("no\n"));
	CHILD("kill native", FILTER(ON(SYS_sched_yield, SECCOMP_RET_KILL_PROCESS)); sched_yield(); P("no\n"));
	CHILD("unknown action", FILTER(ON(SYS_getppid, 0x12340000)); syscall(SYS_getppid); P("no\n"));
	CHILD("trap", onsi(SIGSYS, sigsys, 0); FILTER(ON(SYS_getppid, SECCOMP_RET_TRAP | 77), ON(SYS_sched_yield, SECCOMP_RET_TRAP | 78));
		T(syscall(SYS_getppid)); T(syscall(SYS_sched_yield)); T(handled));
	CHILD("trap blocked", onsi(SIGSYS, sigsys, 0); sigset_t s; sigfillset(&s); sigprocmask(SIG_SETMASK, &s, 0); FILTER(ON(SYS_getppid, SECCOMP_RET_TRAP)); syscall(SYS_getppid); P("no\n"));
	CHILD("inherited", FILTER(ON(SYS_getppid, SECCOMP_RET_ERRNO | EDOM), ON(SYS_sched_yield, SECCOMP_RET_ERRNO | EXDEV));
		CHILD("fork", T(syscall(SYS_getppid)); T(sched_yield()));
		if (vfork() == 0) _exit(syscall(SYS_getppid) == -1); int st; wait(&st); P("vfork %s\n", statstr(st));
		execl("/proc/self/exe", "seccomp", "x", NULL));
	CHILD("ip", uint32_t lo = 0; INSTALL(0, BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 8), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, lo, 0, 1), RET(SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 12), BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 0x8000, 0, 1), RET(SECCOMP_RET_KILL_PROCESS), RET(SECCOMP_RET_ALLOW)); T(getppid() > 0));
	CHILD("tsync", pthread_create(&t, 0, spin, 0); msleep(10);
		T(INSTALL(SECCOMP_FILTER_FLAG_TSYNC, LOADNR, ON(SYS_getppid, SECCOMP_RET_ERRNO | EDOM), RET(SECCOMP_RET_ALLOW))); go = 1; pthread_join(t, 0); T(synced));
	CHILD("tsync refused", pthread_create(&t, 0, own, 0); while (!__atomic_load_n(&ready, __ATOMIC_SEQ_CST)) msleep(1);
		P("%d\n", INSTALL(SECCOMP_FILTER_FLAG_TSYNC, RET(SECCOMP_RET_ALLOW)) > 1); T(INSTALL(SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_TSYNC_ESRCH, RET(SECCOMP_RET_ALLOW))); go = 1; pthread_join(t, 0));
	CHILD("signals", on(SIGUSR1, usr1, 0); FILTER(ON(SYS_getuid, SECCOMP_RET_ERRNO | EXDEV), ON(SYS_futex, SECCOMP_RET_ERRNO | EDOM)); pid_t me = getpid();
		if (fork() == 0) { for (int i = 0; i < 200; i++) kill(me, SIGUSR1); _exit(0); }
		int wrong = 0; for (int i = 0; i < 3000; i++) { wrong += sched_yield() != 0; wrong += syscall(SYS_futex, &go, 1, 1, 0, 0, 0) != -1 || errno != EDOM; } T(wrong); while (wait(0) < 0 && errno == EINTR););

	uint32_t act[] = {SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_KILL_THREAD, SECCOMP_RET_TRAP, SECCOMP_RET_ERRNO, SECCOMP_RET_TRACE, SECCOMP_RET_LOG, SECCOMP_RET_ALLOW, 0x12340000};
	for (int i = 0; i < 8; i++)
		L("action", syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, act + i));
	T(syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 1, act));
	T(syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, NULL));
	struct seccomp_notif_sizes z = {0};
	T(syscall(SYS_seccomp, SECCOMP_GET_NOTIF_SIZES, 0, &z));
	P("%d %d %d\n", z.seccomp_notif, z.seccomp_notif_resp, z.seccomp_data);
	T(syscall(SYS_seccomp, 99, 0, NULL));
	T(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, NULL));
	T(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0x1000, &z));
	T(prctl(PR_SET_SECCOMP, 3, 0));
	T(install((void *)16, 3, 0));
	T(install((void *)16, 0, 0));
	T(install((void *)16, 4097, 0));
	T(INSTALL(0, LOADNR));
	T(INSTALL(0, BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 64), RET(0)));
	T(INSTALL(0, BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 2), RET(0)));
	T(INSTALL(0, BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 4), RET(0)));
	T(INSTALL(0, BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 4, 1, 0), RET(0)));
	T(INSTALL(0, BPF_JUMP(BPF_JMP | BPF_JA, 1, 0, 0), RET(0)));
	T(INSTALL(0, BPF_STMT(BPF_ALU | BPF_DIV | BPF_K, 0), RET(0)));
	T(INSTALL(0, BPF_STMT(BPF_ALU | BPF_MOD | BPF_K, 3), RET(0)));
	T(INSTALL(0, BPF_STMT(BPF_ALU | BPF_LSH | BPF_K, 32), RET(0)));
	T(INSTALL(0, BPF_STMT(BPF_LD | BPF_MEM, 3), RET(0)));
	T(INSTALL(0, BPF_STMT(BPF_ST, 16), RET(0)));
	T(INSTALL(0, BPF_STMT(BPF_ST, 3), BPF_STMT(BPF_LDX | BPF_MEM, 3), BPF_STMT(BPF_MISC | BPF_TXA, 0), BPF_STMT(BPF_ALU | BPF_NEG, 0), BPF_STMT(BPF_LD | BPF_LEN, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 64, 1, 0), RET(SECCOMP_RET_KILL), RET(SECCOMP_RET_ALLOW)));
	T(getppid() > 0);

	// A tracer decides.
	pid_t c = fork();
	if (c == 0) {
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		raise(SIGSTOP);
		FILTER(ON(SYS_getppid, SECCOMP_RET_TRACE | 7), ON(SYS_sched_yield, SECCOMP_RET_TRACE | 8), ON(SYS_getuid, SECCOMP_RET_TRACE | 9));
		T(syscall(SYS_getppid) > 0);
		T(syscall(SYS_sched_yield));
		T(syscall(SYS_getuid));
		_exit(5);
	}
	int st;
	waitpid(c, &st, 0);
	P("%s\n", statstr(st));
	T(ptrace(PTRACE_SETOPTIONS, c, 0, PTRACE_O_TRACESECCOMP));
	ptrace(PTRACE_CONT, c, 0, 0);
	while (waitpid(c, &st, 0) == c && WIFSTOPPED(st)) {
		unsigned long msg = 0;
		struct user_regs_struct r;
		struct __ptrace_syscall_info in;
		ptrace(PTRACE_GETEVENTMSG, c, 0, &msg);
		ptrace(PTRACE_GETREGS, c, 0, &r);
		long n = ptrace(PTRACE_GET_SYSCALL_INFO, c, sizeof in, &in);
		P("stop %x message %lu call %lld rax %lld, info %ld op %d data %d\n", st >> 8, msg, r.orig_rax, r.rax, n, in.op, in.seccomp.ret_data);
		if (msg == 9) {
			r.orig_rax = -1;
			r.rax = 4711;
			ptrace(PTRACE_SETREGS, c, 0, &r);
		}
		ptrace(PTRACE_CONT, c, 0, 0);
	}
	P("%s\n", statstr(st));
	return 0;
}
__attribute__((constructor)) static void again(int argc, char **argv) {
	if (argc == 2) {
		T(syscall(SYS_getppid));
		T(sched_yield());
		status();
		_exit(0);
	}
}
