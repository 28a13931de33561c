package vfs

import (
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/cred"
)

const (
	xattrNameMax = 255
	xattrSizeMax = 65536
	xattrListMax = 65536

	xattrCaps = "security.capability"
)

// checkXattr applies the rules of xattr(7) for a name: who may read or write it, and on what. It is the name's prefix
// that decides.
func checkXattr(c Caller, d *Dentry, name string, write bool) error {
	if name == "" || len(name) > xattrNameMax {
		return unix.ERANGE
	}
	if write {
		if a := d.inode.Attr(); a.Flags&(unix.STATX_ATTR_IMMUTABLE|unix.STATX_ATTR_APPEND) != 0 {
			return unix.EPERM
		}
	}
	prefix, rest, ok := strings.Cut(name, ".")
	if !ok {
		return unix.EOPNOTSUPP
	}
	if rest == "" && (prefix == "security" || prefix == "trusted") {
		return unix.EINVAL
	}
	mask := uint32(MayRead)
	if write {
		mask = MayWrite
	}
	switch prefix {
	case "security":
		if !write {
			return nil
		}
		if name == xattrCaps {
			if !c.Cred().Capable(unix.CAP_SETFCAP) {
				return unix.EPERM
			}
			return nil
		}
		if !c.Cred().Capable(unix.CAP_SYS_ADMIN) {
			return unix.EPERM
		}
		return nil
	case "system":
		if d.typ == unix.S_IFLNK {
			return unix.EOPNOTSUPP
		}
		if !write {
			return nil
		}
		a := d.inode.Attr()
		if !ownerOrCapable(c.Cred(), &a) {
			return unix.EPERM
		}
		return nil
	case "trusted":
		if c.Cred().Capable(unix.CAP_SYS_ADMIN) {
			return nil
		}
		if write {
			return unix.EPERM
		}
		return unix.ENODATA
	case "user":
		if rest == "" {
			return unix.EINVAL
		}
		// Only files and directories: elsewhere the mode says nothing about who may use the space.
		if d.typ != unix.S_IFREG && d.typ != unix.S_IFDIR {
			if write {
				return unix.EPERM
			}
			return unix.ENODATA
		}
		a := d.inode.Attr()
		if write && d.typ == unix.S_IFDIR && a.Mode&unix.S_ISVTX != 0 && !ownerOrCapable(c.Cred(), &a) {
			return unix.EPERM
		}
		return permission(c, c.Cred(), d.inode, d.sb, mask)
	}
	return unix.EOPNOTSUPP
}

// Getxattr is getxattr(2); fgetxattr with AT_EMPTY_PATH, lgetxattr with AT_SYMLINK_NOFOLLOW.
func Getxattr(c Caller, dir *File, path string, flags int, name string) ([]byte, error) {
	p, err := Lookup(c, dir, path, flags)
	if err != nil {
		return nil, err
	}
	defer p.Put()
	if err := checkXattr(c, p.Dentry, name, false); err != nil {
		return nil, err
	}
	return p.Dentry.inode.Getxattr(c, name)
}

// Setxattr is setxattr(2). xflags are XATTR_CREATE and XATTR_REPLACE.
func Setxattr(c Caller, dir *File, path string, flags int, name string, value []byte, xflags int) error {
	if xflags&^(unix.XATTR_CREATE|unix.XATTR_REPLACE) != 0 {
		return unix.EINVAL
	}
	if len(value) > xattrSizeMax {
		return unix.E2BIG
	}
	p, err := at(c, dir, path, flags)
	if err != nil {
		return err
	}
	defer p.Put()
	if err := checkXattr(c, p.Dentry, name, true); err != nil {
		return err
	}
	switch name {
	case xattrACLAccess, xattrACLDefault:
		err = setACL(c, p.Dentry, name, value)
	case xattrCaps:
		// The oldest form is only read.
		if _, cerr := cred.ParseFileCaps(value); cerr == unix.EINVAL || len(value) < 20 {
			return unix.EINVAL
		}
		fallthrough
	default:
		err = p.Dentry.inode.Setxattr(c, name, value, xflags)
	}
	if err == nil {
		Notify(unix.IN_ATTRIB, p)
	}
	return err
}

// setACL sets a POSIX ACL. An access ACL also sets the mode, and is not kept if the mode says it all.
func setACL(c Caller, d *Dentry, name string, value []byte) error {
	if !d.sb.acl || d.typ == unix.S_IFLNK {
		return unix.EOPNOTSUPP
	}
	es, err := parseACL(value)
	if err != nil {
		return err
	}
	if name == xattrACLDefault && !d.isDir() {
		if es == nil {
			return nil
		}
		return unix.EACCES
	}
	keep, sa := es != nil, (*SetAttr)(nil)
	if name == xattrACLAccess && es != nil {
		defer d.lockAttr()()
		var mode uint32
		mode, keep = aclMode(es)
		a := d.inode.Attr()
		mode |= a.Mode & 0o7000
		if cr := c.Cred(); !cr.InGroup(a.GID) && !cr.Capable(unix.CAP_FSETID) {
			mode &^= unix.S_ISGID
		}
		sa = &SetAttr{Valid: SetMode, Mode: mode}
	}
	// The mode comes last: it must not be changed if there is no room for the list.
	if keep {
		err = d.inode.Setxattr(c, name, value, 0)
	} else if err = d.inode.Removexattr(c, name); err == unix.ENODATA {
		err = nil
	}
	if err == nil && sa != nil {
		err = d.inode.SetAttr(c, sa)
	}
	return err
}

// Removexattr is removexattr(2).
func Removexattr(c Caller, dir *File, path string, flags int, name string) error {
	p, err := at(c, dir, path, flags)
	if err != nil {
		return err
	}
	defer p.Put()
	if err := checkXattr(c, p.Dentry, name, true); err != nil {
		return err
	}
	err = p.Dentry.inode.Removexattr(c, name)
	if err == unix.ENODATA && (name == xattrACLAccess || name == xattrACLDefault) {
		err = nil
	}
	if err == nil {
		Notify(unix.IN_ATTRIB, p)
	}
	return err
}

// Listxattr is listxattr(2): the names, each with a zero byte after it.
func Listxattr(c Caller, dir *File, path string, flags int) ([]byte, error) {
	p, err := Lookup(c, dir, path, flags)
	if err != nil {
		return nil, err
	}
	defer p.Put()
	names, err := p.Dentry.inode.Listxattr(c)
	if err == unix.EOPNOTSUPP {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	admin := c.Cred().Capable(unix.CAP_SYS_ADMIN)
	names = slices.Clone(names)
	slices.Sort(names)
	var list []byte
	for _, n := range names {
		if strings.HasPrefix(n, "trusted.") && !admin {
			continue
		}
		list = append(append(list, n...), 0)
	}
	if len(list) > xattrListMax {
		return nil, unix.E2BIG
	}
	return list, nil
}
