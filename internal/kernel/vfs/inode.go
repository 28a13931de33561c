package vfs

import (
	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
	"github.com/user-mode-linux/linux/internal/kernel/cred"
	"github.com/user-mode-linux/linux/internal/kernel/ktime"
	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/wait"
)

// Caller is on whose behalf an operation runs: its identity and its way to sleep. A guest task implements it.
type Caller interface {
	wait.Sleeper
	// Cred is the caller's credentials; never nil, immutable.
	Cred() *cred.Cred
	// Mem is the caller's memory, for ioctl arguments.
	Mem() uio.Memory
	// FS is the caller's root, working directory and umask.
	FS() *FSContext
	// PID is the caller's process id (thread group id), as seen in the guest.
	PID() int32
	// Rlimit is the soft limit of a resource (RLIMIT_FSIZE, RLIMIT_NOFILE).
	Rlimit(resource int) uint64
	// Signal sends a signal to the caller (SIGXFSZ, SIGPIPE).
	Signal(sig unix.Signal)
}

// Attr is what stat(2) tells about an inode.
type Attr struct {
	Dev                        uint64 // st_dev; Stat fills it in from the SuperBlock, file systems leave it
	Ino                        uint64
	Mode                       uint32 // type and permission bits
	Nlink                      uint32
	UID, GID                   uint32
	Rdev                       uint64 // as unix.Mkdev makes it
	Size                       int64
	Blocks                     int64 // of 512 bytes
	Blksize                    int64
	Atime, Mtime, Ctime, Btime unix.Timespec // Btime is zero if unknown
	// Flags are STATX_ATTR_* (immutable, append only, ...).
	Flags uint64
	// MountID is the mount that the file was found in; Stat fills it in, and STATX_ATTR_MOUNT_ROOT.
	MountID uint64
}

// IsDir, IsRegular, IsSymlink tell the type.
func (a *Attr) IsDir() bool     { return a.Mode&unix.S_IFMT == unix.S_IFDIR }
func (a *Attr) IsRegular() bool { return a.Mode&unix.S_IFMT == unix.S_IFREG }
func (a *Attr) IsSymlink() bool { return a.Mode&unix.S_IFMT == unix.S_IFLNK }

// SetAttr says what setattr changes; Valid selects fields. The vfs has already checked permission and stripped setuid and
// setgid bits as the call demands.
type SetAttr struct {
	Valid        SetAttrMask
	Mode         uint32 // permission bits (07777)
	UID, GID     uint32
	Size         int64
	Atime, Mtime unix.Timespec
}

// Apply changes mode, owner and times of a as s says, but not the size; ctime becomes now.
func (s *SetAttr) Apply(a *Attr) {
	if s.Valid&SetMode != 0 {
		a.Mode = a.Mode&unix.S_IFMT | s.Mode&0o7777
	}
	if s.Valid&SetUID != 0 {
		a.UID = s.UID
	}
	if s.Valid&SetGID != 0 {
		a.GID = s.GID
	}
	if s.Valid&SetAtime != 0 {
		a.Atime = s.Atime
	}
	if s.Valid&SetMtime != 0 {
		a.Mtime = s.Mtime
	}
	a.Ctime = abi.NsecToTimespec(ktime.Realtime())
}

// SetAttrMask selects fields of SetAttr.
type SetAttrMask uint32

// The fields of SetAttr. The file system always sets ctime to now.
const (
	SetMode SetAttrMask = 1 << iota
	SetUID
	SetGID
	SetSize
	SetAtime
	SetMtime
)

// Inode is one file of a file system. A file system returns the same Inode (interface equality) for the same file for as
// long as anybody holds it. Embed InodeBase for the calls that a file type does not have.
//
// The vfs checks permissions, name length, types and mounts before it calls; it holds the directory's lock (Dentry.mu of
// the parents) around Lookup and all changes of a directory, so that those of one directory never overlap.
type Inode interface {
	// Super is the mounted file system.
	Super() SuperBlock
	// Attr is called very often and must be cheap.
	Attr() Attr
	// SetAttr changes attributes. Size 0..max of the file system (EFBIG beyond).
	SetAttr(c Caller, sa *SetAttr) error

	// Lookup finds a name in a directory: ENOENT if it is not there.
	Lookup(c Caller, name string) (Inode, error)
	// Create makes a regular file, fifo, socket or device (mode has the type), Mkdir a directory, Symlink a link. Mode has
	// the umask applied; owner is c's FSUID and FSGID (or the directory's group if that is setgid).
	Create(c Caller, name string, mode uint32, rdev uint64) (Inode, error)
	Mkdir(c Caller, name string, mode uint32) (Inode, error)
	Symlink(c Caller, name, target string) (Inode, error)
	// Link makes name a hard link to old (same file system, not a directory).
	Link(c Caller, old Inode, name string) error
	// Unlink and Rmdir remove name, which is child. Rmdir: ENOTEMPTY.
	Unlink(c Caller, name string, child Inode) error
	Rmdir(c Caller, name string, child Inode) error
	// Rename moves oldName (child) of this directory to newName in newDir, replacing target if that is not nil. Flags are
	// RENAME_NOREPLACE (already checked by the vfs), RENAME_EXCHANGE, RENAME_WHITEOUT.
	Rename(c Caller, oldName string, child Inode, newDir Inode, newName string, target Inode, flags uint32) error
	// Readlink returns a symbolic link's target.
	Readlink(c Caller) (string, error)

	// Open makes the operations of a new open file. Access is already checked. Flags are open(2)'s.
	Open(c Caller, f *File) (FileOps, error)

	// Extended attributes, name with prefix. flags: XATTR_CREATE, XATTR_REPLACE. Errors: ENODATA, EOPNOTSUPP, ERANGE is
	// the vfs's.
	Getxattr(c Caller, name string) ([]byte, error)
	Setxattr(c Caller, name string, value []byte, flags int) error
	Listxattr(c Caller) ([]string, error)
	Removexattr(c Caller, name string) error

	// Forget is called when the vfs has dropped its last reference (no dentry, no open file): an inode without links may
	// now be freed.
	Forget()
}

