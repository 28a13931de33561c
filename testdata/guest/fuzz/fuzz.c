// A random system call fuzzer: fuzz <seed> <calls a worker> <rounds> [workers]. A worker that ends or hangs is replaced.
#include "../c/t.h"
#include <grp.h>
#include <sys/prctl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
static uint64_t s; static uint64_t rnd(void) { s ^= s << 13; s ^= s >> 7; s ^= s << 17; return s * 0x2545F4914F6CDD1DULL; }
static char *area; enum { AREA = 64 * 4096 };
static const char *names[] = {".", "..", "a", "b", "a/b", "c", "d", "d/e", "/", "/proc/self/maps", "/proc/self/mem", "/proc/self/status", "/proc/self/fd/3", "/dev/null", "/dev/zero", "/dev/full", "/dev/ptmx", "/dev/tty", "/dev/urandom", "/tmp", "/sys", "fifo", "sock", "link", "", "loop", "/proc/self/ns/mnt", "/proc/sys/kernel/pid_max", "/proc/mounts", "/dev/shm/x", "tmpfs", "proc", "x=y", "user.a"};
// Calls that would end the test rather than the kernel.
static const int never[] = {SYS_exit_group, SYS_reboot, SYS_kill, SYS_tkill, SYS_tgkill, SYS_rt_sigqueueinfo, SYS_rt_tgsigqueueinfo, SYS_pidfd_send_signal, SYS_vhangup, SYS_prlimit64, SYS_ptrace, SYS_process_vm_writev, SYS_settimeofday, SYS_clock_settime, SYS_adjtimex, SYS_clock_adjtime, SYS_pivot_root, SYS_umount2, SYS_swapoff, SYS_sethostname};
static unsigned long arg(void) {
	static const long small[] = {0, 1, 2, 3, 4, 8, 16, 64, 100, 127, 128, 255, 256, 4095, 4096, 4097, 65535, 65536, -1, -2, -100, -4096, INT_MAX, INT_MIN, LONG_MAX, LONG_MIN, 0xffffffffL, 0x100000000L, 0x7ffffffff000, 0xffff800000000000};
	switch (rnd() % 16) {
	case 0: case 1: case 2: return rnd() % 24;
	case 3: case 4: return small[rnd() % (sizeof small / sizeof *small)];
	case 5: case 6: case 7: return (unsigned long)area + rnd() % 256 * 16;
	case 8: return (unsigned long)area + rnd() % AREA;
	case 9: return (unsigned long)area + (rnd() % 64 + 1) * 4096 - rnd() % 32;
	case 10: case 11: { char *p = area + rnd() % 32 * 128; strcpy(p, names[rnd() % (sizeof names / sizeof *names)]); return (unsigned long)p; }
	case 12: return 1UL << rnd() % 64;
	case 13: return rnd() % 0x100000;
	case 14: return getpid();
	default: return rnd();
	}
}
static void scramble(void) { for (int i = 0; i < 64; i++) { unsigned long *p = (unsigned long *)(area + rnd() % 512 * 8); *p = rnd() % 3 ? arg() : rnd() % 256; } }
static void *thread(void *a) { for (;;) { syscall(SYS_getpid); scramble(); usleep(100); } }
static void worker(uint64_t seed, int calls) {
	s = seed * 0x9E3779B97F4A7C15ULL + 1; for (int i = 0; i < 8; i++) rnd();
	char dir[64]; sprintf(dir, "w%d", getpid()); mkdir(dir, 0777); chmod(dir, 0777); chdir(dir); setpgid(0, 0); mkdir("d", 0777); put("a", "contents of a"); put("d/e", "e"); symlink("a", "link"); symlink("loop", "loop"); mkfifo("fifo", 0666);
	struct rlimit fs = {1 << 22, 1 << 22}, np = {60, 60}, as = {1UL << 29, 1UL << 29}; setrlimit(RLIMIT_FSIZE, &fs); setrlimit(RLIMIT_NPROC, &np); setrlimit(RLIMIT_AS, &as); if (seed & 1) { setgroups(0, 0); setgid(60000 + seed % 100); setuid(60000 + seed % 100); }
	area = mmap((void *)0x50000000, AREA, 3, (seed & 2 ? MAP_SHARED : MAP_PRIVATE) | MAP_ANONYMOUS | MAP_FIXED, -1, 0); int sv[2];
	for (int i = 3; i < 1024; i++) close(i); open("a", O_RDWR); open(".", O_RDONLY); pipe(sv); socketpair(AF_UNIX, SOCK_STREAM, 0, sv); socketpair(AF_UNIX, SOCK_DGRAM, 0, sv); epoll_create1(0); eventfd(3, EFD_NONBLOCK); open("/dev/zero", O_RDWR); open("/proc/self/maps", O_RDONLY); socket(AF_INET, SOCK_STREAM, 0); socket(AF_INET, SOCK_DGRAM, 0); socket(AF_NETLINK, SOCK_RAW, 0); open("/dev/ptmx", O_RDWR | O_NOCTTY); open("d", O_PATH); syscall(SYS_memfd_create, "m", 3); syscall(SYS_inotify_init1, 0); syscall(SYS_timerfd_create, 1, 0); open(".", O_TMPFILE | O_RDWR, 0600);
	prctl(PR_SET_PDEATHSIG, SIGKILL); if (seed & 4) { pthread_t t; pthread_create(&t, 0, thread, 0); }
	struct itimerval it = {{0, 20000}, {0, 20000}}; signal(SIGALRM, SIG_IGN); on(SIGALRM, (void (*)(int))abs, 0); for (int i = 1; i < 32; i++) if (i != SIGALRM && i % 3) signal(i, SIG_IGN);
	for (int i = 0; i < calls; i++) {
		int nr = rnd() % 462; int bad = 0; for (int k = 0; k < sizeof never / sizeof *never; k++) bad |= never[k] == nr; if (bad) continue;
		setitimer(ITIMER_REAL, &it, 0); if (rnd() % 4 == 0) scramble();
		unsigned long a = arg(), b = arg(), c = arg(), d = arg(), e = arg(), f = arg();
		if (nr == SYS_fork || nr == SYS_vfork || nr == SYS_clone || nr == SYS_clone3) { if (rnd() % 8) continue; if (nr == SYS_clone) { b = 0; a &= ~0xfe000000UL; a &= ~(CLONE_NEWNS | CLONE_THREAD | CLONE_VM); } if (nr == SYS_vfork) nr = SYS_fork; if (nr == SYS_clone3) ((unsigned long *)a)[0] &= 0; pid_t p = syscall(nr, a, b, c, d, e, f); if (p == 0) { if (rnd() % 2) _exit(rnd()); for (int k = 0; k < 20; k++) { nr = rnd() % 334; if (nr == SYS_fork || nr == SYS_vfork || nr == SYS_clone || nr == SYS_pause || nr == SYS_reboot || nr == SYS_kill || nr == SYS_tkill || nr == SYS_tgkill || nr == SYS_umount2) continue; syscall(nr, arg(), arg(), arg(), arg(), arg(), arg()); } _exit(0); } continue; }
		if (nr == SYS_setpriority || nr == SYS_setpgid) { b = 0; a = 0; }
		if ((nr == SYS_mount || nr == SYS_unshare || nr == SYS_setns || nr == SYS_chroot) && rnd() % 16) continue;
		if (nr == SYS_write || nr == SYS_writev || nr == SYS_pwrite64) if (a < 3) a = 3;
		syscall(rnd() % 32 ? nr : nr | rnd() << 32, a, b, c, d, e, f);
	}
	_exit(0);
}
int main(int argc, char **argv) {
	uint64_t seed = strtoull(argv[1], 0, 0); int calls = atoi(argv[2]), rounds = atoi(argv[3]), n = argc > 4 ? atoi(argv[4]) : 4; int exits = 0, signals = 0, hung = 0; umask(0); mkdir("/tmp/fuzz", 0777); chmod("/tmp/fuzz", 0777);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	for (int r = 0; r < rounds; r++) {
		pid_t p[64]; chdir("/tmp/fuzz");
		for (int i = 0; i < n; i++) { p[i] = fork(); if (!p[i]) { int z = open("/dev/null", O_RDWR); dup2(z, 0); dup2(z, 1); dup2(z, 2); worker(seed + r * n + i, calls); } }
		long long end = now_ms() + 1500; int left = n;
		while (left && now_ms() < end) { int st; pid_t c = waitpid(-1, &st, WNOHANG); if (c <= 0) { msleep(5); continue; } for (int i = 0; i < n; i++) if (p[i] == c) { left--; p[i] = 0; if (WIFEXITED(st)) exits++; else signals++; } }
		for (int i = 0; i < n; i++) if (p[i]) { hung++; kill(p[i], SIGKILL); kill(-p[i], SIGKILL); int st; long long w = now_ms(); while (waitpid(p[i], &st, WNOHANG) == 0) { if (now_ms() - w > 10000) { P("UNKILLABLE worker of seed %lld\n", (long long)(seed + r * n + i)); break; } msleep(2); } }
		while (waitpid(-1, 0, WNOHANG) > 0);
	}
	P("fuzzed: %d workers, %d ended, %d killed by signals, %d stopped\n", rounds * n, exits, signals, hung);
}
