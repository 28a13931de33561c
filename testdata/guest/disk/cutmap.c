// Mappings of files that are cut, punched, shifted and written afterwards: what they show. The files are closed before they are
// mapped, so that a private mapping finds nobody who writes.
#include "../c/t.h"
#define PG 4096L
#define PAGES 8
#define TAIL 100
static __thread sigjmp_buf jb;
static void caught(int s) { siglongjmp(jb, s); }
static char at(volatile char *p) {
	if (sigsetjmp(jb, 1))
		return '!';
	char c = *p;
	return c ? c : '.';
}
// look notes three bytes of each page.
static char (*said)[64];
static void look(int n, char *m) {
	char *p = said[n];
	for (int i = 0; i < PAGES + 4; i++) {
		*p++ = at(m + i * PG), *p++ = at(m + i * PG + 2000), *p++ = at(m + i * PG + PG - 1);
		*p++ = ' ';
	}
	p[-1] = 0;
}
// copy lets the kernel read a byte of each page.
static void copy(char *m) {
	int p[2];
	char b[64], *o = b;
	MUST(pipe(p));
	for (int i = 0; i < PAGES + 4; i++)
		*o++ = write(p[1], m + i * PG, 1) == 1 && read(p[0], o, 1) == 1 ? *o ? *o : '.' : '!';
	*o = 0;
	close(p[0]), close(p[1]);
	P("  by the kernel: %s\n", b);
}
static void fill(const char *name, int pages, int tail, char first) {
	int fd = MUST(open(name, O_CREAT | O_TRUNC | O_RDWR, 0600));
	char b[PG];
	for (int i = 0; i < pages; i++) {
		memset(b, first + i, PG);
		MUST(pwrite(fd, b, PG, i * PG));
	}
	memset(b, first + pages, PG);
	if (tail)
		MUST(pwrite(fd, b, tail, pages * PG));
	close(fd);
}
static int rdwr(void) { return MUST(open("f", O_RDWR)); }
static void down(void) { MUST(truncate("f", 3 * PG + 10)); }
static void page(void) { MUST(truncate("f", 3 * PG)); }
static void zero(void) { MUST(truncate("f", 0)); }
static void otrunc(void) { close(MUST(open("f", O_WRONLY | O_TRUNC))); }
static void rewritten(void) { fill("f", PAGES, TAIL, 'A'); }
static void shorter(void) { fill("f", 2, 50, 'A'); }
static void fall(int mode, long off, long n) {
	int fd = rdwr();
	if (fallocate(fd, mode, off, n))
		P("  fallocate %d: %s\n", mode, ename(errno));
	close(fd);
}
static void punch(void) { fall(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, PG, 2 * PG); }
static void punchpart(void) { fall(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, PG + 1000, 3 * PG); }
static void punchall(void) { fall(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 100 * PG); }
static void zerorange(void) { fall(FALLOC_FL_ZERO_RANGE, PG, 3 * PG + 100); }
static void collapse(void) { fall(FALLOC_FL_COLLAPSE_RANGE, 2 * PG, 2 * PG); }
static void insert(void) { fall(FALLOC_FL_INSERT_RANGE, 2 * PG, 2 * PG); }
static void unlinked(void) { MUST(unlink("f")); fill("g", 50, 0, 'A'); fill("f", PAGES, TAIL, 'a'); }
static void renamed(void) { fill("g", 2, 0, 'A'); MUST(rename("g", "f")); }
static void store(void) {
	int fd = rdwr();
	char b[2 * PG];
	memset(b, 'W', sizeof b);
	MUST(pwrite(fd, b, sizeof b, 3 * PG));
	MUST(pwrite(fd, b, 100, 1950));
	MUST(pwrite(fd, b, 10, PAGES * PG));
	close(fd);
}
static void append(void) {
	int fd = MUST(open("f", O_WRONLY | O_APPEND));
	char b[3 * PG];
	memset(b, 'X', sizeof b);
	MUST(write(fd, b, sizeof b));
	close(fd);
}
static void sharedstore(void) {
	int fd = rdwr();
	char *m = mmap(0, 5 * PG, 3, MAP_SHARED, fd, 0);
	memset(m + 4 * PG, 'S', PG), memset(m + 2 * PG, 'S', 1);
	munmap(m, 5 * PG);
	close(fd);
}
// holes makes the file one with holes; grown makes it long again and writes into what is new.
static void holes(void) {
	int fd = rdwr();
	MUST(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4 * PG, 2 * PG));
	close(fd);
}
static void fillhole(void) {
	int fd = rdwr();
	MUST(pwrite(fd, "HOLE", 4, 4 * PG)), MUST(pwrite(fd, "H", 1, 6 * PG - 1));
	close(fd);
}
static void up(void) { MUST(truncate("f", 10 * PG + 7)); }
static void upstore(void) {
	int fd = rdwr();
	char b[PG];
	memset(b, 'U', sizeof b);
	for (int i = 0; i < 11; i += 2)
		MUST(pwrite(fd, b, PG, i * PG));
	close(fd);
}
static struct { const char *name; void (*op)(void); } ops[] = {
	{"truncate", down}, {"truncate to a page", page}, {"truncate to nothing", zero}, {"O_TRUNC", otrunc}, {"written anew", rewritten},
	{"written anew, shorter", shorter}, {"punch", punch}, {"punch a part", punchpart}, {"punch all", punchall}, {"zero range", zerorange},
	{"collapse", collapse}, {"insert", insert}, {"unlink", unlinked}, {"rename", renamed}, {"pwrite", store}, {"append", append},
	{"shared store", sharedstore}, {"fill holes", fillhole},
};
static char *map(int flags, int prot) {
	int fd = MUST(open("f", (flags & MAP_SHARED) && (prot & 2) ? O_RDWR : O_RDONLY));
	char *m = mmap(0, (PAGES + 4) * PG, prot, flags, fd, 0);
	close(fd);
	if (prot & 2) { // copies, or stores
		m[PG + 2000] = '1', m[5 * PG] = '5', m[PAGES * PG + TAIL - 1] = '8', m[PAGES * PG + 2000] = 0;
	}
	at(m), at(m + 2 * PG), at(m + 7 * PG); // some are in the page tables
	return m;
}
static volatile int *stage;
enum { SELF, FORKED, OTHER, SPINS, WAITS, ROLES };
static const char *roles[] = {"self", "forked", "other", "spins", "waits"};
static void await(int n, int how) {
	while (*stage < n) {
		if (how == WAITS)
			syscall(SYS_futex, stage, 0, n - 1, NULL, NULL, 0);
		else if (how != SPINS)
			usleep(100);
	}
}
static void next(void) {
	++*stage;
	syscall(SYS_futex, stage, 1, 100, NULL, NULL, 0);
}
static void watch(char *m, int how) {
	for (int i = 0; i < 3; i++)
		await(i + 1, how), look(i, m), stage[1] = i + 1;
}
static void *spin(void *m) { while (!stage[2]) at(m); return NULL; }
static const char *when[] = {"after", "grown", "filled"};
// one has a mapping of the file in this or in another process, changes the file, makes it longer, and writes to it. What others see
// is printed if it is not what this process has seen.
static void one(int op, int flags, int prot, int role) {
	static char seen[3][64];
	void (*then[])(void) = {ops[op].op, up, upstore};
	fill("f", PAGES, TAIL, 'a');
	if (ops[op].op == fillhole)
		holes();
	stage[0] = stage[1] = stage[2] = 0;
	char *m = role == OTHER ? NULL : map(flags, prot);
	if (role != SELF) {
		int p[2];
		MUST(pipe(p));
		if (!MUST(fork())) {
			if (!m)
				m = map(flags, prot);
			pthread_t t;
			if (role == OTHER)
				pthread_create(&t, NULL, spin, m);
			write(p[1], "", 1);
			watch(m, role);
			_exit(0);
		}
		char c;
		read(p[0], &c, 1);
		close(p[0]), close(p[1]);
	}
	if (role == SELF)
		P("%s, %s %s\n", ops[op].name, flags & MAP_SHARED ? "shared" : "private", prot & 2 ? "rw" : "ro");
	for (int i = 0; i < 3; i++) {
		then[i]();
		next();
		if (role == SELF)
			look(i, m), strcpy(seen[i], said[i]), P("  %s: %s\n", when[i], seen[i]), copy(m);
		else
			while (stage[1] < i + 1)
				usleep(100);
		if (strcmp(seen[i], said[i]))
			P("  %s: %s: %s\n", when[i], roles[role], said[i]);
	}
	if (role != SELF)
		MUST(wait(NULL));
	if (m)
		munmap(m, (PAGES + 4) * PG);
}
int main(int argc, char **argv) {
	on(SIGBUS, caught, SA_NODEFER);
	stage = mmap(0, PG, 3, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	said = (void *)(stage + 64);
	for (size_t op = 0; op < sizeof ops / sizeof *ops; op++)
		for (int shared = 0; shared < 2; shared++)
			for (int write = 0; write < 2; write++)
				for (int role = 0; role < ROLES; role++)
					one(op, shared ? MAP_SHARED : MAP_PRIVATE, write ? 3 : 1, role);
	unlink("f"), unlink("g");
}
