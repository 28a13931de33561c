// The block special file $1 in memory, and as others see it. It must be 64 KiB and 512 bytes long, with the text "backing"
// at 4096 and 12288.
#include "../c/t.h"

static sigjmp_buf back;
static void bus(int sig) { siglongjmp(back, sig); }

// touch reads a byte, or tells which signal that gave.
static long touch(volatile char *p) {
	int sig = sigsetjmp(back, 1);
	return sig ? sig : *p < 0 ? -2 : 0;
}

int main(int argc, char **argv) {
	signal(SIGBUS, bus);
	char b[4096 * 2] = "";
	int fd = MUST(open(argv[1], O_RDWR)), ro = MUST(open(argv[1], O_RDONLY));
	T(lseek(fd, 0, SEEK_END));
	char *s = mmap(0, 1 << 17, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	char *r = mmap(0, 8192, PROT_READ, MAP_SHARED, ro, 4096);
	char *p = mmap(0, 1 << 16, PROT_READ | PROT_WRITE, MAP_PRIVATE, ro, 0);
	if (s == MAP_FAILED || r == MAP_FAILED || p == MAP_FAILED)
		P("mmap: %s\n", ename(errno));
	T(mprotect(r, 4096, PROT_READ | PROT_WRITE));
	P("%.7s %.7s %.7s\n", s + 4096, r, p + 12288);
	// The private page is a copy from here on.
	memcpy(p + 4096, "private", 7);

	// Stores are read, from the same sectors and from others.
	memcpy(s + 4096, "stored1", 7);
	T(pread(ro, b, 16, 4096));
	P("%.7s %.7s %.7s\n", b, r, p + 4096);
	// Writes are loaded: a whole page, a sector, some bytes.
	memset(b, 'w', sizeof b);
	T(pwrite(fd, b, 4096, 8192));
	P("%.2s %.2s\n", s + 8192, r + 4096);
	T(pwrite(fd, "sector", 6, 8192 + 512));
	P("%.8s\n", s + 8192 + 510);
	T(msync(s, 1 << 16, MS_SYNC));
	T(fsync(fd));

	// The last page is there, what is stored beyond the end of the device goes nowhere; pages after it are not there.
	s[65536 + 511] = 'e', s[65536 + 512] = 'x';
	T(pread(ro, b, 4096, 65536));
	P("%c\n", b[511]);
	P("%ld %ld\n", touch(s + 65536 + 4095), touch(s + 65536 + 4096));
	T(munmap(s, 1 << 17));
	T(pread(ro, b, 16, 4096));
	P("%.7s\n", b);

	// With O_DIRECT place, length and memory are whole sectors.
	static char a[4096] __attribute__((aligned(4096)));
	int d = MUST(open(argv[1], O_RDWR | O_DIRECT));
	T(pread(d, a, 4096, 4096));
	T(pread(d, a + 512, 512, 512));
	T(pread(d, a, 4095, 4096));
	T(pread(d, a, 512, 511));
	T(pread(d, a + 1, 512, 4096));
	T(pwrite(d, a, 512, 12288));
	T(pwrite(d, a + 8, 512, 12288));
	T(pwrite(d, a, 100, 12288));
	P("%.7s\n", a);
	return 0;
}
