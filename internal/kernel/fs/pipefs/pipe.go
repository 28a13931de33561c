package pipefs

import (
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
	"github.com/user-mode-linux/linux/internal/kernel/kmem"
	"github.com/user-mode-linux/linux/internal/kernel/ktime"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
	"github.com/user-mode-linux/linux/internal/kernel/wait"
)

// DefaultSize is the capacity of a new pipe in bytes.
const DefaultSize = 16 * pageSize

// hardMax bounds the capacity even for privileged callers, in bytes.
const hardMax = 1 << 30

// maxSize is /proc/sys/fs/pipe-max-size.
var maxSize atomic.Int64

func init() { maxSize.Store(1 << 20) }

// MaxSize is the largest capacity that an unprivileged caller may set (/proc/sys/fs/pipe-max-size); SetMaxSize changes it.
func MaxSize() int { return int(maxSize.Load()) }

// SetMaxSize sets pipe-max-size, rounded up like a pipe's size: EINVAL.
func SetMaxSize(n int) error {
	n = roundSize(n)
	if n == 0 {
		return unix.EINVAL
	}
	maxSize.Store(int64(n))
	return nil
}

// roundSize rounds a capacity up to a power of two pages; 0 if it is out of bounds.
func roundSize(n int) int {
	if n < 0 || n > hardMax {
		return 0
	}
	size := pageSize
	for size < n {
		size *= 2
	}
	return size
}

var lastID atomic.Uint64

// Pipe is a pipe or the pipe behind a FIFO.
type Pipe struct {
	q  wait.Queue
	id uint64 // for the lock order; immutable
	// named says that it is the pipe behind a FIFO. Immutable.
	named bool

	mu sync.Mutex
	ring
	readers, writers int
	// rcount and wcount count the opens for reading and writing so far; an open of a FIFO waits for the other to change.
	rcount, wcount uint
}

// NewPipe makes an empty pipe without ends.
func NewPipe() *Pipe {
	p := &Pipe{id: lastID.Add(1)}
	p.max = DefaultSize / pageSize
	return p
}

// New makes a pipe and its read and write end; flags are O_NONBLOCK, O_DIRECT (pipe2(2)).
func New(c vfs.Caller, flags uint32) (r, w *vfs.File) {
	p := NewPipe()
	p.readers, p.writers, p.rcount, p.wcount = 1, 1, 1, 1
	in := vfs.NewAnonInode(c, unix.S_IFIFO|0o600)
	in.Reopen = p.open
	r = vfs.NewAnonFileOn(in, "pipe:", &end{p: p, read: true}, unix.O_RDONLY|flags&unix.O_NONBLOCK)
	w = vfs.NewAnonFileOn(in, "pipe:", &end{p: p, write: true}, unix.O_WRONLY|flags&(unix.O_NONBLOCK|unix.O_DIRECT))
	return r, w
}

// Of returns the pipe behind an open file, nil if it is not a pipe or FIFO.
func Of(f *vfs.File) *Pipe {
	if e, ok := f.Ops.(*end); ok {
		return e.p
	}
	return nil
}

// Size is the capacity in bytes (F_GETPIPE_SZ).
func (p *Pipe) Size() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.max * pageSize
}

// SetSize changes the capacity (F_SETPIPE_SZ) and returns the new one: EINVAL, EPERM, EBUSY.
func (p *Pipe) SetSize(c vfs.Caller, n uint64) (int, error) {
	size := 0
	if n <= hardMax {
		size = roundSize(int(n))
	}
	if size == 0 {
		return 0, unix.EINVAL
	}
	p.mu.Lock()
	if size > p.max*pageSize && size > MaxSize() && !c.Cred().Capable(unix.CAP_SYS_RESOURCE) {
		p.mu.Unlock()
		return 0, unix.EPERM
	}
	wasFull := p.full()
	err := p.setMax(size / pageSize)
	woken := wasFull && !p.full()
	p.mu.Unlock()
	if err != nil {
		return 0, err
	}
	if woken {
		p.q.Notify(wait.Out | wait.WrNorm)
	}
	return size, nil
}

// read is read(2). It returns 0 at the end of the file.
func (p *Pipe) read(c vfs.Caller, dst *uio.Dst, nonblock bool) (int, error) {
	if dst.Len() == 0 {
		return 0, nil
	}
	for {
		p.mu.Lock()
		if p.used > 0 {
			wasFull := p.full()
			n, err := p.drain(dst)
			woken := wasFull && !p.full()
			p.mu.Unlock()
			if woken {
				p.q.Notify(wait.Out | wait.WrNorm)
			} else if n > 0 {
				p.q.Notify(wait.WrBand) // for O_ASYNC, which is told of every read; nobody waits for it
			}
			if n > 0 {
				return n, nil
			}
			return 0, err
		}
		eof := p.writers == 0
		p.mu.Unlock()
		if eof {
			return 0, nil
		}
		if nonblock {
			return 0, unix.EAGAIN
		}
		if err := p.q.Wait(c, wait.Readable, ktime.Forever, p.dataOrEOF); err != nil {
			return 0, err
		}
	}
}

func (p *Pipe) dataOrEOF() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.used > 0 || p.writers == 0
}

func (p *Pipe) roomOrBroken() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.full() || p.readers == 0
}

