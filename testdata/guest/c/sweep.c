// Every system call with bad pointers in all arguments: the errors.
// user: nobody
#include "t.h"
// Calls that end, block or fork, that cut the standard output or take the right to read it, or whose errors depend on how the host's kernel was configured, on the size of the
// program (mlockall), on its parent (sigaltstack: exec keeps the flags), or on what System V objects others have made.
static const int skip[] = {
	SYS_exit, SYS_exit_group, SYS_fork, SYS_vfork, SYS_clone, SYS_clone3, SYS_pause, SYS_ftruncate, SYS_fchmod, SYS_rt_sigsuspend, SYS_rt_sigreturn, SYS_kill, SYS_tkill, SYS_tgkill,
	SYS_rt_sigqueueinfo, SYS_rt_tgsigqueueinfo, SYS_reboot, SYS_alarm, SYS_sched_yield, SYS_restart_syscall, SYS_brk, SYS_mmap, SYS_munmap, SYS_mremap, SYS_arch_prctl, SYS_set_tid_address,
	SYS_modify_ldt, SYS_personality, SYS_vhangup, SYS_iopl, SYS_ioperm, SYS_umask, SYS_setsid, SYS_time, SYS_getcpu, SYS_munlockall, SYS_sync, SYS_getrandom, SYS_rseq, SYS_set_robust_list,
	SYS_create_module, SYS_query_module, SYS_get_kernel_syms, SYS_nfsservctl, SYS_getpmsg, SYS_putpmsg, SYS_afs_syscall, SYS_tuxcall, SYS_security, SYS_vserver, SYS_uselib, SYS_ustat, SYS_sysfs, SYS__sysctl, SYS_epoll_ctl_old, SYS_epoll_wait_old, SYS_set_thread_area, SYS_get_thread_area,
	SYS_init_module, SYS_finit_module, SYS_delete_module, SYS_kexec_load, SYS_kexec_file_load, SYS_lookup_dcookie, SYS_quotactl, SYS_quotactl_fd, SYS_acct, SYS_bpf, SYS_perf_event_open, SYS_userfaultfd, SYS_io_setup, SYS_io_destroy, SYS_io_getevents, SYS_io_submit, SYS_io_cancel, SYS_io_pgetevents, SYS_io_uring_setup, SYS_io_uring_enter, SYS_io_uring_register,
	SYS_add_key, SYS_request_key, SYS_keyctl, SYS_mbind, SYS_set_mempolicy, SYS_get_mempolicy, SYS_migrate_pages, SYS_move_pages, SYS_fanotify_init, SYS_fanotify_mark, SYS_landlock_create_ruleset, SYS_landlock_add_rule, SYS_landlock_restrict_self, SYS_memfd_secret, SYS_pkey_alloc, SYS_pkey_free, SYS_pkey_mprotect, SYS_mq_open, SYS_mq_unlink, SYS_mq_timedsend, SYS_mq_timedreceive, SYS_mq_notify, SYS_mq_getsetattr,
	SYS_fsopen, SYS_fsconfig, SYS_fsmount, SYS_fspick, SYS_open_tree, SYS_move_mount, SYS_mount_setattr, SYS_set_mempolicy_home_node, SYS_process_mrelease, SYS_process_madvise, SYS_name_to_handle_at, SYS_open_by_handle_at, SYS_kcmp, SYS_syslog, SYS_ptrace, SYS_seccomp, SYS_remap_file_pages, SYS_setpriority, SYS_ioprio_set, SYS_ioprio_get, SYS_membarrier, SYS_futex_waitv, SYS_setns, SYS_unshare, SYS_swapon, SYS_swapoff, SYS_adjtimex, SYS_clock_adjtime, SYS_settimeofday, SYS_setdomainname, SYS_sethostname, SYS_pivot_root, SYS_mount, SYS_umount2, SYS_chroot, SYS_mlockall, SYS_sigaltstack, SYS_shmget, SYS_shmat, SYS_shmctl, SYS_shmdt, SYS_semget, SYS_semop, SYS_semctl, SYS_semtimedop, SYS_msgget, SYS_msgsnd, SYS_msgrcv, SYS_msgctl, 335, 336, 451};
static int skipped(int n) { for (int i = 0; i < sizeof skip / sizeof *skip; i++) if (skip[i] == n) return 1; return n > 334 && n < 424; }
int main(void) {
	char *ro = mmap((void *)0x10000000, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0); unsigned long pat[] = {1, -1UL, 0x20000000, (unsigned long)ro, 0x7fffffffffffffff};
	signal(SIGPIPE, SIG_IGN); int *res = mmap(0, 4096, 3, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	close(0); open("/dev/null", O_RDWR);
	for (int nr = 0; nr <= 450; nr++) {
		if (skipped(nr)) continue;
		char line[256]; int l = sprintf(line, "%d:", nr);
		for (int v = 0; v < 2; v++) for (int i = 0; i < 5; i++) {
			// The second form has a good descriptor first.
			unsigned long p = pat[i]; *res = -2; pid_t c = fork();
			if (!c) { struct itimerval it = {{0, 0}, {0, 300000}}; setitimer(ITIMER_REAL, &it, 0); errno = 0; long r = syscall(nr, v ? 0 : p, p, p, p, p, p); *res = r == -1 ? errno : r < 0 ? 1000 : 0; _exit(0); }
			int st; waitpid(c, &st, 0);
			if (WIFSIGNALED(st)) l += sprintf(line + l, " sig%d", WTERMSIG(st)); else l += sprintf(line + l, " %s", *res == 0 ? "ok" : *res == 1000 ? "neg" : ename(*res));
		}
		P("%s\n", line);
	}
}
