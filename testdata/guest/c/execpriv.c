// What a program does not gain at execve: under a tracer, with a shared root directory (CLONE_FS); and file capabilities.
// user: root
#include "t.h"
#include <grp.h>
#include <linux/capability.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/xattr.h>

static void copy(const char *to, int mode) {
	char b[65536];
	int i = MUST(open("/proc/self/exe", O_RDONLY)), o = MUST(open(to, O_CREAT | O_WRONLY | O_TRUNC, 0700)), n;
	while ((n = read(i, b, sizeof b)) > 0)
		MUST(write(o, b, n));
	close(o);
	close(i);
	MUST(chmod(to, mode));
}

static void show(void) {
	uid_t r, e, s;
	gid_t a, b, c;
	getresuid(&r, &e, &s);
	getresgid(&a, &b, &c);
	char prm[40] = "?", eff[40] = "?", line[256];
	FILE *f = fopen("/proc/self/status", "r");
	while (f && fgets(line, sizeof line, f)) {
		sscanf(line, "CapPrm: %39s", prm);
		sscanf(line, "CapEff: %39s", eff);
	}
	// Root's set depends on how many capabilities there are.
	int all = strtoull(prm, 0, 16) > 1ULL << 35;
	P("uid %d %d %d gid %d %d %d secure %ld prm %s eff %s dumpable %d\n", r, e, s, a, b, c, getauxval(AT_SECURE), all ? "all" : prm,
		strtoull(eff, 0, 16) > 1ULL << 35 ? "all" : eff, prctl(PR_GET_DUMPABLE));
}

static char *av[] = {"x", "show", 0}, *ev[] = {0};
static void become(int u) { MUST(setgroups(0, 0)); if (u) { MUST(setresgid(u, u, u)); MUST(setresuid(u, u, u)); } }
static void run(const char *path) { execve(path, av, ev); P("%s\n", ename(errno)); _exit(0); }

static void traced(const char *label, const char *path, int tracer, int tracee) {
	P("%s: ", label);
	pid_t p = fork();
	if (!p) {
		become(tracer);
		pid_t c = fork();
		if (!c) {
			if (tracee != tracer)
				become(tracee);
			ptrace(PTRACE_TRACEME, 0, 0, 0);
			run(path);
		}
		int st;
		while (waitpid(c, &st, 0) == c && WIFSTOPPED(st))
			ptrace(PTRACE_CONT, c, 0, WSTOPSIG(st) == SIGTRAP ? 0 : WSTOPSIG(st));
		_exit(0);
	}
	waitpid(p, 0, 0);
}

static void sharing(const char *label, const char *path, int flags) {
	P("%s: ", label);
	pid_t p = fork();
	if (!p) {
		become(1000);
		pid_t c = syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0);
		if (!c)
			run(path);
		waitpid(c, 0, 0);
		_exit(0);
	}
	waitpid(p, 0, 0);
}

static void plain(const char *label, const char *path, int u, int drop, int nnp) {
	P("%s: ", label);
	pid_t p = fork();
	if (!p) {
		if (drop >= 0)
			MUST(prctl(PR_CAPBSET_DROP, drop, 0, 0, 0));
		become(u);
		if (nnp)
			prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
		run(path);
	}
	waitpid(p, 0, 0);
}

static long setcap(const char *path, uint32_t magic, size_t size, uint32_t prm, uint32_t inh, uint32_t root) {
	uint32_t v[7] = {magic, prm, inh, 0, 0, root};
	return setxattr(path, "security.capability", v, size, 0);
}

int main(int argc, char **argv) {
	if (argc > 1) {
		show();
		return 0;
	}
	chmod(".", 0755);
	copy("suid", 04755);
	copy("sgid", 02755);
	copy("plain", 0755);
	traced("suid traced by another", "./suid", 1000, 1000);
	traced("sgid traced by another", "./sgid", 1000, 1000);
	traced("suid traced by root", "./suid", 0, 1000);
	sharing("suid", "./suid", 0);
	sharing("suid with CLONE_FS", "./suid", CLONE_FS);
	sharing("suid with CLONE_FILES", "./suid", CLONE_FILES);

	uint32_t raw = 1 << CAP_NET_RAW, admin = 1 << CAP_NET_ADMIN, eff = VFS_CAP_FLAGS_EFFECTIVE;
	T(setcap("plain", VFS_CAP_REVISION_2, 12, raw, 0, 0));
	T(setcap("plain", VFS_CAP_REVISION_1, 12, raw, 0, 0));
	T(setcap("plain", 0x09000000, 20, raw, 0, 0));
	T(setcap("plain", VFS_CAP_REVISION_2 | eff, 20, raw, 0, 0));
	plain("cap=ep", "./plain", 1000, -1, 0);
	plain("cap=ep as root", "./plain", 0, -1, 0);
	plain("cap=ep, not in the bounding set", "./plain", 1000, CAP_NET_RAW, 0);
	plain("cap=ep, no_new_privs", "./plain", 1000, -1, 1);
	traced("cap=ep traced", "./plain", 1000, 1000);
	sharing("cap=ep with CLONE_FS", "./plain", CLONE_FS);
	T(setcap("plain", VFS_CAP_REVISION_2, 20, raw | admin, 0, 0));
	plain("caps=p", "./plain", 1000, -1, 0);
	plain("caps=p, one not in the bounding set", "./plain", 1000, CAP_NET_RAW, 0);
	T(setcap("plain", VFS_CAP_REVISION_2 | eff, 20, 0, raw, 0));
	plain("cap=ei", "./plain", 1000, -1, 0);
	T(setcap("plain", VFS_CAP_REVISION_3 | eff, 24, raw, 0, 1000));
	plain("for another name space", "./plain", 1000, -1, 0);
	T(setcap("suid", VFS_CAP_REVISION_2 | eff, 20, raw, 0, 0));
	plain("suid and cap=ep", "./suid", 1000, -1, 0);
	plain("suid and cap=ep as root", "./suid", 0, -1, 0);
	// A write takes them away.
	T(setcap("plain", VFS_CAP_REVISION_2 | eff, 20, raw, 0, 0));
	int fd = MUST(open("plain", O_WRONLY));
	char b[64];
	T(getxattr("plain", "security.capability", b, sizeof b));
	MUST(pwrite(fd, "\x7f", 1, 0));
	close(fd);
	T(getxattr("plain", "security.capability", b, sizeof b));
	T(setcap("plain", VFS_CAP_REVISION_2 | eff, 20, raw, 0, 0));
	T(truncate("plain", 0));
	T(getxattr("plain", "security.capability", b, sizeof b));
	T(setcap("plain", VFS_CAP_REVISION_2 | eff, 20, raw, 0, 0));
	T(chown("plain", 0, 0));
	T(getxattr("plain", "security.capability", b, sizeof b));
	pid_t c = fork();
	if (!c) {
		become(1000);
		T(setcap("plain", VFS_CAP_REVISION_2, 20, raw, 0, 0));
		_exit(0);
	}
	waitpid(c, 0, 0);
}
