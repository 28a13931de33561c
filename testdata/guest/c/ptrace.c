// What becomes of a tracee, and of the signal that it was shown, when its tracer lets it go.
#include "t.h"
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/user.h>

static int *shared;

static void count(int sig) { __atomic_add_fetch(&shared[sig == SIGUSR1 ? 1 : 2], 1, __ATOMIC_SEQ_CST); }

// busy is a child that counts signals and runs until it is told to end.
static pid_t busy(void) {
	memset(shared, 0, 4096);
	pid_t p = MUST(fork());
	if (p)
		return p;
	signal(SIGUSR1, count);
	signal(SIGUSR2, count);
	shared[3] = 1;
	while (!__atomic_load_n(&shared[0], __ATOMIC_SEQ_CST))
		sched_yield();
	_exit(5);
}

static void await(volatile int *p, int n) {
	while (*p != n)
		sched_yield();
}

static void stop(pid_t p, const char *what) {
	int st = 0;
	MUST(waitpid(p, &st, __WALL));
	P("%s: stopped %d by %d\n", what, WIFSTOPPED(st), WSTOPSIG(st));
}

static void end(pid_t p, const char *what) {
	int st = 0;
	shared[0] = 1;
	MUST(waitpid(p, &st, 0));
	P("%s: exited %d status %d signals %d %d\n", what, WIFEXITED(st), WEXITSTATUS(st), shared[1], shared[2]);
}

static pid_t attached(const char *what) {
	pid_t p = busy();
	await(&shared[3], 1);
	MUST(ptrace(PTRACE_ATTACH, p, 0, 0));
	stop(p, what);
	return p;
}

static char stack[1 << 16];
static pid_t target;

// thread traces its own parent's memory from a process that shares it, as leak checkers do.
static int thread(void *arg) {
	struct user_regs_struct r;
	OK(ptrace(PTRACE_ATTACH, target, 0, 0));
	stop(target, "clone");
	OK(ptrace(PTRACE_GETREGS, target, 0, &r));
	OK(ptrace(PTRACE_DETACH, target, 0, 0));
	return 0;
}

int main(void) {
	shared = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	pid_t p = attached("detach");
	T(ptrace(PTRACE_DETACH, p, 0, 0));
	T(ptrace(PTRACE_DETACH, p, 0, 0));
	end(p, "detach");

	p = attached("detach with SIGUSR1");
	T(ptrace(PTRACE_DETACH, p, 0, SIGUSR1));
	await(&shared[1], 1);
	end(p, "detach with SIGUSR1");

	p = attached("signal replaced");
	T(ptrace(PTRACE_CONT, p, 0, 0));
	kill(p, SIGUSR1);
	stop(p, "signal replaced");
	T(ptrace(PTRACE_DETACH, p, 0, SIGUSR2));
	await(&shared[2], 1);
	end(p, "signal replaced");

	p = attached("signal passed on");
	T(ptrace(PTRACE_CONT, p, 0, 0));
	kill(p, SIGUSR1);
	stop(p, "signal passed on");
	T(ptrace(PTRACE_DETACH, p, 0, SIGUSR1));
	await(&shared[1], 1);
	end(p, "signal passed on");

	p = attached("signal dropped");
	T(ptrace(PTRACE_CONT, p, 0, 0));
	kill(p, SIGUSR1);
	stop(p, "signal dropped");
	T(ptrace(PTRACE_DETACH, p, 0, 0));
	end(p, "signal dropped");

	p = attached("killed by the tracer");
	T(ptrace(PTRACE_DETACH, p, 0, SIGKILL));
	int st;
	MUST(waitpid(p, &st, 0));
	P("signaled %d by %d\n", WIFSIGNALED(st), WTERMSIG(st));

	// The signal that a tracer has been told of ends with it.
	p = busy();
	await(&shared[3], 1);
	pid_t q = MUST(fork());
	if (!q) {
		MUST(ptrace(PTRACE_ATTACH, p, 0, 0));
		MUST(waitpid(p, &st, __WALL));
		MUST(ptrace(PTRACE_CONT, p, 0, 0));
		kill(p, SIGUSR1);
		MUST(waitpid(p, &st, __WALL));
		_exit(0);
	}
	MUST(waitpid(q, &st, 0));
	end(p, "tracer gone");

	target = getpid();
	q = MUST(clone(thread, stack + sizeof stack, CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_UNTRACED, 0));
	prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
	MUST(waitpid(q, &st, __WALL));
	P("tracer of its parent: %d\n", st);
	return 0;
}
