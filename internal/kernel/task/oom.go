package task

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/klog"
	"github.com/user-mode-linux/linux/internal/kernel/mm"
)

// WatchMemory keeps the guest within its memory until the platform is closed: it polls the accountant and, when the limit
// is exceeded, kills the process that gives back most, as Linux's OOM killer does. It does not return.
func (k *Kernel) WatchMemory(a *mm.Accountant) {
	for {
		r := a.Poll()
		if r.Over > 0 {
			k.KillForMemory(a)
		}
		half := r.Next / 2
		if !k.Platform.Idle(half*time.Duration(k.Platform.NumCPU()), half, idlePoll) {
			time.Sleep(r.Next)
		}
	}
}

// idlePoll is how often memory is looked at while no program runs.
const idlePoll = 5 * time.Second

// oomReap is how long the killer waits for its victim to give its memory back before it looks for another.
const oomReap = 2 * time.Second

// KillForMemory kills the process that gives back most memory, and waits a while for its end.
func (k *Kernel) KillForMemory(a *mm.Accountant) {
	var groups []*ThreadGroup
	var cs []mm.Candidate
	for _, g := range k.Groups() {
		if t := g.liveThread(); t == nil || t.MM() == nil {
			continue
		}
		groups = append(groups, g)
		cs = append(cs, g.OOMCandidate())
	}
	i := mm.PickVictim(cs, a.Total())
	if i < 0 {
		k.Panic("System is deadlocked on memory")
		return
	}
	g := groups[i]
	l := g.Leader()
	klog.Warnf("%s invoked oom-killer: gfp_mask=0x0, order=0, oom_score_adj=%d", l.Comm(), g.OOMScoreAdj())
	klog.Infof("Mem-Info: total:%dkB used:%dkB", a.Total()/1024, a.Info().Used/1024)
	klog.Infof("oom-kill:constraint=CONSTRAINT_NONE,task=%s,pid=%d,uid=%d", l.Comm(), g.pid, l.Cred().UID)
	klog.Errf("Out of memory: Killed process %d (%s) total-vm:%dkB, anon-rss:%dkB, UID:%d oom_score_adj:%d",
		g.pid, l.Comm(), cs[i].RSS/1024, cs[i].RSS/1024, l.Cred().UID, g.OOMScoreAdj())
	g.exit(int32(unix.SIGKILL))
	for end := time.Now().Add(oomReap); !g.Dead() && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
}

// OOMCandidate is how the OOM killer sees the process.
func (g *ThreadGroup) OOMCandidate() mm.Candidate {
	c := mm.Candidate{Adj: int(g.OOMScoreAdj()), Immune: g.pid == 1}
	if t := g.liveThread(); t != nil {
		if u, err := t.Thread().AddressSpace().Usage(); err == nil {
			c.RSS = u.RSS + u.Swap
		}
	}
	return c
}
