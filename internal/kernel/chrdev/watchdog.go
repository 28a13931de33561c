package chrdev

import (
	"bytes"
	"encoding/binary"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/klog"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// Dog is a watchdog outside of the guest. Once started it bites unless it is pinged often enough.
type Dog interface {
	Start() error
	Ping() error
	Stop()
	// Timeout is how many seconds it waits for a ping.
	Timeout() int
}

// dog is the guest's; nil: there is none.
var dog atomic.Pointer[Dog]

// SetDog gives /dev/watchdog its watchdog. It is called at boot.
func SetDog(d Dog) { dog.Store(&d) }

// Options of WDIOC_GETSUPPORT (linux/watchdog.h).
const (
	wdMagicClose    = 0x0100
	wdKeepalivePing = 0x8000
)

// What WDIOC_SETOPTIONS asks for.
const (
	wdDisableCard = 1
	wdEnableCard  = 2
)

// watchdog is /dev/watchdog (Documentation/watchdog/watchdog-api): opened once at a time; every write and KEEPALIVE is a ping. Closing
// it does not stop the dog unless the last write had a "V".
type watchdog struct {
	vfs.FileBase
	dog Dog

	mu    sync.Mutex
	magic bool // the last write had the "V"
	// stopped: by WDIOC_SETOPTIONS; pings are for nobody.
	stopped bool
}

var watchdogOpen atomic.Bool

func openWatchdog(vfs.Caller, *vfs.File) (vfs.FileOps, error) {
	p := dog.Load()
	if p == nil {
		return nil, unix.ENODEV
	}
	if !watchdogOpen.CompareAndSwap(false, true) {
		return nil, unix.EBUSY
	}
	d := *p
	if err := d.Start(); err != nil {
		klog.Errf("watchdog: %v", err)
		watchdogOpen.Store(false)
		return nil, unix.EIO
	}
	return &watchdog{dog: d}, nil
}

// Release lets another program open it.
func (w *watchdog) Release(*vfs.File) {
	w.mu.Lock()
	if w.magic || w.stopped {
		w.dog.Stop()
	} else {
		klog.Printf(klog.Crit, "watchdog: watchdog0: watchdog did not stop!")
		_ = w.dog.Ping() // the time runs from now on
	}
	w.mu.Unlock()
	watchdogOpen.Store(false)
}

// Write pings.
func (w *watchdog) Write(_ vfs.Caller, _ *vfs.File, src *uio.Src, _ int64) (int, error) {
	n := src.Len()
	if n == 0 {
		return 0, nil
	}
	magic := false
	var buf [64]byte
	_, err := src.Each(buf[:], func(p []byte) (int, error) {
		magic = magic || bytes.IndexByte(p, 'V') >= 0
		return len(p), nil
	})
	if err != nil {
		return 0, err
	}
	w.mu.Lock()
	w.magic = magic
	w.mu.Unlock()
	return n, w.ping()
}

func (w *watchdog) ping() error {
	w.mu.Lock()
	stopped := w.stopped
	w.mu.Unlock()
	if stopped {
		return nil
	}
	if err := w.dog.Ping(); err != nil {
		klog.Errf("watchdog: %v", err)
		return unix.EIO
	}
	return nil
}

// setOptions stops the dog or starts it anew.
func (w *watchdog) setOptions(options uint32) error {
	if options&(wdDisableCard|wdEnableCard) == 0 {
		return unix.EINVAL
	}
	if options&wdDisableCard != 0 {
		w.dog.Stop()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopped = options&wdEnableCard == 0; !w.stopped && w.dog.Start() != nil {
		return unix.EIO
	}
	return nil
}

// Ioctl tells what it can do, and pings.
func (w *watchdog) Ioctl(c vfs.Caller, _ *vfs.File, cmd uint32, arg uint64) (uint64, error) {
	switch cmd {
	case unix.WDIOC_GETSUPPORT:
		// struct watchdog_info: options, version of the firmware, name.
		var b [40]byte
		binary.LittleEndian.PutUint32(b[:], wdMagicClose|wdKeepalivePing)
		copy(b[8:39], "UML Hardware Watchdog")
		return 0, uio.WriteFull(c.Mem(), b[:], arg)
	case unix.WDIOC_GETSTATUS, unix.WDIOC_GETBOOTSTATUS:
		return 0, putInt(c, arg, 0)
	case unix.WDIOC_GETTIMEOUT:
		return 0, putInt(c, arg, w.dog.Timeout())
	case unix.WDIOC_KEEPALIVE:
		return 0, w.ping()
	case unix.WDIOC_SETOPTIONS:
		var b [4]byte
		if err := uio.ReadFull(c.Mem(), b[:], arg); err != nil {
			return 0, err
		}
		return 0, w.setOptions(binary.LittleEndian.Uint32(b[:]))
	}
	return 0, unix.ENOTTY
}

func putInt(c vfs.Caller, addr uint64, v int) error {
	return uio.WriteFull(c.Mem(), binary.LittleEndian.AppendUint32(nil, uint32(v)), addr)
}
