// Package system has what is told about the guest as a whole: the names that uname(2) gives and figures about its memory,
// which proc and sysinfo(2) show. Others set them at boot or by system call.
//
// Lock order: its lock is a leaf.
package system

import (
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/wait"
)

// NameMax is the length of a host or domain name (__NEW_UTS_LEN).
const NameMax = 64

var names struct {
	sync.RWMutex
	host, domain string
}

func init() { names.host, names.domain = "(none)", "(none)" }

// Changed is notified when the host or domain name changes (poll on /proc/sys/kernel/hostname), and Changes counts how
// often they have.
var (
	Changed wait.Queue
	Changes atomic.Uint64
)

// Hostname is the name that sethostname(2) sets.
func Hostname() string { names.RLock(); defer names.RUnlock(); return names.host }

// Domainname is the name that setdomainname(2) sets.
func Domainname() string { names.RLock(); defer names.RUnlock(); return names.domain }

// SetHostname sets the host name; EINVAL if it is too long.
func SetHostname(s string) error { return set(&names.host, s) }

// SetDomainname sets the domain name.
func SetDomainname(s string) error { return set(&names.domain, s) }

func set(p *string, s string) error {
	if len(s) > NameMax {
		return unix.EINVAL
	}
	names.Lock()
	*p = s
	names.Unlock()
	Changes.Add(1)
	Changed.Notify(wait.Err | wait.Pri)
	return nil
}

// Memory are the guest's memory figures in bytes.
type Memory struct {
	Total     uint64 // mem=
	Free      uint64 // not used by anything
	Available uint64 // what programs can still get
	Buffers   uint64 // cached blocks of devices
	Cached    uint64 // cached file pages, with shared memory
	Shmem     uint64 // tmpfs, memfd, shared anonymous memory
	Anon      uint64 // private anonymous pages
	Mapped    uint64 // file pages that are mapped
	Slab      uint64 // the kernel's own caches
	Locked    uint64
	SwapTotal uint64
	SwapFree  uint64
	Committed uint64
	Limit     uint64 // commit limit
}

var memory atomic.Pointer[func() Memory]

// SetMemory sets where the figures come from.
func SetMemory(f func() Memory) { memory.Store(&f) }

// MemoryNow returns the figures as they are now.
func MemoryNow() Memory {
	if f := memory.Load(); f != nil {
		return (*f)()
	}
	return Memory{}
}
