// exec from a thread that is not the leader, exit of the leader, exit_group from a thread.
#include "t.h"
static char self[256];
static void *ex(void *a) { char *av[] = {"x", "again", a, NULL}, *ev[] = {NULL}; execve(self, av, ev); P("exec failed\n"); return 0; }
static void *loop(void *a) { for (;;) msleep(1000); }
static void *spin(void *a) { for (volatile int i = 0;; i++); }
static void *late(void *a) { msleep(60); P("the last thread\n"); return 0; }
static void *group(void *a) { msleep(20); exit(42); }
static void *badexec(void *a) { char *av[] = {"x", NULL}; execve("/none", av, av); P("failed exec leaves all: %s\n", ename(errno)); return 0; }
static int leader_tid;
int main(int argc, char **argv) {
	char b[32];
	readlink("/proc/self/exe", self, 255);
	if (argc > 1) { sprintf(b, "%d", getpid()); P("pid same %d tid is pid %d\n", !strcmp(b, argv[2]), gettid() == getpid()); int n = 0; struct stat st; sprintf(b, "/proc/self/task"); stat(b, &st); P("tasks %ld\n", (long)st.st_nlink - 2); return 7; }
	pthread_t t; int st; pid_t c;
	for (int k = 0; k < 4; k++) { c = fork(); if (!c) { sprintf(b, "%d", getpid()); pthread_create(&t, 0, loop, 0); if (k & 2) pthread_create(&t, 0, spin, 0); pthread_create(&t, 0, ex, b); if (k & 1) for (;;); for (;;) pause(); } waitpid(c, &st, 0); P("%d: %s\n", k, statstr(st)); }
	c = fork(); if (!c) { sprintf(b, "%d", getpid()); pthread_create(&t, 0, ex, b); pthread_exit(0); } waitpid(c, &st, 0); P("leader gone: %s\n", statstr(st));
	c = fork(); if (!c) { pthread_create(&t, 0, late, 0); pthread_exit(0); } T(waitpid(c, &st, WNOHANG)); waitpid(c, &st, 0); P("%s\n", statstr(st));
	c = fork(); if (!c) { pthread_create(&t, 0, late, 0); syscall(SYS_exit, 9); } waitpid(c, &st, 0); P("%s\n", statstr(st));
	c = fork(); if (!c) { pthread_create(&t, 0, loop, 0); pthread_create(&t, 0, spin, 0); pthread_create(&t, 0, group, 0); for (;;) pause(); } waitpid(c, &st, 0); P("%s\n", statstr(st));
	c = fork(); if (!c) { pthread_create(&t, 0, spin, 0); pthread_create(&t, 0, loop, 0); for (;;) pause(); } msleep(30); kill(c, SIGTERM); waitpid(c, &st, 0); P("%s\n", statstr(st));
	c = fork(); if (!c) { pthread_create(&t, 0, badexec, 0); pthread_join(t, 0); _exit(4); } waitpid(c, &st, 0); P("%s\n", statstr(st));
	// A zombie leader still takes part.
	c = fork(); if (!c) { pthread_create(&t, 0, loop, 0); pthread_exit(0); } msleep(50); T(kill(c, 0)); T(waitpid(c, 0, WNOHANG)); kill(c, SIGSTOP); T(waitpid(c, &st, WUNTRACED) == c); P("%s\n", statstr(st)); kill(c, SIGCONT); kill(c, SIGINT); waitpid(c, &st, 0); P("%s\n", statstr(st));
	// A stopped multithreaded process.
	c = fork(); if (!c) { pthread_create(&t, 0, spin, 0); pthread_create(&t, 0, loop, 0); for (;;) pause(); } msleep(20); kill(c, SIGSTOP); T(waitpid(c, &st, WUNTRACED) == c); kill(c, SIGKILL); waitpid(c, &st, 0); P("%s\n", statstr(st));
}