// LinkFollower is an Inode of a magic link (/proc/<pid>/exe, fd/N): following it goes straight to a path. The path is
// borrowed: the vfs takes its own references, and ENOENT if it has gone. A nil Dentry means to follow Readlink's text.
type LinkFollower interface {
	Follow(c Caller) (Path, error)
}

// Permissioner is an Inode that decides access itself. mask is of MayRead, MayWrite, MayExec.
type Permissioner interface {
	Permission(c Caller, mask uint32) error
}

// Volatile is an Inode of a file system whose names and attributes change without the vfs, because others have the same
// files (hostfs). All inodes of such a file system are volatile. What Attr tells is as new as the last Lookup, Revalidate or
// Refresh; the vfs makes one of these before it shows attributes to somebody or relies on a name.
type Volatile interface {
	// Refresh brings up to date what Attr tells.
	Refresh()
	// Revalidate reports whether name, of which the cache says that it is child (nil: that it does not exist), still is.
	// Then it has refreshed child. It is called without the directory's lock, too.
	Revalidate(name string, child Inode) bool
}

// InodeBase answers every call with the error that Linux gives for a type that does not have it. Embed it.
type InodeBase struct{}

func (InodeBase) SetAttr(Caller, *SetAttr) error                                   { return unix.EPERM }
func (InodeBase) Lookup(Caller, string) (Inode, error)                             { return nil, unix.ENOTDIR }
func (InodeBase) Create(Caller, string, uint32, uint64) (Inode, error)             { return nil, unix.EPERM }
func (InodeBase) Mkdir(Caller, string, uint32) (Inode, error)                      { return nil, unix.EPERM }
func (InodeBase) Symlink(Caller, string, string) (Inode, error)                    { return nil, unix.EPERM }
func (InodeBase) Link(Caller, Inode, string) error                                 { return unix.EPERM }
func (InodeBase) Unlink(Caller, string, Inode) error                               { return unix.EPERM }
func (InodeBase) Rmdir(Caller, string, Inode) error                                { return unix.EPERM }
func (InodeBase) Rename(Caller, string, Inode, Inode, string, Inode, uint32) error { return unix.EPERM }
func (InodeBase) Readlink(Caller) (string, error)                                  { return "", unix.EINVAL }
func (InodeBase) Open(Caller, *File) (FileOps, error)                              { return nil, unix.ENXIO }
func (InodeBase) Getxattr(Caller, string) ([]byte, error)                          { return nil, unix.EOPNOTSUPP }
func (InodeBase) Setxattr(Caller, string, []byte, int) error                       { return unix.EOPNOTSUPP }
func (InodeBase) Listxattr(Caller) ([]string, error)                               { return nil, nil }
func (InodeBase) Removexattr(Caller, string) error                                 { return unix.EOPNOTSUPP }
func (InodeBase) Forget()                                                          {}

// SuperBlock is one mounted file system instance.
type SuperBlock interface {
	Root() Inode
	Type() *FilesystemType
	// Dev is st_dev of its files.
	Dev() uint64
	Statfs() unix.Statfs_t
	// Sync writes everything back.
	Sync() error
	// Options is the file system's part of the options column of /proc/mounts (",size=64k"), "" if none.
	Options() string
	// Remount changes options; flags are MS_*.
	Remount(c Caller, flags uint64, data string) error
	// Release is called after the last unmount.
	Release()
}

