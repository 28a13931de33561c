package vfs

import (
	"math"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/kmem"
	"github.com/user-mode-linux/linux/internal/kernel/ktime"
	"github.com/user-mode-linux/linux/internal/kernel/wait"
)

// lockSize is about how much memory a lock takes.
const lockSize = 128

type lockKind uint8

const (
	lockPosix lockKind = iota
	lockOFD
	lockFlock
)

// fileLock is a held lock. POSIX and OFD locks conflict with each other, flocks only among themselves.
type fileLock struct {
	kind       lockKind
	owner      any // *FDTable for POSIX locks, else *File
	write      bool
	start, end int64 // end is the last byte, MaxInt64 without end
	pid        int32
}

// inodeLocks are the locks of one inode; guarded by lockTable.mu.
type inodeLocks struct {
	in      Inode
	held    []*fileLock // POSIX and OFD
	flocks  []*fileLock
	waiting []*lockWaiter
	q       wait.Queue
}

type lockWaiter struct {
	want    *fileLock
	blocker *fileLock
}

// lockTable has all locks of the system. One mutex is enough: locks are few and deadlock detection wants to see all.
var lockTable struct {
	mu sync.Mutex
	m  map[Inode]*inodeLocks
}

// posixLocks counts held POSIX locks, so that close(2) is cheap without them.
var posixLocks atomic.Int64

// locksOf returns the locks of an inode, nil if there are none and create is not set. The caller holds lockTable.mu.
func locksOf(in Inode, create bool) *inodeLocks {
	l := lockTable.m[in]
	if l == nil && create {
		if lockTable.m == nil {
			lockTable.m = make(map[Inode]*inodeLocks)
		}
		l = &inodeLocks{in: in}
		lockTable.m[in] = l
	}
	return l
}

// gc forgets l when it is empty.
func (l *inodeLocks) gc() {
	if len(l.held) == 0 && len(l.flocks) == 0 && len(l.waiting) == 0 {
		delete(lockTable.m, l.in)
	}
}

// conflict finds a lock that keeps want from being taken.
func (l *inodeLocks) conflict(want *fileLock) *fileLock {
	list := l.held
	if want.kind == lockFlock {
		list = l.flocks
	}
	for _, h := range list {
		if h.owner != want.owner && (h.write || want.write) && h.start <= want.end && want.start <= h.end {
			return h
		}
	}
	return nil
}

// cut removes the range of lk from what its owner holds and reports whether anything was removed.
func (l *inodeLocks) cut(lk *fileLock) bool {
	var out []*fileLock
	changed := false
	for _, h := range l.held {
		if h.owner != lk.owner || h.end < lk.start || h.start > lk.end {
			out = append(out, h)
			continue
		}
		changed = true
		if h.start < lk.start {
			left := *h
			left.end = lk.start - 1
			out = append(out, &left)
		}
		if h.end > lk.end {
			right := *h
			right.start = lk.end + 1
			out = append(out, &right)
		}
	}
	l.setHeld(out)
	return changed
}

// add adds lk, whose range has been cut out before, and joins it with its neighbours of the same kind.
func (l *inodeLocks) add(lk *fileLock) {
	n := *lk
	out := slices.DeleteFunc(slices.Clone(l.held), func(h *fileLock) bool {
		if h.owner != n.owner || h.write != n.write {
			return false
		}
		if h.end != math.MaxInt64 && h.end+1 == n.start {
			n.start = h.start
			return true
		}
		if n.end != math.MaxInt64 && n.end+1 == h.start {
			n.end = h.end
			return true
		}
		return false
	})
	l.setHeld(append(out, &n))
}

func (l *inodeLocks) setHeld(list []*fileLock) {
	delta := 0
	for _, h := range list {
		if h.kind == lockPosix {
			delta++
		}
	}
	for _, h := range l.held {
		if h.kind == lockPosix {
			delta--
		}
	}
	posixLocks.Add(int64(delta))
	kmem.Add((len(list) - len(l.held)) * lockSize)
	l.held = list
}

// deadlock reports whether waiting for blocker would close a circle of POSIX lock owners.
func deadlock(owner any, blocker *fileLock) bool {
	for range 10 { // as deep as Linux looks
		if blocker.kind != lockPosix {
			return false
		}
		if blocker.owner == owner {
			return true
		}
		next := waitsFor(blocker.owner)
		if next == nil {
			return false
		}
		blocker = next
	}
	return false
}

func waitsFor(owner any) *fileLock {
	for _, l := range lockTable.m {
		for _, w := range l.waiting {
			if w.want.owner == owner && w.blocker != nil {
				return w.blocker
			}
		}
	}
	return nil
}

