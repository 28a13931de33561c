package mconsole

import (
	"io"
	"os"
)

// Guest is what requests act on.
type Guest interface {
	// Halt, Reboot, CtrlAltDel and Sysrq do what they say; the first two end the program.
	Halt()
	Reboot()
	CtrlAltDel()
	Sysrq(key byte)
	// Freeze stops all guest threads and returns when none runs guest code any more; Thaw lets them go on.
	Freeze() error
	Thaw()
	// OpenProc opens a file of the guest's /proc.
	OpenProc(name string) (io.ReadCloser, error)
	// Stack writes what a process is doing; ESRCH if there is none.
	Stack(pid int32, w io.Writer) error
	// Exec runs a command with the guest's shell, with stdio as its streams, and returns a function that waits for its end
	// and gives its exit status (128+n for a signal). The files stay the caller's.
	Exec(command string, stdio [3]*os.File) (wait func() int, err error)
	// Status tells how the guest is.
	Status() Status
}

// Status is what the command status tells.
type Status struct {
	// The names of uname(2).
	Sysname, Nodename, Release, Version, Machine string
	// Uptime is in seconds.
	Uptime float64
	// Load are the load averages.
	Load [3]float64
	// MemTotal and MemAvailable are bytes.
	MemTotal, MemAvailable uint64
	// Threads there are, and of those running.
	Threads, Running int
}
