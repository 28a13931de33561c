package system

import (
	"sync"
	"time"
)

// The load averages as Linux computes them: a sample of the number of active tasks every 5 seconds, averaged with
// exponential decay over 1, 5 and 15 minutes, in fixed point with 11 bits (linux/sched/loadavg.h).
const (
	loadShift    = 11
	loadOne      = 1 << loadShift
	loadInterval = 5 * time.Second
)

var loadDecay = [3]uint64{1884, 2014, 2037}

// Load is a set of load averages. The zero value is an idle system's.
type Load struct {
	mu  sync.Mutex
	avg [3]uint64
}

// Sample adds one sample.
func (l *Load) Sample(active int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := uint64(max(active, 0)) << loadShift
	for i, e := range loadDecay {
		n := l.avg[i]*e + a*(loadOne-e)
		if a >= l.avg[i] {
			n += loadOne - 1
		}
		l.avg[i] = n >> loadShift
	}
}

// Averages are the averages over 1, 5 and 15 minutes.
func (l *Load) Averages() (out [3]float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, v := range l.avg {
		out[i] = float64(v) / loadOne
	}
	return out
}

var load Load

// LoadAverages are the guest's load averages.
func LoadAverages() [3]float64 { return load.Averages() }

// StartLoad samples the number of active tasks from now on. It is called once, at boot.
func StartLoad(active func() int) (stop func()) {
	var (
		mu      sync.Mutex
		timer   *time.Timer
		stopped bool
	)
	mu.Lock()
	defer mu.Unlock()
	timer = time.AfterFunc(loadInterval, func() {
		load.Sample(active())
		mu.Lock()
		defer mu.Unlock()
		if !stopped {
			timer.Reset(loadInterval)
		}
	})
	return func() {
		mu.Lock()
		defer mu.Unlock()
		stopped = true
		timer.Stop()
	}
}
