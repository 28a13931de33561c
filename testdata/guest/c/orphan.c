// Orphans, subreapers, parent death signals, process groups of dead leaders.
#include "t.h"
#include <sys/prctl.h>
int main(void) {
	int p[2], st, v; pipe(p); char b[32];
	T(prctl(PR_SET_CHILD_SUBREAPER, 1)); T(prctl(PR_GET_CHILD_SUBREAPER, &v)); P("%d\n", v);
	pid_t me = getpid(), c = fork();
	if (!c) { pid_t g = fork(); if (!g) { while (getppid() != me) msleep(1); _exit(17); } write(p[1], &g, sizeof g); T(prctl(PR_GET_CHILD_SUBREAPER, &v)); P("child's %d\n", v); _exit(3); }
	pid_t g; read(p[0], &g, sizeof g); T(waitpid(c, &st, 0) == c); P("%s\n", statstr(st)); T(waitpid(g, &st, 0) == g); P("%s\n", statstr(st));
	// Two generations at once.
	c = fork(); if (!c) { for (int i = 0; i < 3; i++) { if (!fork()) { if (!fork()) { msleep(50); _exit(20 + i); } msleep(20); _exit(10 + i); } } _exit(1); }
	int n = 0, sum = 0; while (wait(&st) > 0) n++, sum += WEXITSTATUS(st); P("%d %d\n", n, sum);
	// The nearest subreaper wins.
	c = fork(); if (!c) { prctl(PR_SET_CHILD_SUBREAPER, 1); pid_t m = getpid(); if (!fork()) { if (!fork()) { while (getppid() != m) msleep(1); _exit(44); } _exit(1); } int k = 0; while (wait(&st) > 0) k += WEXITSTATUS(st); _exit(k); } T(waitpid(c, &st, 0) == c); P("%s\n", statstr(st));
	// Parent death signal: thrown by the parent's end, cleared by fork.
	c = fork(); if (!c) { pid_t k = fork(); if (!k) { prctl(PR_SET_PDEATHSIG, SIGUSR1); prctl(PR_GET_PDEATHSIG, &v); P("pdeathsig %d\n", v); sigset_t s; sigemptyset(&s); sigaddset(&s, SIGUSR1); sigprocmask(SIG_BLOCK, &s, 0); write(p[1], "x", 1); siginfo_t i; T(sigwaitinfo(&s, &i)); P("code %d\n", i.si_code); if (!fork()) { prctl(PR_GET_PDEATHSIG, &v); P("after fork %d\n", v); _exit(0); } wait(0); _exit(0); } read(p[0], b, 1); _exit(0); }
	while (wait(&st) > 0); T(prctl(PR_SET_PDEATHSIG, 65)); T(prctl(PR_SET_PDEATHSIG, -1));
	// A group lives without its leader.
	c = fork(); if (!c) { setpgid(0, 0); if (!fork()) { read(p[0], b, 1); _exit(5); } _exit(1); } T(waitpid(c, &st, 0) == c); T(kill(-c, 0)); T(kill(c, 0)); T(setpgid(0, c)); T(getpgrp() == c); T(waitpid(-c, 0, WNOHANG)); write(p[1], "x", 1); wait(&st); P("%s\n", statstr(st));
	// Orphaned to init: not ours any more.
	prctl(PR_SET_CHILD_SUBREAPER, 0); c = fork(); if (!c) { if (!fork()) { msleep(30); _exit(0); } _exit(0); } T(waitpid(c, 0, 0) == c); T(wait(0));
}
