package host

import "golang.org/x/sys/unix"

// Suspended is for how many nanoseconds the host has slept since it booted: the difference of two of its clocks.
func Suspended() int64 {
	var boot, mono unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot) != nil || unix.ClockGettime(unix.CLOCK_MONOTONIC, &mono) != nil {
		return 0
	}
	// They are read one after the other; what is less than a second is that.
	if d := boot.Nano() - mono.Nano(); d > 1e9 {
		return d
	}
	return 0
}
