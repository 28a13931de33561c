package chrdev

import (
	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// The devices of major 10 (Documentation/admin-guide/devices.txt).
const (
	MiscMajor     = 10
	WatchdogMinor = 130
	HwrngMinor    = 183
)

func initMisc() {
	vfs.RegisterChrdev(MiscMajor, HwrngMinor, 1, "hw_random", func(vfs.Caller, *vfs.File) (vfs.FileOps, error) { return hwrng{}, nil })
	vfs.RegisterChrdev(MiscMajor, WatchdogMinor, 1, "watchdog", openWatchdog)
	vfs.RegisterChrdev(RTCMajor, 0, 1, "rtc", openRTC)
}

// hwrng is /dev/hwrng: the host's random numbers, as from /dev/random, without its ioctls.
type hwrng struct{ random }

// Ioctl has none.
func (hwrng) Ioctl(vfs.Caller, *vfs.File, uint32, uint64) (uint64, error) { return 0, unix.ENOTTY }
