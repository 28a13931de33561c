// inotify: a file that is unlinked while it is open is deleted when it is closed.
#include "t.h"
#include <sys/inotify.h>
static int fd; static char buf[65536];
static void drain(const char *n) { P("%s:\n", n); ssize_t k; while ((k = read(fd, buf, sizeof buf)) > 0) for (char *p = buf; p < buf + k;) { struct inotify_event *e = (void *)p; P("  wd %d %x %s\n", e->wd, e->mask, e->len ? e->name : ""); p += sizeof *e + e->len; } }
int main(void) {
	fd = inotify_init1(IN_NONBLOCK); mkdir("d", 0755); put("d/i", "x"); T(inotify_add_watch(fd, "d", IN_ALL_EVENTS)); T(inotify_add_watch(fd, "d/i", IN_DELETE_SELF)); int f = open("d/i", O_RDWR); unlink("d/i"); drain("unlink"); write(f, "y", 1); fchmod(f, 0600); drain("write"); close(f); drain("close");
	T(inotify_add_watch(fd, "d", IN_ALL_EVENTS | IN_EXCL_UNLINK)); put("d/e", "x"); f = open("d/e", O_RDWR); write(f, "y", 1); drain("before"); unlink("d/e"); write(f, "y", 1); close(f); drain("excl");
	put("d/a", "a"); put("d/b", "b"); link("d/b", "d/bb"); T(inotify_add_watch(fd, "d/b", IN_ALL_EVENTS)); rename("d/a", "d/b"); drain("replaced"); unlink("d/bb"); drain("last link");
	put("d/a", "a"); put("d/c", "c"); T(inotify_add_watch(fd, "d/c", IN_ALL_EVENTS)); f = open("d/c", O_RDONLY); drain("open"); rename("d/a", "d/c"); drain("replaced open"); close(f); drain("close");
	mkdir("d/s", 0755); T(inotify_add_watch(fd, "d/s", IN_ALL_EVENTS)); f = open("d/s", O_RDONLY); drain("dir"); rmdir("d/s"); drain("rmdir"); close(f); drain("close");
	mkdir("d/s", 0755); chdir("d/s"); T(inotify_add_watch(fd, ".", IN_ALL_EVENTS)); rmdir("../s"); drain("rmdir cwd"); chdir("/"); drain("left");
}
