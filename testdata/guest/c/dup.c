// dup, dup2, dup3, fcntl, close_range.
#include "t.h"
#include <linux/close_range.h>
int main(void) {
	int fd = MUST(open("f", O_CREAT | O_RDWR | O_CLOEXEC, 0644));
	T(fd); int d = T(dup(fd)); T(fcntl(d, F_GETFD)); T(fcntl(fd, F_GETFD)); T(dup(99)); T(dup(-1)); T(dup2(fd, fd)); T(dup2(99, 99)); T(dup2(99, 5)); T(dup2(fd, -1)); T(dup2(fd, 1 << 30)); T(dup2(fd, 10)); T(fcntl(10, F_GETFD));
	T(dup3(fd, fd, 0)); T(dup3(fd, 11, O_CLOEXEC)); T(fcntl(11, F_GETFD)); T(dup3(fd, 12, O_NONBLOCK)); T(dup3(fd, fd, 77)); T(dup3(99, 12, 0));
	T(fcntl(fd, F_DUPFD, 20)); T(fcntl(fd, F_DUPFD, 20)); T(fcntl(fd, F_DUPFD_CLOEXEC, 30)); T(fcntl(30, F_GETFD)); T(fcntl(fd, F_DUPFD, -1)); T(fcntl(fd, F_DUPFD, 1 << 30));
	T(fcntl(fd, F_SETFD, 0)); T(fcntl(fd, F_GETFD)); T(fcntl(fd, F_SETFD, 0xff)); T(fcntl(fd, F_GETFD)); T(fcntl(fd, F_SETFD, 2)); T(fcntl(fd, F_GETFD));
	T(fcntl(fd, F_GETFL)); T(fcntl(fd, F_SETFL, O_APPEND | O_NONBLOCK | O_TRUNC | O_WRONLY)); T(fcntl(d, F_GETFL)); T(fcntl(fd, F_SETFL, 0)); T(fcntl(d, F_GETFL)); T(fcntl(fd, F_SETFL, O_DIRECT)); T(fcntl(fd, F_SETFL, O_ASYNC)); T(fcntl(fd, F_SETFL, O_NOATIME)); T(fcntl(fd, F_GETFL));
	T(fcntl(fd, 9999)); T(fcntl(99, F_GETFD)); T(fcntl(99, 9999)); T(fcntl(fd, F_GETOWN)); T(fcntl(fd, F_SETOWN, getpid())); T(fcntl(fd, F_GETOWN) == getpid()); T(fcntl(fd, F_SETOWN, -getpgrp())); T(fcntl(fd, F_SETOWN, 999999)); T(fcntl(fd, F_GETSIG)); T(fcntl(fd, F_SETSIG, 10)); T(fcntl(fd, F_GETSIG)); T(fcntl(fd, F_SETSIG, 65)); T(fcntl(fd, F_SETSIG, -1));
	struct { int type, pid; } ex = {0, 0}; T(fcntl(fd, 16 /* F_GETOWN_EX */, &ex)); P("%d\n", ex.type); ex.type = 9; T(fcntl(fd, 15, &ex));
	T(fcntl(fd, F_GETPIPE_SZ)); int p[2]; pipe(p); T(fcntl(p[0], F_GETPIPE_SZ)); T(fcntl(p[0], F_SETPIPE_SZ, 5000)); T(fcntl(p[1], F_GETPIPE_SZ)); T(fcntl(p[1], F_SETPIPE_SZ, 0)); T(fcntl(p[1], F_SETPIPE_SZ, -1)); T(fcntl(p[0], F_SETPIPE_SZ, 1 << 20));
	T(fcntl(fd, F_GETLEASE)); T(fcntl(fd, F_GET_SEALS));
	T(fcntl(fd, 1027 /* F_DUPFD_QUERY */, d)); T(fcntl(fd, 1027, 0));
	T(syscall(SYS_close_range, 20, 25, 0)); T(fcntl(20, F_GETFD)); T(fcntl(30, F_GETFD)); T(syscall(SYS_close_range, 5, 4, 0)); T(syscall(SYS_close_range, 10, ~0U, CLOSE_RANGE_CLOEXEC)); T(fcntl(10, F_GETFD)); T(syscall(SYS_close_range, 3, ~0U, 99)); T(syscall(SYS_close_range, 3, ~0U, CLOSE_RANGE_UNSHARE)); T(fcntl(3, F_GETFD)); T(dup(1));
	// exec closes what is marked.
	struct rlimit rl = {30, 30}; T(setrlimit(RLIMIT_NOFILE, &rl)); T(dup2(1, 29)); T(dup2(1, 30)); T(fcntl(1, F_DUPFD, 30)); T(fcntl(1, F_DUPFD, 29)); int n = 0; while (dup(1) >= 0) n++; P("%d %s\n", n, ename(errno)); T(pipe(p)); T(socket(AF_UNIX, SOCK_STREAM, 0)); T(open("f", O_RDONLY)); close(29); T(pipe(p)); T(dup(1));
}
