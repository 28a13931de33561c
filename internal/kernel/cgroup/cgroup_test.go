package cgroup

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// proc is a process that freezes at once.
type proc struct {
	pid    int32
	seat   *Seat
	user   int64
	killed bool
}

func (p *proc) PID() int32                     { return p.pid }
func (p *proc) CPUTimes() (user, system int64) { return p.user, 0 }
func (p *proc) UpdateFreeze()                  { p.seat.SetFrozen(p.seat.FreezeWanted())() }
func (p *proc) Kill()                          { p.killed = true }

type world struct {
	*testing.T
	tree *Tree
	news []string
	last int32
}

func (w *world) mkdir(parent *Group, name string) *Group {
	w.Helper()
	g, err := parent.Mkdir(name, func(g *Group, _ Controllers) {
		g.Changed = func(f string) { w.news = append(w.news, g.Path()+"/"+f) }
	})
	if err != nil {
		w.Fatal(err)
	}
	return g
}

func (w *world) fork(parent *proc, into *Group) (*proc, error) {
	w.last++
	p := &proc{pid: w.last}
	s, err := parent.seat.Fork(p, into)
	if err != nil {
		return nil, err
	}
	p.seat = s
	s.Born()
	return p, nil
}

func (w *world) check(what string, got, want any) {
	w.Helper()
	if g, x := fmt.Sprint(got), fmt.Sprint(want); g != x {
		w.Errorf("%s: %s, want %s", what, g, x)
	}
}

func (w *world) heard(want ...string) {
	w.Helper()
	w.check("news", strings.Join(w.news, " "), strings.Join(want, " "))
	w.news = nil
}

func pair(a, b any) string { return fmt.Sprint(a, " ", b) }

func newWorld(t *testing.T) (*world, *proc) {
	w := &world{T: t, tree: NewTree(), last: 1}
	init := &proc{pid: 1}
	init.seat = w.tree.Root().NewSeat(init)
	init.seat.Born()
	return w, init
}

func allow(*Group) error { return nil }

func TestLife(t *testing.T) {
	w, init := newWorld(t)
	a := w.mkdir(w.tree.Root(), "a")
	b := w.mkdir(a, "b")
	w.check("path", b.Path(), "/a/b")
	p, _ := w.fork(init, nil)
	w.heard()
	w.check("move", b.Move(p.seat, allow), nil)
	w.heard("/a/b/cgroup.events", "/a/cgroup.events")
	c, err := w.fork(p, nil)
	w.check("fork", pair(c.seat.Group().Path(), err), "/a/b <nil>")
	w.heard()
	w.check("rmdir", pair(b.Rmdir(), a.Rmdir()), pair(unix.EBUSY, unix.EBUSY))
	w.check("sideways", a.Move(p.seat, allow), nil)
	w.heard() // both stay populated
	c.seat.Exit(0, 0)()
	w.heard("/a/b/cgroup.events")
	w.check("zombie", pair(len(b.Processes()), b.PidsFigures().Current), "0 1")
	w.check("moving a zombie", a.Move(c.seat, allow), unix.ESRCH)
	w.check("rmdir with a zombie", b.Rmdir(), nil)
	w.check("again", b.Rmdir(), unix.ENODEV)
	w.check("into nothing", b.Move(p.seat, allow), unix.ENODEV)
	w.check("tasks", a.PidsFigures().Current, 2)
	c.seat.Uncharge()
	w.check("tasks", a.PidsFigures().Current, 1)
	if _, err := w.fork(p, b); err != unix.ENODEV {
		t.Errorf("born into nothing: %v", err)
	}
	w.check("tasks", a.PidsFigures().Current, 1)
	// A child that is never born leaves no trace.
	s, _ := p.seat.Fork(&proc{}, nil)
	w.check("unborn", pair(len(a.Processes()), a.PidsFigures().Current), "1 2")
	s.Uncharge()
	p.seat.Exit(0, 0)()
	p.seat.Uncharge()
	w.heard("/a/cgroup.events")
	w.check("end", pair(a.PidsFigures().Current, a.Rmdir()), "0 <nil>")
	w.check("root", w.tree.Count(), 1)
}

