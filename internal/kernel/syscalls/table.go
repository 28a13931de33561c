// Package syscalls is the border between guest programs and the kernel: the table of system calls and their handlers.
//
// A handler decodes its arguments, copies in, calls one method of a subsystem and copies out; policy lives below. The
// table is also the source of the seccomp filter's lanes and of the list in the documentation.
package syscalls

import (
	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/task"
)

// Handler implements one system call. Errors are bare unix.Errno; restart codes as in package abi.
type Handler func(t *task.Task, a *platform.Args) (uint64, error)

// Entry is one line of the table.
type Entry struct {
	Name string
	Fn   Handler
	Lane platform.Lane
	// Note says what is missing, "" for complete.
	Note string
}

// Table is indexed by system call number. Each area's file adds its calls with register.
var Table [512]Entry

// register adds calls to the table; it panics on a number given twice, which a test would find at once.
func register(m map[int]Entry) {
	for nr, e := range m {
		if Table[nr].Fn != nil {
			panic("syscall registered twice: " + e.Name)
		}
		Table[nr] = e
	}
}

// Name is the name of a call, "" if there is no call of that number.
func Name(nr platform.Sysno) string {
	if nr < 0 || int(nr) >= len(Table) {
		return ""
	}
	return Table[nr].Name
}

// NativeCalls are the numbers of the calls that the host may carry out by itself.
func NativeCalls() (list []int32) {
	for nr, e := range Table {
		if e.Lane == platform.Native || e.Lane == platform.NativeNotify {
			list = append(list, int32(nr))
		}
	}
	return append(list, unix.SYS_RESTART_SYSCALL)
}

// Lanes is the lane of every call for the platform's filter.
func Lanes() (l [512]platform.Lane) {
	for nr := range Table {
		l[nr] = Table[nr].Lane
	}
	return l
}
