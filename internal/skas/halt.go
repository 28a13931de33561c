package skas

import (
	"time"
)

// haltPoll is how often Halt looks at the threads that it waits for. A stop takes some microseconds on the same CPU.
const haltPoll = 20 * time.Microsecond

// Halt implements platform.AddressSpace. A thread in a handler has not to be waited for: it is kicked, so it stops before it is
// back in guest code.
func (as *addressSpace) Halt() (running bool) {
	tids := as.others()
	for _, tid := range tids {
		if t := as.threads.get(tid); t != nil {
			t.Kick()
		}
	}
	for _, tid := range tids {
		for {
			t := as.threads.get(tid)
			if t == nil || t.as != as || !t.kickPending() {
				break
			}
			time.Sleep(haltPoll)
		}
	}
	for _, tid := range as.others() {
		if t := as.threads.get(tid); t != nil && t.runs() {
			return true
		}
	}
	return false
}

// kickPending reports whether t runs and has not stopped since it was kicked.
func (t *Thread) kickPending() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.state == running && !t.leaving && t.kicked
}

// runs reports whether t is in guest code, or in a call that the host carries out.
func (t *Thread) runs() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.state == running && !t.leaving
}
