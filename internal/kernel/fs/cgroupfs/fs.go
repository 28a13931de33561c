package cgroupfs

import (
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/cgroup"
	"github.com/user-mode-linux/linux/internal/kernel/cred"
	"github.com/user-mode-linux/linux/internal/kernel/fs/pseudo"
	"github.com/user-mode-linux/linux/internal/kernel/kmem"
	"github.com/user-mode-linux/linux/internal/kernel/task"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
	"github.com/user-mode-linux/linux/internal/kernel/wait"
)

// magic is CGROUP2_SUPER_MAGIC (linux/magic.h).
const magic = 0x63677270

// FS is the file system.
type FS struct {
	*pseudo.FS
	k       *task.Kernel
	options atomic.Pointer[string]

	mu   sync.Mutex
	dirs map[*cgroup.Group]*dir
}

// Register makes the file system known. It is called once, at boot.
func Register(k *task.Kernel) *FS {
	typ := &vfs.FilesystemType{Name: "cgroup2", NoDcache: true}
	fs := &FS{FS: pseudo.NewFS(typ, vfs.NewAnonDev(), magic), k: k, dirs: map[*cgroup.Group]*dir{}}
	fs.OptionText = func() string {
		if o := fs.options.Load(); o != nil {
			return *o
		}
		return ""
	}
	fs.RemountFunc = func(_ vfs.Caller, _ uint64, data string) error { return fs.parse(data) }
	typ.Mount = func(_ vfs.Caller, _ string, _ uint64, data string) (vfs.SuperBlock, error) {
		if err := fs.parse(data); err != nil {
			return nil, err
		}
		return fs, nil
	}
	fs.SetSuper(fs)
	root := &dir{Dir: pseudo.NewRoot(fs.FS, 0o555), fs: fs, g: k.Cgroups.Root()}
	fs.SetRoot(root)
	fs.dirs[root.g] = root
	root.addFiles(cred.Root())
	vfs.RegisterFilesystem(typ)
	return fs
}

// mountOptions are the options in the order in which they are shown. There are no cgroup name spaces to delegate to and no
// memory to protect, so they change nothing.
var mountOptions = []string{"nsdelegate", "favordynmods", "memory_localevents", "memory_recursiveprot"}

// parse reads the mount options: EINVAL if one is not known. They hold for all mounts.
func (fs *FS) parse(data string) error {
	given := map[string]bool{}
	for o := range strings.SplitSeq(data, ",") {
		given[o] = o != ""
	}
	text := ""
	for _, o := range mountOptions {
		if given[o] {
			text += "," + o
		}
		delete(given, o)
	}
	delete(given, "")
	if len(given) > 0 {
		return unix.EINVAL
	}
	fs.options.Store(&text)
	return nil
}

func (fs *FS) dirOf(g *cgroup.Group) *dir {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return fs.dirs[g]
}

// dir is a group's directory.
type dir struct {
	*pseudo.Dir
	fs    *FS
	g     *cgroup.Group
	procs vfs.Inode // its cgroup.procs

	mu     sync.Mutex
	xattrs vfs.XattrMap
	// events are the files that tell of changes. Immutable, but for pids.*, which are made new each time.
	events map[string]*eventFile
}

// eventFile is a file that programs wait on.
type eventFile struct {
	*pseudo.File
	q   wait.Queue
	seq atomic.Uint64
}

// own gives a new node to who makes it.
func own(in vfs.Inode, cr *cred.Cred) {
	if cr.FSUID != 0 || cr.FSGID != 0 {
		in.SetAttr(nil, &vfs.SetAttr{Valid: vfs.SetMode | vfs.SetUID | vfs.SetGID, Mode: in.Attr().Mode & 0o7777, UID: cr.FSUID, GID: cr.FSGID})
	}
}

// groupCost is about what a group takes with its directory and files, in bytes.
const groupCost = 16 << 10

