package ipc

import (
	"slices"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/kmem"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
	"github.com/user-mode-linux/linux/internal/kernel/wait"
)

// SemUndo is the flag SEM_UNDO of an operation.
const SemUndo = 0x1000

// SemOp is one operation of semop(2) (struct sembuf).
type SemOp struct {
	Num   uint16
	Op    int16
	Flags int16
}

// semaphore is one semaphore of a set.
type semaphore struct {
	val int32
	pid int32
}

// semSize and adjSize are how many bytes a semaphore takes, and what is taken back of it at the end of a process.
const (
	semSize = 8
	adjSize = 4
)

// Set is a set of semaphores.
type Set struct {
	header
	ns      *Namespace
	sems    []semaphore
	otime   int64
	pending []*pendingOps // in the order in which they came
	undos   []*undoEntry  // of the processes that have something to take back here
}

// pendingOps are operations of one call that could not be done. Guarded by Set.mu.
type pendingOps struct {
	ops   []SemOp
	pid   int32
	undo  *Undo
	q     wait.Queue
	done  bool
	err   error
	block int // index of the operation that cannot be done
	alter bool
}

// SemStat is what semctl(2) IPC_STAT tells.
type SemStat struct {
	Perm         Perm
	Otime, Ctime int64
	NSems        uint64
}

// Semget implements semget(2).
func (ns *Namespace) Semget(c vfs.Caller, key, n int32, flags uint32) (int32, error) {
	if n < 0 || int64(n) > ns.Limits.SemMsl.Load() {
		return 0, unix.EINVAL
	}
	return ns.sem.get(c.Cred(), key, flags, int(ns.Limits.SemMni.Load()), func(s *Set) error {
		if int(n) > len(s.sems) {
			return unix.EINVAL
		}
		return nil
	}, func() (*Set, error) {
		if n == 0 {
			return nil, unix.EINVAL
		}
		if !ns.semCount.take(int64(n), uint64(max(ns.Limits.SemMns.Load(), 0))) {
			return nil, unix.ENOSPC
		}
		if !kmem.Take(semSize * int(n)) {
			ns.semCount.n.Add(-int64(n))
			return nil, unix.ENOMEM
		}
		return &Set{ns: ns, sems: make([]semaphore, n)}, nil
	})
}

// tryLocked does all operations or none. It returns the index of one that must wait, or -1; the error is ERANGE.
func (s *Set) tryLocked(ops []SemOp, pid int32, u *Undo) (block int, err error) {
	var e *undoEntry
	if u != nil {
		if e = u.entry(s); e == nil {
			return -1, unix.ENOMEM
		}
	}
	done := 0
	defer func() {
		if block < 0 && err == nil {
			return
		}
		for _, o := range slices.Backward(ops[:done]) {
			s.sems[o.Num].val -= int32(o.Op)
			if o.Flags&SemUndo != 0 && e != nil {
				e.adj[o.Num] += int32(o.Op)
			}
		}
	}()
	for i, o := range ops {
		sem := &s.sems[o.Num]
		v := sem.val + int32(o.Op)
		switch {
		case o.Op == 0 && sem.val != 0, v < 0:
			return i, nil
		case v > SemVMX:
			return -1, unix.ERANGE
		}
		if o.Flags&SemUndo != 0 && e != nil {
			a := e.adj[o.Num] - int32(o.Op)
			if a < -SemAEM-1 || a > SemAEM {
				return -1, unix.ERANGE
			}
			e.adj[o.Num] = a
		}
		sem.val = v
		done++
	}
	for _, o := range ops {
		s.sems[o.Num].pid = pid
	}
	s.otime = now()
	return -1, nil
}

// changedLocked carries out what can be done now, in order, until nothing can.
func (s *Set) changedLocked() {
	for again := true; again; {
		again = false
		for _, p := range s.pending {
			block, err := s.tryLocked(p.ops, p.pid, p.undo)
			if block >= 0 {
				p.block = block
				continue
			}
			again = again || err == nil && p.alter
			s.finishLocked(p, err)
			if again {
				break
			}
		}
	}
}

