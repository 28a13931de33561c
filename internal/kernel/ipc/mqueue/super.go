package mqueue

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
	"github.com/user-mode-linux/linux/internal/kernel/fs/pseudo"
	"github.com/user-mode-linux/linux/internal/kernel/ktime"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

const (
	mqueueMagic = 0x19800202
	nameMax     = 255
	// fileSize is st_size of a queue: the length of the text that reading it gives.
	fileSize = 80
	// A directory entry counts as this much (DIRENT_SIZE).
	direntSize = 20

	// hardMaxMsg and hardMaxSize are limits for privileged users too.
	hardMaxMsg  = 65536
	hardMaxSize = 16 << 20
	// msgOverhead and nodeOverhead count against RLIMIT_MSGQUEUE for each message and each priority in use.
	msgOverhead  = 48
	nodeOverhead = 48
	// PrioMax is one more than the highest priority (MQ_PRIO_MAX).
	PrioMax = 32768

	rlimitMsgqueue = 12
)

// The settings of /proc/sys/fs/mqueue.
var (
	QueuesMax      = pseudo.NewNumber(256, 0, 1<<31-1)
	MsgMax         = pseudo.NewNumber(10, 1, hardMaxMsg)
	MsgSizeMax     = pseudo.NewNumber(8192, 128, hardMaxSize)
	MsgDefault     = pseudo.NewNumber(10, 1, hardMaxMsg)
	MsgSizeDefault = pseudo.NewNumber(8192, 128, hardMaxSize)
)

// Attr is struct mq_attr, without the flags, which belong to the open file.
type Attr struct{ MaxMsg, MsgSize, CurMsgs int64 }

// Type is the file system type.
var Type = &vfs.FilesystemType{Name: "mqueue", NoDcache: true}

func init() {
	Type.Mount = func(vfs.Caller, string, uint64, string) (vfs.SuperBlock, error) { return instance(), nil }
}

// Register makes the file system known to mount(2).
func Register() { vfs.RegisterFilesystem(Type) }

// Super is the instance. It is a vfs.SuperBlock.
type Super struct {
	dev uint64
	ino atomic.Uint64

	mu     sync.Mutex
	root   vfs.Attr
	queues map[string]*Queue
	names  []string          // in the order of creation, newest last
	bytes  map[uint32]uint64 // charged to each user, for RLIMIT_MSGQUEUE
}

var instance = sync.OnceValue(newSuper)

func newSuper() *Super {
	now := abi.Timespec(ktime.Now())
	s := &Super{dev: vfs.NewAnonDev(), queues: map[string]*Queue{}, bytes: map[uint32]uint64{}}
	s.ino.Store(1)
	s.root = vfs.Attr{Ino: 1, Mode: unix.S_IFDIR | unix.S_ISVTX | 0o777, Nlink: 2, Blksize: abi.PageSize, Size: 2 * direntSize,
		Atime: now, Mtime: now, Ctime: now}
	return s
}

// Root implements vfs.SuperBlock, as do the methods that follow.
func (s *Super) Root() vfs.Inode { return dir{s: s} }

// Type is the file system type.
func (s *Super) Type() *vfs.FilesystemType { return Type }

// Dev is st_dev.
func (s *Super) Dev() uint64 { return s.dev }

// Statfs has no more than the type.
func (s *Super) Statfs() unix.Statfs_t {
	return unix.Statfs_t{Type: mqueueMagic, Bsize: abi.PageSize, Frsize: abi.PageSize, Namelen: nameMax}
}

// Sync has nothing to do.
func (s *Super) Sync() error { return nil }

// Options are none.
func (s *Super) Options() string { return "" }

// Remount takes anything.
func (s *Super) Remount(vfs.Caller, uint64, string) error { return nil }

// Release keeps the queues: they live on without a mount.
func (s *Super) Release() {}

