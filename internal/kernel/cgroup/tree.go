package cgroup

import (
	"maps"
	"math"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Max is the value of limits that are not set ("max").
const Max = math.MaxInt32

// Tree is the hierarchy.
type Tree struct {
	opMu sync.Mutex

	mu   sync.Mutex
	root *Group
}

// NewTree makes a hierarchy that has only a root.
func NewTree() *Tree {
	t := &Tree{}
	t.root = newGroup(t, nil, "")
	return t
}

// Root is the root group.
func (t *Tree) Root() *Group { return t.root }

// Count is the number of groups, the root included.
func (t *Tree) Count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.root.descendants + 1
}

// Group is a control group.
type Group struct {
	t      *Tree  // immutable
	parent *Group // immutable, nil for the root
	name   string // immutable

	// Changed, if not nil, is told of new contents of one of the group's files: "cgroup.events", "pids.events". It is set by
	// what prepares the group (Mkdir).
	Changed func(file string)

	// The rest is guarded by Tree.mu.
	kids                      map[string]*Group
	seats                     map[*Seat]struct{}
	removed                   bool
	descendants               int // groups below, at any depth
	maxDepth, maxDescendants  int
	enabled                   Controllers // for the children (cgroup.subtree_control)
	populated                 int         // processes that have not ended here and below
	populatedKids             int         // children with populated > 0
	freeze                    bool        // cgroup.freeze
	frozenSeats               int         // of populated, those that are frozen
	freezing                  int         // groups that are to be frozen from the root to here, this one included
	frozen                    bool        // as cgroup.events tells
	tasks, peak               int         // threads that have not been reaped, here and below
	pidsMax                   int
	limitHits, localLimitHits uint64
	user, system              int64 // nanoseconds of processes that have ended or moved away, here and below
}

func newGroup(t *Tree, parent *Group, name string) *Group {
	return &Group{
		t: t, parent: parent, name: name, kids: map[string]*Group{}, seats: map[*Seat]struct{}{},
		maxDepth: Max, maxDescendants: Max, pidsMax: Max,
	}
}

// Parent is the group above, nil for the root; Name is the last part of the path.
func (g *Group) Parent() *Group { return g.parent }

// Name is the last part of the group's path, "" for the root.
func (g *Group) Name() string { return g.name }

// Path is the path from the root, "/" for the root itself.
func (g *Group) Path() string {
	if g.parent == nil {
		return "/"
	}
	var names []string
	for ; g.parent != nil; g = g.parent {
		names = append(names, g.name)
	}
	slices.Reverse(names)
	return "/" + strings.Join(names, "/")
}

// Removed reports whether the group has been removed.
func (g *Group) Removed() bool {
	g.t.mu.Lock()
	defer g.t.mu.Unlock()
	return g.removed
}

// Mkdir makes a group: EEXIST, ENOENT if g has been removed, EAGAIN if a limit of g or above does not allow it. prepare is called
// before anybody else knows the group, under the lock that keeps others from changing the controllers that it has.
func (g *Group) Mkdir(name string, prepare func(n *Group, has Controllers)) (*Group, error) {
	if strings.Contains(name, "\n") {
		return nil, unix.EINVAL
	}
	t := g.t
	t.opMu.Lock()
	defer t.opMu.Unlock()
	if err := g.mayMkdir(name); err != nil {
		return nil, err
	}
	n := newGroup(t, g, name)
	prepare(n, g.Enabled())
	t.mu.Lock()
	defer t.mu.Unlock()
	for a := g; a != nil; a = a.parent {
		a.descendants++
	}
	g.kids[name] = n
	n.freezing = g.freezing
	n.frozen = n.freezing > 0
	return n, nil
}

// mayMkdir checks what Mkdir needs. All of it but the limits only changes under opMu, which is held.
func (g *Group) mayMkdir(name string) error {
	g.t.mu.Lock()
	defer g.t.mu.Unlock()
	switch {
	case g.removed:
		return unix.ENOENT
	case g.kids[name] != nil:
		return unix.EEXIST
	}
	for a, depth := g, 1; a != nil; a, depth = a.parent, depth+1 {
		if a.descendants >= a.maxDescendants || depth > a.maxDepth {
			return unix.EAGAIN
		}
	}
	return nil
}

