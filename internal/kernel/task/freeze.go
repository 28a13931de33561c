package task

import "time"

const (
	// freezePatience is how long threads may take to stop: one may wait for the host's disk.
	freezePatience = 5 * time.Second
	// settlePatience is how long busy handlers are waited for. One that waits for a lock of a sleeping one stays busy.
	settlePatience = time.Second
)

// Freeze keeps all threads from running guest code until Thaw. It waits until they have stopped, and for a while until the
// system calls that they are in have ended or sleep. It returns false if a thread does not stop; Thaw must be called all the
// same.
func (k *Kernel) Freeze() bool {
	k.Platform.Freeze()
	if !eventually(freezePatience, k.Platform.Frozen) {
		return false
	}
	eventually(settlePatience, func() bool { return !k.busy() })
	return true
}

// Thaw ends Freeze.
func (k *Kernel) Thaw() { k.Platform.Thaw() }

// busy reports whether a handler runs that does not sleep.
func (k *Kernel) busy() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, t := range k.pids {
		if t.where.Load() == inKernel && !t.sleeping.Load() {
			return true
		}
	}
	return false
}

// eventually polls cond until it holds or d has passed.
func eventually(d time.Duration, cond func() bool) bool {
	for end := time.Now().Add(d); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}
