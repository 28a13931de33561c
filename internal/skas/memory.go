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

	mu    sync.Mutex
	tids  []int
	procs []processClock // of the processes that the threads belong to
	ran   int64          // CPU time of all processes that were ever here
	// usage is what Usage last found, when they had run for usageAt nanoseconds.
	usage   platform.Usage
	usageAt int64
}

// processClock is the CPU time of a process when it was last asked for.
type processClock struct {
	tgid, threads int
	ran           int64
}

func newAddressSpace() *addressSpace { return new(addressSpace) }

// add and remove take note of a thread of the process tgid.
func (as *addressSpace) add(tgid, tid int) {
	as.mu.Lock()
	as.tids = append(as.tids, tid)
	as.tid.CompareAndSwap(0, int64(tid))
	i := as.process(tgid)
	if i < 0 {
		i = len(as.procs)
		as.procs = append(as.procs, processClock{tgid: tgid})
	}
	as.procs[i].threads++
	as.mu.Unlock()
}

func (as *addressSpace) remove(tgid, tid int) {
	as.mu.Lock()
	if i := slices.Index(as.tids, tid); i >= 0 {
		as.tids = slices.Delete(as.tids, i, i+1)
	}
	if i := as.process(tgid); i >= 0 {
		if as.procs[i].threads--; as.procs[i].threads == 0 {
			as.procs = slices.Delete(as.procs, i, i+1)
		}
	}
	as.tid.Store(0)
	if len(as.tids) > 0 {
		as.tid.Store(int64(as.tids[len(as.tids)-1]))
	}
	as.mu.Unlock()
}

// process is where in procs a process is, or -1.
func (as *addressSpace) process(tgid int) int {
	return slices.IndexFunc(as.procs, func(c processClock) bool { return c.tgid == tgid })
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

// accessRange is access for one range. In a large copy p may lie far away.
func (as *addressSpace) accessRange(nr uintptr, p []byte, addr uint64) (done int, err error) {
	for {
		n := len(p) - done
		if n >= nearLeast {
			if next := p[done:][:min(n, nearStep)]; near(next) {
				n = len(next)
			}
		}
		r := [1]uio.Range{{Addr: addr + uint64(done), Len: uint64(n)}}
		n, err = as.access(nr, p[done:][:n], r[:])
		if done += n; err != nil || done == len(p) {
			return done, err
		}
	}
}

// ReadAt implements uio.Memory.
func (as *addressSpace) ReadAt(p []byte, addr uint64) (int, error) {
	return as.accessRange(unix.SYS_PROCESS_VM_READV, p, addr)
}

// WriteAt implements uio.Memory.
func (as *addressSpace) WriteAt(p []byte, addr uint64) (int, error) {
	return as.accessRange(unix.SYS_PROCESS_VM_WRITEV, p, addr)
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

// Residents implements platform.AddressSpace.
func (as *addressSpace) Residents() ([]platform.Resident, error) {
	for _, tid := range as.others() {
		b, err := os.ReadFile("/proc/" + strconv.Itoa(tid) + "/smaps")
		if err != nil || len(b) == 0 {
			continue
		}
		return parseSmaps(string(b)), nil
	}
	return nil, unix.ESRCH
}

// parseSmaps reads /proc/pid/smaps: the mappings of guest memory that have any.
func parseSmaps(text string) (rs []platform.Resident) {
	var at platform.Resident
	add := func() {
		if at.RSS|at.Swap != 0 && at.End <= userMax {
			rs = append(rs, at)
		}
	}
	for line := range strings.Lines(text) {
		if a, ok := parseMapsLine(strings.TrimSuffix(line, "\n")); ok {
			add()
			at = platform.Resident{Start: a.start, End: a.end}
			continue
		}
		name, value, _ := strings.Cut(line, ":")
		var to *uint64
		switch name {
		case "Rss":
			to = &at.RSS
		case "Anonymous":
			to = &at.Anon
		case "Swap":
			to = &at.Swap
		default:
			continue
		}
		kib, _ := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		*to = kib << 10
	}
	add()
	return rs
}

// CPUTime implements platform.AddressSpace.
func (as *addressSpace) CPUTime() int64 {
	as.mu.Lock()
	defer as.mu.Unlock()
	return as.cpuTimeLocked()
}

// cpuTimeLocked adds what the processes have run since it was last called.
func (as *addressSpace) cpuTimeLocked() int64 {
	for i := range as.procs {
		c := &as.procs[i]
		var ts unix.Timespec
		if unix.ClockGettime(processClockID(c.tgid), &ts) == nil {
			as.ran += max(ts.Nano()-c.ran, 0)
			c.ran = ts.Nano()
		}
	}
	return as.ran
}

// Usage implements platform.AddressSpace. It is asked for often, and a guest mostly sleeps: memory whose threads have not
// run since is not measured again, which costs a hundredth.
func (as *addressSpace) Usage() (u platform.Usage, err error) {
	as.mu.Lock()
	ran := as.cpuTimeLocked()
	if ran > 0 && ran == as.usageAt {
		u = as.usage
		as.mu.Unlock()
		return u, nil
	}
	as.mu.Unlock()
	if u, err = as.readUsage(); err == nil {
		as.mu.Lock()
		as.usage, as.usageAt = u, ran
		as.mu.Unlock()
	}
	return u, err
}

// AnonPSS implements platform.AddressSpace. Hosts before Linux 5.4 do not tell (ENOSYS).
func (as *addressSpace) AnonPSS() (uint64, error) {
	for _, tid := range as.others() {
		b, err := os.ReadFile("/proc/" + strconv.Itoa(tid) + "/smaps_rollup")
		if err != nil || len(b) == 0 {
			continue
		}
		_, value, ok := bytes.Cut(b, []byte("\nPss_Anon:"))
		if !ok {
			return 0, unix.ENOSYS
		}
		value, _, _ = bytes.Cut(value, []byte(" kB"))
		kib, err := strconv.ParseUint(string(bytes.TrimSpace(value)), 10, 64)
		if err != nil {
			return 0, unix.ENOSYS
		}
		return kib << 10, nil
	}
	return 0, unix.ESRCH
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
