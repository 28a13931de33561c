package syscalls

import (
	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/task"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
)

func init() {
	register(map[int]Entry{
		unix.SYS_PROCESS_VM_READV:  {Name: "process_vm_readv", Fn: sysProcessVMReadv},
		unix.SYS_PROCESS_VM_WRITEV: {Name: "process_vm_writev", Fn: sysProcessVMWritev},
	})
}

// sysProcessVMReadv implements process_vm_readv(2).
func sysProcessVMReadv(t *task.Task, a *platform.Args) (uint64, error) {
	return processVM(t, a, func(local, remote uio.Memory, p []byte, l, r uint64) (int, error) {
		n, err := remote.ReadAt(p, r)
		k, werr := local.WriteAt(p[:n], l)
		if werr != nil {
			err = werr
		}
		return k, err
	})
}

// sysProcessVMWritev implements process_vm_writev(2).
func sysProcessVMWritev(t *task.Task, a *platform.Args) (uint64, error) {
	return processVM(t, a, func(local, remote uio.Memory, p []byte, l, r uint64) (int, error) {
		n, err := local.ReadAt(p, l)
		k, werr := remote.WriteAt(p[:n], r)
		if werr != nil {
			err = werr
		}
		return k, err
	})
}

// processVM copies between the caller's memory and another process's, piece by piece; step copies one piece.
func processVM(t *task.Task, a *platform.Args, step func(local, remote uio.Memory, p []byte, l, r uint64) (int, error)) (uint64, error) {
	if a[5] != 0 {
		return 0, unix.EINVAL
	}
	sl, sr := getScratch(), getScratch()
	defer sl.put()
	defer sr.put()
	local, err := sl.iovec(t.Mem(), a[1], a[2])
	if err != nil || len(local) == 0 {
		return 0, err
	}
	remote, err := sr.iovec(t.Mem(), a[3], a[4])
	if err != nil {
		return 0, err
	}
	x, err := target(t, i32(a[0]))
	if err != nil || i32(a[0]) == 0 {
		return 0, unix.ESRCH
	}
	if err := t.CanPtrace(x); err != nil {
		return 0, err
	}
	m := x.MM()
	if m == nil || !m.TryGet() {
		return 0, unix.ESRCH
	}
	defer m.Put()
	buf := copyBufs.Get().(*[copyChunk]byte)
	defer copyBufs.Put(buf)
	done := 0
	for len(local) > 0 && len(remote) > 0 {
		l, r := &local[0], &remote[0]
		want := int(min(l.Len, r.Len, copyChunk))
		n, err := step(t.Mem(), m, buf[:want], l.Addr, r.Addr)
		done += n
		if n < want {
			return moved(done, err)
		}
		l.Addr, l.Len, r.Addr, r.Len = l.Addr+uint64(n), l.Len-uint64(n), r.Addr+uint64(n), r.Len-uint64(n)
		if l.Len == 0 {
			local = local[1:]
		}
		if r.Len == 0 {
			remote = remote[1:]
		}
	}
	return uint64(done), nil
}
