package task

import (
	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/arch"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// IOOwner finds who is meant by an id and its type (vfs.OwnerTID, ...): a *Task, *ThreadGroup or *ProcessGroup for
// vfs.Owner.Who, nil if there is no such.
func (k *Kernel) IOOwner(typ int, id int32) any {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch typ {
	case vfs.OwnerTID, vfs.OwnerPID:
		if t := k.pids[id]; t != nil {
			if typ == vfs.OwnerTID {
				return t
			}
			return t.Group
		}
	case vfs.OwnerPgrp:
		if p := k.pgrps[id]; p != nil {
			return p
		}
	}
	return nil
}

// IOOwnerLives reports whether the owner has not ended.
func (k *Kernel) IOOwnerLives(o *vfs.Owner) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch w := o.Who.(type) {
	case *Task:
		return k.pids[w.TID()] == w
	case *ThreadGroup:
		return k.groups[w.pid] == w
	case *ProcessGroup:
		return k.pgrps[w.id] == w
	}
	return false
}

// SendIO sends the signal about a file to its owner (fcntl(2) F_SETSIG); it is vfs.SendIO.
func (k *Kernel) SendIO(o *vfs.Owner, fd, code int32, band int64) {
	send := func(t *Task, g *ThreadGroup) {
		if t == nil {
			t = g.Leader()
		}
		if t == nil {
			return
		}
		c := t.Cred()
		if o.EUID != 0 && o.EUID != c.SUID && o.EUID != c.UID && o.UID != c.SUID && o.UID != c.UID {
			return
		}
		if _, one := o.Who.(*Task); !one {
			t = nil
		}
		if o.Sig != 0 && g.send(t, arch.InfoPoll(o.Sig, code, band, fd), false) == nil {
			return
		}
		g.send(t, arch.InfoKernel(unix.SIGIO), false)
	}
	switch w := o.Who.(type) {
	case *Task:
		send(w, w.Group)
	case *ThreadGroup:
		send(nil, w)
	case *ProcessGroup:
		for _, g := range k.pgrpMembers(w.id) {
			send(nil, g)
		}
	}
}
