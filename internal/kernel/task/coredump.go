package task

import (
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
	"github.com/user-mode-linux/linux/internal/kernel/arch"
	"github.com/user-mode-linux/linux/internal/kernel/coredump"
	"github.com/user-mode-linux/linux/internal/kernel/fs/pipefs"
	"github.com/user-mode-linux/linux/internal/kernel/klog"
	"github.com/user-mode-linux/linux/internal/kernel/ktime"
	"github.com/user-mode-linux/linux/internal/kernel/mm"
	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/system"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// A process that a signal of sigCore ends leaves a core file, if its limits and the settings want one: the thread that
// takes the signal stays held, the others are made to stop and held too, and a goroutine writes the file. Then the process
// is killed as by any other signal.

// sigCore are the signals whose default action is to dump core (signal(7)).
const sigCore = arch.SigSet(1)<<(unix.SIGQUIT-1) | 1<<(unix.SIGILL-1) | 1<<(unix.SIGTRAP-1) | 1<<(unix.SIGABRT-1) |
	1<<(unix.SIGFPE-1) | 1<<(unix.SIGSEGV-1) | 1<<(unix.SIGBUS-1) | 1<<(unix.SIGSYS-1) | 1<<(unix.SIGXCPU-1) |
	1<<(unix.SIGXFSZ-1)

// dump is a core dump that goes on.
type dump struct {
	owner  *Task
	killed atomic.Bool // SIGKILL has come: no more is written
}

const (
	// dumpPatience bounds how long the other threads may take to stop; one that does not has no registers in the file.
	dumpPatience = 2 * time.Second
	// maxDumped is the size from which on a mapping is left out: it cannot be full.
	maxDumped = 8 << 30
)

// coreDeath ends the process by a signal of sigCore. It is false if there is to be no core file.
func (t *Task) coreDeath(th platform.Thread, info *arch.Siginfo) bool {
	g := t.Group
	names := coredump.Names{
		PID: t.PID(), TID: t.TID(), Signal: info.Signo, UID: t.Cred().UID, GID: t.Cred().GID, Dumpable: g.Dumpable(),
		Time: ktime.Realtime() / 1e9, Limit: t.Rlimit(unix.RLIMIT_CORE), CPU: th.CPU(), Host: system.Hostname(), Comm: t.Comm(),
	}
	if names.Dumpable != 1 || t.MM() == nil {
		return false
	}
	if exe := t.MM().Exe(); exe != nil {
		names.Program = vfs.PathName(t, exe.Path)
		exe.DecRef()
	}
	file, command := names.File(t.K.Core)
	// A limit of 1 keeps helpers from dumping their own core.
	if len(command) == 0 && (names.Limit == 0 || file == "") || names.Limit == 1 {
		return false
	}
	d := &dump{owner: t}
	g.sigMu.Lock()
	if g.exiting || g.execing != nil {
		g.sigMu.Unlock()
		return false
	}
	g.exiting, g.exitCode, g.dump = true, info.Signo, d
	for _, x := range g.threadsSnapshot() {
		if x != t {
			x.work.Or(workExit)
			x.kick()
		}
	}
	g.sigMu.Unlock()
	go t.dumpCore(th, d, *info, file, command)
	return true
}

// joinDumpLocked holds a thread whose process dumps core. It unlocks sigMu if it is true.
func (t *Task) joinDumpLocked() bool {
	d := t.Group.dump
	if d == nil || d.owner == t {
		return false
	}
	t.dumped.Store(true)
	t.Group.sigMu.Unlock()
	d.owner.Wake()
	return true
}

// dumpCore waits for the other threads, writes the file and ends the process.
func (t *Task) dumpCore(th platform.Thread, d *dump, info arch.Siginfo, file string, command []string) {
	g := t.Group
	t.await(ktime.After(dumpPatience), func() bool {
		for _, x := range g.threadsSnapshot() {
			if x != t && !x.dumped.Load() && !x.ending.Load() && x.where.Load() != gone && !x.Thread().Held() {
				return false
			}
		}
		return true
	})
	c := dumper{t, d}
	out, err := c.open(file, command)
	dumped := err == nil
	if dumped {
		err = t.writeCore(out, info)
		if e := out.close(); err == nil {
			err = e
		}
	}
	g.sigMu.Lock()
	g.dump = nil
	if dumped { // if only in part
		g.exitCode |= coreFlag
	}
	g.sigMu.Unlock()
	if err != nil && err != errCoreLimit {
		klog.Printf(klog.Notice, "%s[%d]: no core file: %v", t.Comm(), t.PID(), err)
	}
	t.dieHeld(th)
}

const coreFlag = 0x80 // WCOREDUMP

// await waits, in spite of signals, for others to make cond true and wake the task.
func (t *Task) await(deadline int64, cond func() bool) {
	for !cond() {
		left := time.Duration(deadline - ktime.Monotonic())
		if left <= 0 {
			return
		}
		timer := time.NewTimer(left)
		select {
		case <-t.token:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// dumper is the caller that writes the file: no signal but SIGKILL interrupts it.
type dumper struct {
	*Task
	d *dump
}

// Sleep implements wait.Sleeper.
func (c dumper) Sleep(deadline int64) error {
	if deadline == ktime.Forever {
		deadline = ktime.After(time.Second) // a spurious wake-up is allowed
	}
	woken := false
	c.await(deadline, func() bool { woken = !woken; return !woken })
	if c.d.killed.Load() {
		return unix.EINTR
	}
	return nil
}

// Signal implements vfs.Caller: the process ends already.
func (c dumper) Signal(unix.Signal) {}

// coreOutput is a coredump.Output on a file or pipe.
type coreOutput struct {
	c     dumper
	f     *vfs.File
	pipe  bool
	off   int64
	limit int64
	src   uio.Src
}

// errCoreLimit ends a file that reaches RLIMIT_CORE.
const errCoreLimit = unix.EFBIG

var zeroPage [abi.PageSize]byte

func (o *coreOutput) Write(p []byte) error {
	if int64(len(p)) > o.limit-o.off {
		return errCoreLimit
	}
	for len(p) > 0 {
		if o.c.d.killed.Load() {
			return unix.EINTR
		}
		o.src.ResetBytes(p)
		var n int
		var err error
		if o.pipe {
			n, err = vfs.Write(o.c, o.f, &o.src)
		} else {
			n, err = vfs.Pwrite(o.c, o.f, &o.src, o.off)
		}
		if err != nil {
			return err
		}
		if n == 0 {
			return unix.ENOSPC
		}
		o.off += int64(n)
		p = p[n:]
	}
	return nil
}

func (o *coreOutput) Zero(n uint64) error {
	if !o.pipe {
		o.off += int64(n)
		return nil
	}
	for n > 0 {
		k := min(n, uint64(len(zeroPage)))
		if err := o.Write(zeroPage[:k]); err != nil {
			return err
		}
		n -= k
	}
	return nil
}

// close gives a file that ends with a hole its size.
func (o *coreOutput) close() error {
	defer o.f.DecRef()
	if o.pipe {
		return nil
	}
	return vfs.Ftruncate(o.c, o.f, min(o.off, o.limit))
}

// open makes the core file, or starts the helper and makes the pipe to it.
func (c dumper) open(file string, command []string) (*coreOutput, error) {
	if len(command) > 0 {
		f, err := c.K.startCoreHelper(command)
		return &coreOutput{c: c, f: f, pipe: true, limit: math.MaxInt64}, err
	}
	// Nobody may have laid a trap: the file is new.
	if err := vfs.Unlink(c, nil, file); err != nil && err != unix.ENOENT {
		return nil, err
	}
	f, err := vfs.Open(c, nil, file, vfs.OpenHow{Flags: unix.O_CREAT | unix.O_EXCL | unix.O_WRONLY | unix.O_NOFOLLOW, Mode: 0o600})
	if err != nil {
		return nil, err
	}
	return &coreOutput{c: c, f: f, limit: int64(min(c.Rlimit(unix.RLIMIT_CORE), math.MaxInt64))}, nil
}

// startCoreHelper runs a program with a pipe as its standard input, as root, and returns the other end.
func (k *Kernel) startCoreHelper(command []string) (*vfs.File, error) {
	k.mu.Lock()
	init := k.init
	k.mu.Unlock()
	if init == nil || init.Leader() == nil {
		return nil, unix.ESRCH
	}
	fs := init.Leader().FS().Copy()
	t, err := k.NewOrphan(fs, vfs.NewFDTable())
	if err != nil {
		return nil, err
	}
	r, w := pipefs.New(t, 0)
	if _, err = t.Files().Install(t, r, 0, false); err == nil {
		var f *vfs.File
		if f, err = vfs.OpenExec(t, nil, command[0], 0); err == nil {
			env := []string{"HOME=/", "PATH=/sbin:/bin:/usr/sbin:/usr/bin"}
			err = t.Start(ExecParams{File: f, Name: command[0], Argv: command, Envv: env})
			f.DecRef()
		}
	}
	if err != nil {
		w.DecRef()
		t.Group.SendKernelSignal(unix.SIGKILL)
		return nil, err
	}
	return w, nil
}

// writeCore gathers what the file tells and writes it.
func (t *Task) writeCore(out *coreOutput, info arch.Siginfo) error {
	g, m := t.Group, t.MM()
	if m == nil || !m.TryGet() {
		return unix.ESRCH
	}
	defer m.Put()
	regions, err := m.Maps()
	if err != nil {
		return err
	}
	l := m.Layout()
	args := make([]byte, min(l.ArgEnd-l.ArgStart, abi.PageSize))
	n, _ := m.ReadAt(args, l.ArgStart)
	p := &coredump.Process{
		Signal: info, PID: t.PID(), PPID: g.PPID(), PGRP: g.PgrpID(), SID: g.SessionID(), UID: t.Cred().UID, GID: t.Cred().GID,
		Nice: int8(t.Nice()), Comm: t.Comm(), Args: strings.ReplaceAll(string(args[:n]), "\x00", " "),
		Auxv: l.Auxv,
	}
	p.ChildUser, p.ChildSys = g.ChildrenCPUTimes()
	for _, x := range g.threadsSnapshot() {
		if c, ok := x.coreThread(); ok && x == t {
			p.Threads = append([]coredump.Thread{c}, p.Threads...)
		} else if ok {
			p.Threads = append(p.Threads, c)
		}
	}
	resident, err := m.AddressSpace().Residents()
	if err != nil {
		return err
	}
	for i := range regions {
		p.Regions = append(p.Regions, coreRegion(t, m, &regions[i], resident, g.CoreFilter()))
	}
	return coredump.Write(out, p, m.ReadAt)
}

// coreThread is a held thread for the file.
func (t *Task) coreThread() (c coredump.Thread, ok bool) {
	th := t.Thread()
	if t.where.Load() == gone || !th.Held() {
		return c, false
	}
	r, err := th.Regs()
	if err != nil {
		return c, false
	}
	c = coredump.Thread{TID: t.TID(), Regs: *r}
	if c.FP, err = th.FPState(); err != nil {
		return c, false
	}
	c.Pending, _, c.Blocked, _, _ = t.SigMasks()
	c.User, c.Sys = t.CPUTimes()
	return c, true
}

// What a core file contains: bits of /proc/<pid>/coredump_filter (core(5)).
const (
	coreAnonPrivate = 1 << iota
	coreAnonShared
	coreFilePrivate
	coreFileShared
	coreHeaders // the first pages of programs and libraries
	coreHugePrivate

	coreFilterBits    = 1<<9 - 1
	defaultCoreFilter = coreAnonPrivate | coreAnonShared | coreHeaders | coreHugePrivate
)

// CoreFilter is /proc/<pid>/coredump_filter; unknown bits are dropped.
func (g *ThreadGroup) CoreFilter() uint32     { return g.coreFilter.Load() }
func (g *ThreadGroup) SetCoreFilter(v uint32) { g.coreFilter.Store(v & coreFilterBits) }

// coreRegion decides what of a mapping is written. The process's own memory is left out where it was never touched, and so is
// what cannot be read.
func coreRegion(c vfs.Caller, m *mm.MM, r *mm.Region, resident []platform.Resident, filter uint32) coredump.Region {
	size := r.End - r.Start
	out := coredump.Region{Start: r.Start, End: r.End, Prot: r.Prot}
	named := r.File != nil && r.File.Path.Mount != nil
	if r.File != nil {
		out.Off = r.Off
		out.File = vfs.PathName(c, r.File.Path)
	}
	if r.Prot&unix.PROT_READ == 0 || size > maxDumped || r.Name == "[vvar]" {
		return out
	}
	touched := slices.ContainsFunc(resident, func(o platform.Resident) bool {
		return o.Anon|o.Swap != 0 && o.Start < r.End && r.Start < o.End
	})
	whole := uint32(0) // what of the filter has all of it written
	switch {
	case r.Shared && named:
		whole = coreFileShared
	case r.Shared:
		whole = coreAnonShared
	default:
		if touched {
			whole |= coreAnonPrivate
		}
		if named {
			whole |= coreFilePrivate
		}
	}
	if filter&whole != 0 {
		out.Dump = size
		return out
	}
	var magic [4]byte
	if filter&coreHeaders != 0 && r.Off == 0 {
		if m.ReadAt(magic[:], r.Start); string(magic[:]) == "\x7fELF" {
			out.Dump = min(size, abi.PageSize)
		}
	}
	return out
}
