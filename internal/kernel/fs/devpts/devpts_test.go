package devpts

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/cred"
	"github.com/user-mode-linux/linux/internal/kernel/tty"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// caller is a process that opens ptys and never sleeps.
type caller struct{ cred *cred.Cred }

func (caller) Sleep(int64) error  { return unix.EINTR }
func (caller) Wake()              {}
func (c caller) Cred() *cred.Cred { return c.cred }
func (caller) Mem() uio.Memory    { return nil }
func (caller) FS() *vfs.FSContext { return nil }
func (caller) PID() int32         { return 1 }
func (caller) Rlimit(int) uint64  { return 0 }
func (caller) Signal(unix.Signal) {}

func TestOptions(t *testing.T) {
	for data, want := range map[string]string{
		"":                                    ",mode=600,ptmxmode=000",
		"gid=5,mode=620":                      ",gid=5,mode=620,ptmxmode=000",
		"newinstance,ptmxmode=0666,mode=0620": ",mode=620,ptmxmode=666",
		"uid=1,gid=2,max=7":                   ",uid=1,gid=2,mode=600,ptmxmode=000,max=7",
	} {
		sb, err := mount(nil, "", 0, data)
		if err != nil || sb.Options() != want {
			t.Errorf("%q: %v %q", data, err, sb.Options())
		}
	}
	for _, data := range []string{"mode=9", "gid=x", "max=1048577", "bogus", "uid", "gid=-1", "uid=99999999999"} {
		if _, err := mount(nil, "", 0, data); err != unix.EINVAL {
			t.Errorf("%q: %v", data, err)
		}
	}
}

func TestInstancesAreSeparateAndLimited(t *testing.T) {
	c := caller{&cred.Cred{FSUID: 1000, FSGID: 100}}
	a, _ := mount(c, "", 0, "max=2,mode=620,gid=5")
	b, _ := mount(c, "", 0, "")
	open := func(sb vfs.SuperBlock) (vfs.FileOps, error) {
		return tty.OpenMaster(c, vfs.NewFile(vfs.Path{}, nil, nil, unix.O_RDWR), sb.(*superBlock))
	}
	var masters []vfs.FileOps
	for range 2 {
		m, err := open(a)
		if err != nil {
			t.Fatal(err)
		}
		masters = append(masters, m)
	}
	if _, err := open(a); err != unix.ENOSPC {
		t.Error("more than max:", err)
	}
	m, err := open(b)
	if err != nil {
		t.Fatal(err)
	}
	at := a.Root()
	for _, name := range []string{"2", "01", "-1", "+1", "x", ""} {
		if _, err := at.Lookup(c, name); err != unix.ENOENT {
			t.Errorf("lookup %q: %v", name, err)
		}
	}
	in, err := at.Lookup(c, "1")
	if err != nil {
		t.Fatal(err)
	}
	if x := in.Attr(); x.UID != 1000 || x.GID != 5 || x.Mode != unix.S_IFCHR|0620 {
		t.Errorf("%+v", x)
	}
	if again, _ := at.Lookup(c, "1"); again != in {
		t.Error("the inode of a name changes")
	}
	if err := in.SetAttr(c, &vfs.SetAttr{Valid: vfs.SetMode | vfs.SetUID, Mode: 0600, UID: 7}); err != nil {
		t.Fatal(err)
	}
	if x := in.Attr(); x.UID != 7 || x.Mode != unix.S_IFCHR|0600 {
		t.Errorf("%+v", x)
	}
	if in, err := b.Root().Lookup(c, "0"); err != nil || in.Attr().GID != 100 {
		t.Error("other instance:", err)
	}
	for _, m := range append(masters, m) {
		m.Release(nil)
	}
	if n := tty.Ptys.Count.Load(); n != 0 {
		t.Error(n)
	}
	if x := in.Attr(); x.Nlink != 0 {
		t.Error("links left")
	}
}

// TestSystemLimit: kernel.pty.max is for all instances, and one less than it says; reserve keeps some of them for the first
// name space.
func TestSystemLimit(t *testing.T) {
	max, reserve := tty.Ptys.Max.Load(), tty.Ptys.Reserve.Load()
	defer func() { tty.Ptys.Max.Store(max); tty.Ptys.Reserve.Store(reserve) }()
	tty.Ptys.Max.Store(5)
	tty.Ptys.Reserve.Store(2)
	c := caller{&cred.Cred{}}
	first, _ := mount(c, "", 0, "")
	later, _ := mount(c, "", 0, "")
	later.(*superBlock).first = false
	open := func(sb vfs.SuperBlock) error {
		m, err := tty.OpenMaster(c, vfs.NewFile(vfs.Path{}, nil, nil, unix.O_RDWR), sb.(*superBlock))
		if err == nil {
			t.Cleanup(func() { m.Release(nil) })
		}
		return err
	}
	for i, step := range []struct {
		sb   vfs.SuperBlock
		want error
	}{{later, nil}, {later, nil}, {later, unix.ENOSPC}, {first, nil}, {first, nil}, {first, unix.ENOSPC}} {
		if err := open(step.sb); err != step.want {
			t.Errorf("%d: %v, want %v", i, err, step.want)
		}
	}
}
