package pseudo

import (
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// Dynamic is the computed part of a directory.
type Dynamic interface {
	// Lookup finds a name; ENOENT.
	Lookup(c vfs.Caller, name string) (vfs.Inode, error)
	// ReadDir lists from cookie off (0 is the start; cookies are the Dynamic's own, positive and growing).
	ReadDir(c vfs.Caller, off int64, emit func(vfs.DirEnt) bool) error
}

// dynamicBase is the first cookie of the computed entries; the fixed ones are below.
const dynamicBase = 1 << 32

// Dir is a directory. Entries may be added and removed while it is in use.
type Dir struct {
	Base
	parent *Dir // nil for a root

	mu      sync.RWMutex
	entries map[string]entry
	order   []entry // by cookie
	next    int64
	subdirs uint32
	dyn     Dynamic
}

// entry is one fixed name; cookie is its place in the listing.
type entry struct {
	name   string
	in     vfs.Inode
	ino    uint64
	typ    uint8
	cookie int64
}

// NewRoot makes the root directory of fs and sets it.
func NewRoot(fs *FS, perm uint32) *Dir {
	d := newDir(fs, perm)
	d.ino = 1
	fs.SetRoot(d)
	return d
}

// NewDir makes a directory that is in no other yet.
func NewDir(fs *FS, perm uint32) *Dir { return newDir(fs, perm) }

// NewDirIn makes a directory that is to be added to parent, by itself or as a part of another type.
func NewDirIn(parent *Dir, perm uint32) *Dir {
	d := newDir(parent.fs, perm)
	d.parent = parent
	return d
}

func newDir(fs *FS, perm uint32) *Dir {
	d := &Dir{entries: map[string]entry{}, next: 2}
	d.init(fs, unix.S_IFDIR|perm, 2)
	return d
}

// FS is the file system that the directory is in.
func (d *Dir) FS() *FS { return d.fs }

// SetDynamic gives the directory computed entries, which come after the fixed ones. It is called before the directory is in use.
func (d *Dir) SetDynamic(dyn Dynamic) { d.dyn = dyn }

// Subdir returns the subdirectory of that name, which it makes if there is none.
func (d *Dir) Subdir(name string, perm uint32) *Dir {
	d.mu.Lock()
	defer d.mu.Unlock()
	if e, ok := d.entries[name]; ok {
		if s, ok := e.in.(*Dir); ok {
			return s
		}
	}
	s := newDir(d.fs, perm)
	s.parent = d
	d.addLocked(name, s)
	return s
}

// Add adds a node under a name; an older one of that name is replaced.
func (d *Dir) Add(name string, in vfs.Inode) {
	d.mu.Lock()
	d.addLocked(name, in)
	d.mu.Unlock()
}

func (d *Dir) addLocked(name string, in vfs.Inode) {
	d.removeLocked(name)
	a := in.Attr()
	d.next++
	e := entry{name, in, a.Ino, DirentType(a.Mode), d.next}
	d.entries[name] = e
	d.order = append(d.order, e)
	if e.typ == unix.DT_DIR {
		d.subdirs++
	}
}

// Remove takes a name away; open files of it live on.
func (d *Dir) Remove(name string) {
	d.mu.Lock()
	d.removeLocked(name)
	d.mu.Unlock()
}

func (d *Dir) removeLocked(name string) {
	e, ok := d.entries[name]
	if !ok {
		return
	}
	delete(d.entries, name)
	i, _ := slices.BinarySearchFunc(d.order, e.cookie, func(x entry, c int64) int { return int(x.cookie - c) })
	d.order = slices.Delete(d.order, i, i+1)
	if e.typ == unix.DT_DIR {
		d.subdirs--
	}
}

// AddFile adds a computed file.
func (d *Dir) AddFile(name string, perm uint32, show ShowFunc, store StoreFunc) {
	d.Add(name, NewFile(d.fs, perm, show, store))
}

// AddText adds a constant file with mode 0444.
func (d *Dir) AddText(name, text string) { d.AddFile(name, 0o444, String(text), nil) }

// AddLink adds a symbolic link.
func (d *Dir) AddLink(name, target string) { d.Add(name, NewLink(d.fs, target)) }

// Attr implements vfs.Inode.
func (d *Dir) Attr() vfs.Attr {
	a := d.Base.Attr()
	d.mu.RLock()
	a.Nlink += d.subdirs
	d.mu.RUnlock()
	return a
}

// Lookup implements vfs.Inode.
func (d *Dir) Lookup(c vfs.Caller, name string) (vfs.Inode, error) {
	d.mu.RLock()
	e, ok := d.entries[name]
	d.mu.RUnlock()
	switch {
	case ok:
		return e.in, nil
	case d.dyn != nil:
		return d.dyn.Lookup(c, name)
	}
	return nil, unix.ENOENT
}

// Open implements vfs.Inode.
func (d *Dir) Open(vfs.Caller, *vfs.File) (vfs.FileOps, error) {
	parent := d
	if d.parent != nil {
		parent = d.parent
	}
	return &List{Self: d.ino, Parent: parent.ino, ReadFrom: d.readFrom}, nil
}

// readFrom lists everything but "." and "..".
func (d *Dir) readFrom(c vfs.Caller, off int64, emit func(vfs.DirEnt) bool) error {
	if off < dynamicBase {
		d.mu.RLock()
		i, _ := slices.BinarySearchFunc(d.order, off, func(e entry, o int64) int {
			if e.cookie <= o {
				return -1
			}
			return 1
		})
		order := slices.Clone(d.order[i:])
		d.mu.RUnlock()
		for _, e := range order {
			if !emit(vfs.DirEnt{Name: e.name, Ino: e.ino, Type: e.typ, Off: e.cookie}) {
				return nil
			}
		}
		off = dynamicBase
	}
	if d.dyn == nil {
		return nil
	}
	return d.dyn.ReadDir(c, off-dynamicBase, func(de vfs.DirEnt) bool {
		de.Off += dynamicBase
		return emit(de)
	})
}

// List is an open directory made of a list function.
type List struct {
	vfs.FileBase
	// Self and Parent are the inode numbers of "." and "..".
	Self, Parent uint64
	// ReadFrom lists the entries whose cookies are greater than off; all cookies are greater than 2.
	ReadFrom func(c vfs.Caller, off int64, emit func(vfs.DirEnt) bool) error
}

// ReadDir implements vfs.DirReader.
func (l *List) ReadDir(c vfs.Caller, _ *vfs.File, off int64, emit func(vfs.DirEnt) bool) error {
	if off < 1 && !emit(vfs.DirEnt{Name: ".", Ino: l.Self, Type: unix.DT_DIR, Off: 1}) {
		return nil
	}
	if off < 2 && !emit(vfs.DirEnt{Name: "..", Ino: l.Parent, Type: unix.DT_DIR, Off: 2}) {
		return nil
	}
	return l.ReadFrom(c, max(off, 2), emit)
}