// acquire takes want with take, waiting for conflicting locks if block is set.
func acquire(c Caller, in Inode, want *fileLock, block bool, take func(l *inodeLocks)) error {
	if kmem.Full() {
		return unix.ENOLCK
	}
	lockTable.mu.Lock()
	l := locksOf(in, true)
	b := l.conflict(want)
	if b == nil {
		take(l)
		l.gc()
		lockTable.mu.Unlock()
		return nil
	}
	if !block {
		lockTable.mu.Unlock()
		return unix.EAGAIN
	}
	w := &lockWaiter{want: want}
	l.waiting = append(l.waiting, w)
	lockTable.mu.Unlock()

	var failed error
	err := l.q.Wait(c, wait.In, ktime.Forever, func() bool {
		lockTable.mu.Lock()
		defer lockTable.mu.Unlock()
		w.blocker = l.conflict(want)
		if w.blocker == nil {
			take(l)
			return true
		}
		if want.kind == lockPosix && deadlock(want.owner, w.blocker) {
			failed = unix.EDEADLK
			return true
		}
		return false
	})
	lockTable.mu.Lock()
	l.waiting = slices.DeleteFunc(l.waiting, func(x *lockWaiter) bool { return x == w })
	l.gc()
	lockTable.mu.Unlock()
	if failed != nil {
		return failed
	}
	return err
}

// Flock is flock(2).
func Flock(c Caller, f *File, op int) error {
	if f.IsPath() {
		return unix.EBADF
	}
	block := op&unix.LOCK_NB == 0
	want := &fileLock{kind: lockFlock, owner: f, end: math.MaxInt64, pid: c.PID()}
	switch op &^ unix.LOCK_NB {
	case unix.LOCK_UN:
		f.unflock()
		return nil
	case unix.LOCK_SH:
	case unix.LOCK_EX:
		want.write = true
	default:
		return unix.EINVAL
	}
	lockTable.mu.Lock()
	if l := locksOf(f.Inode, false); l != nil {
		for _, h := range l.flocks {
			if h.owner == f && h.write == want.write {
				lockTable.mu.Unlock()
				return nil
			}
		}
	}
	lockTable.mu.Unlock()
	f.hasLocks.Store(true)
	f.unflock() // a change of the kind gives the old lock up first
	err := acquire(c, f.Inode, want, block, func(l *inodeLocks) { l.flocks = append(l.flocks, want) })
	if err == unix.EAGAIN {
		return unix.EWOULDBLOCK
	}
	return err
}

func (f *File) unflock() {
	lockTable.mu.Lock()
	l := locksOf(f.Inode, false)
	n := 0
	if l != nil {
		n = len(l.flocks)
		l.flocks = slices.DeleteFunc(l.flocks, func(h *fileLock) bool { return h.owner == f })
		n -= len(l.flocks)
		l.gc()
	}
	lockTable.mu.Unlock()
	if n > 0 {
		l.q.Notify(wait.In)
	}
}

// dropLocks gives up the flock and the OFD locks of a file that is gone.
func (f *File) dropLocks() {
	f.unflock()
	dropRange(f.Inode, &fileLock{owner: f, end: math.MaxInt64})
}

// dropPosixLocks gives up all POSIX locks of t on a file, one descriptor of which was closed.
func dropPosixLocks(t *FDTable, f *File) {
	if posixLocks.Load() != 0 && f.Inode != nil {
		dropRange(f.Inode, &fileLock{owner: t, end: math.MaxInt64})
	}
}

func dropRange(in Inode, lk *fileLock) {
	lockTable.mu.Lock()
	l := locksOf(in, false)
	changed := l != nil && l.cut(lk)
	if l != nil {
		l.gc()
	}
	lockTable.mu.Unlock()
	if changed {
		l.q.Notify(wait.In)
	}
}

// lockRange makes the byte range of a struct flock.
func lockRange(f *File, fl *unix.Flock_t) (start, end int64, err error) {
	switch fl.Whence {
	case unix.SEEK_SET:
	case unix.SEEK_CUR:
		start = f.Pos()
	case unix.SEEK_END:
		start = f.Attr().Size
	default:
		return 0, 0, unix.EINVAL
	}
	if fl.Start > 0 && start > math.MaxInt64-fl.Start {
		return 0, 0, unix.EOVERFLOW
	}
	start += fl.Start
	if start < 0 {
		return 0, 0, unix.EINVAL
	}
	switch {
	case fl.Len > 0:
		if fl.Len-1 > math.MaxInt64-start {
			return 0, 0, unix.EOVERFLOW
		}
		end = start + fl.Len - 1
	case fl.Len < 0:
		if start+fl.Len < 0 {
			return 0, 0, unix.EINVAL
		}
		start, end = start+fl.Len, start-1
	default:
		end = math.MaxInt64
	}
	return start, end, nil
}

