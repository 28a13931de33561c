package devpts

import (
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/tty"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// inode is what all inodes share. attr is guarded by sb.mu.
type inode struct {
	vfs.InodeBase
	sb   *superBlock
	attr vfs.Attr
}

func (in *inode) Super() vfs.SuperBlock { return in.sb }

func (in *inode) Attr() vfs.Attr {
	in.sb.mu.Lock()
	defer in.sb.mu.Unlock()
	return in.attr
}

// SetAttr changes owner, permissions and times, which is how login and mesg protect a terminal.
func (in *inode) SetAttr(_ vfs.Caller, sa *vfs.SetAttr) error {
	in.sb.mu.Lock()
	defer in.sb.mu.Unlock()
	sa.Apply(&in.attr)
	return nil
}

// node is ptmx (pty nil) or the slave of a pty.
type node struct {
	inode
	pty *tty.Pty
}

// Open makes a new pty or opens a slave.
func (n *node) Open(c vfs.Caller, f *vfs.File) (vfs.FileOps, error) {
	if n.pty == nil {
		return tty.OpenMaster(c, f, n.sb)
	}
	return tty.OpenSlave(c, f, n.pty)
}

// dir is the root directory, the only one.
type dir struct{ inode }

// Lookup finds ptmx and the visible ptys.
func (d *dir) Lookup(_ vfs.Caller, name string) (vfs.Inode, error) {
	if name == "ptmx" {
		return d.sb.ptmx, nil
	}
	i, err := strconv.Atoi(name)
	if err != nil || strconv.Itoa(i) != name {
		return nil, unix.ENOENT
	}
	if in := d.sb.PtyInode(i); in != nil {
		return in, nil
	}
	return nil, unix.ENOENT
}

// Open opens the directory for listing.
func (d *dir) Open(vfs.Caller, *vfs.File) (vfs.FileOps, error) { return &listing{d: d}, nil }

// listing is the open directory.
type listing struct {
	vfs.FileBase
	d *dir
}

func (*listing) Seek(_ vfs.Caller, f *vfs.File, off int64, whence int) (int64, error) {
	if whence == unix.SEEK_CUR {
		off += f.Pos()
	} else if whence != unix.SEEK_SET {
		return 0, unix.EINVAL
	}
	if off < 0 {
		return 0, unix.EINVAL
	}
	return off, nil
}

// ReadDir lists ".", "..", ptmx and the ptys; the position of a pty is its number plus 3, so that those that come and go
// do not move the others.
func (l *listing) ReadDir(_ vfs.Caller, _ *vfs.File, off int64, emit func(vfs.DirEnt) bool) error {
	fixed := [...]vfs.DirEnt{
		{Name: ".", Ino: rootIno, Type: unix.DT_DIR, Off: 1},
		{Name: "..", Ino: rootIno, Type: unix.DT_DIR, Off: 2},
		{Name: "ptmx", Ino: ptmxIno, Type: unix.DT_CHR, Off: 3},
	}
	for ; off < int64(len(fixed)); off++ {
		if off >= 0 && !emit(fixed[off]) {
			return nil
		}
	}
	for _, i := range l.d.sb.numbers() {
		at := int64(len(fixed) + i)
		if at < off {
			continue
		}
		if !emit(vfs.DirEnt{Name: strconv.Itoa(i), Ino: uint64(firstIno + i), Type: unix.DT_CHR, Off: at + 1}) {
			return nil
		}
	}
	return nil
}
