package procfs

import (
	"sync"
	"time"

	"github.com/user-mode-linux/linux/internal/kernel/fs/tmpfs"
	"github.com/user-mode-linux/linux/internal/kernel/ktime"
	"github.com/user-mode-linux/linux/internal/kernel/mm"
	"github.com/user-mode-linux/linux/internal/kernel/system"
	"github.com/user-mode-linux/linux/internal/kernel/task"
)

// memoryAge is how long figures are kept: asking the host about every process is not cheap.
const memoryAge = int64(200 * time.Millisecond)

// memoryCounter adds up the guest's memory from what the processes and tmpfs hold.
type memoryCounter struct {
	k    *task.Kernel
	mu   sync.Mutex
	at   int64
	last system.Memory
}

// now returns the figures. Pages that processes share after a fork are counted for each of them, so the sum may be more
// than the host really spends; free memory is cut at zero.
func (c *memoryCounter) now() system.Memory {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := ktime.Monotonic(); c.at == 0 || now-c.at > memoryAge {
		c.last, c.at = c.count(), now
	}
	return c.last
}

func (c *memoryCounter) count() system.Memory {
	m := system.Memory{Total: c.k.Memory, Shmem: tmpfs.Usage(), Limit: c.k.Memory}
	seen := map[*mm.MM]bool{}
	for _, g := range c.k.Groups() {
		l := g.Leader()
		if l == nil {
			continue
		}
		s := l.MM()
		if s == nil || seen[s] || !s.TryGet() {
			continue
		}
		seen[s] = true
		if u, err := s.AddressSpace().Usage(); err == nil {
			m.Anon += u.Anon
			m.Mapped += u.File
			m.Locked += u.Locked
			m.Committed += u.Data
		}
		s.Put()
	}
	m.Cached = m.Shmem
	used := m.Anon + m.Shmem
	m.Free = m.Total - min(used, m.Total)
	m.Available = m.Free
	m.Committed += m.Shmem
	return m
}