func TestPids(t *testing.T) {
	w, init := newWorld(t)
	a := w.mkdir(w.tree.Root(), "a")
	b := w.mkdir(a, "b")
	a.SetPidsMax(1) // nothing without the controller
	none := func(*Group, Controllers) {}
	w.check("not available", a.Control("+pids", none), unix.ENOENT)
	w.check("unknown", w.tree.Root().Control("+pids +memory", none), unix.EINVAL)
	var told string
	w.check("control", w.tree.Root().Control("+pids", func(g *Group, has Controllers) { told += g.Path() + ":" + has.String() }), nil)
	w.check("told", told, "/a:pids")
	a.SetPidsMax(2)
	p, err := w.fork(init, b)
	w.check("first", err, nil)
	w.check("thread", p.seat.AddTask(), nil)
	w.news = nil
	w.check("thread", p.seat.AddTask(), unix.EAGAIN)
	w.heard("/a/pids.events.local", "/a/pids.events")
	_, err = w.fork(p, nil)
	w.check("fork", err, unix.EAGAIN)
	w.check("hits", pair(a.PidsFigures().Hits, b.PidsFigures().Hits), "2 0")
	// Moving is always allowed.
	w.news = nil
	c, _ := w.fork(init, nil)
	w.check("move", b.Move(c.seat, allow), nil)
	w.check("tasks", pair(a.PidsFigures().Current, a.PidsFigures().Peak), "3 3")
	w.check("disable", w.tree.Root().Control("-pids", none), nil)
	w.check("reset", a.PidsFigures().Max, Max)
	w.check("thread", p.seat.AddTask(), nil)
}

// TestDomains holds the rule that groups with controllers for their children have no processes of their own, and where
// threads would be an exception.
func TestDomains(t *testing.T) {
	w, init := newWorld(t)
	none := func(*Group, Controllers) {}
	root := w.tree.Root()
	a := w.mkdir(root, "a")
	b := w.mkdir(a, "b")
	root.Control("+pids", none)
	p, _ := w.fork(init, b)
	w.check("enable", a.Control("+pids", none), nil)
	w.check("busy", a.Move(init.seat, allow), unix.EBUSY)
	p.seat.Exit(0, 0)()
	w.check("as a thread root", a.Move(init.seat, allow), nil)
	w.check("types", pair(a.Type(), b.Type()), "domain threaded domain invalid")
	w.check("invalid", b.Move(init.seat, allow), unix.EOPNOTSUPP)
	w.check("disable", root.Control("-pids", none), unix.EBUSY)
}

func TestLimits(t *testing.T) {
	w, _ := newWorld(t)
	a := w.mkdir(w.tree.Root(), "a")
	a.SetMaxDepth(1)
	b := w.mkdir(a, "b")
	nothing := func(*Group, Controllers) {}
	_, err := b.Mkdir("c", nothing)
	w.check("depth", err, unix.EAGAIN)
	a.SetMaxDepth(Max)
	a.SetMaxDescendants(1)
	_, err = a.Mkdir("c", nothing)
	w.check("descendants", err, unix.EAGAIN)
	_, err = a.Mkdir("b", nothing)
	w.check("name", err, unix.EEXIST)
	a.SetMaxDescendants(Max)
	_, err = a.Mkdir("b", nothing)
	w.check("name", err, unix.EEXIST)
	_, err = a.Mkdir("x\ny", nothing)
	w.check("newline", err, unix.EINVAL)
	w.check("descendants", w.tree.Root().Descendants(), 2)
}

func TestFreeze(t *testing.T) {
	w, init := newWorld(t)
	a := w.mkdir(w.tree.Root(), "a")
	b := w.mkdir(a, "b")
	p, _ := w.fork(init, b)
	w.news = nil
	a.Freeze(true)
	w.heard("/a/b/cgroup.events", "/a/cgroup.events")
	c, _ := w.fork(p, nil)
	w.heard("/a/b/cgroup.events", "/a/cgroup.events") // until the new one is frozen, too
	c.UpdateFreeze()
	w.heard("/a/b/cgroup.events", "/a/cgroup.events")
	_, frozen := b.Events()
	w.check("state", pair(frozen, b.FreezeSet()), "true false")
	b.Freeze(true)
	a.Freeze(false)
	_, af := a.Events()
	_, bf := b.Events()
	w.check("state", pair(af, bf), "false true")
	w.check("move", w.tree.Root().Move(p.seat, allow), nil)
	w.check("thawed", p.seat.FreezeWanted(), false)
	w.check("still", c.seat.FreezeWanted(), true)
	a.Kill()
	w.check("killed", pair(p.killed, c.killed), "false true")
	w.news = nil
	c.seat.Exit(0, 0)()
	_, bf = b.Events()
	w.check("empty and frozen", bf, true)
}

func TestCPUTime(t *testing.T) {
	w, init := newWorld(t)
	a := w.mkdir(w.tree.Root(), "a")
	b := w.mkdir(a, "b")
	p, _ := w.fork(init, nil)
	p.user = 10
	a.Move(p.seat, allow)
	p.user = 15
	b.Move(p.seat, allow)
	p.user = 17
	times := func() string {
		x, _ := a.CPUTime()
		y, _ := b.CPUTime()
		z, _ := w.tree.Root().CPUTime()
		return fmt.Sprint(x, y, z)
	}
	w.check("alive", times(), "7 2 17")
	p.user = 20
	p.seat.Exit(20, 0)()
	w.check("ended", times(), "10 5 20")
}
