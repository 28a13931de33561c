package syscalls

import "golang.org/x/sys/unix"

// missing are the calls of Linux that have no handler and so give ENOSYS, with the reason. Here they get their names, by
// which the log and the list tell of them.
var missing = []struct {
	note  string
	calls map[int]string
}{
	{"no tracing of programs", map[int]string{
		unix.SYS_PERF_EVENT_OPEN: "perf_event_open", unix.SYS_BPF: "bpf",
		unix.SYS_URETPROBE: "uretprobe", unix.SYS_UPROBE: "uprobe",
	}},
	{"no filters or rules of programs for themselves", map[int]string{
		unix.SYS_LANDLOCK_CREATE_RULESET: "landlock_create_ruleset",
		unix.SYS_LANDLOCK_ADD_RULE:       "landlock_add_rule", unix.SYS_LANDLOCK_RESTRICT_SELF: "landlock_restrict_self",
		unix.SYS_LSM_GET_SELF_ATTR: "lsm_get_self_attr", unix.SYS_LSM_SET_SELF_ATTR: "lsm_set_self_attr",
		unix.SYS_LSM_LIST_MODULES: "lsm_list_modules",
	}},
	{"no key rings", map[int]string{
		unix.SYS_ADD_KEY: "add_key", unix.SYS_REQUEST_KEY: "request_key", unix.SYS_KEYCTL: "keyctl",
	}},
	{"no fanotify", map[int]string{unix.SYS_FANOTIFY_INIT: "fanotify_init", unix.SYS_FANOTIFY_MARK: "fanotify_mark"}},
	{"no process accounting", map[int]string{unix.SYS_ACCT: "acct"}},
	{"no NUMA", map[int]string{
		unix.SYS_MBIND: "mbind", unix.SYS_SET_MEMPOLICY: "set_mempolicy", unix.SYS_GET_MEMPOLICY: "get_mempolicy",
		unix.SYS_MIGRATE_PAGES: "migrate_pages", unix.SYS_MOVE_PAGES: "move_pages",
		unix.SYS_SET_MEMPOLICY_HOME_NODE: "set_mempolicy_home_node",
	}},
	{"no loading of kernel code", map[int]string{
		unix.SYS_INIT_MODULE: "init_module", unix.SYS_FINIT_MODULE: "finit_module", unix.SYS_DELETE_MODULE: "delete_module",
		unix.SYS_KEXEC_LOAD: "kexec_load", unix.SYS_KEXEC_FILE_LOAD: "kexec_file_load",
	}},
	{"no I/O ports", map[int]string{unix.SYS_IOPL: "iopl", unix.SYS_IOPERM: "ioperm"}},
	{"64-bit programs have none", map[int]string{
		unix.SYS_SET_THREAD_AREA: "set_thread_area", unix.SYS_GET_THREAD_AREA: "get_thread_area",
	}},
	{"not there yet", map[int]string{
		unix.SYS_PROCESS_MADVISE: "process_madvise", unix.SYS_PROCESS_MRELEASE: "process_mrelease",
		unix.SYS_MEMFD_SECRET: "memfd_secret", unix.SYS_CACHESTAT: "cachestat", unix.SYS_MSEAL: "mseal",
		unix.SYS_MAP_SHADOW_STACK: "map_shadow_stack", unix.SYS_STATMOUNT: "statmount", unix.SYS_LISTMOUNT: "listmount",
	}},
	{"newer than Linux 6.12", map[int]string{
		unix.SYS_SETXATTRAT: "setxattrat", unix.SYS_GETXATTRAT: "getxattrat", unix.SYS_LISTXATTRAT: "listxattrat",
		unix.SYS_REMOVEXATTRAT: "removexattrat", unix.SYS_OPEN_TREE_ATTR: "open_tree_attr", unix.SYS_FILE_GETATTR: "file_getattr",
		unix.SYS_FILE_SETATTR: "file_setattr", unix.SYS_LISTNS: "listns", unix.SYS_RSEQ_SLICE_YIELD: "rseq_slice_yield",
	}},
	{"gone from Linux, or never there", map[int]string{
		unix.SYS_USELIB: "uselib", unix.SYS__SYSCTL: "_sysctl", unix.SYS_CREATE_MODULE: "create_module",
		unix.SYS_GET_KERNEL_SYMS: "get_kernel_syms", unix.SYS_QUERY_MODULE: "query_module", unix.SYS_NFSSERVCTL: "nfsservctl",
		unix.SYS_GETPMSG: "getpmsg", unix.SYS_PUTPMSG: "putpmsg", unix.SYS_AFS_SYSCALL: "afs_syscall",
		unix.SYS_TUXCALL: "tuxcall", unix.SYS_SECURITY: "security", unix.SYS_LOOKUP_DCOOKIE: "lookup_dcookie",
		unix.SYS_EPOLL_CTL_OLD: "epoll_ctl_old", unix.SYS_EPOLL_WAIT_OLD: "epoll_wait_old", unix.SYS_VSERVER: "vserver",
	}},
}

func init() {
	for _, m := range missing {
		for nr, name := range m.calls {
			if Table[nr].Fn == nil {
				Table[nr] = Entry{Name: name, Note: m.note}
			}
		}
	}
}
