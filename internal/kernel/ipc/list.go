package ipc

import "github.com/user-mode-linux/linux/internal/kernel/mm"

// Queues, Sets and Segments list all objects by index, for /proc/sysvipc.
func (ns *Namespace) Queues() (l []MsgStat) {
	for _, q := range ns.msg.all() {
		q.mu.Lock()
		l = append(l, q.statLocked())
		q.mu.Unlock()
	}
	return l
}

// Sets lists the semaphore sets.
func (ns *Namespace) Sets() (l []SemStat) {
	for _, s := range ns.sem.all() {
		s.mu.Lock()
		l = append(l, s.statLocked())
		s.mu.Unlock()
	}
	return l
}

// Segments lists the segments; h has the address spaces.
func (ns *Namespace) Segments(h *mm.Host) (l []ShmStat) {
	for _, s := range ns.shm.all() {
		st := s.stat(h)
		if st.Removed {
			continue
		}
		st.Resident = s.resident()
		l = append(l, st)
	}
	return l
}
