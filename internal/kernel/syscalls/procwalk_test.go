package syscalls

import (
	"bytes"
	pathpkg "path"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/fs/procfs"
	"github.com/user-mode-linux/linux/internal/kernel/fs/sysfs"
)

// TestWalk visits everything in proc and sys: what getdents says of a file must be what stat says, inode numbers must be
// the files' own, and every file must be readable or refuse with an error that programs know.
func TestWalk(t *testing.T) {
	g := newGuest(t)
	procfs.New(procfs.Config{Kernel: g.t.K})
	sysfs.Init(sysfs.Config{CPUs: 2})
	for _, fs := range []string{"proc", "sysfs"} {
		g.ok(unix.SYS_MKDIR, g.str("/"+fs), 0o755)
		g.ok(unix.SYS_MOUNT, g.str("none"), g.str("/"+fs), g.str(fs), 0, 0)
	}
	base := g.next
	w := &walk{g: g, base: base, inos: map[uint64]string{}}
	w.dir("/proc")
	clear(w.inos)
	w.dir("/sysfs")
	if w.files < 300 {
		t.Errorf("only %d files", w.files)
	}
}

type walk struct {
	g     *guest
	base  uint64
	inos  map[uint64]string
	files int
}

func (w *walk) dir(path string) {
	g := w.g
	fd, err := g.call(unix.SYS_OPEN, g.str(path), unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		g.Errorf("%s: %v", path, err)
		return
	}
	var all []byte
	buf := g.buf(32 << 10)
	for {
		n := g.ok(unix.SYS_GETDENTS64, fd, buf, 32<<10)
		if n == 0 {
			break
		}
		all = append(all, g.bytes(buf, int(n))...)
	}
	g.ok(unix.SYS_CLOSE, fd)
	for b := all; len(b) > 0; b = b[le.Uint16(b[16:]):] {
		name, _, _ := bytes.Cut(b[19:], []byte{0})
		// The only descriptor was that of the directory being listed.
		if s := string(name); s != "." && s != ".." && !strings.HasPrefix(pathpkg.Base(path), "fd") {
			w.entry(path+"/"+s, le.Uint64(b), b[18])
		}
	}
}

func (w *walk) entry(path string, ino uint64, typ byte) {
	g := w.g
	g.next = w.base // what was allocated before is not needed any more
	st := g.buf(statSize)
	if _, err := g.call(unix.SYS_LSTAT, g.str(path), st); err != nil {
		g.Errorf("%s: %v", path, err)
		return
	}
	w.files++
	b := g.bytes(st, statSize)
	mode := le.Uint32(b[24:])
	if got := le.Uint64(b[8:]); got != ino || byte(mode&unix.S_IFMT>>12) != typ {
		g.Errorf("%s: inode %d type %d, listed as %d, %d", path, got, mode>>12, ino, typ)
	}
	if other := w.inos[ino]; other != "" {
		g.Errorf("%s and %s have the same inode number %d", path, other, ino)
	}
	w.inos[ino] = path
	switch mode & unix.S_IFMT {
	case unix.S_IFDIR:
		w.dir(path)
	case unix.S_IFLNK:
		if _, err := g.call(unix.SYS_READLINK, g.str(path), g.buf(4096), 4096); err != nil && err != unix.ENOENT {
			g.Errorf("readlink %s: %v", path, err)
		}
	case unix.S_IFREG:
		w.read(path, mode)
	}
}

func (w *walk) read(path string, mode uint32) {
	g := w.g
	fd, err := g.call(unix.SYS_OPEN, g.str(path), unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		g.Errorf("open %s: %v", path, err)
		return
	}
	defer g.call(unix.SYS_CLOSE, fd) //nolint:errcheck // nothing to do about it
	buf := g.buf(512)
	for range 10000 {
		n, err := g.call(unix.SYS_READ, fd, buf, 512)
		switch err {
		case nil:
		case unix.EIO:
			if mode&0o400 != 0 {
				g.Errorf("read %s: %v", path, err)
			}
			return
		case unix.ESRCH, unix.EAGAIN: // no memory of its own; no messages
			return
		default:
			g.Errorf("read %s: %v", path, err)
			return
		}
		if n == 0 {
			return
		}
	}
	g.Errorf("%s does not end", path)
}
