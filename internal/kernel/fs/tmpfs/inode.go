package tmpfs

import (
	"slices"
	"sort"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
	"github.com/user-mode-linux/linux/internal/kernel/ktime"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// direntSize is what an entry adds to the size of a directory, as in Linux.
const direntSize = 20

// inode is a file of any type. It is a vfs.Inode.
type inode struct {
	vfs.InodeBase
	sb     *superBlock
	typ    uint32 // S_IFMT; immutable
	target string // of a symbolic link; immutable

	quick atomic.Uint64 // what QuickPerm says: uid, ACL bit, mode; changed with mu held

	mu     sync.RWMutex
	attr   vfs.Attr     // guarded by mu, except Ino and Rdev, which are immutable
	xattrs vfs.XattrMap // guarded by mu

	// A directory. Guarded by mu; changed only with the vfs's directory lock too.
	entries map[string]*entry
	order   []*entry // by cookie, with removed ones
	removed int      // how many in order are removed
	cookie  int64    // last one given
	parent  *inode

	data data // a regular file; guarded by mu
}

// entry is a name in a directory.
type entry struct {
	name   string // immutable, as are the next two
	in     *inode
	cookie int64
	gone   bool // removed; guarded by the directory's mu
}

func now() unix.Timespec { return abi.NsecToTimespec(ktime.Realtime()) }

// newInode makes an inode without links. The caller has charged for it.
func (sb *superBlock) newInode(mode, uid, gid uint32) *inode {
	t := now()
	in := &inode{sb: sb, typ: mode & unix.S_IFMT}
	in.attr = vfs.Attr{Ino: sb.ino.Add(1), Mode: mode, UID: uid, GID: gid, Blksize: pageSize,
		Atime: t, Mtime: t, Ctime: t, Btime: t}
	in.data.seals = unix.F_SEAL_SEAL
	in.publish()
	return in
}

const (
	quickACL  = 1 << 31
	aclAccess = "system.posix_acl_access"
)

// publish tells QuickPerm of a change. The caller holds mu.
func (in *inode) publish() {
	q := uint64(in.attr.UID)<<32 | uint64(in.attr.Mode&0xffff)
	if in.xattrs.Has(aclAccess) {
		q |= quickACL
	}
	in.quick.Store(q)
}

// QuickPerm implements vfs.QuickPermer.
func (in *inode) QuickPerm() (mode, uid uint32, acl bool) {
	q := in.quick.Load()
	return uint32(q & 0xffff), uint32(q >> 32), q&quickACL != 0
}

// Super is the instance.
func (in *inode) Super() vfs.SuperBlock { return in.sb }

// Attr returns the attributes.
func (in *inode) Attr() vfs.Attr {
	in.mu.RLock()
	a := in.attr
	pages := in.data.pages
	in.mu.RUnlock()
	a.Blocks = pages * (pageSize / 512)
	return a
}

// SetAttr changes attributes.
func (in *inode) SetAttr(_ vfs.Caller, sa *vfs.SetAttr) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if sa.Valid&vfs.SetSize != 0 {
		if in.typ != unix.S_IFREG {
			return unix.EINVAL
		}
		if err := in.truncate(sa.Size); err != nil {
			return err
		}
	}
	if sa.Valid&vfs.SetMode != 0 && in.data.seals&unix.F_SEAL_EXEC != 0 && (in.attr.Mode^sa.Mode)&0o111 != 0 {
		return unix.EPERM
	}
	sa.Apply(&in.attr)
	in.publish()
	return nil
}

// UpdateAtime implements vfs.AtimeUpdater.
func (in *inode) UpdateAtime(t unix.Timespec) {
	in.mu.Lock()
	in.attr.Atime = t
	in.mu.Unlock()
}

// Lookup finds a name.
func (in *inode) Lookup(_ vfs.Caller, name string) (vfs.Inode, error) {
	in.mu.RLock()
	defer in.mu.RUnlock()
	if e := in.entries[name]; e != nil {
		return e.in, nil
	}
	return nil, unix.ENOENT
}

// add makes an entry for k and touches the directory.
func (in *inode) add(name string, k *inode) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.addLocked(name, k)
}

func (in *inode) addLocked(name string, k *inode) {
	if in.entries == nil {
		in.entries = make(map[string]*entry)
		in.cookie = 2 // "." and ".."
	}
	in.cookie++
	e := &entry{name: strings.Clone(name), in: k, cookie: in.cookie}
	in.entries[e.name] = e
	in.order = append(in.order, e)
	in.attr.Size += direntSize
	if k.typ == unix.S_IFDIR {
		in.attr.Nlink++
	}
	in.touch()
}

// del removes an entry.
func (in *inode) del(name string) {
	in.mu.Lock()
	defer in.mu.Unlock()
	e := in.entries[name]
	if e == nil {
		return
	}
	delete(in.entries, name)
	e.gone = true
	in.removed++
	if in.removed > 16 && in.removed > len(in.order)/2 {
		in.order = slices.DeleteFunc(in.order, func(e *entry) bool { return e.gone })
		in.removed = 0
	}
	in.attr.Size -= direntSize
	if e.in.typ == unix.S_IFDIR {
		in.attr.Nlink--
	}
	in.touch()
}

