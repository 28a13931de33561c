package inotify

import (
	"encoding/binary"
	"fmt"
	"sort"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/kmem"
	"github.com/user-mode-linux/linux/internal/kernel/ktime"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
	"github.com/user-mode-linux/linux/internal/kernel/wait"
)

// Limits, as in /proc/sys/fs/inotify; instances and watches are counted per user.
const (
	MaxQueuedEvents  = 16384
	MaxUserInstances = 128
	MaxUserWatches   = 65536
)

const (
	// dirOnly are events of an entry of a directory, which its own inode does not get; selfOnly those that a directory does
	// not get of its entries.
	dirOnly  = unix.IN_CREATE | unix.IN_DELETE | unix.IN_MOVED_FROM | unix.IN_MOVED_TO
	selfOnly = unix.IN_DELETE_SELF | unix.IN_MOVE_SELF | unix.IN_UNMOUNT
	// always are events that every watch gets.
	always = unix.IN_UNMOUNT | unix.IN_IGNORED | unix.IN_Q_OVERFLOW
	// allBits is what inotify_add_watch takes.
	allBits = unix.IN_ALL_EVENTS | unix.IN_UNMOUNT | unix.IN_Q_OVERFLOW | unix.IN_IGNORED | unix.IN_ONLYDIR |
		unix.IN_DONT_FOLLOW | unix.IN_EXCL_UNLINK | unix.IN_MASK_ADD | unix.IN_MASK_CREATE | unix.IN_ISDIR | unix.IN_ONESHOT
	// kept is the part of a watch's mask that lasts.
	kept = unix.IN_ALL_EVENTS | unix.IN_UNMOUNT | unix.IN_ONESHOT | unix.IN_EXCL_UNLINK
)

// watch is one watched inode of an instance.
type watch struct {
	inst  *Instance
	wd    int32
	inode vfs.Inode
	at    vfs.InodeRef // holds the inode
	mask  uint32       // guarded by marks.mu
}

// marks has all watches, by inode.
var marks struct {
	mu        sync.RWMutex
	m         map[vfs.Inode][]*watch
	instances map[uint32]int // by user
	watches   map[uint32]int
}

// event is a queued event.
type event struct {
	wd     int32
	mask   uint32
	cookie uint32
	name   string
}

// headLen is the size of struct inotify_event without a name; names are padded to a multiple of it.
const headLen = 16

func (e *event) size() int {
	if e.name == "" {
		return headLen
	}
	return headLen + (len(e.name)+headLen)&^(headLen-1)
}

// cost is about how much memory a queued event takes.
func (e *event) cost() int { return 64 + len(e.name) }

func (e *event) encode() []byte {
	b := make([]byte, e.size())
	binary.LittleEndian.PutUint32(b, uint32(e.wd))
	binary.LittleEndian.PutUint32(b[4:], e.mask)
	binary.LittleEndian.PutUint32(b[8:], e.cookie)
	binary.LittleEndian.PutUint32(b[12:], uint32(len(b)-headLen))
	copy(b[headLen:], e.name)
	return b
}

// Instance is an inotify instance.
type Instance struct {
	vfs.NoSeek

	q   wait.Queue
	uid uint32 // who is charged

	// Guarded by marks.mu.
	watches map[int32]*watch
	byInode map[vfs.Inode]*watch
	lastWD  int32

	mu       sync.Mutex
	queue    []event
	overflow bool // the last event queued is an overflow
	released bool // nobody reads any more
}

// New makes an inotify file; flags are IN_NONBLOCK. EMFILE if the user has too many.
func New(c vfs.Caller, flags uint32) (*vfs.File, error) {
	uid := c.Cred().UID
	marks.mu.Lock()
	if marks.instances == nil {
		marks.instances, marks.watches, marks.m = map[uint32]int{}, map[uint32]int{}, map[vfs.Inode][]*watch{}
	}
	if marks.instances[uid] >= MaxUserInstances {
		marks.mu.Unlock()
		return nil, unix.EMFILE
	}
	marks.instances[uid]++
	marks.mu.Unlock()
	in := &Instance{uid: uid, watches: map[int32]*watch{}, byInode: map[vfs.Inode]*watch{}}
	return vfs.NewAnonFile(c, "anon_inode:inotify", in, unix.O_RDONLY|flags&unix.O_NONBLOCK, 0o600), nil
}

// Of returns the instance behind a file, nil if it is another kind of file.
func Of(f *vfs.File) *Instance {
	in, _ := f.Ops.(*Instance)
	return in
}

// ValidMask reports whether inotify_add_watch(2) knows all bits of a mask, and there are any.
func ValidMask(mask uint32) bool { return mask != 0 && mask&^uint32(allBits) == 0 }

