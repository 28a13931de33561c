package host

import (
	"os"
	"os/signal"
	"runtime/pprof"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Handlers are called on host signals; nil is to ignore. They must not block.
type Handlers struct {
	// Winch: a host terminal has another size (SIGWINCH). Wake: the guest is to wake from suspend (SIGUSR1).
	Winch, Wake func()
	// Terminate is called on SIGINT and SIGTERM. If it returns true, the guest was asked to shut down and the program
	// goes on; the next one ends it.
	Terminate func() bool
}

var handlers atomic.Pointer[Handlers]

// fatal are signals that end the program by their own default action.
var fatal = []os.Signal{unix.SIGQUIT, unix.SIGUSR2, unix.SIGALRM, unix.SIGVTALRM, unix.SIGIO, unix.SIGPWR, unix.SIGXCPU, unix.SIGSTKFLT, unix.SIGTRAP, unix.SIGSYS, unix.SIGABRT}

// Watch handles the host's signals from now on: SIGINT and SIGTERM clean up and end the program with status 1; SIGHUP and
// SIGPIPE are ignored; SIGQUIT also writes all stacks to stderr, which is how one sees why a guest hangs.
//
// Ignored signals are received and dropped rather than set to be ignored, because helper programs would inherit that.
//
// A later Watch only replaces the handlers.
func Watch(h Handlers) {
	if handlers.Swap(&h) != nil {
		return
	}
	ch := make(chan os.Signal, 16)
	signal.Notify(ch, append([]os.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGPIPE, unix.SIGWINCH, unix.SIGUSR1, unix.SIGXFSZ}, fatal...)...)
	go func() {
		asked := false
		for sig := range ch {
			h := handlers.Load()
			switch sig {
			case unix.SIGHUP, unix.SIGPIPE, unix.SIGXFSZ:
			case unix.SIGWINCH:
				call(h.Winch)
			case unix.SIGUSR1:
				call(h.Wake)
			case unix.SIGINT, unix.SIGTERM:
				if !asked && h.Terminate != nil && h.Terminate() {
					asked = true
					continue
				}
				Exit(StatusUsage)
			default:
				if sig == unix.SIGQUIT {
					pprof.Lookup("goroutine").WriteTo(Stderr, 2)
				}
				Die(sig.(unix.Signal))
			}
		}
	}()
}

func call(f func()) {
	if f != nil {
		f()
	}
}
