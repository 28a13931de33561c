package task

import (
	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/ipc"
)

// SemUndo is the list of semaphore operations that are taken back when the task ends, which is made at the first use.
func (t *Task) SemUndo() *ipc.Undo {
	if u := t.semUndo.Load(); u != nil {
		return u
	}
	t.semUndo.Store(ipc.NewUndo()) // only the task itself sets it while it runs
	return t.semUndo.Load()
}

// shareSemUndo gives a child the list if clone(2)'s flags say so.
func (t *Task) shareSemUndo(c *Task, fl uint64) {
	if fl&unix.CLONE_SYSVSEM != 0 {
		c.semUndo.Store(t.SemUndo().Get())
	}
}

// UnshareSemUndo is unshare(2) with CLONE_SYSVSEM.
func (t *Task) UnshareSemUndo() { t.dropSemUndo() }

// dropSemUndo takes the operations back, unless others share the list.
func (t *Task) dropSemUndo() {
	if u := t.semUndo.Swap(nil); u != nil {
		u.Put(t.PID())
	}
}