// Add is inotify_add_watch(2) with a valid mask; the path is relative to the working directory.
func (in *Instance) Add(c vfs.Caller, path string, mask uint32) (int32, error) {
	if mask&unix.IN_MASK_ADD != 0 && mask&unix.IN_MASK_CREATE != 0 {
		return 0, unix.EINVAL
	}
	flags := 0
	if mask&unix.IN_DONT_FOLLOW != 0 {
		flags = unix.AT_SYMLINK_NOFOLLOW
	}
	p, err := vfs.Lookup(c, nil, path, flags)
	if err != nil {
		return 0, err
	}
	defer p.Put()
	inode := p.Inode()
	if mask&unix.IN_ONLYDIR != 0 {
		if a := inode.Attr(); !a.IsDir() {
			return 0, unix.ENOTDIR
		}
	}
	if err := vfs.Permission(c, inode, vfs.MayRead); err != nil {
		return 0, err
	}
	marks.mu.Lock()
	defer marks.mu.Unlock()
	if w := in.byInode[inode]; w != nil {
		switch {
		case mask&unix.IN_MASK_CREATE != 0:
			return 0, unix.EEXIST
		case mask&unix.IN_MASK_ADD != 0:
			w.mask |= mask & kept
		default:
			w.mask = mask & kept
		}
		return w.wd, nil
	}
	if marks.watches[in.uid] >= MaxUserWatches {
		return 0, unix.ENOSPC
	}
	in.lastWD++
	w := &watch{inst: in, wd: in.lastWD, inode: inode, at: vfs.HoldInode(p), mask: mask & kept}
	in.watches[w.wd], in.byInode[inode] = w, w
	marks.watches[in.uid]++
	marks.m[inode] = append(marks.m[inode], w)
	if len(marks.m) == 1 {
		vfs.AddReceiver(&receiver)
	}
	return w.wd, nil
}

// Remove is inotify_rm_watch(2).
func (in *Instance) Remove(wd int32) error {
	marks.mu.Lock()
	w := in.watches[wd]
	if w == nil {
		marks.mu.Unlock()
		return unix.EINVAL
	}
	w.endLocked()
	marks.mu.Unlock()
	w.at.Put()
	in.queueEvent(event{wd: wd, mask: unix.IN_IGNORED})
	return nil
}

// endLocked takes a watch out of the tables; the caller must put w.at.
func (w *watch) endLocked() {
	delete(w.inst.watches, w.wd)
	delete(w.inst.byInode, w.inode)
	if marks.watches[w.inst.uid]--; marks.watches[w.inst.uid] <= 0 {
		delete(marks.watches, w.inst.uid)
	}
	list := marks.m[w.inode]
	rest := make([]*watch, 0, len(list))
	for _, x := range list {
		if x != w {
			rest = append(rest, x)
		}
	}
	if len(rest) > 0 {
		marks.m[w.inode] = rest
		return
	}
	delete(marks.m, w.inode)
	if len(marks.m) == 0 {
		vfs.RemoveReceiver(&receiver)
	}
}

var receiver vfs.Receiver

func init() { receiver.Func = receive }

// receive is called by the vfs for every event.
func receive(ev *vfs.Event) {
	if ev.Super != nil {
		unmounted(ev)
		return
	}
	var self, dir []*watch
	marks.mu.RLock()
	if ev.Mask&dirOnly == 0 && ev.Inode != nil {
		self = marks.m[ev.Inode]
	}
	if ev.Mask&selfOnly == 0 && ev.Dir != nil && ev.Name != "" {
		dir = marks.m[ev.Dir]
	}
	ended := deliver(dir, ev, ev.Name, nil)
	ended = deliver(self, ev, "", ended)
	marks.mu.RUnlock()
	for _, w := range ended {
		w.end()
	}
}

// unmounted ends the watches of a file system.
func unmounted(ev *vfs.Event) {
	var ended []*watch
	marks.mu.RLock()
	for in, list := range marks.m {
		if in.Super() == ev.Super {
			ended = deliver(list, ev, "", ended)
		}
	}
	marks.mu.RUnlock()
	for _, w := range ended {
		w.end()
	}
}

// deliver queues an event for the watches that want it. It adds those that end with it to ended.
func deliver(list []*watch, ev *vfs.Event, name string, ended []*watch) []*watch {
	for _, w := range list {
		if ev.Unlinked && name != "" && w.mask&unix.IN_EXCL_UNLINK != 0 {
			continue
		}
		if ev.Mask&(w.mask|always)&(unix.IN_ALL_EVENTS|always) != 0 {
			w.inst.queueEvent(event{w.wd, ev.Mask & (unix.IN_ALL_EVENTS | unix.IN_UNMOUNT | unix.IN_ISDIR), ev.Cookie, name})
			if w.mask&unix.IN_ONESHOT != 0 {
				ended = append(ended, w)
				continue
			}
		}
		if name == "" && ev.Mask&(unix.IN_DELETE_SELF|unix.IN_UNMOUNT) != 0 {
			ended = append(ended, w)
		}
	}
	return ended
}

