package console

import (
	"encoding/binary"
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/ktime"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
	"github.com/user-mode-linux/linux/internal/kernel/wait"
)

// streamChunk is how much of a transfer is copied at a time.
const streamChunk = 64 << 10

var streamBufs = sync.Pool{New: func() any { return new([streamChunk]byte) }}

// Stream is a host descriptor as an open file of the guest: a plain stream of bytes, to the guest a pipe. It reads
// nothing that the guest does not ask for.
type Stream struct {
	vfs.FileBase
	h     *hostFD
	queue wait.Queue
	// inArmed and outArmed: a goroutine waits for the host and will notify queue.
	inArmed, outArmed atomic.Bool
}

// NewStream makes a Stream of fd, which must stay open and blocking.
func NewStream(fd int) (*Stream, error) {
	h, err := newHostFD(fd, true)
	if err != nil {
		return nil, fmt.Errorf("descriptor %d: %w", fd, err)
	}
	return &Stream{h: h}, nil
}

// Mode is what fstat(2) in the guest should say: the stream looks like a pipe, or like a device if the host's is one.
func (s *Stream) Mode() uint32 {
	if s.h.mode == unix.S_IFCHR {
		return unix.S_IFCHR | 0600
	}
	return unix.S_IFIFO | 0600
}

// OpenStream makes an open file of the guest of the host's fd. flags is the access mode.
func OpenStream(c vfs.Caller, fd int, flags uint32) (*vfs.File, error) {
	s, err := NewStream(fd)
	if err != nil {
		return nil, err
	}
	return vfs.NewAnonFile(c, fmt.Sprintf("pipe:[%d]", fd), s, flags, s.Mode()), nil
}

// OpenFile makes an open file of the guest of a host file, whose description stays open as long as the guest has it.
func OpenFile(c vfs.Caller, file *os.File, flags uint32) (*vfs.File, error) {
	fd, err := dupFile(file)
	if err != nil {
		return nil, err
	}
	s, err := NewStream(fd)
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	s.h.owned = append(s.h.owned, fd)
	return vfs.NewAnonFile(c, fmt.Sprintf("pipe:[%d]", fd), s, flags, s.Mode()), nil
}

// dupFile is a descriptor of its own of a file.
func dupFile(file *os.File) (fd int, err error) {
	conn, err := file.SyscallConn()
	if err == nil {
		cerr := conn.Control(func(f uintptr) { fd, err = unix.FcntlInt(f, unix.F_DUPFD_CLOEXEC, 3) })
		if err == nil {
			err = cerr
		}
	}
	if err != nil {
		return -1, fmt.Errorf("%s: %w", file.Name(), err)
	}
	return fd, nil
}

// Stream marks it as having no position.
func (*Stream) Stream() {}

// arm makes sure that the queue is notified when the host is ready for ev.
func (s *Stream) arm(ev int16) {
	armed, mask := &s.inArmed, wait.Readable
	if ev == unix.POLLOUT {
		armed, mask = &s.outArmed, wait.Writable
	}
	if !armed.CompareAndSwap(false, true) {
		return
	}
	s.h.hold()
	go func() {
		s.h.wait(ev)
		s.h.drop()
		armed.Store(false)
		s.queue.Notify(mask)
	}()
}

// ready polls the host, and arms the queue if it is not ready.
func (s *Stream) ready(ev int16) bool {
	if s.h.ready(ev) {
		return true
	}
	s.arm(ev)
	return false
}

// Read reads what there is, waiting for the first byte. The end of the host's input is the end of the file.
func (s *Stream) Read(c vfs.Caller, f *vfs.File, dst *uio.Dst, _ int64) (int, error) {
	if dst.Len() == 0 {
		return 0, nil
	}
	buf := streamBufs.Get().(*[streamChunk]byte)
	defer streamBufs.Put(buf)
	for {
		if s.ready(unix.POLLIN) {
			n, err := s.h.read(buf[:min(dst.Len(), streamChunk)])
			if err == nil {
				return dst.CopyOut(buf[:n])
			}
			if err != unix.EAGAIN {
				return 0, unix.EIO
			}
		}
		if f.Nonblock() {
			return 0, unix.EAGAIN
		}
		err := s.queue.Wait(c, wait.Readable, ktime.Forever, func() bool { return s.ready(unix.POLLIN) })
		if err != nil {
			return 0, err
		}
	}
}

// Write writes everything, waiting while the host takes nothing.
func (s *Stream) Write(c vfs.Caller, f *vfs.File, src *uio.Src, _ int64) (int, error) {
	buf := streamBufs.Get().(*[streamChunk]byte)
	defer streamBufs.Put(buf)
	return src.Each(buf[:], func(p []byte) (int, error) { return s.writeAll(c, f.Nonblock(), p) })
}

func (s *Stream) writeAll(c vfs.Caller, nonblock bool, b []byte) (int, error) {
	done := 0
	for done < len(b) {
		n, err := s.h.write(b[done:])
		done += n
		switch err {
		case nil:
			continue
		case unix.EAGAIN:
		case unix.EPIPE:
			c.Signal(unix.SIGPIPE)
			return done, err
		case unix.ENOSPC, unix.EDQUOT, unix.EFBIG:
			return done, err
		default:
			return done, unix.EIO
		}
		if nonblock {
			s.arm(unix.POLLOUT)
			return done, unix.EAGAIN
		}
		err = s.queue.Wait(c, wait.Writable, ktime.Forever, func() bool { return s.ready(unix.POLLOUT) })
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// Readiness is poll(2).
func (s *Stream) Readiness(mask wait.Events) wait.Events {
	var ev wait.Events
	if mask&(wait.In|wait.RdNorm) != 0 && s.ready(unix.POLLIN) {
		ev |= wait.In | wait.RdNorm
	}
	if mask&(wait.Out|wait.WrNorm) != 0 && s.ready(unix.POLLOUT) {
		ev |= wait.Out | wait.WrNorm
	}
	return ev & mask
}

// WaitQueue is where changes of Readiness are notified.
func (s *Stream) WaitQueue() *wait.Queue { return &s.queue }

// Ioctl has only FIONREAD.
func (s *Stream) Ioctl(c vfs.Caller, _ *vfs.File, cmd uint32, arg uint64) (uint64, error) {
	if cmd != unix.TIOCINQ {
		return 0, unix.ENOTTY
	}
	n, err := unix.IoctlGetInt(s.h.fd, unix.TIOCINQ)
	if err != nil {
		return 0, unix.ENOTTY
	}
	var b [4]byte
	binary.LittleEndian.PutUint32(b[:], uint32(n))
	return 0, uio.WriteFull(c.Mem(), b[:], arg)
}

// Release ends the waits; the host's descriptor stays open.
func (s *Stream) Release(*vfs.File) { s.h.close() }
