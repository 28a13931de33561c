package devtmpfs

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/chrdev"
	"github.com/user-mode-linux/linux/internal/kernel/cred"
	"github.com/user-mode-linux/linux/internal/kernel/fs/devpts"
	"github.com/user-mode-linux/linux/internal/kernel/fs/tmpfs"
	"github.com/user-mode-linux/linux/internal/kernel/tty"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// nullPort is a console without a host.
type nullPort struct{}

func (nullPort) Open(*tty.TTY) error        { return nil }
func (nullPort) Close()                     {}
func (nullPort) Write(b []byte) int         { return len(b) }
func (nullPort) Room() int                  { return 4096 }
func (nullPort) Pending() int               { return 0 }
func (nullPort) Discard()                   {}
func (nullPort) Unthrottle()                {}
func (nullPort) Size() (unix.Winsize, bool) { return unix.Winsize{}, false }

// guest is a process with a root file system that has devtmpfs on /dev.
func guest(t *testing.T) *kernel {
	t.Helper()
	ns := vfs.NewNamespace(tmpfs.NewRoot(), "rootfs", 0)
	c := &kernel{cred: cred.Root(), fs: vfs.NewFSContext(ns)}
	if err := vfs.Mkdir(c, nil, "/dev", 0755); err != nil {
		t.Fatal(err)
	}
	if err := vfs.DoMount(c, "devtmpfs", "/dev", "devtmpfs", 0, "mode=0755"); err != nil {
		t.Fatal(err)
	}
	return c
}

func setup(t *testing.T) {
	t.Helper()
	chrdev.Init()
	tty.Init()
	devpts.Init()
	Init()
}

func TestNodes(t *testing.T) {
	setup(t)
	c := guest(t)
	for name, want := range map[string]struct {
		mode uint32
		rdev uint64
	}{
		"null":    {unix.S_IFCHR | 0666, unix.Mkdev(1, 3)},
		"kmsg":    {unix.S_IFCHR | 0644, unix.Mkdev(1, 11)},
		"console": {unix.S_IFCHR | 0600, unix.Mkdev(5, 1)},
		"ptmx":    {unix.S_IFCHR | 0666, unix.Mkdev(5, 2)},
		"shm":     {unix.S_IFDIR | 01777, 0},
		"pts":     {unix.S_IFDIR | 0755, 0},
	} {
		a, err := vfs.Stat(c, nil, "/dev/"+name, 0)
		if err != nil || a.Mode != want.mode || a.Rdev != want.rdev {
			t.Errorf("%s: mode %o rdev %x, %v; want %o %x", name, a.Mode, a.Rdev, err, want.mode, want.rdev)
		}
	}
	if s, err := vfs.Readlink(c, nil, "/dev/stdin"); err != nil || s != "/proc/self/fd/0" {
		t.Errorf("stdin -> %q, %v", s, err)
	}
}

func TestDevicesAppearInEveryMount(t *testing.T) {
	setup(t)
	a, b := guest(t), guest(t)
	const name = "/dev/mapper/control"
	if _, err := vfs.Stat(a, nil, name, 0); err != unix.ENOENT {
		t.Fatal(err) // and a negative entry is cached
	}
	if err := AddNode("mapper/control", unix.S_IFCHR|0600, unix.Mkdev(10, 236)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []*kernel{a, b, guest(t)} {
		if at, err := vfs.Stat(c, nil, name, 0); err != nil || at.Rdev != unix.Mkdev(10, 236) {
			t.Error(at.Rdev, err)
		}
	}
	if err := RemoveNode("mapper/control"); err != nil {
		t.Fatal(err)
	}
	if _, err := vfs.Stat(b, nil, "/dev/mapper", 0); err != unix.ENOENT {
		t.Error("the directory is left:", err)
	}
	// The tree outlives its mounts.
	if err := vfs.Umount(a, "/dev", 0); err != nil {
		t.Fatal(err)
	}
	if _, err := vfs.Stat(b, nil, "/dev/null", 0); err != nil {
		t.Error(err)
	}
}

func TestConsolesHaveNodes(t *testing.T) {
	setup(t)
	c := guest(t)
	line, err := tty.RegisterConsole(7, nullPort{})
	if err != nil {
		t.Fatal(err)
	}
	f, err := vfs.Open(c, nil, "/dev/tty7", vfs.OpenHow{Flags: unix.O_RDWR})
	if err != nil {
		t.Fatal(err)
	}
	if tty.Of(f.Ops) != line {
		t.Error("not the terminal")
	}
	if tty.Unregister(line) != unix.EBUSY {
		t.Error("removed while open")
	}
	f.DecRef()
	if err := tty.Unregister(line); err != nil {
		t.Fatal(err)
	}
	if _, err := vfs.Stat(c, nil, "/dev/tty7", 0); err != unix.ENOENT {
		t.Error(err)
	}
}

func TestPty(t *testing.T) {
	setup(t)
	c := guest(t)
	open := func(name string) (*vfs.File, error) {
		return vfs.Open(c, nil, name, vfs.OpenHow{Flags: unix.O_RDWR | unix.O_NOCTTY})
	}
	if _, err := open("/dev/ptmx"); err != unix.ENODEV {
		t.Error("ptmx without devpts:", err)
	}
	if err := vfs.DoMount(c, "devpts", "/dev/pts", "devpts", 0, "gid=5,mode=620,ptmxmode=666"); err != nil {
		t.Fatal(err)
	}
	m, err := open("/dev/ptmx")
	if err != nil {
		t.Fatal(err)
	}
	m2, err := open("/dev/pts/ptmx")
	if err != nil {
		t.Fatal(err)
	}
	a, err := vfs.Stat(c, nil, "/dev/pts/1", 0)
	if err != nil || a.Mode != unix.S_IFCHR|0620 || a.GID != 5 || a.Rdev != unix.Mkdev(136, 1) {
		t.Errorf("pts/1: %+v, %v", a, err)
	}
	if _, err := open("/dev/pts/0"); err != unix.EIO {
		t.Error("locked pty:", err)
	}
	var names []string
	d, err := vfs.Open(c, nil, "/dev/pts", vfs.OpenHow{Flags: unix.O_RDONLY | unix.O_DIRECTORY})
	if err != nil {
		t.Fatal(err)
	}
	_ = vfs.ReadDir(c, d, func(e vfs.DirEnt) bool { names = append(names, e.Name); return true })
	d.DecRef()
	if len(names) != 5 || names[2] != "ptmx" || names[4] != "1" {
		t.Error(names)
	}
	if n, err := vfs.Write(c, m, uio.FromBytes([]byte("hi\n"))); n != 3 || err != nil {
		t.Error(n, err)
	}
	b := make([]byte, 10)
	if n, err := vfs.Read(c, m, uio.ToBytes(b)); string(b[:n]) != "hi\r\n" || err != nil {
		t.Errorf("%q %v", b[:n], err)
	}
	m.DecRef()
	if _, err := vfs.Stat(c, nil, "/dev/pts/0", 0); err != unix.ENOENT {
		t.Error("name left after the master was closed:", err)
	}
	m3, err := open("/dev/ptmx")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := vfs.Stat(c, nil, "/dev/pts/0", 0); err != nil {
		t.Error("number not reused:", err)
	}
	m2.DecRef()
	m3.DecRef()
	if tty.Ptys.Count.Load() != 0 {
		t.Error("ptys left:", tty.Ptys.Count.Load())
	}
}
