package poll

import (
	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/vfs"
	"github.com/user-mode-linux/linux/internal/kernel/wait"
)

// Item is one file to wait for.
type Item struct {
	// File is nil for an entry that is never ready.
	File *vfs.File
	// Mask is what to wait for; Err and Hup are added unless Exact is set (select).
	Mask  wait.Events
	Exact bool
	// Got is what holds.
	Got wait.Events

	entry wait.Entry
	q     *wait.Queue
}

// check asks all files and returns how many are ready.
func check(items []Item) (n int) {
	for i := range items {
		it := &items[i]
		if it.File == nil {
			continue
		}
		mask := it.Mask
		if !it.Exact {
			mask |= wait.Err | wait.Hup
		}
		if it.Got = it.File.Ops.Readiness(mask) & mask; it.Got != 0 {
			n++
		}
	}
	return n
}

// Wait waits until at least one of the items is ready and returns how many are: 0 after the deadline (0 does not wait),
// or what Sleep returned. Items must not move while it runs.
func Wait(s wait.Sleeper, items []Item, deadline int64) (int, error) {
	if n := check(items); n > 0 {
		return n, nil
	}
	if deadline == 0 {
		// A signal comes before the timeout: with the mask of ppoll one may wait to be handled.
		if err := s.Sleep(0); err != nil && err != unix.ETIMEDOUT {
			return 0, err
		}
		return 0, nil
	}
	for i := range items {
		it := &items[i]
		if it.File == nil {
			continue
		}
		if it.q = it.File.Ops.WaitQueue(); it.q != nil {
			it.entry = wait.Entry{Callback: wait.WakeCallback, Data: s}
			it.q.Register(&it.entry, it.Mask)
		}
	}
	defer func() {
		for i := range items {
			if q := items[i].q; q != nil {
				q.Unregister(&items[i].entry)
				items[i].q = nil
			}
		}
	}()
	for {
		if n := check(items); n > 0 {
			return n, nil
		}
		if err := s.Sleep(deadline); err != nil {
			n := check(items)
			if n > 0 || err == unix.ETIMEDOUT {
				return n, nil
			}
			return 0, err
		}
	}
}
