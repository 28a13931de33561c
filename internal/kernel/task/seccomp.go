package task

import (
	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
	"github.com/user-mode-linux/linux/internal/kernel/arch"
	"github.com/user-mode-linux/linux/internal/kernel/klog"
	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/seccomp"
)

// Guest seccomp(2). Calls that reach the kernel are judged before they are dispatched. If a filter does not allow every call
// that the host may carry out by itself the thread is watched, so that those stop; if it has to see registers all calls do.

// security is a thread's seccomp mode. It is immutable, and never goes back.
type security struct {
	strict bool            // SECCOMP_MODE_STRICT
	filter *seccomp.Filter // else
	watch  platform.Watching
}

// SeccompMode is PR_GET_SECCOMP and the Seccomp line of /proc/<pid>/status; SeccompFilters how many filters there are.
func (t *Task) SeccompMode() int {
	switch s := t.security.Load(); {
	case s == nil:
		return unix.SECCOMP_MODE_DISABLED
	case s.strict:
		return unix.SECCOMP_MODE_STRICT
	}
	return unix.SECCOMP_MODE_FILTER
}

// SeccompFilters is the number of filters that are in force.
func (t *Task) SeccompFilters() int {
	if s := t.security.Load(); s != nil {
		return s.filter.Count()
	}
	return 0
}

// SetStrict implements SECCOMP_SET_MODE_STRICT. EINVAL if there are filters.
func (t *Task) SetStrict() error {
	if s := t.security.Load(); s != nil && !s.strict {
		return unix.EINVAL
	}
	t.security.Store(&security{strict: true, watch: platform.WatchNative})
	t.startWatch()
	return nil
}

// AddFilter implements SECCOMP_SET_MODE_FILTER for a thread that may have filters. With sync the other threads of the
// process get the same: the id of one that cannot, because its filters are others, comes back with EBUSY.
func (t *Task) AddFilter(prog []unix.SockFilter, log, sync bool) (culprit int32, err error) {
	t.K.seccompMu.Lock()
	defer t.K.seccompMu.Unlock()
	old := t.security.Load()
	var chain *seccomp.Filter
	if old != nil {
		if old.strict {
			return 0, unix.EINVAL
		}
		chain = old.filter
	}
	g := t.Group
	g.sigMu.Lock() // no thread is born meanwhile
	defer g.sigMu.Unlock()
	var others []*Task
	if sync {
		for _, x := range g.threadsSnapshot() {
			if x == t || x.ending.Load() || x.where.Load() == gone {
				continue
			}
			if s := x.security.Load(); s != nil && (s.strict || !chain.Includes(s.filter)) {
				return x.TID(), unix.EBUSY
			}
			others = append(others, x)
		}
	}
	f, err := seccomp.New(chain, prog, log)
	if err != nil {
		return 0, err
	}
	s := &security{filter: f}
	if f.Exact() {
		s.watch = platform.WatchAll
	} else if !f.AllowsAll(t.K.NativeCalls) {
		s.watch = platform.WatchNative
	}
	t.security.Store(s)
	if s.watch != platform.WatchNone {
		t.startWatch()
	}
	for _, x := range others {
		if t.NoNewPrivs() {
			x.SetNoNewPrivs()
		}
		x.security.Store(s)
		if s.watch != platform.WatchNone {
			x.work.Or(workCall)
			x.kick()
		}
	}
	return 0, nil
}

// startWatch makes the platform show all calls from the end of the running one on.
func (t *Task) startWatch() { t.RunHeld(func(platform.Thread) {}) }

// updateWatch tells the platform which calls it has to show. It takes effect when the thread is held next.
func (t *Task) updateWatch() {
	if t.trace.calls.Load() {
		t.Thread().Watch(platform.WatchAll)
	} else {
		t.Thread().Watch(t.watched())
	}
}

// watched is which calls seccomp needs to see.
func (t *Task) watched() platform.Watching {
	if s := t.security.Load(); s != nil {
		return s.watch
	}
	return platform.WatchNone
}

// verdict is what becomes of a call that was judged.
type verdict struct {
	skip  bool // it is not made; value and err are its result
	value uint64
	err   error
}

// judge asks the filters about a call. A tracer may change number and arguments.
func (t *Task) judge(th platform.Thread, nr *int32, a *platform.Args) verdict {
	s := t.security.Load()
	if s == nil || t.doomed != 0 {
		return verdict{}
	}
	if s.strict {
		switch *nr {
		case unix.SYS_READ, unix.SYS_WRITE, unix.SYS_EXIT, unix.SYS_RT_SIGRETURN:
			return verdict{}
		}
		t.auditCall(*nr, unix.SIGKILL, unix.SECCOMP_RET_KILL_THREAD)
		t.doom(unix.SIGKILL)
		return verdict{skip: true, err: unix.ENOSYS}
	}
	traced := false
	for {
		d := seccomp.Data{Nr: *nr, Args: *a}
		if s.watch == platform.WatchAll && th.Held() {
			if r, err := th.Regs(); err == nil {
				d.IP = r.Rip
			}
		}
		action, data, log := s.filter.Judge(&d)
		if log && action != unix.SECCOMP_RET_ALLOW {
			t.auditCall(*nr, 0, action)
		}
		switch action {
		case unix.SECCOMP_RET_ALLOW:
			return verdict{}
		case unix.SECCOMP_RET_LOG:
			if !log {
				t.auditCall(*nr, 0, action)
			}
			return verdict{}
		case unix.SECCOMP_RET_ERRNO:
			return verdict{skip: true, value: uint64(-int64(min(data, maxErrno)))}
		case unix.SECCOMP_RET_TRAP:
			t.trapCall(*nr, data, false)
			return verdict{skip: true, value: uint64(int64(*nr))}
		case unix.SECCOMP_RET_TRACE:
			if traced {
				return verdict{}
			}
			v, again := t.traceFiltered(th, nr, a, data)
			if !again {
				return v
			}
			traced = true
		case unix.SECCOMP_RET_USER_NOTIF:
			return verdict{skip: true, err: unix.ENOSYS} // nobody listens
		default:
			if action == unix.SECCOMP_RET_KILL_THREAD && t.Group.Live() > 1 {
				t.auditCall(*nr, unix.SIGSYS, action)
				t.doom(unix.SIGSYS)
			} else {
				t.auditCall(*nr, unix.SIGSYS, action)
				t.trapCall(*nr, data, true)
			}
			return verdict{skip: true, value: uint64(int64(*nr))}
		}
	}
}

