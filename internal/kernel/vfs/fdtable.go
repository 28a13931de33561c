package vfs

import (
	"math/bits"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/kmem"
)

// maxFDs is /proc/sys/fs/nr_open.
const maxFDs = 1 << 20

type fdSlot = atomic.Pointer[File]

// FDTable is a file descriptor table; tasks made with CLONE_FILES share one. Get takes no lock.
type FDTable struct {
	refs atomic.Int32
	// slots is replaced, under mu, by a longer one when it gets too short.
	slots atomic.Pointer[[]fdSlot]

	mu      sync.Mutex
	open    []uint64 // guarded by mu: bit n is set if n is in use
	cloexec []uint64 // guarded by mu
	free    int32    // guarded by mu: no descriptor below is free
}

// NewFDTable makes an empty table with one reference.
func NewFDTable() *FDTable {
	t := new(FDTable)
	t.refs.Store(1)
	_ = t.grow(64) // so few are always there
	return t
}

// IncRef is CLONE_FILES.
func (t *FDTable) IncRef() *FDTable { t.refs.Add(1); return t }

// Shared reports whether more than one task uses the table.
func (t *FDTable) Shared() bool { return t.refs.Load() > 1 }

// DecRef drops a reference; the last one closes all files.
func (t *FDTable) DecRef(c Caller) {
	if t.refs.Add(-1) == 0 {
		t.CloseRange(c, 0, maxFDs, false)
		kmem.Add(-slotSize * t.Size())
	}
}

const (
	// slotSize is how many bytes a descriptor takes.
	slotSize = 8
	// freeSlots is the size of a table that everybody may have; larger ones are only made while there is kernel memory.
	freeSlots = 1024
)

// grow makes room for n descriptors: ENOMEM. The caller holds mu, or is the only one.
func (t *FDTable) grow(n int) error {
	size := 64
	for size < n {
		size *= 2
	}
	if size > freeSlots && kmem.Full() {
		return unix.ENOMEM
	}
	nu := make([]fdSlot, size)
	kmem.Add(slotSize * size)
	if old := t.slots.Load(); old != nil {
		kmem.Add(-slotSize * len(*old))
		for i := range *old {
			nu[i].Store((*old)[i].Load())
		}
	}
	t.open = append(t.open, make([]uint64, size/64-len(t.open))...)
	t.cloexec = append(t.cloexec, make([]uint64, size/64-len(t.cloexec))...)
	t.slots.Store(&nu)
	return nil
}

// Get returns the file of a descriptor, with a reference: EBADF if there is none.
func (t *FDTable) Get(fd int32) (*File, error) {
	s := *t.slots.Load()
	if uint32(fd) >= uint32(len(s)) {
		return nil, unix.EBADF
	}
	if f := s[fd].Load(); f != nil && f.tryGet() {
		return f, nil
	}
	return nil, unix.EBADF
}

// GetFile is Get for calls that do not work on O_PATH files.
func (t *FDTable) GetFile(fd int32) (*File, error) {
	f, err := t.Get(fd)
	if err == nil && f.IsPath() {
		f.DecRef()
		return nil, unix.EBADF
	}
	return f, err
}

