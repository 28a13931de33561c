package syscalls

import (
	"reflect"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/task"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
)

func init() {
	register(map[int]Entry{
		unix.SYS_PROCESS_VM_READV:  {Name: "process_vm_readv", Fn: sysProcessVMReadv},
		unix.SYS_PROCESS_VM_WRITEV: {Name: "process_vm_writev", Fn: sysProcessVMWritev},
		unix.SYS_KCMP:              {Name: "kcmp", Fn: sysKcmp, Note: "no KCMP_EPOLL_TFD"},
	})
}

func sysProcessVMReadv(t *task.Task, a *platform.Args) (uint64, error)  { return processVM(t, a, false) }
func sysProcessVMWritev(t *task.Task, a *platform.Args) (uint64, error) { return processVM(t, a, true) }

// processVMChunk is how much is copied at once.
const processVMChunk = 64 << 10

// processVM copies between the caller's memory and that of another process.
func processVM(t *task.Task, a *platform.Args, write bool) (uint64, error) {
	if a[5] != 0 {
		return 0, unix.EINVAL
	}
	ls, rs := getScratch(), getScratch()
	defer ls.put()
	defer rs.put()
	local, err := ls.iovec(t.Mem(), a[1], a[2])
	if err != nil || len(local) == 0 {
		return 0, err
	}
	remote, err := rs.iovec(t.Mem(), a[3], a[4])
	if err != nil {
		return 0, err
	}
	x := t.K.FindTask(i32(a[0]))
	if x == nil {
		return 0, unix.ESRCH
	}
	m := x.MM()
	if m == nil || !m.TryGet() {
		return 0, unix.ESRCH
	}
	defer m.Put()
	if err := t.CanPtrace(x); err != nil {
		return 0, err
	}
	ls.dst.ResetV(t.Mem(), local)
	ls.src.ResetV(t.Mem(), local)
	step := func(p []byte, addr uint64) (n int, ok bool) {
		if write {
			k, err := ls.src.CopyIn(p)
			n, err2 := m.WriteAt(p[:k], addr)
			return n, err == nil && err2 == nil
		}
		k, err := m.ReadAt(p, addr)
		n, err2 := ls.dst.CopyOut(p[:k])
		return n, err == nil && err2 == nil
	}
	left := uint64(ls.dst.Len())
	buf := make([]byte, min(left, processVMChunk))
	done := uint64(0)
	for _, r := range remote {
		for r.Len > 0 && left > 0 {
			n, ok := step(buf[:min(r.Len, left, uint64(len(buf)))], r.Addr)
			done += uint64(n)
			if !ok {
				if done == 0 {
					return 0, unix.EFAULT
				}
				return done, nil
			}
			r = uio.Range{Addr: r.Addr + uint64(n), Len: r.Len - uint64(n)}
			left -= uint64(n)
		}
	}
	return done, nil
}

// kcmpFile is KCMP_FILE; the other kinds of linux/kcmp.h are task.Shared's.
const kcmpFile = 0

// sysKcmp implements kcmp(2).
func sysKcmp(t *task.Task, a *platform.Args) (uint64, error) {
	x, y := t.K.FindTask(i32(a[0])), t.K.FindTask(i32(a[1]))
	if x == nil || y == nil {
		return 0, unix.ESRCH
	}
	if t.CanPtrace(x) != nil || t.CanPtrace(y) != nil {
		return 0, unix.EPERM
	}
	var v, w uintptr
	if i32(a[2]) == kcmpFile {
		var err error
		if v, err = fileIdentity(x, a[3]); err == nil {
			w, err = fileIdentity(y, a[4])
		}
		if err != nil {
			return 0, err
		}
	} else {
		p, ok := x.Shared(int(i32(a[2])))
		q, _ := y.Shared(int(i32(a[2])))
		if !ok {
			return 0, unix.EINVAL
		}
		v, w = identity(p), identity(q)
	}
	switch {
	case v < w:
		return 1, nil
	case v > w:
		return 2, nil
	}
	return 0, nil
}

// kcmpCookie hides addresses: only their order, under this, is told.
const kcmpCookie = 0x5a96_c3e1_7b2d

func identity(p any) uintptr {
	v := reflect.ValueOf(p)
	if !v.IsValid() || v.IsNil() {
		return 0
	}
	return v.Pointer() ^ kcmpCookie
}

func fileIdentity(x *task.Task, fd uint64) (uintptr, error) {
	files := x.Files()
	if files == nil {
		return 0, unix.EBADF
	}
	f, err := files.Get(i32(fd))
	if err != nil {
		return 0, unix.EBADF
	}
	defer f.DecRef()
	return identity(f), nil
}
