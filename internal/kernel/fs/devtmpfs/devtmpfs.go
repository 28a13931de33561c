package devtmpfs

import (
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/chrdev"
	"github.com/user-mode-linux/linux/internal/kernel/cred"
	"github.com/user-mode-linux/linux/internal/kernel/fs/tmpfs"
	"github.com/user-mode-linux/linux/internal/kernel/klog"
	"github.com/user-mode-linux/linux/internal/kernel/tty"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// Type is the file system type.
var Type = &vfs.FilesystemType{Name: "devtmpfs", Mount: mount}

// tree is the one instance.
var tree struct {
	once sync.Once
	sb   *superBlock
	c    *kernel
}

// superBlock is a tmpfs that calls itself devtmpfs and is never released.
type superBlock struct{ vfs.SuperBlock }

func (*superBlock) Type() *vfs.FilesystemType { return Type }
func (*superBlock) Release()                  {}

// Statfs says tmpfs.
func (sb *superBlock) Statfs() unix.Statfs_t {
	st := sb.SuperBlock.Statfs()
	st.Type = unix.TMPFS_MAGIC
	return st
}

// Remount changes nothing: the options of the one tree are the kernel's.
func (*superBlock) Remount(vfs.Caller, uint64, string) error { return nil }

func mount(vfs.Caller, string, uint64, string) (vfs.SuperBlock, error) {
	create()
	return tree.sb, nil
}

// create makes the instance and the namespace through which it is changed.
func create() {
	tree.once.Do(func() {
		tree.sb = &superBlock{tmpfs.NewRoot()}
		ns := vfs.NewNamespace(tree.sb, "devtmpfs", 0)
		fs := vfs.NewFSContext(ns)
		fs.SetUmask(0)
		tree.c = &kernel{cred: cred.Root(), fs: fs}
	})
}

// Init registers the file system and makes the nodes of the devices that always exist: those of packages chrdev and tty.
// Consoles and serial lines get theirs whenever they are registered.
func Init() {
	create()
	vfs.RegisterFilesystem(Type)
	for _, n := range []struct {
		name         string
		mode         uint32
		major, minor uint32
	}{
		{"null", 0666, chrdev.Major, chrdev.NullMinor},
		{"zero", 0666, chrdev.Major, chrdev.ZeroMinor},
		{"full", 0666, chrdev.Major, chrdev.FullMinor},
		{"random", 0666, chrdev.Major, chrdev.RandomMinor},
		{"urandom", 0666, chrdev.Major, chrdev.URandomMinor},
		{"kmsg", 0644, chrdev.Major, chrdev.KmsgMinor},
		{"hwrng", 0600, chrdev.MiscMajor, chrdev.HwrngMinor},
		{"watchdog", 0600, chrdev.MiscMajor, chrdev.WatchdogMinor},
		{"rtc0", 0600, chrdev.RTCMajor, 0},
		{"tty", 0666, tty.AuxMajor, 0},
		{"console", 0600, tty.AuxMajor, 1},
		{"ptmx", 0666, tty.AuxMajor, 2},
	} {
		must(n.name, AddNode(n.name, unix.S_IFCHR|n.mode, unix.Mkdev(n.major, n.minor)))
	}
	for name, target := range map[string]string{"rtc": "rtc0", "fd": "/proc/self/fd", "stdin": "/proc/self/fd/0",
		"stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"} {
		must(name, vfs.Symlink(tree.c, target, nil, "/"+name))
	}
	must("pts", vfs.Mkdir(tree.c, nil, "/pts", 0755))
	must("shm", vfs.Mkdir(tree.c, nil, "/shm", 01777))
	tty.Watch(func(t *tty.TTY, added bool) {
		if added {
			must(t.Name(), AddNode(t.Name(), unix.S_IFCHR|0600, t.Dev()))
		} else {
			must(t.Name(), RemoveNode(t.Name()))
		}
	})
}

// must reports what can only fail if somebody made a file of that name first.
func must(name string, err error) {
	if err != nil && err != unix.EEXIST && err != unix.ENOENT {
		klog.Warnf("devtmpfs: %s: %v", name, err)
	}
}

// AddNode makes the node of a device, with the directories above it. mode has the type, S_IFCHR or S_IFBLK.
func AddNode(name string, mode uint32, rdev uint64) error {
	create()
	for i := range len(name) {
		if name[i] == '/' {
			if err := vfs.Mkdir(tree.c, nil, "/"+name[:i], 0755); err != nil && err != unix.EEXIST {
				return err
			}
		}
	}
	return vfs.Mknod(tree.c, nil, "/"+name, mode, rdev)
}

// RemoveNode removes the node of a device, and directories above it that are empty now.
func RemoveNode(name string) error {
	create()
	if err := vfs.Unlink(tree.c, nil, "/"+name); err != nil {
		return err
	}
	for i := strings.LastIndexByte(name, '/'); i > 0; i = strings.LastIndexByte(name[:i], '/') {
		if vfs.Rmdir(tree.c, nil, "/"+name[:i]) != nil {
			break
		}
	}
	return nil
}

// kernel is the vfs.Caller that changes the tree: root, that never sleeps on anything that can be interrupted.
type kernel struct {
	cred *cred.Cred
	fs   *vfs.FSContext
}

func (*kernel) Sleep(int64) error    { return unix.EINTR }
func (*kernel) Wake()                {}
func (k *kernel) Cred() *cred.Cred   { return k.cred }
func (*kernel) Mem() uio.Memory      { return nil }
func (k *kernel) FS() *vfs.FSContext { return k.fs }
func (*kernel) PID() int32           { return 0 }
func (*kernel) Rlimit(int) uint64    { return unix.RLIM_INFINITY }
func (*kernel) Signal(unix.Signal)   {}
