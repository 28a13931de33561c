package vfs

import (
	"errors"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/cred"
)

const (
	maxSymlinks = 40
	nameMax     = 255
	pathMax     = 4096
)

// walker walks one path. It lives on the stack of the operation. The paths in it have no references: the garbage
// collector keeps what they point to, and the end of the walk takes its reference with tryGet.
type walker struct {
	c    Caller
	cred *cred.Cred
	root Path
	cur  Path
	// owned is a reference to a dentry that is only kept alive by it (a fresh lookup); it is dropped at the next step.
	owned *Dentry

	follow  bool   // follow a symbolic link at the end
	parent  bool   // stop before the last component
	resolve uint64 // RESOLVE_*
	seq     uint64 // renameSeq at the start, for RESOLVE_BENEATH and RESOLVE_IN_ROOT

	fresh    bool   // the attributes of cur have been seen to be up to date
	links    int    // followed so far
	last     string // the last component, with parent
	trailing bool   // there are slashes after the last component
}

// start sets the walker to where path begins.
func (w *walker) start(dir *File, path string) error {
	if len(path) >= pathMax {
		return unix.ENAMETOOLONG
	}
	w.cred = w.c.Cred()
	var cwd Path
	w.root, cwd = w.c.FS().both()
	w.seq = renameSeq.Load()
	scoped := w.resolve&(unix.RESOLVE_BENEATH|unix.RESOLVE_IN_ROOT) != 0
	if path != "" && path[0] == '/' && !scoped {
		w.cur = w.root
		return nil
	}
	if path != "" && path[0] == '/' && w.resolve&unix.RESOLVE_BENEATH != 0 {
		return unix.EXDEV
	}
	w.cur = cwd
	if dir != nil {
		w.cur = dir.Path
		if path != "" && !w.cur.Dentry.isDir() {
			return unix.ENOTDIR
		}
	}
	if scoped {
		w.root = w.cur
	}
	return nil
}

// done drops what the walk still holds.
func (w *walker) done() {
	if w.owned != nil {
		w.owned.put()
		w.owned = nil
	}
}

// own makes d, to which the walker has a reference, the one that is kept alive.
func (w *walker) own(d *Dentry) {
	if w.owned != nil {
		w.owned.put()
	}
	w.owned = d
}

// walk goes along path from w.cur. At the end w.cur is the place, or with w.parent its directory and w.last the name,
// which is "" if path is only slashes, and may be "." or "..".
func (w *walker) walk(path string) error {
	w.last, w.trailing, w.fresh = "", false, false
	for {
		for path != "" && path[0] == '/' {
			path = path[1:]
		}
		if path == "" {
			return nil
		}
		n := 0
		for n < len(path) && path[n] != '/' {
			n++
		}
		name, rest := path[:n], path[n:]
		i := 0
		for i < len(rest) && rest[i] == '/' {
			i++
		}
		last := i == len(rest)
		if w.cur.Dentry.typ != unix.S_IFDIR {
			return unix.ENOTDIR
		}
		if err := w.maySearch(); err != nil {
			return err
		}
		if n > nameMax {
			return unix.ENAMETOOLONG
		}
		if last && w.parent {
			w.last, w.trailing = name, i > 0
			return nil
		}
		if name[0] == '.' && (n == 1 || n == 2 && name[1] == '.') {
			if n == 2 {
				if err := w.dotdot(); err != nil {
					return err
				}
			}
			path = rest
			continue
		}
		d, err := w.step(name)
		if err != nil {
			return err
		}
		if d.typ == unix.S_IFLNK && (!last || w.follow || i > 0) {
			target, jumped, err := w.link(d, last)
			if err != nil {
				return err
			}
			if !jumped {
				if last && i == 0 {
					path = target
				} else {
					path = target + rest
				}
				continue
			}
		} else if err := w.enter(d); err != nil {
			return err
		}
		if last && i > 0 && w.cur.Dentry.typ != unix.S_IFDIR {
			return unix.ENOTDIR
		}
		path = rest
	}
}

