// Package kernel boots the guest: it sets up the file systems and devices that are the kernel's own, mounts the root and
// starts the first program. Drivers are registered by the caller before Boot; the platform is handed in.
package kernel

import (
	"fmt"
	"io"
	"path"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
	"github.com/user-mode-linux/linux/internal/kernel/arch"
	"github.com/user-mode-linux/linux/internal/kernel/bdev"
	"github.com/user-mode-linux/linux/internal/kernel/chrdev"
	"github.com/user-mode-linux/linux/internal/kernel/cred"
	"github.com/user-mode-linux/linux/internal/kernel/fs/cgroupfs"
	"github.com/user-mode-linux/linux/internal/kernel/fs/devpts"
	"github.com/user-mode-linux/linux/internal/kernel/fs/devtmpfs"
	"github.com/user-mode-linux/linux/internal/kernel/fs/ext4"
	"github.com/user-mode-linux/linux/internal/kernel/fs/initramfs"
	"github.com/user-mode-linux/linux/internal/kernel/fs/pipefs"
	"github.com/user-mode-linux/linux/internal/kernel/fs/procfs"
	"github.com/user-mode-linux/linux/internal/kernel/fs/sysfs"
	"github.com/user-mode-linux/linux/internal/kernel/fs/tmpfs"
	"github.com/user-mode-linux/linux/internal/kernel/ipc/mqueue"
	"github.com/user-mode-linux/linux/internal/kernel/klog"
	"github.com/user-mode-linux/linux/internal/kernel/kmem"
	"github.com/user-mode-linux/linux/internal/kernel/ktime"
	"github.com/user-mode-linux/linux/internal/kernel/loop"
	"github.com/user-mode-linux/linux/internal/kernel/mm"
	"github.com/user-mode-linux/linux/internal/kernel/net/inet"
	"github.com/user-mode-linux/linux/internal/kernel/net/netlink"
	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/syscalls"
	"github.com/user-mode-linux/linux/internal/kernel/system"
	"github.com/user-mode-linux/linux/internal/kernel/task"
	"github.com/user-mode-linux/linux/internal/kernel/tty"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// Config is what the guest is booted with.
type Config struct {
	// CommandLine is /proc/cmdline.
	CommandLine string
	// Memory is the guest's memory in bytes.
	Memory uint64
	// CPU is what /proc/cpuinfo tells about the host's processor.
	CPU procfs.CPU
	// Aux is what the host's auxiliary vector tells about the CPU.
	Aux arch.HostAux

	// Initramfs are archives that are unpacked into the first root file system, in order. Root names a block device to
	// mount as root; "" for none: the initramfs stays the root.
	Initramfs []io.Reader
	Root      string
	RootFS    string // file system types, separated by commas; "" tries all
	RootFlags string
	ReadWrite bool

	// Init is the first program; "" tries the usual ones. InitArgs and InitEnv are its arguments and environment.
	Init, RDInit      string
	InitArgs, InitEnv []string

	// Hostname is the first host name, "" for "(none)". PanicOnOops makes a kernel bug a panic.
	Hostname    string
	PanicOnOops bool
	// Sysctls are names, with dots, and values to be set before the first program starts.
	Sysctls [][2]string

	// Exec, if HasExec, is a shell command that runs instead of init, with Stdio as its descriptors 0, 1 and 2.
	Exec    string
	HasExec bool
	Stdio   func(t *task.Task) ([3]*vfs.File, error)

	// Watchdog is what /dev/watchdog starts and pings, nil for none.
	Watchdog chrdev.Dog

	// Mconsole gets what programs write to /proc/mconsole; nil: there is no such file.
	Mconsole func(p []byte)
}

// Kernel is a guest.
type Kernel struct {
	Tasks *task.Kernel
	// BeforeRoot, if not nil, is called when devices can be registered, before the root is mounted.
	BeforeRoot func()

	cfg      Config
	exitCode atomic.Int32 // /proc/exitcode
	ns       *vfs.Namespace
	halted   chan Outcome
	started  chan struct{} // closed when the first program runs

	procOnce sync.Once
	proc     *bootCaller // its root is /proc; nil if there is none
}

// Outcome is how the guest ended. Status is the exit status of Exec's command (128+n for signals), or what
// /proc/exitcode holds.
type Outcome struct {
	task.Halt
	Status int
}

// New makes a guest that has not booted. Its Tasks is the handler of the platform that Boot is to be given.
func New(cfg Config) *Kernel {
	k := &Kernel{Tasks: task.New(), cfg: cfg, halted: make(chan Outcome, 1), started: make(chan struct{})}
	k.Tasks.Memory = cfg.Memory
	k.Tasks.Aux = cfg.Aux
	k.Tasks.ThreadsMax.Store(task.DefaultThreadsMax(cfg.Memory))
	k.Tasks.Dispatch, k.Tasks.NativeCalls = syscalls.Dispatch, syscalls.NativeCalls()
	task.PanicOnOops.Store(cfg.PanicOnOops)
	if cfg.Hostname != "" {
		system.SetHostname(cfg.Hostname)
	}
	k.Tasks.Halted = func(h task.Halt) { k.end(Outcome{Halt: h, Status: int(k.exitCode.Load())}) }
	return k
}

func (k *Kernel) end(o Outcome) {
	select {
	case k.halted <- o:
	default:
	}
}

// Wait returns when the guest has ended. After the command of Exec the root is left clean, as an init would leave it.
func (k *Kernel) Wait() Outcome {
	o := <-k.halted
	if k.cfg.HasExec && o.Kind != task.HaltPanic {
		c := newBootCaller(k.ns)
		if err := vfs.Sync(c); err != nil {
			klog.Errf("init: sync: %v", err)
		}
		if root := k.ns.Root().Mount; !root.Readonly() {
			if err := root.Super().Remount(c, unix.MS_RDONLY, ""); err != nil {
				klog.Warnf("init: the root stays writable: %v", err)
			}
		}
	}
	return o
}

// Boot sets the kernel up on a platform and starts the first program. An error means that the guest cannot run at all; a
// missing root or init is a guest panic, as on Linux.
func (k *Kernel) Boot(p platform.Platform) error {
	t := k.Tasks
	t.Platform = p
	klog.Printf(klog.Notice, "Linux version %s (%s) %s", abi.Release, abi.Machine, abi.Version)
	klog.Infof("Command line: %s", k.cfg.CommandLine)
	klog.Infof("Memory: %dK available", k.cfg.Memory/1024)
	klog.Infof("%s", p.Describe())
	empty, err := p.NewMemfile("empty")
	if err != nil {
		return err
	}
	t.MM = &mm.Host{UserMax: p.UserMax(), VDSO: p.VDSO(), HostBrk: p.HostBrk(), Empty: empty.Host(), NewShared: newShared, Acct: mm.NewAccountant(k.cfg.Memory, p.NumCPU(), p.CPUTime)}
	t.MM.Acct.AddSource(mm.Shmem, tmpfs.Usage)
	t.MM.Acct.AddSource(mm.Kernel, func() uint64 { inet.CountMemory(); return kmem.Bytes() })
	kmem.SetLimit(k.cfg.Memory / 4)
	vfs.MaxFiles.Store(int64(max(k.cfg.Memory/(10<<10), 8192))) // as Linux: a file may take up to 1 KiB, and a tenth is for them
	system.SetMemory(func() system.Memory { return memory(t.MM.Acct) })
	go t.WatchMemory(t.MM.Acct)
	tmpfs.NewMemfile, tmpfs.TotalPages = p.NewMemfile, k.cfg.Memory/abi.PageSize
	vfs.SendIO = t.SendIO
	ktime.Stepped = p.SetClockOffset
	tmpfs.CountMapped = t.MM.CountMapped
	ext4.NewMemfile = p.NewMemfile
	ext4.Panic = t.Panic
	k.register()
	if k.BeforeRoot != nil {
		k.BeforeRoot()
	}
	ns, err := k.mountRoot()
	if err != nil {
		return err
	}
	k.ns = ns
	for _, s := range k.cfg.Sysctls {
		if err := k.setSysctl(s[0], s[1]); err != nil {
			klog.Errf("Failed to set sysctl parameter '%s=%s': error %d", s[0], s[1], -int(abi.Errno(err)))
		}
	}
	start := k.startInit
	if k.cfg.HasExec {
		start = k.startExec
	}
	if err := start(ns); err != nil {
		return err
	}
	close(k.started)
	return nil
}

// register makes the file systems and devices known.
func (k *Kernel) register() {
	tty.SetController(task.Controller{K: k.Tasks})
	tmpfs.Register()
	ext4.Register()
	bdev.RegisterSpecial()
	devpts.Init()
	devtmpfs.Init()
	procfs.New(procfs.Config{Kernel: k.Tasks, Cmdline: k.cfg.CommandLine, CPU: k.cfg.CPU, ExitCode: &k.exitCode, Sysrq: k.Sysrq, Mconsole: k.cfg.Mconsole})
	sysfs.OnEvent(func(e sysfs.Event) { netlink.Uevent(e.Message()) })
	sysfs.Init(sysfs.Config{CPUs: k.Tasks.Platform.NumCPU()})
	bdev.Watch(func(n *bdev.Node, added bool) {
		names := []string{n.Name()}
		if d := n.Disk(); d.Major == bdev.Major && n.Partno() == 0 {
			names = append(names, fmt.Sprintf("ubd%d", d.Index)) // what they were called once
		}
		for _, name := range names {
			if added {
				devtmpfs.AddNode(name, unix.S_IFBLK|0o660, n.Rdev())
			} else {
				devtmpfs.RemoveNode(name)
			}
		}
	})
	loop.Init()
	devtmpfs.AddNode("loop-control", unix.S_IFCHR|0o600, unix.Mkdev(loop.ControlMajor, loop.ControlMinor))
	vfs.RegisterFifo(pipefs.OpenFIFO)
	chrdev.Init()
	if k.cfg.Watchdog != nil {
		chrdev.SetDog(k.cfg.Watchdog)
	}
	mqueue.Register()
	tty.Init()
	cgroupfs.Register(k.Tasks)
	sysfs.Dir("fs/cgroup")
}

// mountRoot makes the name space of the first program: the initramfs, or the root device.
func (k *Kernel) mountRoot() (*vfs.Namespace, error) {
	rootfs, err := vfs.FindFilesystem("tmpfs").Mount(&bootCaller{cred: cred.Root()}, "rootfs", 0, "mode=755")
	if err != nil {
		return nil, err
	}
	ns := vfs.NewNamespace(rootfs, "rootfs", 0)
	if len(k.cfg.Initramfs) > 0 {
		c := newBootCaller(ns)
		for _, r := range k.cfg.Initramfs {
			if err := initramfs.Unpack(c, nil, r, int64(k.cfg.Memory)); err != nil {
				klog.Errf("Initramfs unpacking failed: %v", err)
			}
		}
		if k.cfg.Root == "" {
			return ns, nil
		}
		if _, err := vfs.Stat(c, nil, k.rdinit(), 0); err == nil && !k.cfg.HasExec {
			return ns, nil
		}
	}
	return k.mountDisk()
}

func (k *Kernel) rdinit() string {
	if k.cfg.RDInit != "" {
		return k.cfg.RDInit
	}
	return "/init"
}

// mountDisk mounts the root device.
func (k *Kernel) mountDisk() (*vfs.Namespace, error) {
	flags := uint64(0)
	if !k.cfg.ReadWrite {
		flags = unix.MS_RDONLY
	}
	types := strings.Split(k.cfg.RootFS, ",")
	if k.cfg.RootFS == "" {
		types = []string{"ext4", "ext3", "ext2"}
	}
	name := strings.TrimPrefix(k.cfg.Root, "/dev/")
	if k.cfg.RootFS != "" && bdev.Lookup(k.cfg.Root) == nil {
		if ns := k.mountNodev(types, flags); ns != nil {
			return ns, nil
		}
	}
	if bdev.Lookup(k.cfg.Root) == nil {
		klog.Printf(klog.Emerg, "VFS: Cannot open root device %q or unknown-block(0,0): error -6", name)
		klog.Printf(klog.Emerg, "Please append a correct \"root=\" boot option; here are the available partitions:")
		for _, n := range bdev.Nodes() {
			klog.Printf(klog.Emerg, "%04x %10d %s", n.Rdev(), n.Size()/1024, n.Name())
		}
		return nil, k.panic("VFS: Unable to mount root fs on unknown-block(0,0)")
	}
	for _, typ := range types {
		fs := vfs.FindFilesystem(typ)
		if fs == nil {
			klog.Warnf("VFS: unknown file system type %q in rootfstype=", typ)
			continue
		}
		sb, err := fs.Mount(&bootCaller{cred: cred.Root()}, k.cfg.Root, flags, k.cfg.RootFlags)
		if err != nil {
			continue
		}
		klog.Infof("VFS: Mounted root (%s filesystem)%s on device %s.", typ, roText(flags), name)
		return vfs.NewNamespace(sb, "/dev/root", flags), nil
	}
	klog.Printf(klog.Emerg, "List of all bdev filesystems:\n %s", strings.Join(types, "\n "))
	return nil, k.panic(fmt.Sprintf("VFS: Unable to mount root fs on %s", name))
}

// mountNodev mounts a root that needs no device: one of types, named by rootfstype=.
func (k *Kernel) mountNodev(types []string, flags uint64) *vfs.Namespace {
	for _, typ := range types {
		fs := vfs.FindFilesystem(typ)
		if fs == nil || fs.NeedsDev {
			continue
		}
		sb, err := fs.Mount(&bootCaller{cred: cred.Root()}, k.cfg.Root, flags, k.cfg.RootFlags)
		if err != nil {
			klog.Errf("VFS: cannot mount root (%s filesystem) with options %q: error %d", typ, k.cfg.RootFlags, -int(abi.Errno(err)))
			continue
		}
		klog.Infof("VFS: Mounted root (%s filesystem)%s on device %d:%d.", typ, roText(flags), unix.Major(sb.Dev()), unix.Minor(sb.Dev()))
		return vfs.NewNamespace(sb, "/dev/root", flags)
	}
	return nil
}

func roText(flags uint64) string {
	if flags&unix.MS_RDONLY != 0 {
		return " readonly"
	}
	return ""
}

// panic ends the guest by a panic before there is any task. The error stops Boot.
func (k *Kernel) panic(text string) error {
	k.Tasks.Panic(text)
	return errPanic
}

var errPanic = fmt.Errorf("guest kernel panic")

// Panicked reports whether an error of Boot is a guest panic, which Wait reports too.
func Panicked(err error) bool { return err == errPanic }

// initEnv is the environment of the first program.
func (k *Kernel) initEnv() []string {
	if k.cfg.HasExec {
		return k.shellEnv()
	}
	return append([]string{"HOME=/", "TERM=linux"}, k.cfg.InitEnv...)
}

// shellEnv is the environment of commands that come from outside.
func (k *Kernel) shellEnv() []string {
	return append([]string{"HOME=/", "TERM=linux", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, k.cfg.InitEnv...)
}

// startInit runs the first program on the console.
func (k *Kernel) startInit(ns *vfs.Namespace) error {
	t, err := k.Tasks.NewInit(vfs.NewFSContext(ns), vfs.NewFDTable())
	if err != nil {
		return err
	}
	vfs.DoMount(t, "devtmpfs", "/dev", "devtmpfs", 0, "mode=755")
	k.openConsole(t)
	candidates := []string{"/sbin/init", "/etc/init", "/bin/init", "/bin/sh"}
	if k.cfg.Init != "" {
		candidates = []string{k.cfg.Init}
	} else if len(k.cfg.Initramfs) > 0 {
		candidates = append([]string{k.rdinit()}, candidates...)
	}
	for _, name := range candidates {
		err := k.start(t, name, append([]string{name}, k.cfg.InitArgs...), k.initEnv())
		if err == nil {
			klog.Infof("Run %s as init process", name)
			return nil
		}
		if k.cfg.Init != "" {
			return k.panic(fmt.Sprintf("Requested init %s failed (error %d).", name, -int(abi.Errno(err))))
		}
		if err != unix.ENOENT {
			klog.Errf("Starting init: %s exists but couldn't execute it (error %d)", name, -int(abi.Errno(err)))
		}
	}
	return k.panic("No working init found.  Try passing init= option to kernel.")
}

// start executes a program in a task that has none.
func (k *Kernel) start(t *task.Task, name string, argv, env []string) error {
	f, err := vfs.OpenExec(t, nil, name, 0)
	if err != nil {
		return err
	}
	defer f.DecRef()
	return t.Start(task.ExecParams{File: f, Name: name, Argv: argv, Envv: env})
}

// openConsole gives init the console as descriptors 0, 1 and 2.
func (k *Kernel) openConsole(t *task.Task) {
	f, err := vfs.Open(t, nil, "/dev/console", vfs.OpenHow{Flags: unix.O_RDWR})
	if err != nil {
		klog.Warnf("Warning: unable to open an initial console.")
		return
	}
	for range 3 {
		if _, err := t.Files().Install(t, f.IncRef(), 0, false); err != nil {
			f.DecRef()
		}
	}
	f.DecRef()
}

// execMounts are what the built-in init mounts.
var execMounts = []struct{ source, dir, typ, data string }{
	{"proc", "/proc", "proc", ""},
	{"sysfs", "/sys", "sysfs", ""},
	{"devtmpfs", "/dev", "devtmpfs", "mode=755"},
	{"devpts", "/dev/pts", "devpts", "gid=5,mode=620,ptmxmode=666"},
	{"tmpfs", "/dev/shm", "tmpfs", "mode=1777"},
	{"tmpfs", "/run", "tmpfs", "mode=755"},
	{"tmpfs", "/tmp", "tmpfs", "mode=1777"},
}

// startExec is the built-in init: it mounts what programs expect, sets lo up, and runs the command with the root's shell. The guest
// ends with the command.
func (k *Kernel) startExec(ns *vfs.Namespace) error {
	init, err := k.Tasks.NewKernelInit(vfs.NewFSContext(ns), vfs.NewFDTable())
	if err != nil {
		return err
	}
	for _, m := range execMounts {
		if _, err := vfs.Stat(init, nil, m.dir, 0); err == unix.ENOENT {
			vfs.Mkdir(init, nil, m.dir, 0o755)
		}
		if err := vfs.DoMount(init, m.source, m.dir, m.typ, 0, m.data); err != nil {
			klog.Warnf("init: cannot mount %s on %s: %v", m.typ, m.dir, err)
		}
	}
	if err := inet.SetLoopbackUp(); err != nil {
		klog.Warnf("init: cannot set lo up: %v", err)
	}
	t, err := k.Tasks.NewInit(init.FS().Copy(), vfs.NewFDTable())
	if err != nil {
		return err
	}
	files, err := k.cfg.Stdio(t)
	if err != nil {
		return err
	}
	for _, f := range files {
		if _, err := t.Files().Install(t, f, 0, false); err != nil {
			return err
		}
	}
	t.Group.OnExit = func(status int32) {
		k.end(Outcome{Halt: task.Halt{Kind: task.HaltHalt}, Status: exitStatus(status)})
	}
	if err := k.start(t, shell, []string{path.Base(shell), "-c", k.cfg.Exec}, k.initEnv()); err != nil {
		return k.panic(fmt.Sprintf("Requested init %s failed (error %d).", shell, -int(abi.Errno(err))))
	}
	return nil
}

// newShared makes the memory of a shared anonymous mapping.
func newShared(c vfs.Caller, n uint64) (*vfs.File, error) {
	return tmpfs.NewShared(c, "/dev/zero", int64(n))
}

// memory makes the figures of /proc/meminfo.
func memory(a *mm.Accountant) system.Memory {
	i := a.Info()
	return system.Memory{
		Total: i.Total, Free: i.Free, Available: i.Available, Buffers: i.Buffers, Cached: i.Cached, Shmem: i.Shmem,
		Anon: i.Anon, Mapped: i.Mapped, Slab: i.Kernel, Locked: i.Locked, Committed: i.Committed, Limit: i.CommitLimit,
	}
}
