// Scheduling parameters: reset on fork, who may lower a nice value, priorities of I/O.
// user: nobody
#include "t.h"

struct sched_attr {
	uint32_t size, sched_policy;
	uint64_t sched_flags;
	int32_t sched_nice;
	uint32_t sched_priority;
	uint64_t sched_runtime, sched_deadline, sched_period;
};

static long setattr(int policy, int nice, unsigned flags) {
	struct sched_attr a = {.size = sizeof a, .sched_policy = policy, .sched_nice = nice, .sched_flags = flags};
	return syscall(SYS_sched_setattr, 0, &a, 0);
}

static void show(const char *label) {
	struct sched_attr a = {0};
	errno = 0;
	int n = getpriority(PRIO_PROCESS, 0);
	long r = syscall(SYS_sched_getattr, 0, &a, sizeof a, 0);
	P("%s: nice %d getattr %ld policy %u nice %d flags %llu policy %d\n", label, n, r, a.sched_policy, a.sched_nice, (unsigned long long)a.sched_flags & 1,
		sched_getscheduler(0));
}

static long ioprio(int class, int level) { return syscall(SYS_ioprio_set, 1, 0, class << 13 | level); }
static long ioprio_of(int which, int who) { return syscall(SYS_ioprio_get, which, who); }

static void io(void) {
	setpgid(0, 0);
	T(ioprio(2, 6));
	T(ioprio_of(1, 0));
	T(ioprio_of(1, getpid()));
	CHILD("child's I/O", T(ioprio_of(1, 0)); T(ioprio(3, 0)); T(ioprio_of(1, 0)));
	T(ioprio_of(2, 0));
	T(ioprio(3, 5));
	T(ioprio_of(2, 0));
	T(ioprio(0, 0));
	T(ioprio_of(1, 0));
	T(ioprio_of(2, 0));
	T(ioprio(0, 1));
	T(ioprio(1, 0));
	T(ioprio(4, 0));
	T(syscall(SYS_ioprio_set, 0, 0, 0));
	T(syscall(SYS_ioprio_set, 4, 0, 0));
	T(syscall(SYS_ioprio_set, 1, 999999, 0));
	T(ioprio_of(0, 0));
	T(ioprio_of(1, 999999));
}

int main(void) {
	struct rlimit r = {0, 0};
	setrlimit(RLIMIT_NICE, &r);
	show("first");
	T(setattr(SCHED_OTHER, -5, 0));
	T(setattr(SCHED_OTHER, 5, 0));
	show("5");
	T(setattr(SCHED_OTHER, 3, 0));
	T(setattr(SCHED_BATCH, 7, 1));
	show("batch");
	CHILD("fork", show("child"));
	T(setpriority(PRIO_PROCESS, 0, 2));
	T(setattr(SCHED_IDLE, 0, 1));
	show("idle");
	CHILD("fork of idle", show("child"));
	CHILD("I/O", io());
}