// Mkdir implements vfs.Inode: it makes a group. ENOMEM if the kernel may not hold more for the guest.
func (d *dir) Mkdir(c vfs.Caller, name string, mode uint32) (vfs.Inode, error) {
	if _, err := d.Dir.Lookup(c, name); err == nil {
		return nil, unix.EEXIST
	}
	if !kmem.Take(groupCost) {
		return nil, unix.ENOMEM
	}
	n := &dir{Dir: pseudo.NewDirIn(d.Dir, mode&0o7777), fs: d.fs}
	own(n, c.Cred())
	_, err := d.g.Mkdir(name, func(g *cgroup.Group, has cgroup.Controllers) {
		// Whoever changes the parent's controllers comes before this, or after it and finds the directory.
		n.g, g.Changed = g, n.changed
		n.addFiles(c.Cred())
		n.control(has, c.Cred())
		d.fs.mu.Lock()
		d.fs.dirs[g] = n
		d.fs.mu.Unlock()
	})
	if err != nil {
		kmem.Add(-groupCost)
		return nil, err
	}
	d.Add(name, n)
	return n, nil
}

// Rmdir implements vfs.Inode.
func (d *dir) Rmdir(_ vfs.Caller, name string, child vfs.Inode) error {
	n, ok := child.(*dir)
	if !ok {
		return unix.ENOTDIR
	}
	if err := n.g.Rmdir(); err != nil {
		return err
	}
	kmem.Add(-groupCost)
	n.mu.Lock()
	n.xattrs.Clear(chargeXattr)
	n.mu.Unlock()
	d.fs.mu.Lock()
	delete(d.fs.dirs, n.g)
	d.fs.mu.Unlock()
	d.Remove(name)
	for _, f := range append(coreFiles, pidsFiles...) {
		if in, err := n.Dir.Lookup(nil, f.name); err == nil {
			vfs.NotifyEvent(&vfs.Event{Mask: unix.IN_DELETE_SELF, Inode: in})
		}
	}
	return nil
}

// Lookup implements vfs.Inode. A group that has been removed is empty.
func (d *dir) Lookup(c vfs.Caller, name string) (vfs.Inode, error) {
	if d.g.Removed() {
		return nil, unix.ENOENT
	}
	return d.Dir.Lookup(c, name)
}

// maxXattrs is how many attributes a group can have, as in Linux.
const maxXattrs = 128

// chargeXattr charges for n bytes of attributes: ENOMEM if the kernel may not hold more.
func chargeXattr(n int) error {
	if n <= 0 {
		kmem.Add(n)
	} else if !kmem.Take(n) {
		return unix.ENOMEM
	}
	return nil
}

// Getxattr implements vfs.Inode, as do the methods that follow.
func (d *dir) Getxattr(_ vfs.Caller, name string) ([]byte, error) {
	if !vfs.PlainXattr(name) {
		return nil, unix.EOPNOTSUPP
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.xattrs.Get(name)
}

// Setxattr sets an attribute: ENOSPC if there are too many, ENODEV if the group has been removed.
func (d *dir) Setxattr(_ vfs.Caller, name string, value []byte, flags int) error {
	if !vfs.PlainXattr(name) {
		return unix.EOPNOTSUPP
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.xattrs.Len() >= maxXattrs && !d.xattrs.Has(name) && flags&unix.XATTR_REPLACE == 0 {
		return unix.ENOSPC
	}
	return d.xattrs.Set(name, value, flags, chargeXattr)
}

// Listxattr lists their names.
func (d *dir) Listxattr(vfs.Caller) ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.xattrs.List(), nil
}

// Removexattr removes one.
func (d *dir) Removexattr(_ vfs.Caller, name string) error {
	if !vfs.PlainXattr(name) {
		return unix.EOPNOTSUPP
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.xattrs.Remove(name, chargeXattr)
}

// changed tells who waits that a file says something else.
func (d *dir) changed(name string) {
	d.mu.Lock()
	f := d.events[name]
	d.mu.Unlock()
	if f == nil {
		return
	}
	f.seq.Add(1)
	f.q.Notify(wait.Pri | wait.Err)
	vfs.NotifyEvent(&vfs.Event{Mask: unix.IN_MODIFY, Dir: d, Name: name, Inode: f.File})
}
