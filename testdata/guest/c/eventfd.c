// eventfd and timerfd.
#include "t.h"
#include <sys/eventfd.h>
#include <sys/timerfd.h>
static void *wr(void *a) { msleep(50); uint64_t v = 7; write((long)a, &v, 8); return 0; }
int main(void) {
	uint64_t v = 5; char b[16];
	T(eventfd(0, 99)); T(syscall(SYS_eventfd2, 1, EFD_SEMAPHORE | EFD_CLOEXEC | EFD_NONBLOCK)); int s = 3; T(read(s, &v, 8)); P("%ld\n", (long)v); T(read(s, &v, 8)); v = 3; T(write(s, &v, 8)); for (int i = 0; i < 4; i++) T(read(s, &v, 8));
	int e = eventfd(10, EFD_NONBLOCK); T(read(e, b, 7)); T(write(e, b, 7)); T(read(e, &v, 8)); P("%ld\n", (long)v); T(read(e, b, 16)); v = -1ULL; T(write(e, &v, 8)); v = -2ULL; T(write(e, &v, 8)); v = 1; T(write(e, &v, 8)); struct pollfd p = {e, POLLIN | POLLOUT, 0}; poll(&p, 1, 0); P("%x\n", p.revents); v = 0; T(write(e, &v, 8)); T(read(e, b, 16)); T(write(e, b, 16)); T(read(e, (void *)1, 8)); T(write(e, (void *)1, 8)); T(lseek(e, 0, 0)); T(pread(e, b, 8, 0));
	int bl = eventfd(0, 0); pthread_t t; pthread_create(&t, 0, wr, (void *)(long)bl); T(read(bl, &v, 8)); P("%ld\n", (long)v); pthread_join(t, 0);
	struct itimerspec it = {{0, 0}, {0, 30000000}}, cur; T(timerfd_create(99, 0)); T(timerfd_create(CLOCK_MONOTONIC, 99)); T(timerfd_create(CLOCK_PROCESS_CPUTIME_ID, 0)); int tf = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK); T(read(tf, &v, 8)); T(timerfd_gettime(tf, &cur)); P("%ld %ld\n", cur.it_value.tv_sec, cur.it_value.tv_nsec); T(timerfd_settime(tf, 0, &it, &cur)); T(timerfd_gettime(tf, &cur)); P("%d\n", cur.it_value.tv_nsec > 0 && cur.it_value.tv_nsec <= 30000000); p.fd = tf; T(poll(&p, 1, 3000)); P("%x\n", p.revents); T(read(tf, b, 7)); T(read(tf, &v, 8)); P("%ld\n", (long)v); T(read(tf, &v, 8)); T(write(tf, &v, 8));
	it.it_interval.tv_nsec = 10000000; it.it_value.tv_nsec = 1; timerfd_settime(tf, 0, &it, 0); msleep(100); T(read(tf, &v, 8)); P("many %d\n", v >= 5); it.it_value.tv_nsec = 1000000000; T(timerfd_settime(tf, 0, &it, 0)); it.it_value.tv_nsec = -1; T(timerfd_settime(tf, 0, &it, 0)); it.it_value.tv_nsec = 0; T(timerfd_settime(tf, 0, &it, 0)); T(timerfd_settime(tf, 99, &it, 0)); T(timerfd_settime(e, 0, &it, 0)); T(timerfd_gettime(e, &cur)); T(timerfd_settime(tf, 0, (void *)1, 0)); T(timerfd_gettime(99, &cur));
	int ab = timerfd_create(CLOCK_REALTIME, 0); clock_gettime(CLOCK_REALTIME, &it.it_value); it.it_interval.tv_nsec = 0; T(timerfd_settime(ab, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &it, 0)); T(read(ab, &v, 8)); P("%ld\n", (long)v); T(timerfd_gettime(ab, &cur)); P("%ld\n", cur.it_value.tv_nsec); int bt = timerfd_create(CLOCK_BOOTTIME, 0); it.it_value.tv_sec = 0; it.it_value.tv_nsec = 5; T(timerfd_settime(bt, 1, &it, 0)); T(read(bt, &v, 8)); struct stat st; fstat(bt, &st); P("%o\n", st.st_mode);
}
