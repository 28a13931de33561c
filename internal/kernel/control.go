package kernel

import (
	"fmt"
	"io"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/cred"
	"github.com/user-mode-linux/linux/internal/kernel/klog"
	"github.com/user-mode-linux/linux/internal/kernel/kmem"
	"github.com/user-mode-linux/linux/internal/kernel/syscalls"
	"github.com/user-mode-linux/linux/internal/kernel/task"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// What the management console does to a guest from outside.

// OpenProc opens a file of /proc by its name there, whether or not the guest has /proc mounted. Reads never wait: what
// would have to gives EINTR.
func (k *Kernel) OpenProc(name string) (io.ReadCloser, error) {
	f, err := k.openProc(name, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (k *Kernel) openProc(name string, flags uint32) (*kernelFile, error) {
	k.procOnce.Do(func() {
		if sb, err := vfs.FindFilesystem("proc").Mount(&bootCaller{cred: cred.Root()}, "proc", 0, ""); err == nil {
			k.proc = newBootCaller(vfs.NewNamespace(sb, "proc", 0))
		}
	})
	if k.proc == nil {
		return nil, unix.ENOENT
	}
	f, err := vfs.Open(k.proc, nil, "/"+name, vfs.OpenHow{Flags: flags | unix.O_NONBLOCK})
	if err != nil {
		return nil, err
	}
	if f.Type() != unix.S_IFREG {
		f.DecRef()
		return nil, unix.EINVAL
	}
	return &kernelFile{k.proc, f}, nil
}

// setSysctl writes a file below /proc/sys.
func (k *Kernel) setSysctl(name, value string) error {
	f, err := k.openProc("sys/"+strings.ReplaceAll(name, ".", "/"), unix.O_WRONLY)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = vfs.Write(f.c, f.f, uio.FromBytes([]byte(value+"\n")))
	return err
}

// kernelFile is an open file of the kernel's own.
type kernelFile struct {
	c *bootCaller
	f *vfs.File
}

func (k *kernelFile) Read(p []byte) (int, error) {
	n, err := vfs.Read(k.c, k.f, uio.ToBytes(p))
	if n == 0 && err == nil && len(p) > 0 {
		err = io.EOF
	}
	return n, err
}

func (k *kernelFile) Close() error {
	k.f.DecRef()
	return nil
}

// SetMemory changes the size of the guest's memory. It cannot be less than what is in use: ENOMEM.
func (k *Kernel) SetMemory(n uint64) error {
	a := k.Tasks.MM.Acct
	if n < a.Total() && n < a.Info().Used+minFree {
		return unix.ENOMEM
	}
	a.SetTotal(n)
	kmem.SetLimit(n / 4)
	klog.Infof("Memory: %dK available", n/1024)
	return nil
}

// minFree is what must be left of memory when it is made smaller: less, and the OOM killer would strike at once.
const minFree = 4 << 20

// Memory is the size of the guest's memory.
func (k *Kernel) Memory() uint64 { return k.Tasks.MM.Acct.Total() }

// Stack writes what the threads of a process, or the one thread with that id, are doing. ESRCH: there is none.
func (k *Kernel) Stack(pid int32, w io.Writer) error {
	var threads []*task.Task
	if g := k.Tasks.FindGroup(pid); g != nil {
		threads = g.Threads()
	} else if t := k.Tasks.FindTask(pid); t != nil {
		threads = []*task.Task{t}
	}
	if len(threads) == 0 {
		return unix.ESRCH
	}
	stacks := task.AllStacks()
	for _, t := range threads {
		showTask(w, t)
		if calls := stacks.Of(t); len(calls) > 0 {
			fmt.Fprintf(w, "Call Trace:\n %s\n", strings.Join(calls, "\n "))
		}
	}
	return nil
}

func showTask(w io.Writer, t *task.Task) {
	fmt.Fprintf(w, "task:%-15.15s state:%c pid:%-5d tgid:%-5d ppid:%d\n", t.Comm(), t.State(), t.TID(), t.PID(), t.Group.PPID())
	if nr, _, in := t.LastSyscall(); in {
		fmt.Fprintf(w, "in system call %d (%s)\n", nr, syscalls.Name(nr))
	}
}
