package cmdline

import (
	"fmt"
	"io"
	"strings"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
)

// builtin is what --showconfig prints: the kernel configuration symbols that describe what the guest kernel has.
var builtin = []struct {
	title   string
	symbols string
}{
	{"UML-specific options", "UML MMU 64BIT X86_64 LD_SCRIPT_STATIC STATIC_LINK HOSTFS MCONSOLE"},
	{"General setup", "SMP SYSVIPC POSIX_MQUEUE CROSS_MEMORY_ATTACH BLK_DEV_INITRD RD_GZIP RD_BZIP2 RD_LZMA RD_XZ RD_ZSTD MULTIUSER SYSCTL FUTEX FUTEX_PI EPOLL SIGNALFD TIMERFD EVENTFD SHMEM AIO ADVISE_SYSCALLS MEMBARRIER PRINTK NAMESPACES UTS_NS PID_NS USER_NS NET_NS IPC_NS"},
	{"Executable file formats", "BINFMT_ELF BINFMT_SCRIPT COREDUMP"},
	{"Networking", "NET PACKET UNIX INET IPV6 NETDEVICES TUN"},
	{"Device drivers", "DEVTMPFS DEVTMPFS_MOUNT BLK_DEV BLK_DEV_UBD TTY UNIX98_PTYS STDERR_CONSOLE SSL NULL_CHAN PORT_CHAN PTY_CHAN TTY_CHAN XTERM_CHAN UML_NET UML_NET_VECTOR UML_RANDOM"},
	{"File systems", "EXT4_FS EXT4_USE_FOR_EXT2 EXT4_FS_POSIX_ACL FILE_LOCKING INOTIFY_USER PROC_FS PROC_SYSCTL SYSFS TMPFS TMPFS_XATTR JBD2"},
	{"Security", "SECCOMP SECCOMP_FILTER"},
}

// absentSymbols are those that programs look for and that are not there.
var absentSymbols = strings.Fields("MODULES KALLSYMS KEXEC SWAP BPF_SYSCALL SECURITY_SELINUX SECURITY_APPARMOR UML_TIME_TRAVEL_SUPPORT UML_SOUND VIRTIO_UML")

// WriteConfig writes the configuration in the form of a kernel's .config.
func WriteConfig(w io.Writer) {
	fmt.Fprintf(w, "#\n# Linux/um %s Kernel Configuration\n#\n", abi.Release)
	for _, section := range builtin {
		fmt.Fprintf(w, "\n#\n# %s\n#\n", section.title)
		for s := range strings.FieldsSeq(section.symbols) {
			fmt.Fprintf(w, "CONFIG_%s=y\n", s)
		}
	}
	fmt.Fprint(w, "CONFIG_HZ=100\nCONFIG_DEFAULT_HOSTNAME=\"(none)\"\nCONFIG_CON_ZERO_CHAN=\"fd:0,fd:1\"\nCONFIG_CON_CHAN=\"pts\"\nCONFIG_SSL_CHAN=\"pts\"\n")
	fmt.Fprintf(w, "CONFIG_INIT_ENV_ARG_LIMIT=%d\n", maxInit)
	fmt.Fprint(w, "\n#\n# Not there\n#\n")
	for _, s := range absentSymbols {
		fmt.Fprintf(w, "# CONFIG_%s is not set\n", s)
	}
}
