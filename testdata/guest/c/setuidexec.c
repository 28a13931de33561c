// Set-user-ID and set-group-ID programs, no_new_privs, AT_SECURE, capabilities at exec.
// user: root
#include "t.h"
#include <grp.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
static void run(const char *l, const char *path, int u, int nnp) { pid_t c = fork(); if (!c) { setgroups(0, 0); if (u) { setgid(u); setuid(u); } if (nnp) prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); char *av[] = {"x", "show", 0}, *ev[] = {0}; P("%s ", l); execve(path, av, ev); P("%s\n", ename(errno)); _exit(0); } waitpid(c, 0, 0); }
static int copy(const char *to, int mode, int u, int g) { char b[65536]; int i = open("/proc/self/exe", O_RDONLY), o = open(to, O_CREAT | O_WRONLY | O_TRUNC, 0700), n; while ((n = read(i, b, sizeof b)) > 0) write(o, b, n); close(o); close(i); chown(to, u, g); return chmod(to, mode); }
int main(int argc, char **argv) {
	if (argc > 1) { uid_t r, e, s; gid_t a, b, c; getresuid(&r, &e, &s); getresgid(&a, &b, &c); char l[4096] = ""; FILE *f = fopen("/proc/self/status", "r"); char line[256], eff[40] = "?"; while (f && fgets(line, 256, f)) sscanf(line, "CapEff: %39s", eff); P("uid %d %d %d gid %d %d %d secure %ld caps %d dumpable %d\n", r, e, s, a, b, c, getauxval(AT_SECURE), strtoull(eff, 0, 16) != 0, prctl(PR_GET_DUMPABLE)); return 0; }
	chmod(".", 0755); T(copy("plain", 0755, 0, 0)); copy("suid", 04755, 0, 0); copy("suid1000", 04755, 1000, 0); copy("sgid", 02755, 0, 50); copy("sgidnox", 02744, 0, 50); copy("both", 06755, 1000, 50); copy("private", 0700, 0, 0); copy("nox", 0644, 0, 0); copy("xonly", 0711, 0, 0);
	for (int u = 0; u <= 2000; u += 1000) { const char *n[] = {"plain", "suid", "suid1000", "sgid", "sgidnox", "both", "private", "nox", "xonly"}; for (int i = 0; i < 9; i++) { char l[64], p[64]; sprintf(l, "%s as %d:", n[i], u); sprintf(p, "./%s", n[i]); run(l, p, u, 0); sprintf(l, "%s as %d nnp:", n[i], u); run(l, p, u, 1); } }
	FILE *f = fopen("script", "w"); char cwd[300]; fprintf(f, "#!%s/plain show\n", getcwd(cwd, 300)); fclose(f); chown("script", 0, 0); chmod("script", 04755); run("suid script:", "./script", 1000, 0);
	CHILD("seteuid and exec", setresuid(1000, 0, 1000); char *av[] = {"x", "show", 0}; execv("./plain", av)); CHILD("keepcaps does not outlive exec", prctl(PR_SET_KEEPCAPS, 1); setuid(1000); char *av[] = {"x", "show", 0}; execv("./plain", av));
	for (int u = 0; u <= 1000; u += 1000) for (int seize = 0; seize < 2; seize++) {
		P("traced by %d:\n", u);
		CHILD("setuid", if (u) { setgid(u); setuid(u); } prctl(PR_SET_DUMPABLE, 1); int st, p[2]; char b; pipe(p); pid_t c = fork();
			if (!c) { if (seize) read(p[0], &b, 1); else ptrace(PTRACE_TRACEME, 0, 0, 0); char *av[] = {"x", "show", 0}; execv("./suid", av); _exit(9); }
			if (seize) { T(ptrace(PTRACE_SEIZE, c, 0, 0)); write(p[1], "x", 1); }
			while (waitpid(c, &st, 0) == c && WIFSTOPPED(st)) ptrace(PTRACE_CONT, c, 0, 0); P("%s\n", statstr(st)));
	}
}