// charge counts bytes of a user; EMFILE beyond RLIMIT_MSGQUEUE. mu is held.
func (s *Super) charge(c vfs.Caller, uid uint32, n uint64) error {
	if have := s.bytes[uid]; have+n < have || have+n > c.Rlimit(rlimitMsgqueue) {
		return unix.EMFILE
	}
	s.bytes[uid] += n
	return nil
}

func (s *Super) uncharge(uid uint32, n uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bytes[uid] -= n; s.bytes[uid] == 0 {
		delete(s.bytes, uid)
	}
}

// check checks the sizes that a program asks for.
func (a *Attr) check(c vfs.Caller) error {
	if a.MaxMsg <= 0 || a.MsgSize <= 0 {
		return unix.EINVAL
	}
	maxMsg, maxSize := MsgMax.Value(), MsgSizeMax.Value()
	if c.Cred().Capable(unix.CAP_SYS_RESOURCE) {
		maxMsg, maxSize = hardMaxMsg, hardMaxSize
	}
	if a.MaxMsg > maxMsg || a.MsgSize > maxSize {
		return unix.EINVAL
	}
	return nil
}

// createLocked makes a queue; a nil attr means the default sizes.
func (s *Super) createLocked(c vfs.Caller, name string, mode uint32, attr *Attr) (*Queue, error) {
	if int64(len(s.queues)) >= QueuesMax.Value() && !c.Cred().Capable(unix.CAP_SYS_RESOURCE) {
		return nil, unix.ENOSPC
	}
	a := Attr{MaxMsg: min(MsgMax.Value(), MsgDefault.Value()), MsgSize: min(MsgSizeMax.Value(), MsgSizeDefault.Value())}
	if attr != nil {
		a = *attr
		if err := a.check(c); err != nil {
			return nil, err
		}
	}
	// At most 65536 messages of 16 MiB: no overflow.
	n := uint64(a.MaxMsg)*(msgOverhead+uint64(a.MsgSize)) + uint64(min(a.MaxMsg, PrioMax))*nodeOverhead
	cr := c.Cred()
	if err := s.charge(c, cr.UID, n); err != nil {
		return nil, err
	}
	now := abi.Timespec(ktime.Now())
	q := &Queue{s: s, name: name, maxMsg: int(a.MaxMsg), msgSize: int(a.MsgSize), user: cr.UID, charged: n}
	q.attr = vfs.Attr{Ino: s.ino.Add(1), Mode: unix.S_IFREG | mode&0o7777, Nlink: 1, UID: cr.FSUID, GID: cr.FSGID, Size: fileSize,
		Blksize: abi.PageSize, Atime: now, Mtime: now, Ctime: now}
	s.queues[name] = q
	s.names = append(s.names, name)
	s.root.Size += direntSize
	s.root.Mtime, s.root.Ctime = now, now
	return q, nil
}

func (s *Super) unlinkLocked(q *Queue) {
	delete(s.queues, q.name)
	if i := slices.Index(s.names, q.name); i >= 0 {
		s.names = slices.Delete(s.names, i, i+1)
	}
	now := abi.Timespec(ktime.Now())
	s.root.Size -= direntSize
	s.root.Mtime, s.root.Ctime = now, now
	q.mu.Lock()
	q.attr.Nlink, q.attr.Ctime = 0, now
	q.mu.Unlock()
	q.free()
}

// checkName checks a name as looking it up in the directory would.
func checkName(name string) error {
	switch {
	case name == "":
		return unix.ENOENT
	case name == ".", name == "..", strings.Contains(name, "/"):
		return unix.EACCES
	case len(name) > nameMax:
		return unix.ENAMETOOLONG
	}
	return nil
}

