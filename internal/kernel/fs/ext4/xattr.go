package ext4

import (
	"strings"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/bdev"
	"github.com/user-mode-linux/linux/internal/kernel/fs/ext4/disk"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// maxXattrValue is the largest value (XATTR_SIZE_MAX).
const maxXattrValue = 65536

// xattrs visits the attributes in the inode, then those in the attribute block.
func (in *inode) xattrs(visit func(x disk.Xattr) bool) error {
	stopped := false
	each := func(x disk.Xattr) bool {
		stopped = !visit(x)
		return !stopped
	}
	if err := disk.InodeXattrs(in.room, each); err != nil {
		return in.sb.damage(err, "inode #%d: in-inode extended attributes", in.ino)
	}
	if stopped || in.raw.FileACL == 0 {
		return nil
	}
	b, err := in.xattrBlock()
	if err != nil {
		return err
	}
	defer b.Release()
	in.sb.w.itable.RLock()
	defer in.sb.w.itable.RUnlock()
	if err := disk.BlockXattrs(b.Data(), each); err != nil {
		return in.sb.damage(err, "inode #%d: extended attribute block %d", in.ino, b.Block)
	}
	return nil
}

// xattrBlock reads the attribute block, which there is.
func (in *inode) xattrBlock() (*bdev.Buffer, error) {
	sb, block := in.sb, in.raw.FileACL
	if sb.s.Incompat&disk.Incompat64bit == 0 {
		block &= 1<<32 - 1
	}
	if !sb.validBlocks(in.ino, block, 1) {
		return nil, sb.errorf(errCorrupt, "inode #%d: bad extended attribute block %d", in.ino, block)
	}
	b, err := sb.block(block)
	if err != nil {
		return nil, err
	}
	if sb.csum && !b.Checked.Load() {
		if sum, stored := disk.XattrBlockChecksum(sb.seed, block, b.Data()); sum != stored {
			b.Release()
			return nil, sb.damage(disk.ErrChecksum, "inode #%d: extended attribute block %d", in.ino, block)
		}
		b.Checked.Store(true)
	}
	return b, nil
}

// ownXattrBlock returns the attribute block if there is one and no other inode shares it.
func (in *inode) ownXattrBlock() (b *bdev.Buffer, own bool, err error) {
	if in.raw.FileACL == 0 {
		return nil, false, nil
	}
	if b, err = in.xattrBlock(); err != nil {
		return nil, false, err
	}
	if leU32(b.Data()[4:]) > 1 {
		b.Release()
		return nil, false, nil
	}
	return b, true, nil
}

// xattrName is the full name of an attribute, "" if it is not to be seen.
func (in *inode) xattrName(x *disk.Xattr) string {
	prefix, whole, ok := disk.XattrPrefix(x.Index)
	if !ok || x.Index == disk.XattrSystem && string(x.Name) == "data" {
		return ""
	}
	if whole {
		if in.sb.opts.Load().noACL {
			return ""
		}
		return prefix
	}
	if len(x.Name) == 0 || in.sb.disabled(prefix) {
		return ""
	}
	return prefix + string(x.Name)
}

// disabled reports whether a mount option disables an attribute.
func (sb *superBlock) disabled(name string) bool {
	o := sb.opts.Load()
	return o.noACL && strings.HasPrefix(name, "system.") || o.noUserXattr && strings.HasPrefix(name, "user.")
}

// Getxattr returns the value of an attribute.
func (in *inode) Getxattr(_ vfs.Caller, name string) ([]byte, error) {
	known := strings.HasPrefix(name, "user.") || strings.HasPrefix(name, "trusted.") || strings.HasPrefix(name, "security.") ||
		name == "system.posix_acl_access" || name == "system.posix_acl_default"
	if !known || in.sb.disabled(name) {
		return nil, unix.EOPNOTSUPP
	}
	in.mu.RLock()
	defer in.mu.RUnlock()
	if in.room == nil && in.raw.FileACL == 0 {
		return nil, unix.ENODATA
	}
	var value []byte
	var verr error = unix.ENODATA
	err := in.xattrs(func(x disk.Xattr) bool {
		if in.xattrName(&x) != name {
			return true
		}
		if value, verr = in.xattrValue(&x); verr != nil {
			return false
		}
		if x.Index == disk.XattrACLAccess || x.Index == disk.XattrACLDefault {
			if value, verr = disk.ACLToXattr(value); verr != nil {
				verr = in.sb.damage(verr, "inode #%d: access control list", in.ino)
			}
		}
		return false
	})
	if err == nil {
		err = verr
	}
	if err != nil {
		return nil, err
	}
	return value, nil
}

// xattrValue returns a copy of the value, which may be in an inode of its own (ea_inode).
func (in *inode) xattrValue(x *disk.Xattr) ([]byte, error) {
	if x.ValueInode == 0 {
		return append([]byte{}, x.Value...), nil
	}
	if in.sb.s.Incompat&disk.IncompatEAInode == 0 || x.ValueSize > maxXattrValue || x.ValueInode == in.ino {
		return nil, in.sb.errorf(errCorrupt, "inode #%d: bad attribute value inode %d", in.ino, x.ValueInode)
	}
	ea, err := in.sb.iget(x.ValueInode, false)
	if err != nil {
		return nil, err
	}
	if ea.raw.Flags&disk.InodeEAInode == 0 || !ea.attr.IsRegular() || ea.Attr().Size != int64(x.ValueSize) {
		return nil, in.sb.errorf(errCorrupt, "inode #%d: bad attribute value inode %d", in.ino, x.ValueInode)
	}
	p := make([]byte, x.ValueSize)
	if n, err := ea.read(uio.ToBytes(p), 0); err != nil || n < len(p) {
		return nil, errCorrupt
	}
	return p, nil
}

// Listxattr returns the names of all attributes.
func (in *inode) Listxattr(vfs.Caller) ([]string, error) {
	in.mu.RLock()
	defer in.mu.RUnlock()
	if in.room == nil && in.raw.FileACL == 0 {
		return nil, nil
	}
	var names []string
	err := in.xattrs(func(x disk.Xattr) bool {
		if n := in.xattrName(&x); n != "" {
			names = append(names, n)
		}
		return true
	})
	if err != nil {
		return nil, err
	}
	return names, nil
}
