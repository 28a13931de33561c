// process_vm_readv and process_vm_writev; kcmp.
#include "t.h"
#include <linux/kcmp.h>
static char text[] = "the parent's text", buf[64];
static int kcmp(pid_t a, pid_t b, int type, long x, long y) { return syscall(SYS_kcmp, a, b, type, x, y); }
int main(void) {
	char *two = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	munmap(two + 4096, 4096);
	memset(two, 'x', 4096);
	int p[2];
	pipe(p);
	pid_t c = fork();
	if (c == 0) {
		strcpy(text, "the child's text!");
		write(p[1], "r", 1);
		pause();
		_exit(0);
	}
	read(p[0], buf, 1);
	struct iovec l[3] = {{buf, 4}, {buf + 10, 8}, {buf + 20, 30}}, r[3] = {{text, 6}, {text + 6, 4}, {text, sizeof text}};
	T(process_vm_readv(c, l, 3, r, 3, 0));
	P("%.4s|%.8s|%s\n", buf, buf + 10, buf + 20);
	struct iovec w = {"written", 8}, t = {text, 8};
	T(process_vm_writev(c, &w, 1, &t, 1, 0));
	l[0] = (struct iovec){buf, 8};
	T(process_vm_readv(c, l, 1, &t, 1, 0));
	P("%s, here %s\n", buf, text);
	r[0] = (struct iovec){two + 4090, 20};
	l[0].iov_len = 20;
	T(process_vm_readv(c, l, 1, r, 1, 0));
	r[0] = (struct iovec){two + 4096, 20};
	T(process_vm_readv(c, l, 1, r, 1, 0));
	T(process_vm_readv(c, l, 1, r, 1, 1));
	T(process_vm_readv(c, l, 1025, r, 1, 0));
	T(process_vm_readv(c, l, 0, r, 1, 0));
	T(process_vm_readv(c, l, 1, r, 0, 0));
	T(process_vm_readv(c, (void *)8, 1, r, 1, 0));
	T(process_vm_readv(999999, l, 1, r, 1, 0));
	T(process_vm_readv(getpid(), l, 1, &t, 1, 0));
	int d = dup(p[0]), other = open("/dev/null", O_RDONLY);
	T(kcmp(getpid(), getpid(), KCMP_FILE, p[0], d));
	T(kcmp(getpid(), c, KCMP_FILE, p[0], p[0]));
	int o = kcmp(getpid(), getpid(), KCMP_FILE, p[0], other), q = kcmp(getpid(), getpid(), KCMP_FILE, other, p[0]);
	P("order %d\n", o + q == 3 && o != q && o > 0);
	T(kcmp(getpid(), c, KCMP_VM, 0, 0) > 0);
	T(kcmp(getpid(), c, KCMP_FILES, 0, 0) > 0);
	T(kcmp(getpid(), c, KCMP_SIGHAND, 0, 0) > 0);
	T(kcmp(getpid(), getpid(), KCMP_FS, 0, 0));
	T(kcmp(getpid(), c, KCMP_SYSVSEM, 0, 0));
	T(kcmp(getpid(), getpid(), KCMP_FILE, 77, 0));
	T(kcmp(getpid(), 999999, KCMP_VM, 0, 0));
	T(kcmp(getpid(), getpid(), 99, 0, 0));
	kill(c, SIGKILL);
	wait(NULL);
}