// Install puts f, whose reference it takes over on success, at the lowest free descriptor from min on: EMFILE if
// RLIMIT_NOFILE is reached, ENFILE if there are too many open files in all.
func (t *FDTable) Install(c Caller, f *File, min int32, cloexec bool) (int32, error) {
	limit := fdLimit(c)
	if f.refs.Load() == 1 && openFiles.Load() > MaxFiles.Load() && !c.Cred().Capable(unix.CAP_SYS_ADMIN) {
		return 0, unix.ENFILE
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	fd := t.lowest(max(min, t.free))
	if fd >= limit {
		return 0, unix.EMFILE
	}
	if err := t.set(fd, f, cloexec); err != nil {
		return 0, err
	}
	if min <= t.free {
		t.free = fd + 1
	}
	return fd, nil
}

func fdLimit(c Caller) int32 { return int32(min(c.Rlimit(unix.RLIMIT_NOFILE), maxFDs)) }

// lowest is the lowest free descriptor from fd on. The caller holds mu.
func (t *FDTable) lowest(fd int32) int32 {
	for i := int(fd) / 64; i < len(t.open); i++ {
		w := ^t.open[i]
		if i == int(fd)/64 {
			w &= ^uint64(0) << (uint(fd) % 64)
		}
		if w != 0 {
			return int32(i*64 + bits.TrailingZeros64(w))
		}
	}
	return max(fd, int32(len(t.open)*64))
}

// set stores f at fd: ENOMEM. The caller holds mu.
func (t *FDTable) set(fd int32, f *File, cloexec bool) error {
	if int(fd) >= len(t.open)*64 {
		if err := t.grow(int(fd) + 1); err != nil {
			return err
		}
	}
	bit := uint64(1) << (uint(fd) % 64)
	t.open[fd/64] |= bit
	if cloexec {
		t.cloexec[fd/64] |= bit
	} else {
		t.cloexec[fd/64] &^= bit
	}
	(*t.slots.Load())[fd].Store(f)
	return nil
}

// take empties fd and returns what was there. The caller holds mu.
func (t *FDTable) take(fd int32) *File {
	s := *t.slots.Load()
	if uint32(fd) >= uint32(len(s)) {
		return nil
	}
	f := s[fd].Swap(nil)
	if f == nil {
		return nil
	}
	bit := uint64(1) << (uint(fd) % 64)
	t.open[fd/64] &^= bit
	t.cloexec[fd/64] &^= bit
	t.free = min(t.free, fd)
	return f
}

// Dup3 is dup3(2) without its check that the descriptors differ: newfd becomes f, of which it takes its own reference;
// what was there is closed.
func (t *FDTable) Dup3(c Caller, f *File, newfd int32, cloexec bool) error {
	if newfd < 0 || newfd >= fdLimit(c) {
		return unix.EBADF
	}
	t.mu.Lock()
	old := t.take(newfd)
	if err := t.set(newfd, f.IncRef(), cloexec); err != nil {
		t.mu.Unlock()
		f.DecRef() // there was nothing at newfd: the table is too short for it
		return err
	}
	t.mu.Unlock()
	if old != nil {
		_ = t.closed(c, old) // dup2 does not report it
	}
	return nil
}

// Close is close(2).
func (t *FDTable) Close(c Caller, fd int32) error {
	t.mu.Lock()
	f := t.take(fd)
	t.mu.Unlock()
	if f == nil {
		return unix.EBADF
	}
	return t.closed(c, f)
}

// closed does what close(2) does with a file that has left the table.
func (t *FDTable) closed(c Caller, f *File) error {
	var err error
	if !f.IsPath() {
		if fl, ok := f.Ops.(Flusher); ok {
			err = fl.Flush(c, f)
		}
		dropPosixLocks(t, f)
		dropDirNotify(t, f)
	}
	f.DecRef()
	return err
}

// CloseRange is close_range(2): it closes the descriptors first..last, or marks them close-on-exec.
func (t *FDTable) CloseRange(c Caller, first, last uint32, cloexecOnly bool) {
	for fd := uint64(first); ; fd++ {
		t.mu.Lock()
		n := t.nextOpen(fd)
		if n > uint64(last) {
			t.mu.Unlock()
			return
		}
		fd = n
		if cloexecOnly {
			t.cloexec[fd/64] |= 1 << (fd % 64)
			t.mu.Unlock()
			continue
		}
		f := t.take(int32(fd))
		t.mu.Unlock()
		_ = t.closed(c, f) // close_range does not report it
	}
}

// nextOpen is the first open descriptor from fd on, beyond all if there is none. The caller holds mu.
func (t *FDTable) nextOpen(fd uint64) uint64 {
	for i := fd / 64; i < uint64(len(t.open)); i++ {
		w := t.open[i]
		if i == fd/64 {
			w &= ^uint64(0) << (fd % 64)
		}
		if w != 0 {
			return i*64 + uint64(bits.TrailingZeros64(w))
		}
	}
	return 1 << 40
}

// Cloexec reports FD_CLOEXEC.
func (t *FDTable) Cloexec(fd int32) (bool, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.isOpen(fd) {
		return false, unix.EBADF
	}
	return t.cloexec[fd/64]>>(uint(fd)%64)&1 != 0, nil
}

// SetCloexec sets or clears FD_CLOEXEC.
func (t *FDTable) SetCloexec(fd int32, on bool) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.isOpen(fd) {
		return unix.EBADF
	}
	if on {
		t.cloexec[fd/64] |= 1 << (uint(fd) % 64)
	} else {
		t.cloexec[fd/64] &^= 1 << (uint(fd) % 64)
	}
	return nil
}

func (t *FDTable) isOpen(fd int32) bool {
	return fd >= 0 && int(fd)/64 < len(t.open) && t.open[fd/64]>>(uint(fd)%64)&1 != 0
}

// Copy is fork's: a table with the same files. ENOMEM.
func (t *FDTable) Copy() (*FDTable, error) {
	n := new(FDTable)
	n.refs.Store(1)
	t.mu.Lock()
	defer t.mu.Unlock()
	top := 0
	for i, w := range t.open {
		if w != 0 {
			top = (i + 1) * 64
		}
	}
	if err := n.grow(top); err != nil {
		return nil, err
	}
	copy(n.open, t.open[:top/64])
	copy(n.cloexec, t.cloexec[:top/64])
	from, to := *t.slots.Load(), *n.slots.Load()
	for i := range top {
		if f := from[i].Load(); f != nil {
			to[i].Store(f.IncRef())
		}
	}
	n.free = t.free
	return n, nil
}

// CloseOnExec closes what is marked close-on-exec.
func (t *FDTable) CloseOnExec(c Caller) {
	t.mu.Lock()
	var gone []*File
	for i := range t.cloexec {
		for w := t.cloexec[i] & t.open[i]; w != 0; w &= w - 1 {
			gone = append(gone, t.take(int32(i*64+bits.TrailingZeros64(w))))
		}
	}
	t.mu.Unlock()
	for _, f := range gone {
		_ = t.closed(c, f) // execve does not report it
	}
}

// Range calls fn for every descriptor in order until it returns false. f is only borrowed.
func (t *FDTable) Range(fn func(fd int32, f *File, cloexec bool) bool) {
	for fd := uint64(0); ; fd++ {
		t.mu.Lock()
		fd = t.nextOpen(fd)
		if fd >= maxFDs {
			t.mu.Unlock()
			return
		}
		f := (*t.slots.Load())[fd].Load().IncRef()
		ce := t.cloexec[fd/64]>>(fd%64)&1 != 0
		t.mu.Unlock()
		more := fn(int32(fd), f, ce)
		f.DecRef()
		if !more {
			return
		}
	}
}

// Count is how many descriptors are open; Size is how many the table has room for (FDSize of /proc/<pid>/status).
func (t *FDTable) Count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	for _, w := range t.open {
		n += bits.OnesCount64(w)
	}
	return n
}

// Size is how many descriptors the table has room for.
func (t *FDTable) Size() int { return len(*t.slots.Load()) }
