package vfs

import (
	"slices"
	"sync"
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
	// Unlinked: Name has gone, and the file is still open.
	Unlinked bool
	// Super is the file system that was unmounted (IN_UNMOUNT only, for all its files).
	Super SuperBlock
}

// Receiver gets all events while it is registered. It is called with directory locks held: it must only queue the event.
type Receiver struct{ Func func(*Event) }

var (
	notifier   atomic.Pointer[func(*Event)] // calls all receivers, nil if there are none
	nextCookie atomic.Uint32

	receivers struct {
		mu   sync.Mutex
		list []*Receiver
	}
)

// AddReceiver registers a receiver, RemoveReceiver ends that.
func AddReceiver(r *Receiver) {
	receivers.mu.Lock()
	defer receivers.mu.Unlock()
	setReceivers(append(slices.Clone(receivers.list), r))
}

// RemoveReceiver ends AddReceiver.
func RemoveReceiver(r *Receiver) {
	receivers.mu.Lock()
	defer receivers.mu.Unlock()
	setReceivers(slices.DeleteFunc(slices.Clone(receivers.list), func(x *Receiver) bool { return x == r }))
}

// setReceivers is called with receivers.mu held; list is not changed any more.
func setReceivers(list []*Receiver) {
	receivers.list = list
	if len(list) == 0 {
		notifier.Store(nil)
		return
	}
	fn := func(ev *Event) {
		for _, r := range list {
			r.Func(ev)
		}
	}
	notifier.Store(&fn)
}

// Notify tells that something happened to the file at p.
func Notify(mask uint32, p Path) {
	if fn := notifier.Load(); fn != nil && p.Dentry != nil {
		notifyDentry(*fn, mask, p.Dentry)
	}
}

// NotifyEvent tells what a file system knows by itself: a file of it has changed without anybody writing to it.
func NotifyEvent(ev *Event) {
	if fn := notifier.Load(); fn != nil {
		(*fn)(ev)
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
	if p := d.parent.Load(); p != d {
		ev.Dir, ev.Name, ev.Unlinked = p.inode, d.name, d.has(dDeleted)
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

// notifyGone tells of the end of a name, and of the file if it was the last and nobody but the caller uses it.
func notifyGone(dir, d *Dentry) {
	fn := notifier.Load()
	if fn == nil {
		return
	}
	if !d.isDir() {
		(*fn)(&Event{Mask: unix.IN_ATTRIB, Inode: d.inode}) // the number of links
	}
	if d.refs.Load() == 1 {
		d.notifyEnd()
	}
	notifyEntry(unix.IN_DELETE, dir, d.name, d.inode, d.isDir(), 0)
}

// notifyEnd tells of the end of a file whose last name has gone, once.
func (d *Dentry) notifyEnd() {
	fn := notifier.Load()
	if fn == nil || d.inode == nil || d.has(dEndTold) {
		return
	}
	if d.inode.Attr().Nlink == 0 || d.isDir() && d.has(dDeleted) {
		d.state.Or(dEndTold)
		(*fn)(&Event{Mask: unix.IN_DELETE_SELF, Inode: d.inode})
	}
}
