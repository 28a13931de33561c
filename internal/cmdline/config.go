package cmdline

import (
	"time"
)

// Action is what the program is asked to do.
type Action uint8

// The actions: Boot unless one of --help, --version, --showconfig, --syscalls is among the arguments.
const (
	Boot Action = iota
	ShowHelp
	ShowVersion
	ShowConfig
	ShowSyscalls
)

// Sizes of guest memory in bytes. Guest memory is not set aside when the guest starts, so the default is generous; DefaultMem
// was 64 MiB in the C implementation.
const (
	DefaultMem = 256 << 20
	MinMem     = 8 << 20
	MaxMem     = 1 << 46 // half of what a process can address
)

// MaxLine is the largest kernel command line in bytes.
const MaxLine = 4096

// maxInit is the largest number of arguments, and of environment words, that init may get from the command line.
const maxInit = 128

// Config is a command line that was understood. It is plain data.
type Config struct {
	Action Action

	// CommandLine is what /proc/cmdline shows, without a newline.
	CommandLine string
	// InitArgs are arguments for init (without its name), InitEnv its environment from the command line (key=value).
	InitArgs, InitEnv []string
	// Warnings are for the user, on stderr; with Strict they are errors.
	Warnings []string
	// Hints are for the user too, but nothing is wrong.
	Hints []string
	// Log is for the kernel log.
	Log []string

	// Mem is the guest's memory in bytes; NCPUs the number of guest CPUs, 0 for as many as the host has.
	Mem   uint64
	NCPUs int

	// Exec is a command to run instead of init, whose status becomes ours. HasExec tells exec= (an empty command) from
	// no exec at all.
	Exec    string
	HasExec bool
	// Timeout ends the guest after that time with status 124; 0 is never.
	Timeout time.Duration
	Strict  bool

	// Root is root= as given, "" if it was not; RootFS is rootfstype= (a comma-separated list), RootFlags rootflags=.
	Root, RootFS, RootFlags string
	// ReadWrite is the last of ro and rw.
	ReadWrite bool
	RootWait  bool
	RootDelay time.Duration
	// Init is init=, RDInit rdinit=, "" if not given; Initrd is a host file; NoInitrd leaves the initramfs unused.
	Init, RDInit, Initrd string
	NoInitrd             bool
	Hostname             string

	Quiet, Debug bool
	// LogLevel: messages below it go to the console.
	LogLevel       int
	IgnoreLogLevel bool
	InitcallDebug  bool
	EarlyPrintk    bool
	// EarlyStderr (stderr=1) shows the boot log on the host's stderr until the consoles are up.
	EarlyStderr bool

	NoReboot bool
	// PanicTimeout is panic=; it has no effect on a UML, whose panic ends the process.
	PanicTimeout int
	// PanicExit is the exit status of a panic, -1 for SIGABRT.
	PanicExit   int
	PanicOnOops bool

	// Umid is "" for a random one. UMLDir is "" for ~/.uml.
	Umid, UMLDir string
	// MconsoleNotify is a host socket for notifications, "" for none.
	MconsoleNotify string

	// HostfsDir is the host directory that hostfs mounts are confined to, "" if none was given. HostfsOff: there is no hostfs. The
	// others are options for all mounts.
	HostfsDir                               string
	HostfsOff                               bool
	HostfsAppend, HostfsMap, HostfsReadOnly bool

	// UBD are words like "ubd0r=file", Consoles like "con0=fd:0,fd:1" and "ssl=pts", Nets like "eth0=mcast" and
	// "vec0:transport=tap,...", in the order given. UBDSync is "ubd=sync".
	UBD      []string
	UBDSync  bool
	Consoles []string
	Nets     []string
	// Console are the values of console=, the last of which is /dev/console.
	Console []string
	// SSLNonRaw leaves the host's terminals of serial lines as they are.
	SSLNonRaw bool
	// TTYLogDir and TTYLogFD are where what happens on terminals is recorded; "" and HasTTYLogFD say if at all.
	TTYLogDir   string
	TTYLogFD    int
	HasTTYLogFD bool
	// Xterm is emulator, title switch and exec switch.
	Xterm [3]string

	// Seccomp is "on", "auto" or "off"; NoSysemu goes without PTRACE_SYSEMU.
	Seccomp  string
	NoSysemu bool
	// HostLikeStack is the old option honeypot.
	HostLikeStack bool

	// Sysctls are settings from sysctl.<name>=<value>, names with dots.
	Sysctls []Setting
	// ModuleParams are <module>.<parameter>[=<value>].
	ModuleParams []Setting
}

// Setting is a name and a value.
type Setting struct{ Name, Value string }

// HasUBD reports whether disk n (0..15) is configured.
func (c *Config) HasUBD(n int) bool {
	for _, w := range c.UBD {
		if u, ok := ubdUnit(w); ok && u == n {
			return true
		}
	}
	return false
}

func newConfig() *Config {
	return &Config{
		Mem:       DefaultMem,
		LogLevel:  7,
		PanicExit: -1,
		Seccomp:   "auto",
		Xterm:     [3]string{"xterm", "-T", "-e"},
	}
}
