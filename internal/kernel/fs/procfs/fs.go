package procfs

import (
	"strconv"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/fs/pseudo"
	"github.com/user-mode-linux/linux/internal/kernel/system"
	"github.com/user-mode-linux/linux/internal/kernel/task"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// Config is what proc shows that others know. Functions may be nil.
type Config struct {
	Kernel *task.Kernel
	// Cmdline is the kernel command line.
	Cmdline string
	// CPU is the text about the processors.
	CPU CPU
	// ExitCode is the exit status of the whole guest (/proc/exitcode); nil for none.
	ExitCode *atomic.Int32
	// Sysrq does what a key of /proc/sysrq-trigger asks for.
	Sysrq func(key byte)
	// Mconsole sends what is written to /proc/mconsole; without it there is no such file.
	Mconsole func(p []byte)
	// Interrupts counts the events of each source, in the order to show.
	Interrupts func() []Interrupt
}

// CPU is what /proc/cpuinfo shows of each processor.
type CPU struct {
	// Host is the line about the host, Flags the CPU's features, MHz its clock.
	Host, Flags string
	MHz         float64
}

// Interrupt is a line of /proc/interrupts.
type Interrupt struct {
	Name  string
	Count uint64
}

// FS is the proc file system. There is one; mounting it again shows the same.
type FS struct {
	*pseudo.FS
	k    *task.Kernel
	cfg  Config
	root *pseudo.Dir
	net  *pseudo.Dir
	ns   nsFiles

	// hidepid and its group are the mount options (proc(5)).
	hidepid atomic.Int32
	hideGID atomic.Uint32

	cpuTime cpuTotals
}

const procMagic = 0x9fa0

// New makes the file system, registers its type and begins to compute the load averages. It is called once, at boot.
func New(cfg Config) *FS {
	typ := &vfs.FilesystemType{Name: "proc", NoDcache: true}
	fs := &FS{FS: pseudo.NewFS(typ, vfs.NewAnonDev(), procMagic), k: cfg.Kernel, cfg: cfg}
	fs.ns = nsFiles{fs: pseudo.NewFS(&vfs.FilesystemType{Name: "nsfs"}, vfs.NewAnonDev(), 0x6e736673), m: map[string]*vfs.File{}}
	fs.OptionText, fs.RemountFunc = fs.options, func(_ vfs.Caller, _ uint64, data string) error { return fs.parse(data) }
	typ.Mount = func(_ vfs.Caller, _ string, _ uint64, data string) (vfs.SuperBlock, error) {
		if err := fs.parse(data); err != nil {
			return nil, err
		}
		return fs, nil
	}
	fs.root = pseudo.NewRoot(fs.FS, 0o555)
	fs.root.SetDynamic(pids{fs})
	fs.net = pseudo.NewDir(fs.FS, 0o555)
	fs.addGlobal()
	fs.addNet()
	fs.addSys(fs.root.Subdir("sys", 0o555))
	fs.SetSuper(fs)
	system.StartLoad(cfg.Kernel.Running)
	vfs.RegisterFilesystem(typ)
	return fs
}

// Dir is a directory of the fixed part, made if it is not there; path is relative to the root ("fs/ext4"). Others add
// their files to it.
func (fs *FS) Dir(path string) *pseudo.Dir {
	d := fs.root
	for name := range strings.SplitSeq(path, "/") {
		if name != "" {
			d = d.Subdir(name, 0o555)
		}
	}
	return d
}

// Net is the directory net/ of every process.
func (fs *FS) Net() *pseudo.Dir { return fs.net }

// parse reads the mount options hidepid= and gid=. Nothing changes if one is wrong.
func (fs *FS) parse(data string) error {
	hide, gid := fs.hidepid.Load(), fs.hideGID.Load()
	for opt := range strings.SplitSeq(data, ",") {
		name, val, _ := strings.Cut(opt, "=")
		switch name {
		case "":
		case "hidepid":
			h, ok := map[string]int32{"0": 0, "off": 0, "1": 1, "noaccess": 1, "2": 2, "invisible": 2, "4": 4, "ptraceable": 4}[val]
			if !ok {
				return unix.EINVAL
			}
			hide = h
		case "gid":
			n, err := strconv.ParseUint(val, 10, 32)
			if err != nil {
				return unix.EINVAL
			}
			gid = uint32(n)
		default:
			return unix.EINVAL
		}
	}
	fs.hidepid.Store(hide)
	fs.hideGID.Store(gid)
	return nil
}

func (fs *FS) options() string {
	s := ""
	if g := fs.hideGID.Load(); g != 0 {
		s = ",gid=" + strconv.FormatUint(uint64(g), 10)
	}
	if h := fs.hidepid.Load(); h != 0 {
		s += ",hidepid=" + map[int32]string{1: "noaccess", 2: "invisible", 4: "ptraceable"}[h]
	}
	return s
}

// hidden reports whether hidepid is at least level and keeps the process from the caller.
func (fs *FS) hidden(c vfs.Caller, g *task.ThreadGroup, level int32) bool {
	h := fs.hidepid.Load()
	if h < level {
		return false
	}
	if h < 4 && c.Cred().InGroup(fs.hideGID.Load()) {
		return false
	}
	l := g.Leader()
	return l != nil && mayTrace(c, l) != nil
}

// Permission implements vfs.Permissioner for the directory of a process when hidepid=1 is on; else the permission bits
// count.
func (d pidDir) Permission(c vfs.Caller, mask uint32) error {
	if d.fs.hidden(c, d.g, 1) {
		return unix.EPERM
	}
	if mask&vfs.MayWrite != 0 {
		return unix.EACCES
	}
	return nil
}

// pidDir is the directory of a process: a node that hidepid guards. Its mode is 0555, so the bits need no check.
type pidDir struct{ node }
