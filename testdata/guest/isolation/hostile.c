// A hostile program: it tries to get past the guest kernel, and says of each way what came of it.
#include "../c/t.h"
#include <ucontext.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <linux/seccomp.h>
#include <linux/sched.h>
#include <linux/futex.h>
static long raw(unsigned long nr, long a, long b, long c, long d, long e, long f) {
	long r; register long r10 asm("r10") = d, r8 asm("r8") = e, r9 asm("r9") = f;
	asm volatile("syscall" : "=a"(r) : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
	return r;
}
// IN runs an attack in a child and tells how the child ended; it must be able to end normally or be killed, never by code 77.
#define IN(label, ...) do { pid_t p_ = fork(); if (!p_) { alarm(20); __VA_ARGS__; _exit(0); } int st_ = 0; waitpid(p_, &st_, 0); if (WIFEXITED(st_) && WEXITSTATUS(st_) == 77) P("BROKEN %s\n", label); else if (WIFSIGNALED(st_) && WTERMSIG(st_) == SIGALRM) P("HANGS %s\n", label); else P("done %s\n", label); } while (0)
static void broken(const char *what, long a, long b) { P("BROKEN %s %lx %lx\n", what, a, b); }
static void cs32(int s, siginfo_t *i, void *u) { ((ucontext_t *)u)->uc_mcontext.gregs[REG_CSGSFS] = (((ucontext_t *)u)->uc_mcontext.gregs[REG_CSGSFS] & ~0xffffL) | 0x23; }
static void ip(int s, siginfo_t *i, void *u) { ((ucontext_t *)u)->uc_mcontext.gregs[REG_RIP] = 0x7ffffffff000; }
static volatile int stop; static char flipbuf[4096]; static volatile struct clone_args ca;
static void *flip(void *a) { unsigned n = 0; while (!stop) { n++; memcpy(flipbuf, n & 1 ? "/proc/self/exe" : "/etc/../../../../etc/passwd\0", 28); ca.flags = n & 1 ? 0 : CLONE_VM | CLONE_THREAD | CLONE_SIGHAND | CLONE_NEWNS | CLONE_PTRACE | CLONE_UNTRACED | CLONE_PARENT; ca.exit_signal = n; ca.stack = n; ca.stack_size = n * 4096; } return 0; }
int main(int argc, char **argv) {
	if (argc > 1 && !strcmp(argv[1], "x")) return 0;
	// Descriptors that the guest has not opened are not there, whatever the host has under these numbers.
	for (int fd = 3; fd < 1100; fd++) { char b[64]; struct stat st;
		long r[] = {raw(SYS_read, fd, (long)b, 64, 0, 0, 0), raw(SYS_write, fd, (long)b, 1, 0, 0, 0), raw(SYS_ioctl, fd, 0x5401, (long)b, 0, 0, 0), raw(SYS_fstat, fd, (long)&st, 0, 0, 0, 0), raw(SYS_lseek, fd, 0, 0, 0, 0, 0), raw(SYS_dup, fd, 0, 0, 0, 0, 0), raw(SYS_mmap, 0, 4096, 1, MAP_SHARED, fd, 0), raw(SYS_mmap | 1L << 32, 0, 4096, 1, MAP_PRIVATE, fd, 0), raw(SYS_sendmsg, fd, (long)b, 0, 0, 0, 0), raw(SYS_fcntl, fd, F_GETFL, 0, 0, 0, 0), raw(SYS_close, fd, 0, 0, 0, 0, 0), raw(SYS_fchmod | 0x7fffffffL << 32, fd, 0, 0, 0, 0, 0), raw(SYS_ftruncate, fd, 0, 0, 0, 0, 0), raw(SYS_pread64, fd, (long)b, 8, 0, 0, 0)};
		for (int i = 0; i < sizeof r / sizeof *r; i++) if (r[i] != -EBADF) broken("descriptor", fd, i); }
	P("done descriptors\n");
	// The number of a call is the low half of rax.
	for (int hi = 0; hi < 32; hi++) { unsigned long h = 1UL << (32 + hi); if (raw(SYS_getpid | h, 0, 0, 0, 0, 0, 0) != getpid()) broken("high bits", hi, 0); }
	IN("high bits", for (int nr = 0; nr < 470; nr++) { if (nr == SYS_exit || nr == SYS_exit_group || nr == SYS_pause || nr == SYS_rt_sigreturn || nr == SYS_fork || nr == SYS_vfork || nr == SYS_reboot || nr == SYS_kill || nr == SYS_vhangup || nr == SYS_tkill || nr == SYS_setsid || nr == SYS_munmap) continue; raw(nr | 0xdeadbeefUL << 32, -1, -1, -1, -1, -1, -1); });
	for (int nr = 0; nr < 1024; nr++) { long r = raw(nr | 0x40000000, 0, 0, 0, 0, 0, 0); if (r != -ENOSYS) { broken("x32", nr, r); break; } r = raw(nr | 0xffffffff00000000UL | 0x40000000, 0, 0, 0, 0, 0, 0); if (r != -ENOSYS) { broken("x32 high", nr, r); break; } } P("done x32\n");
	for (long nr = 470; nr < 2000; nr++) if (raw(nr, 0, 0, 0, 0, 0, 0) != -ENOSYS) broken("number", nr, 0); if (raw(-1UL, 0, 0, 0, 0, 0, 0) != -ENOSYS) broken("number -1", 0, 0); if (raw(0x80000000UL, 0, 0, 0, 0, 0, 0) != -ENOSYS) broken("number 2^31", 0, 0);
	// Ways into the host's 32-bit calls: exit(77) by i386's numbers.
	IN("int 0x80 exit", asm volatile("mov $1,%%eax; mov $77,%%ebx; int $0x80" ::: "eax", "rbx", "memory")); IN("int 0x80 all", for (int i = 0; i < 450; i++) { long r; if (i == 119 || i == 173) continue; asm volatile("int $0x80" : "=a"(r) : "a"(i), "b"(-1), "c"(-1), "d"(-1), "S"(0), "D"(0) : "memory", "r8", "r9", "r10", "r11"); });
	IN("sysenter", asm volatile("mov $1,%%eax; mov $77,%%ebx; mov %%rsp,%%rbp; sysenter" ::: "eax", "rbx", "memory")); IN("far jump", char *m = mmap((void *)0x30000000, 8192, 7, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0); memcpy(m, "\xb8\x01\0\0\0\xbb\x4d\0\0\0\xcd\x80\xf4", 13); struct { unsigned off; unsigned short sel; } __attribute__((packed)) far = {0x30000000, 0x23}; asm volatile("ljmp *%0" :: "m"(far) : "memory")); IN("sigreturn cs", onsi(SIGUSR1, cs32, 0); raise(SIGUSR1)); IN("sigreturn rip", onsi(SIGUSR1, ip, 0); raise(SIGUSR1));
	IN("vsyscall", long t = ((long (*)(void *, void *))0xffffffffff600000)(0, 0)); IN("vsyscall time", ((long (*)(void *))0xffffffffff600400)(0)); IN("vsyscall middle", ((long (*)(void *))0xffffffffff600002)(0));
	// The platform's own pages at the top of the address space.
	for (unsigned long a = 0x7fffff000000; a <= 0x7ffffffff000; a += 4096) { static const int anon = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
		if (a >= 0x7fffffff0000) { raw(SYS_mmap, a, 4096, 7, anon, -1, 0); raw(SYS_mprotect, a, 4096, 7, 0, 0, 0); raw(SYS_madvise, a, 4096, MADV_DONTNEED, 0, 0, 0); raw(SYS_madvise, a, 4096, MADV_DONTFORK, 0, 0, 0); raw(SYS_madvise, a, 4096, MADV_WIPEONFORK, 0, 0, 0); raw(SYS_madvise, a, 4096, MADV_REMOVE, 0, 0, 0); raw(SYS_madvise, a, 4096, 21, 0, 0, 0); raw(SYS_mremap, a, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, 0x40000000, 0); char *m = mmap(0, 4096, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); raw(SYS_mremap, (long)m, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, a, 0); raw(SYS_mlock, a, 4096, 0, 0, 0, 0); raw(SYS_mprotect | 1L << 40, a, 4096, 7, 0, 0, 0); raw(SYS_munmap | 1L << 40, a, 4096, 0, 0, 0, 0); raw(SYS_munmap, a, 4096, 0, 0, 0, 0); } }
	char *m0 = mmap((void *)0x7fff00000000, 4096, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	IN("munmap of all above", raw(SYS_munmap, 0x7ffff0000000, 0x10000000 - 4096, 0, 0, 0, 0); raw(SYS_getpid, 0, 0, 0, 0, 0, 0)); IN("munmap wraps", raw(SYS_munmap, 0x7ffff0000000, -0x7ffff0000000L, 0, 0, 0, 0)); IN("munmap huge", raw(SYS_munmap, 4096, 0x7fffffffe000, 0, 0, 0, 0)); IN("mprotect huge", raw(SYS_mprotect, 0x7ff000000000, 0x10000000000 - 4096, 0, 0, 0, 0)); IN("brk to the top", raw(SYS_brk, 0x7ffffffff000, 0, 0, 0, 0, 0)); IN("grows down", raw(SYS_mprotect, 0x7ffffffff000, 4096, 7 | PROT_GROWSDOWN, 0, 0, 0)); IN("remap huge", char *m = mmap(0, 4096, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); raw(SYS_mremap, (long)m, 4096, 1L << 40, MREMAP_MAYMOVE | MREMAP_FIXED, 0x7f0000000000, 0)); IN("map all", raw(SYS_mmap, 0x7ff000000000, 0x10000000000 - 4096, 0, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0); fork()); IN("read top", for (char *a = (char *)0x7fffffff0000; a < (char *)0x800000000000; a += 4096) { int p[2]; pipe(p); if (write(p[1], a, 4096) > 0) { static char page[4096]; read(p[0], page, 4096); if (memmem(page, 4096, "/root", 5) || memmem(page, 4096, "HOME=", 5)) broken("host data in the stub", (long)a, 0); } close(p[0]); close(p[1]); });
	IN("execute top", signal(SIGSEGV, SIG_DFL); ((void (*)(void))0x7fffffffe000)());
	// A read-only descriptor's mapping stays read-only.
	put("ro", "contents"); int ro = open("ro", O_RDONLY); char *m = mmap(0, 4096, 1, MAP_SHARED, ro, 0); if (mprotect(m, 4096, 3) != -1 || errno != EACCES) broken("mprotect of a read-only map", 0, errno); if (madvise(m, 4096, MADV_REMOVE) != -1) broken("MADV_REMOVE", 0, 0); if (raw(SYS_mprotect | 1L << 35, (long)m, 4096, 7, 0, 0, 0) != -EACCES) broken("mprotect high", 0, 0);
	char *bin = mmap(0, 4096, 1, MAP_SHARED, open("/proc/self/exe", O_RDONLY), 0); if (mprotect(bin, 4096, 3) != -1) broken("program writable", 0, 0);
	// Memory that changes while calls read it.
	pthread_t t[2]; IN("flip", pthread_create(t, 0, flip, 0); pthread_create(t + 1, 0, flip, 0); for (int i = 0; i < 1500; i++) { int fd = open(flipbuf, O_RDONLY); if (fd >= 0) close(fd); struct stat s; stat(flipbuf, &s); } stop = 1); IN("flip clone3", pthread_create(t, 0, flip, 0); for (int i = 0; i < 300; i++) { long r = raw(SYS_clone3, (long)&ca, sizeof ca, 0, 0, 0, 0); if (r == 0) raw(SYS_exit, 0, 0, 0, 0, 0, 0); } ); IN("flip execve", for (int i = 0; i < 20; i++) if (!fork()) { pthread_create(t, 0, flip, 0); char *av[] = {flipbuf, "x", 0}; if (argc > 1) _exit(0); execve(flipbuf, av, av); _exit(0); } while (wait(0) > 0)); while (waitpid(-1, 0, WNOHANG) > 0);
	// Watching and filtering of oneself.
	IN("seccomp strict", prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT)); IN("traceme", ptrace(PTRACE_TRACEME, 0, 0, 0)); IN("attach init", ptrace(PTRACE_SEIZE, 1, 0, 0)); IN("attach parent", ptrace(PTRACE_ATTACH, getppid(), 0, 0); kill(getppid(), SIGCONT)); IN("dispatch", prctl(59, 1, 0, -1L, &stop)); IN("set_mm", prctl(PR_SET_MM, PR_SET_MM_BRK, 0x7ffffffff000, 0, 0)); IN("no tsc", prctl(PR_SET_TSC, PR_TSC_SIGSEGV); asm volatile("rdtsc" ::: "eax", "edx")); IN("cpuid fault", raw(SYS_arch_prctl, 0x1012, 0, 0, 0, 0, 0)); IN("fs base", raw(SYS_arch_prctl, 0x1002, 0x7ffffffff000, 0, 0, 0, 0); raw(SYS_exit, 0, 0, 0, 0, 0, 0)); IN("fs base kernel", if (raw(SYS_arch_prctl, 0x1002, 0xffff800000000000, 0, 0, 0, 0) != -EPERM) raw(SYS_exit, 78, 0, 0, 0, 0, 0)); IN("fs base 2^47", raw(SYS_arch_prctl, 0x1002, 1L << 47, 0, 0, 0, 0)); IN("arch_prctl others", for (int i = 0; i < 0x6000; i++) if (i != 0x1002 && (i & 0xfff) < 0x40) raw(SYS_arch_prctl, i, -1, 0, 0, 0, 0)); IN("modify_ldt", raw(SYS_modify_ldt, 1, (long)flipbuf, 16, 0, 0, 0)); IN("futex ops", for (int op = 0; op < 4096; op++) if ((op & 127) != 0 && (op & 127) != 9 && (op & 127) != 6 && (op & 127) != 13 && (op & 127) != 11) raw(SYS_futex, (long)flipbuf, op, 0, 0, (long)flipbuf, 0)); IN("robust", raw(SYS_set_robust_list, 0x7ffffffff000, 24, 0, 0, 0, 0)); IN("clear tid", raw(SYS_set_tid_address, 0x7ffffffff000, 0, 0, 0, 0, 0)); IN("rseq", raw(SYS_rseq, (long)flipbuf, 32, 0, 0x53053053, 0, 0));
	IN("direction flag", asm volatile("std; syscall; cld" :: "a"(39) : "rcx", "r11", "memory")); IN("trap flag over a call", signal(SIGTRAP, SIG_IGN); asm volatile("pushf; orl $0x100,(%%rsp); popf; mov $39,%%eax; syscall" ::: "rax", "rcx", "r11", "memory")); IN("odd stack", asm volatile("mov $-1,%%rsp; mov $39,%%eax; syscall; ud2" ::: "memory"));
	if (argc > 1) { P("holding\n"); sleep(atoi(argv[1])); }
	P("end\n");
}
