package pseudo

import (
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
	"github.com/user-mode-linux/linux/internal/kernel/ktime"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// FS is one mounted pseudo file system. It implements vfs.SuperBlock.
type FS struct {
	typ   *vfs.FilesystemType
	dev   uint64
	magic int64
	root  vfs.Inode
	super vfs.SuperBlock // what Super of the nodes returns: the FS, or what it is a part of
	ino   atomic.Uint64
	time  unix.Timespec // of all nodes: when the file system was made

	// FileSize is st_size of text files: 0 in proc, a page in sysfs. Immutable once mounted.
	FileSize int64
	// OptionText and RemountFunc are the mount options; nil for none. Immutable once mounted.
	OptionText  func() string
	RemountFunc func(c vfs.Caller, flags uint64, data string) error
}

// NewFS makes an instance. dev is its st_dev, magic its statfs type; SetRoot must follow.
func NewFS(typ *vfs.FilesystemType, dev uint64, magic int64) *FS {
	fs := &FS{typ: typ, dev: dev, magic: magic, time: abi.Timespec(ktime.Now())}
	fs.super = fs
	fs.ino.Store(1)
	return fs
}

// SetSuper says which SuperBlock the nodes belong to, if a type that embeds the FS is what is mounted.
func (fs *FS) SetSuper(sb vfs.SuperBlock) { fs.super = sb }

// SetRoot sets the root directory.
func (fs *FS) SetRoot(in vfs.Inode) { fs.root = in }

// NextIno returns an inode number that no other node of this instance has; the first is 2, as 1 is the root's.
func (fs *FS) NextIno() uint64 { return fs.ino.Add(1) }

// Time is when the instance was made: the times of its nodes.
func (fs *FS) Time() unix.Timespec { return fs.time }

// Root implements vfs.SuperBlock, as do the methods that follow.
func (fs *FS) Root() vfs.Inode { return fs.root }

// Type is the file system type.
func (fs *FS) Type() *vfs.FilesystemType { return fs.typ }

// Dev is st_dev.
func (fs *FS) Dev() uint64 { return fs.dev }

// Statfs has only the type, the block size and the name length, as simple_statfs gives.
func (fs *FS) Statfs() unix.Statfs_t {
	return unix.Statfs_t{Type: fs.magic, Bsize: abi.PageSize, Frsize: abi.PageSize, Namelen: 255}
}

// Sync has nothing to do.
func (fs *FS) Sync() error { return nil }

// Options is the text for /proc/mounts.
func (fs *FS) Options() string {
	if fs.OptionText == nil {
		return ""
	}
	return fs.OptionText()
}

// Remount changes options.
func (fs *FS) Remount(c vfs.Caller, flags uint64, data string) error {
	if fs.RemountFunc == nil {
		return nil
	}
	return fs.RemountFunc(c, flags, data)
}

// Release has nothing to do: the nodes are garbage.
func (fs *FS) Release() {}

// Base is the part that all nodes share. Fields are immutable once the node is in the tree.
type Base struct {
	vfs.InodeBase
	fs    *FS
	ino   uint64
	mode  uint32
	nlink uint32
	attrs atomic.Pointer[owner]
}

// owner is what chmod and chown change.
type owner struct{ perm, uid, gid uint32 }

// init fills a Base. Mode has the file type and permission bits.
func (b *Base) init(fs *FS, mode uint32, nlink uint32) {
	b.fs, b.ino, b.mode, b.nlink = fs, fs.NextIno(), mode, nlink
}

// Super implements vfs.Inode.
func (b *Base) Super() vfs.SuperBlock { return b.fs.super }

// Ino is the inode number.
func (b *Base) Ino() uint64 { return b.ino }

// Attr implements vfs.Inode.
func (b *Base) Attr() vfs.Attr {
	a := vfs.Attr{
		Ino: b.ino, Mode: b.mode, Nlink: b.nlink, Blksize: abi.PageSize / 4,
		Atime: b.fs.time, Mtime: b.fs.time, Ctime: b.fs.time,
	}
	if o := b.attrs.Load(); o != nil {
		a.Mode, a.UID, a.GID = b.mode&unix.S_IFMT|o.perm, o.uid, o.gid
	}
	return a
}

// SetAttr takes chmod and chown, which last as long as the node; sizes and times are accepted and forgotten, so that
// opening with O_TRUNC works.
func (b *Base) SetAttr(_ vfs.Caller, sa *vfs.SetAttr) error {
	if sa.Valid&(vfs.SetMode|vfs.SetUID|vfs.SetGID) == 0 {
		return nil
	}
	for {
		old := b.attrs.Load()
		n := owner{perm: b.mode & 07777}
		if old != nil {
			n = *old
		}
		if sa.Valid&vfs.SetMode != 0 {
			n.perm = sa.Mode & 07777
		}
		if sa.Valid&vfs.SetUID != 0 {
			n.uid = sa.UID
		}
		if sa.Valid&vfs.SetGID != 0 {
			n.gid = sa.GID
		}
		if b.attrs.CompareAndSwap(old, &n) {
			return nil
		}
	}
}

// DirentType is the DT_ type of a mode.
func DirentType(mode uint32) uint8 { return uint8(mode & unix.S_IFMT >> 12) }