// find is the index in order of the first entry with a cookie above off.
func (in *inode) find(off int64) int {
	return sort.Search(len(in.order), func(i int) bool { return in.order[i].cookie > off })
}

func (in *inode) touch() {
	in.attr.Mtime = now()
	in.attr.Ctime = in.attr.Mtime
}

// create makes a new inode as an entry of the directory.
func (in *inode) create(c vfs.Caller, name string, mode uint32, init func(k *inode)) (*inode, error) {
	k, err := in.alloc(c, mode)
	if err != nil {
		return nil, err
	}
	k.attr.Nlink = 1
	if init != nil {
		init(k)
	}
	in.add(name, k)
	return k, nil
}

// alloc makes an inode that belongs to the caller and has no link yet.
func (in *inode) alloc(c vfs.Caller, mode uint32) (*inode, error) {
	if err := in.sb.chargeInode(); err != nil {
		return nil, err
	}
	cr := c.Cred()
	gid := cr.FSGID
	if a := in.Attr(); a.Mode&unix.S_ISGID != 0 {
		gid = a.GID
		if mode&unix.S_IFMT == unix.S_IFDIR {
			mode |= unix.S_ISGID
		}
	}
	return in.sb.newInode(mode, cr.FSUID, gid), nil
}

// Create makes a regular file, fifo, socket or device.
func (in *inode) Create(c vfs.Caller, name string, mode uint32, rdev uint64) (vfs.Inode, error) {
	return in.result(in.create(c, name, mode, func(k *inode) { k.attr.Rdev = rdev }))
}

// Mkdir makes a directory.
func (in *inode) Mkdir(c vfs.Caller, name string, mode uint32) (vfs.Inode, error) {
	return in.result(in.create(c, name, mode&0o7777|unix.S_IFDIR, func(k *inode) {
		k.attr.Nlink = 2
		k.attr.Size = 2 * direntSize
		k.parent = in
	}))
}

// Symlink makes a symbolic link.
func (in *inode) Symlink(c vfs.Caller, name, target string) (vfs.Inode, error) {
	if err := chargeExtra(len(target)); err != nil {
		return nil, err
	}
	k, err := in.create(c, name, unix.S_IFLNK|0o777, func(k *inode) {
		k.target = strings.Clone(target)
		k.attr.Size = int64(len(target))
	})
	if err != nil {
		_ = chargeExtra(-len(target)) // giving back does not fail
	}
	return in.result(k, err)
}

// result keeps a nil *inode from becoming an interface that is not nil.
func (in *inode) result(k *inode, err error) (vfs.Inode, error) {
	if err != nil {
		return nil, err
	}
	return k, nil
}

// Tmpfile implements vfs.TmpfileMaker.
func (in *inode) Tmpfile(c vfs.Caller, mode uint32) (vfs.Inode, error) {
	return in.result(in.alloc(c, mode))
}

// Link makes another name for a file. It needs memory like a new inode.
func (in *inode) Link(_ vfs.Caller, old vfs.Inode, name string) error {
	k := old.(*inode)
	if err := in.sb.chargeInode(); err != nil {
		return err
	}
	k.mu.Lock()
	if k.attr.Nlink == 0 {
		in.sb.freeInodes(1) // made by O_TMPFILE: has been charged
	}
	k.attr.Nlink++
	k.attr.Ctime = now()
	k.mu.Unlock()
	in.add(name, k)
	return nil
}

// unlink takes links from an inode that has lost a name.
func (in *inode) unlink(n uint32) {
	in.mu.Lock()
	in.attr.Nlink -= n
	in.attr.Ctime = now()
	more := in.attr.Nlink > 0
	in.mu.Unlock()
	if more {
		in.sb.freeInodes(1)
	}
}

// Unlink removes a name of a file.
func (in *inode) Unlink(_ vfs.Caller, name string, child vfs.Inode) error {
	in.del(name)
	child.(*inode).unlink(1)
	return nil
}

func (in *inode) empty() bool {
	in.mu.RLock()
	defer in.mu.RUnlock()
	return len(in.entries) == 0
}

// Rmdir removes an empty directory.
func (in *inode) Rmdir(_ vfs.Caller, name string, child vfs.Inode) error {
	k := child.(*inode)
	if !k.empty() {
		return unix.ENOTEMPTY
	}
	in.del(name)
	k.unlink(2)
	return nil
}

