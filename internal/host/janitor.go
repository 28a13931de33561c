package host

import (
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/mconsole/umid"
)

// janitorName is argv[0] of the janitor process, by which the program knows that it is to be one.
const janitorName = "linux: janitor"

// The janitor's descriptors.
const (
	janitorPipe = 0
	janitorTTY  = 3
)

// quit is what the janitor is sent last before an orderly end; before that it may be sent the path of the umid directory.
// No path ends in it.
const quit = 0

// StartJanitor starts the janitor, which minds the terminal that standard input, output or error is, and the umid directory
// whose path is given to mind: the sooner after it was made the better.
func StartJanitor() (mind func(dir string), err error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		w.Close()
		return nil, err
	}
	defer null.Close()

	files := []*os.File{r, null, null}
	mode := ""
	for fd := range 3 {
		if t, err := unix.IoctlGetTermios(fd, unix.TCGETS); err == nil {
			mode = encodeTermios(t)
			// A duplicate, because closing an os.File closes its descriptor.
			dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
			if err != nil {
				break
			}
			tty := os.NewFile(uintptr(dup), "tty")
			defer tty.Close()
			files = append(files, tty)
			break
		}
	}
	_, ended, err := StartProcess("/proc/self/exe", []string{janitorName, strconv.Itoa(os.Getpid()), mode}, &os.ProcAttr{
		Dir:   "/",
		Env:   []string{"GOMAXPROCS=1", "GOGC=off"},
		Files: files,
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		w.Close()
		return nil, fmt.Errorf("start the janitor: %w", err)
	}
	AtExit(func() {
		w.Write([]byte{quit})
		w.Close()
		<-ended
	})
	return func(dir string) { w.WriteString(dir) }, nil
}

// StartProcess starts a host program. How it ended is sent on ended; the caller must not wait for it otherwise.
//
// A host process is the child of the thread that made it, so this is done by a thread that does nothing else until the
// process has ended: a thread of the pool might become a tracer, which waits for its children and must not find others
// among them; and Pdeathsig tells of that thread's end.
func StartProcess(path string, argv []string, attr *os.ProcAttr) (p *os.Process, ended <-chan *os.ProcessState, err error) {
	started, end := make(chan struct{}), make(chan *os.ProcessState, 1)
	go func() {
		runtime.LockOSThread()
		p, err = os.StartProcess(path, argv, attr)
		ok := err == nil
		close(started)
		if ok {
			st, _ := p.Wait()
			end <- st
		}
	}()
	<-started
	return p, end, err
}

// Janitor is the janitor's main function if the program was started as one; otherwise it returns at once. It must be the
// first thing in main.
func Janitor() {
	if os.Args[0] != janitorName || len(os.Args) != 3 {
		return
	}
	signal.Ignore(unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2, unix.SIGALRM)
	word, err := io.ReadAll(os.NewFile(janitorPipe, "pipe"))
	if err != nil || len(word) > 0 && word[len(word)-1] == quit {
		os.Exit(0) // all is done
	}
	if mode, err := decodeTermios(os.Args[2]); err == nil {
		unix.IoctlSetTermios(janitorTTY, unix.TCSETS, mode)
	}
	if pid, err := strconv.Atoi(os.Args[1]); err == nil && len(word) > 0 {
		umid.RemoveOf(string(word), pid)
	}
	os.Exit(0)
}
