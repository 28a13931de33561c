package vfs

import (
	"sort"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// super is the vfs's side of a SuperBlock.
type super struct {
	sb       SuperBlock
	root     *Dentry
	uncached bool
	volatile bool // inodes are Volatile
	acl      bool
	ro       ReadOnlyer // nil if sb is none
	// mounts counts the Mounts of it; guarded by supers.mu.
	mounts int
	// flags are the super block's own MS_* flags (MS_RDONLY, MS_SYNCHRONOUS).
	flags atomic.Uint64
	// writers counts files open for writing.
	writers atomic.Int32
	// lookupMu is held for reading around lookups and for writing while an inode is forgotten.
	lookupMu sync.RWMutex
	// renameMu serialises renames between directories, so that nobody becomes a parent of its own.
	renameMu sync.Mutex
}

// ReadOnlyer is a SuperBlock that may be read-only although the mount asked for writing, or become so after an error.
type ReadOnlyer interface{ ReadOnly() bool }

// ACLSupporter is a SuperBlock whose inodes have POSIX ACLs as system.posix_acl_access and system.posix_acl_default.
type ACLSupporter interface{ SupportsACL() bool }

var supers struct {
	mu sync.Mutex
	m  map[SuperBlock]*super
}

// holdSuper returns the vfs's side of sb with one more mount.
func holdSuper(sb SuperBlock, flags uint64) *super {
	supers.mu.Lock()
	defer supers.mu.Unlock()
	if s := supers.m[sb]; s != nil {
		s.mounts++
		return s
	}
	s := newSuper(sb, flags)
	if supers.m == nil {
		supers.m = make(map[SuperBlock]*super)
	}
	supers.m[sb] = s
	return s
}

func newSuper(sb SuperBlock, flags uint64) *super {
	s := &super{sb: sb, mounts: 1, uncached: sb.Type().NoDcache}
	if a, ok := sb.(ACLSupporter); ok {
		s.acl = a.SupportsACL()
	}
	s.ro, _ = sb.(ReadOnlyer)
	s.flags.Store(flags & superFlags)
	root := sb.Root()
	_, s.volatile = root.(Volatile)
	s.root = newDentry(s, nil, "", root)
	s.root.state.And(^uint32(dUnhashed))
	return s
}

func (s *super) hold() {
	supers.mu.Lock()
	s.mounts++
	supers.mu.Unlock()
}

// release drops a mount; the last one ends the file system.
func (s *super) release() {
	supers.mu.Lock()
	s.mounts--
	last := s.mounts == 0
	if last {
		delete(supers.m, s.sb)
	}
	supers.mu.Unlock()
	if !last {
		return
	}
	for lru.shrink(256, s) > 0 {
	}
	s.root.state.Or(dUnhashed)
	s.root.put()
	if fn := notifier.Load(); fn != nil {
		(*fn)(&Event{Mask: unix.IN_UNMOUNT, Super: s.sb})
	}
	_ = s.sb.Sync() // nobody is left to tell
	s.sb.Release()
}

func (s *super) readonly() bool { return s.allFlags()&unix.MS_RDONLY != 0 }

// allFlags are the flags of the mount, and MS_RDONLY if the file system is read-only for reasons of its own.
func (s *super) allFlags() uint64 {
	fl := s.flags.Load()
	if s.ro != nil && s.ro.ReadOnly() {
		fl |= unix.MS_RDONLY
	}
	return fl
}

// allSupers returns all mounted file systems.
func allSupers() []*super {
	supers.mu.Lock()
	defer supers.mu.Unlock()
	all := make([]*super, 0, len(supers.m))
	for _, s := range supers.m {
		all = append(all, s)
	}
	return all
}

var filesystems struct {
	sync.RWMutex
	list []*FilesystemType
}

// RegisterFilesystem makes a file system type known to mount(2). Registering a name again replaces it.
func RegisterFilesystem(t *FilesystemType) {
	filesystems.Lock()
	defer filesystems.Unlock()
	for i, o := range filesystems.list {
		if o.Name == t.Name {
			filesystems.list[i] = t
			return
		}
	}
	filesystems.list = append(filesystems.list, t)
}

// Filesystems lists the types in the order of registration.
func Filesystems() []*FilesystemType {
	filesystems.RLock()
	defer filesystems.RUnlock()
	return append([]*FilesystemType(nil), filesystems.list...)
}

// FindFilesystem returns the type with a name, nil if there is none.
func FindFilesystem(name string) *FilesystemType {
	filesystems.RLock()
	defer filesystems.RUnlock()
	for _, t := range filesystems.list {
		if t.Name == name {
			return t
		}
	}
	return nil
}

var nextAnonDev atomic.Uint32

// NewAnonDev returns a device number (major 0) for a file system without a device.
func NewAnonDev() uint64 { return unix.Mkdev(0, nextAnonDev.Add(1)) }

// OpenFunc opens a device or fifo: it makes the operations of f.
type OpenFunc func(c Caller, f *File) (FileOps, error)

// Device is a registered range of device numbers.
type Device struct {
	Major, Minor, Count uint32
	Name                string
	open                OpenFunc
}

type deviceTable struct {
	sync.RWMutex
	devs []Device // the one registered last wins
}

var (
	chrdevs, blkdevs deviceTable
	fifoOpen         atomic.Pointer[OpenFunc]
)

func (t *deviceTable) add(d Device) {
	t.Lock()
	defer t.Unlock()
	for i := range t.devs {
		if o := &t.devs[i]; o.Major == d.Major && o.Minor == d.Minor && o.Count == d.Count {
			*o = d
			return
		}
	}
	t.devs = append(t.devs, d)
}

func (t *deviceTable) remove(major, minor, count uint32) {
	t.Lock()
	defer t.Unlock()
	for i := range t.devs {
		if o := &t.devs[i]; o.Major == major && o.Minor == minor && o.Count == count {
			t.devs = append(t.devs[:i], t.devs[i+1:]...)
			return
		}
	}
}

func (t *deviceTable) find(rdev uint64) OpenFunc {
	maj, min := unix.Major(rdev), unix.Minor(rdev)
	t.RLock()
	defer t.RUnlock()
	for i := len(t.devs) - 1; i >= 0; i-- {
		d := &t.devs[i]
		if d.Major == maj && min >= d.Minor && min-d.Minor < d.Count {
			return d.open
		}
	}
	return nil
}

func (t *deviceTable) list() []Device {
	t.RLock()
	defer t.RUnlock()
	l := append([]Device(nil), t.devs...)
	sort.SliceStable(l, func(i, j int) bool { return l[i].Major < l[j].Major })
	return l
}

// RegisterChrdev registers a driver for count minor numbers of a character device from minor on.
func RegisterChrdev(major, minor, count uint32, name string, open OpenFunc) {
	chrdevs.add(Device{major, minor, count, name, open})
}

// RegisterBlkdev does the same for block devices.
func RegisterBlkdev(major, minor, count uint32, name string, open OpenFunc) {
	blkdevs.add(Device{major, minor, count, name, open})
}

// UnregisterChrdev and UnregisterBlkdev undo a registration with the same range.
func UnregisterChrdev(major, minor, count uint32) { chrdevs.remove(major, minor, count) }

// UnregisterBlkdev undoes RegisterBlkdev.
func UnregisterBlkdev(major, minor, count uint32) { blkdevs.remove(major, minor, count) }

// Chrdevs and Blkdevs list the registrations by major number, for /proc/devices.
func Chrdevs() []Device { return chrdevs.list() }

// Blkdevs lists the block device registrations.
func Blkdevs() []Device { return blkdevs.list() }

// RegisterFifo sets who opens fifos. The state of a fifo belongs to f.Inode.
func RegisterFifo(open OpenFunc) { fifoOpen.Store(&open) }

// OpenSpecial is what a file system's Open calls for an inode that is not its own to read: devices, fifos, sockets.
func OpenSpecial(c Caller, f *File, mode uint32, rdev uint64) (FileOps, error) {
	var open OpenFunc
	switch mode & unix.S_IFMT {
	case unix.S_IFCHR:
		open = chrdevs.find(rdev)
	case unix.S_IFBLK:
		open = blkdevs.find(rdev)
	case unix.S_IFIFO:
		if p := fifoOpen.Load(); p != nil {
			open = *p
		}
	}
	if open == nil {
		return nil, unix.ENXIO
	}
	return open(c, f)
}
