package vfs

import (
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/kmem"
)

// FSContext is a task's root, working directory, umask and mount name space; tasks made with CLONE_FS share one.
type FSContext struct {
	mu        sync.Mutex
	root, cwd Path
	umask     uint32
	ns        *Namespace
}

// NewFSContext makes a context at the root of a name space, with umask 022.
func NewFSContext(ns *Namespace) *FSContext {
	r := ns.Root()
	fs := &FSContext{root: r.Get(), cwd: r.Get(), umask: 0o022, ns: ns}
	ns.join(fs)
	return fs
}

func (n *Namespace) join(fs *FSContext) {
	n.usersMu.Lock()
	n.users[fs] = struct{}{}
	n.usersMu.Unlock()
}

// leave reports whether fs was the last user.
func (n *Namespace) leave(fs *FSContext) bool {
	n.usersMu.Lock()
	defer n.usersMu.Unlock()
	delete(n.users, fs)
	return len(n.users) == 0
}

// Copy is fork's.
func (fs *FSContext) Copy() *FSContext {
	fs.mu.Lock()
	n := &FSContext{root: fs.root.Get(), cwd: fs.cwd.Get(), umask: fs.umask, ns: fs.ns}
	n.ns.join(n)
	fs.mu.Unlock()
	return n
}

// Release is called when the last task that uses the context has gone. With the last context a name space goes too.
func (fs *FSContext) Release() {
	fs.mu.Lock()
	root, cwd, ns := fs.root, fs.cwd, fs.ns
	fs.root, fs.cwd, fs.ns = Path{}, Path{}, nil
	fs.mu.Unlock()
	if ns == nil {
		return
	}
	root.Put()
	cwd.Put()
	if ns.leave(fs) {
		ns.Release()
	}
}

// Root is the root directory, without a reference: use it at once or Get it.
func (fs *FSContext) Root() Path { fs.mu.Lock(); defer fs.mu.Unlock(); return fs.root }

// Cwd is the working directory, likewise.
func (fs *FSContext) Cwd() Path { fs.mu.Lock(); defer fs.mu.Unlock(); return fs.cwd }

func (fs *FSContext) both() (root, cwd Path) {
	fs.mu.Lock()
	root, cwd = fs.root, fs.cwd
	fs.mu.Unlock()
	return root, cwd
}

// Umask is the file creation mask.
func (fs *FSContext) Umask() uint32 { fs.mu.Lock(); defer fs.mu.Unlock(); return fs.umask }

// SetUmask sets it and returns the old one.
func (fs *FSContext) SetUmask(m uint32) uint32 {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	old := fs.umask
	fs.umask = m & 0o777
	return old
}

// Namespace is the mount name space.
func (fs *FSContext) Namespace() *Namespace { fs.mu.Lock(); defer fs.mu.Unlock(); return fs.ns }

// SetCwd and SetRoot change a directory; they take their own reference.
func (fs *FSContext) SetCwd(p Path) { fs.set(&fs.cwd, p) }

// SetRoot changes the root directory.
func (fs *FSContext) SetRoot(p Path) { fs.set(&fs.root, p) }

func (fs *FSContext) set(at *Path, p Path) {
	p.Get()
	fs.mu.Lock()
	old := *at
	*at = p
	fs.mu.Unlock()
	old.Put()
}

// UnshareNamespace gives the context, which must belong to the caller alone, a name space of its own (CLONE_NEWNS): ENOMEM if the
// kernel may not hold more for guests.
func (fs *FSContext) UnshareNamespace(c Caller) error {
	if !c.Cred().Capable(unix.CAP_SYS_ADMIN) {
		return unix.EPERM
	}
	if kmem.Full() {
		return unix.ENOMEM
	}
	fs.Namespace().Clone(fs)
	return nil
}

