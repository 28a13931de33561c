// Values of processes below /proc that programs set: coredump_filter, timerslack_ns, loginuid; the list of timers.
// user: root
#include "t.h"
#include <sys/prctl.h>
#include <time.h>

static void show(const char *name) {
	char b[1024], path[64];
	snprintf(path, sizeof path, "/proc/self/%s", name);
	int fd = open(path, O_RDONLY);
	ssize_t n = fd < 0 ? -1 : read(fd, b, sizeof b - 1);
	if (n < 0) {
		P("%s: %s\n", name, strerror(errno));
		return;
	}
	close(fd);
	b[n] = 0;
	P("%s: %s%s", name, b, n && b[n - 1] == '\n' ? "" : "\n");
}

static void store(const char *path, const char *text) {
	int fd = open(path, O_WRONLY);
	ssize_t n = fd < 0 ? -1 : write(fd, text, strlen(text));
	P("%s < %s: %s\n", strncmp(path, "/proc/self/", 11) ? "of another" : path, text, n < 0 ? strerror(errno) : "done");
	close(fd);
}

static void child(const char *name) {
	fflush(stdout);
	if (fork() == 0) {
		P("child: ");
		show(name);
		fflush(stdout);
		_exit(0);
	}
	wait(NULL);
}

int main(void) {
	const char *filter = "/proc/self/coredump_filter", *slack = "/proc/self/timerslack_ns", *login = "/proc/self/loginuid";
	char other[64];
	struct stat st;

	static const char *files[] = {"coredump_filter", "timerslack_ns", "loginuid", "sessionid", "schedstat", "timers"};
	for (int i = 0; i < 6; i++) {
		char path[64];
		snprintf(path, sizeof path, "/proc/self/%s", files[i]);
		st.st_mode = 0;
		stat(path, &st);
		P("%s %o\n", files[i], st.st_mode);
	}
	show("coredump_filter");
	store(filter, "0x7fffffff");
	show("coredump_filter");
	store(filter, "12");
	store(filter, "-1");
	store(filter, "x");
	show("coredump_filter");
	child("coredump_filter");

	show("timerslack_ns");
	store(slack, "12345");
	P("%d\n", prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0));
	child("timerslack_ns");
	store(slack, "0");
	show("timerslack_ns");
	store(slack, "-3");

	// Who runs the test may have logged in: from here on it is somebody else.
	snprintf(other, sizeof other, "/proc/%d/loginuid", getppid());
	store(other, "7");
	store(login, "4242");
	show("loginuid");
	child("loginuid");
	store(login, "x");
	store(login, "4294967295");
	show("loginuid");
	show("sessionid");
	store(login, "77");
	T(setresuid(1000, 1000, 1000));
	show("loginuid");

	timer_t a;
	struct sigevent e = {0};
	T(timer_create(CLOCK_MONOTONIC, NULL, &a));
	e.sigev_notify = SIGEV_NONE;
	T(timer_create(CLOCK_REALTIME, &e, &a));
	int fd = open("/proc/self/timers", O_RDONLY);
	FILE *f = fdopen(fd, "r");
	for (char line[256]; fgets(line, sizeof line, f);) {
		char *dot = strchr(line, '.');
		if (dot && atoi(dot + 1) == getpid())
			strcpy(dot, ".self\n");
		P("%s", line);
	}
	return 0;
}