// Rmdir removes the group: EBUSY if it has children or processes.
func (g *Group) Rmdir() error {
	t := g.t
	t.opMu.Lock()
	defer t.opMu.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case g.removed:
		return unix.ENODEV
	case g.parent == nil || len(g.kids) > 0 || g.populated > 0:
		return unix.EBUSY
	}
	g.removed = true
	delete(g.parent.kids, g.name)
	for a := g.parent; a != nil; a = a.parent {
		a.descendants--
	}
	return nil
}

// Processes are the processes in the group that have not ended, by id.
func (g *Group) Processes() []Process {
	g.t.mu.Lock()
	defer g.t.mu.Unlock()
	return sorted(g.seats)
}

func sorted(seats map[*Seat]struct{}) []Process {
	list := make([]Process, 0, len(seats))
	for s := range seats {
		if s.born {
			list = append(list, s.p)
		}
	}
	slices.SortFunc(list, func(a, b Process) int { return int(a.PID() - b.PID()) })
	return list
}

// subtree is the group and all below it.
func (g *Group) subtreeLocked() []*Group {
	all := []*Group{g}
	for i := 0; i < len(all); i++ {
		all = slices.AppendSeq(all, maps.Values(all[i].kids))
	}
	return all
}

// processesBelow are the processes of the group and all below it.
func (g *Group) processesBelow() (list []Process) {
	g.t.mu.Lock()
	defer g.t.mu.Unlock()
	for _, d := range g.subtreeLocked() {
		list = append(list, sorted(d.seats)...)
	}
	return list
}

// Events are the lines of cgroup.events.
func (g *Group) Events() (populated, frozen bool) {
	g.t.mu.Lock()
	defer g.t.mu.Unlock()
	return g.populated > 0, g.frozen
}

// Descendants is the number of groups below.
func (g *Group) Descendants() int {
	g.t.mu.Lock()
	defer g.t.mu.Unlock()
	return g.descendants
}

// Limits are cgroup.max.depth and cgroup.max.descendants.
func (g *Group) Limits() (depth, descendants int) {
	g.t.mu.Lock()
	defer g.t.mu.Unlock()
	return g.maxDepth, g.maxDescendants
}

// SetMaxDepth sets cgroup.max.depth; groups that are there already stay.
func (g *Group) SetMaxDepth(n int) { g.set(&g.maxDepth, n) }

// SetMaxDescendants sets cgroup.max.descendants, likewise.
func (g *Group) SetMaxDescendants(n int) { g.set(&g.maxDescendants, n) }

func (g *Group) set(at *int, n int) {
	g.t.mu.Lock()
	*at = n
	g.t.mu.Unlock()
}

// Kill sends SIGKILL to all processes of the group and below.
func (g *Group) Kill() {
	g.t.opMu.Lock()
	defer g.t.opMu.Unlock()
	for _, p := range g.processesBelow() {
		p.Kill()
	}
}

// CPUTime is the time that the processes of the group and below have used, in nanoseconds.
func (g *Group) CPUTime() (user, system int64) {
	type part struct {
		p            Process
		user, system int64
	}
	var parts []part
	g.t.mu.Lock()
	user, system = g.user, g.system
	for _, d := range g.subtreeLocked() {
		for s := range d.seats {
			if s.born {
				parts = append(parts, part{s.p, s.user, s.system})
			}
		}
	}
	g.t.mu.Unlock()
	for _, x := range parts {
		u, s := x.p.CPUTimes()
		user += max(u-x.user, 0)
		system += max(s-x.system, 0)
	}
	return user, system
}

// notes are news to tell when the locks are released.
type notes []note

type note struct {
	g    *Group
	file string
}

func (n *notes) add(g *Group, file string) {
	if g.Changed != nil {
		*n = append(*n, note{g, file})
	}
}

func (n notes) tell() {
	for _, x := range n {
		x.g.Changed(x.file)
	}
}