const maxErrno = 4095

// auditCall logs what a filter has refused, or was asked to log, in the form of Linux's audit record of type SECCOMP.
func (t *Task) auditCall(nr int32, sig unix.Signal, action uint32) {
	c := t.Cred()
	klog.Printf(klog.Notice, "audit: type=1326 uid=%d gid=%d pid=%d comm=%q sig=%d arch=c000003e syscall=%d compat=0 code=%#x",
		c.UID, c.GID, t.TID(), t.Comm(), sig, nr, action)
}

// trapCall sends SIGSYS for a call that was refused; with kill it cannot be handled. The registers are again what they
// were when the call was made.
func (t *Task) trapCall(nr int32, data uint32, kill bool) {
	t.RunHeld(func(th platform.Thread) {
		r, err := th.Regs()
		if err != nil {
			return
		}
		arch.SetResult(r, uint64(int64(nr)))
		th.SetRegs(r)
		info := arch.InfoSys(int32(data), r.Rip, nr, unix.AUDIT_ARCH_X86_64)
		if kill {
			t.forceDefault(info)
		} else {
			t.force(info)
		}
	})
}

// doom ends the thread, and only it, as if it had called exit with a signal as its status: that is the next thing it does.
func (t *Task) doom(sig unix.Signal) {
	g := t.Group
	t.doomed = sig
	g.sigMu.Lock()
	t.setBlockedLocked(^arch.SigSet(0))
	g.sigMu.Unlock()
	t.RunHeld(func(th platform.Thread) {
		if r, err := th.Regs(); err == nil {
			arch.Restart(r, unix.SYS_EXIT)
			th.SetRegs(r)
		}
	})
}

// exitDoomed is the call by which a doomed thread ends. If it is another one, because somebody has changed the code below
// it, the whole process ends.
func (t *Task) exitDoomed(nr int32) {
	if nr != unix.SYS_EXIT {
		t.Group.exit(int32(t.doomed))
		return
	}
	t.Exit(int32(t.doomed))
}

// traceFiltered hands a call to the tracer (PTRACE_EVENT_SECCOMP). again: it is to be judged once more, and made.
func (t *Task) traceFiltered(th platform.Thread, nr *int32, a *platform.Args, data uint32) (v verdict, again bool) {
	t.K.mu.Lock()
	want := t.trace.tracer != nil && t.trace.opts&unix.PTRACE_O_TRACESECCOMP != 0 && th.Held()
	if want {
		t.trace.message, t.trace.nr = uint64(data), *nr
	}
	t.K.mu.Unlock()
	if !want {
		return verdict{skip: true, err: unix.ENOSYS}, false
	}
	const code = int32(unix.SIGTRAP) | unix.PTRACE_EVENT_SECCOMP<<8
	t.traceStop(&TraceStop{Code: code, Info: trapInfo(t, code), Entry: true, Seccomp: true, Data: data, Args: *a})
	return t.changedCall(th, nr, a)
}

// changedCall reads back what a tracer has made of a call. Without again it is skipped, with the result in rax.
func (t *Task) changedCall(th platform.Thread, nr *int32, a *platform.Args) (v verdict, again bool) {
	t.K.mu.Lock()
	*nr = t.trace.nr
	t.K.mu.Unlock()
	r, err := th.Regs()
	if err != nil {
		return verdict{skip: true, err: unix.ENOSYS}, false
	}
	*a = platform.Args(arch.SysArgs(r))
	if *nr == -1 {
		return verdict{skip: true, value: r.Rax}, false
	}
	return verdict{}, true
}

// judgeNative judges a call that the host would carry out, at its entry.
func (t *Task) judgeNative(th platform.Thread) {
	if t.security.Load() == nil {
		return
	}
	r, err := th.Regs()
	if err != nil {
		return
	}
	nr, a := arch.Sysno(r), platform.Args(arch.SysArgs(r))
	was := nr
	v := t.judge(th, &nr, &a)
	switch {
	case v.skip:
		if v.err != nil {
			v.value = abi.Result(0, v.err)
		}
		arch.SetResult(r, v.value)
	case nr != was:
		arch.Restart(r, nr) // the tracer wants another call, which is judged anew
	default:
		return
	}
	t.atEntry = false
	th.SetRegs(r)
}