// Enter makes a context whose root and working directory are the root of the name space (setns(2)). It is false if nobody
// has been in the name space: its mounts are gone.
func (n *Namespace) Enter() (*FSContext, bool) {
	fs := &FSContext{umask: 0o022, ns: n}
	n.usersMu.Lock()
	alive := len(n.users) > 0
	if alive {
		n.users[fs] = struct{}{}
	}
	n.usersMu.Unlock()
	if alive {
		r := n.Root()
		fs.mu.Lock()
		fs.root, fs.cwd = r.Get(), r.Get()
		fs.mu.Unlock()
	}
	return fs, alive
}

// enter moves fs into a copy of its name space.
func (fs *FSContext) enter(nn *Namespace, copies map[*Mount]*Mount) {
	nn.join(fs)
	fs.mu.Lock()
	old := fs.ns
	oldRoot, oldCwd := fs.root, fs.cwd
	for _, p := range []*Path{&fs.root, &fs.cwd} {
		if m := copies[p.Mount]; m != nil {
			p.Mount = m
		}
		p.Get()
	}
	fs.ns = nn
	fs.mu.Unlock()
	oldRoot.Put()
	oldCwd.Put()
	if old.leave(fs) {
		old.Release()
	}
}

// replaceRoot moves every context that has old as its root or working directory to nu (pivot_root(2)).
func (n *Namespace) replaceRoot(old, nu Path) {
	n.usersMu.Lock()
	users := make([]*FSContext, 0, len(n.users))
	for fs := range n.users {
		users = append(users, fs)
	}
	n.usersMu.Unlock()
	for _, fs := range users {
		fs.mu.Lock()
		drop := 0
		for _, p := range []*Path{&fs.root, &fs.cwd} {
			if *p == old {
				*p = nu.Get()
				drop++
			}
		}
		fs.mu.Unlock()
		for range drop {
			old.Put()
		}
	}
}

// How a path looks from a root.
type reach uint8

const (
	pathReachable reach = iota
	pathUnreachable
)

// pathString is the name of p as seen from root. A root with a nil mount stands for the top of the tree. With a nil
// mount in p the name is that within the file system.
func pathString(root, p Path, noDeleted bool) (string, reach) {
	mountMu.RLock()
	defer mountMu.RUnlock()
	treeMu.RLock()
	defer treeMu.RUnlock()
	deleted := !noDeleted && p.Dentry.has(dDeleted)
	how := pathReachable
	var buf []byte // reversed
	for p != root {
		d := p.Dentry
		parent := d.parent.Load()
		if p.Mount != nil && d == p.Mount.root || parent == d {
			if p.Mount != nil && p.Mount.parent != nil {
				p = Path{p.Mount.parent, p.Mount.point}
				continue
			}
			if root.Mount != nil {
				how = pathUnreachable
			}
			break
		}
		for i := len(d.name) - 1; i >= 0; i-- {
			buf = append(buf, d.name[i])
		}
		buf = append(buf, '/')
		p.Dentry = parent
	}
	if len(buf) == 0 {
		buf = append(buf, '/')
	}
	slices.Reverse(buf)
	if deleted {
		buf = append(buf, " (deleted)"...)
	}
	return string(buf), how
}

// PathName is the name of p as c sees it (d_path), with " (deleted)" if it has been unlinked. A path that c's root does
// not lead to is shown from the top of its tree.
func PathName(c Caller, p Path) string {
	if p.Dentry == nil {
		return ""
	}
	if p.Mount == nil {
		return p.Dentry.name
	}
	s, _ := pathString(c.FS().Root(), p, false)
	return s
}

// Getcwd is getcwd(2): ENOENT if the directory has been removed, "(unreachable)" before it if the root does not lead
// there.
func Getcwd(c Caller) (string, error) {
	root, cwd := c.FS().both()
	if cwd.Dentry.has(dDeleted) {
		return "", unix.ENOENT
	}
	s, how := pathString(root, cwd, true)
	if how == pathUnreachable {
		s = "(unreachable)" + s
	}
	return s, nil
}
