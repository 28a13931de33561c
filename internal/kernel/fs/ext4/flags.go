package ext4

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/fs/ext4/disk"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// Flags of inodes: FS_IOC_SETFLAGS (chattr(1)), and FS_IOC_FSGETXATTR and FSSETXATTR, which have the project, too.

// modifiableFlags are those that may be changed: the rest belongs to the file system. Of them regular files have no
// directoryFlags, and what is neither has only otherFlags.
const (
	modifiableFlags = disk.InodeSecrm | 0x2 | 0x4 | disk.InodeSync | disk.InodeImmutable | disk.InodeAppend | disk.InodeNodump |
		disk.InodeNoatime | disk.InodeJournalData | 0x8000 | directoryFlags | disk.InodeDAX
	directoryFlags = disk.InodeDirsync | 0x20000 | disk.InodeProjinherit
	otherFlags     = disk.InodeNodump | disk.InodeNoatime
)

// flagsFor are the flags of a set that a file of a type can have.
func flagsFor(mode, flags uint32) uint32 {
	switch mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return flags
	case unix.S_IFREG:
		return flags &^ directoryFlags
	}
	return flags & otherFlags
}

// ioctlSetFlags is FS_IOC_SETFLAGS (ioctl_iflags(2)).
func (in *inode) ioctlSetFlags(c vfs.Caller, arg uint64) error {
	var b [4]byte
	if err := uio.ReadFull(c.Mem(), b[:], arg); err != nil {
		return err
	}
	return in.setFlags(c, leU32(b[:]), nil)
}

// setFlags sets the flags, and the project unless it is nil.
func (in *inode) setFlags(c vfs.Caller, want uint32, project *uint32) error {
	sb := in.sb
	a := in.Attr()
	if cr := c.Cred(); cr.FSUID != a.UID && !cr.Capable(unix.CAP_FOWNER) {
		return unix.EPERM
	}
	journal := false
	err := in.change(func() error {
		in.mu.Lock()
		defer in.mu.Unlock()
		diff := (want ^ in.raw.Flags) & modifiableFlags
		newProject := project != nil && *project != in.raw.Projid
		switch {
		case diff&(disk.InodeImmutable|disk.InodeAppend) != 0 && !c.Cred().Capable(unix.CAP_LINUX_IMMUTABLE):
			return unix.EPERM
		case want&^userVisibleFlags != 0, flagsFor(in.attr.Mode, want&modifiableFlags) != want&modifiableFlags,
			(want^in.raw.Flags)&(disk.InodeExtents|disk.InodeCasefold) != 0,
			newProject && (sb.s.ROCompat&disk.ROProject == 0 || in.raw.ExtraIsize < 32):
			return unix.EOPNOTSUPP
		case in.raw.Flags&want&disk.InodeImmutable != 0 && (diff != 0 || newProject),
			diff&disk.InodeJournalData != 0 && !c.Cred().Capable(unix.CAP_SYS_RESOURCE):
			return unix.EPERM
		}
		if project != nil {
			in.raw.Projid = *project
		}
		journal = diff&disk.InodeJournalData != 0 && in.attr.IsRegular()
		if in.raw.Flags ^= diff; journal {
			in.raw.Flags ^= disk.InodeJournalData // not yet
		}
		flags := in.raw.Flags
		in.update(func(a *vfs.Attr) {
			a.Flags &^= unix.STATX_ATTR_APPEND | unix.STATX_ATTR_IMMUTABLE | unix.STATX_ATTR_NODUMP
			if flags&disk.InodeAppend != 0 {
				a.Flags |= unix.STATX_ATTR_APPEND
			}
			if flags&disk.InodeImmutable != 0 {
				a.Flags |= unix.STATX_ATTR_IMMUTABLE
			}
			if flags&disk.InodeNodump != 0 {
				a.Flags |= unix.STATX_ATTR_NODUMP
			}
		})
		in.changed()
		return nil
	})
	if err == nil && journal {
		err = in.setJournalData(want&disk.InodeJournalData != 0)
	}
	return err
}

// xflags are the flags of struct fsxattr (linux/fs.h) that are flags of inodes, too.
var xflags = [...]struct{ flag, xflag uint32 }{
	{disk.InodeImmutable, 0x8}, {disk.InodeAppend, 0x10}, {disk.InodeSync, 0x20}, {disk.InodeNoatime, 0x40},
	{disk.InodeNodump, 0x80}, {disk.InodeProjinherit, 0x200}, {disk.InodeDAX, 0x8000}, {disk.InodeVerity, 0x20000},
}

// What other file systems have: it is accepted, as by Linux, and has no effect.
const (
	xflagExtsize      = 0x800
	xflagExtszinherit = 0x1000
	otherXflags       = 0x1 | 0x2 | 0x100 | 0x400 | xflagExtsize | xflagExtszinherit | 0x2000 | 0x4000 | 0x10000 | 1<<31
)

// Layout of struct fsxattr: the flags are at 0.
const (
	fsxattrSize    = 28
	fsxattrProject = 12
)

// getXflags fills a struct fsxattr. The caller holds in.mu.
func (in *inode) getXflags() []byte {
	x := make([]byte, fsxattrSize)
	flags := uint32(0)
	for _, f := range xflags {
		if in.raw.Flags&f.flag != 0 {
			flags |= f.xflag
		}
	}
	le32(x, flags)
	le32(x[fsxattrProject:], in.raw.Projid)
	return x
}

// ioctlSetXflags is FS_IOC_FSSETXATTR.
func (in *inode) ioctlSetXflags(c vfs.Caller, arg uint64) error {
	var x [fsxattrSize]byte
	if err := uio.ReadFull(c.Mem(), x[:], arg); err != nil {
		return err
	}
	le := binary.LittleEndian
	in.mu.RLock()
	want, asked := in.raw.Flags&userVisibleFlags, le.Uint32(x[:])
	in.mu.RUnlock()
	for _, f := range xflags {
		want &^= f.flag
		if asked&f.xflag != 0 {
			want |= f.flag
		}
		asked &^= f.xflag
	}
	switch a := in.Attr(); {
	case asked&^otherXflags != 0:
		return unix.EOPNOTSUPP
	case asked&xflagExtsize != 0 && !a.IsRegular(), asked&xflagExtszinherit != 0 && !a.IsDir():
		return unix.EINVAL
	}
	project := le.Uint32(x[fsxattrProject:])
	return in.setFlags(c, want, &project)
}
