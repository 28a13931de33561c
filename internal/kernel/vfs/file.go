package vfs

import (
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
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

	// Owner is F_SETOWN's and F_SETSIG's, for SIGIO and SIGURG.
	owner atomic.Pointer[Owner]

	// watch is told when the file is gone; the last DecRef calls tellWatchers before Ops.Release.
	watch fileWatch
}

// Owner is who gets SIGIO (fcntl(2) F_SETOWN_EX).
type Owner struct {
	Type int // unix.F_OWNER_*
	PID  int32
	Sig  unix.Signal
	// UID, EUID of who set it, for the permission check.
	UID, EUID uint32
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
	f := &File{Path: p, Inode: in, Ops: ops}
	f.flags.Store(flags)
	f.refs.Store(1)
	return f
}

// IncRef takes a reference.
func (f *File) IncRef() *File { f.refs.Add(1); return f }

// SetPos sets the position; only for FileOps called with the position locked.
func (f *File) SetPos(p int64) { f.pos = p }
