package loop

import (
	"encoding/binary"
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/bdev"
	"github.com/user-mode-linux/linux/internal/kernel/fs/tmpfs"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
	"github.com/user-mode-linux/linux/internal/kernel/vfs/vfstest"
)

// user is a caller with descriptors and a little memory.
type user struct {
	*vfstest.Caller
	files *vfs.FDTable
	mem   vfstest.Memory
}

func (u *user) Files() *vfs.FDTable { return u.files }
func (u *user) Mem() uio.Memory     { return u.mem }

func setup(t *testing.T) *user {
	tmpfs.Register()
	tmpfs.TotalPages = 1 << 20
	sb, err := vfs.FindFilesystem("tmpfs").Mount(vfstest.NoFS(), "none", 0, "")
	if err != nil {
		t.Fatal(err)
	}
	return &user{vfstest.New(sb), vfs.NewFDTable(), make(vfstest.Memory, 8192)}
}

// file makes a file of the given size and returns its descriptor.
func (u *user) file(t *testing.T, name string, size int64, flags uint32) int32 {
	t.Helper()
	f, err := vfs.Open(u, nil, name, vfs.OpenHow{Flags: unix.O_CREAT | flags, Mode: 0o600})
	if err == nil && size > 0 {
		err = vfs.Truncate(u, nil, name, size)
	}
	if err != nil {
		t.Fatal(err)
	}
	fd, err := u.files.Install(u, f, 0, false)
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

// open opens a loop device as a block special file is.
func (u *user) open(t *testing.T, i int) *vfs.File {
	t.Helper()
	name := fmt.Sprintf("/loop%d", i)
	_ = vfs.Mknod(u, nil, name, unix.S_IFBLK|0o600, unix.Mkdev(major, uint32(i)))
	f, err := vfs.Open(u, nil, name, vfs.OpenHow{Flags: unix.O_RDWR})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func (u *user) ioctl(f *vfs.File, cmd uint32, arg uint64) error {
	_, err := f.Ops.(vfs.Ioctler).Ioctl(u, f, cmd, arg)
	return err
}

func TestLoop(t *testing.T) {
	u := setup(t)
	Init()
	fd := u.file(t, "/image", 10_000, unix.O_RDWR)
	dev := u.open(t, 0)
	want := func(what string, err, want error) {
		t.Helper()
		if err != want {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
	}
	want("status of nothing", u.ioctl(dev, loopGetStatus64, 0x1000), unix.ENXIO)
	want("bad descriptor", u.ioctl(dev, loopSetFD, 99), unix.EBADF)
	want("bind", u.ioctl(dev, loopSetFD, uint64(fd)), nil)
	want("bind again", u.ioctl(dev, loopSetFD, uint64(fd)), unix.EBUSY)
	n := bdev.Lookup("/dev/loop0")
	if n == nil || n.Size() != 9728 {
		t.Fatalf("%+v", n)
	}
	if _, err := vfs.Pwrite(u, dev, uio.FromBytes([]byte("hello")), 1000); err != nil {
		t.Fatal(err)
	}
	want("fsync", vfs.Fsync(u, dev, false), nil)
	f, err := u.files.Get(fd)
	want("get", err, nil)
	p := make([]byte, 5)
	if _, err := vfs.Pread(u, f, uio.ToBytes(p), 1000); err != nil || string(p) != "hello" {
		t.Errorf("the file has %q (%v)", p, err)
	}
	f.DecRef()
	// Offset and limit; what was written before lies where it would have lain.
	if _, err := vfs.Pwrite(u, dev, uio.FromBytes([]byte("HELLO")), 1000); err != nil {
		t.Fatal(err)
	}
	i := info{offset: 1000, limit: 1024}
	copy(i.name[:], "name")
	mem := u.mem[0x1000:]
	binary.LittleEndian.PutUint64(mem[24:], i.offset)
	binary.LittleEndian.PutUint64(mem[32:], i.limit)
	copy(mem[56:], "name")
	want("set status", u.ioctl(dev, loopSetStatus64, 0x1000), nil)
	if n.Size() != 1024 {
		t.Errorf("size %d with a limit", n.Size())
	}
	if _, err := vfs.Pread(u, dev, uio.ToBytes(p), 0); err != nil || string(p) != "HELLO" {
		t.Errorf("at the offset: %q (%v)", p, err)
	}
	clear(mem)
	want("get status", u.ioctl(dev, loopGetStatus64, 0x1000), nil)
	if got := decodeInfo64(mem[:info64Size]); got.offset != 1000 || got.limit != 1024 || got.name != i.name {
		t.Errorf("%+v", got)
	}
	want("old status with a limit", u.ioctl(dev, loopGetStatus, 0x1000), unix.EOVERFLOW)
	want("set bad block size", u.ioctl(dev, loopSetBlockSize, 4096), unix.EINVAL)
	// A device of its own is refused as its file.
	self, err := u.files.Install(u, u.open(t, 0), 0, false)
	want("install", err, nil)
	other := u.open(t, 1)
	want("bind to a loop device", u.ioctl(other, loopSetFD, uint64(self)), nil)
	want("unbind", u.ioctl(other, loopClrFD, 0), nil)
	other.DecRef()
	if bdev.Lookup("loop1").Size() != 0 {
		t.Error("loop1 is still bound")
	}
	// Unbinding waits for the last user.
	want("unbind while open elsewhere", u.ioctl(dev, loopClrFD, 0), nil)
	if n.Size() == 0 {
		t.Error("unbound while it is open")
	}
	u.files.Close(u, self)
	dev.DecRef()
	if n.Size() != 0 {
		t.Error("still bound after the last close")
	}
	// A file that may only be read makes a device that may only be read.
	ro := u.file(t, "/image", 0, unix.O_RDONLY)
	dev = u.open(t, 2)
	defer dev.DecRef()
	want("bind read-only", u.ioctl(dev, loopSetFD, uint64(ro)), nil)
	if _, err := vfs.Pwrite(u, dev, uio.FromBytes(p), 0); err != unix.EPERM && err != unix.EROFS {
		t.Errorf("write to a read-only device: %v", err)
	}
}

func TestControl(t *testing.T) {
	u := setup(t)
	ctl := func(cmd uint32, arg uint64) (uint64, error) { return controlFile{}.Ioctl(u, nil, cmd, arg) }
	i, err := ctl(loopCtlAdd, 100)
	if i != 100 || err != nil || bdev.Lookup("loop100") == nil {
		t.Fatalf("add: %d %v", i, err)
	}
	if _, err := ctl(loopCtlAdd, 100); err != unix.EEXIST {
		t.Errorf("add again: %v", err)
	}
	dev := u.open(t, 100)
	if _, err := ctl(loopCtlRemove, 100); err != unix.EBUSY {
		t.Errorf("remove while open: %v", err)
	}
	dev.DecRef()
	if _, err := ctl(loopCtlRemove, 100); err != nil || bdev.Lookup("loop100") != nil {
		t.Errorf("remove: %v", err)
	}
	if _, err := ctl(loopCtlRemove, 100); err != unix.ENODEV {
		t.Errorf("remove again: %v", err)
	}
	if _, err := ctl(loopCtlAdd, 1<<20); err != unix.ENOSPC {
		t.Errorf("add far out: %v", err)
	}
	if i, err := ctl(loopCtlGetFree, 0); err != nil || bdev.Lookup(fmt.Sprintf("loop%d", i)) == nil {
		t.Errorf("get free: %d %v", i, err)
	}
}
