package console

import (
	"strconv"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// pipeChunk is what a pipe with any room at all takes without blocking (PIPE_BUF).
const pipeChunk = 4096

// conn is the host's end of an open channel. No method blocks but wait.
type conn interface {
	// read reads what there is; EAGAIN if that is nothing that concerns the guest, 0 at the end.
	read(b []byte) (int, error)
	// write takes what the host takes at once; EAGAIN if that is nothing.
	write(b []byte) (int, error)
	// ready polls without waiting; wait waits and returns false if the channel was closed meanwhile.
	ready(ev int16) bool
	wait(ev int16) bool
	// size is the window size, false if there is none.
	size() (unix.Winsize, bool)
	// neverInput tells that reading would not be input but noise. hangsUp tells that the end of input is the loss of a
	// user, not only of input.
	neverInput() bool
	hangsUp() bool
	// close ends all waits and closes done. Who uses the channel beside its owner holds it, and drops it at the end.
	close()
	closed() <-chan struct{}
	hold()
	drop()
}

// hostFD is a host descriptor that is polled before it is used. It is the conn of everything that needs no more than that.
type hostFD struct {
	fd  int // to read and to poll
	wfd int // to write; a description of its own if that makes it non-blocking
	// mode is the type of file, tty whether it is a terminal.
	mode uint32
	tty  bool

	owned    []int       // descriptors to close
	unblock  int         // descriptor to be made blocking again, or -1
	saved    *term.State // settings to restore
	restored sync.Once

	stop int           // eventfd that ends all waits
	done chan struct{} // closed by close
	once sync.Once     // of close
	refs atomic.Int32
}

// newHostFD wraps fd, which stays the caller's. output is true if it will be written.
func newHostFD(fd int, output bool) (*hostFD, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	stop, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, err
	}
	h := &hostFD{fd: fd, wfd: fd, mode: st.Mode & unix.S_IFMT, tty: term.IsTerminal(fd), stop: stop, unblock: -1,
		done: make(chan struct{})}
	h.refs.Store(1)
	if h.tty && output {
		h.openNonblocking()
	}
	return h, nil
}

// ownHostFD wraps a descriptor of ours, which is closed with it, and now if it cannot be wrapped.
func ownHostFD(fd int) (*hostFD, error) {
	_ = unix.SetNonblock(fd, true) // a description of its own: nobody else minds
	h, err := newHostFD(fd, false)
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	h.owned = append(h.owned, fd)
	return h, nil
}

// openNonblocking finds a way to write to a terminal without blocking. The terminal's own open file description is
// shared with other programs, so it is changed only if it can not be opened again.
func (h *hostFD) openNonblocking() {
	const flags = unix.O_WRONLY | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC
	if w, err := unix.Open("/proc/self/fd/"+strconv.Itoa(h.fd), flags, 0); err == nil {
		h.wfd, h.owned = w, append(h.owned, w)
		return
	}
	if fl, err := unix.FcntlInt(uintptr(h.fd), unix.F_GETFL, 0); err == nil && fl&unix.O_NONBLOCK == 0 {
		if unix.SetNonblock(h.fd, true) == nil {
			h.unblock = h.fd
		}
	}
}

// raw puts a terminal into raw mode until restore.
func (h *hostFD) raw() {
	if !h.tty || h.saved != nil {
		return
	}
	if st, err := term.MakeRaw(h.fd); err == nil {
		h.saved = st
		terminals.add(h)
	}
}

func (h *hostFD) restore() {
	h.restored.Do(func() {
		if h.saved != nil {
			_ = term.Restore(h.fd, h.saved) // the terminal may be gone
		}
		if h.unblock >= 0 {
			_ = unix.SetNonblock(h.unblock, false)
		}
	})
}

// close ends all waits; the last user of the descriptors closes them.
func (h *hostFD) close() {
	h.once.Do(func() {
		h.restore()
		terminals.remove(h)
		close(h.done)
		one := [8]byte{1}
		_, _ = unix.Write(h.stop, one[:]) // a counter at its limit wakes as well
		h.drop()
	})
}

func (h *hostFD) hold() { h.refs.Add(1) }

func (h *hostFD) drop() {
	if h.refs.Add(-1) > 0 {
		return
	}
	unix.Close(h.stop)
	for _, fd := range h.owned {
		unix.Close(fd)
	}
}

// ready: an error or hangup counts as ready, the next call will tell. So does a file, which poll cannot wait for.
func (h *hostFD) ready(ev int16) bool {
	if h.mode == unix.S_IFREG || h.mode == unix.S_IFBLK {
		return true
	}
	p := [1]unix.PollFd{{Fd: int32(h.pollFD(ev)), Events: ev}}
	n, err := unix.Poll(p[:], 0)
	return err == nil && n > 0
}

func (h *hostFD) pollFD(ev int16) int {
	if ev == unix.POLLOUT {
		return h.wfd
	}
	return h.fd
}

// wait waits until the descriptor is ready; false if it was closed meanwhile.
func (h *hostFD) wait(ev int16) bool {
	for {
		p := [2]unix.PollFd{{Fd: int32(h.stop), Events: unix.POLLIN}, {Fd: int32(h.pollFD(ev)), Events: ev}}
		_, err := unix.Poll(p[:], -1)
		if err == unix.EINTR {
			continue
		}
		if err != nil || p[0].Revents != 0 {
			return false
		}
		return true
	}
}

// read reads after wait or ready.
func (h *hostFD) read(b []byte) (int, error) {
	for {
		n, err := unix.Read(h.fd, b)
		if err != unix.EINTR {
			return max(n, 0), err
		}
	}
}

// write writes what goes without blocking; EAGAIN if nothing does.
func (h *hostFD) write(b []byte) (int, error) {
	switch {
	case !h.ready(unix.POLLOUT):
		return 0, unix.EAGAIN
	case h.mode == unix.S_IFIFO:
		b = b[:min(len(b), pipeChunk)]
	case h.mode == unix.S_IFSOCK:
		n, err := unix.SendmsgN(h.wfd, b, nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		return max(n, 0), err
	}
	for {
		n, err := unix.Write(h.wfd, b)
		if err != unix.EINTR {
			return max(n, 0), err
		}
	}
}

// neverInput: devices that are no terminals (/dev/null).
func (h *hostFD) neverInput() bool { return h.mode == unix.S_IFCHR && !h.tty }

func (h *hostFD) hangsUp() bool { return h.tty }

func (h *hostFD) closed() <-chan struct{} { return h.done }

func (h *hostFD) size() (unix.Winsize, bool) {
	if !h.tty {
		return unix.Winsize{}, false
	}
	ws, err := unix.IoctlGetWinsize(h.fd, unix.TIOCGWINSZ)
	if err != nil || ws.Row == 0 && ws.Col == 0 {
		return unix.Winsize{}, false
	}
	return *ws, true
}

// terminals are the host terminals in raw mode.
var terminals terminalList

type terminalList struct {
	mu sync.Mutex
	m  map[*hostFD]struct{}
}

func (l *terminalList) add(h *hostFD) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.m == nil {
		l.m = make(map[*hostFD]struct{})
	}
	l.m[h] = struct{}{}
}

func (l *terminalList) remove(h *hostFD) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.m, h)
}

// RestoreTerminals gives all host terminals their original settings back. It may be called at any time, more than once,
// also from a panic or signal path; lines that are still open work on, no longer raw.
func RestoreTerminals() {
	terminals.mu.Lock()
	defer terminals.mu.Unlock()
	for h := range terminals.m {
		h.restore()
	}
}
