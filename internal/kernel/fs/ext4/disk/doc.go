// Package disk has the on-disk layout of ext2, ext3 and ext4: fixed-size structures with explicit little-endian decoding
// and encoding, checksums, and directory hashes. It holds no state, reads no device and knows no kernel object.
//
// Decode functions accept any bytes and never panic on a slice of the documented length; what the values mean, and
// whether they make sense, is for the caller to check, except that iterators (Dirents, Xattrs, Extents) stop with
// ErrCorrupt at the first entry that does not fit. Encode functions write the known fields into a buffer and leave
// the other bytes alone, so that fields of newer versions survive.
//
// Source: the layout in Documentation/filesystems/ext4/ of the Linux documentation and in ext2_fs.h of e2fsprogs, checked
// against images made by mke2fs.
package disk
