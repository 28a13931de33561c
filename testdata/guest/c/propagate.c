// Mount name spaces and shared subtrees (mount_namespaces(7)): peers, slaves, private and unbindable mounts.
// user: root
#include "t.h"
#include <sys/mount.h>
#include <sys/sysmacros.h>
static char base[256];
static char *at(const char *p) { static char b[8][400]; static int i; char *s = b[i++ % 8]; snprintf(s, 400, "%s/%s", base, p); return s; }
static int m(const char *src, const char *dst, unsigned long fl) { return mount(src ? at(src) : "none", at(dst), fl ? NULL : "tmpfs", fl, NULL) ? errno : 0; }
static const char *mn(const char *src, const char *dst, unsigned long fl) { int e = m(src, dst, fl); return e ? ename(e) : "ok"; }
static int um(const char *p, int fl) { return umount2(at(p), fl) ? errno : 0; }
static void touch(const char *p) { int fd = creat(at(p), 0600); if (fd >= 0) close(fd); }
static int has(const char *p) { return access(at(p), F_OK) == 0; }
static int n, seen[100];
// tags prints what mountinfo tells of a mount, with the group numbers in the order of their appearance.
static const char *tags(const char *p) {
	static char out[4][200]; static int k; char line[1000], *o = out[k++ % 4]; *o = 0;
	FILE *f = fopen("/proc/self/mountinfo", "r");
	while (fgets(line, sizeof line, f)) {
		char point[400], rest[600]; if (sscanf(line, "%*d %*d %*s %*s %399s %*s %599[^\n]", point, rest) != 2 || strcmp(point, at(p))) continue;
		*o = 0;
		for (char *w = strtok(rest, " "); w && strcmp(w, "-"); w = strtok(NULL, " ")) {
			char *c = strchr(w, ':'); int id = c ? atoi(c + 1) : 0, i = 0;
			if (!strncmp(w, "propagate_from", 14)) continue;
			if (c) { *c = 0; while (i < n && seen[i] != id) i++; if (i == n) seen[n++] = id; }
			sprintf(o + strlen(o), c ? "[%s %d]" : "[%s]", w, i);
		}
	}
	fclose(f);
	return *o ? o : "private";
}
// Arguments of a call have no order; of these macros the first comes first.
#define S2(f, a, b) ({ __auto_type a_ = a; __auto_type b_ = b; P(f, a_, b_); })
#define S3(f, a, b, c) ({ __auto_type a_ = a; __auto_type b_ = b; __auto_type c_ = c; P(f, a_, b_, c_); })
#define S4(f, a, b, c, d) ({ __auto_type a_ = a; __auto_type b_ = b; __auto_type c_ = c; __auto_type d_ = d; P(f, a_, b_, c_, d_); })
#define S5(f, a, b, c, d, e) ({ __auto_type a_ = a; __auto_type b_ = b; __auto_type c_ = c; __auto_type d_ = d; __auto_type e_ = e; P(f, a_, b_, c_, d_, e_); })
static int go[2], back[2];
static void step(int from, int to) { char c; if (to >= 0) write(to, "x", 1); if (from >= 0) read(from, &c, 1); }
int main(void) {
	getcwd(base, sizeof base); MUST(unshare(CLONE_NEWNS)); MUST(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL));
	mkdir("w", 0755); P("%s ", mn(0, "w", 0)); const char *dirs[] = {"w/a", "w/b", "w/c", "w/d", "w/e"}; for (int i = 0; i < 5; i++) mkdir(at(dirs[i]), 0755);
	// Peers by bind mounts.
	S3("%s %s %s\n", mn(0, "w/a", 0), mn(0, "w/a", MS_SHARED), mn("w/a", "w/b", MS_BIND)); mkdir(at("w/a/sub"), 0755); mkdir(at("w/a/s2"), 0755);
	S2("shared %s %s\n", tags("w/a"), tags("w/b")); P("mount %s", mn(0, "w/a/sub", 0)); touch("w/a/sub/f"); S3(" seen %d tags %s %s\n", has("w/b/sub/f"), tags("w/a/sub"), tags("w/b/sub"));
	S2("umount %d gone %d\n", um("w/b/sub", 0), !has("w/a/sub/f"));
	// Slaves get, but do not give.
	S2("slave %s %s", mn("w/a", "w/c", MS_BIND), mn(0, "w/c", MS_SLAVE)); S2(" %s %s\n", tags("w/a"), tags("w/c"));
	m(0, "w/a/sub", 0); touch("w/a/sub/f"); S2("down %d %s", has("w/c/sub/f"), tags("w/c/sub")); m(0, "w/c/s2", 0); touch("w/c/s2/f"); S2(" up %d %s\n", has("w/a/s2/f"), tags("w/c/s2"));
	S5("umount of a slave's %d kept %d, of the master's %d gone %d %d\n", um("w/c/sub", 0), has("w/a/sub/f"), um("w/a/sub", 0), !has("w/a/sub/f"), !has("w/b/sub/f")); um("w/c/s2", 0);
	// A slave that is shared hands on.
	P("both %s", mn(0, "w/c", MS_SHARED)); m("w/c", "w/d", MS_BIND); S2(" %s %s", tags("w/c"), tags("w/d")); m(0, "w/b/sub", 0); touch("w/b/sub/f"); S4(" down %d %d %s %s\n", has("w/c/sub/f"), has("w/d/sub/f"), tags("w/c/sub"), tags("w/d/sub"));
	S4("lazy %d gone %d %d %d\n", um("w/a/sub", MNT_DETACH), !has("w/b/sub/f"), !has("w/c/sub/f"), !has("w/d/sub/f"));
	// The last peer goes: its slaves hang on its master.
	S2("end %d %d", um("w/a", 0), um("w/b", 0)); P(" %s\n", tags("w/c"));
	S2("private %s %s\n", mn(0, "w/c", MS_PRIVATE), tags("w/c")); S2("slave of none %s %s\n", mn(0, "w/d", MS_SLAVE), tags("w/d")); um("w/c", 0); um("w/d", 0);
	// Unbindable mounts are left out of copies.
	m(0, "w/a", 0); mkdir(at("w/a/u"), 0755); mkdir(at("w/a/v"), 0755); m(0, "w/a/u", 0); m(0, "w/a/v", 0); touch("w/a/u/f"); touch("w/a/v/f"); S2("unbindable %s %s", mn(0, "w/a/u", MS_UNBINDABLE), tags("w/a/u"));
	P(" bind %s", mn("w/a/u", "w/b", MS_BIND)); S3(" rbind %s %d %d\n", mn("w/a", "w/b", MS_BIND | MS_REC), has("w/b/u/f"), has("w/b/v/f")); um("w/b", MNT_DETACH);
	// Moving: not from under a shared mount; to one it spreads.
	m(0, "w/c", 0); m(0, "w/c", MS_SHARED); m("w/c", "w/d", MS_BIND); mkdir(at("w/c/x"), 0755); P("move %s", mn("w/a/v", "w/c/x", MS_MOVE)); S3(" %d %d away %s", has("w/c/x/f"), has("w/d/x/f"), mn("w/c/x", "w/e", MS_MOVE)); P(" unbindable %s\n", mn("w/a/u", "w/c/x", MS_MOVE));
	S3("errors %s %s %s\n", mn(0, "w/c", MS_SHARED | MS_PRIVATE), mn(0, "w/c/x/nothing", MS_SHARED), mn(0, "w", MS_SHARED | MS_NOSUID)); mkdir(at("w/c/plain"), 0755); P("no mount %s\n", mn(0, "w/c/plain", MS_PRIVATE));
	// Busy where it came to, too.
	int fd = open(at("w/d/x"), O_RDONLY); P("busy %s", ename(um("w/c/x", 0))); close(fd); P(" free %d\n", um("w/c/x", 0));
	// Other name spaces: a peer, then a slave, made by clone and by unshare.
	pipe(go); pipe(back); pid_t p = syscall(SYS_clone, SIGCHLD | CLONE_NEWNS, 0, 0, 0, 0);
	if (!p) {
		n = 0; P("clone %s\n", tags("w/c")); m(0, "w/c/plain", 0); touch("w/c/plain/f"); step(go[0], back[1]); P("child sees %d", has("w/d/x/g")); S2(" slave %s %s", mn(0, "w", MS_REC | MS_SLAVE), tags("w/c")); um("w/c/x", 0);
		m(0, "w/c/plain", 0); touch("w/c/plain/h"); step(go[0], back[1]); P("child sees %d\n", has("w/c/x/i")); _exit(0);
	}
	step(back[0], -1); S2("parent sees %d %d\n", has("w/c/plain/f"), has("w/d/plain/f")); m(0, "w/c/x", 0); touch("w/c/x/g"); step(back[0], go[1]);
	S2(" parent sees %d %d\n", has("w/c/plain/h"), has("w/c/x/g")); um("w/c/x", 0); m(0, "w/c/x", 0); touch("w/c/x/i"); step(-1, go[1]); waitpid(p, 0, 0);
	p = fork(); if (!p) { setgid(65534); setuid(65534); errno = 0; P("nobody %d", unshare(CLONE_NEWNS)); P(" %s", ename(errno)); P(" %s\n", syscall(SYS_clone, SIGCHLD | CLONE_NEWNS, 0, 0, 0, 0) < 0 ? ename(errno) : "ok"); _exit(0); } waitpid(p, 0, 0);
	// A new root by pivot_root(".", "."), as service managers make it.
	um("w/c/x", MNT_DETACH); um("w/d/plain", MNT_DETACH); p = fork(); if (!p) {
		MUST(unshare(CLONE_NEWNS)); m("w/c", "w/e", MS_BIND | MS_REC); chdir(at("w/e")); P("pivot under shared "); P("%d", (int)syscall(SYS_pivot_root, ".", ".")); P(" %s", ename(errno)); mount("none", at("w/e"), NULL, MS_REC | MS_PRIVATE, NULL);
		P(" private %d", (int)syscall(SYS_pivot_root, ".", ".")); P(" umount %d", umount2(".", MNT_DETACH)); S2(" root %d %d\n", access("/plain", F_OK), access("/proc", F_OK)); _exit(0);
	}
	waitpid(p, 0, 0);
}
