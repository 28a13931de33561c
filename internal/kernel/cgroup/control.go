package cgroup

import (
	"strings"

	"golang.org/x/sys/unix"
)

// Controllers is a set of controllers.
type Controllers uint8

// The controllers.
const (
	Pids Controllers = 1 << iota

	All = Pids
	// threaded are those that could tell threads of a process apart.
	threaded = Pids
)

var controllerNames = []struct {
	c    Controllers
	name string
}{{Pids, "pids"}}

// String is the names with blanks between.
func (c Controllers) String() string {
	var names []string
	for _, x := range controllerNames {
		if c&x.c != 0 {
			names = append(names, x.name)
		}
	}
	return strings.Join(names, " ")
}

// parseControllers reads what is written to cgroup.subtree_control: "+pids -pids". The last word about a controller counts.
func parseControllers(text string) (enable, disable Controllers, err error) {
words:
	for _, w := range strings.Split(text, " ") {
		if w == "" {
			continue
		}
		for _, x := range controllerNames {
			if w[1:] != x.name {
				continue
			}
			switch w[0] {
			case '+':
				enable, disable = enable|x.c, disable&^x.c
				continue words
			case '-':
				enable, disable = enable&^x.c, disable|x.c
				continue words
			}
			break
		}
		return 0, 0, unix.EINVAL
	}
	return enable, disable, nil
}

// Available is what the group's children can have (cgroup.controllers).
func (g *Group) Available() Controllers {
	g.t.mu.Lock()
	defer g.t.mu.Unlock()
	return g.availableLocked()
}

func (g *Group) availableLocked() Controllers {
	if g.parent == nil {
		return All
	}
	return g.parent.enabled
}

// Enabled is what the group's children have (cgroup.subtree_control).
func (g *Group) Enabled() Controllers {
	g.t.mu.Lock()
	defer g.t.mu.Unlock()
	return g.enabled
}

// Control does what is written to cgroup.subtree_control. changed is called, still under the lock that keeps others from doing
// the same, for every child that has other controllers now.
func (g *Group) Control(text string, changed func(child *Group, has Controllers)) error {
	enable, disable, err := parseControllers(strings.TrimSpace(text))
	if err != nil {
		return err
	}
	t := g.t
	t.opMu.Lock()
	defer t.opMu.Unlock()
	t.mu.Lock()
	enable &^= g.enabled
	disable &= g.enabled
	err = g.mayControlLocked(enable, disable)
	var kids []*Group
	if err == nil && enable|disable != 0 {
		g.enabled = g.enabled&^disable | enable
		for _, k := range g.kids {
			kids = append(kids, k)
			if disable&Pids != 0 {
				k.pidsMax, k.peak, k.limitHits, k.localLimitHits = Max, 0, 0, 0
			}
			if enable&Pids != 0 {
				k.peak = k.tasks
			}
		}
	}
	has := g.enabled
	t.mu.Unlock()
	for _, k := range kids {
		changed(k, has)
	}
	return err
}

func (g *Group) mayControlLocked(enable, disable Controllers) error {
	switch {
	case g.removed:
		return unix.ENODEV
	case enable&^g.availableLocked() != 0:
		return unix.ENOENT
	}
	for _, k := range g.kids {
		if k.enabled&disable != 0 {
			return unix.EBUSY
		}
	}
	switch {
	case enable == 0 || g.parent == nil:
		return nil
	case enable&^threaded != 0 && g.threadRootLocked():
		return unix.EOPNOTSUPP
	case enable&^threaded == 0 && g.mayBeThreadRootLocked():
		return nil
	case len(g.seats) > 0:
		return unix.EBUSY // children must not compete with processes of the group itself
	}
	return nil
}

// mayBeThreadRootLocked reports whether threads of the group's processes could be told apart below it: then it may
// have both processes and controllers.
func (g *Group) mayBeThreadRootLocked() bool {
	return g.parent == nil || g.populatedKids == 0 && g.enabled&^threaded == 0
}

// threadRootLocked reports whether it is so already: "domain threaded".
func (g *Group) threadRootLocked() bool { return len(g.seats) > 0 && g.enabled&threaded != 0 }

// validLocked reports whether the group may have processes; it may not below a group that has some of its own to share with.
func (g *Group) validLocked() bool {
	for a := g.parent; a != nil; a = a.parent {
		if a.parent != nil && a.threadRootLocked() {
			return false
		}
	}
	return true
}

// mayHostLocked reports whether processes may come to the group.
func (g *Group) mayHostLocked() error {
	switch {
	case !g.validLocked():
		return unix.EOPNOTSUPP
	case !g.mayBeThreadRootLocked() && g.enabled != 0:
		return unix.EBUSY
	}
	return nil
}

// Type is what cgroup.type shows.
func (g *Group) Type() string {
	g.t.mu.Lock()
	defer g.t.mu.Unlock()
	switch {
	case !g.validLocked():
		return "domain invalid"
	case g.threadRootLocked():
		return "domain threaded"
	}
	return "domain"
}
