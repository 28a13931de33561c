package vfs

import (
	"math"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/uio"
)

// File is an open file description (open(2)): what file descriptors refer to.
type File struct {
	// Path is where it was opened; anonymous files (pipes, sockets, epoll) have a Path with a nil Mount and a Dentry
	// that only carries a name. Immutable.
	Path Path
	// Inode is the file. Immutable.
	Inode Inode
	// Ops are set once by the opener. Immutable after that.
	Ops FileOps

	flags atomic.Uint32 // O_*; access mode and status flags
	refs  atomic.Int32

	// posMu serialises read, write and lseek on files with a position, as f_pos_lock does.
	posMu sync.Mutex
	pos   int64

	typ     uint32 // S_IFMT of Inode, immutable
	counted bool   // counted as a writer or reader of its inode; set once at open
	stream  bool   // Ops is a Streamer; set with Ops
	locked  bool   // the position needs posMu: regular files and directories

	// hasLocks: a flock, OFD lock or lease was once taken. hasNotify: F_NOTIFY was once asked for.
	hasLocks, hasNotify atomic.Bool
	async               *async // with O_ASYNC; guarded by asyncMu

	// owner is F_SETOWN's and F_SETSIG's, for SIGIO and SIGURG.
	owner atomic.Pointer[Owner]

	// watch is told when the file is gone; the last DecRef calls tellWatchers before Ops.Release.
	watch fileWatch
}

// Flags are the open flags as they are now.
func (f *File) Flags() uint32 { return f.flags.Load() }

// Readable and Writable tell the access mode.
func (f *File) Readable() bool {
	fl := f.Flags()
	return fl&unix.O_PATH == 0 && fl&unix.O_ACCMODE != unix.O_WRONLY
}
func (f *File) Writable() bool {
	fl := f.Flags()
	return fl&unix.O_PATH == 0 && fl&unix.O_ACCMODE != unix.O_RDONLY
}

// Nonblock reports O_NONBLOCK.
func (f *File) Nonblock() bool { return f.Flags()&unix.O_NONBLOCK != 0 }

// NewFile makes an open file description with one reference.
func NewFile(p Path, in Inode, ops FileOps, flags uint32) *File {
	f := &File{Path: p, Inode: in}
	openFiles.Add(1)
	switch {
	case p.Dentry != nil:
		f.typ = p.Dentry.typ
	case in != nil:
		a := in.Attr()
		f.typ = a.Mode & unix.S_IFMT
	}
	f.flags.Store(flags)
	f.refs.Store(1)
	if ops != nil {
		f.setOps(ops)
	}
	return f
}

func (f *File) setOps(ops FileOps) {
	f.Ops = ops
	_, f.stream = ops.(Streamer)
	f.locked = !f.stream && (f.typ == unix.S_IFREG || f.typ == unix.S_IFDIR)
}

// openFiles is how many open file descriptions there are, MaxFiles how many there may be without CAP_SYS_ADMIN
// (/proc/sys/fs/file-max).
var openFiles, MaxFiles atomic.Int64

func init() { MaxFiles.Store(math.MaxInt64) }

// OpenFiles is how many open file descriptions there are.
func OpenFiles() int64 { return openFiles.Load() }

// uncount takes back what NewFile counted of a file that could not be opened.
func (f *File) uncount(err *error) {
	if *err != nil {
		openFiles.Add(-1)
	}
}

// Unblocking is f as if it had O_NONBLOCK. It shares f's operations and is not to be released.
func (f *File) Unblocking() *File {
	openFiles.Add(-1) // what NewFile counts; the copy is none of its own
	return NewFile(f.Path, f.Inode, f.Ops, f.Flags()|unix.O_NONBLOCK)
}

// IncRef takes a reference; the caller has one already.
func (f *File) IncRef() *File { f.refs.Add(1); return f }

