package vfs

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/cred"
)

// What access a permission check asks for.
const (
	MayExec  = 1
	MayWrite = 2
	MayRead  = 4
)

// QuickPermer is an Inode that tells its mode and owner, and whether it has an access ACL, without a lock. It makes path
// walks faster; Attr stays what counts when access is not plainly allowed.
type QuickPermer interface {
	QuickPerm() (mode, uid uint32, acl bool)
}

// maySearch checks that the walker may search its current directory.
func (w *walker) maySearch() error {
	d := w.cur.Dentry
	if d.quick != nil {
		mode, uid, acl := d.quick.QuickPerm()
		if uid == w.cred.FSUID && mode&0o100 != 0 || uid != w.cred.FSUID && !acl && mode&0o011 == 0o011 {
			return nil
		}
	}
	return permission(w.c, w.cred, d.inode, d.sb, MayExec)
}

// Permission checks access to an inode as path_resolution(7) says, not regarding mounts.
func Permission(c Caller, in Inode, mask uint32) error { return permission(c, c.Cred(), in, nil, mask) }

// permission checks with the given credentials. sb may be nil, which asks the inode's super block about ACLs.
func permission(c Caller, cr *cred.Cred, in Inode, sb *super, mask uint32) error {
	if p, ok := in.(Permissioner); ok {
		return p.Permission(c, mask)
	}
	a := in.Attr()
	if mask&MayWrite != 0 && a.Flags&unix.STATX_ATTR_IMMUTABLE != 0 {
		return unix.EPERM
	}
	acl := sb != nil && sb.acl
	if sb == nil {
		s, ok := in.Super().(ACLSupporter)
		acl = ok && s.SupportsACL()
	}
	err := permissionAttr(c, cr, in, &a, acl, mask)
	if v, ok := in.(Volatile); ok && err != nil {
		v.Refresh() // somebody else may have opened it meanwhile
		a = in.Attr()
		err = permissionAttr(c, cr, in, &a, acl, mask)
	}
	return err
}

// permissionAttr decides by mode bits, ACL and capabilities.
func permissionAttr(c Caller, cr *cred.Cred, in Inode, a *Attr, acl bool, mask uint32) error {
	m := a.Mode
	switch {
	case cr.FSUID == a.UID:
		m >>= 6
	case acl && m&0o070 != 0:
		if ok, decided := aclCheck(c, cr, in, a, mask); decided {
			if ok {
				return nil
			}
			m = 0
		} else if cr.InGroup(a.GID) {
			m >>= 3
		}
	case m>>3&7 != m&7 && cr.InGroup(a.GID):
		m >>= 3
	}
	if mask&^(m&7) == 0 {
		return nil
	}
	if cr.Effective == 0 {
		return unix.EACCES
	}
	if a.IsDir() {
		if mask&MayWrite == 0 && cr.Capable(unix.CAP_DAC_READ_SEARCH) || cr.Capable(unix.CAP_DAC_OVERRIDE) {
			return nil
		}
		return unix.EACCES
	}
	if mask == MayRead && cr.Capable(unix.CAP_DAC_READ_SEARCH) {
		return nil
	}
	if (mask&MayExec == 0 || a.Mode&0o111 != 0) && cr.Capable(unix.CAP_DAC_OVERRIDE) {
		return nil
	}
	return unix.EACCES
}

// Tags of ACL entries (posix_acl_xattr.h).
const (
	aclVersion  = 2
	aclUserObj  = 0x01
	aclUser     = 0x02
	aclGroupObj = 0x04
	aclGroup    = 0x08
	aclMask     = 0x10
	aclOther    = 0x20

	xattrACLAccess  = "system.posix_acl_access"
	xattrACLDefault = "system.posix_acl_default"
)

type aclEntry struct {
	tag, perm uint16
	id        uint32
}

// parseACL decodes and checks the value of an ACL attribute (acl(5), setxattr).
func parseACL(v []byte) ([]aclEntry, error) {
	if len(v) == 0 {
		return nil, nil
	}
	if len(v) < 4 || (len(v)-4)%8 != 0 {
		return nil, unix.EINVAL
	}
	if binary.LittleEndian.Uint32(v) != aclVersion {
		return nil, unix.EOPNOTSUPP
	}
	var es []aclEntry
	for v = v[4:]; len(v) > 0; v = v[8:] {
		es = append(es, aclEntry{binary.LittleEndian.Uint16(v), binary.LittleEndian.Uint16(v[2:]),
			binary.LittleEndian.Uint32(v[4:])})
	}
	if len(es) == 0 {
		return nil, nil
	}
	// Order: owner, users, group, groups, mask, other; the three of the mode exactly once, a mask if there is a named one.
	order := map[uint16]int{aclUserObj: 0, aclUser: 1, aclGroupObj: 2, aclGroup: 3, aclMask: 4, aclOther: 5}
	last, named := -1, false
	var seen [6]int
	for _, e := range es {
		o, ok := order[e.tag]
		if !ok || o < last || e.perm > 7 {
			return nil, unix.EINVAL
		}
		last = o
		seen[o]++
		named = named || o == 1 || o == 3
		if (o == 1 || o == 3) && e.id == ^uint32(0) {
			return nil, unix.EINVAL
		}
	}
	if seen[0] != 1 || seen[2] != 1 || seen[5] != 1 || seen[4] > 1 || named && seen[4] == 0 {
		return nil, unix.EINVAL
	}
	return es, nil
}

func formatACL(es []aclEntry) []byte {
	v := binary.LittleEndian.AppendUint32(nil, aclVersion)
	for _, e := range es {
		v = binary.LittleEndian.AppendUint16(v, e.tag)
		v = binary.LittleEndian.AppendUint16(v, e.perm)
		v = binary.LittleEndian.AppendUint32(v, e.id)
	}
	return v
}