// finishLocked ends the wait of p.
func (s *Set) finishLocked(p *pendingOps, err error) {
	p.done, p.err = true, err
	s.dropLocked(p)
	p.q.Notify(wait.In)
}

func (s *Set) dropLocked(p *pendingOps) {
	if i := slices.Index(s.pending, p); i >= 0 {
		// A copy, since a caller may range over the old list.
		s.pending = append(s.pending[:i:i], s.pending[i+1:]...)
	}
}

// MaxSemOps is the most operations of one call (SEMOPM).
func (ns *Namespace) MaxSemOps() int64 { return ns.Limits.SemOpm.Load() }

// Semop implements semtimedop(2). undo gives the list of the calling process; deadline is monotonic. The operations become
// the set's.
func (ns *Namespace) Semop(c vfs.Caller, id int32, ops []SemOp, deadline int64, undo func() *Undo) error {
	s, err := ns.sem.byID(id)
	if err != nil {
		return err
	}
	p := &pendingOps{ops: ops, pid: c.PID()}
	undos := false
	for _, o := range ops {
		p.alter = p.alter || o.Op != 0
		undos = undos || o.Flags&SemUndo != 0 && o.Op != 0
	}
	if undos {
		p.undo = undo()
	}
	s.mu.Lock()
	if err := s.startLocked(c, p); err != nil || p.done {
		s.mu.Unlock()
		return err
	}
	s.mu.Unlock()

	err = p.q.Wait(c, wait.In, deadline, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return p.done
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case p.done:
		return p.err
	case err == unix.ETIMEDOUT:
		err = unix.EAGAIN
	default:
		err = unix.EINTR
	}
	s.dropLocked(p)
	return err
}

// startLocked does p, or puts it into the list.
func (s *Set) startLocked(c vfs.Caller, p *pendingOps) error {
	if s.removed {
		return unix.EIDRM
	}
	for _, o := range p.ops {
		if int(o.Num) >= len(s.sems) {
			return unix.EFBIG
		}
	}
	want := uint32(wantRead)
	if p.alter {
		want = wantWrite
	}
	if err := s.perm.check(c.Cred(), want); err != nil {
		return err
	}
	block, err := s.tryLocked(p.ops, p.pid, p.undo)
	switch {
	case err != nil:
		return err
	case block < 0:
		p.done = true
		if p.alter {
			s.changedLocked()
		}
		return nil
	case p.ops[block].Flags&Nowait != 0:
		return unix.EAGAIN
	}
	p.block = block
	s.pending = append(s.pending, p)
	return nil
}

// withSet runs f on a set with its lock, if c may do what want says.
func (ns *Namespace) withSet(c vfs.Caller, id int32, want uint32, f func(s *Set) error) error {
	s, err := ns.sem.byID(id)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.removed {
		return unix.EIDRM
	}
	if err := s.perm.check(c.Cred(), want); err != nil {
		return err
	}
	return f(s)
}

// withSem is withSet for one semaphore.
func (ns *Namespace) withSem(c vfs.Caller, id, num int32, want uint32, f func(s *Set, i int) error) error {
	return ns.withSet(c, id, want, func(s *Set) error {
		if num < 0 || int(num) >= len(s.sems) {
			return unix.EINVAL
		}
		return f(s, int(num))
	})
}

// SemVal and SemPID are GETVAL and GETPID.
func (ns *Namespace) SemVal(c vfs.Caller, id, num int32) (v int32, err error) {
	err = ns.withSem(c, id, num, wantRead, func(s *Set, i int) error { v = s.sems[i].val; return nil })
	return v, err
}

// SemPID is GETPID: who changed the semaphore last.
func (ns *Namespace) SemPID(c vfs.Caller, id, num int32) (v int32, err error) {
	err = ns.withSem(c, id, num, wantRead, func(s *Set, i int) error { v = s.sems[i].pid; return nil })
	return v, err
}