// tryGet takes a reference unless the file has been released.
func (f *File) tryGet() bool {
	for {
		n := f.refs.Load()
		if n <= 0 {
			return false
		}
		if f.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// DecRef drops a reference; the last one releases the file.
func (f *File) DecRef() {
	if f.refs.Add(-1) != 0 {
		return
	}
	openFiles.Add(-1)
	if f.Flags()&unix.O_PATH == 0 {
		if f.Writable() {
			Notify(unix.IN_CLOSE_WRITE, f.Path)
		} else {
			Notify(unix.IN_CLOSE_NOWRITE, f.Path)
		}
		if f.hasLocks.Load() {
			f.dropLocks()
			_ = f.dropLease() // there need not be one
		}
		f.dropAsync()
	}
	f.tellWatchers()
	if f.Ops != nil {
		f.Ops.Release(f)
	}
	f.putWrite()
	f.Path.Put()
}

// SetPos sets the position; only for FileOps called with the position locked. After an append it is the end of what was
// written.
func (f *File) SetPos(p int64) { atomic.StoreInt64(&f.pos, p) }

// Pos is the position.
func (f *File) Pos() int64 { return atomic.LoadInt64(&f.pos) }

// Owner is who gets SIGIO, nil for nobody. SetOwner sets it.
func (f *File) Owner() *Owner { return f.owner.Load() }

// SetOwner is F_SETOWN's and F_SETSIG's.
func (f *File) SetOwner(o *Owner) { f.owner.Store(o) }

// Type is S_IFMT of the file.
func (f *File) Type() uint32 { return f.typ }

// IsPath reports whether the file was opened with O_PATH: most calls on it give EBADF.
func (f *File) IsPath() bool { return f.Flags()&unix.O_PATH != 0 }

// IsStream reports whether the file has no position.
func (f *File) IsStream() bool { return f.stream }

// Attr is fstat's answer.
func (f *File) Attr() Attr {
	if f.Path.Dentry != nil {
		f.Path.Dentry.refresh()
		return f.Path.Attr()
	}
	a := f.Inode.Attr()
	a.Dev = f.Inode.Super().Dev()
	return a
}

// NoExec reports whether the file cannot be mapped for execution because of its mount.
func (f *File) NoExec() bool { return f.Path.Mount != nil && f.Path.Mount.Flags()&unix.MS_NOEXEC != 0 }

// NoSuid reports whether set-user-id bits and file capabilities of the file do not count because of its mount.
func (f *File) NoSuid() bool { return f.Path.Mount != nil && f.Path.Mount.Flags()&unix.MS_NOSUID != 0 }

// setfl are the flags that F_SETFL changes, besides O_ASYNC (SetAsync).
const setfl = unix.O_APPEND | unix.O_DIRECT | unix.O_NOATIME | unix.O_NONBLOCK

// SetStatus is F_SETFL after its checks: O_APPEND, O_DIRECT, O_NOATIME and O_NONBLOCK become what they are in flags.
func (f *File) SetStatus(flags uint32) error {
	old := f.Flags()
	nu := old&^setfl | flags&setfl
	if s, ok := f.Ops.(StatusSetter); ok {
		if err := s.SetStatus(f, nu); err != nil {
			return err
		}
	}
	for !f.flags.CompareAndSwap(old, nu) {
		old = f.Flags()
		nu = old&^setfl | flags&setfl
	}
	return nil
}

// SetFlag sets or clears one status flag, for FIONBIO.
func (f *File) SetFlag(flag uint32, on bool) error {
	fl := f.Flags() &^ flag
	if on {
		fl |= flag
	}
	if s, ok := f.Ops.(StatusSetter); ok {
		if err := s.SetStatus(f, fl); err != nil {
			return err
		}
	}
	if on {
		f.flags.Or(flag)
	} else {
		f.flags.And(^flag)
	}
	return nil
}

// noOps are the operations of O_PATH files.
type noOps struct{ FileBase }

func (noOps) Read(Caller, *File, *uio.Dst, int64) (int, error)  { return 0, unix.EBADF }
func (noOps) Write(Caller, *File, *uio.Src, int64) (int, error) { return 0, unix.EBADF }
