package ipc

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
	"github.com/user-mode-linux/linux/internal/kernel/fs/tmpfs"
	"github.com/user-mode-linux/linux/internal/kernel/mm"
	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// Flags and mode bits of shared memory (linux/shm.h).
const (
	ShmRdonly  = 0o10000
	ShmRnd     = 0o20000
	ShmRemap   = 0o40000
	ShmExec    = 0o100000
	ShmHugetlb = 0o4000

	ShmDest   = 0o1000 // in the mode: removed with the last detach
	ShmLocked = 0o2000
)

// Segment is a segment of shared memory.
type Segment struct {
	header
	ns           *Namespace
	size         uint64
	file         *vfs.File // the tmpfs file; the reference is dropped when the segment is destroyed
	mapping      *segmentMapping
	maps         int // mmap calls whose mappings are not all gone
	atime, dtime int64
	cpid, lpid   int32
}

// ShmStat is what shmctl(2) IPC_STAT tells.
type ShmStat struct {
	Perm                Perm
	Size                uint64
	Atime, Dtime, Ctime int64
	CPID, LPID          int32
	Attached            uint64
	Resident            uint64 // pages; only Segments fills it
	Removed             bool   // counting the mappings has shown that the last one is gone
}

// segmentOps are the operations of a segment's open file as one attach has it.
type segmentOps struct {
	vfs.FileBase
	s     *Segment
	inner *vfs.File
}

// Mapping implements vfs.Mappable.
func (o *segmentOps) Mapping(c vfs.Caller, _ *vfs.File, shared, write bool) (vfs.Mapping, error) {
	m, err := o.inner.Ops.(vfs.Mappable).Mapping(c, o.inner, shared, write)
	if err != nil {
		return nil, err
	}
	o.s.mu.Lock()
	defer o.s.mu.Unlock()
	if o.s.mapping == nil {
		o.s.mapping = &segmentMapping{m, o.s}
	}
	return o.s.mapping, nil
}

// Release drops the attach's reference to the tmpfs file.
func (o *segmentOps) Release(*vfs.File) { o.inner.DecRef() }

// segmentMapping counts the mappings of a segment.
type segmentMapping struct {
	vfs.Mapping
	s *Segment
}

// Mapped implements vfs.Mapping.
func (m *segmentMapping) Mapped(delta int, write bool) {
	m.Mapping.Mapped(delta, write)
	m.s.mapped(delta)
}

// mapped counts mappings; the last one of a segment that is to be destroyed destroys it.
func (s *Segment) mapped(delta int) {
	s.mu.Lock()
	s.maps += delta
	if delta < 0 {
		s.dtime = now()
	}
	destroy := s.maps == 0 && (s.perm.Mode&ShmDest != 0 || s.ns.Limits.ShmRmidForced.Load() != 0)
	s.mu.Unlock()
	if destroy {
		s.destroyUnused()
	}
}

// destroyUnused destroys the segment unless it has been attached again.
func (s *Segment) destroyUnused() {
	t := &s.ns.shm
	t.mu.Lock()
	s.mu.Lock()
	gone := !s.removed && s.maps == 0
	if gone {
		t.removeLocked(s)
		s.ns.shmPages.n.Add(-int64(abi.PageUp(s.size) / abi.PageSize))
	}
	s.mu.Unlock()
	t.mu.Unlock()
	if gone {
		s.file.DecRef()
	}
}

// Shmget implements shmget(2).
func (ns *Namespace) Shmget(c vfs.Caller, key int32, size uint64, flags uint32) (int32, error) {
	return ns.shm.get(c.Cred(), key, flags, int(ns.Limits.ShmMni.Load()), func(s *Segment) error {
		if size > s.size {
			return unix.EINVAL
		}
		return nil
	}, func() (*Segment, error) {
		if size < ShmMin || size > ns.Limits.ShmMax.Load() || flags&ShmHugetlb != 0 {
			return nil, unix.EINVAL
		}
		pages := int64(abi.PageUp(size) / abi.PageSize)
		if pages <= 0 || !ns.shmPages.take(pages, ns.Limits.ShmAll.Load()) {
			return nil, unix.ENOSPC
		}
		f, err := tmpfs.NewShared(c, fmt.Sprintf("/SYSV%08x (deleted)", uint32(key)), int64(abi.PageUp(size)))
		if err != nil {
			ns.shmPages.n.Add(-pages)
			return nil, unix.ENOMEM
		}
		return &Segment{ns: ns, size: size, file: f, cpid: c.PID()}, nil
	})
}

