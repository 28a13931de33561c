package cgroup

import (
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Process is what is in a group.
type Process interface {
	// PID is the process id.
	PID() int32
	// CPUTimes is its user and system time in nanoseconds, ended threads included.
	CPUTimes() (user, system int64)
	// UpdateFreeze makes what Seat.FreezeWanted says true, now or soon.
	UpdateFreeze()
	// Kill sends SIGKILL.
	Kill()
}

// Seat is a process's place in the tree.
type Seat struct {
	p  Process
	at atomic.Pointer[Group] // changed under Tree.mu

	freeze atomic.Bool // written under Tree.mu

	// Guarded by Tree.mu.
	tasks        int // threads that have not been reaped
	born, ended  bool
	frozen       bool
	user, system int64 // of the process before it came to this group
}

// Group is the group that the process is in, or was in when it ended.
func (s *Seat) Group() *Group { return s.at.Load() }

// FreezeWanted reports whether the process is to be frozen.
func (s *Seat) FreezeWanted() bool { return s.freeze.Load() }

// NewSeat takes a seat in g for a process with one thread; no limits count.
func (g *Group) NewSeat(p Process) *Seat {
	g.t.mu.Lock()
	defer g.t.mu.Unlock()
	g.addTasksLocked(1)
	s, _ := g.seatLocked(p)
	return s // the root, whose events nobody sees
}

// Fork takes a seat for a new process with one thread: in the group of s, or in into if that is not nil. EAGAIN if the pids
// controller does not allow it; ENODEV if into has been removed, EBUSY or EOPNOTSUPP if processes must not be in it.
func (s *Seat) Fork(p Process, into *Group) (*Seat, error) {
	t := s.Group().t
	t.mu.Lock()
	g := s.Group()
	var err error
	if into != nil {
		if g = into; g.removed {
			err = unix.ENODEV
		} else {
			err = g.mayHostLocked()
		}
	}
	var n notes
	if err == nil {
		n, err = g.chargeLocked()
	}
	var c *Seat
	if err == nil {
		c, n = g.seatLocked(p)
	}
	t.mu.Unlock()
	n.tell()
	return c, err
}

func (g *Group) seatLocked(p Process) (*Seat, notes) {
	s := &Seat{p: p, tasks: 1}
	s.at.Store(g)
	return s, s.sitLocked(g)
}

// sitLocked puts the seat into g.
func (s *Seat) sitLocked(g *Group) (n notes) {
	s.at.Store(g)
	g.seats[s] = struct{}{}
	s.freeze.Store(g.freezing > 0)
	for a := g; a != nil; a = a.parent {
		a.populated++
		if s.frozen {
			a.frozenSeats++
		}
		if a.populated == 1 {
			if a.parent != nil {
				a.parent.populatedKids++
			}
			n.add(a, "cgroup.events")
		}
	}
	return append(n, g.frozenChangedLocked()...)
}

// leaveLocked takes the seat out of the lists of g.
func (s *Seat) leaveLocked(g *Group) (n notes) {
	delete(g.seats, s)
	for a := g; a != nil; a = a.parent {
		a.populated--
		if s.frozen {
			a.frozenSeats--
		}
		if a.populated == 0 {
			if a.parent != nil {
				a.parent.populatedKids--
			}
			n.add(a, "cgroup.events")
		}
	}
	return append(n, g.frozenChangedLocked()...)
}

// Born says that the process can be seen by others from now on.
func (s *Seat) Born() {
	t := s.Group().t
	t.mu.Lock()
	s.born = true
	t.mu.Unlock()
}

// AddTask counts another thread: EAGAIN if the pids controller does not allow it.
func (s *Seat) AddTask() error {
	t := s.Group().t
	t.mu.Lock()
	n, err := s.Group().chargeLocked()
	if err == nil {
		s.tasks++
	}
	t.mu.Unlock()
	n.tell()
	return err
}

// Uncharge takes back what AddTask, Fork or NewSeat counted: the thread has been reaped, or was never born. If the process
// was not born either the seat is given up.
func (s *Seat) Uncharge() {
	t := s.Group().t
	t.mu.Lock()
	s.tasks--
	s.Group().addTasksLocked(-1)
	var n notes
	if s.tasks == 0 && !s.born {
		n = s.leaveLocked(s.Group())
	}
	t.mu.Unlock()
	n.tell()
}

// Exit says that the process has ended, having used so much CPU time. It returns what tells others, to be called when locks
// are released.
func (s *Seat) Exit(user, system int64) (tell func()) {
	t := s.Group().t
	t.mu.Lock()
	defer t.mu.Unlock()
	s.ended = true
	s.Group().addTimeLocked(user-s.user, system-s.system)
	n := s.leaveLocked(s.Group())
	return n.tell
}

func (g *Group) addTimeLocked(user, system int64) {
	for ; g != nil; g = g.parent {
		g.user += max(user, 0)
		g.system += max(system, 0)
	}
}

// SetFrozen says whether no thread of the process runs because of FreezeWanted. It returns what tells others.
func (s *Seat) SetFrozen(frozen bool) (tell func()) {
	t := s.Group().t
	t.mu.Lock()
	defer t.mu.Unlock()
	if s.frozen == frozen || s.ended {
		return func() {}
	}
	s.frozen = frozen
	d := 1
	if !frozen {
		d = -1
	}
	for a := s.Group(); a != nil; a = a.parent {
		a.frozenSeats += d
	}
	n := s.Group().frozenChangedLocked()
	return n.tell
}

// frozenChangedLocked brings what cgroup.events tells up to date for g and the groups above it.
func (g *Group) frozenChangedLocked() (n notes) {
	for ; g != nil; g = g.parent {
		if now := g.freezing > 0 && g.frozenSeats == g.populated; now != g.frozen {
			g.frozen = now
			n.add(g, "cgroup.events")
		}
	}
	return n
}

// Move moves the process of the seat to g: ESRCH if it has ended; ENODEV if g has been removed, EBUSY or EOPNOTSUPP if
// processes must not be in it. allowed is asked with the group that it comes from.
func (g *Group) Move(s *Seat, allowed func(from *Group) error) error {
	t := g.t
	t.opMu.Lock()
	defer t.opMu.Unlock()
	if err := allowed(s.Group()); err != nil {
		return err
	}
	user, system := s.p.CPUTimes()
	t.mu.Lock()
	n, err := g.moveLocked(s, user, system)
	t.mu.Unlock()
	n.tell()
	if err == nil {
		s.p.UpdateFreeze()
	}
	return err
}

func (g *Group) moveLocked(s *Seat, user, system int64) (notes, error) {
	from := s.Group()
	switch {
	case g.removed:
		return nil, unix.ENODEV
	case s.ended:
		return nil, unix.ESRCH
	case from == g:
		return nil, nil
	}
	if err := g.mayHostLocked(); err != nil {
		return nil, err
	}
	from.addTimeLocked(user-s.user, system-s.system)
	s.user, s.system = user, system
	g.addTasksLocked(s.tasks)
	from.addTasksLocked(-s.tasks)
	n := s.sitLocked(g) // before it leaves, so that groups above both stay populated
	return append(n, s.leaveLocked(from)...), nil
}

// Freeze sets cgroup.freeze.
func (g *Group) Freeze(on bool) {
	t := g.t
	t.opMu.Lock()
	defer t.opMu.Unlock()
	t.mu.Lock()
	var n notes
	var list []Process
	if g.freeze != on {
		g.freeze = on
		d := 1
		if !on {
			d = -1
		}
		for _, x := range g.subtreeLocked() {
			x.freezing += d
			for s := range x.seats {
				s.freeze.Store(x.freezing > 0)
				if s.born {
					list = append(list, s.p)
				}
			}
		}
		for _, x := range g.subtreeLocked() {
			n = append(n, x.frozenChangedLocked()...)
		}
	}
	t.mu.Unlock()
	n.tell()
	for _, p := range list {
		p.UpdateFreeze()
	}
}

// FreezeSet is what cgroup.freeze shows.
func (g *Group) FreezeSet() bool {
	g.t.mu.Lock()
	defer g.t.mu.Unlock()
	return g.freeze
}
