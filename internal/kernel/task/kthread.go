package task

import (
	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/arch"
	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// noThread is the platform.Thread of a task that never runs guest code: the built-in init.
type noThread struct{ t *Task }

func (n noThread) Data() any                                             { return n.t }
func (n noThread) AddressSpace() platform.AddressSpace                   { return noMemory{} }
func (noThread) Held() bool                                              { return false }
func (noThread) OnTracer() bool                                          { return false }
func (noThread) Block()                                                  {}
func (noThread) Kick()                                                   {}
func (noThread) Kill()                                                   {}
func (noThread) HostTID() int                                            { return 0 }
func (noThread) Used() platform.Used                                     { return platform.Used{} }
func (noThread) Asleep() bool                                            { return true }
func (noThread) SetAffinity(uint64) error                                { return nil }
func (noThread) CPU() int                                                { return 0 }
func (noThread) Watch(platform.Watching)                                 {}
func (noThread) SetRlimit(int, uint64) error                             { return nil }
func (noThread) Regs() (*arch.Regs, error)                               { return nil, unix.ESRCH }
func (noThread) SetRegs(*arch.Regs) error                                { return unix.ESRCH }
func (noThread) FPState() ([]byte, error)                                { return nil, unix.ESRCH }
func (noThread) DebugReg(int) (uint64, error)                            { return 0, unix.ESRCH }
func (noThread) SetDebugReg(int, uint64) error                           { return unix.ESRCH }
func (noThread) SetFPState([]byte) error                                 { return unix.ESRCH }
func (noThread) Syscall(platform.Sysno, platform.Args) (uint64, error)   { return 0, unix.ESRCH }
func (noThread) Map([]platform.MapOp) error                              { return unix.ESRCH }
func (noThread) Clone(platform.CloneSpec) (platform.Thread, error)       { return nil, unix.EAGAIN }
func (noThread) CompareAndSwap32(uint64, uint32, uint32) (uint32, error) { return 0, unix.EFAULT }
func (noThread) Resume()                                                 {}
func (noThread) ResumeStep()                                             {}

// noMemory is its address space.
type noMemory struct{}

func (noMemory) ReadAt([]byte, uint64) (int, error)      { return 0, unix.EFAULT }
func (noMemory) WriteAt([]byte, uint64) (int, error)     { return 0, unix.EFAULT }
func (noMemory) ReadV([]byte, []uio.Range) (int, error)  { return 0, unix.EFAULT }
func (noMemory) WriteV([]byte, []uio.Range) (int, error) { return 0, unix.EFAULT }
func (noMemory) Residents() ([]platform.Resident, error) { return nil, nil }
func (noMemory) Mappings() ([]platform.Mapping, error)   { return nil, nil }
func (noMemory) Usage() (platform.Usage, error)          { return platform.Usage{}, nil }
func (noMemory) AnonPSS() (uint64, error)                { return 0, nil }
func (noMemory) CPUTime() int64                          { return 0 }

// NewKernelInit makes a first process that is the kernel's own: it runs no guest code and reaps every child at once.
func (k *Kernel) NewKernelInit(fs *vfs.FSContext, files *vfs.FDTable) (*Task, error) {
	t, err := k.newFirst(fs, files, true, func(t *Task) (platform.Thread, error) { return noThread{t}, nil })
	if err != nil {
		return nil, err
	}
	t.Group.actions().a[unix.SIGCHLD].Handler = arch.SIG_IGN
	t.sleeping.Store(true)
	return t, nil
}
