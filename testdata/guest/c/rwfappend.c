// pwritev2 with RWF_APPEND.
#include "t.h"
int main(void) {
	int fd = open("f", O_CREAT | O_RDWR, 0600); struct iovec v = {"abc", 3}; write(fd, "0123456789", 10); T(pwritev2(fd, &v, 1, 0, RWF_APPEND)); T(lseek(fd, 0, SEEK_END)); T(pwritev2(fd, &v, 1, -1, RWF_APPEND)); T(lseek(fd, 0, SEEK_CUR));
}