// FilesystemType is a registered file system.
type FilesystemType struct {
	Name string
	// NeedsDev: source is a block device (no "nodev" in /proc/filesystems).
	NeedsDev bool
	// NoDcache: names may come and go without the vfs (proc): lookups are not cached.
	NoDcache bool
	// Mount makes a SuperBlock. flags are MS_* (MS_RDONLY, ...), data the options string.
	Mount func(c Caller, source string, flags uint64, data string) (SuperBlock, error)
}

// FileOps are the operations of one open file description. More are found by asserting the interfaces below.
//
// off is the position for pread and pwrite and the file's own position (already locked) for read and write; a stream
// (pipe, tty, socket) ignores it. The vfs advances the position by what is returned. Append: the vfs passes f.Flags; the
// file system appends under its own lock when O_APPEND is set, or off is AtEnd, and reports through f.SetPos.
type FileOps interface {
	wait.Pollable
	Read(c Caller, f *File, dst *uio.Dst, off int64) (int, error)
	Write(c Caller, f *File, src *uio.Src, off int64) (int, error)
	// Release is called when the last reference to the open file description is gone.
	Release(f *File)
}

// FileBase gives FileOps that are always ready, read EINVAL and write EINVAL. Embed it.
type FileBase struct{}

func (FileBase) Readiness(mask wait.Events) wait.Events {
	return mask & (wait.In | wait.RdNorm | wait.Out | wait.WrNorm)
}
func (FileBase) WaitQueue() *wait.Queue                            { return nil }
func (FileBase) Read(Caller, *File, *uio.Dst, int64) (int, error)  { return 0, unix.EINVAL }
func (FileBase) Write(Caller, *File, *uio.Src, int64) (int, error) { return 0, unix.EINVAL }
func (FileBase) Release(*File)                                     {}

// Optional parts of FileOps.
type (
	// Streamer marks files without a position: lseek, pread and pwrite give ESPIPE.
	Streamer interface{ Stream() }
	// Seeker has its own lseek (directories, SEEK_DATA); without it the vfs uses the inode's size.
	Seeker interface {
		Seek(c Caller, f *File, off int64, whence int) (int64, error)
	}
	// DirReader lists a directory. emit returns false when the buffer is full. f's position is an opaque cookie:
	// DirEnt.Off of an entry is the position after it. "." and ".." are the file system's to emit.
	DirReader interface {
		ReadDir(c Caller, f *File, off int64, emit func(DirEnt) bool) error
	}
	// Ioctler has ioctl(2); ENOTTY for unknown commands.
	Ioctler interface {
		Ioctl(c Caller, f *File, cmd uint32, arg uint64) (uint64, error)
	}
	// Syncer has fsync and fdatasync; without it they give EINVAL.
	Syncer interface {
		Fsync(c Caller, f *File, dataOnly bool) error
	}
	// Fallocater has fallocate(2).
	Fallocater interface {
		Fallocate(c Caller, f *File, mode uint32, off, n int64) error
	}
	// Mappable files can be mmapped; without it mmap gives ENODEV.
	Mappable interface {
		// Mapping returns what backs the file.
		Mapping(c Caller, f *File, shared, write bool) (Mapping, error)
	}
	// ReadyMappable files may be mapped without waiting for anything.
	ReadyMappable interface {
		// MapReady is Mapping, Mapped(1, false) and Extents(off, n, false, false) in one, or returns nil if one of them might
		// have to wait.
		MapReady(off, n uint64) (Mapping, []Extent)
	}
	// Flusher is told of each close(2) of a descriptor.
	Flusher interface{ Flush(c Caller, f *File) error }
	// FdInfoer adds lines to /proc/<pid>/fdinfo/<fd>.
	FdInfoer interface{ FdInfo(f *File) string }
	// StatusSetter is told of changes of O_NONBLOCK, O_APPEND, O_DIRECT by fcntl (before they take effect).
	StatusSetter interface {
		SetStatus(f *File, flags uint32) error
	}
)

// Mapping is a file range provider: host pages for pages of a file. Its identity (interface equality) is the mapped
// object's (inode).
type Mapping interface {
	// Extents resolves file pages [off, off+n) (page aligned) for mapping. Pages beyond the end of the file are left out
	// at the end or given with a nil Host (access gives SIGBUS). It may sleep (reads the disk). write is for shared
	// writable mappings.
	Extents(off, n uint64, shared, write bool) ([]Extent, error)
	// MSync writes shared pages back.
	MSync(off, n uint64) error
	// Mapped counts live mappings: +1 when a mapping is made, -1 when it is proven gone. write is for those that are
	// shared and made through a writable descriptor.
	Mapped(delta int, write bool)
}

// Extent is a piece of a file in host pages.
type Extent struct {
	Off, Len uint64 // in the file, page aligned
	Host     *platform.HostFile
	HostOff  uint64
}

// DirEnt is one directory entry.
type DirEnt struct {
	Name string
	Ino  uint64
	Type uint8 // unix.DT_*
	Off  int64
}