// step finds name in the current directory. A dentry that came from the file system is owned by the walker.
func (w *walker) step(name string) (*Dentry, error) {
	d := w.cur.Dentry.child(name)
	if d == nil || d.refs.Load() < 0 || !w.cur.Dentry.stands(d, name) {
		var err error
		if d, err = w.cur.Dentry.lookup(w.c, name); err != nil {
			return nil, err
		}
		w.own(d)
	} else if s := d.state.Load(); s&(dLRU|dRecent) == dLRU {
		d.state.Or(dRecent)
	}
	if d.inode == nil {
		return nil, unix.ENOENT
	}
	return d, nil
}

// enter goes to a child of the current directory and on to what is mounted there.
func (w *walker) enter(d *Dentry) error {
	p := Path{w.cur.Mount, d}
	w.fresh = true
	if d.mounts.Load() > 0 {
		w.fresh = false
		p = p.over()
		if p.Mount != w.cur.Mount && w.resolve&unix.RESOLVE_NO_XDEV != 0 {
			return unix.EXDEV
		}
	}
	w.cur = p
	return nil
}

// dotdot goes to the parent.
func (w *walker) dotdot() error {
	w.fresh = false
	for {
		if w.cur == w.root {
			if w.resolve&unix.RESOLVE_BENEATH != 0 {
				return unix.EXDEV
			}
			return nil
		}
		if w.cur.Mount == nil || w.cur.Dentry != w.cur.Mount.root {
			w.cur.Dentry = w.cur.Dentry.parent.Load()
			break
		}
		up, ok := w.cur.under()
		if !ok {
			return nil
		}
		if w.resolve&unix.RESOLVE_NO_XDEV != 0 {
			return unix.EXDEV
		}
		w.cur = up
	}
	if w.resolve&(unix.RESOLVE_BENEATH|unix.RESOLVE_IN_ROOT) != 0 && w.seq != renameSeq.Load() {
		return unix.EAGAIN // a rename may have moved the directory out of the root
	}
	if w.cur.Dentry.mounts.Load() > 0 {
		w.cur = w.cur.over()
	}
	return nil
}

// link follows the symbolic link d of the current directory: it returns the target to walk from the (adjusted) current
// place, or jumps straight to where a magic link leads. last: nothing comes after it in the path.
func (w *walker) link(d *Dentry, last bool) (target string, jumped bool, err error) {
	w.links++
	if w.links > maxSymlinks {
		return "", false, unix.ELOOP
	}
	if w.resolve&unix.RESOLVE_NO_SYMLINKS != 0 || w.cur.Mount != nil && w.cur.Mount.Flags()&unix.MS_NOSYMFOLLOW != 0 {
		return "", false, unix.ELOOP
	}
	if last {
		if err := w.protectedLink(d); err != nil {
			return "", false, err
		}
	}
	if d.magic {
		if w.resolve&unix.RESOLVE_NO_MAGICLINKS != 0 {
			return "", false, unix.ELOOP
		}
		if w.resolve&(unix.RESOLVE_BENEATH|unix.RESOLVE_IN_ROOT) != 0 {
			return "", false, unix.EXDEV
		}
		p, err := d.inode.(LinkFollower).Follow(w.c)
		if err != nil {
			return "", false, err
		}
		if p.Dentry != nil {
			if w.resolve&unix.RESOLVE_NO_XDEV != 0 && p.Mount != w.cur.Mount {
				return "", false, unix.EXDEV
			}
			if !p.Dentry.tryGet() {
				return "", false, unix.ENOENT
			}
			w.own(p.Dentry)
			w.cur, w.fresh = p, false
			return "", true, nil
		}
	}
	touchAtime(w.cur.Mount, d.inode, d.typ)
	target, err = d.inode.Readlink(w.c)
	if err != nil {
		return "", false, err
	}
	if target == "" {
		return "", false, unix.ENOENT
	}
	if len(target) >= pathMax {
		return "", false, unix.ENAMETOOLONG
	}
	if target[0] == '/' {
		if w.resolve&unix.RESOLVE_BENEATH != 0 {
			return "", false, unix.EXDEV
		}
		if w.resolve&unix.RESOLVE_NO_XDEV != 0 && w.root.Mount != w.cur.Mount {
			return "", false, unix.EXDEV
		}
		w.cur, w.fresh = w.root, false
	}
	return target, false, nil
}

