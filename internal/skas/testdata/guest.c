// Guest programs of the platform's tests: one flat image, loaded at 0x400000 and entered with the number of the program in
// rdi and its arguments in rsi, rdx. Build: see gen.sh.
typedef unsigned long u64;
typedef long i64;

static inline i64 sys(i64 nr, i64 a, i64 b, i64 c, i64 d, i64 e, i64 f) {
	register i64 r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
	i64 ret;
	__asm__ volatile("syscall" : "=a"(ret) : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
	return ret;
}
#define sys0(n) sys(n, 0, 0, 0, 0, 0, 0)
#define sys1(n, a) sys(n, (i64)(a), 0, 0, 0, 0, 0)
#define sys2(n, a, b) sys(n, (i64)(a), (i64)(b), 0, 0, 0, 0)
#define sys3(n, a, b, c) sys(n, (i64)(a), (i64)(b), (i64)(c), 0, 0, 0)
#define sys6(n, a, b, c, d, e, f) sys(n, (i64)(a), (i64)(b), (i64)(c), (i64)(d), (i64)(e), (i64)(f))

enum { READ = 0, WRITE = 1, MMAP = 9, MPROTECT = 10, MUNMAP = 11, YIELD = 24, MADVISE = 28, NANOSLEEP = 35, CLONE = 56, FORK = 57,
	VFORK = 58, EXIT = 60, WAIT4 = 61, GETPPID = 110, FUTEX = 202, EXITGROUP = 231 };

static void quit(i64 code) { for (;;) sys1(EXITGROUP, code); }
// report tells the test a value: the mini kernel appends it to a list.
static void report(i64 v) { sys1(1000, v); }

static int word;
static char stack[4][4096] __attribute__((aligned(16)));

static void count(i64 n) {
	i64 sum = 0;
	for (i64 i = 0; i < n; i++) sum += sys0(GETPPID);
	report(sum);
}

static void forks(i64 n) {
	for (i64 i = 0; i < n; i++) {
		i64 pid = sys0(FORK);
		if (pid == 0) quit(7);
		if (pid < 0) { report(pid); return; }
		sys3(WAIT4, pid, 0, 0);
	}
	report(n);
}

// threads: n times a thread that adds to word and ends; CHILD_CLEARTID tells.
static int tidword;
static void thread_body(void) { __atomic_add_fetch(&word, 1, __ATOMIC_SEQ_CST); sys1(EXIT, 0); }
static void threads(i64 n) {
	for (i64 i = 0; i < n; i++) {
		tidword = 1;
		char *top = stack[0] + sizeof stack[0];
		*(void **)(top - 8) = (void *)thread_body;
		i64 ret;
		register i64 r10 __asm__("r10") = (i64)&tidword;
		register i64 r8 __asm__("r8") = 0;
		__asm__ volatile("syscall\n test %%rax,%%rax\n jnz 1f\n pop %%rax\n call *%%rax\n1:"
			: "=a"(ret) : "a"(CLONE), "D"(0x250f00), "S"(top - 8), "d"(0), "r"(r10), "r"(r8) : "rcx", "r11", "memory");
		if (ret < 0) { report(ret); return; }
		while (__atomic_load_n(&tidword, __ATOMIC_SEQ_CST)) sys6(FUTEX, &tidword, 0, 1, 0, 0, 0);
	}
	report(word);
}

// sum: reads bytes one at a time until 0, and reports how many there were: each must be seen once.
static void sum(void) {
	i64 got = 0, bad = 0;
	unsigned char next = 1;
	for (;;) {
		unsigned char c = 0;
		i64 n = sys3(READ, 0, &c, 1);
		if (n == 0) break;
		if (n != 1 || c != next) bad++;
		next = c == 255 ? 1 : c + 1;
		got++;
	}
	report(got);
	report(bad);
}

// spin: runs until word changes, counts in user mode.
static void spin(void) {
	while (!__atomic_load_n(&word, __ATOMIC_SEQ_CST)) ;
	report(word);
}

static void files(i64 fd) {
	volatile char *p = (char *)sys6(MMAP, 0, 8192, 1, 1, fd, 0);
	report((u64)p < 0x7ffe00000000);
	report(p[0]);
	report(sys3(MPROTECT, p, 4096, 3));
	report(sys3(MADVISE, p, 4096, 9));
	volatile char *q = (char *)sys6(MMAP, 0, 8192, 3, 1, fd + 1, 0);
	q[1] = 'y';
	report(p[1]);
	report(sys2(MUNMAP, p, 8192));
}

static void anon(i64 n) {
	for (i64 i = 0; i < n; i++) {
		char *p = (char *)sys6(MMAP, 0, 16384, 3, 0x22, -1, 0);
		if ((u64)p > 0x7ffe00000000) { report((i64)p); return; }
		p[5] = 1;
		if (sys3(MPROTECT, p, 4096, 1)) report(-1);
		if (sys2(MUNMAP, p, 16384)) report(-2);
	}
	report(n);
}

static i64 raw(i64 nr, i64 a, i64 b, i64 c, i64 d, i64 e, i64 f) { return sys(nr, a, b, c, d, e, f); }

// hostile: reports what each attempt returns; all must fail.
static void hostile(i64 base) {
	report(raw(0x100000009, 0, 4096, 1, 1, 1, 0));          // mmap of host fd 1, high bits in rax
	report(raw(0x4000006e, 0, 0, 0, 0, 0, 0));              // x32 getppid
	report(raw(MUNMAP, base, 4096, 0, 0, 0, 0));            // stub code
	report(raw(MUNMAP, 0x7ffd00000000, 0x200000000, 0, 0, 0, 0));
	report(raw(MPROTECT, base, 4096, 7, 0, 0, 0));
	report(raw(MADVISE, base, 4096, 4, 0, 0, 0));
	report(raw(MMAP, base, 4096, 3, 0x32, -1, 0));          // MAP_FIXED over it
	report(raw(MMAP, 0, 4096, 1, 1, 0x554d4c3100000000, 0)); // our mark, descriptor 0
	report(raw(MMAP, 0x10000, 4096, 0x1000003, 0x22, -1, 0)); // PROT_GROWSDOWN
	report(raw(0x13800000000 + 56, 0x11, 0, 0, 0, 0, 0));    // clone with high bits: fork by the kernel's rules
}

// fuzz: every call number but the native ones and those that end or multiply, with garbage above the low half; reports
// the numbers that do not return ENOSYS.
static void fuzz(u64 seed) {
	for (i64 nr = 0; nr < 512; nr++) {
		switch (nr) {
		case MMAP: case MPROTECT: case MUNMAP: case YIELD: case MADVISE: case 158: case FUTEX: case 219: case 324:
		case EXIT: case EXITGROUP: case CLONE: case FORK: case VFORK: case READ: case NANOSLEEP: case WAIT4: case GETPPID:
		case 336: // uprobe: Linux lets it through every filter; outside of its trampoline it fails with ENXIO
			continue;
		}
		for (int i = 0; i < 4; i++) {
			seed = seed * 6364136223846793005 + 1442695040888963407;
			u64 high = i == 0 ? 0 : seed & 0xffffffff00000000;
			i64 ret = raw(high | nr, i & 1, (i64)stack, seed >> 60, seed >> 50, -1, 0);
			if (ret != -38) report(nr);
		}
	}
}

static void int80(void) {
	i64 ret = 0;
	__asm__ volatile("int $0x80" : "=a"(ret) : "a"(24), "b"(0) : "memory");
	report(ret);
}

// witness: calls for ever, and writes to a shared file when there is no kernel that answers.
static void witness(i64 fd) {
	volatile char *p = (char *)sys6(MMAP, 0, 4096, 3, 1, fd, 0);
	for (;;) if (sys0(GETPPID) != 1) p[0] = 1;
}

static void segv(i64 addr) { *(volatile int *)addr = 1; report(1); }


__attribute__((section(".start"), used)) void start(i64 which, i64 a, i64 b) {
	switch (which) {
	case 0: count(a); break;
	case 1: forks(a); break;
	case 2: threads(a); break;
	case 3: sum(); break;
	case 4: spin(); break;
	case 5: files(a); break;
	case 6: anon(a); break;
	case 7: hostile(a); break;
	case 8: int80(); break;
	case 9: segv(a); break;
	case 10: report(sys2(NANOSLEEP, a, 0)); break;
	case 11: report(sys6(FUTEX, &word, 0, 0, 0, 0, 0)); break;
	case 12: for (;;) sys0(YIELD); break;
	case 13: report((i64)sys1(158, 0) ); break;
	case 14: report(*(volatile int *)a); break;
	case 17: fuzz(a); break;
	case 18: witness(a); break;
	case 16: for (;;) sys1(12, 0); break;
	case 15: for (i64 i = 0; i < a; i++) sys0(YIELD); report(a); break;
	}
	quit(3);
}
