package procfs

import (
	"bytes"
	"fmt"
	"math"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/fs/pseudo"
	"github.com/user-mode-linux/linux/internal/kernel/task"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// Small values of processes that files are the only door to, or a second one beside prctl(2).

func showLoginUID(p *node, _ vfs.Caller, w *bytes.Buffer) error {
	t, err := p.task()
	if err != nil {
		return err
	}
	uid, _ := t.Login()
	fmt.Fprintf(w, "%d", uid)
	return nil
}

// storeLoginUID sets who logged in. EPERM: a thread only does that to itself.
func storeLoginUID(p *node, c vfs.Caller, b []byte) error {
	t, err := p.task()
	if err != nil {
		return err
	}
	if me, ok := c.(*task.Task); !ok || me != t {
		return unix.EPERM
	}
	uid, err := pseudo.ParseInt(b, 0, math.MaxUint32)
	if err != nil {
		return err
	}
	return t.SetLogin(uint32(uid))
}

func showSessionID(p *node, _ vfs.Caller, w *bytes.Buffer) error {
	t, err := p.task()
	if err != nil {
		return err
	}
	_, session := t.Login()
	fmt.Fprintf(w, "%d", session)
	return nil
}

// A process without memory has no filter of core dumps, and an empty file.
func showCoreFilter(p *node, _ vfs.Caller, w *bytes.Buffer) error {
	t, err := p.task()
	if err != nil {
		return err
	}
	if t.MM() != nil {
		fmt.Fprintf(w, "%08x\n", p.g.CoreFilter())
	}
	return nil
}

func storeCoreFilter(p *node, _ vfs.Caller, b []byte) error {
	v, err := pseudo.ParseInt(b, 0, math.MaxUint32)
	if err != nil {
		return err
	}
	t, err := p.task()
	if err != nil {
		return err
	}
	if t.MM() != nil {
		p.g.SetCoreFilter(uint32(v))
	}
	return nil
}

// slackOf is the thread whose timer slack the caller may see and change: its own, with CAP_SYS_NICE any. EPERM.
func (p *node) slackOf(c vfs.Caller) (*task.Task, error) {
	t, err := p.task()
	if err != nil {
		return nil, err
	}
	if me, ok := c.(*task.Task); (!ok || me != t) && !c.Cred().Capable(unix.CAP_SYS_NICE) {
		return nil, unix.EPERM
	}
	return t, nil
}

func showTimerSlack(p *node, c vfs.Caller, w *bytes.Buffer) error {
	t, err := p.slackOf(c)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "%d\n", t.TimerSlack())
	return nil
}

func storeTimerSlack(p *node, c vfs.Caller, b []byte) error {
	v, err := pseudo.ParseInt(b, 0, math.MaxInt64)
	if err != nil {
		return err
	}
	t, err := p.slackOf(c)
	if err != nil {
		return err
	}
	t.SetTimerSlack(uint64(v))
	return nil
}

// showSchedstat tells CPU time, time on a run queue, which only the host knows, and how often it ran. Of a process it shows
// the leader.
func showSchedstat(p *node, _ vfs.Caller, w *bytes.Buffer) error {
	t, err := p.task()
	if err != nil {
		return err
	}
	r := t.Rusage()
	fmt.Fprintf(w, "%d 0 %d\n", r.Utime.Nano()+r.Stime.Nano(), r.Nvcsw+r.Nivcsw)
	return nil
}

// sigevNames are the ways of sigevent(7) to notify: SIGEV_SIGNAL, SIGEV_NONE and SIGEV_THREAD.
var sigevNames = [...]string{"signal", "none", "thread"}

// formatTimers writes /proc/<pid>/timers (proc_pid_timers(5)).
func formatTimers(w *bytes.Buffer, pid int32, timers []task.TimerInfo) {
	for _, t := range timers {
		to, id := "pid", pid
		if t.TID != 0 {
			to, id = "tid", t.TID
		}
		fmt.Fprintf(w, "ID: %d\nsignal: %d/%016x\nnotify: %s/%s.%d\nClockID: %d\n",
			t.ID, t.Sig, t.Value, sigevNames[t.Notify&3%3], to, id, t.Clock)
	}
}

func showTimers(p *node, _ vfs.Caller, w *bytes.Buffer) error {
	if _, err := p.task(); err != nil {
		return err
	}
	formatTimers(w, p.g.PID(), p.g.Timers())
	return nil
}
