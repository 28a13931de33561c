package kernel

import (
	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/cred"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// bootCaller is the vfs.Caller of the kernel itself before there is any task: root, without memory or limits. It never
// sleeps for anything that could need waking.
type bootCaller struct {
	fs   *vfs.FSContext
	cred *cred.Cred
}

func newBootCaller(ns *vfs.Namespace) *bootCaller {
	return &bootCaller{vfs.NewFSContext(ns), cred.Root()}
}

func (*bootCaller) Sleep(int64) error    { return unix.EINTR }
func (*bootCaller) Wake()                {}
func (c *bootCaller) Cred() *cred.Cred   { return c.cred }
func (*bootCaller) Mem() uio.Memory      { return nil }
func (c *bootCaller) FS() *vfs.FSContext { return c.fs }
func (*bootCaller) PID() int32           { return 0 }
func (*bootCaller) Rlimit(int) uint64    { return ^uint64(0) }
func (*bootCaller) Signal(unix.Signal)   {}
