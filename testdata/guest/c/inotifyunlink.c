// inotify: a file that is unlinked while it is open is deleted when it is closed.
#include "t.h"
#include <sys/inotify.h>
static int fd; static char buf[65536];
static void drain(const char *n) { P("%s:\n", n); ssize_t k; while ((k = read(fd, buf, sizeof buf)) > 0) for (char *p = buf; p < buf + k;) { struct inotify_event *e = (void *)p; P("  wd %d %x %s\n", e->wd, e->mask, e->len ? e->name : ""); p += sizeof *e + e->len; } }
int main(void) {
	fd = inotify_init1(IN_NONBLOCK); mkdir("d", 0755); put("d/i", "x"); T(inotify_add_watch(fd, "d", IN_ALL_EVENTS)); T(inotify_add_watch(fd, "d/i", IN_DELETE_SELF)); int f = open("d/i", O_RDONLY); unlink("d/i"); drain("unlink"); close(f); drain("close");
}
