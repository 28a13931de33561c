package procfs

import (
	"github.com/user-mode-linux/linux/internal/kernel/cred"
	"github.com/user-mode-linux/linux/internal/kernel/mm"
	"github.com/user-mode-linux/linux/internal/kernel/task"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
	"golang.org/x/sys/unix"
)

// What this package needs of tasks, processes and the kernel, in one place.
type (
	taskView interface {
		TID() int32
		PID() int32
		Comm() string
		SetComm(string)
		State() byte
		StartTime() int64
		CPUTimes() (user, sys int64)
		Nice() int
		SigMasks() (pending, shared, blocked, ignored, caught uint64)
		Cred() *cred.Cred
		FS() *vfs.FSContext
		Files() *vfs.FDTable
		MM() *mm.MM
		LastSyscall() (nr int32, args [6]uint64, ok bool)
		CanPtrace(target *task.Task) error
		NoNewPrivs() bool
		SeccompMode() int
		SeccompFilters() int
		Personality() uint32
		Affinity() uint64
	}
	groupView interface {
		PID() int32
		PPID() int32
		PgrpID() int32
		SessionID() int32
		Leader() *task.Task
		Threads() []*task.Task
		TTYNr() uint64
		ForegroundPgrp() int32
		StartTime() int64
		Rlimit(resource int) unix.Rlimit
		Rusage() (self, children unix.Rusage)
		OOMScoreAdj() int32
		SetOOMScoreAdj(v int32)
	}
	kernelView interface {
		Groups() []*task.ThreadGroup
		FindTask(tid int32) *task.Task
		FindGroup(pid int32) *task.ThreadGroup
		Counts() (threads int, forks uint64)
		Running() int
		LastPID() int32
	}
)

var (
	_ taskView   = (*task.Task)(nil)
	_ groupView  = (*task.ThreadGroup)(nil)
	_ kernelView = (*task.Kernel)(nil)
)
