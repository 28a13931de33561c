package task

import (
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// sharedFS counts the tasks that share an FSContext (CLONE_FS).
type sharedFS struct {
	*vfs.FSContext
	refs atomic.Int32
}

func newSharedFS(c *vfs.FSContext) *sharedFS {
	s := &sharedFS{FSContext: c}
	s.refs.Store(1)
	return s
}

func (s *sharedFS) get() *sharedFS { s.refs.Add(1); return s }

func (s *sharedFS) put() {
	if s.refs.Add(-1) == 0 {
		s.Release()
	}
}

// UnshareFS gives the task a root, working directory and umask of its own (unshare(2) CLONE_FS).
func (t *Task) UnshareFS() {
	s := t.fs.Load()
	if s.refs.Load() > 1 {
		t.fs.Store(newSharedFS(s.Copy()))
		s.put()
	}
}

// JoinNamespace makes the root of a mount name space the task's root and working directory, as setns(2) does. EPERM; EINVAL
// if the task shares them with others.
func (t *Task) JoinNamespace(ns *vfs.Namespace) error {
	if cr := t.Cred(); !cr.Capable(unix.CAP_SYS_ADMIN) || !cr.Capable(unix.CAP_SYS_CHROOT) {
		return unix.EPERM
	}
	old := t.fs.Load()
	if old.refs.Load() > 1 {
		return unix.EINVAL
	}
	c, ok := ns.Enter()
	if !ok {
		return unix.EINVAL
	}
	c.SetUmask(old.Umask())
	t.fs.Store(newSharedFS(c))
	old.put()
	return nil
}

// UnshareFiles gives the task a file descriptor table of its own (CLONE_FILES): ENOMEM.
func (t *Task) UnshareFiles() error {
	old := t.files.Load()
	own, err := old.Copy()
	if err != nil {
		return err
	}
	t.files.Store(own)
	old.DecRef(t)
	return nil
}

// Shared is the object that kcmp(2) compares for one of its kinds but KCMP_FILE (linux/kcmp.h); ok is false for others.
func (t *Task) Shared(kind int) (object any, ok bool) {
	switch kind {
	case 1: // KCMP_VM
		return t.MM(), true
	case 2: // KCMP_FILES
		return t.Files(), true
	case 3: // KCMP_FS
		return t.fs.Load(), true
	case 4: // KCMP_SIGHAND
		return t.Group.actions(), true
	case 5: // KCMP_IO
		return nil, true // there are no I/O contexts
	case 6: // KCMP_SYSVSEM
		return t.semUndo.Load(), true
	}
	return nil, false
}
