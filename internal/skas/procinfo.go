package skas

import (
	"bytes"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/platform"
)

const (
	userHZ   = 100 // of /proc/pid/stat
	nsPerJif = 1e9 / userHZ
)

// statFields returns the fields of /proc/pid/task/tid/stat after the name: field n of proc_pid_stat(5) is at n-3.
func (t *Thread) statFields() [][]byte {
	b, err := os.ReadFile(t.procPath("stat"))
	if err != nil {
		return nil
	}
	i := bytes.LastIndexByte(b, ')')
	if i < 0 {
		return nil
	}
	return bytes.Fields(b[i+1:])
}

func (t *Thread) procPath(file string) string {
	return "/proc/" + strconv.Itoa(t.proc.tgid) + "/task/" + strconv.Itoa(t.tid) + "/" + file
}

func field(f [][]byte, n int) int64 {
	if n-3 >= len(f) {
		return 0
	}
	v, _ := strconv.ParseInt(string(f[n-3]), 10, 64)
	return v
}

// Used implements platform.Thread: the sum of the CPU time comes from the scheduler, its division from the scheduler's ticks.
func (t *Thread) Used() (u platform.Used) {
	f := t.statFields()
	u = platform.Used{User: field(f, 14) * nsPerJif, Sys: field(f, 15) * nsPerJif, Minor: field(f, 10), Major: field(f, 12)}
	b, err := os.ReadFile(t.procPath("schedstat"))
	if err != nil {
		return u
	}
	w := bytes.Fields(b)
	if len(w) != 3 {
		return u
	}
	u.Switches, _ = strconv.ParseInt(string(w[2]), 10, 64)
	total, err := strconv.ParseInt(string(w[0]), 10, 64)
	if err != nil {
		return u
	}
	if u.User+u.Sys == 0 {
		u.User = total
		return u
	}
	u.User = int64(float64(total) * (float64(u.User) / float64(u.User+u.Sys)))
	u.Sys = total - u.User
	return u
}

// Asleep implements platform.Thread. A stopped thread is not asleep: it is between two steps of the guest.
func (t *Thread) Asleep() bool {
	f := t.statFields()
	return len(f) > 0 && string(f[0]) == "S"
}

// hostCPUs are the host CPUs that guests run on: those that this process may use, and of these only as many as the guest
// has. What a guest program finds out about its CPU by itself (getcpu in the vDSO, rdpid) then stays as near to its own
// count as the host's numbers allow.
func hostCPUs(n int) (cpus []int) {
	var all unix.CPUSet
	if unix.SchedGetaffinity(0, &all) != nil {
		return nil
	}
	for c := range len(all) * 64 {
		if all.IsSet(c) && len(cpus) < n {
			cpus = append(cpus, c)
		}
	}
	return cpus
}

// pin limits a thread, and what is cloned from it, to the CPUs of the guest's CPUs in mask.
func (p *Platform) pin(tid int, mask uint64) error {
	var set unix.CPUSet
	for i, c := range p.cpus {
		if mask&(1<<(i%p.cfg.NCPU%64)) != 0 {
			set.Set(c)
		}
	}
	if set.Count() == 0 {
		return unix.EINVAL
	}
	return unix.SchedSetaffinity(tid, &set)
}

// CPU implements platform.Thread.
func (t *Thread) CPU() int {
	return max(slices.Index(t.p.cpus, int(field(t.statFields(), 39))), 0) % t.p.cfg.NCPU
}

// SetAffinity implements platform.Thread. If the guest has more CPUs than there are, several of them are one host CPU.
func (t *Thread) SetAffinity(mask uint64) error {
	if n := len(t.p.cpus); n < t.p.cfg.NCPU {
		folded := uint64(0)
		for c := range min(t.p.cfg.NCPU, 64) {
			folded |= mask >> c & 1 << (c % n)
		}
		mask = folded
	}
	return t.p.pin(t.tid, mask)
}

// SetRlimit implements platform.Thread.
func (t *Thread) SetRlimit(resource int, cur uint64) error {
	switch resource {
	case unix.RLIMIT_STACK, unix.RLIMIT_AS, unix.RLIMIT_DATA, unix.RLIMIT_MEMLOCK, unix.RLIMIT_CORE:
	default:
		return unix.EINVAL
	}
	var lim unix.Rlimit
	if err := unix.Prlimit(t.proc.tgid, resource, nil, &lim); err != nil {
		return err
	}
	if resource == unix.RLIMIT_CORE {
		return nil // the host must never write a stub's memory to a file
	}
	lim.Cur = min(cur, lim.Max)
	return unix.Prlimit(t.proc.tgid, resource, &lim, nil)
}
