package watchdog

import (
	"io"
	"os"
	"os/signal"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/mconsole"
)

// Main is the program uml_watchdog; args are its arguments without its name. It returns the exit status.
func Main(args []string) int {
	if len(args) != 2 {
		return 1
	}
	var bite func()
	switch args[0] {
	case "-pid":
		pid, err := strconv.Atoi(args[1])
		if err != nil || pid <= 1 {
			return 1
		}
		bite = func() { end(pid, time.Second) }
	case "-mconsole":
		n, err := mconsole.NewNotifier(args[1])
		if err != nil {
			return 1
		}
		bite = n.Hang
	default:
		return 1
	}
	signal.Ignore(unix.SIGINT, unix.SIGHUP, unix.SIGPIPE)
	if _, err := os.Stdout.Write([]byte{'\n'}); err != nil {
		return 1
	}
	os.Stdout.Close() // the guest waits for no more
	if guard(os.Stdin, Timeout) {
		return 0
	}
	bite()
	return 1
}

// guard reads pings. It returns true at the end of the input, false when there was none for too long.
func guard(r io.Reader, timeout time.Duration) bool {
	pings, eof := make(chan struct{}), make(chan struct{})
	go func() {
		buf := make([]byte, 512)
		for {
			n, err := r.Read(buf)
			if n > 0 {
				pings <- struct{}{}
			}
			if err != nil {
				close(eof)
				return
			}
		}
	}()
	t := time.NewTimer(timeout)
	defer t.Stop()
	for {
		select {
		case <-pings:
			t.Reset(timeout)
		case <-eof:
			return true
		case <-t.C:
			return false
		}
	}
}

// end interrupts a process twice, which an orderly end may take, and kills it.
func end(pid int, pause time.Duration) {
	for _, sig := range []unix.Signal{unix.SIGINT, unix.SIGINT, unix.SIGKILL} {
		if unix.Kill(pid, sig) != nil {
			return
		}
		time.Sleep(pause)
	}
}
