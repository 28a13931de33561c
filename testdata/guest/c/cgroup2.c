// The cgroup2 file system: groups, moving, limits, news, freezing, killing, delegation, being born in a group.
// user: root
// expect: mount 0 type 63677270
// expect: controllers pids / control:
// expect: mkdir 0 0 again EEXIST
// expect: /proc 0::/a
// expect: procs only me 1 threads 1 type domain
// expect: rmdir EBUSY busy EBUSY
// expect: watch 1 poll a then 0 then a
// expect: born 0::/a/b
// expect: born in no group EBADF EBADF
// expect: populated 1 frozen 0
// expect: zombie 0::/a/b populated 0 frozen 0
// expect: removed 0::/a/b (deleted) rmdir 0
// expect: open file ENODEV
// expect: pids.max max current 2
// expect: fork EAGAIN max 1
// expect: pids.max EINVAL EINVAL
// expect: frozen stopped 1 thawed 1
// expect: killed while frozen signal 9
// expect: kill signal 9 signal 9
// expect: errors ERANGE EINVAL ERANGE EINVAL ENOENT EINVAL ESRCH EOPNOTSUPP EPERM
// expect: xattr 5 hello
// expect: delegated 0 0 0 outside EACCES up EACCES
// expect: cpu 1
#include "t.h"
#include <linux/sched.h>
#include <sys/inotify.h>
#include <sys/mount.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#define PATH(f) ({ static __thread char p_[200]; snprintf(p_, sizeof p_, "cg/%s", f); p_; })
static const char *set(const char *f, const char *s) { int fd = open(PATH(f), O_WRONLY); if (fd < 0) return ename(errno); int r = write(fd, s, strlen(s)), e = errno; close(fd); return r < 0 ? ename(e) : "0"; }
static const char *get(const char *path) { static char b[4][512]; static int i; char *p = b[i++ % 4]; int fd = open(path, O_RDONLY); if (fd < 0) return ename(errno); int n = read(fd, p, 511); close(fd); if (n < 0) return ename(errno); p[n] = 0; for (char *q = p; *q; q++) if (*q == '\n') *q = q[1] ? ' ' : 0; return p; }
static const char *getf(const char *f) { return get(PATH(f)); }
static pid_t into(int fd) { struct clone_args a = {.flags = CLONE_INTO_CGROUP, .exit_signal = SIGCHLD, .cgroup = fd}; return syscall(SYS_clone3, &a, sizeof a); }
static void waitfor(const char *f, const char *want) { for (int i = 0; i < 5000 && strcmp(getf(f), want); i++) msleep(1); }
static const char *num(long n) { static char b[32]; snprintf(b, sizeof b, "%ld", n); return b; }
static int running; static volatile int *shared;
int main(void) {
	struct statfs fs; int st, fd; char path[64];
	mkdir("cg", 0755); int r = mount("none", "cg", "cgroup2", 0, "nsdelegate,memory_recursiveprot"); statfs("cg", &fs); P("mount %d type %lx\n", r, (long)fs.f_type);
	P("controllers %s / control:%s\n", getf("cgroup.controllers"), getf("cgroup.subtree_control")); set("cgroup.subtree_control", "+pids");
	r = mkdir("cg/a", 0755); int r2 = mkdir("cg/a/b", 0755); P("mkdir %d %d again %s\n", r, r2, mkdir("cg/a", 0755) ? ename(errno) : "0");
	set("a/cgroup.procs", "0"); P("/proc %s\n", get("/proc/self/cgroup"));
	P("procs only me %d threads %d type %s\n", atoi(getf("a/cgroup.procs")) == getpid(), atoi(getf("a/cgroup.threads")) == getpid(), getf("a/cgroup.type"));
	int e1 = rmdir("cg/a") ? errno : 0; set("cgroup.procs", "0"); P("rmdir %s busy %s\n", ename(e1), rmdir("cg/a") ? ename(errno) : "0");
	// News of cgroup.events: by inotify, and by poll until it has been read.
	int in = inotify_init1(IN_NONBLOCK); inotify_add_watch(in, "cg/a/b/cgroup.events", IN_MODIFY); char buf[512];
	int ev = open("cg/a/b/cgroup.events", O_RDONLY); read(ev, buf, sizeof buf); int dir = open("cg/a/b", O_RDONLY | O_DIRECTORY);
	struct pollfd pf = {ev, POLLPRI, 0}; pid_t c = into(dir); if (!c) { pause(); _exit(0); }
	poll(&pf, 1, 5000); int p1 = pf.revents; lseek(ev, 0, SEEK_SET); read(ev, buf, sizeof buf); poll(&pf, 1, 0); int p2 = pf.revents;
	snprintf(path, sizeof path, "/proc/%d/cgroup", c); const char *where = get(path), *events = getf("a/b/cgroup.events");
	kill(c, SIGKILL); poll(&pf, 1, 5000); int p3 = pf.revents; r = read(in, buf, sizeof buf) / sizeof(struct inotify_event);
	P("watch %d poll %x then %x then %x\n", r, p1, p2, p3 ); P("born %s\n", where);
	P("born in no group %s", into(open(".", O_RDONLY)) < 0 ? ename(errno) : "0"); P(" %s\n", into(999) < 0 ? ename(errno) : "0");
	P("%s\n", events); P("zombie %s %s\n", get(path), getf("a/b/cgroup.events"));
	r = rmdir("cg/a/b"); P("removed %s rmdir %d\n", get(path), r); waitpid(c, &st, 0);
	P("open file %s\n", lseek(ev, 0, SEEK_SET) || read(ev, buf, 10) < 0 ? ename(errno) : "0");
	// The pids controller.
	c = fork(); if (!c) {
		set("a/cgroup.procs", "0"); pid_t d = fork(); if (!d) { pause(); _exit(0); }
		P("pids.max %s current %s\n", getf("a/pids.max"), getf("a/pids.current")); set("a/pids.max", "2");
		d = fork(); P("fork %s %s\n", d < 0 ? ename(errno) : "ok", getf("a/pids.events")); P("pids.max %s", set("a/pids.max", "-1")); P(" %s\n", set("a/pids.max", "99999999999"));
		set("a/cgroup.kill", "1"); for (;;) pause();
	}
	waitpid(c, &st, 0); set("a/pids.max", "max"); waitfor("a/cgroup.events", "populated 0 frozen 0");
	// Freezing a program that runs.
	shared = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0); mkdir("cg/a/b", 0755); dir = open("cg/a/b", O_RDONLY);
	c = into(dir); if (!c) for (;;) { ++*shared; if (*shared % 100 == 0) msleep(1); }
	while (*shared < 10) msleep(1); set("a/cgroup.freeze", "1"); waitfor("a/cgroup.events", "populated 1 frozen 1"); running = *shared; msleep(20); int same = running == *shared;
	set("a/cgroup.freeze", "0"); for (int i = 0; i < 5000 && *shared == running; i++) msleep(1); P("frozen stopped %d thawed %d\n", same, running != *shared);
	set("a/cgroup.freeze", "1"); waitfor("a/b/cgroup.events", "populated 1 frozen 1"); kill(c, SIGKILL); waitpid(c, &st, 0); P("killed while frozen %s\n", statstr(st)); set("a/cgroup.freeze", "0");
	pid_t d = into(dir); if (!d) for (;;) pause(); c = into(dir); if (!c) for (;;) pause(); set("a/cgroup.kill", "1"); waitpid(c, &st, 0); P("kill %s", statstr(st)); waitpid(d, &st, 0); P(" %s\n", statstr(st));
	P("errors %s", set("a/cgroup.freeze", "2")); P(" %s", set("a/cgroup.freeze", "x")); P(" %s", set("a/cgroup.kill", "0")); P(" %s", set("cgroup.subtree_control", "+none")); P(" %s", set("a/b/cgroup.subtree_control", "+pids"));
	P(" %s", set("a/cgroup.procs", "x")); P(" %s", set("a/cgroup.procs", "32767")); P(" %s", set("a/cgroup.type", "threaded")); P(" %s\n", rename("cg/a", "cg/z") ? ename(errno) : "0");
	setxattr("cg/a", "user.test", "hello", 5, 0); r = getxattr("cg/a", "user.test", buf, sizeof buf); P("xattr %d %.5s\n", r, buf);
	// A user who owns a group may move his processes below it, but not into or out of it.
	rmdir("cg/a/b"); c = into(open("cg/a", O_RDONLY)); if (!c) {
		chown("cg/a", 65534, 65534); chown("cg/a/cgroup.procs", 65534, 65534); setgid(65534); setuid(65534);
		int m = mkdir("cg/a/own", 0755), n = mkdir("cg/a/two", 0755); P("delegated %d %d %s", m, n, set("a/own/cgroup.procs", "0"));
		P(" outside %s", set("cgroup.procs", "0")); P(" up %s\n", set("a/cgroup.procs", num(getppid()))); _exit(0);
	}
	waitpid(c, &st, 0); waitfor("a/cgroup.events", "populated 0 frozen 0");
	c = into(open("cg/a", O_RDONLY)); if (!c) { long long end = now_ms() + 30; while (now_ms() < end) ; _exit(0); } waitpid(c, &st, 0);
	const char *u = strstr(getf("a/cpu.stat"), "usage_usec "); P("cpu %d\n", u && atol(u + 11) > 1000);
	rmdir("cg/a/own"); rmdir("cg/a/two"); rmdir("cg/a"); set("cgroup.subtree_control", "-pids"); umount("cg");
}
