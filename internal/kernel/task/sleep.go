package task

import (
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
	"github.com/user-mode-linux/linux/internal/kernel/ktime"
	"github.com/user-mode-linux/linux/internal/kernel/platform"
)

// sleeper is how a task sleeps. Only the task itself sleeps; anybody may wake it.
type sleeper struct {
	token    chan struct{} // capacity 1: a wake-up that has not been taken
	timer    *time.Timer   // owned by the task, made at the first timed sleep
	sleeping atomic.Bool
}

// Wake implements wait.Sleeper.
func (t *Task) Wake() {
	select {
	case t.token <- struct{}{}:
		platform.Wakes.Add(1)
	default:
	}
}

// Sleep implements wait.Sleeper.
func (t *Task) Sleep(deadline int64) error {
	if t.interrupted() {
		return abi.ERESTARTSYS
	}
	select {
	case <-t.token:
		return nil
	default:
	}
	var expired <-chan time.Time
	if deadline != ktime.Forever {
		d := deadline - ktime.Monotonic()
		if d <= 0 {
			return unix.ETIMEDOUT
		}
		if t.timer == nil {
			t.timer = time.NewTimer(time.Duration(d))
		} else {
			t.timer.Reset(time.Duration(d))
		}
		expired = t.timer.C
	}
	t.Thread().Block()
	t.sleeping.Store(true)
	defer t.sleeping.Store(false)
	if expired == nil {
		<-t.token
	} else {
		select {
		case <-t.token:
			t.timer.Stop()
		case <-expired:
			return unix.ETIMEDOUT
		}
	}
	if t.interrupted() {
		return abi.ERESTARTSYS
	}
	return nil
}

// interrupted reports whether there is work that ends a sleep. A signal for the process that woke the thread may have been
// taken by another thread meanwhile.
func (t *Task) interrupted() bool {
	w := t.work.Load()
	if w == workSignal {
		t.Group.sigMu.Lock()
		t.recalcLocked()
		t.Group.sigMu.Unlock()
		w = t.work.Load()
	}
	return w != 0
}
