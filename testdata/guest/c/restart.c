// SA_RESTART and EINTR per call.
#include "t.h"
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <linux/futex.h>
static int n; static void h(int s) { n++; }
static pid_t kid; static int p[2], q[2], s[2], ls, ud[2];
// Both runs a call that blocks for ever, without and with SA_RESTART. With it a helper unblocks it later.
#define B(label, call, unblock) do { for (int k = 0; k < 2; k++) { n = 0; on(SIGALRM, h, k ? SA_RESTART : 0); struct itimerval it = {{0, 0}, {0, 40000}}; pid_t me = getpid(); pid_t c = fork(); if (!c) { prctl_(); msleep(90); if (k) { unblock; } msleep(400); kill(me, SIGALRM); msleep(1000); kill(me, SIGKILL); _exit(0); } setitimer(ITIMER_REAL, &it, 0); errno = 0; long r = (long)(call); int e = errno; kill(c, SIGKILL); waitpid(c, 0, 0); P("%s restart=%d: %s n=%d\n", label, k, r < 0 ? ename(e) : "ok", n); } } while (0)
#include <sys/prctl.h>
static void prctl_(void) { prctl(PR_SET_PDEATHSIG, SIGKILL); signal(SIGALRM, SIG_DFL); }
int main(void) {
	char b[200000]; uint64_t v = 1; struct sembuf sb = {0, -1, 0}; struct { long t; char b[8]; } mb = {1}; struct timespec ts = {5, 0};
	pipe(p); B("read pipe", read(p[0], b, 1), write(p[1], "x", 1)); pipe(q); B("write pipe", write(q[1], b, 65537), read(q[0], b, 65536)); socketpair(AF_UNIX, SOCK_STREAM, 0, s); B("recv", recv(s[0], b, 1, 0), send(s[1], "x", 1, 0)); struct timeval tv = {3, 0}; setsockopt(s[0], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv); B("recv with timeout", recv(s[0], b, 1, 0), send(s[1], "x", 1, 0)); ls = socket(AF_UNIX, SOCK_STREAM, 0); struct sockaddr_un a = {AF_UNIX, "sock"}; bind(ls, (void *)&a, sizeof a); listen(ls, 5); B("accept", accept(ls, 0, 0), ({ int c = socket(AF_UNIX, SOCK_STREAM, 0); connect(c, (void *)&a, sizeof a); msleep(200); }));
	int e = eventfd(0, 0); B("read eventfd", read(e, &v, 8), ({ v = 1; write(e, &v, 8); })); int tf = timerfd_create(CLOCK_MONOTONIC, 0); B("read timerfd", read(tf, &v, 8), ({ struct itimerspec i = {{0, 0}, {0, 1}}; timerfd_settime(tf, 0, &i, 0); })); B("poll", poll(0, 0, 3000), 0); B("select", select(0, 0, 0, 0, 0), 0); int ep = epoll_create1(0); B("epoll_wait", epoll_wait(ep, (void *)b, 1, -1), 0); B("pause", pause(), 0); sigset_t em; sigemptyset(&em); B("sigsuspend", sigsuspend(&em), 0); sigset_t u; sigemptyset(&u); sigaddset(&u, SIGUSR1); B("sigtimedwait", sigtimedwait(&u, 0, &ts), 0); B("nanosleep", nanosleep(&ts, 0), 0); B("clock_nanosleep", clock_nanosleep(CLOCK_MONOTONIC, 0, &ts, 0) ? (errno = EINTR, -1) : 0, 0);
	pid_t k = fork(); if (!k) { for (;;) pause(); } B("waitpid", waitpid(k, 0, 0), kill(k, SIGKILL)); int lf = open("l", O_CREAT | O_RDWR, 0600); k = fork(); if (!k) { int l2 = open("l", O_RDWR); flock(l2, LOCK_EX); struct flock fl = {F_WRLCK}; fcntl(l2, F_SETLK, &fl); for (;;) pause(); } insleep(k); B("flock", flock(lf, LOCK_EX | 0), kill(k, SIGKILL)); waitpid(k, 0, 0); k = fork(); if (!k) { int l2 = open("l", O_RDWR); struct flock fl = {F_WRLCK}; fcntl(l2, F_SETLK, &fl); for (;;) pause(); } insleep(k); struct flock fl = {F_WRLCK}; B("fcntl lock", fcntl(lf, F_SETLKW, &fl), kill(k, SIGKILL)); waitpid(k, 0, 0);
	int mq = msgget(IPC_PRIVATE, 0600); if (mq >= 0) { B("msgrcv", msgrcv(mq, &mb, 8, 0, 0), msgsnd(mq, &mb, 8, 0)); msgctl(mq, IPC_RMID, 0); } else P("msgget %s\n", ename(errno)); int sm = semget(IPC_PRIVATE, 1, 0600); if (sm >= 0) { B("semop", semop(sm, &sb, 1), ({ sb.sem_op = 1; semop(sm, &sb, 1); })); semctl(sm, 0, IPC_RMID); } else P("semget %s\n", ename(errno)); int *f = mmap(0, 4096, 3, MAP_SHARED | MAP_ANONYMOUS, -1, 0); B("futex", syscall(SYS_futex, f, FUTEX_WAIT, 0, 0, 0, 0), ({ f[0] = 1; syscall(SYS_futex, f, FUTEX_WAKE, 1, 0, 0, 0); f[0] = 0; })); B("futex timeout", syscall(SYS_futex, f, FUTEX_WAIT, 0, &ts, 0, 0), ({ f[0] = 1; syscall(SYS_futex, f, FUTEX_WAKE, 1, 0, 0, 0); f[0] = 0; }));
	B("sendmsg", ({ while (send(s[1], b, 200000, MSG_DONTWAIT) > 0); send(s[1], b, 1000, 0); }), ({ while (recv(s[0], b, 200000, MSG_DONTWAIT) > 0); }));
}