// aclCheck asks the access ACL of a file that the caller does not own; decided is false if it has none.
func aclCheck(c Caller, cr *cred.Cred, in Inode, a *Attr, mask uint32) (ok, decided bool) {
	v, err := in.Getxattr(c, xattrACLAccess)
	if err != nil {
		return false, false
	}
	es, err := parseACL(v)
	if err != nil || es == nil {
		return false, false
	}
	limit := uint16(7)
	for _, e := range es {
		if e.tag == aclMask {
			limit = e.perm
		}
	}
	m := uint16(mask)
	inGroup := false
	for _, e := range es {
		switch e.tag {
		case aclUser:
			if e.id == cr.FSUID {
				return m&^(e.perm&limit) == 0, true
			}
		case aclGroupObj, aclGroup:
			gid := e.id
			if e.tag == aclGroupObj {
				gid = a.GID
			}
			if cr.InGroup(gid) {
				inGroup = true
				if m&^(e.perm&limit) == 0 {
					return true, true
				}
			}
		case aclOther:
			return !inGroup && m&^e.perm == 0, true
		}
	}
	return false, true
}

// aclMode is the mode that an access ACL stands for, and whether it says more than a mode can.
func aclMode(es []aclEntry) (mode uint32, extended bool) {
	for _, e := range es {
		switch e.tag {
		case aclUserObj:
			mode |= uint32(e.perm) << 6
		case aclGroupObj:
			mode = mode&^0o070 | uint32(e.perm)<<3
		case aclOther:
			mode |= uint32(e.perm)
		default:
			extended = true
		}
	}
	for _, e := range es {
		if e.tag == aclMask {
			mode = mode&^0o070 | uint32(e.perm)<<3
		}
	}
	return mode, extended
}

// aclChmod is the access ACL after chmod to mode.
func aclChmod(es []aclEntry, mode uint32) {
	group := -1
	for i := range es {
		switch e := &es[i]; e.tag {
		case aclUserObj:
			e.perm = uint16(mode >> 6 & 7)
		case aclGroupObj:
			if group < 0 {
				group = i
			}
		case aclMask:
			group = i
		case aclOther:
			e.perm = uint16(mode & 7)
		}
	}
	if group >= 0 {
		es[group].perm = uint16(mode >> 3 & 7)
	}
}

// aclCreate limits an inherited default ACL by the mode of open, mkdir or mknod, and returns the file's mode.
func aclCreate(es []aclEntry, mode uint32) uint32 {
	group := -1
	for i := range es {
		switch e := &es[i]; e.tag {
		case aclUserObj:
			e.perm &= uint16(mode >> 6 & 7)
		case aclGroupObj:
			if group < 0 {
				group = i
			}
		case aclMask:
			group = i
		case aclOther:
			e.perm &= uint16(mode & 7)
		}
	}
	if group >= 0 {
		es[group].perm &= uint16(mode >> 3 & 7)
	}
	m, _ := aclMode(es)
	return mode&^0o777 | m
}

// ownerOrCapable reports whether the caller owns the file or may act as if.
func ownerOrCapable(cr *cred.Cred, a *Attr) bool {
	return cr.FSUID == a.UID || cr.Capable(unix.CAP_FOWNER)
}

// mayDelete checks that victim, an entry of dir, may be removed or replaced: write and search permission, the sticky bit,
// immutable and append-only files, and the type (wantDir).
func mayDelete(c Caller, dir, victim *Dentry, wantDir bool) error {
	cr := c.Cred()
	if err := permission(c, cr, dir.inode, dir.sb, MayWrite|MayExec); err != nil {
		return err
	}
	da, va := dir.inode.Attr(), victim.inode.Attr()
	if da.Flags&unix.STATX_ATTR_APPEND != 0 {
		return unix.EPERM
	}
	if da.Mode&unix.S_ISVTX != 0 && cr.FSUID != va.UID && cr.FSUID != da.UID && !cr.Capable(unix.CAP_FOWNER) {
		return unix.EPERM
	}
	if va.Flags&(unix.STATX_ATTR_APPEND|unix.STATX_ATTR_IMMUTABLE) != 0 {
		return unix.EPERM
	}
	if wantDir {
		if !victim.isDir() {
			return unix.ENOTDIR
		}
		if victim.parent.Load() == victim {
			return unix.EBUSY
		}
	} else if victim.isDir() {
		return unix.EISDIR
	}
	if dir.has(dDead) {
		return unix.ENOENT
	}
	return nil
}

// mayCreate checks that something may be made in dir.
func mayCreate(c Caller, dir *Dentry) error {
	if dir.has(dDead) {
		return unix.ENOENT
	}
	return permission(c, c.Cred(), dir.inode, dir.sb, MayWrite|MayExec)
}

// sanitizeMode drops the set-group-id bit from what the caller, who is not in the directory's group, makes in a set-group-id
// directory, as inode_init_owner does for executables.
func sanitizeMode(c Caller, dir *Dentry, mode uint32) uint32 {
	if mode&(unix.S_ISGID|unix.S_IXGRP) != unix.S_ISGID|unix.S_IXGRP || mode&unix.S_IFMT == unix.S_IFDIR {
		return mode
	}
	da := dir.inode.Attr()
	if da.Mode&unix.S_ISGID == 0 {
		return mode
	}
	cr := c.Cred()
	if cr.InGroup(da.GID) || cr.Capable(unix.CAP_FSETID) {
		return mode
	}
	return mode &^ unix.S_ISGID
}
