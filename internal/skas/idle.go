package skas

import (
	"os"
	"os/signal"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// idle is who waits until programs have run for a while (Platform.Idle): an idle guest costs nothing. Each process
// gets a timer on its CPU clock.
type idle struct {
	once    sync.Once
	expired chan os.Signal
	newborn chan struct{}

	mu      sync.Mutex // guards the timers of processes
	waiting bool
	kernel  cpuTimer
	broken  bool // the host gives no timers
}

const (
	// idleMost is the greatest number of processes that timers are set for at each wait.
	idleMost = 32
	// idleLeast is the least share of the budget that a process gets: the host's timers are not finer.
	idleLeast = int64(time.Millisecond)
)

// born and died take note of processes.
func (i *idle) born() {
	i.mu.Lock()
	if i.waiting {
		i.waiting = false
		i.newborn <- struct{}{}
	}
	i.mu.Unlock()
}

func (i *idle) died(p *process) {
	i.mu.Lock()
	p.timer.remove()
	i.mu.Unlock()
}

// Idle implements platform.Platform. The budget is divided among the processes, as any of them may be who runs.
func (p *Platform) Idle(budget, after, most time.Duration) bool {
	i := &p.idle
	i.once.Do(func() {
		i.expired, i.newborn = make(chan os.Signal, 1), make(chan struct{}, 1)
		signal.Notify(i.expired, cpuSignal)
	})
	select { // of an earlier wait
	case <-i.expired:
	default:
	}
	if !p.arm(budget) {
		return false
	}
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case <-i.expired:
	case <-timer.C:
	case <-i.newborn:
		time.Sleep(after)
		return true
	}
	i.mu.Lock()
	if !i.waiting {
		<-i.newborn
	}
	i.waiting = false
	i.mu.Unlock()
	return true
}

// arm sets the timers.
func (p *Platform) arm(budget time.Duration) bool {
	i := &p.idle
	i.mu.Lock()
	defer i.mu.Unlock()
	var procs []*process
	for _, t := range p.threads.list() {
		if t.tid == t.proc.tgid {
			procs = append(procs, t.proc)
		}
	}
	if i.broken || len(procs) > idleMost {
		return false
	}
	share := max(int64(budget)/int64(len(procs)+1), idleLeast)
	err := i.kernel.set(unix.Getpid(), share)
	for k := 0; k < len(procs) && err == nil; k++ {
		q := procs[k]
		if err = q.timer.set(q.tgid, share); err == unix.EINVAL || err == unix.ESRCH {
			err = nil // it is about to be buried
		}
	}
	if err != nil {
		i.broken = true
		return false
	}
	i.waiting = true
	return true
}
