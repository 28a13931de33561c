package vfs

import (
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// Events of F_NOTIFY (linux/fcntl.h).
const (
	dnAccess = 1 << iota
	dnModify
	dnCreate
	dnDelete
	dnRename
	dnAttrib

	// DNMultishot: the signals do not end with the first.
	DNMultishot = 0x80000000
)

// dnMark is what F_NOTIFY asked for with one open directory.
type dnMark struct {
	dir   Inode
	f     *File
	table *FDTable
	fd    int32
	mask  uint32 // DN_*
}

// dnMarks has all marks, by directory.
var dnMarks struct {
	mu       sync.Mutex
	m        map[Inode][]*dnMark
	receiver Receiver
}

func init() { dnMarks.receiver.Func = dnReceive }

// DirNotify is fcntl(2) F_NOTIFY on descriptor fd of t; mask 0 ends it.
func DirNotify(t *FDTable, fd int32, f *File, mask uint32) error {
	if mask&^uint32(DNMultishot) == 0 {
		dropDirNotify(t, f)
		return nil
	}
	if f.typ != unix.S_IFDIR {
		return unix.ENOTDIR
	}
	dnMarks.mu.Lock()
	defer dnMarks.mu.Unlock()
	if dnMarks.m == nil {
		dnMarks.m = map[Inode][]*dnMark{}
	}
	for _, k := range dnMarks.m[f.Inode] {
		if k.f == f && k.table == t {
			k.fd, k.mask = fd, k.mask|mask
			return nil
		}
	}
	if len(dnMarks.m) == 0 {
		AddReceiver(&dnMarks.receiver)
	}
	dnMarks.m[f.Inode] = append(dnMarks.m[f.Inode], &dnMark{f.Inode, f, t, fd, mask})
	f.hasNotify.Store(true)
	return nil
}

// dropDirNotify ends F_NOTIFY of a descriptor table: one of its descriptors of f was closed.
func dropDirNotify(t *FDTable, f *File) {
	if !f.hasNotify.Load() {
		return
	}
	dnMarks.mu.Lock()
	defer dnMarks.mu.Unlock()
	dnKeepLocked(f.Inode, func(k *dnMark) bool { return k.f != f || k.table != t })
}

// dnKeepLocked drops the marks of a directory that keep does not want.
func dnKeepLocked(dir Inode, keep func(*dnMark) bool) {
	list := dnMarks.m[dir]
	if len(list) == 0 {
		return
	}
	list = slices.DeleteFunc(list, func(k *dnMark) bool { return !keep(k) })
	dnMarks.m[dir] = list
	if len(list) == 0 {
		delete(dnMarks.m, dir)
		if len(dnMarks.m) == 0 {
			RemoveReceiver(&dnMarks.receiver)
		}
	}
}

// dnEvents are the events of inotify that each DN_ flag stands for. DN_RENAME is about a file that leaves its name.
var dnEvents = map[uint32]uint32{
	dnAccess: unix.IN_ACCESS, dnModify: unix.IN_MODIFY, dnAttrib: unix.IN_ATTRIB, dnCreate: unix.IN_CREATE | unix.IN_MOVED_TO,
	dnDelete: unix.IN_DELETE | unix.IN_MOVED_FROM, dnRename: unix.IN_MOVED_FROM,
}

// dnReceive sends the signals of an event.
func dnReceive(ev *Event) {
	if ev.Dir == nil {
		return
	}
	dnMarks.mu.Lock()
	defer dnMarks.mu.Unlock()
	if len(dnMarks.m[ev.Dir]) == 0 {
		return
	}
	dnKeepLocked(ev.Dir, func(k *dnMark) bool {
		for dn, in := range dnEvents {
			if k.mask&dn != 0 && ev.Mask&in != 0 {
				postIO(k.f.Owner(), k.fd, pollMsg)
				return k.mask&DNMultishot != 0
			}
		}
		return true
	})
}
