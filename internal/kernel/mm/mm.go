package mm

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// ErrOffload says that the call has to run on a goroutine that may sleep, and has changed nothing: the handler returns
// platform.Offload. It only comes when Thread.OnTracer is true, and never reaches a program.
var ErrOffload = errors.New("mm: offload")

const (
	// lowest is the lowest address that the kernel itself chooses (vm.mmap_min_addr's usual value).
	lowest = 64 << 10
	// filesTop is the highest end of file mappings that the kernel places; it is lowered by up to filesRandom. The range
	// is one where sanitizers expect shared libraries, and where the host places mappings only when TiBs are in use.
	filesTop    = 0x7f00_0000_0000
	filesRandom = 1 << 38
	// pruneMin is how long the books grow before stale areas are looked for.
	pruneMin = 256
)

// Host is what all address spaces have in common: facts about the platform, and what mm needs of other parts.
type Host struct {
	// UserMax is the first address that a guest may not map.
	UserMax uint64
	VDSO    platform.VDSO
	// HostBrk: the host carries out brk(2) (platform.Platform.HostBrk).
	HostBrk bool
	// Empty is an empty host file for pages beyond the end of a file.
	Empty *platform.HostFile
	// NewShared makes an unlinked file of tmpfs with n bytes for a shared anonymous mapping, named "/dev/zero".
	NewShared func(c vfs.Caller, n uint64) (*vfs.File, error)
	// Acct counts memory; nil for none.
	Acct *Accountant

	late late // letting go of files
}

// Layout is where the parts of a program lie (prctl(2) PR_SET_MM). StartStack is the stack pointer that it started with.
type Layout struct {
	StartCode, EndCode, StartData, EndData, StartStack uint64
	ArgStart, ArgEnd, EnvStart, EnvEnd                 uint64
	// Auxv is the auxiliary vector as the program got it; not to be changed.
	Auxv []byte
}

// MM is an address space. Threads, and processes made by CLONE_VM, share it.
//
// It is a uio.Memory: copies go straight to the host process.
type MM struct {
	host *Host                 // immutable
	as   platform.AddressSpace // immutable
	refs atomic.Int32

	mu       sync.Mutex
	book     book
	pruneAt  int // length of the books at which stale areas are looked for
	filesTop uint64
	ops      []platform.MapOp // scratch
	startBrk uint64
	brk      uint64 // the heap's end, unless HostBrk
	locked   spans  // mlock(2); a superset, as unmapping is not always seen
	lockAll  int    // MCL_* of mlockall(2)
	layout   Layout
	exe      *vfs.File
}

// New makes the books of a new, empty address space, with one reference.
func New(h *Host, as platform.AddressSpace) *MM {
	m := &MM{host: h, as: as, pruneAt: pruneMin}
	m.filesTop = FileTop(h, true)
	m.refs.Store(1)
	h.Acct.add(m)
	return m
}

// Get takes a reference.
func (m *MM) Get() *MM { m.refs.Add(1); return m }