// write is write(2).
func (p *Pipe) write(c vfs.Caller, src *uio.Src, nonblock, packet bool) (done int, err error) {
	if src.Len() == 0 {
		return 0, nil
	}
	for first := true; ; first = false {
		p.mu.Lock()
		if p.readers == 0 {
			p.mu.Unlock()
			c.Signal(unix.SIGPIPE)
			return done, partial(done, unix.EPIPE)
		}
		n, err := p.fill(src, packet, first)
		p.mu.Unlock()
		if n > 0 {
			p.q.Notify(wait.In | wait.RdNorm)
		}
		if done += n; err != nil || src.Len() == 0 {
			return done, partial(done, err)
		}
		if nonblock {
			return done, partial(done, unix.EAGAIN)
		}
		if err := p.q.Wait(c, wait.Writable, ktime.Forever, p.roomOrBroken); err != nil {
			return done, partial(done, err)
		}
	}
}

// partial hides the error of a transfer that has moved something.
func partial(done int, err error) error {
	if done > 0 {
		return nil
	}
	return err
}

// end is an open file description of a pipe.
type end struct {
	p           *Pipe
	read, write bool
	// quiet is set for a FIFO opened for reading with O_NONBLOCK while it had no writer: no POLLHUP until one has come,
	// that is until wcount differs from seen.
	quiet bool
	seen  uint
}

// Stream marks a file without a position.
func (e *end) Stream() {}

func (e *end) Read(c vfs.Caller, f *vfs.File, dst *uio.Dst, _ int64) (int, error) {
	return e.p.read(c, dst, f.Nonblock())
}

func (e *end) Write(c vfs.Caller, f *vfs.File, src *uio.Src, _ int64) (int, error) {
	fl := f.Flags()
	return e.p.write(c, src, fl&unix.O_NONBLOCK != 0, fl&unix.O_DIRECT != 0)
}

func (e *end) WaitQueue() *wait.Queue { return &e.p.q }

func (e *end) Readiness(mask wait.Events) (ev wait.Events) {
	p := e.p
	p.mu.Lock()
	defer p.mu.Unlock()
	if e.read {
		if p.used > 0 {
			ev |= wait.In | wait.RdNorm
		}
		if p.writers == 0 && !(e.quiet && e.seen == p.wcount) {
			ev |= wait.Hup
		}
	}
	if e.write {
		if !p.full() {
			ev |= wait.Out | wait.WrNorm
		}
		if p.readers == 0 {
			ev |= wait.Err
		}
	}
	return ev & mask
}

func (e *end) Ioctl(c vfs.Caller, _ *vfs.File, cmd uint32, arg uint64) (uint64, error) {
	if cmd != unix.TIOCINQ { // FIONREAD
		return 0, unix.ENOTTY
	}
	e.p.mu.Lock()
	n := uint32(e.p.bytes)
	e.p.mu.Unlock()
	return 0, uio.WriteFull(c.Mem(), []byte{byte(n), byte(n >> 8), byte(n >> 16), byte(n >> 24)}, arg)
}

// SetStatus accepts O_DIRECT (packet mode) besides the flags that all files have.
func (e *end) SetStatus(*vfs.File, uint32) error { return nil }

func (e *end) Release(f *vfs.File) {
	p := e.p
	p.mu.Lock()
	if e.read {
		p.readers--
	}
	if e.write {
		p.writers--
	}
	gone := p.readers == 0 && p.writers == 0
	if gone {
		// A FIFO that nobody has open loses its data; it may be opened again.
		kmem.Add(-len(p.slots) * pageSize)
		p.ring = ring{max: p.max}
	}
	p.mu.Unlock()
	if gone {
		if p.named {
			fifos.drop(f.Inode, p)
		}
		return
	}
	p.q.Notify(wait.Readable | wait.Writable)
}

// open makes another end of p for an open of its inode: by a FIFO's name, or through /proc/<pid>/fd. It follows fifo(7); a
// pipe without a name does not wait for the other end, which may have been closed for good.
func (p *Pipe) open(c vfs.Caller, f *vfs.File) (vfs.FileOps, error) {
	flags := f.Flags()
	nonblock := flags&unix.O_NONBLOCK != 0
	e := &end{p: p}
	p.mu.Lock()
	switch flags & unix.O_ACCMODE {
	case unix.O_RDONLY:
		e.read = true
	case unix.O_WRONLY:
		if nonblock && p.readers == 0 && p.named {
			p.mu.Unlock()
			return nil, unix.ENXIO
		}
		e.write = true
	case unix.O_RDWR:
		e.read, e.write = true, true
	default:
		p.mu.Unlock()
		return nil, unix.EINVAL
	}
	if e.read {
		p.readers++
		p.rcount++
	}
	if e.write {
		p.writers++
		p.wcount++
	}
	waitFor, was := (*uint)(nil), uint(0)
	switch {
	case !p.named:
	case e.read && !e.write && p.writers == 0:
		if nonblock {
			e.quiet, e.seen = true, p.wcount
		} else {
			waitFor, was = &p.wcount, p.wcount
		}
	case e.write && !e.read && p.readers == 0:
		waitFor, was = &p.rcount, p.rcount
	}
	p.mu.Unlock()
	p.q.Notify(wait.In | wait.RdNorm | wait.Out | wait.WrNorm)
	if waitFor == nil {
		return e, nil
	}
	err := p.q.Wait(c, wait.Readable|wait.Writable, ktime.Forever, func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return *waitFor != was
	})
	if err != nil {
		e.Release(f)
		return nil, abi.ERESTARTSYS
	}
	return e, nil
}

var (
	_ vfs.FileOps      = (*end)(nil)
	_ vfs.Streamer     = (*end)(nil)
	_ vfs.Ioctler      = (*end)(nil)
	_ vfs.StatusSetter = (*end)(nil)
)
