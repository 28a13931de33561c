package skas

import (
	"bytes"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
)

// addressSpace is host memory that one or several stub threads run in. It is reached through any of them that lives.
type addressSpace struct {
	tid atomic.Int64 // a living thread, 0 if there is none

	mu   sync.Mutex
	tids []int

	// usage is what Usage last found, when the threads had used cpu nanoseconds. Both guarded by mu.
	usage platform.Usage
	cpu   int64
}

func newAddressSpace() *addressSpace { return new(addressSpace) }

func (as *addressSpace) add(tid int) {
	as.mu.Lock()
	as.tids = append(as.tids, tid)
	as.tid.CompareAndSwap(0, int64(tid))
	as.mu.Unlock()
}

func (as *addressSpace) remove(tid int) {
	as.mu.Lock()
	if i := slices.Index(as.tids, tid); i >= 0 {
		as.tids = slices.Delete(as.tids, i, i+1)
	}
	as.tid.Store(0)
	if len(as.tids) > 0 {
		as.tid.Store(int64(as.tids[len(as.tids)-1]))
	}
	as.mu.Unlock()
}

// others returns the living threads.
func (as *addressSpace) others() []int {
	as.mu.Lock()
	defer as.mu.Unlock()
	return slices.Clone(as.tids)
}

const iovMax = 1024 // IOV_MAX

// guestMemory reports whether a call may copy a range: the stub area is no memory of the guest, but for its vDSO, which can be
// read.
func guestMemory(nr uintptr, addr, n uint64) bool {
	if nr == unix.SYS_PROCESS_VM_READV && addr >= stubImage && addr < stubImage+pageSize {
		return n <= stubImage+pageSize-addr
	}
	return addr < userMax && n <= userMax-addr
}

// access copies between p and guest memory; it returns how much was copied.
func (as *addressSpace) access(nr uintptr, p []byte, r []uio.Range) (int, error) {
	done := 0
	for len(p) > 0 && len(r) > 0 {
		piece := r[:min(len(r), iovMax)]
		want := uint64(0)
		for i := range piece {
			if !guestMemory(nr, piece[i].Addr, piece[i].Len) {
				piece = piece[:i]
				break
			}
			want += piece[i].Len
		}
		if len(piece) == 0 {
			return done, unix.EFAULT
		}
		n, err := as.accessPiece(nr, p[:min(uint64(len(p)), want)], piece)
		done += n
		if err != nil {
			return done, err
		}
		p, r = p[n:], r[len(piece):]
	}
	if len(p) > 0 {
		return done, unix.EFAULT
	}
	return done, nil
}

func (as *addressSpace) accessPiece(nr uintptr, p []byte, r []uio.Range) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, e := processVM(nr, int(as.tid.Load()), p, r)
	if e == syscall.ESRCH {
		// That thread has ended and is not reaped yet, or just was.
		for _, tid := range as.others() {
			if n, e = processVM(nr, tid, p, r); e != syscall.ESRCH {
				break
			}
		}
	}
	if e != 0 {
		return 0, unix.EFAULT
	}
	if n < len(p) {
		return n, unix.EFAULT
	}
	return n, nil
}

// ReadAt implements uio.Memory.
func (as *addressSpace) ReadAt(p []byte, addr uint64) (int, error) {
	r := [1]uio.Range{{Addr: addr, Len: uint64(len(p))}}
	return as.access(unix.SYS_PROCESS_VM_READV, p, r[:])
}

// WriteAt implements uio.Memory.
func (as *addressSpace) WriteAt(p []byte, addr uint64) (int, error) {
	r := [1]uio.Range{{Addr: addr, Len: uint64(len(p))}}
	return as.access(unix.SYS_PROCESS_VM_WRITEV, p, r[:])
}

// ReadV implements uio.Memory.
func (as *addressSpace) ReadV(p []byte, r []uio.Range) (int, error) {
	return as.access(unix.SYS_PROCESS_VM_READV, p, r)
}

// WriteV implements uio.Memory.
func (as *addressSpace) WriteV(p []byte, r []uio.Range) (int, error) {
	return as.access(unix.SYS_PROCESS_VM_WRITEV, p, r)
}

// ReadPieces implements uio.PieceMemory.
func (as *addressSpace) ReadPieces(p [][]byte, addr uint64) (int, error) {
	return as.accessPieces(unix.SYS_PROCESS_VM_READV, p, addr)
}

// WritePieces implements uio.PieceMemory.
func (as *addressSpace) WritePieces(p [][]byte, addr uint64) (int, error) {
	return as.accessPieces(unix.SYS_PROCESS_VM_WRITEV, p, addr)
}

