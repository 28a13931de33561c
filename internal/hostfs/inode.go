package hostfs

import (
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// fileID is what tells a file of the host from all others. Numbers are used again; born, the time of birth where the host
// knows it, tells the new file from the old one.
type fileID struct {
	dev, ino uint64
	born     int64
}

func idOf(st *unix.Statx_t) fileID {
	id := fileID{dev: unix.Mkdev(st.Dev_major, st.Dev_minor), ino: st.Ino}
	if st.Mask&unix.STATX_BTIME != 0 {
		id.born = st.Btime.Sec*1e9 + int64(st.Btime.Nsec)
	}
	return id
}

// place is a name of a file.
type place struct {
	dir  *inode
	name string
}

// inode is a file of the host. It implements vfs.Inode for files of every type, vfs.Volatile, and vfs.Mapping.
type inode struct {
	sb       *superBlock
	id       fileID
	hostType uint32 // S_IFMT on the host
	typ      uint32 // S_IFMT in the guest
	covered  bool   // the root of a file system that guests are not shown
	// All immutable up to here.

	// place is where the file was seen last; nil for the root, and when it has lost that name.
	place atomic.Pointer[place]
	// cached is the descriptor in the ring; rd and wr are those of open files, which hold them.
	cached, rd, wr atomic.Pointer[handle]
	openMu         sync.Mutex // held while rd or wr is made
	// target of a symbolic link, once it has been read.
	target atomic.Pointer[string]

	// posMu is held by what uses the position of a descriptor of the host: appending, and looking for holes.
	posMu sync.Mutex

	// perm is mode and uid of attr, for QuickPerm.
	perm   atomic.Uint64
	attrMu sync.RWMutex
	attr   vfs.Attr
	// What the host says with the option map, where attr is different.
	hostMode, hostUID uint32
	over              override

	mapMu sync.Mutex
	// +checklocks:mapMu
	mapped, mappedRW int
	// +checklocks:mapMu
	ro, rw *mappedFile
}

// Super, Attr, QuickPerm implement vfs.Inode and vfs.QuickPermer.
func (in *inode) Super() vfs.SuperBlock { return in.sb }

// Attr is as new as the last Lookup, Revalidate, Refresh, or change by the guest.
func (in *inode) Attr() vfs.Attr {
	in.attrMu.RLock()
	defer in.attrMu.RUnlock()
	return in.attr
}

// QuickPerm implements vfs.QuickPermer.
func (in *inode) QuickPerm() (mode, uid uint32, acl bool) {
	p := in.perm.Load()
	return uint32(p >> 32), uint32(p), false
}

func (in *inode) isDir() bool { return in.typ == unix.S_IFDIR }

// hold returns a descriptor of the file: one that is open already, or one made with O_PATH. ESTALE if the file is not to be
// found any more.
func (in *inode) hold() (*handle, error) {
	if h := in.cached.Load(); h != nil && h.tryGet() {
		if !h.used.Load() {
			h.used.Store(true)
		}
		return h, nil
	}
	for _, p := range [...]*atomic.Pointer[handle]{&in.rd, &in.wr} {
		if h := p.Load(); h != nil && h.tryGet() {
			return h, nil
		}
	}
	at := in.place.Load()
	if at == nil {
		return nil, unix.ESTALE
	}
	dir, err := at.dir.hold()
	if err != nil {
		return nil, err
	}
	defer dir.put()
	h, err := in.sb.openPath(dir, at.name)
	if err != nil {
		if err == unix.ENOENT || err == unix.ENOTDIR {
			err = unix.ESTALE
		}
		return nil, err
	}
	var st unix.Statx_t
	if err := statx(h.fd, "", &st); err != nil {
		h.put()
		return nil, err
	}
	if !in.is(&st) {
		h.put()
		return nil, unix.ESTALE
	}
	in.cache(h)
	return h, nil
}

// cache offers a descriptor to the ring, which takes a reference of its own.
func (in *inode) cache(h *handle) {
	h.in = in
	h.refs.Add(1)
	h.used.Store(true)
	if in.cached.CompareAndSwap(nil, h) {
		in.sb.srv.handles.add(h)
		return
	}
	h.put()
}

// uncache takes the file's descriptor out of the ring; the caller gets the ring's reference. nil if there is none.
func (in *inode) uncache() *handle {
	h := in.cached.Load()
	if h == nil || !in.cached.CompareAndSwap(h, nil) {
		return nil
	}
	in.sb.srv.handles.forget(h)
	return h
}

// recent and evict implement ringed.
func (h *handle) recent() bool { return h.used.Swap(false) }

func (h *handle) evict() bool {
	if h.in.cached.CompareAndSwap(h, nil) {
		h.put()
	} // else it has just been taken out
	return true
}

// is reports whether st is of this file.
func (in *inode) is(st *unix.Statx_t) bool {
	return st.Ino == in.id.ino && idOf(st) == in.id && uint32(st.Mode)&unix.S_IFMT == in.hostType
}

// at notes where the file has been seen.
func (in *inode) at(dir *inode, name string) {
	if p := in.place.Load(); p != nil && p.dir == dir && p.name == name {
		return
	}
	in.place.Store(&place{dir, name})
}

// lost notes that a name has gone, or one of the number of links.
func (in *inode) lost(dir *inode, name string) {
	if p := in.place.Load(); p != nil && p.dir == dir && p.name == name {
		in.place.CompareAndSwap(p, nil)
	}
	in.attrMu.Lock()
	if in.attr.Nlink > 0 {
		in.attr.Nlink--
	}
	if in.isDir() {
		in.attr.Nlink = 0
	}
	in.attrMu.Unlock()
}

// update makes attr of what the host says.
func (in *inode) update(st *unix.Statx_t, over override) {
	a := vfs.Attr{
		Ino: in.sb.number(st), Mode: uint32(st.Mode), Nlink: st.Nlink, UID: st.Uid, GID: st.Gid,
		Rdev: unix.Mkdev(st.Rdev_major, st.Rdev_minor), Size: int64(st.Size), Blocks: int64(st.Blocks), Blksize: int64(st.Blksize),
		Atime: timespec(st.Atime), Mtime: timespec(st.Mtime), Ctime: timespec(st.Ctime), Btime: timespec(st.Btime),
		Flags: st.Attributes & (unix.STATX_ATTR_APPEND | unix.STATX_ATTR_IMMUTABLE | unix.STATX_ATTR_NODUMP),
	}
	if in.sb.mapped {
		over.apply(&a, in.sb.srv)
	}
	if in.covered {
		a.Mode, a.Nlink, a.Size = unix.S_IFDIR|0o555, 2, 0
	}
	in.attrMu.Lock()
	in.attr, in.over, in.hostMode, in.hostUID = a, over, uint32(st.Mode)&0o7777, st.Uid
	in.perm.Store(uint64(a.Mode)<<32 | uint64(a.UID))
	in.attrMu.Unlock()
}

func timespec(t unix.StatxTimestamp) unix.Timespec {
	return unix.Timespec{Sec: t.Sec, Nsec: int64(t.Nsec)}
}

// fresh updates the attributes by st. It reports false if that shows a file of another type.
func (in *inode) fresh(st *unix.Statx_t) bool {
	in.attrMu.RLock()
	over := in.over
	in.attrMu.RUnlock()
	if in.sb.mapped && over.read != timespec(st.Ctime) && in.hostType != unix.S_IFLNK {
		h, err := in.hold()
		if err != nil {
			return false
		}
		over = readOverride(h, st)
		h.put()
		if over.guestType(in.hostType) != in.typ {
			return false
		}
	}
	in.update(st, over)
	return true
}

// Refresh implements vfs.Volatile. A file that is not to be found any more keeps the attributes that it had.
func (in *inode) Refresh() {
	h, err := in.hold()
	if err != nil {
		return
	}
	defer h.put()
	var st unix.Statx_t
	if statx(h.fd, "", &st) == nil {
		in.fresh(&st)
	}
}

// Revalidate implements vfs.Volatile.
func (in *inode) Revalidate(name string, child vfs.Inode) bool {
	if in.covered {
		return child == nil
	}
	h, err := in.hold()
	if err != nil {
		return false // the lookup tells why
	}
	defer h.put()
	var st unix.Statx_t
	if err := statx(h.fd, name, &st); err != nil {
		return err == unix.ENOENT && child == nil
	}
	k, ok := child.(*inode)
	if !ok || !k.is(&st) {
		return false
	}
	k.at(in, name)
	return k.fresh(&st)
}

// Forget closes what is open of a file that nobody uses.
func (in *inode) Forget() {
	if in == in.sb.root {
		return
	}
	in.sb.remove(in)
	if h := in.uncache(); h != nil {
		h.put()
	}
	in.closeMaps()
}