// ProtectedSymlinks and ProtectedHardlinks are /proc/sys/fs/protected_symlinks and protected_hardlinks.
var ProtectedSymlinks, ProtectedHardlinks atomic.Bool

func init() {
	ProtectedSymlinks.Store(true)
	ProtectedHardlinks.Store(true)
}

// protectedLink is what ProtectedSymlinks demands of the last component of a path: in a sticky directory that everybody may
// write only links of their follower or of the directory's owner are followed.
func (w *walker) protectedLink(d *Dentry) error {
	if !ProtectedSymlinks.Load() {
		return nil
	}
	da := w.cur.Dentry.inode.Attr()
	if da.Mode&(unix.S_ISVTX|0o002) != unix.S_ISVTX|0o002 {
		return nil
	}
	la := d.inode.Attr()
	if la.UID == w.cred.FSUID || la.UID == da.UID {
		return nil
	}
	return unix.EACCES
}

// errDied tells that the result of a walk died before it could be held: it has to be made again. It never leaves the vfs.
var errDied = errors.New("died")

// resolveTo walks to the end of a path and returns the place with references. A file system that finds a name changed
// behind its back has a second chance.
func (w *walker) resolveTo(dir *File, path string) (Path, error) {
	for stale := false; ; {
		p, err := w.attempt(dir, path)
		if err != errDied && (err != unix.ESTALE || stale) {
			return p, err
		}
		stale = stale || err == unix.ESTALE
		w.links = 0
	}
}

// attempt is one walk, which may end with errDied.
func (w *walker) attempt(dir *File, path string) (Path, error) {
	defer w.done()
	if err := w.start(dir, path); err != nil {
		return Path{}, err
	}
	if err := w.walk(path); err != nil {
		return Path{}, err
	}
	if !w.cur.tryGet() {
		if w.cur.Dentry.has(dUnhashed) && w.cur == w.startPlace(dir) {
			return Path{}, unix.ENOENT
		}
		return Path{}, errDied
	}
	if !w.fresh && !w.parent {
		w.cur.Dentry.refresh()
	}
	return w.cur, nil
}

// startPlace is where a relative walk begins.
func (w *walker) startPlace(dir *File) Path {
	if dir != nil {
		return dir.Path
	}
	return w.c.FS().Cwd()
}

// Lookup resolves a path. dir nil is AT_FDCWD. Flags are AT_SYMLINK_NOFOLLOW and AT_EMPTY_PATH. The caller must Put the
// result.
func Lookup(c Caller, dir *File, path string, flags int) (Path, error) {
	if path == "" {
		return emptyPath(c, dir, flags)
	}
	w := walker{c: c, follow: flags&unix.AT_SYMLINK_NOFOLLOW == 0}
	return w.resolveTo(dir, path)
}

// emptyPath is what AT_EMPTY_PATH says.
func emptyPath(c Caller, dir *File, flags int) (Path, error) {
	if flags&unix.AT_EMPTY_PATH == 0 {
		return Path{}, unix.ENOENT
	}
	if dir != nil {
		if dir.Path.Dentry != nil {
			dir.Path.Dentry.refresh()
		}
		return dir.Path.Get(), nil
	}
	p := c.FS().Cwd()
	if !p.tryGet() {
		return Path{}, unix.ENOENT
	}
	p.Dentry.refresh()
	return p, nil
}

// lookupParent resolves all but the last component. On success the walker holds the directory in w.cur with references
// (release with w.cur.Put).
func (w *walker) lookupParent(dir *File, path string) error {
	if path == "" {
		return unix.ENOENT
	}
	w.parent = true
	_, err := w.resolveTo(dir, path)
	return err
}

// special reports whether the last component is none that a name can be made of or removed by: "", "." or "..".
func (w *walker) special() bool { return w.last == "" || w.last == "." || w.last == ".." }

// writable reports EROFS for a place that cannot be written.
func (p Path) writable() error {
	if p.Mount != nil && p.Mount.Readonly() {
		return unix.EROFS
	}
	return nil
}
