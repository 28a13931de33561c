// Joining a mount namespace by its file and by a process; what the descriptor keeps alive.
// user: root
#include "t.h"
#include <sched.h>
#include <sys/mount.h>
#include <sys/syscall.h>

static const char *where; // a directory of the test
static int seen(const char *name) {
	char path[256];
	snprintf(path, sizeof path, "%s/%s", where, name);
	return access(path, F_OK) == 0;
}
static int same(const char *a, const char *b) {
	struct stat x, y;
	return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_ino == y.st_ino && x.st_dev == y.st_dev;
}

int main(void) {
	char dir[] = "/tmp/setnsXXXXXX", path[256], link[64];
	where = mkdtemp(dir);
	int up[2], down[2];
	pipe(up), pipe(down);
	fflush(stdout);
	pid_t child = fork();
	if (child == 0) {
		unshare(CLONE_NEWNS);
		mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL);
		mount("none", where, "tmpfs", 0, NULL);
		snprintf(path, sizeof path, "%s/inside", where);
		close(open(path, O_CREAT | O_WRONLY, 0600));
		write(up[1], "x", 1);
		char c;
		read(down[0], &c, 1);
		_exit(0);
	}
	char c;
	read(up[0], &c, 1);
	snprintf(path, sizeof path, "/proc/%d/ns/mnt", child);
	snprintf(link, sizeof link, "/proc/self/ns/mnt");
	int old = open(link, O_RDONLY), new = open(path, O_RDONLY), file = open("/", O_RDONLY);
	int pidfd = syscall(SYS_pidfd_open, child, 0);
	P("apart: %d %d\n", same(link, path), seen("inside"));

	T(setns(-1, 0));
	T(setns(file, 0));
	T(setns(new, CLONE_NEWUTS));
	T(setns(pidfd, 0));
	umask(027);
	chdir("/tmp");
	T(setns(new, CLONE_NEWNS));
	P("inside: %d %d umask %o\n", same(link, path), seen("inside"), umask(0));
	char cwd[64];
	P("cwd %s\n", getcwd(cwd, sizeof cwd));
	T(setns(old, 0));
	P("outside: %d %d\n", same(link, path), seen("inside"));
	T(setns(pidfd, CLONE_NEWNS));
	P("by process: %d\n", seen("inside"));
	T(setns(old, CLONE_NEWNS));

	// The descriptor holds the namespace when nobody is in it.
	write(down[1], "x", 1);
	wait(NULL);
	T(open(path, O_RDONLY));
	T(setns(new, 0));
	P("kept: %d\n", seen("inside"));
	T(setns(old, 0));

	fflush(stdout);
	if (syscall(SYS_clone, CLONE_FS | SIGCHLD, 0, 0, 0, 0) == 0) {
		T(setns(new, 0));
		fflush(stdout);
		_exit(0);
	}
	wait(NULL);
	T(setresuid(1000, 1000, 1000));
	T(setns(new, 0));
	T(setns(old, 0));
	return rmdir(where) && 0;
}
