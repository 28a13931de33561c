// F_SEAL_WRITE after a shared writable mapping has gone.
#include "t.h"
int main(void) {
	int m = memfd_create("m", MFD_ALLOW_SEALING); ftruncate(m, 8192); char *w = mmap(0, 8192, 3, MAP_SHARED, m, 0); *w = 1; T(fcntl(m, F_ADD_SEALS, F_SEAL_WRITE)); munmap(w, 4096); T(fcntl(m, F_ADD_SEALS, F_SEAL_WRITE)); munmap(w + 4096, 4096); T(fcntl(m, F_ADD_SEALS, F_SEAL_WRITE)); T(write(m, "x", 1)); T(mmap(0, 4096, 3, MAP_SHARED, m, 0)); char *r = mmap(0, 4096, 1, MAP_SHARED, m, 0); T(mprotect(r, 4096, 3)); T(fcntl(m, F_GET_SEALS));
}
