// Package kmem counts the memory that the kernel holds for guests outside of address spaces and file systems: buffers of
// pipes and sockets, messages, semaphores, descriptor tables, watches. A process may have very much of it with little memory
// of its own, so there is a limit for all of it together.
package kmem

import "sync/atomic"

var used, limit atomic.Int64

// SetLimit sets how many bytes there may be; 0 is no limit.
func SetLimit(n uint64) { limit.Store(int64(n)) }

// Limit is how many bytes there may be; 0 is no limit.
func Limit() int64 { return limit.Load() }

// Add counts n more bytes, or less if n is negative, whatever the limit.
func Add(n int) { used.Add(int64(n)) }

// Take counts n more bytes unless the limit has been reached; it reports whether it did.
func Take(n int) bool {
	if Full() {
		return false
	}
	Add(n)
	return true
}

// Bytes is what has been counted.
func Bytes() uint64 { return uint64(max(used.Load(), 0)) }

// Full reports whether the limit has been reached: what can be done without must not grow then.
func Full() bool {
	l := limit.Load()
	return l > 0 && used.Load() >= l
}
