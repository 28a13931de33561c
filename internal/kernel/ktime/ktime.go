// Package ktime reads the guest's clocks.
//
// The guest's CLOCK_MONOTONIC is the host's, so that the vDSO, native futex timeouts and the kernel agree; uptime and
// CLOCK_BOOTTIME count from the guest's boot. CLOCK_REALTIME is the host's.
package ktime

import (
	"time"
	_ "unsafe" // for go:linkname
)

//go:linkname nanotime runtime.nanotime
func nanotime() int64

var bootMono = nanotime()

// Monotonic is CLOCK_MONOTONIC in nanoseconds.
func Monotonic() int64 { return nanotime() }

// Realtime is CLOCK_REALTIME in nanoseconds since 1970.
func Realtime() int64 { return time.Now().UnixNano() }

// Now is CLOCK_REALTIME.
func Now() time.Time { return time.Now() }

// Uptime is the time since the guest booted.
func Uptime() time.Duration { return time.Duration(nanotime() - bootMono) }

// BootTime is CLOCK_REALTIME at boot, in seconds (btime of /proc/stat).
func BootTime() int64 { return (Realtime() - int64(Uptime())) / 1e9 }

// Forever is a deadline that never comes.
const Forever = int64(1<<63 - 1)

// After is the monotonic deadline that comes in d; it saturates at Forever.
func After(d time.Duration) int64 {
	n := nanotime()
	if int64(d) > Forever-n {
		return Forever
	}
	return n + int64(d)
}
