package vfs

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/ktime"
	"github.com/user-mode-linux/linux/internal/kernel/wait"
)

// LeaseBreakTime is how many seconds the holder of a lease has to give it up (/proc/sys/fs/lease-break-time).
var LeaseBreakTime atomic.Int32

func init() { LeaseBreakTime.Store(45) }

// lease is a file lease (fcntl(2) F_SETLEASE).
type lease struct {
	f  *File
	fd int32
	// typ is F_RDLCK or F_WRLCK; target is what it is to become by the deadline, typ if nobody wants it broken.
	typ, target int
	deadline    int64 // CLOCK_MONOTONIC
}

// leases are all leases, by file.
var leases struct {
	n  atomic.Int32 // so that open(2) is cheap without any
	mu sync.Mutex
	m  map[Inode][]*lease
	q  wait.Queue // notified when one has changed
}

// find returns the lease of f. The caller holds leases.mu.
func findLease(f *File) *lease {
	for _, l := range leases.m[f.Inode] {
		if l.f == f {
			return l
		}
	}
	return nil
}

// expireLocked takes from holders that have had their time.
func expireLocked(in Inode) {
	now := ktime.Monotonic()
	for _, l := range slices.Clone(leases.m[in]) {
		if l.typ != l.target && now >= l.deadline {
			l.setLocked(l.target)
		}
	}
}

// setLocked changes the type; F_UNLCK ends the lease.
func (l *lease) setLocked(typ int) {
	had := l.typ != unix.F_UNLCK
	l.typ, l.target = typ, typ
	in := l.f.Inode
	if typ != unix.F_UNLCK {
		return
	}
	list := slices.DeleteFunc(leases.m[in], func(x *lease) bool { return x == l })
	leases.m[in] = list
	if len(list) == 0 {
		delete(leases.m, in)
	}
	leases.n.Add(-1)
	if had {
		l.f.SetOwner(nil) // F_SETOWN and F_SETSIG end with it
	}
}

// GetLease is F_GETLEASE.
func GetLease(f *File) int {
	leases.mu.Lock()
	defer leases.mu.Unlock()
	expireLocked(f.Inode)
	if l := findLease(f); l != nil {
		return l.target
	}
	return unix.F_UNLCK
}

// SetLease is F_SETLEASE on descriptor fd.
func SetLease(c Caller, fd int32, f *File, typ int) error {
	if typ == unix.F_UNLCK {
		return f.dropLease()
	}
	if typ != unix.F_RDLCK && typ != unix.F_WRLCK {
		return unix.EINVAL
	}
	if c.Cred().FSUID != f.Inode.Attr().UID && !c.Cred().Capable(unix.CAP_LEASE) {
		return unix.EACCES
	}
	ist := f.Path.Dentry.ist
	if f.typ != unix.S_IFREG || ist == nil {
		return unix.EINVAL
	}
	leases.mu.Lock()
	defer leases.mu.Unlock()
	expireLocked(f.Inode)
	for _, l := range leases.m[f.Inode] {
		if l.f != f && (typ == unix.F_WRLCK || l.target == unix.F_UNLCK) {
			return unix.EAGAIN
		}
	}
	l := findLease(f)
	if l == nil {
		l = &lease{f: f, fd: fd, typ: unix.F_UNLCK}
		if leases.m == nil {
			leases.m = map[Inode][]*lease{}
		}
		leases.m[f.Inode] = append(leases.m[f.Inode], l)
		leases.n.Add(1)
		f.hasLocks.Store(true)
	}
	// Who opens the file counts itself first and looks for leases then.
	if !leasable(f, ist, typ) {
		l.setLocked(l.typ)
		return unix.EAGAIN
	}
	l.fd = fd
	l.setLocked(typ)
	leases.q.Notify(wait.In)
	return nil
}

// leasable reports whether no open file other than f is in the way of a lease.
func leasable(f *File, ist *inodeState, typ int) bool {
	writers, readers := max(ist.writers.Load(), 0), ist.readers.Load()
	if typ == unix.F_RDLCK {
		return writers == 0
	}
	if f.Writable() {
		writers--
	} else {
		readers--
	}
	return writers == 0 && readers == 0
}

// dropLease ends the lease of f: EAGAIN if it has none.
func (f *File) dropLease() error {
	leases.mu.Lock()
	l := findLease(f)
	if l != nil {
		l.setLocked(unix.F_UNLCK)
	}
	leases.mu.Unlock()
	if l == nil {
		return unix.EAGAIN
	}
	leases.q.Notify(wait.In)
	return nil
}

// breakLease asks the holders of leases on a file to give them up, and waits until they have or their time is up. EAGAIN
// instead of waiting if nonblock is set.
func breakLease(c Caller, in Inode, write, nonblock bool) error {
	if leases.n.Load() == 0 {
		return nil
	}
	for {
		deadline, broken := askLeases(in, write)
		if broken {
			return nil
		}
		if nonblock {
			return unix.EAGAIN
		}
		err := leases.q.Wait(c, wait.In, deadline, func() bool {
			_, broken := askLeases(in, write)
			return broken
		})
		if err != nil && err != unix.ETIMEDOUT {
			return err
		}
	}
}

// askLeases tells the holders of leases that are in the way to give them up. It returns when the last has to have, and
// whether there are none.
func askLeases(in Inode, write bool) (deadline int64, broken bool) {
	leases.mu.Lock()
	defer leases.mu.Unlock()
	expireLocked(in)
	broken = true
	for _, l := range leases.m[in] {
		if l.typ == unix.F_UNLCK || l.typ == unix.F_RDLCK && !write {
			continue
		}
		broken = false
		want := unix.F_RDLCK
		if write {
			want = unix.F_UNLCK
		}
		if l.target == l.typ {
			l.deadline = ktime.After(time.Duration(LeaseBreakTime.Load()) * time.Second)
			postIO(l.f.Owner(), l.fd, pollMsg)
		}
		if l.target != unix.F_UNLCK {
			l.target = want
		}
		deadline = max(deadline, l.deadline)
	}
	return deadline, broken
}
