package vfs

import (
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Event is something that happened to a file, for inotify(7). It goes to watches of Inode, except for IN_CREATE,
// IN_DELETE, IN_MOVED_FROM and IN_MOVED_TO, and, with Name, to watches of Dir, except for IN_DELETE_SELF, IN_MOVE_SELF and
// IN_UNMOUNT.
type Event struct {
	Mask   uint32 // unix.IN_*, with IN_ISDIR
	Cookie uint32
	Dir    Inode  // the directory that has (had) Name, nil if there is none
	Name   string // in Dir
	Inode  Inode  // the file itself
}

var (
	notifier   atomic.Pointer[func(*Event)]
	nextCookie atomic.Uint32
)

// SetNotifier installs (or with nil removes) the one receiver of events. It is called with directory locks held: it must
// only queue the event.
func SetNotifier(fn func(*Event)) {
	if fn == nil {
		notifier.Store(nil)
		return
	}
	notifier.Store(&fn)
}

// Notify tells that something happened to the file at p.
func Notify(mask uint32, p Path) {
	if fn := notifier.Load(); fn != nil && p.Dentry != nil {
		notifyDentry(*fn, mask, p.Dentry)
	}
}

func notifyDentry(fn func(*Event), mask uint32, d *Dentry) {
	if d.inode == nil {
		return
	}
	ev := Event{Mask: mask, Inode: d.inode}
	if d.isDir() {
		ev.Mask |= unix.IN_ISDIR
	}
	treeMu.RLock()
	if p := d.parent.Load(); p != d && !d.has(dDeleted) {
		ev.Dir, ev.Name = p.inode, d.name
	}
	treeMu.RUnlock()
	fn(&ev)
}

// notifyEntry tells of a change of the entry name of dir.
func notifyEntry(mask uint32, dir *Dentry, name string, in Inode, isDir bool, cookie uint32) {
	fn := notifier.Load()
	if fn == nil {
		return
	}
	if isDir {
		mask |= unix.IN_ISDIR
	}
	(*fn)(&Event{Mask: mask, Cookie: cookie, Dir: dir.inode, Name: name, Inode: in})
}

// notifyGone tells of the end of a name, and of the file if it was the last.
func notifyGone(dir, d *Dentry) {
	fn := notifier.Load()
	if fn == nil {
		return
	}
	if !d.isDir() {
		(*fn)(&Event{Mask: unix.IN_ATTRIB, Inode: d.inode}) // the number of links
	}
	if d.isDir() || d.inode.Attr().Nlink == 0 {
		(*fn)(&Event{Mask: unix.IN_DELETE_SELF, Inode: d.inode})
	}
	notifyEntry(unix.IN_DELETE, dir, d.name, d.inode, d.isDir(), 0)
}