// SemWaiters is GETNCNT or, with zero, GETZCNT: how many wait for the semaphore to grow, or to become zero.
func (ns *Namespace) SemWaiters(c vfs.Caller, id, num int32, zero bool) (n int32, err error) {
	err = ns.withSem(c, id, num, wantRead, func(s *Set, i int) error {
		for _, p := range s.pending {
			if o := p.ops[p.block]; int(o.Num) == i && (o.Op == 0) == zero {
				n++
			}
		}
		return nil
	})
	return n, err
}

// SemValues is GETALL.
func (ns *Namespace) SemValues(c vfs.Caller, id int32) (v []uint16, err error) {
	err = ns.withSet(c, id, wantRead, func(s *Set) error {
		v = make([]uint16, len(s.sems))
		for i := range s.sems {
			v[i] = uint16(s.sems[i].val)
		}
		return nil
	})
	return v, err
}

// SemSetVal is SETVAL.
func (ns *Namespace) SemSetVal(c vfs.Caller, id, num, v int32) error {
	if v < 0 || v > SemVMX {
		return unix.ERANGE
	}
	return ns.withSem(c, id, num, wantWrite, func(s *Set, i int) error {
		s.setLocked(c, i, v)
		s.ctime = now()
		s.changedLocked()
		return nil
	})
}

func (s *Set) setLocked(c vfs.Caller, i int, v int32) {
	s.sems[i] = semaphore{val: v, pid: c.PID()}
	for _, e := range s.undos {
		e.adj[i] = 0
	}
}

// SemSetValues is SETALL; read gets the values once their number is known.
func (ns *Namespace) SemSetValues(c vfs.Caller, id int32, read func(n int) ([]uint16, error)) error {
	var n int
	if err := ns.withSet(c, id, wantWrite, func(s *Set) error { n = len(s.sems); return nil }); err != nil {
		return err
	}
	v, err := read(n)
	if err != nil {
		return err
	}
	for _, x := range v {
		if x > SemVMX {
			return unix.ERANGE
		}
	}
	return ns.withSet(c, id, wantWrite, func(s *Set) error {
		for i, x := range v {
			s.setLocked(c, i, int32(x))
		}
		s.ctime = now()
		s.changedLocked()
		return nil
	})
}

// SemStat is IPC_STAT, SEM_STAT and SEM_STAT_ANY, as in MsgStat.
func (ns *Namespace) SemStat(c vfs.Caller, id int32, byIndex, any bool) (st SemStat, err error) {
	s, err := pick(&ns.sem, id, byIndex)
	if err != nil {
		return st, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !any {
		if err := s.perm.check(c.Cred(), wantRead); err != nil {
			return st, err
		}
	}
	return s.statLocked(), nil
}

func (s *Set) statLocked() SemStat {
	return SemStat{Perm: s.perm, Otime: s.otime, Ctime: s.ctime, NSems: uint64(len(s.sems))}
}

// SemSet is IPC_SET.
func (ns *Namespace) SemSet(c vfs.Caller, id int32, uid, gid, mode uint32) error {
	s, err := ns.sem.byID(id)
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
	if err := s.perm.set(uid, gid, mode); err != nil {
		return err
	}
	s.ctime = now()
	return nil
}

// SemRemove is IPC_RMID.
func (ns *Namespace) SemRemove(c vfs.Caller, id int32) error {
	s, err := ns.sem.byID(id)
	if err != nil {
		return err
	}
	if err := ns.sem.remove(c, s); err != nil {
		return err
	}
	ns.semCount.n.Add(-int64(len(s.sems)))
	kmem.Add(-semSize * len(s.sems))
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.pending {
		p.done, p.err = true, unix.EIDRM
		p.q.Notify(wait.In)
	}
	s.pending = nil
	for _, e := range s.undos {
		e.owner.forget(e)
	}
	s.undos = nil
	return nil
}

// SemTotals are the numbers of sets and semaphores, and the highest index (SEM_INFO).
func (ns *Namespace) SemTotals() (sets, sems int, top int32) {
	return len(ns.sem.all()), int(ns.semCount.n.Load()), ns.sem.maxIndex()
}
