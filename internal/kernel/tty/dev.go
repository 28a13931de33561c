package tty

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/klog"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// The device numbers (Documentation/admin-guide/devices.txt).
const (
	ConsoleMajor = 4 // tty0..15, ttyS0..63
	SerialMinor  = 64
	AuxMajor     = 5 // /dev/tty, /dev/console, /dev/ptmx
	PtyMajor     = 136
	// Consoles and Serials are how many of each there can be.
	Consoles = 16
	Serials  = 64
	ptyMinor = 1 << 20
)

// devices are the registered terminals of major 4, by minor.
var devices struct {
	sync.RWMutex
	byMinor [SerialMinor + Serials]*TTY
	watch   func(t *TTY, added bool)
}

// consoleTTY is what /dev/console means.
var consoleTTY atomic.Pointer[TTY]

// Init registers the drivers: major 4, /dev/tty, /dev/console, /dev/ptmx and the numbers of pty slaves.
func Init() {
	vfs.RegisterChrdev(ConsoleMajor, 0, Consoles, "tty", openDevice)
	vfs.RegisterChrdev(ConsoleMajor, SerialMinor, Serials, "ttyS", openDevice)
	vfs.RegisterChrdev(AuxMajor, 0, 1, "/dev/tty", openCurrent)
	vfs.RegisterChrdev(AuxMajor, 1, 1, "/dev/console", openConsole)
	vfs.RegisterChrdev(AuxMajor, 2, 1, "/dev/ptmx", openPtmx)
	vfs.RegisterChrdev(128, 0, ptyMinor, "ptm", openOrphan)
	vfs.RegisterChrdev(PtyMajor, 0, ptyMinor, "pts", openOrphan)
}

// RegisterConsole makes /dev/tty<n> a terminal on port, RegisterSerial /dev/ttyS<n>.
func RegisterConsole(n int, port Port) (*TTY, error) { return register("tty", n, Consoles, 0, port) }

// RegisterSerial makes /dev/ttyS<n> a terminal on port.
func RegisterSerial(n int, port Port) (*TTY, error) {
	return register("ttyS", n, Serials, SerialMinor, port)
}

func register(prefix string, n, limit, base int, port Port) (*TTY, error) {
	if n < 0 || n >= limit {
		return nil, unix.ERANGE
	}
	devices.Lock()
	defer devices.Unlock()
	if devices.byMinor[base+n] != nil {
		return nil, unix.EBUSY
	}
	t := New(fmt.Sprintf("%s%d", prefix, n), ConsoleMajor, uint32(base+n), port)
	devices.byMinor[base+n] = t
	if devices.watch != nil {
		devices.watch(t, true)
	}
	return t, nil
}

// Unregister removes a console or serial line; EBUSY while it is open or shows the kernel's log.
func Unregister(t *TTY) error {
	devices.Lock()
	defer devices.Unlock()
	t.openMu.Lock()
	defer t.openMu.Unlock()
	if t.Users() > 0 || t.held {
		return unix.EBUSY
	}
	i := slices.Index(devices.byMinor[:], t)
	if i < 0 {
		return unix.ENODEV
	}
	t.removed = true
	devices.byMinor[i] = nil
	if devices.watch != nil {
		devices.watch(t, false)
	}
	return nil
}

// Watch calls fn for every console and serial line there is, and from then on for each that comes or goes. There is one
// watcher: who makes the device nodes. fn must not call back into this package's registry.
func Watch(fn func(t *TTY, added bool)) {
	devices.Lock()
	defer devices.Unlock()
	devices.watch = fn
	for _, t := range devices.byMinor {
		if t != nil {
			fn(t, true)
		}
	}
}

// Devices lists the registered consoles and serial lines.
func Devices() []*TTY {
	devices.RLock()
	defer devices.RUnlock()
	return slices.DeleteFunc(slices.Clone(devices.byMinor[:]), func(t *TTY) bool { return t == nil })
}

// Hold opens the port of t for the kernel's log; it stays open from now on.
func Hold(t *TTY) error {
	t.openMu.Lock()
	defer t.openMu.Unlock()
	t.held = true
	return t.openPortLocked()
}

// SetConsole makes t the system console: /dev/console.
func SetConsole(t *TTY) { consoleTTY.Store(t) }

// Console is the system console, nil if there is none.
func Console() *TTY { return consoleTTY.Load() }

// LogSink returns a klog sink that shows the log on t.
func LogSink(t *TTY) func(klog.Record) {
	return func(r klog.Record) { t.Inject([]byte(r.String() + "\r\n")) }
}

func openDevice(c vfs.Caller, f *vfs.File) (vfs.FileOps, error) {
	rdev := f.Inode.Attr().Rdev
	devices.RLock()
	var t *TTY
	if m := unix.Minor(rdev); int(m) < len(devices.byMinor) {
		t = devices.byMinor[m]
	}
	devices.RUnlock()
	if t == nil {
		return nil, unix.ENXIO
	}
	return t.open(c, f, false, f.Flags()&unix.O_NOCTTY != 0)
}

// openCurrent is /dev/tty.
func openCurrent(c vfs.Caller, f *vfs.File) (vfs.FileOps, error) {
	if p := asProcess(c); p != nil {
		if t := p.ControllingTTY(); t != nil {
			return t.open(c, f, false, true)
		}
	}
	return nil, unix.ENXIO
}

// openConsole is /dev/console; it never becomes the controlling terminal by itself.
func openConsole(c vfs.Caller, f *vfs.File) (vfs.FileOps, error) {
	t := consoleTTY.Load()
	if t == nil {
		return nil, unix.ENODEV
	}
	return t.open(c, f, true, true)
}

// openPtmx is a ptmx device: the one of a devpts, or /dev/ptmx, which belongs to the devpts at /dev/pts.
func openPtmx(c vfs.Caller, f *vfs.File) (vfs.FileOps, error) {
	if host, ok := f.Inode.Super().(PtyHost); ok {
		return OpenMaster(c, f, host)
	}
	p, err := vfs.Lookup(c, nil, "/dev/pts", 0)
	if err != nil {
		return nil, unix.ENODEV
	}
	defer p.Put()
	host, ok := p.Dentry.Super().(PtyHost)
	if !ok {
		return nil, unix.ENODEV
	}
	return OpenMaster(c, f, host)
}

// openOrphan is a device node with the number of a pty that is not in a devpts.
func openOrphan(vfs.Caller, *vfs.File) (vfs.FileOps, error) { return nil, unix.EIO }

// Driver is a line of /proc/tty/drivers.
type Driver struct {
	Name, Dev   string
	Major       uint32
	First, Last uint32
	Type        string
}

// Drivers lists the terminal drivers, for /proc/tty/drivers.
func Drivers() []Driver {
	return []Driver{
		{"/dev/tty", "/dev/tty", AuxMajor, 0, 0, "system:/dev/tty"},
		{"/dev/console", "/dev/console", AuxMajor, 1, 1, "system:console"},
		{"/dev/ptmx", "/dev/ptmx", AuxMajor, 2, 2, "system"},
		{"UML serial line", "/dev/ttyS", ConsoleMajor, SerialMinor, SerialMinor + Serials - 1, "serial"},
		{"UML console", "/dev/tty", ConsoleMajor, 0, Consoles - 1, "console"},
		{"pty_slave", "/dev/pts", PtyMajor, 0, ptyMinor - 1, "pty:slave"},
		{"pty_master", "/dev/ptm", 128, 0, ptyMinor - 1, "pty:master"},
	}
}
