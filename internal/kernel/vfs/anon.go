package vfs

import (
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
	"github.com/user-mode-linux/linux/internal/kernel/ktime"
)

// anonSuper is the file system of one kind of file without a name: pipefs, sockfs, anon_inodefs.
type anonSuper struct {
	typ   *FilesystemType
	dev   uint64
	magic int64
	super *super
	ino   atomic.Uint64
}

func (s *anonSuper) Root() Inode           { return nil }
func (s *anonSuper) Type() *FilesystemType { return s.typ }
func (s *anonSuper) Dev() uint64           { return s.dev }
func (s *anonSuper) Statfs() unix.Statfs_t {
	return unix.Statfs_t{Type: s.magic, Bsize: abi.PageSize, Namelen: nameMax}
}
func (s *anonSuper) Sync() error                                       { return nil }
func (s *anonSuper) Options() string                                   { return "" }
func (s *anonSuper) Remount(c Caller, flags uint64, data string) error { return unix.EINVAL }
func (s *anonSuper) Release()                                          {}
func newAnonSuper(name string, magic int64) *anonSuper {
	s := &anonSuper{typ: &FilesystemType{Name: name, NoDcache: true}, dev: NewAnonDev(), magic: magic}
	s.super = &super{sb: s, mounts: 1, uncached: true}
	return s
}

const (
	pipefsMagic = 0x50495045
	sockfsMagic = 0x534F434B
	anonfsMagic = 0x09041934
)

var anonSupers = sync.OnceValue(func() (s struct{ pipe, sock, anon *anonSuper }) {
	s.pipe = newAnonSuper("pipefs", pipefsMagic)
	s.sock = newAnonSuper("sockfs", sockfsMagic)
	s.anon = newAnonSuper("anon_inodefs", anonfsMagic)
	return s
})

// AnonInode is the inode of a pipe, a socket or another file without a name.
type AnonInode struct {
	InodeBase
	sb *anonSuper
	// Reopen opens the inode again by way of /proc/<pid>/fd (pipes); nil refuses with ENXIO. Set before use.
	Reopen OpenFunc

	mu   sync.Mutex
	attr Attr // guarded by mu
}

// NewAnonInode makes an inode. mode is its st_mode: S_IFIFO|0600 is one of pipefs, S_IFSOCK|0777 of sockfs, others are of
// anon_inodefs. It belongs to the caller.
func NewAnonInode(c Caller, mode uint32) *AnonInode {
	all := anonSupers()
	sb := all.anon
	switch mode & unix.S_IFMT {
	case unix.S_IFIFO:
		sb = all.pipe
	case unix.S_IFSOCK:
		sb = all.sock
	}
	now := abi.NsecToTimespec(ktime.Realtime())
	in := &AnonInode{sb: sb}
	in.attr = Attr{Ino: sb.ino.Add(1), Mode: mode, Nlink: 1, Blksize: abi.PageSize, Atime: now, Mtime: now, Ctime: now}
	if c != nil {
		cr := c.Cred()
		in.attr.UID, in.attr.GID = cr.FSUID, cr.FSGID
	}
	return in
}

// Super is pipefs, sockfs or anon_inodefs.
func (in *AnonInode) Super() SuperBlock { return in.sb }

// Attr returns the attributes.
func (in *AnonInode) Attr() Attr { in.mu.Lock(); defer in.mu.Unlock(); return in.attr }

// SetAttr changes mode, owner and times.
func (in *AnonInode) SetAttr(c Caller, sa *SetAttr) error {
	if sa.Valid&SetSize != 0 {
		return unix.EINVAL
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	sa.Apply(&in.attr)
	return nil
}

// Open opens it again through a magic link.
func (in *AnonInode) Open(c Caller, f *File) (FileOps, error) {
	if in.Reopen == nil {
		return nil, unix.ENXIO
	}
	return in.Reopen(c, f)
}

// NewAnonFile makes an open file on an inode of its own. name is what /proc/<pid>/fd shows: "socket:" and "pipe:" get the
// inode number behind them ("socket:[42]"), others stand as they are ("anon_inode:[eventpoll]").
func NewAnonFile(c Caller, name string, ops FileOps, flags uint32, mode uint32) *File {
	return NewAnonFileOn(NewAnonInode(c, mode), name, ops, flags)
}

// NewAnonFileOn makes an open file on an inode that may have several (the two ends of a pipe).
func NewAnonFileOn(in *AnonInode, name string, ops FileOps, flags uint32) *File {
	if name == "pipe:" || name == "socket:" {
		name += "[" + utoa(in.attr.Ino) + "]"
	}
	return newAnonFile(in.sb.super, name, in, ops, flags&^(unix.O_CLOEXEC|unix.O_CREAT))
}

func newAnonFile(s *super, name string, in Inode, ops FileOps, flags uint32) *File {
	a := in.Attr()
	d := &Dentry{sb: s, inode: in, typ: a.Mode & unix.S_IFMT, name: name}
	d.parent.Store(d)
	d.state.Store(dUncached | dUnhashed)
	d.refs.Store(1)
	return NewFile(Path{Dentry: d}, in, ops, flags)
}

// otherAnon has the vfs's side of file systems of other packages that are mounted nowhere.
var otherAnon sync.Map // SuperBlock to *super

// NewAnonFileAt makes an open file of an inode of another file system that has no place in a tree. name is what
// /proc/<pid>/fd shows ("pipe:[123]", "anon_inode:[eventfd]").
func NewAnonFileAt(name string, in Inode, ops FileOps, flags uint32) *File {
	sb := in.Super()
	s, ok := otherAnon.Load(sb)
	if !ok {
		s, _ = otherAnon.LoadOrStore(sb, &super{sb: sb, mounts: 1, uncached: true})
	}
	return newAnonFile(s.(*super), name, in, ops, flags)
}

// NoSeek is embedded in the FileOps of eventfd, epoll and the like: streams on which lseek does nothing and succeeds.
type NoSeek struct{}

// Stream marks a file without a position.
func (NoSeek) Stream() {}

// Seek does nothing.
func (NoSeek) Seek(Caller, *File, int64, int) (int64, error) { return 0, nil }
