// read, write, pread, pwrite, readv, writev, preadv2, truncate, fallocate: edge cases.
#include "t.h"
int main(void) {
	char b[64];
	int fd = MUST(open("f", O_CREAT | O_RDWR, 0644));
	int ro = MUST(open("f", O_RDONLY)), wo = MUST(open("f", O_WRONLY)), ap = MUST(open("f", O_WRONLY | O_APPEND)), dir = MUST(open(".", O_RDONLY));
	T(write(fd, "0123456789", 10)); T(write(ro, "x", 1)); T(read(wo, b, 1)); T(read(-1, b, 1)); T(write(-1, b, 1)); T(read(dir, b, 1)); T(write(dir, b, 1));
	T(read(ro, b, 0)); T(read(dir, b, 0)); T(write(fd, b, 0)); T(write(ro, b, 0)); T(read(ro, (void *)1, 0)); T(read(ro, (void *)1, 1)); T(write(fd, (void *)1, 1)); T(write(fd, (void*)-1L, 1));
	T(read(ro, b, 64)); T(read(ro, b, 64)); T(read(ro, (void *)1, 1));
	T(pread(ro, b, 4, 8)); T(pread(ro, b, 4, 10)); T(pread(ro, b, 4, 100)); T(pread(ro, b, 4, -1)); T(pwrite(fd, "z", 1, -1)); T(pread(ro, b, 4, LONG_MAX));
	T(pwrite(fd, "z", 1, LONG_MAX)); T(pwrite(fd, "zz", 2, LONG_MAX - 1));
	T(pwrite(ap, "AP", 2, 0)); memset(b, 0, 64); T(pread(ro, b, 64, 0)); P("%s\n", b);
	T(lseek(ap, 0, SEEK_CUR)); T(write(ap, "Q", 1)); T(lseek(ap, 0, SEEK_CUR));
	struct iovec iov[4] = {{"ab", 2}, {NULL, 0}, {"cd", 2}, {(void *)1, 1}};
	T(writev(fd, iov, 3)); T(writev(fd, iov, 4)); T(writev(fd, iov, 0)); T(writev(fd, iov, -1)); T(writev(fd, iov, 1025)); T(writev(fd, (void *)1, 1)); T(writev(fd, (void *)1, 0));
	struct iovec big[2] = {{b, LONG_MAX}, {b, LONG_MAX}}, neg[1] = {{b, -1UL}};
	T(readv(ro, big, 2)); T(readv(ro, neg, 1));
	char c1[3] = {0}, c2[3] = {0};
	struct iovec in[2] = {{c1, 2}, {c2, 2}};
	lseek(ro, 0, 0); T(readv(ro, in, 2)); P("%s %s\n", c1, c2);
	T(preadv(ro, in, 2, 3)); P("%s %s\n", c1, c2); T(preadv(ro, in, 2, -1)); T(preadv2(ro, in, 2, -1, 0)); T(preadv2(ro, in, 2, 0, 0x4000)); T(preadv2(ro, in, 2, 0, RWF_HIPRI|RWF_DSYNC));
	// A write across an unmapped page is short.
	long pg = 4096; char *m = mmap(0, 2 * pg, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memset(m, 'x', 2 * pg); munmap(m + pg, pg);
	T(ftruncate(fd, 0)); T(pwrite(fd, m + pg - 10, 20, 0)); struct stat st; fstat(fd, &st); P("size %ld\n", (long)st.st_size);
	T(pwrite(fd, "0123456789012345678901234567890123456789", 40, 0)); T(pread(fd, m + pg - 10, 20, 0));
	int p[2]; pipe(p); T(write(p[1], m + pg - 10, 20)); T(ioctl(p[0], FIONREAD, b) == 0 ? *(int *)b : -1);
	T(write(p[1], "abcdefghijklmnopqrstuvwxyz", 26)); read(p[0], m + pg - 5, 5);
	T(pread(p[0], b, 1, 0)); T(pwrite(p[1], b, 1, 0)); T(lseek(p[0], 0, 0)); T(read(p[1], b, 1)); T(write(p[0], b, 1));
	T(truncate("f", 5)); fstat(fd, &st); P("size %ld\n", (long)st.st_size); T(ftruncate(fd, 10000)); fstat(fd, &st); P("size %ld\n", (long)st.st_size);
	T(pread(fd, b, 8, 4)); P("%d %d\n", b[0], b[1]);
	T(ftruncate(fd, -1)); T(ftruncate(ro, 0)); T(truncate("none", 0)); T(truncate(".", 0)); T(ftruncate(p[0], 0)); T(ftruncate(dir, 0)); T(truncate("f", -1)); T(truncate("f", LONG_MAX));
	T(fallocate(fd, 0, 0, 0)); T(fallocate(fd, 0, -1, 1)); T(fallocate(fd, 0, 0, -1)); T(fallocate(fd, 0, 0, 20000)); fstat(fd, &st); P("size %ld\n", (long)st.st_size);
	T(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 40000)); fstat(fd, &st); P("size %ld\n", (long)st.st_size);
	T(fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, 4096)); T(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096)); T(pread(fd, b, 1, 0)); P("%d\n", b[0]);
	T(fallocate(fd, 0x1000, 0, 1)); T(fallocate(ro, 0, 0, 1)); T(fallocate(p[1], 0, 0, 1)); T(fallocate(dir, 0, 0, 1)); T(fallocate(99, 0, 0, 1));
	T(posix_fadvise(fd, 0, 0, 0)); T(posix_fadvise(p[0], 0, 0, 0)); T(posix_fadvise(fd, 0, 0, 99)); T(posix_fadvise(99, 0, 0, 0)); T(readahead(fd, 0, 10)); T(readahead(p[0], 0, 10)); T(readahead(wo, 0, 10));
	T(fsync(fd)); T(fdatasync(ro)); T(fsync(p[0])); T(fsync(99)); T(sync_file_range(fd, 0, 0, 0)); T(sync_file_range(fd, 0, 0, 99)); T(syncfs(fd)); T(syncfs(99));
	T(close(99)); T(close(-1)); T(close(fd)); T(close(fd));
	int z = open("/dev/zero", O_RDWR), nul = open("/dev/null", O_RDWR), full = open("/dev/full", O_RDWR);
	T(read(z, b, 8)); T(write(z, b, 8)); T(read(nul, b, 8)); T(write(nul, b, 8)); T(read(full, b, 8)); T(write(full, b, 8)); T(write(full, b, 0)); T(write(nul, (void*)1, 8)); T(read(z, (void*)1, 8)); T(lseek(nul, 5, SEEK_SET)); T(lseek(z, 5, SEEK_CUR));
}
