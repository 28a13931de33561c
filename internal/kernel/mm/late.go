package mm

import (
	"maps"
	"slices"
	"sync"
)

// late is what goroutines do because those who had to do it must not sleep.
type late struct {
	mu sync.Mutex
	// +checklocks:mu
	begun map[chan struct{}]struct{} // closed when it is done
}

// run does f in a goroutine.
func (l *late) run(f func()) {
	done := make(chan struct{})
	l.mu.Lock()
	if l.begun == nil {
		l.begun = map[chan struct{}]struct{}{}
	}
	l.begun[done] = struct{}{}
	l.mu.Unlock()
	go func() {
		f()
		l.mu.Lock()
		delete(l.begun, done)
		l.mu.Unlock()
		close(done)
	}()
}

// wait returns when all that has begun by now is done.
func (l *late) wait() {
	l.mu.Lock()
	begun := slices.Collect(maps.Keys(l.begun))
	l.mu.Unlock()
	for _, done := range begun {
		<-done
	}
}
