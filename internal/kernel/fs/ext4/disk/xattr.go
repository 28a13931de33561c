package disk

// Extended attribute layout.
const (
	XattrMagic      = 0xea020000
	XattrHeaderSize = 32
	xattrEntrySize  = 16

	XattrUser       = 1
	XattrACLAccess  = 2
	XattrACLDefault = 3
	XattrTrusted    = 4
	XattrSecurity   = 6
	XattrSystem     = 7
)

// Xattr is an entry. Name and Value point into the region; Value is nil if it lies in an inode of its own.
type Xattr struct {
	Index      uint8
	Name       []byte
	Value      []byte
	ValueInode uint32
	ValueSize  uint32
	Hash       uint32
}

// Xattrs reads the entries of a region. Entries begin at first; value offsets count from base.
func Xattrs(b []byte, first, base int, visit func(x Xattr) bool) error {
	for off := first; ; {
		if off+4 > len(b) {
			return ErrCorrupt
		}
		if le.Uint32(b[off:]) == 0 {
			return nil
		}
		if off+xattrEntrySize > len(b) {
			return ErrCorrupt
		}
		e := b[off:]
		n := int(e[0])
		x := Xattr{Index: e[1], ValueInode: le.Uint32(e[4:]), ValueSize: le.Uint32(e[8:]), Hash: le.Uint32(e[12:])}
		if xattrEntrySize+n > len(e) {
			return ErrCorrupt
		}
		x.Name = e[xattrEntrySize : xattrEntrySize+n]
		if x.ValueInode == 0 {
			v := base + int(le.Uint16(e[2:]))
			if uint64(v)+uint64(x.ValueSize) > uint64(len(b)) {
				return ErrCorrupt
			}
			x.Value = b[v : v+int(x.ValueSize)]
		}
		if !visit(x) {
			return nil
		}
		off += (xattrEntrySize + n + 3) &^ 3
	}
}

// InodeXattrs reads the entries in an inode's own room.
func InodeXattrs(inode []byte, visit func(x Xattr) bool) error {
	if len(inode) < BaseInodeSize+4 {
		return nil
	}
	start := BaseInodeSize + int(le.Uint16(inode[128:]))
	if start+8 > len(inode) || le.Uint32(inode[start:]) != XattrMagic {
		return nil
	}
	return Xattrs(inode, start+4, start+4, visit)
}

// BlockXattrs reads the entries of an attribute block.
func BlockXattrs(b []byte, visit func(x Xattr) bool) error {
	if len(b) < XattrHeaderSize || le.Uint32(b) != XattrMagic || le.Uint32(b[8:]) != 1 {
		return ErrCorrupt
	}
	return Xattrs(b, XattrHeaderSize, 0, visit)
}

// XattrBlockChecksum returns the computed and stored checksum of an attribute block.
func XattrBlockChecksum(seed uint32, block uint64, b []byte) (sum, stored uint32) {
	return crcZeroed(CRC32CU64(seed, block), b, 16, 4), le.Uint32(b[16:])
}

// XattrPrefix is the prefix of the names with an index; whole says that the prefix is the whole name.
func XattrPrefix(index uint8) (prefix string, whole, ok bool) {
	switch index {
	case XattrUser:
		return "user.", false, true
	case XattrACLAccess:
		return "system.posix_acl_access", true, true
	case XattrACLDefault:
		return "system.posix_acl_default", true, true
	case XattrTrusted:
		return "trusted.", false, true
	case XattrSecurity:
		return "security.", false, true
	case XattrSystem:
		return "system.", false, true
	}
	return "", false, false
}

// Tags of POSIX ACL entries (linux/posix_acl.h).
const (
	ACLUserObj  = 0x01
	ACLUser     = 0x02
	ACLGroupObj = 0x04
	ACLGroup    = 0x08
	ACLMask     = 0x10
	ACLOther    = 0x20
)

const aclVersion, aclXattrVersion = 1, 2

// ACLToXattr turns an ACL as ext4 stores it into the form of system.posix_acl_* (linux/posix_acl_xattr.h).
func ACLToXattr(b []byte) ([]byte, error) {
	if len(b) == 0 {
		return nil, nil
	}
	if len(b) < 4 || le.Uint32(b) != aclVersion {
		return nil, ErrCorrupt
	}
	out := le.AppendUint32(nil, aclXattrVersion)
	for b = b[4:]; len(b) > 0; {
		if len(b) < 4 {
			return nil, ErrCorrupt
		}
		tag, perm, id, n := le.Uint16(b), le.Uint16(b[2:]), ^uint32(0), 4
		switch tag {
		case ACLUserObj, ACLGroupObj, ACLMask, ACLOther:
		case ACLUser, ACLGroup:
			if len(b) < 8 {
				return nil, ErrCorrupt
			}
			id, n = le.Uint32(b[4:]), 8
		default:
			return nil, ErrCorrupt
		}
		out = le.AppendUint16(out, tag)
		out = le.AppendUint16(out, perm)
		out = le.AppendUint32(out, id)
		b = b[n:]
	}
	return out, nil
}

// ACLFromXattr does the reverse.
func ACLFromXattr(b []byte) ([]byte, error) {
	if len(b) == 0 {
		return nil, nil
	}
	if len(b) < 4 || (len(b)-4)%8 != 0 || le.Uint32(b) != aclXattrVersion {
		return nil, ErrCorrupt
	}
	out := le.AppendUint32(nil, aclVersion)
	for b = b[4:]; len(b) > 0; b = b[8:] {
		tag := le.Uint16(b)
		out = append(out, b[:4]...)
		switch tag {
		case ACLUserObj, ACLGroupObj, ACLMask, ACLOther:
		case ACLUser, ACLGroup:
			out = append(out, b[4:8]...)
		default:
			return nil, ErrCorrupt
		}
	}
	return out, nil
}
