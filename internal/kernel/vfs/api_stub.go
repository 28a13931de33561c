package vfs

import (
	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/uio"
)

// Signatures first; bodies follow.

type OpenHow struct {
	Flags   uint32
	Mode    uint32
	Resolve uint64
}

// In all of these dir nil is AT_FDCWD; flags are AT_* (AT_EMPTY_PATH with path "" means dir itself: the f... variants).
func Open(c Caller, dir *File, path string, how OpenHow) (*File, error)      { return nil, unix.ENOSYS }
func OpenExec(c Caller, dir *File, path string, flags int) (*File, error)    { return nil, unix.ENOSYS }
func Lookup(c Caller, dir *File, path string, flags int) (Path, error)       { return Path{}, unix.ENOSYS }
func Stat(c Caller, dir *File, path string, flags int) (Attr, error)         { return Attr{}, unix.ENOSYS }
func Mkdir(c Caller, dir *File, path string, mode uint32) error              { return unix.ENOSYS }
func Mknod(c Caller, dir *File, path string, mode uint32, rdev uint64) error { return unix.ENOSYS }
func Unlink(c Caller, dir *File, path string) error                          { return unix.ENOSYS }
func Rmdir(c Caller, dir *File, path string) error                           { return unix.ENOSYS }
func Rename(c Caller, od *File, old string, nd *File, new string, fl uint32) error {
	return unix.ENOSYS
}
func Link(c Caller, od *File, old string, nd *File, new string, flags int) error { return unix.ENOSYS }
func Symlink(c Caller, target string, dir *File, path string) error              { return unix.ENOSYS }
func Readlink(c Caller, dir *File, path string) (string, error)                  { return "", unix.ENOSYS }
func Chmod(c Caller, dir *File, path string, mode uint32, flags int) error       { return unix.ENOSYS }
func Chown(c Caller, dir *File, path string, uid, gid uint32, flags int) error   { return unix.ENOSYS }

// ts nil is now; UTIME_NOW and UTIME_OMIT are understood.
func Utimens(c Caller, dir *File, path string, ts *[2]unix.Timespec, flags int) error {
	return unix.ENOSYS
}
func Truncate(c Caller, dir *File, path string, size int64) error           { return unix.ENOSYS }
func Ftruncate(c Caller, f *File, size int64) error                         { return unix.ENOSYS }
func Access(c Caller, dir *File, path string, mode uint32, flags int) error { return unix.ENOSYS }
func Statfs(c Caller, dir *File, path string, flags int) (unix.Statfs_t, error) {
	return unix.Statfs_t{}, unix.ENOSYS
}
func Getxattr(c Caller, dir *File, path string, flags int, name string) ([]byte, error) {
	return nil, unix.ENOSYS
}
func Setxattr(c Caller, dir *File, path string, flags int, name string, v []byte, xflags int) error {
	return unix.ENOSYS
}
func Listxattr(c Caller, dir *File, path string, flags int) ([]byte, error)      { return nil, unix.ENOSYS }
func Removexattr(c Caller, dir *File, path string, flags int, name string) error { return unix.ENOSYS }
func DoMount(c Caller, source, target, fstype string, flags uint64, data string) error {
	return unix.ENOSYS
}
func Umount(c Caller, target string, flags int) error  { return unix.ENOSYS }
func PivotRoot(c Caller, newRoot, putOld string) error { return unix.ENOSYS }
func Chdir(c Caller, path string) error                { return unix.ENOSYS }
func Fchdir(c Caller, f *File) error                   { return unix.ENOSYS }
func Chroot(c Caller, path string) error               { return unix.ENOSYS }
func Getcwd(c Caller) (string, error)                  { return "", unix.ENOSYS }

// PathName is d_path: how c sees p, with " (deleted)".
func PathName(c Caller, p Path) string { return "" }
func Sync(c Caller) error              { return nil }
func Syncfs(c Caller, f *File) error   { return nil }

// Open files.
func Read(c Caller, f *File, dst *uio.Dst) (int, error)               { return 0, unix.ENOSYS }
func Write(c Caller, f *File, src *uio.Src) (int, error)              { return 0, unix.ENOSYS }
func Pread(c Caller, f *File, dst *uio.Dst, off int64) (int, error)   { return 0, unix.ENOSYS }
func Pwrite(c Caller, f *File, src *uio.Src, off int64) (int, error)  { return 0, unix.ENOSYS }
func Seek(c Caller, f *File, off int64, whence int) (int64, error)    { return 0, unix.ENOSYS }
func ReadDir(c Caller, f *File, emit func(DirEnt) bool) error         { return unix.ENOSYS }
func Ioctl(c Caller, f *File, cmd uint32, arg uint64) (uint64, error) { return 0, unix.ENOTTY }
func Fsync(c Caller, f *File, dataOnly bool) error                    { return unix.ENOSYS }
func Fallocate(c Caller, f *File, mode uint32, off, n int64) error    { return unix.ENOSYS }
func MapFile(c Caller, f *File, shared, write bool) (Mapping, error)  { return nil, unix.ENODEV }

// DecRef drops a reference; the last one releases the file.
func (f *File) DecRef() {}

