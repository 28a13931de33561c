// lseek(2), SEEK_DATA and SEEK_HOLE.
#include "t.h"
int main(void) {
	int fd = MUST(open("f", O_CREAT | O_RDWR, 0644));
	MUST(write(fd, "0123456789", 10));
	T(lseek(fd, 0, SEEK_CUR)); T(lseek(fd, 5, SEEK_SET)); T(lseek(fd, -5, SEEK_CUR)); T(lseek(fd, -1, SEEK_CUR)); T(lseek(fd, -1, SEEK_SET)); T(lseek(fd, 0, SEEK_END)); T(lseek(fd, -11, SEEK_END));
	T(lseek(fd, 100, SEEK_END)); T(lseek(fd, LONG_MAX, SEEK_SET)); T(lseek(fd, 1, SEEK_CUR)); T(lseek(fd, LONG_MAX, SEEK_END)); T(lseek(fd, 0, 5)); T(lseek(fd, 0, -1)); T(lseek(99, 0, 0));
	T(lseek(fd, 1 << 20, SEEK_SET)); T(write(fd, "x", 1)); T(lseek(fd, 0, SEEK_DATA)); T(lseek(fd, 0, SEEK_HOLE)); T(lseek(fd, 4096, SEEK_DATA)); T(lseek(fd, 1 << 20, SEEK_DATA)); T(lseek(fd, (1 << 20) + 1, SEEK_DATA)); T(lseek(fd, 1 << 20, SEEK_HOLE)); T(lseek(fd, 1 << 21, SEEK_HOLE)); T(lseek(fd, -1, SEEK_DATA));
	int e = MUST(open("e", O_CREAT | O_RDWR, 0644)); T(lseek(e, 0, SEEK_DATA)); T(lseek(e, 0, SEEK_HOLE)); ftruncate(e, 5000); T(lseek(e, 0, SEEK_DATA)); T(lseek(e, 0, SEEK_HOLE)); T(lseek(e, 4999, SEEK_HOLE)); T(lseek(e, 5000, SEEK_HOLE));
	int d = open(".", O_RDONLY); T(lseek(d, 0, SEEK_SET)); T(lseek(d, -1, SEEK_SET)); T(lseek(d, 0, 7));
	int s = socket(AF_UNIX, SOCK_STREAM, 0); T(lseek(s, 0, SEEK_SET)); int o = open("f", O_PATH); T(lseek(o, 0, 0));
	// dup shares the offset, open does not.
	int a = open("f", O_RDONLY), b = dup(a), c = open("f", O_RDONLY); char x[4]; read(a, x, 4); T(lseek(b, 0, SEEK_CUR)); T(lseek(c, 0, SEEK_CUR));
	CHILD("child", lseek(a, 7, SEEK_SET)); T(lseek(a, 0, SEEK_CUR));
}