// FcntlLock is fcntl(2) F_GETLK, F_SETLK, F_SETLKW and the F_OFD_ ones on descriptor fd of t, which is f. For the GETLK ones
// fl is the result too.
func FcntlLock(c Caller, t *FDTable, fd int32, f *File, cmd int, fl *unix.Flock_t) error {
	if f.IsPath() {
		return unix.EBADF
	}
	want := &fileLock{kind: lockPosix, owner: t, pid: c.PID()}
	get, block := false, false
	switch cmd {
	case unix.F_OFD_GETLK, unix.F_OFD_SETLK, unix.F_OFD_SETLKW:
		if fl.Pid != 0 {
			return unix.EINVAL
		}
		*want = fileLock{kind: lockOFD, owner: f, pid: -1}
	}
	switch cmd {
	case unix.F_GETLK, unix.F_OFD_GETLK:
		get = true
	case unix.F_SETLK, unix.F_OFD_SETLK:
	case unix.F_SETLKW, unix.F_OFD_SETLKW:
		block = true
	default:
		return unix.EINVAL
	}
	var err error
	if want.start, want.end, err = lockRange(f, fl); err != nil {
		return err
	}
	want.write = fl.Type == unix.F_WRLCK
	switch fl.Type {
	case unix.F_RDLCK, unix.F_WRLCK:
	case unix.F_UNLCK:
		if get {
			return unix.EINVAL
		}
		dropRange(f.Inode, want)
		return nil
	default:
		return unix.EINVAL
	}
	if get {
		getLock(f, want, fl)
		return nil
	}
	if want.write && !f.Writable() || !want.write && !f.Readable() {
		return unix.EBADF
	}
	if want.kind == lockOFD {
		f.hasLocks.Store(true)
	}
	changed := false
	var q *wait.Queue
	err = acquire(c, f.Inode, want, block, func(l *inodeLocks) {
		changed = l.cut(want)
		l.add(want)
		q = &l.q
	})
	if err != nil {
		return err
	}
	if changed && !want.write {
		q.Notify(wait.In) // a write lock may have become a read lock
	}
	// If another thread has closed the descriptor meanwhile, its close has not seen this lock.
	if now, gerr := t.Get(fd); want.kind == lockPosix && (gerr != nil || now != f) {
		dropPosixLocks(t, f)
		err = unix.EBADF
		if gerr == nil {
			now.DecRef()
		}
	} else if gerr == nil {
		now.DecRef()
	}
	return err
}

// getLock fills fl with a lock that conflicts with want, or with F_UNLCK.
func getLock(f *File, want *fileLock, fl *unix.Flock_t) {
	lockTable.mu.Lock()
	defer lockTable.mu.Unlock()
	var h *fileLock
	if l := locksOf(f.Inode, false); l != nil {
		h = l.conflict(want)
	}
	if h == nil {
		fl.Type = unix.F_UNLCK
		return
	}
	fl.Type = unix.F_RDLCK
	if h.write {
		fl.Type = unix.F_WRLCK
	}
	fl.Whence, fl.Start, fl.Pid = unix.SEEK_SET, h.start, h.pid
	fl.Len = 0
	if h.end != math.MaxInt64 {
		fl.Len = h.end - h.start + 1
	}
}

// LockInfo is a line of /proc/locks.
type LockInfo struct {
	Kind    string // POSIX, OFDLCK, FLOCK
	Write   bool
	PID     int32 // -1 for OFD locks
	Dev     uint64
	Ino     uint64
	Start   int64
	End     int64 // the last byte, math.MaxInt64 for EOF
	Blocked bool  // waits for the one before it that is not Blocked
}

// Locks lists all file locks.
func Locks() []LockInfo {
	lockTable.mu.Lock()
	defer lockTable.mu.Unlock()
	var out []LockInfo
	for in, l := range lockTable.m {
		a := in.Attr()
		dev := in.Super().Dev()
		info := func(h *fileLock, blocked bool) LockInfo {
			return LockInfo{Kind: [...]string{"POSIX", "OFDLCK", "FLOCK"}[h.kind], Write: h.write, PID: h.pid, Dev: dev,
				Ino: a.Ino, Start: h.start, End: h.end, Blocked: blocked}
		}
		for _, h := range append(slices.Clone(l.held), l.flocks...) {
			out = append(out, info(h, false))
			for _, w := range l.waiting {
				if w.blocker == h {
					out = append(out, info(w.want, true))
				}
			}
		}
	}
	slices.SortStableFunc(out, func(a, b LockInfo) int { return int(a.Ino) - int(b.Ino) })
	return out
}
