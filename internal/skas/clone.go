package skas

import (
	"slices"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/platform"
)

// Clone implements platform.Thread. Of what the guest asked for only the sharing of memory reaches the host: ids,
// namespaces, descriptors and file system state are the Go kernel's.
func (t *Thread) Clone(spec platform.CloneSpec) (platform.Thread, error) {
	var child *Thread
	err := t.s.do(t, func() (err error) {
		child, err = t.clone(&spec)
		return err
	})
	if err != nil {
		return nil, err
	}
	return child, nil
}

func (t *Thread) clone(spec *platform.CloneSpec) (*Thread, error) {
	if t.p.crowded() {
		return nil, unix.EAGAIN
	}
	flags := forkFlags
	switch {
	case spec.Thread:
		flags = threadFlags
	case spec.VM:
		flags |= unix.CLONE_VM
	}
	args := platform.Args{flags, t.regs.Rsp}
	if spec.ClearTID != 0 {
		args[0] |= unix.CLONE_CHILD_CLEARTID
		args[3] = spec.ClearTID
	}
	if spec.Stack != 0 {
		args[1] = spec.Stack
	}
	v, err := t.runCall(unix.SYS_CLONE, args)
	if err != nil {
		return nil, err
	}
	c := &Thread{p: t.p, s: t.s, tid: int(v), data: spec.Data, state: stopped, stop: stopFresh, dirty: true}
	if !t.s.firstStop(c.tid) {
		return nil, unix.EAGAIN // killed at once, with the whole process or from outside
	}
	c.regs = t.regs
	c.regs.Rax, c.regs.Orig_rax = 0, noCall
	if spec.Stack != 0 {
		c.regs.Rsp = spec.Stack
	}
	if spec.SetTLS {
		c.regs.Fs_base = spec.TLS
	}
	c.as, c.proc = t.as, t.proc
	if !spec.Thread {
		c.proc = &process{tgid: c.tid}
		if !spec.VM {
			c.as = newAddressSpace()
		}
	}
	t.s.adopt(c)
	return c, nil
}

// firstStop waits for the first stop of a thread that has just been made. It may have been taken with other events.
func (s *shard) firstStop(tid int) bool {
	for i, e := range s.events {
		if e.tid == tid {
			s.events = slices.Delete(s.events, i, i+1)
			return e.ws.Stopped()
		}
	}
	z := &s.zygote
	if n := len(z.early); n > 0 {
		if z.early = slices.DeleteFunc(z.early, func(e event) bool { return e.tid == tid }); len(z.early) < n {
			return true
		}
	}
	_, err := waitFor(tid)
	return err == nil
}
