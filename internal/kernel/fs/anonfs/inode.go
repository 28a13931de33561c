package anonfs

import (
	"strconv"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
	"github.com/user-mode-linux/linux/internal/kernel/ktime"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// FS is a file system whose files have no names.
type FS struct {
	typ  vfs.FilesystemType
	dev  uint64
	last atomic.Uint64
}

// NewFS makes one; name is its type (pipefs, sockfs, anon_inodefs).
func NewFS(name string) *FS {
	fs := &FS{dev: vfs.NewAnonDev()}
	fs.typ = vfs.FilesystemType{Name: name, Mount: func(vfs.Caller, string, uint64, string) (vfs.SuperBlock, error) {
		return nil, unix.EINVAL
	}}
	return fs
}

func (fs *FS) Root() vfs.Inode           { return nil }
func (fs *FS) Type() *vfs.FilesystemType { return &fs.typ }
func (fs *FS) Dev() uint64               { return fs.dev }
func (fs *FS) Statfs() unix.Statfs_t {
	magic := map[string]int64{"pipefs": unix.PIPEFS_MAGIC, "sockfs": unix.SOCKFS_MAGIC}[fs.typ.Name]
	if magic == 0 {
		magic = unix.ANON_INODE_FS_MAGIC
	}
	return unix.Statfs_t{Type: magic, Bsize: abi.PageSize, Frsize: abi.PageSize, Namelen: 255}
}
func (fs *FS) Sync() error                              { return nil }
func (fs *FS) Options() string                          { return "" }
func (fs *FS) Remount(vfs.Caller, uint64, string) error { return unix.EINVAL }
func (fs *FS) Release()                                 {}

// Inode is the inode of a file without a name.
type Inode struct {
	vfs.InodeBase
	fs *FS
	// open makes another open file description of it, through /proc/<pid>/fd; nil gives ENXIO.
	open func(c vfs.Caller, f *vfs.File) (vfs.FileOps, error)

	mu   sync.Mutex
	attr vfs.Attr
}

// NewInode makes an inode with a number of its own, owned by the caller. mode has the type. open may be nil.
func (fs *FS) NewInode(c vfs.Caller, mode uint32, open func(vfs.Caller, *vfs.File) (vfs.FileOps, error)) *Inode {
	in := &Inode{fs: fs, open: open}
	now := abi.Timespec(ktime.Now())
	in.attr = vfs.Attr{Ino: fs.last.Add(1), Mode: mode, Nlink: 1, Blksize: abi.PageSize, Atime: now, Mtime: now, Ctime: now}
	if c != nil {
		in.attr.UID, in.attr.GID = c.Cred().FSUID, c.Cred().FSGID
	}
	return in
}

// Ino is the inode number.
func (in *Inode) Ino() uint64 { return in.attr.Ino }

// Super is the file system.
func (in *Inode) Super() vfs.SuperBlock { return in.fs }

// Attr is what stat tells.
func (in *Inode) Attr() vfs.Attr {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.attr
}

// SetAttr changes mode, owner and times, as fchmod and fchown on a pipe or socket may.
func (in *Inode) SetAttr(_ vfs.Caller, sa *vfs.SetAttr) error {
	if sa.Valid&vfs.SetSize != 0 {
		return unix.EINVAL
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	if sa.Valid&vfs.SetMode != 0 {
		in.attr.Mode = in.attr.Mode&unix.S_IFMT | sa.Mode&0o7777
	}
	if sa.Valid&vfs.SetUID != 0 {
		in.attr.UID = sa.UID
	}
	if sa.Valid&vfs.SetGID != 0 {
		in.attr.GID = sa.GID
	}
	if sa.Valid&vfs.SetAtime != 0 {
		in.attr.Atime = sa.Atime
	}
	if sa.Valid&vfs.SetMtime != 0 {
		in.attr.Mtime = sa.Mtime
	}
	in.attr.Ctime = abi.Timespec(ktime.Now())
	return nil
}

// Open makes another open file description.
func (in *Inode) Open(c vfs.Caller, f *vfs.File) (vfs.FileOps, error) {
	if in.open == nil {
		return nil, unix.ENXIO
	}
	return in.open(c, f)
}

// NewFile makes an open file of the inode, which /proc/<pid>/fd shows as "kind:[number]".
func (in *Inode) NewFile(kind string, ops vfs.FileOps, flags uint32) *vfs.File {
	return vfs.NewAnonFileAt(kind+":["+strconv.FormatUint(in.attr.Ino, 10)+"]", in, ops, flags)
}

var (
	anonFS    = NewFS("anon_inodefs")
	anonInode = sync.OnceValue(func() *Inode { return anonFS.NewInode(nil, 0o600, nil) })
)

// NewFile makes an open file of the inode that all anon_inode files share; name is "[eventfd]", "inotify" and the like.
func NewFile(name string, ops vfs.FileOps, flags uint32) *vfs.File {
	return vfs.NewAnonFileAt("anon_inode:"+name, anonInode(), ops, flags)
}
