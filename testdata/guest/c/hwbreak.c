// Debug registers: a tracer sees writes to a variable and the execution of a function.
#include "t.h"
#include <stddef.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#define DR(n) offsetof(struct user, u_debugreg[n])
static volatile int var, other;
static void __attribute__((noinline)) fn(void) { other++; }
static long dr6(pid_t c) { errno = 0; return ptrace(PTRACE_PEEKUSER, c, DR(6), 0) & 15; }
static pid_t c;
static void next(const char *what) {
	int st; siginfo_t i = {0}; struct user_regs_struct r;
	T(waitpid(c, &st, 0) == c); P("%s: %s\n", what, statstr(st));
	if (!WIFSTOPPED(st)) return;
	ptrace(PTRACE_GETSIGINFO, c, 0, &i); ptrace(PTRACE_GETREGS, c, 0, &r);
	P("code %d dr6 %ld var %ld at fn %d\n", i.si_code, dr6(c), ptrace(PTRACE_PEEKDATA, c, &var, 0) & 0xffffffff, r.rip == (long)fn);
}
int main(void) {
	c = fork();
	if (!c) {
		ptrace(PTRACE_TRACEME, 0, 0, 0); raise(SIGSTOP);
		other = 1; var = 1; fn(); var = 2;
		pid_t g = fork(); if (!g) { var = 3; fn(); _exit(7); }
		int st; waitpid(g, &st, 0); var = WEXITSTATUS(st);
		raise(SIGSTOP);
		var = 8; fn(); _exit(0);
	}
	next("start");
	P("%ld %ld\n", ptrace(PTRACE_PEEKUSER, c, DR(0), 0), ptrace(PTRACE_PEEKUSER, c, DR(7), 0) & 0xff);
	T(ptrace(PTRACE_POKEUSER, c, DR(0), &var)); T(ptrace(PTRACE_POKEUSER, c, DR(1), fn));
	T(ptrace(PTRACE_POKEUSER, c, DR(7), 1 | 4 | 0xd0000)); /* DR0: writes of four bytes; DR1: execution */
	T(ptrace(PTRACE_POKEUSER, c, DR(2), 0xffffffff81000000)); T(ptrace(PTRACE_POKEUSER, c, DR(4), 1));
	P("%d\n", ptrace(PTRACE_PEEKUSER, c, DR(1), 0) == (long)fn);
	for (int k = 0; k < 4; k++) { ptrace(PTRACE_CONT, c, 0, 0); next("hit"); }
	ptrace(PTRACE_CONT, c, 0, 0); next("before the end"); T(ptrace(PTRACE_POKEUSER, c, DR(7), 0));
	ptrace(PTRACE_CONT, c, 0, 0); next("end");
}