// Pos is the position; SetStatus changes the flags fcntl F_SETFL may change.
func (f *File) Pos() int64                   { return f.pos }
func (f *File) SetStatus(flags uint32) error { return nil }
func (f *File) SetOwner(o *Owner)            { f.owner.Store(o) }
func (f *File) Owner() *Owner                { return f.owner.Load() }

// NewAnonFile makes a file without a name in a tree. kind is "pipe", "socket", "anon_inode:[eventpoll]"...;
// mode its st_mode with type (S_IFIFO|0600, S_IFSOCK|0777, 0600).
func NewAnonFile(name string, ops FileOps, flags uint32, mode uint32) *File {
	return NewFile(Path{}, nil, ops, flags)
}

// File locks. t is the POSIX lock owner. cmd is F_GETLK, F_SETLK, F_SETLKW or the F_OFD_* ones.
func Flock(c Caller, f *File, op int) error { return unix.ENOSYS }
func FcntlLock(c Caller, t *FDTable, fd int32, f *File, cmd int, fl *unix.Flock_t) error {
	return unix.ENOSYS
}

// FDTable is a file descriptor table.
type FDTable struct{}

func NewFDTable() *FDTable                     { return nil }
func (t *FDTable) Get(fd int32) (*File, error) { return nil, unix.EBADF } // takes a reference: DecRef it
func (t *FDTable) Install(c Caller, f *File, min int32, cloexec bool) (int32, error) { // takes over the reference on success
	return 0, unix.EMFILE
}
func (t *FDTable) Dup3(c Caller, f *File, newfd int32, cloexec bool) error   { return unix.EBADF } // takes own reference
func (t *FDTable) Close(c Caller, fd int32) error                            { return unix.EBADF }
func (t *FDTable) CloseRange(c Caller, first, last uint32, cloexecOnly bool) {}
func (t *FDTable) Cloexec(fd int32) (bool, error)                            { return false, unix.EBADF }
func (t *FDTable) SetCloexec(fd int32, on bool) error                        { return unix.EBADF }
func (t *FDTable) Copy() *FDTable                                            { return nil }
func (t *FDTable) CloseOnExec(c Caller)                                      {}
func (t *FDTable) IncRef() *FDTable                                          { return t }
func (t *FDTable) DecRef(c Caller)                                           {} // last one closes all
func (t *FDTable) Range(fn func(fd int32, f *File, cloexec bool) bool)       {}

// Special files.
type OpenFunc func(c Caller, f *File) (FileOps, error)

func RegisterFilesystem(t *FilesystemType)                                  {}
func Filesystems() []*FilesystemType                                        { return nil }
func FindFilesystem(name string) *FilesystemType                            { return nil }
func RegisterChrdev(major, minor, count uint32, name string, open OpenFunc) {}
func RegisterBlkdev(major, minor, count uint32, name string, open OpenFunc) {}
func RegisterFifo(open OpenFunc)                                            {}
func OpenSpecial(c Caller, f *File, mode uint32, rdev uint64) (FileOps, error) {
	return nil, unix.ENXIO
}

// Event is something that happened to a file, for inotify(7).
type Event struct {
	Mask   uint32 // unix.IN_*, with IN_ISDIR
	Cookie uint32
	Dir    Inode  // directory that has (had) Name; nil if there is none
	Name   string // in Dir
	Inode  Inode  // the file itself
}

// SetNotifier installs (or with nil removes) the one receiver of events.
func SetNotifier(fn func(*Event)) {}
func Notify(mask uint32, p Path)  {}

// Namespace is a mount namespace.
type Namespace struct{}

func NewNamespace(sb SuperBlock, source string, flags uint64) *Namespace { return nil }
func (n *Namespace) Root() Path                                          { return Path{} }
func (n *Namespace) Clone(fs *FSContext) (*Namespace, error)             { return nil, nil }

// MountInfo is a line of /proc/<pid>/mountinfo and mounts.
type MountInfo struct {
	ID, ParentID          int
	Dev                   uint64
	Root, Point           string
	Options, SuperOptions string // "rw,relatime", "rw,size=64k"
	Type, Source          string
	Propagation           string // "shared:1" or ""
}

func (n *Namespace) Mounts(root Path) []MountInfo { return nil }

func NewFSContext(ns *Namespace) *FSContext    { return nil }
func (fs *FSContext) Copy() *FSContext         { return nil }
func (fs *FSContext) Release()                 {}
func (fs *FSContext) Root() Path               { return Path{} }
func (fs *FSContext) Cwd() Path                { return Path{} }
func (fs *FSContext) Umask() uint32            { return 0 }
func (fs *FSContext) SetUmask(m uint32) uint32 { return 0 }
func (fs *FSContext) Namespace() *Namespace    { return nil }
func (fs *FSContext) Unshare() error           { return nil } // CLONE_NEWNS on this (unshared) context

// DenyWrite keeps a running program from being written (ETXTBSY); AllowWrite ends it.
func DenyWrite(f *File) error { return nil }
func AllowWrite(f *File)      {}

// Permission checks access as inode_permission does.
func Permission(c Caller, in Inode, mask uint32) error { return nil }

const (
	MayExec  = 1
	MayWrite = 2
	MayRead  = 4
)
