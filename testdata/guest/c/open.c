// open(2): the flags matrix.
// user: nobody
#include "t.h"
#define X(f) {#f, f}
int main(void) {
	struct { const char *n; int f; } acc[] = {X(O_RDONLY), X(O_WRONLY), X(O_RDWR), X(3), X(O_PATH)},
		mod[] = {X(0), X(O_CREAT), X(O_CREAT|O_EXCL), X(O_TRUNC), X(O_DIRECTORY), X(O_NOFOLLOW), X(O_APPEND), X(O_CREAT|O_DIRECTORY), X(O_NONBLOCK),
			 X(O_DIRECT), X(O_NOATIME), X(O_SYNC), X(O_TMPFILE), X(O_CLOEXEC), X(O_CREAT|O_NOFOLLOW), X(O_ASYNC)};
	const char *paths[] = {"file", "dir", "link", "dirlink", "dangling", "none", "loop", "file/x", "none/x", "dir/", "file/", "none/", "link/", "dirlink/",
		"ro", "wo", "noaccess", "noaccess/x", "", ".", "..", "dir/..", "file/..", "fifo_"};
	put("file", "hello");
	mkdir("dir", 0755);
	symlink("file", "link"); symlink("dir", "dirlink"); symlink("nowhere", "dangling"); symlink("loop", "loop");
	put("ro", "r"); chmod("ro", 0444); put("wo", "w"); chmod("wo", 0222);
	mkdir("noaccess", 0);
	for (unsigned p = 0; p < sizeof paths / sizeof *paths; p++)
		for (unsigned a = 0; a < 5; a++)
			for (unsigned m = 0; m < sizeof mod / sizeof *mod; m++) {
				errno = 0;
				int fd = open(paths[p], acc[a].f | mod[m].f, 0640);
				int e = errno;
				int fl = fd >= 0 ? fcntl(fd, F_GETFL) : 0;
				struct stat st = {0};
				if (fd >= 0) fstat(fd, &st);
				P("%s %s|%s: %s fl=%o mode=%o size=%ld\n", paths[p], acc[a].n, mod[m].n, fd < 0 ? ename(e) : "ok", fl, st.st_mode, S_ISREG(st.st_mode) ? (long)st.st_size : 0);
				if (fd >= 0) close(fd);
				unlink("none"); unlink("nowhere");
				put("file", "hello");
			}
	char *long_ = malloc(5000);
	memset(long_, 'a', 5000);
	long_[4999] = 0; T(open(long_, O_RDONLY));
	long_[4095] = 0; T(open(long_, O_RDONLY));
	long_[256] = 0; T(open(long_, O_RDONLY | O_CREAT, 0600));
	long_[255] = 0; OK(open(long_, O_RDONLY | O_CREAT, 0600));
	T(open((char *)1, O_RDONLY));
	T(openat(-1, "x", O_RDONLY));
	T(openat(99, "x", O_RDONLY));
	OK(openat(-1, "/", O_RDONLY));
	int f = open("file", O_RDONLY);
	T(openat(f, "x", O_RDONLY));
	T(openat(f, "", O_RDONLY));
	int d = open("dir", O_PATH);
	OK(openat(d, "new", O_CREAT | O_RDWR, 0));
	T(openat(d, "new", O_RDWR));
	T(fchmod(d, 0700)); T(fsync(d)); char b[8]; T(read(d, b, 8)); T(ioctl(d, 0x5401, b)); T(fcntl(d, F_GETFL)); T(ftruncate(d, 0)); T(lseek(d, 0, 0));
	struct stat st; T(fstat(d, &st));
	T(creat("file", 0)); T(creat("dir", 0));
	T(open("file", 0x40000000));
	T(open("file", -1));
	umask(077);
	int n = open("m", O_CREAT | O_RDWR, 07777); fstat(n, &st); P("%o\n", st.st_mode);
	umask(0);
	n = open("m2", O_CREAT | O_RDWR, 07777); fstat(n, &st); P("%o\n", st.st_mode);
	chmod("noaccess", 0700);
}
