package abi

// What uname(2) tells, and "linux --version". Release names the Linux version whose system call interface the guest
// kernel follows; programs compare its first numbers.
const (
	Sysname = "Linux"
	Release = "6.12.0-uml-go"
	Version = "#1 SMP PREEMPT_DYNAMIC User Mode Linux in Go"
	Machine = "x86_64"
)

// Banner is the first line of the boot log and of "linux --help".
const Banner = "Linux version " + Release + " (User Mode Linux, one Go program) " + Version
