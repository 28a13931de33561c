package cgroup

import (
	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/klog"
)

// hasLocked reports whether the group has a controller.
func (g *Group) hasLocked(c Controllers) bool { return g.parent != nil && g.parent.enabled&c != 0 }

func (g *Group) addTasksLocked(n int) {
	for ; g != nil; g = g.parent {
		g.tasks += n
		g.peak = max(g.peak, g.tasks)
	}
}

// chargeLocked counts one more task: EAGAIN, and the news, if a limit does not allow it.
func (g *Group) chargeLocked() (notes, error) {
	for a := g; a != nil; a = a.parent {
		if a.tasks < a.pidsMax || !a.hasLocked(Pids) {
			continue
		}
		if a.localLimitHits == 0 {
			klog.Infof("cgroup: fork rejected by pids controller in %s", g.Path())
		}
		a.localLimitHits++
		var n notes
		n.add(a, "pids.events.local")
		for ; a.parent != nil; a = a.parent {
			a.limitHits++
			n.add(a, "pids.events")
		}
		return n, unix.EAGAIN
	}
	g.addTasksLocked(1)
	return nil, nil
}

// PidsFigures are what the files pids.* show.
type PidsFigures struct {
	Current, Peak, Max int
	Hits, LocalHits    uint64 // of the limit: here and below, and of this group's own
}

// PidsFigures are the group's.
func (g *Group) PidsFigures() PidsFigures {
	g.t.mu.Lock()
	defer g.t.mu.Unlock()
	return PidsFigures{g.tasks, g.peak, g.pidsMax, g.limitHits, g.localLimitHits}
}

// SetPidsMax sets pids.max. Tasks that are there already stay.
func (g *Group) SetPidsMax(n int) { g.set(&g.pidsMax, n) }