// end ends a watch from the receiver.
func (w *watch) end() {
	marks.mu.Lock()
	live := w.inst.watches[w.wd] == w
	if live {
		w.endLocked()
	}
	marks.mu.Unlock()
	if live {
		go w.at.Put()
		w.inst.queueEvent(event{wd: w.wd, mask: unix.IN_IGNORED})
	}
}

// queueEvent adds an event, unless it is the same as the last one or the queue is full.
func (in *Instance) queueEvent(e event) {
	in.mu.Lock()
	n := len(in.queue)
	switch {
	case in.released, n > 0 && in.queue[n-1] == e:
		in.mu.Unlock()
		return
	case n >= MaxQueuedEvents, kmem.Full():
		if in.overflow {
			in.mu.Unlock()
			return
		}
		in.overflow = true
		e = event{wd: -1, mask: unix.IN_Q_OVERFLOW}
	}
	in.queue = append(in.queue, e)
	kmem.Add(e.cost())
	in.mu.Unlock()
	in.q.Notify(wait.In | wait.RdNorm)
}

func (in *Instance) Read(c vfs.Caller, f *vfs.File, dst *uio.Dst, _ int64) (int, error) {
	done := 0
	for {
		in.mu.Lock()
		if len(in.queue) == 0 {
			in.mu.Unlock()
			if done > 0 {
				return done, nil
			}
			if f.Nonblock() {
				return 0, unix.EAGAIN
			}
			if err := in.q.Wait(c, wait.Readable, ktime.Forever, in.hasEvents); err != nil {
				return 0, err
			}
			continue
		}
		e := in.queue[0]
		if e.size() > dst.Len() {
			in.mu.Unlock()
			if done > 0 {
				return done, nil
			}
			return 0, unix.EINVAL
		}
		kmem.Add(-e.cost())
		in.queue[0] = event{}
		in.queue = in.queue[1:]
		if len(in.queue) == 0 {
			in.queue, in.overflow = nil, false
		}
		in.mu.Unlock()
		n, err := dst.CopyOut(e.encode())
		if err != nil {
			if done > 0 {
				return done, nil
			}
			return 0, err
		}
		done += n
	}
}

func (in *Instance) hasEvents() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return len(in.queue) > 0
}

func (in *Instance) Write(vfs.Caller, *vfs.File, *uio.Src, int64) (int, error) {
	return 0, unix.EBADF
}

// WaitQueue is notified of events.
func (in *Instance) WaitQueue() *wait.Queue { return &in.q }

// Async: the file has O_ASYNC.
func (in *Instance) Async() error { return nil }

// Readiness: readable when there are events.
func (in *Instance) Readiness(mask wait.Events) wait.Events {
	if !in.hasEvents() {
		return 0
	}
	return mask & (wait.In | wait.RdNorm)
}

// Ioctl has FIONREAD.
func (in *Instance) Ioctl(c vfs.Caller, _ *vfs.File, cmd uint32, arg uint64) (uint64, error) {
	if cmd != unix.TIOCINQ {
		return 0, unix.ENOTTY
	}
	n := 0
	in.mu.Lock()
	for i := range in.queue {
		n += in.queue[i].size()
	}
	in.mu.Unlock()
	return 0, uio.WriteFull(c.Mem(), binary.LittleEndian.AppendUint32(nil, uint32(n)), arg)
}

// Release ends all watches.
func (in *Instance) Release(*vfs.File) {
	marks.mu.Lock()
	var ended []*watch
	for _, w := range in.watches {
		ended = append(ended, w)
	}
	for _, w := range ended {
		w.endLocked()
	}
	if marks.instances[in.uid]--; marks.instances[in.uid] <= 0 {
		delete(marks.instances, in.uid)
	}
	marks.mu.Unlock()
	for _, w := range ended {
		w.at.Put()
	}
	in.mu.Lock()
	for i := range in.queue {
		kmem.Add(-in.queue[i].cost())
	}
	in.queue, in.released = nil, true
	in.mu.Unlock()
}

// FdInfo is the lines of /proc/<pid>/fdinfo.
func (in *Instance) FdInfo(*vfs.File) string {
	marks.mu.RLock()
	defer marks.mu.RUnlock()
	list := make([]*watch, 0, len(in.watches))
	for _, w := range in.watches {
		list = append(list, w)
	}
	sort.Slice(list, func(i, j int) bool { return list[i].wd < list[j].wd })
	var b strings.Builder
	for _, w := range list {
		fmt.Fprintf(&b, "inotify wd:%x ino:%x sdev:%x mask:%x ignored_mask:0\n", w.wd, w.inode.Attr().Ino,
			w.inode.Super().Dev(), w.mask&unix.IN_ALL_EVENTS)
	}
	return b.String()
}

var (
	_ vfs.FileOps  = (*Instance)(nil)
	_ vfs.Streamer = (*Instance)(nil)
	_ vfs.Ioctler  = (*Instance)(nil)
	_ vfs.FdInfoer = (*Instance)(nil)
)
