package pseudo

import (
	"bytes"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
	"github.com/user-mode-linux/linux/internal/kernel/wait"
)

// ShowFunc makes the text of a file.
type ShowFunc func(c vfs.Caller, w *bytes.Buffer) error

// StoreFunc takes what one write(2) wrote.
type StoreFunc func(c vfs.Caller, p []byte) error

// OpenFunc makes the operations of an open file that is more than text.
type OpenFunc func(c vfs.Caller, f *vfs.File) (vfs.FileOps, error)

// File is a regular file. A nil Show or Store makes reads or writes fail with EIO.
type File struct {
	Base
	show  ShowFunc
	store StoreFunc
	open  OpenFunc
}

// NewFile makes a file whose reads and writes are functions. perm is its permission bits.
func NewFile(fs *FS, perm uint32, show ShowFunc, store StoreFunc) *File {
	f := &File{show: show, store: store}
	f.init(fs, unix.S_IFREG|perm, 1)
	return f
}

// NewOpenFile makes a file with its own operations.
func NewOpenFile(fs *FS, perm uint32, open OpenFunc) *File {
	f := &File{open: open}
	f.init(fs, unix.S_IFREG|perm, 1)
	return f
}

// Attr implements vfs.Inode.
func (n *File) Attr() vfs.Attr {
	a := n.Base.Attr()
	a.Size = n.fs.FileSize
	return a
}

// Open implements vfs.Inode.
func (n *File) Open(c vfs.Caller, f *vfs.File) (vfs.FileOps, error) {
	if n.open != nil {
		return n.open(c, f)
	}
	return &Text{Show: n.show, Store: n.store}, nil
}

// String is a ShowFunc of a text that does not change.
func String(s string) ShowFunc {
	return func(_ vfs.Caller, w *bytes.Buffer) error {
		w.WriteString(s)
		return nil
	}
}

// Text is an open file with made text.
type Text struct {
	vfs.FileBase
	Show  ShowFunc
	Store StoreFunc

	// Changed, if not nil, makes the file pollable: readers of poll(2) wait on Queue, and Changed reports with Err and
	// Pri that the text differs from what was last read. It is called with Text's lock held.
	Queue   *wait.Queue
	Changed func() bool

	mu  sync.Mutex
	has bool
	buf []byte
}

// MaxWrite bounds what one write takes: a page less one byte, as kernfs and sysctl do.
const MaxWrite = abi.PageSize - 1

// Read implements vfs.FileOps.
func (t *Text) Read(c vfs.Caller, _ *vfs.File, dst *uio.Dst, off int64) (int, error) {
	if t.Show == nil {
		return 0, unix.EIO
	}
	t.mu.Lock()
	if off == 0 || !t.has {
		var w bytes.Buffer
		if err := t.Show(c, &w); err != nil {
			t.mu.Unlock()
			return 0, err
		}
		t.buf, t.has = w.Bytes(), true
	}
	buf := t.buf // never changed in place: a copy without the lock is safe
	t.mu.Unlock()
	if off < 0 || off >= int64(len(buf)) {
		return 0, nil
	}
	n, err := dst.CopyOut(buf[off:])
	if n > 0 {
		err = nil
	}
	return n, err
}

// Write implements vfs.FileOps.
func (t *Text) Write(c vfs.Caller, _ *vfs.File, src *uio.Src, _ int64) (int, error) {
	if t.Store == nil {
		return 0, unix.EIO
	}
	n := src.Len()
	p := make([]byte, min(n, MaxWrite))
	if _, err := src.CopyIn(p); err != nil {
		return 0, err
	}
	if err := t.Store(c, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Readiness implements wait.Pollable.
func (t *Text) Readiness(mask wait.Events) wait.Events {
	ev := wait.In | wait.RdNorm | wait.Out | wait.WrNorm
	if t.Changed != nil && t.Changed() {
		ev |= wait.Err | wait.Pri
	}
	return mask & ev
}

// WaitQueue implements wait.Pollable.
func (t *Text) WaitQueue() *wait.Queue { return t.Queue }

// Seek moves over a text: the end is not known, so SEEK_END is EINVAL, as in seq_lseek.
func (t *Text) Seek(_ vfs.Caller, f *vfs.File, off int64, whence int) (int64, error) {
	switch whence {
	case unix.SEEK_SET:
	case unix.SEEK_CUR:
		off += f.Pos()
	default:
		return 0, unix.EINVAL
	}
	if off < 0 {
		return 0, unix.EINVAL
	}
	return off, nil
}

// Symlink is a symbolic link whose target may be computed.
type Symlink struct {
	Base
	target func(c vfs.Caller) (string, error)
}

// NewSymlink makes a link to a target that is computed at each use.
func NewSymlink(fs *FS, target func(c vfs.Caller) (string, error)) *Symlink {
	s := &Symlink{target: target}
	s.init(fs, unix.S_IFLNK|0o777, 1)
	return s
}

// NewLink makes a link to a fixed target.
func NewLink(fs *FS, target string) *Symlink {
	return NewSymlink(fs, func(vfs.Caller) (string, error) { return target, nil })
}

// Readlink implements vfs.Inode.
func (s *Symlink) Readlink(c vfs.Caller) (string, error) { return s.target(c) }

// NewNumberedFile is NewOpenFile with an inode number that the caller chose.
func NewNumberedFile(fs *FS, ino uint64, perm uint32, open OpenFunc) *File {
	f := NewOpenFile(fs, perm, open)
	f.ino = ino
	return f
}