// attach makes the open file that one attach maps.
func (s *Segment) attach(c vfs.Caller, flags uint32) (*vfs.File, error) {
	want, open := uint32(0o666), uint32(unix.O_RDWR)
	if flags&ShmRdonly != 0 {
		want, open = 0o444, unix.O_RDONLY
	}
	if flags&ShmExec != 0 {
		want |= 0o111
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.removed {
		return nil, unix.EIDRM
	}
	if err := s.perm.check(c.Cred(), want); err != nil {
		return nil, err
	}
	ops := &segmentOps{s: s, inner: s.file.IncRef()}
	return vfs.NewFile(s.file.Path.Get(), s.file.Inode, ops, open), nil
}

// Shmat implements shmat(2). The thread is held.
func (ns *Namespace) Shmat(t platform.Thread, c vfs.Caller, m *mm.MM, id int32, addr uint64, flags uint32) (uint64, error) {
	mapFlags := uint64(unix.MAP_SHARED)
	if addr != 0 {
		if addr%abi.PageSize != 0 {
			if flags&ShmRnd == 0 {
				return 0, unix.EINVAL
			}
			addr = abi.PageDown(addr)
			if addr == 0 && flags&ShmRemap != 0 {
				return 0, unix.EINVAL
			}
		}
		mapFlags |= unix.MAP_FIXED
		if flags&ShmRemap == 0 {
			mapFlags |= unix.MAP_FIXED_NOREPLACE
		}
	} else if flags&ShmRemap != 0 {
		return 0, unix.EINVAL
	}
	s, err := ns.shm.byID(id)
	if err != nil {
		return 0, err
	}
	f, err := s.attach(c, flags)
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	prot := uint64(unix.PROT_READ)
	if flags&ShmRdonly == 0 {
		prot |= unix.PROT_WRITE
	}
	if flags&ShmExec != 0 {
		prot |= unix.PROT_EXEC
	}
	at, err := m.Mmap(t, c, addr, abi.PageUp(s.size), prot, mapFlags, f, 0)
	if err != nil {
		if err == unix.EEXIST {
			err = unix.EINVAL
		}
		return 0, err
	}
	s.mu.Lock()
	s.atime, s.lpid = now(), c.PID()
	s.mu.Unlock()
	return at, nil
}

// Shmdt implements shmdt(2). The thread is held.
func (ns *Namespace) Shmdt(t platform.Thread, c vfs.Caller, m *mm.MM, addr uint64) error {
	x, err := m.UnmapFile(t, addr, func(x vfs.Mapping) bool { _, ok := x.(*segmentMapping); return ok })
	if err != nil {
		return err
	}
	s := x.(*segmentMapping).s
	s.mu.Lock()
	s.dtime, s.lpid = now(), c.PID()
	s.mu.Unlock()
	return nil
}

// ShmStat is IPC_STAT, SHM_STAT and SHM_STAT_ANY, as in MsgStat.
func (ns *Namespace) ShmStat(c vfs.Caller, h *mm.Host, id int32, byIndex, any bool) (st ShmStat, err error) {
	s, err := pick(&ns.shm, id, byIndex)
	if err != nil {
		return st, err
	}
	if !any {
		s.mu.Lock()
		err := s.perm.check(c.Cred(), wantRead)
		s.mu.Unlock()
		if err != nil {
			return st, err
		}
	}
	if st = s.stat(h); st.Removed {
		return st, unix.EINVAL
	}
	return st, nil
}

// stat counts the mappings first, which may find that some are gone.
func (s *Segment) stat(h *mm.Host) ShmStat {
	n := s.attached(h)
	s.mu.Lock()
	defer s.mu.Unlock()
	return ShmStat{Perm: s.perm, Size: s.size, Atime: s.atime, Dtime: s.dtime, Ctime: s.ctime, CPID: s.cpid, LPID: s.lpid,
		Attached: uint64(n), Removed: s.removed}
}

// attached is how often the segment is mapped.
func (s *Segment) attached(h *mm.Host) int {
	s.mu.Lock()
	m := s.mapping
	s.mu.Unlock()
	if m == nil {
		return 0
	}
	return h.CountMapped(m)
}

// ShmSet is IPC_SET.
func (ns *Namespace) ShmSet(c vfs.Caller, id int32, uid, gid, mode uint32) error {
	return ns.changeShm(c, id, func(s *Segment) error {
		err := s.perm.set(uid, gid, mode)
		if err == nil {
			s.ctime = now()
		}
		return err
	})
}

func (ns *Namespace) changeShm(c vfs.Caller, id int32, f func(s *Segment) error) error {
	s, err := ns.shm.byID(id)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.removed {
		return unix.EIDRM
	}
	if err := s.perm.checkOwner(c.Cred()); err != nil {
		return err
	}
	return f(s)
}

// ShmLock is SHM_LOCK and SHM_UNLOCK, which only mark the segment: guest memory is never swapped by the guest.
func (ns *Namespace) ShmLock(c vfs.Caller, id int32, on bool) error {
	s, err := ns.shm.byID(id)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if cr := c.Cred(); !cr.Capable(unix.CAP_IPC_LOCK) {
		if cr.EUID != s.perm.UID && cr.EUID != s.perm.CUID {
			return unix.EPERM
		}
		if on && c.Rlimit(unix.RLIMIT_MEMLOCK) == 0 {
			return unix.EPERM
		}
	}
	if on {
		s.perm.Mode |= ShmLocked
	} else {
		s.perm.Mode &^= ShmLocked
	}
	return nil
}

// ShmRemove is IPC_RMID: the segment goes at once if nobody has it mapped, else with the last mapping.
func (ns *Namespace) ShmRemove(c vfs.Caller, h *mm.Host, id int32) error {
	s, err := ns.shm.byID(id)
	if err != nil {
		return err
	}
	t := &ns.shm
	t.mu.Lock()
	s.mu.Lock()
	if s.removed {
		err = unix.EIDRM
	} else if err = s.perm.checkOwner(c.Cred()); err == nil {
		s.perm.Mode |= ShmDest
		t.hideLocked(s)
	}
	s.mu.Unlock()
	t.mu.Unlock()
	if err != nil {
		return err
	}
	s.attached(h) // finds mappings that went without a call
	s.destroyUnused()
	return nil
}

// ShmTotals are the numbers of segments, pages and resident pages, and the highest index (SHM_INFO).
func (ns *Namespace) ShmTotals() (segments int, pages, resident uint64, top int32) {
	all := ns.shm.all()
	for _, s := range all {
		resident += s.resident()
	}
	return len(all), uint64(ns.shmPages.n.Load()), resident, ns.shm.maxIndex()
}

// resident is how many pages the segment has.
func (s *Segment) resident() uint64 {
	a := s.file.Inode.Attr()
	return uint64(a.Blocks) * 512 / abi.PageSize
}
