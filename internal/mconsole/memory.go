package mconsole

import (
	"errors"
	"fmt"
	"math/bits"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/cmdline"
	"github.com/user-mode-linux/linux/internal/mconsole/hotplug"
)

// Memory is the guest's memory, in bytes.
type Memory interface {
	Memory() uint64
	// SetMemory changes its size; ENOMEM if more is in use.
	SetMemory(n uint64) error
}

// MemoryDriver makes "mem" a device: "config mem=512M", "config mem=+64M", "config mem=-64M".
func MemoryDriver(m Memory) hotplug.Driver { return memoryDriver{m} }

type memoryDriver struct{ m Memory }

func (memoryDriver) Name() string { return "mem" }

func (d memoryDriver) Config(arg string) error {
	if len(arg) < 2 || arg[0] != '=' {
		return errors.New("Expected a size, or an increment that starts with '-' or '+'")
	}
	size, sign := arg[1:], byte(0)
	if size[0] == '+' || size[0] == '-' {
		size, sign = size[1:], size[0]
	}
	n, ok := cmdline.ParseSize(size)
	if !ok {
		return errors.New("Failed to parse memory size")
	}
	now := d.m.Memory()
	var carry uint64
	switch sign {
	case '+':
		n, carry = bits.Add64(now, n, 0)
	case '-':
		n, carry = bits.Sub64(now, n, 0)
	}
	if carry != 0 || n < cmdline.MinMem || n > cmdline.MaxMem {
		return &hotplug.Error{Errno: unix.EINVAL, Text: fmt.Sprintf("Memory must be between %d and %d bytes", uint64(cmdline.MinMem), uint64(cmdline.MaxMem))}
	}
	err := d.m.SetMemory(n)
	if err == unix.ENOMEM {
		return &hotplug.Error{Errno: unix.ENOMEM, Text: "More memory than that is in use"}
	}
	return err
}

func (d memoryDriver) Query(string) (string, error) { return fmt.Sprint(d.m.Memory()), nil }

func (memoryDriver) Remove(string) error {
	return errors.New("Memory doesn't support the remove operation")
}
