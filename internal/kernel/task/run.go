package task

import (
	"fmt"
	"runtime/debug"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
	"github.com/user-mode-linux/linux/internal/kernel/arch"
	"github.com/user-mode-linux/linux/internal/kernel/klog"
	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// Work flags: what wants a task's attention before it runs guest code again.
const (
	workSignal = 1 << iota // an unblocked signal is pending
	workExit               // the group exits, or another thread executes a program
	workCall               // an action asked for a held thread (runHeld)
)

// Where a task is; see runState.where.
const (
	inUser   = iota // guest code, or between calls
	inKernel        // a handler runs
	gone            // the host thread has ended
	unborn          // clone has not finished: nobody else knows the task
)

// runState is the part of a task that its run loop owns.
type runState struct {
	work  atomic.Uint32
	where atomic.Int32

	// restart is set while a call that was interrupted waits for what happens next. Owned by the task.
	restart restartInfo
	// restartFn goes on with a call that ended with ERESTART_RESTARTBLOCK, when the thread executes it again. resume is
	// the number of that call plus one from when the thread was told to, else 0. Owned by the task.
	restartFn func(t *Task) (uint64, error)
	resume    int32
	// held are functions that want the thread held, run at the next stop. Owned by the task.
	held []func(th platform.Thread)
	// atEntry: the thread is held before a call that the host is to carry out. Owned by the task.
	atEntry bool
	// missed is what copies of the task did not find.
	missed missedState
	// lastNr is the current or last call, for /proc.
	lastNr atomic.Int32
}

// restartInfo describes an interrupted call.
type restartInfo struct {
	code unix.Errno // 0 if there is none
	nr   int32
}

// Action values that a system call asks for besides returning a value; see Task.Then.
type after struct {
	action platform.Action
	set    bool
}

// Syscall implements platform.Handler.
func (k *Kernel) Syscall(th platform.Thread, nr platform.Sysno, a *platform.Args) (ret platform.Return) {
	t := th.Data().(*Task)
	if !t.where.CompareAndSwap(inUser, inKernel) {
		return platform.Return{Action: platform.Dead}
	}
	defer t.oops(&ret)
	t.lastNr.Store(nr)
	t.atEntry = false
	if t.trace.traced.Load() || t.watched() == platform.WatchAll {
		if th.OnTracer() {
			t.where.Store(inUser)
			return platform.Return{Action: platform.Offload}
		}
		if t.trace.calls.Load() && th.Held() && t.doomed == 0 {
			return t.tracedCall(th, nr, a)
		}
	}
	t.then = after{}
	v, err := t.call(th, nr, a)
	if err == errExeced {
		return platform.Return{Action: platform.Dead} // t belongs to the new program's thread now
	}
	vfs.FlushIO()
	if err != nil && th.OnTracer() && t.then.set && t.then.action == platform.Offload {
		return t.finish(platform.Return{Action: platform.Offload}, false)
	}
	return t.leave(th, nr, v, err)
}

// call judges and runs a system call.
func (t *Task) call(th platform.Thread, nr int32, a *platform.Args) (uint64, error) {
	if t.doomed != 0 {
		t.exitDoomed(nr)
		return 0, nil
	}
	if v := t.judge(th, &nr, a); v.skip {
		return v.value, v.err
	}
	v, err := t.K.Dispatch(t, nr, a)
	if err == unix.EFAULT && t.missed.page.Load() != 0 {
		return t.again(th, nr, func() (uint64, error) { return t.K.Dispatch(t, nr, a) })
	}
	return v, err
}

// leave ends a system call.
func (t *Task) leave(th platform.Thread, nr int32, v uint64, err error) platform.Return {
	if t.then.set {
		switch t.then.action {
		case platform.Keep:
			return t.finish(platform.Return{Action: platform.Keep}, true)
		case platform.HostExit:
			return t.finish(platform.Return{Action: platform.HostExit}, false)
		}
	}
	ret := platform.Return{Value: abi.Result(v, err)}
	if e, ok := err.(unix.Errno); ok && e >= abi.ERESTARTSYS && e <= abi.ERESTART_RESTARTBLOCK {
		// What becomes of the call is decided when it is known whether a handler runs.
		t.restart = restartInfo{e, nr}
		ret.Value = abi.Result(0, unix.EINTR)
		t.work.Or(workSignal)
	}
	if t.then.set && t.then.action == platform.Hold {
		ret.Action = platform.Hold
	}
	return t.finish(ret, true)
}

// finish goes back to user mode, through Stop if there is work.
func (t *Task) finish(ret platform.Return, checkWork bool) platform.Return {
	if !t.where.CompareAndSwap(inKernel, inUser) {
		// The host thread ended while the handler ran: the end was left to us.
		go t.exitKilled()
		return platform.Return{Action: platform.Dead}
	}
	if checkWork && t.work.Load() != 0 {
		if ret.Action == platform.Keep || ret.Action == platform.Hold {
			t.Thread().Kick() // remembered until the thread goes on
			return ret
		}
		ret.Action = platform.Stop
	}
	return ret
}

// Then asks that the running system call ends with an action other than returning its value. The value still counts
// for Hold.
func (t *Task) Then(a platform.Action) { t.then = after{a, true} }

// Offload is what a handler returns that would have to sleep or wait for I/O but runs on the tracer thread: it is called
// again where it may. It must not have changed anything.
func (t *Task) Offload() (uint64, error) {
	t.Then(platform.Offload)
	return 0, unix.EAGAIN
}

// MustOffload reports whether the running handler may not sleep.
func (t *Task) MustOffload() bool { return t.Thread().OnTracer() }

// Stop implements platform.Handler.
func (k *Kernel) Stop(th platform.Thread, ev *platform.Event) (act platform.Action) {
	t := th.Data().(*Task)
	if t.Thread() != th {
		return platform.Dead // an old process of a task that has executed a program
	}
	if th.OnTracer() && (t.trace.traced.Load() || t.missed.finding) {
		return platform.Offload
	}
	if !t.where.CompareAndSwap(inUser, inKernel) {
		return platform.Dead
	}
	var ret platform.Return
	defer func() {
		if ret.Action != platform.Resume {
			act = ret.Action
		}
	}()
	defer t.oops(&ret)
	act = t.stopped(th, ev)
	if !t.where.CompareAndSwap(inKernel, inUser) {
		go t.exitKilled()
		return platform.Dead
	}
	if act != platform.Resume {
		return act
	}
	if t.work.Load() != 0 {
		th.Kick()
	}
	if t.stepping() {
		th.ResumeStep()
		return platform.Hold
	}
	return act
}

// stopped does the work of a stop.
func (t *Task) stopped(th platform.Thread, ev *platform.Event) platform.Action {
	if ev.Kind != platform.Kicked {
		t.atEntry = ev.Kind == platform.SyscallEntry
	}
	switch ev.Kind {
	case platform.Fault:
		if t.work.Load()&workExit == 0 {
			if !t.fault(th, ev) {
				return platform.Offload
			}
		}
	case platform.BadArch:
		t.force(arch.InfoFault(unix.SIGSEGV, arch.SI_KERNEL, 0))
	case platform.SyscallEntry, platform.SyscallExit:
		t.nativeCall(th, ev)
		if ev.Kind == platform.SyscallEntry {
			t.judgeNative(th)
		}
	case platform.Step:
		t.force(arch.InfoFault(unix.SIGTRAP, arch.TRAP_TRACE, 0))
	}
	return t.userWork(th)
}

// oops turns a Go panic in a handler into the end of the guest process: a broken invariant is a kernel bug, which is
// logged with its stack and taints nothing but the caller.
func (t *Task) oops(ret *platform.Return) {
	r := recover()
	if r == nil {
		return
	}
	klog.Printf(klog.Alert, "BUG: %v", r)
	klog.Printf(klog.Alert, "CPU: %d PID: %d Comm: %s syscall %d", 0, t.PID(), t.Comm(), t.lastNr.Load())
	for _, l := range strings.Split(strings.TrimSpace(string(debug.Stack())), "\n") {
		klog.Printf(klog.Alert, "%s", l)
	}
	if PanicOnOops.Load() {
		t.K.Panic(fmt.Sprint("Fatal exception: ", r))
	}
	t.Group.exit(int32(unix.SIGKILL))
	*ret = t.finish(platform.Return{Action: platform.Dead}, false)
}

// PanicOnOops is /proc/sys/kernel/panic_on_oops.
var PanicOnOops atomic.Bool

// Exited implements platform.Handler.
func (k *Kernel) Exited(th platform.Thread, ws unix.WaitStatus, ru *unix.Rusage) {
	t := th.Data().(*Task)
	if t.where.CompareAndSwap(unborn, gone) {
		return // its creator sees it at the birth
	}
	if ru != nil {
		t.Group.usageMu.Lock()
		t.usage.add(ru)
		t.Group.usageMu.Unlock()
	}
	if t.Thread() != th {
		return // an old process of a task that has executed a program
	}
	if ws.Signaled() {
		t.hostStatus.CompareAndSwap(0, int32(ws.Signal()))
	}
	switch t.where.Swap(gone) {
	case inUser:
		if t.prepared.Load() {
			t.exitNotify()
		} else {
			go t.exitKilled()
		}
	case inKernel:
		// The running handler sees it when it ends.
	}
}

// kick makes the task look at its work flags soon.
func (t *Task) kick() {
	t.Wake()
	if t.where.Load() == inUser {
		t.Thread().Kick()
	}
}

// RunHeld asks for f to be run with the thread held before the task runs guest code again; for handlers of notify-lane
// calls that need registers. Only for the task itself.
func (t *Task) RunHeld(f func(th platform.Thread)) {
	t.held = append(t.held, f)
	t.work.Or(workCall)
}
