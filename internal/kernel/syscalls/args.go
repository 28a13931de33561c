package syscalls

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
	"github.com/user-mode-linux/linux/internal/kernel/ktime"
	"github.com/user-mode-linux/linux/internal/kernel/task"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
)

// i32 and u32 read an argument as C's int and unsigned int: the high half is ignored, as the C ABI leaves it undefined.
func i32(v uint64) int32  { return int32(uint32(v)) }
func u32(v uint64) uint32 { return uint32(v) }

// Guest integers are little-endian.
var le = binary.LittleEndian

// readTimespec copies a struct timespec in and checks it; EFAULT, EINVAL.
func readTimespec(t *task.Task, addr uint64) (ns int64, err error) {
	var b [16]byte
	if err := uio.ReadFull(t.Mem(), b[:], addr); err != nil {
		return 0, err
	}
	return decodeTimespec(b[:])
}

func decodeTimespec(b []byte) (int64, error) {
	s, n := int64(le.Uint64(b)), int64(le.Uint64(b[8:]))
	if s < 0 || n < 0 || n >= 1e9 {
		return 0, unix.EINVAL
	}
	if s >= ktime.Forever/1e9 {
		return ktime.Forever, nil
	}
	return s*1e9 + n, nil
}

func appendTimespec(b []byte, ns int64) []byte {
	ts := abi.NsecToTimespec(ns)
	return le.AppendUint64(le.AppendUint64(b, uint64(ts.Sec)), uint64(ts.Nsec))
}

// writeTimespec copies a struct timespec out.
func writeTimespec(t *task.Task, addr uint64, ns int64) error {
	var b [16]byte
	return uio.WriteFull(t.Mem(), appendTimespec(b[:0], ns), addr)
}

// readTimeval copies a struct timeval in, as nanoseconds.
func readTimeval(b []byte) (int64, error) {
	s, n := int64(le.Uint64(b)), int64(le.Uint64(b[8:]))
	if s < 0 || n < 0 || n >= 1e6 {
		return 0, unix.EINVAL
	}
	if s >= ktime.Forever/1e9 {
		return ktime.Forever, nil
	}
	return s*1e9 + n*1e3, nil
}

func appendTimeval(b []byte, ns int64) []byte {
	return le.AppendUint64(le.AppendUint64(b, uint64(ns/1e9)), uint64(ns%1e9/1e3))
}