// accessPieces copies between guest memory at addr and several pieces.
func (as *addressSpace) accessPieces(nr uintptr, p [][]byte, addr uint64) (int, error) {
	done := 0
	for len(p) > 0 {
		var local [maxPieces]syscall.Iovec
		k, want := localPieces(&local, p)
		p = p[k:]
		if !guestMemory(nr, addr, want) {
			return done, unix.EFAULT
		}
		if want == 0 {
			continue
		}
		r := [1]uio.Range{{Addr: addr, Len: want}}
		n, e := processVMPieces(nr, int(as.tid.Load()), local[:k], r[:])
		if e == syscall.ESRCH {
			for _, tid := range as.others() {
				if n, e = processVMPieces(nr, tid, local[:k], r[:]); e != syscall.ESRCH {
					break
				}
			}
		}
		if e != 0 {
			n = 0
		}
		done += n
		addr += uint64(n)
		if uint64(n) < want {
			return done, unix.EFAULT
		}
	}
	return done, nil
}

// Mappings implements platform.AddressSpace.
func (as *addressSpace) Mappings() ([]platform.Mapping, error) {
	for _, tid := range as.others() {
		areas, err := readMaps(tid)
		if err != nil || len(areas) == 0 {
			continue
		}
		list := make([]platform.Mapping, 0, len(areas))
		for i := range areas {
			a := &areas[i]
			m := platform.Mapping{Start: a.start, End: a.end, Off: a.off}
			m.VDSO, m.Heap = a.start == stubImage, a.name == "[heap]"
			if a.end > userMax && !m.VDSO {
				continue
			}
			for k, c := range []byte("rwx") {
				if a.perms[k] == c {
					m.Prot |= 1 << k
				}
			}
			m.Shared = a.perms[3] == 's'
			if a.ino != 0 {
				m.File = platform.FileID{Dev: a.dev, Ino: a.ino}
			}
			list = append(list, m)
		}
		return list, nil
	}
	return nil, unix.ESRCH
}

// Own implements platform.AddressSpace.
func (as *addressSpace) Own() (own []uio.Range, err error) {
	for _, tid := range as.others() {
		b, err := os.ReadFile("/proc/" + strconv.Itoa(tid) + "/smaps")
		if err != nil || len(b) == 0 {
			continue
		}
		var at vmArea
		for line := range strings.Lines(string(b)) {
			if a, ok := parseMapsLine(strings.TrimSuffix(line, "\n")); ok {
				at = a
				continue
			}
			name, value, _ := strings.Cut(line, ":")
			if (name == "Anonymous" || name == "Swap") && strings.TrimSpace(value) != "0 kB" && at.end <= userMax {
				if n := len(own); n == 0 || own[n-1].Addr != at.start {
					own = append(own, uio.Range{Addr: at.start, Len: at.end - at.start})
				}
			}
		}
		return own, nil
	}
	return nil, unix.ESRCH
}

// cpuTime is the CPU time that the threads have used, -1 if there are too many to ask.
func (as *addressSpace) cpuTime() (sum int64) {
	const perThreadSched, most = 6, 8 // CPUCLOCK_PERTHREAD_MASK | CPUCLOCK_SCHED
	tids := as.others()
	if len(tids) > most {
		return -1
	}
	for _, tid := range tids {
		var ts unix.Timespec
		if unix.ClockGettime(int32(^tid)<<3|perThreadSched, &ts) != nil {
			return -1
		}
		sum += ts.Nano()
	}
	return sum
}

// Usage implements platform.AddressSpace. It is asked for often, and a guest mostly sleeps: memory whose threads have not
// run since is not measured again, which costs a hundredth.
func (as *addressSpace) Usage() (u platform.Usage, err error) {
	cpu := as.cpuTime()
	as.mu.Lock()
	if cpu > 0 && cpu == as.cpu {
		u = as.usage
		as.mu.Unlock()
		return u, nil
	}
	as.mu.Unlock()
	if u, err = as.readUsage(); err == nil {
		as.mu.Lock()
		as.usage, as.cpu = u, cpu
		as.mu.Unlock()
	}
	return u, err
}

// readUsage reads /proc/pid/status.
func (as *addressSpace) readUsage() (u platform.Usage, err error) {
	for _, tid := range as.others() {
		b, err := os.ReadFile("/proc/" + strconv.Itoa(tid) + "/status")
		if err != nil {
			continue
		}
		for line := range bytes.Lines(b) {
			name, value, _ := bytes.Cut(line, []byte(":"))
			to := usageField(&u, string(name))
			if to == nil {
				continue
			}
			value = bytes.TrimSuffix(bytes.TrimSpace(value), []byte(" kB"))
			kib, _ := strconv.ParseUint(string(value), 10, 64)
			*to = kib << 10
		}
		return u, nil
	}
	return u, unix.ESRCH
}

// usageField is where a line of /proc/pid/status goes, nil for nowhere.
func usageField(u *platform.Usage, name string) *uint64 {
	switch name {
	case "VmRSS":
		return &u.RSS
	case "RssAnon":
		return &u.Anon
	case "RssFile":
		return &u.File
	case "RssShmem":
		return &u.Shmem
	case "VmSwap":
		return &u.Swap
	case "VmSize":
		return &u.VM
	case "VmHWM":
		return &u.PeakRSS
	case "VmPeak":
		return &u.PeakVM
	case "VmData":
		return &u.Data
	case "VmStk":
		return &u.Stack
	case "VmExe":
		return &u.Text
	case "VmLck":
		return &u.Locked
	}
	return nil
}
