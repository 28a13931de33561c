package task

import (
	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/cred"
	"github.com/user-mode-linux/linux/internal/kernel/klog"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// execCred is the identity of the new program (execve(2), capabilities(7) "Transformation of capabilities during
// execve"), and whether it has more rights than the caller. EPERM if it needs capabilities that it cannot get.
func (t *Task) execCred(f *vfs.File) (n *cred.Cred, secure bool, err error) {
	old := t.Cred()
	n = old.Copy()
	a := f.Inode.Attr()
	var caps cred.FileCaps
	hasCaps := false
	if f.Path.Mount != nil && !f.NoSuid() {
		if a.Mode&unix.S_ISUID != 0 && !t.NoNewPrivs() {
			n.EUID = a.UID
		}
		if a.Mode&(unix.S_ISGID|unix.S_IXGRP) == unix.S_ISGID|unix.S_IXGRP && !t.NoNewPrivs() {
			n.EGID = a.GID
		}
		if caps, hasCaps, err = fileCaps(t, f); err != nil {
			return nil, false, err
		}
	}
	effective := caps.Effective
	n.Permitted = caps.Permitted&old.Bounding | caps.Inheritable&old.Inheritable
	if effective && caps.Permitted&^n.Permitted != 0 {
		return nil, false, unix.EPERM // it would not know that it has less than it needs
	}
	// A set-user-ID root program with capabilities of its own gets only those.
	if n.Securebits&cred.SecbitNoRoot == 0 && (n.UID == 0 || n.EUID == 0 && !hasCaps) {
		n.Permitted = old.Bounding | old.Inheritable
		effective = effective || n.EUID == 0
	}
	setid := n.EUID != old.EUID || n.EGID != old.EGID
	if setid || n.Permitted&^old.Permitted != 0 {
		t.limitExec(old, n)
	}
	n.SUID, n.FSUID = n.EUID, n.EUID
	n.SGID, n.FSGID = n.EGID, n.EGID
	if hasCaps || setid {
		n.Ambient = 0
	}
	n.Permitted |= n.Ambient
	n.Effective = n.Ambient
	if effective {
		n.Effective = n.Permitted
	}
	n.Securebits &^= cred.SecbitKeepCaps
	secure = setid || n.UID != 0 && (effective || n.Permitted&^n.Ambient != 0)
	return n, secure, nil
}

// limitExec takes from n what a program must not gain while others could make use of it: a tracer that could not trace it
// afterwards, a process with the same root and working directory (CLONE_FS), or no_new_privs.
func (t *Task) limitExec(old, n *cred.Cred) {
	if !t.execWatched() && !t.fsSharedOutside() && !t.NoNewPrivs() {
		return
	}
	if !old.Capable(unix.CAP_SETUID) || t.NoNewPrivs() {
		n.EUID, n.EGID = n.UID, n.GID
	}
	n.Permitted &= old.Permitted
}

// execWatched reports whether the thread is traced by the will of somebody without CAP_SYS_PTRACE.
func (t *Task) execWatched() bool {
	t.K.mu.Lock()
	defer t.K.mu.Unlock()
	return t.trace.tracer != nil && !t.trace.cred.Capable(unix.CAP_SYS_PTRACE)
}

// fsSharedOutside reports whether another process shares root and working directory.
func (t *Task) fsSharedOutside() bool {
	fs := t.fs.Load()
	own := int32(0)
	for _, x := range t.Group.threadsSnapshot() {
		if x.fs.Load() == fs && !x.prepared.Load() {
			own++
		}
	}
	return fs.refs.Load() > own
}

// fileCaps reads the capabilities of a program file; ok is false if it has none.
func fileCaps(c vfs.Caller, f *vfs.File) (caps cred.FileCaps, ok bool, err error) {
	v, err := f.Inode.Getxattr(c, "security.capability")
	if err != nil {
		return caps, false, nil
	}
	if caps, err = cred.ParseFileCaps(v); err == unix.ENODATA {
		return caps, false, nil
	}
	if err != nil {
		klog.Printf(klog.Notice, "%s has invalid file capabilities", vfs.PathName(c, f.Path))
	}
	return caps, err == nil, err
}

// setExecing marks the thread as one whose new identity has been decided on but is not in force yet. Attach waits for that.
func (t *Task) setExecing(on bool) {
	t.K.mu.Lock()
	t.trace.execing = on
	t.K.mu.Unlock()
}