// Open implements mq_open(2); attr is nil if the program gave none.
func Open(c vfs.Caller, name string, flags, mode uint32, attr *Attr) (*vfs.File, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	s := instance()
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.queues[name]
	switch {
	case q == nil && flags&unix.O_CREAT == 0:
		return nil, unix.ENOENT
	case q == nil:
		var err error
		if q, err = s.createLocked(c, name, mode&^c.FS().Umask(), attr); err != nil {
			return nil, err
		}
	case flags&(unix.O_CREAT|unix.O_EXCL) == unix.O_CREAT|unix.O_EXCL:
		return nil, unix.EEXIST
	default:
		want := [...]uint32{unix.O_RDONLY: vfs.MayRead, unix.O_WRONLY: vfs.MayWrite, unix.O_RDWR: vfs.MayRead | vfs.MayWrite, 3: 0}[flags&unix.O_ACCMODE]
		if want == 0 {
			return nil, unix.EINVAL
		}
		if err := vfs.Permission(c, q, want); err != nil {
			return nil, err
		}
	}
	q.hold()
	return vfs.NewAnonFileAt("/"+name, q, &file{q: q}, flags&(unix.O_ACCMODE|unix.O_NONBLOCK)), nil
}

// Unlink implements mq_unlink(2).
func Unlink(c vfs.Caller, name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	s := instance()
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.queues[name]
	if q == nil {
		return unix.ENOENT
	}
	if a, cr := q.Attr(), c.Cred(); cr.FSUID != a.UID && cr.FSUID != s.root.UID && !cr.Capable(unix.CAP_FOWNER) {
		return unix.EPERM
	}
	s.unlinkLocked(q)
	return nil
}

// dir is the root directory. It is comparable: all values of one instance are equal.
type dir struct {
	vfs.InodeBase
	s *Super
}

// Super implements vfs.Inode, as do the methods that follow.
func (d dir) Super() vfs.SuperBlock { return d.s }

// Attr are the directory's attributes.
func (d dir) Attr() vfs.Attr {
	d.s.mu.Lock()
	defer d.s.mu.Unlock()
	return d.s.root
}

// SetAttr changes mode, owner and times.
func (d dir) SetAttr(_ vfs.Caller, sa *vfs.SetAttr) error {
	d.s.mu.Lock()
	defer d.s.mu.Unlock()
	sa.Apply(&d.s.root)
	return nil
}

// Lookup finds a queue.
func (d dir) Lookup(_ vfs.Caller, name string) (vfs.Inode, error) {
	d.s.mu.Lock()
	defer d.s.mu.Unlock()
	if q := d.s.queues[name]; q != nil {
		return q, nil
	}
	return nil, unix.ENOENT
}

// Create makes a queue with the default sizes.
func (d dir) Create(c vfs.Caller, name string, mode uint32, _ uint64) (vfs.Inode, error) {
	if mode&unix.S_IFMT != unix.S_IFREG {
		return nil, unix.EPERM
	}
	d.s.mu.Lock()
	defer d.s.mu.Unlock()
	if d.s.queues[name] != nil {
		return nil, unix.EEXIST
	}
	q, err := d.s.createLocked(c, name, mode, nil)
	if err != nil {
		return nil, err
	}
	return q, nil
}

// Unlink removes a queue's name.
func (d dir) Unlink(_ vfs.Caller, name string, _ vfs.Inode) error {
	d.s.mu.Lock()
	defer d.s.mu.Unlock()
	q := d.s.queues[name]
	if q == nil {
		return unix.ENOENT
	}
	d.s.unlinkLocked(q)
	return nil
}

// Open lists the queues.
func (d dir) Open(vfs.Caller, *vfs.File) (vfs.FileOps, error) {
	return &pseudo.List{Self: 1, Parent: 1, ReadFrom: func(_ vfs.Caller, off int64, emit func(vfs.DirEnt) bool) error {
		d.s.mu.Lock()
		var all []vfs.DirEnt
		for _, n := range d.s.names {
			// The inode number is the cookie: it only grows, and is not 1 or 2.
			if i := d.s.queues[n].attr.Ino; int64(i)+1 > off {
				all = append(all, vfs.DirEnt{Name: n, Ino: i, Type: unix.DT_REG, Off: int64(i) + 1})
			}
		}
		d.s.mu.Unlock()
		for _, e := range all {
			if !emit(e) {
				break
			}
		}
		return nil
	}}, nil
}
