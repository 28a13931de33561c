package host

import (
	"io"
	"os"
	"runtime/pprof"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// What the exit status of the program means beside the guest's own status.
const (
	StatusUsage   = 1   // bad command line, SIGINT, SIGTERM
	StatusPanic   = 123 // the guest panicked, with exec=
	StatusTimeout = 124 // timeout= ended the guest
	StatusNoBoot  = 125 // the guest could not be started
)

var exits struct {
	sync.Mutex
	funcs []func()
}

// AtExit registers f to be run by Exit, Die and Reexec, last registered first.
func AtExit(f func()) {
	exits.Lock()
	defer exits.Unlock()
	exits.funcs = append(exits.funcs, f)
}

// cleanUp runs what AtExit registered, once. A second caller waits for the first.
func cleanUp() {
	exits.Lock()
	defer exits.Unlock()
	funcs := exits.funcs
	exits.funcs = nil
	for _, f := range slices.Backward(funcs) {
		f()
	}
}

// patience is how long the clean-up may take before the program ends without the rest of it.
const patience = 5 * time.Second

// hurry ends the program with a status if the clean-up takes too long, showing where it waits.
func hurry(status int) {
	time.AfterFunc(patience, func() {
		io.WriteString(Stderr, "the clean-up did not come to an end:\n")
		pprof.Lookup("goroutine").WriteTo(Stderr, 1)
		os.Exit(status)
	})
}

// Exit cleans up and ends the program.
func Exit(status int) {
	hurry(status)
	cleanUp()
	os.Exit(status)
}

// Die cleans up and ends the program by a signal's default action: SIGABRT for a guest panic.
func Die(sig unix.Signal) {
	hurry(128 + int(sig))
	cleanUp()
	resetSignal(sig)
	unix.Kill(os.Getpid(), sig)
	// Default actions that do not end a process are not asked for; but the signal may take a moment to arrive.
	select {}
}

// Reexec cleans up and starts the program anew in the same process, with the same arguments: a reboot of the guest. It
// returns only if that fails.
func Reexec() error {
	cleanUp()
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	return syscall.Exec(exe, os.Args, os.Environ())
}
