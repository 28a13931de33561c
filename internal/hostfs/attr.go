package hostfs

import (
	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// SetAttr implements vfs.Inode.
func (in *inode) SetAttr(_ vfs.Caller, sa *vfs.SetAttr) error {
	if in.covered {
		return unix.EPERM
	}
	h, err := in.hold()
	if err != nil {
		return err
	}
	defer h.put()
	in.sb.wrote()
	valid := sa.Valid
	if valid&vfs.SetSize != 0 {
		valid &^= vfs.SetMtime // the host does that
		if in.sb.append {
			valid &^= vfs.SetSize
		} else if err := in.truncate(h, sa.Size); err != nil {
			return err
		}
	}
	if in.sb.mapped {
		err = in.setOverride(h, sa, valid)
	} else {
		err = in.setOwner(h, sa, valid)
	}
	if err == nil && valid&(vfs.SetAtime|vfs.SetMtime) != 0 {
		err = setTimes(h, sa, valid)
	}
	var st unix.Statx_t
	if e := statx(h.fd, "", &st); e == nil {
		in.fresh(&st)
	}
	return err
}

// suffice sees to it that the program itself may use its files, whatever their mode in the guest is: with the option map
// the mode on the host need not be the same.
func (in *inode) suffice(h *handle) error {
	if !in.sb.mapped || in.sb.ro.Load() || in.sb.srv.uid == 0 {
		return nil
	}
	in.attrMu.RLock()
	host, owner, a, o := in.hostMode, in.hostUID, in.attr, in.over
	in.attrMu.RUnlock()
	isDir := in.hostType == unix.S_IFDIR
	want := hostMode(host, isDir)
	if owner != in.sb.srv.uid || host&0o777 == want || in.hostType != unix.S_IFDIR && in.hostType != unix.S_IFREG {
		return nil
	}
	if !o.has {
		o = override{has: true, uid: a.UID, gid: a.GID, mode: a.Mode & 0o7777, typ: in.typ}
	}
	if err := chmod(h, want|host&0o7000); err != nil {
		return err
	}
	if err := o.write(h); err != nil {
		return errno(err)
	}
	var st unix.Statx_t
	if statx(h.fd, "", &st) == nil {
		in.fresh(&st)
	}
	return nil
}

// truncate sets the size.
func (in *inode) truncate(h *handle, size int64) error {
	if err := in.suffice(h); err != nil {
		return err
	}
	if w := in.wr.Load(); w != nil && w.tryGet() {
		defer w.put()
		return again(func() error { return unix.Ftruncate(w.fd, size) })
	}
	if h.fresh {
		return again(func() error { return unix.Ftruncate(h.fd, size) })
	}
	return again(func() error { return unix.Truncate(h.path(), size) })
}

// setOwner changes owner and mode on the host.
func (in *inode) setOwner(h *handle, sa *vfs.SetAttr, valid vfs.SetAttrMask) error {
	if valid&(vfs.SetUID|vfs.SetGID) != 0 {
		uid, gid := -1, -1
		if valid&vfs.SetUID != 0 {
			uid = int(sa.UID)
		}
		if valid&vfs.SetGID != 0 {
			gid = int(sa.GID)
		}
		if err := again(func() error { return unix.Fchownat(h.fd, "", uid, gid, unix.AT_EMPTY_PATH) }); err != nil {
			return err
		}
	}
	if valid&vfs.SetMode == 0 {
		return nil
	}
	const group = unix.S_ISGID | unix.S_IXGRP
	if !in.isDir() && (sa.Mode&unix.S_ISUID != 0 || sa.Mode&group == group) {
		// It would be a program with its owner's rights on the host, too. That it is one already is no excuse: the host takes
		// the bits away when the guest writes to it.
		return unix.EPERM
	}
	return chmod(h, hostBits(sa.Mode, in.isDir()))
}

// setOverride changes owner and mode in the attribute.
func (in *inode) setOverride(h *handle, sa *vfs.SetAttr, valid vfs.SetAttrMask) error {
	if valid&(vfs.SetUID|vfs.SetGID|vfs.SetMode) == 0 {
		return nil
	}
	a := in.Attr()
	in.attrMu.RLock()
	old := in.over
	in.attrMu.RUnlock()
	s := *sa
	s.Valid = valid & (vfs.SetUID | vfs.SetGID | vfs.SetMode)
	s.Apply(&a)
	mode := a.Mode & 0o7777
	if in.hostType == unix.S_IFLNK {
		in.ownLink(a.UID, a.GID)
		return nil
	}
	var st unix.Statx_t
	if err := statx(h.fd, "", &st); err != nil {
		return errno(err)
	}
	isDir := in.hostType == unix.S_IFDIR
	if hm := hostMode(mode, isDir); valid&vfs.SetMode != 0 && uint32(st.Mode)&0o7777 != hm {
		if err := chmod(h, hm); err != nil {
			return err
		}
	}
	if !old.has && plain(a.UID, a.GID, mode, isDir) && st.Uid == in.sb.srv.uid && st.Gid == in.sb.srv.gid {
		return nil
	}
	o := override{has: true, uid: a.UID, gid: a.GID, mode: mode, typ: in.typ, rdev: old.rdev}
	if err := o.write(h); err != nil {
		return errno(err)
	}
	in.attrMu.Lock()
	in.over.read = unix.Timespec{} // read it again
	in.attrMu.Unlock()
	return nil
}

// ownLink sets the owner of a symbolic link. There is no room in it for attributes: the owner lasts as long as the inode.
func (in *inode) ownLink(uid, gid uint32) {
	in.attrMu.Lock()
	defer in.attrMu.Unlock()
	in.over = override{has: true, uid: uid, gid: gid, mode: 0o777}
	in.attr.UID, in.attr.GID = uid, gid
}

func chmod(h *handle, mode uint32) error {
	return again(func() error { return unix.Fchmodat(unix.AT_FDCWD, h.path(), mode, 0) })
}

// setTimes sets the times of access and change.
func setTimes(h *handle, sa *vfs.SetAttr, valid vfs.SetAttrMask) error {
	omit := unix.Timespec{Nsec: unix.UTIME_OMIT}
	ts := [2]unix.Timespec{omit, omit}
	if valid&vfs.SetAtime != 0 {
		ts[0] = sa.Atime
	}
	if valid&vfs.SetMtime != 0 {
		ts[1] = sa.Mtime
	}
	return again(func() error { return unix.UtimesNanoAt(unix.AT_FDCWD, h.path(), ts[:], 0) })
}
