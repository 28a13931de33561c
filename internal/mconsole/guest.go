package mconsole

import (
	"io"
	"os"

	"golang.org/x/sys/unix"
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
	// Exec runs a command with the guest's shell, with stdio as its streams. The files stay the caller's.
	Exec(command string, stdio [3]*os.File) (Process, error)
	// ExecOnTerminal runs it on a new terminal of the guest, whose bytes go through f, a socket, until the command has ended.
	ExecOnTerminal(command string, f *os.File, size unix.Winsize) (Process, error)
	// Status tells how the guest is.
	Status() Status
}

// Process is a command that runs in the guest.
type Process interface {
	// Wait waits for its end and gives its exit status, 128+n for a signal.
	Wait() int
	// Signal sends a signal to its process group.
	Signal(sig unix.Signal)
	// Resize sets the window size of its terminal; Hangup says that its user has gone.
	Resize(ws unix.Winsize)
	Hangup()
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
