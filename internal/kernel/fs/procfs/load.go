package procfs

import (
	"github.com/user-mode-linux/linux/internal/kernel/task"
)

// loadSampler counts active threads for the load average. A thread that waits in a call which the host carries out by
// itself (futex) looks as if it ran; it is told from one that does by its CPU time.
type loadSampler struct {
	k    *task.Kernel
	last map[*task.Task]int64
}

// active counts the threads that are ready to run and have used CPU time since the last count.
func (s *loadSampler) active() int {
	n, now := 0, make(map[*task.Task]int64, len(s.last))
	for _, g := range s.k.Groups() {
		for _, t := range g.Threads() {
			if t.State() != 'R' {
				continue
			}
			u, sys := t.CPUTimes()
			now[t] = u + sys
			if old, ok := s.last[t]; !ok || u+sys > old {
				n++
			}
		}
	}
	s.last = now
	return n
}
