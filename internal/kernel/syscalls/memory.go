package syscalls

import (
	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/mm"
	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/task"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

func init() {
	register(map[int]Entry{
		unix.SYS_MMAP:             {Name: "mmap", Fn: sysMmap, Lane: platform.Native},
		unix.SYS_MUNMAP:           {Name: "munmap", Fn: sysMunmap, Lane: platform.Native},
		unix.SYS_MPROTECT:         {Name: "mprotect", Fn: sysMprotect, Lane: platform.Native},
		unix.SYS_MADVISE:          {Name: "madvise", Fn: sysMadvise, Lane: platform.Native},
		unix.SYS_MREMAP:           {Name: "mremap", Fn: sysMremap, Lane: platform.Trace},
		unix.SYS_BRK:              {Name: "brk", Fn: sysBrk, Lane: platform.Native},
		unix.SYS_MSYNC:            {Name: "msync", Fn: sysMsync, Lane: platform.Trace},
		unix.SYS_MINCORE:          {Name: "mincore", Fn: sysMincore, Lane: platform.Trace},
		unix.SYS_MLOCK:            {Name: "mlock", Fn: sysMlock, Note: "accounting only"},
		unix.SYS_MLOCK2:           {Name: "mlock2", Fn: sysMlock2, Note: "accounting only"},
		unix.SYS_MUNLOCK:          {Name: "munlock", Fn: sysMunlock},
		unix.SYS_MLOCKALL:         {Name: "mlockall", Fn: sysMlockall, Note: "accounting only"},
		unix.SYS_MUNLOCKALL:       {Name: "munlockall", Fn: sysMunlockall},
		unix.SYS_MEMBARRIER:       {Name: "membarrier", Fn: sysMembarrier, Lane: platform.NativeNotify, Note: "private commands"},
		unix.SYS_ARCH_PRCTL:       {Name: "arch_prctl", Fn: sysArchPrctl, Lane: platform.NativeNotify, Note: "segment bases"},
		unix.SYS_SCHED_YIELD:      {Name: "sched_yield", Fn: func(*task.Task, *platform.Args) (uint64, error) { return 0, nil }, Lane: platform.NativeNotify},
		unix.SYS_RSEQ:             {Name: "rseq", Fn: enosys, Note: "ENOSYS: the host's CPU numbers stay hidden"},
		unix.SYS_USERFAULTFD:      {Name: "userfaultfd", Fn: enosys, Note: "ENOSYS"},
		unix.SYS_PKEY_MPROTECT:    {Name: "pkey_mprotect", Fn: enosys, Note: "ENOSYS"},
		unix.SYS_PKEY_ALLOC:       {Name: "pkey_alloc", Fn: enosys, Note: "ENOSYS"},
		unix.SYS_PKEY_FREE:        {Name: "pkey_free", Fn: enosys, Note: "ENOSYS"},
		unix.SYS_REMAP_FILE_PAGES: {Name: "remap_file_pages", Fn: enosys, Note: "ENOSYS"},
		unix.SYS_MODIFY_LDT:       {Name: "modify_ldt", Fn: enosys, Note: "ENOSYS"},
	})
}

// offload turns mm's wish to run elsewhere into the platform's.
func offload(t *task.Task, v uint64, err error) (uint64, error) {
	if err == mm.ErrOffload {
		return t.Offload()
	}
	return v, err
}

func sysMmap(t *task.Task, a *platform.Args) (uint64, error) {
	var f *vfs.File
	if a[3]&unix.MAP_ANONYMOUS == 0 {
		var err error
		if f, err = anyFile(t, a[4]); err != nil {
			return 0, err
		}
		defer f.DecRef()
	}
	v, err := t.MM().Mmap(t.Thread(), t, a[0], a[1], a[2], a[3], f, a[5])
	return offload(t, v, err)
}

func sysMunmap(t *task.Task, a *platform.Args) (uint64, error) {
	return offload(t, 0, t.MM().Munmap(t.Thread(), a[0], a[1]))
}

func sysMprotect(t *task.Task, a *platform.Args) (uint64, error) {
	return offload(t, 0, t.MM().Mprotect(t.Thread(), a[0], a[1], a[2]))
}

func sysMadvise(t *task.Task, a *platform.Args) (uint64, error) {
	return offload(t, 0, t.MM().Madvise(t.Thread(), t, a[0], a[1], i32(a[2])))
}

func sysMremap(t *task.Task, a *platform.Args) (uint64, error) {
	v, err := t.MM().Mremap(t.Thread(), a[0], a[1], a[2], a[3], a[4])
	return offload(t, v, err)
}

func sysBrk(t *task.Task, a *platform.Args) (uint64, error) {
	v, err := t.MM().Brk(t.Thread(), t, a[0])
	return offload(t, v, err)
}

func sysMsync(t *task.Task, a *platform.Args) (uint64, error) {
	if t.MustOffload() {
		return t.Offload()
	}
	return 0, t.MM().Msync(t.Thread(), a[0], a[1], i32(a[2]))
}

func sysMincore(t *task.Task, a *platform.Args) (uint64, error) {
	return offload(t, 0, t.MM().Mincore(t.Thread(), a[0], a[1], a[2]))
}

func sysMlock(t *task.Task, a *platform.Args) (uint64, error) {
	return 0, t.MM().Mlock(t, a[0], a[1], 0)
}

func sysMlock2(t *task.Task, a *platform.Args) (uint64, error) {
	return 0, t.MM().Mlock(t, a[0], a[1], i32(a[2]))
}

func sysMunlock(t *task.Task, a *platform.Args) (uint64, error) { return 0, t.MM().Munlock(a[0], a[1]) }

func sysMlockall(t *task.Task, a *platform.Args) (uint64, error) {
	return 0, t.MM().Mlockall(t, i32(a[0]))
}

func sysMunlockall(t *task.Task, _ *platform.Args) (uint64, error) {
	t.MM().Munlockall()
	return 0, nil
}

// sysMembarrier says which commands the host carries out by itself (linux/membarrier.h), and refuses the others: they would
// disturb what else runs there.
func sysMembarrier(t *task.Task, a *platform.Args) (uint64, error) {
	const (
		query           = 0
		private         = 1 << 3 // MEMBARRIER_CMD_PRIVATE_EXPEDITED
		registerPrivate = 1 << 4 // MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED
	)
	if i32(a[0]) == query && u32(a[1]) == 0 {
		return private | registerPrivate, nil
	}
	return 0, unix.EINVAL
}

// sysArchPrctl answers the codes that are not segment bases.
func sysArchPrctl(t *task.Task, a *platform.Args) (uint64, error) {
	const (
		archGetCPUID = 0x1011
		archSetCPUID = 0x1012
	)
	switch u32(a[0]) {
	case archGetCPUID:
		return 1, nil
	case archSetCPUID:
		return 0, unix.ENODEV
	}
	return 0, unix.EINVAL
}
