// Package abi is the guest's binary interface: numbers, flags and layouts that golang.org/x/sys/unix does not have, with
// no logic. The guest's ABI is the host's (x86-64 Linux), so constants and structs that x/sys/unix has are used from there.
package abi

import (
	"time"

	"golang.org/x/sys/unix"
)

// PageSize is the guest's page size in bytes.
const PageSize = 4096

// PageDown rounds a down, PageUp rounds it up to a page; PageUp of the last page wraps to 0.
func PageDown(a uint64) uint64 { return a &^ (PageSize - 1) }

// PageUp rounds a up to a page border; it wraps to 0 in the last page.
func PageUp(a uint64) uint64 { return (a + PageSize - 1) &^ (PageSize - 1) }

// Timespec makes a unix.Timespec of a time.
func Timespec(t time.Time) unix.Timespec {
	return unix.Timespec{Sec: t.Unix(), Nsec: int64(t.Nanosecond())}
}

// NsecToTimespec makes a unix.Timespec of nanoseconds.
func NsecToTimespec(ns int64) unix.Timespec {
	s, n := ns/1e9, ns%1e9
	if n < 0 {
		s, n = s-1, n+1e9
	}
	return unix.Timespec{Sec: s, Nsec: n}
}