// TryGet takes a reference unless the last one is gone.
func (m *MM) TryGet() bool {
	for {
		n := m.refs.Load()
		if n == 0 {
			return false
		}
		if m.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// Refs is the number of references.
func (m *MM) Refs() int { return int(m.refs.Load()) }

// Put drops a reference. The last one forgets all files that are mapped, so it must only be dropped when the host
// processes of the address space are gone. It may sleep.
func (m *MM) Put() {
	if m.refs.Add(-1) == 0 {
		m.forget()
	}
}

// PutLater is Put for callers that may not sleep: what the last reference has to do is done by another goroutine, for which
// Host.Prune waits. But the program's file can be written at once: who waits for a program may replace it.
func (m *MM) PutLater() {
	if m.refs.Add(-1) > 0 {
		return
	}
	m.mu.Lock() // nobody else has it
	exe := m.exe
	m.exe = nil
	m.mu.Unlock()
	if exe != nil {
		vfs.AllowWrite(exe)
	}
	m.host.late.run(func() {
		m.forget()
		if exe != nil {
			exe.DecRef()
		}
	})
}

func (m *MM) forget() {
	m.host.Acct.remove(m)
	m.mu.Lock()
	m.book.cut(0, ^uint64(0))
	exe := m.exe
	m.exe = nil
	m.unlock()
	if exe != nil {
		vfs.AllowWrite(exe)
		exe.DecRef()
	}
}

// Fork copies the address space: clone makes the new host process, with the books locked. The exe file's write denial is
// shared by the copy. It returns the new MM and clone's thread.
func (m *MM) Fork(t platform.Thread, clone func() (platform.Thread, error)) (*MM, platform.Thread, error) {
	if err := m.lock(t); err != nil {
		return nil, nil, err
	}
	defer m.unlock()
	ct, err := clone()
	if err != nil {
		return nil, nil, err
	}
	c := &MM{host: m.host, as: ct.AddressSpace(), pruneAt: m.pruneAt, filesTop: m.filesTop, startBrk: m.startBrk, brk: m.brk,
		layout: m.layout}
	c.refs.Store(1)
	m.host.Acct.add(c)
	if len(m.book.areas) > 0 {
		c.book.set(append(make([]area, 0, len(m.book.areas)+8), m.book.areas...))
	}
	for _, a := range c.book.areas {
		a.b.refs.Add(1)
	}
	if m.exe != nil && vfs.DenyWrite(m.exe) == nil {
		c.exe = m.exe.IncRef()
	}
	return c, ct, nil
}

// lock takes the lock for a thread; on the tracer thread only if nobody has it.
func (m *MM) lock(t platform.Thread) error {
	if t.OnTracer() {
		if !m.mu.TryLock() {
			return ErrOffload
		}
		return nil
	}
	m.mu.Lock()
	return nil
}

// lockRange is lock for a call that concerns [start, end); files there are not for the tracer thread.
func (m *MM) lockRange(t platform.Thread, start, end uint64) error {
	if err := m.lock(t); err != nil {
		return err
	}
	if t.OnTracer() && m.book.overlaps(start, end) {
		m.mu.Unlock()
		return ErrOffload
	}
	return nil
}

// unlock releases the lock and drops the references to files that were forgotten under it.
func (m *MM) unlock() {
	dead := m.book.dead
	m.book.dead = nil
	m.mu.Unlock()
	for _, b := range dead {
		b.Put()
	}
}

// unlockReady is unlock on the tracer thread, which must not sleep.
func (m *MM) unlockReady() {
	dead := m.book.dead
	m.book.dead = nil
	m.mu.Unlock()
	dead = slices.DeleteFunc(dead, (*FileMap).putShared)
	if len(dead) > 0 {
		m.host.late.run(func() {
			for _, b := range dead {
				b.Put()
			}
		})
	}
}

// AddressSpace is the platform's.
func (m *MM) AddressSpace() platform.AddressSpace { return m.as }

// Host is what was given to New.
func (m *MM) Host() *Host { return m.host }

// Layout is where the parts of the program lie.
func (m *MM) Layout() Layout { m.mu.Lock(); defer m.mu.Unlock(); return m.layout }

// SetLayout changes it.
func (m *MM) SetLayout(l Layout) { m.mu.Lock(); m.layout = l; m.mu.Unlock() }

// Exe is the program's file with a reference, nil if there is none.
func (m *MM) Exe() *vfs.File {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.exe == nil {
		return nil
	}
	return m.exe.IncRef()
}

// SetExe makes f the program's file and takes a reference of its own. While it is set, the file cannot be opened for
// writing (ETXTBSY).
func (m *MM) SetExe(f *vfs.File) error {
	if err := vfs.DenyWrite(f); err != nil {
		return err
	}
	m.mu.Lock()
	old := m.exe
	m.exe = f.IncRef()
	m.mu.Unlock()
	if old != nil {
		vfs.AllowWrite(old)
		old.DecRef()
	}
	return nil
}

// visible cuts a copy of n bytes at addr to memory that belongs to the guest.
func (m *MM) visible(addr uint64, n int) int {
	if addr >= m.host.UserMax {
		return 0
	}
	return int(min(uint64(n), m.host.UserMax-addr))
}

// readVDSO copies from the vDSO, which is above the guest's memory.
func (m *MM) readVDSO(p []byte, addr uint64) (int, error) {
	v := &m.host.VDSO
	if addr < v.Addr || addr-v.Addr >= uint64(len(v.Image)) {
		return 0, unix.EFAULT
	}
	n := copy(p, v.Image[addr-v.Addr:])
	if n < len(p) {
		return n, unix.EFAULT
	}
	return n, nil
}

// ReadAt copies guest memory; see uio.Memory.
func (m *MM) ReadAt(p []byte, addr uint64) (int, error) {
	n := m.visible(addr, len(p))
	if n == len(p) {
		return m.as.ReadAt(p, addr)
	}
	if n == 0 {
		return m.readVDSO(p, addr)
	}
	if n > 0 {
		n, _ = m.as.ReadAt(p[:n], addr)
	}
	return n, unix.EFAULT
}

// WriteAt copies to guest memory; see uio.Memory.
func (m *MM) WriteAt(p []byte, addr uint64) (int, error) {
	n := m.visible(addr, len(p))
	if n == len(p) {
		return m.as.WriteAt(p, addr)
	}
	if n > 0 {
		n, _ = m.as.WriteAt(p[:n], addr)
	}
	return n, unix.EFAULT
}

// visibleV is how many bytes of p lie in ranges before the first that is not the guest's.
func (m *MM) visibleV(n int, r []uio.Range) int {
	sum := 0
	for _, x := range r {
		if sum >= n {
			break
		}
		k := int(min(x.Len, uint64(n-sum)))
		v := m.visible(x.Addr, k)
		sum += v
		if v < k {
			return sum
		}
	}
	return n
}

// ReadV copies guest memory; see uio.Memory.
func (m *MM) ReadV(p []byte, r []uio.Range) (int, error) {
	n := m.visibleV(len(p), r)
	if n == len(p) {
		return m.as.ReadV(p, r)
	}
	if n == 0 && len(r) == 1 {
		return m.readVDSO(p, r[0].Addr)
	}
	if n > 0 {
		n, _ = m.as.ReadV(p[:n], r)
	}
	return n, unix.EFAULT
}

// WriteV copies to guest memory; see uio.Memory.
func (m *MM) WriteV(p []byte, r []uio.Range) (int, error) {
	n := m.visibleV(len(p), r)
	if n == len(p) {
		return m.as.WriteV(p, r)
	}
	if n > 0 {
		n, _ = m.as.WriteV(p[:n], r)
	}
	return n, unix.EFAULT
}
