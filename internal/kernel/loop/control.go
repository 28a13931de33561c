package loop

import (
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/bdev"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

const (
	major = 7
	// initial is how many devices there are from the start, maxDevices how many there can be.
	initial    = 8
	maxDevices = 256
	// ControlMajor and ControlMinor are the numbers of /dev/loop-control, a misc device.
	ControlMajor = 10
	ControlMinor = 237
)

// control is the list of devices.
var control struct {
	mu sync.Mutex
	// +checklocks:mu
	devices map[int]*device
}

// Init registers /dev/loop-control and the first devices.
func Init() {
	vfs.RegisterBlkdev(major, 0, maxDevices, "loop", bdev.OpenSpecial)
	vfs.RegisterChrdev(ControlMajor, ControlMinor, 1, "loop-control", func(vfs.Caller, *vfs.File) (vfs.FileOps, error) {
		return controlFile{}, nil
	})
	control.mu.Lock()
	defer control.mu.Unlock()
	for i := range initial {
		_, _ = addLocked(i)
	}
}

// addLocked makes a device: EEXIST if there is one with that number.
func addLocked(i int) (int, error) {
	if i >= maxDevices {
		return 0, unix.ENOSPC
	}
	if control.devices[i] != nil {
		return 0, unix.EEXIST
	}
	d, err := newDevice(i)
	if err != nil {
		return 0, err
	}
	if control.devices == nil {
		control.devices = map[int]*device{}
	}
	control.devices[i] = d
	return i, nil
}

// freeLocked finds the first number for which try holds.
func freeLocked(try func(d *device) bool) int {
	for i := range maxDevices {
		if try(control.devices[i]) {
			return i
		}
	}
	return maxDevices
}

// controlFile is an open /dev/loop-control (loop(4)).
type controlFile struct{ vfs.FileBase }

// Ioctl makes, removes and finds devices.
func (controlFile) Ioctl(c vfs.Caller, _ *vfs.File, cmd uint32, arg uint64) (uint64, error) {
	control.mu.Lock()
	defer control.mu.Unlock()
	switch cmd {
	case loopCtlAdd:
		i := int(int32(arg))
		if i < 0 {
			i = freeLocked(func(d *device) bool { return d == nil })
		}
		i, err := addLocked(i)
		return uint64(i), err
	case loopCtlRemove:
		i := int(int32(arg))
		if i < 0 {
			return 0, unix.EINVAL
		}
		d := control.devices[i]
		if d == nil {
			return 0, unix.ENODEV
		}
		d.ctl.Lock()
		defer d.ctl.Unlock()
		if d.peek() != nil {
			return 0, unix.EBUSY
		}
		if err := bdev.Unregister(d.disk); err != nil {
			return 0, err
		}
		delete(control.devices, i)
		return uint64(i), nil
	case loopCtlGetFree:
		i := freeLocked(func(d *device) bool { return d == nil || d.peek() == nil })
		if control.devices[i] == nil {
			i, err := addLocked(i)
			return uint64(i), err
		}
		return uint64(i), nil
	}
	return 0, unix.ENOSYS
}

// Describe is bdev.Describer's: the directory loop of a device that is bound.
func (d *device) Describe() (group string, attrs []bdev.Attribute) {
	b := d.peek()
	if b == nil {
		return "loop", nil
	}
	flag := func(f uint32) func() string {
		return func() string { return strconv.Itoa(int(min(b.flags.Load()&f, 1))) }
	}
	fixed := func(s string) func() string { return func() string { return s } }
	return "loop", []bdev.Attribute{
		{Name: "backing_file", Value: fixed(b.path)},
		{Name: "offset", Value: fixed(strconv.FormatInt(b.offset, 10))},
		{Name: "sizelimit", Value: fixed(strconv.FormatInt(b.limit, 10))},
		{Name: "autoclear", Value: flag(flagAutoclear)},
		{Name: "partscan", Value: flag(flagPartscan)},
		{Name: "dio", Value: flag(flagDirectIO)},
	}
}