// Rename moves or exchanges entries.
func (in *inode) Rename(c vfs.Caller, oldName string, child vfs.Inode, newDir vfs.Inode, newName string,
	target vfs.Inode, flags uint32) error {
	k, nd := child.(*inode), newDir.(*inode)
	t, _ := target.(*inode)
	isDir := k.typ == unix.S_IFDIR
	if flags&unix.RENAME_EXCHANGE != 0 {
		in.del(oldName)
		nd.del(newName)
		in.add(oldName, t)
		nd.add(newName, k)
		k.moved(nd)
		t.moved(in)
		return nil
	}
	if t != nil && isDir && !t.empty() {
		return unix.ENOTEMPTY
	}
	var white *inode
	if flags&unix.RENAME_WHITEOUT != 0 {
		var err error
		if white, err = in.alloc(c, unix.S_IFCHR); err != nil {
			return err
		}
		white.attr.Nlink = 1
	}
	in.del(oldName)
	if t != nil {
		nd.del(newName)
		if isDir {
			t.unlink(2)
		} else {
			t.unlink(1)
		}
	}
	nd.add(newName, k)
	k.moved(nd)
	if white != nil {
		in.add(oldName, white)
	}
	return nil
}

// moved tells an inode that its name is in another directory now.
func (in *inode) moved(dir *inode) {
	in.mu.Lock()
	if in.parent != nil {
		in.parent = dir
	}
	in.attr.Ctime = now()
	in.mu.Unlock()
}

// Readlink returns a link's target.
func (in *inode) Readlink(vfs.Caller) (string, error) {
	if in.typ != unix.S_IFLNK {
		return "", unix.EINVAL
	}
	return in.target, nil
}

// Open makes an open file.
func (in *inode) Open(c vfs.Caller, f *vfs.File) (vfs.FileOps, error) {
	switch in.typ {
	case unix.S_IFREG:
		return in.openData(), nil
	case unix.S_IFDIR:
		return &dir{in: in}, nil
	}
	return vfs.OpenSpecial(c, f, in.typ, in.attr.Rdev)
}

// Forget frees an inode without links.
func (in *inode) Forget() {
	in.mu.Lock()
	gone := in.attr.Nlink == 0
	if gone {
		in.freeData()
		in.freeExtra()
	}
	in.mu.Unlock()
	if gone {
		in.sb.freeInodes(1)
	}
}

// freeExtra forgets the attributes of an inode that goes, and what it was charged for besides its pages. The caller holds mu.
func (in *inode) freeExtra() {
	_ = chargeExtra(-len(in.target)) // giving back does not fail
	in.xattrs.Clear(chargeExtra)
}

// Getxattr returns an attribute.
func (in *inode) Getxattr(_ vfs.Caller, name string) ([]byte, error) {
	if !xattrName(name) {
		return nil, unix.EOPNOTSUPP
	}
	in.mu.RLock()
	defer in.mu.RUnlock()
	return in.xattrs.Get(name)
}

func xattrName(name string) bool {
	return vfs.PlainXattr(name) || name == aclAccess || name == "system.posix_acl_default"
}

// Setxattr sets one.
func (in *inode) Setxattr(_ vfs.Caller, name string, value []byte, flags int) error {
	if !xattrName(name) {
		return unix.EOPNOTSUPP
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	if err := in.xattrs.Set(name, value, flags, chargeExtra); err != nil {
		return err
	}
	in.publish()
	in.attr.Ctime = now()
	return nil
}

// Listxattr lists their names.
func (in *inode) Listxattr(vfs.Caller) ([]string, error) {
	in.mu.RLock()
	defer in.mu.RUnlock()
	return in.xattrs.List(), nil
}

// Removexattr removes one.
func (in *inode) Removexattr(_ vfs.Caller, name string) error {
	if !xattrName(name) {
		return unix.EOPNOTSUPP
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	if err := in.xattrs.Remove(name, chargeExtra); err != nil {
		return err
	}
	in.publish()
	in.attr.Ctime = now()
	return nil
}

// dir is an open directory.
type dir struct {
	vfs.FileBase
	in *inode
}

// ReadDir lists entries in the order of their creation.
func (d *dir) ReadDir(_ vfs.Caller, _ *vfs.File, off int64, emit func(vfs.DirEnt) bool) error {
	in := d.in
	in.mu.RLock()
	up := in.parent.attr.Ino
	in.mu.RUnlock()
	if off == 0 {
		if !emit(vfs.DirEnt{Name: ".", Ino: in.attr.Ino, Type: unix.DT_DIR, Off: 1}) {
			return nil
		}
		off = 1
	}
	if off == 1 {
		if !emit(vfs.DirEnt{Name: "..", Ino: up, Type: unix.DT_DIR, Off: 2}) {
			return nil
		}
		off = 2
	}
	list := make([]*entry, 0, 64)
	for {
		// emit may touch guest memory: collect some entries, then give them without the lock.
		list = list[:0]
		in.mu.RLock()
		for i := in.find(off); i < len(in.order) && len(list) < cap(list); i++ {
			if e := in.order[i]; !e.gone {
				list = append(list, e)
			}
		}
		in.mu.RUnlock()
		if len(list) == 0 {
			return nil
		}
		for _, e := range list {
			if !emit(vfs.DirEnt{Name: e.name, Ino: e.in.attr.Ino, Type: uint8(e.in.typ >> 12), Off: e.cookie}) {
				return nil
			}
			off = e.cookie
		}
	}
}

// Fsync has nothing to write.
func (d *dir) Fsync(vfs.Caller, *vfs.File, bool) error { return nil }
