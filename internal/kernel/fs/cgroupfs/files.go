package cgroupfs

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/cgroup"
	"github.com/user-mode-linux/linux/internal/kernel/cred"
	"github.com/user-mode-linux/linux/internal/kernel/fs/pseudo"
	"github.com/user-mode-linux/linux/internal/kernel/task"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// file describes a file of a group.
type file struct {
	name   string
	perm   uint32
	show   func(d *dir, w *bytes.Buffer) error
	store  func(d *dir, c vfs.Caller, text string) error
	event  bool // it tells of changes
	noRoot bool // the root does not have it
}

var coreFiles = []file{
	{name: "cgroup.type", perm: 0o644, noRoot: true, show: showType, store: storeType},
	{name: "cgroup.procs", perm: 0o644, show: showProcs, store: storeProcs},
	{name: "cgroup.threads", perm: 0o644, show: showThreads, store: storeThreads},
	{name: "cgroup.controllers", perm: 0o444, show: func(d *dir, w *bytes.Buffer) error { return line(w, d.g.Available()) }},
	{name: "cgroup.subtree_control", perm: 0o644, show: func(d *dir, w *bytes.Buffer) error { return line(w, d.g.Enabled()) }, store: storeControl},
	{name: "cgroup.events", perm: 0o444, noRoot: true, event: true, show: showEvents},
	{name: "cgroup.max.descendants", perm: 0o644, show: func(d *dir, w *bytes.Buffer) error {
		_, n := d.g.Limits()
		return line(w, limit(n))
	}, store: storeLimit((*cgroup.Group).SetMaxDescendants)},
	{name: "cgroup.max.depth", perm: 0o644, show: func(d *dir, w *bytes.Buffer) error {
		n, _ := d.g.Limits()
		return line(w, limit(n))
	}, store: storeLimit((*cgroup.Group).SetMaxDepth)},
	{name: "cgroup.stat", perm: 0o444, show: showStat},
	{name: "cgroup.freeze", perm: 0o644, noRoot: true, show: showFreeze, store: storeFreeze},
	{name: "cgroup.kill", perm: 0o200, noRoot: true, store: storeKill},
	{name: "cpu.stat", perm: 0o444, show: showCPU},
}

var pidsFiles = []file{
	{name: "pids.max", perm: 0o644, show: func(d *dir, w *bytes.Buffer) error { return line(w, limit(d.g.PidsFigures().Max)) }, store: storePidsMax},
	{name: "pids.current", perm: 0o444, show: func(d *dir, w *bytes.Buffer) error { return line(w, d.g.PidsFigures().Current) }},
	{name: "pids.peak", perm: 0o444, show: func(d *dir, w *bytes.Buffer) error { return line(w, d.g.PidsFigures().Peak) }},
	{name: "pids.events", perm: 0o444, event: true, show: func(d *dir, w *bytes.Buffer) error { return line(w, "max ", d.g.PidsFigures().Hits) }},
	{name: "pids.events.local", perm: 0o444, event: true, show: func(d *dir, w *bytes.Buffer) error { return line(w, "max ", d.g.PidsFigures().LocalHits) }},
}

func line(w *bytes.Buffer, v ...any) error {
	fmt.Fprint(w, v...)
	w.WriteByte('\n')
	return nil
}

// limit is a limit as text.
func limit(n int) string {
	if n == cgroup.Max {
		return "max"
	}
	return strconv.Itoa(n)
}

// addFiles makes the files of a new group; they belong to who makes it.
func (d *dir) addFiles(cr *cred.Cred) {
	for _, f := range coreFiles {
		if !f.noRoot || d.g.Parent() != nil {
			in := d.addFile(f, cr)
			if f.name == "cgroup.procs" {
				d.procs = in
			}
		}
	}
}

// control adds and removes the files of controllers.
func (d *dir) control(has cgroup.Controllers, cr *cred.Cred) {
	for _, f := range pidsFiles {
		_, err := d.Dir.Lookup(nil, f.name)
		switch have := err == nil; {
		case has&cgroup.Pids != 0 && !have:
			d.addFile(f, cr)
		case has&cgroup.Pids == 0 && have:
			d.Remove(f.name)
			d.mu.Lock()
			delete(d.events, f.name)
			d.mu.Unlock()
		}
	}
}

func (d *dir) addFile(f file, cr *cred.Cred) vfs.Inode {
	e := &eventFile{}
	e.File = pseudo.NewOpenFile(d.fs.FS, f.perm, func(c vfs.Caller, _ *vfs.File) (vfs.FileOps, error) { return d.open(f, e, c) })
	if f.event {
		e.seq.Store(1)
		d.mu.Lock()
		if d.events == nil {
			d.events = map[string]*eventFile{}
		}
		d.events[f.name] = e
		d.mu.Unlock()
	}
	own(e.File, cr)
	d.Add(f.name, e.File)
	return e.File
}

// open opens a file of the group: ENODEV once the group has been removed.
func (d *dir) open(f file, e *eventFile, opener vfs.Caller) (vfs.FileOps, error) {
	if d.g.Removed() {
		return nil, unix.ENODEV
	}
	t := &pseudo.Text{}
	var seen atomic.Uint64 // what was read last; 0 is nothing
	if f.show != nil {
		t.Show = func(_ vfs.Caller, w *bytes.Buffer) error {
			if d.g.Removed() {
				return unix.ENODEV
			}
			seen.Store(e.seq.Load())
			return f.show(d, w)
		}
	}
	if f.event {
		t.Queue, t.Changed = &e.q, func() bool { return seen.Load() != e.seq.Load() }
	}
	if f.store != nil {
		cr := opener.Cred()
		t.Store = func(c vfs.Caller, p []byte) error {
			if d.g.Removed() {
				return unix.ENODEV
			}
			return f.store(d, as{c, cr}, strings.TrimSpace(strings.TrimRight(string(p), "\x00")))
		}
	}
	return t, nil
}

// as is a caller with the identity of who opened the file.
type as struct {
	vfs.Caller
	cr *cred.Cred
}

func (a as) Cred() *cred.Cred { return a.cr }

func showType(d *dir, w *bytes.Buffer) error { return line(w, d.g.Type()) }

// storeType takes "threaded" only, which no group can become here.
func storeType(_ *dir, _ vfs.Caller, text string) error {
	if text != "threaded" {
		return unix.EINVAL
	}
	return unix.EOPNOTSUPP
}

func showProcs(d *dir, w *bytes.Buffer) error {
	if d.g.Type() == "domain invalid" {
		return unix.EOPNOTSUPP
	}
	for _, p := range d.g.Processes() {
		line(w, p.PID())
	}
	return nil
}

func showThreads(d *dir, w *bytes.Buffer) error {
	for _, p := range d.g.Processes() {
		for _, t := range p.(*task.ThreadGroup).Threads() {
			line(w, t.TID())
		}
	}
	return nil
}

// process finds the process that a program names by the id of one of its threads, 0 for the caller's own.
func (d *dir) process(c vfs.Caller, text string) (*task.ThreadGroup, error) {
	id, err := pseudo.ParseInt([]byte(text), 0, 1<<31-1)
	if err != nil {
		return nil, err
	}
	if id == 0 {
		id = int64(c.PID())
	}
	t := d.fs.k.FindTask(int32(id))
	switch {
	case t == nil:
		return nil, unix.ESRCH
	case t.Thread().HostTID() == 0 && t.State() != 'Z':
		return nil, unix.EINVAL // the kernel's own
	}
	return t.Group, nil
}

func storeProcs(d *dir, c vfs.Caller, text string) error {
	g, err := d.process(c, text)
	if err != nil {
		return err
	}
	return d.g.Move(g.CgroupSeat(), func(from *cgroup.Group) error { return d.fs.mayMove(c, from, d.g) })
}

// storeThreads moves a thread within its process's domain, which is one group here.
func storeThreads(d *dir, c vfs.Caller, text string) error {
	g, err := d.process(c, text)
	if err != nil {
		return err
	}
	if g.Cgroup() != d.g {
		return unix.EOPNOTSUPP
	}
	return d.fs.mayMove(c, d.g, d.g)
}

// mayMove checks that c may write to cgroup.procs of the nearest group above both places: EACCES.
func (fs *FS) mayMove(c vfs.Caller, from, to *cgroup.Group) error {
	above := map[*cgroup.Group]bool{}
	for g := from; g != nil; g = g.Parent() {
		above[g] = true
	}
	for !above[to] {
		to = to.Parent()
	}
	d := fs.dirOf(to)
	if d == nil {
		return unix.ENODEV
	}
	return vfs.Permission(c, d.procs, vfs.MayWrite)
}

// ForFork returns the group whose directory f is, for a child of c that is to be born there (CLONE_INTO_CGROUP). from is
// where c's process is. EBADF if f is something else, EACCES, ENODEV.
func ForFork(c vfs.Caller, f *vfs.File, from *cgroup.Group) (*cgroup.Group, error) {
	d, ok := f.Inode.(*dir)
	switch {
	case !ok:
		return nil, unix.EBADF
	case d.g.Removed():
		return nil, unix.ENODEV
	}
	if err := vfs.Permission(c, d.procs, vfs.MayWrite); err != nil {
		return nil, err
	}
	return d.g, d.fs.mayMove(c, from, d.g)
}

func storeControl(d *dir, c vfs.Caller, text string) error {
	return d.g.Control(text, func(child *cgroup.Group, has cgroup.Controllers) {
		if k := d.fs.dirOf(child); k != nil {
			k.control(has, c.Cred())
		}
	})
}

func number(b bool) int {
	if b {
		return 1
	}
	return 0
}

func showEvents(d *dir, w *bytes.Buffer) error {
	populated, frozen := d.g.Events()
	fmt.Fprintf(w, "populated %d\nfrozen %d\n", number(populated), number(frozen))
	return nil
}

func showStat(d *dir, w *bytes.Buffer) error {
	fmt.Fprintf(w, "nr_descendants %d\nnr_dying_descendants 0\n", d.g.Descendants())
	return nil
}

func showFreeze(d *dir, w *bytes.Buffer) error { return line(w, number(d.g.FreezeSet())) }

func storeFreeze(d *dir, _ vfs.Caller, text string) error {
	n, err := pseudo.ParseInt([]byte(text), -1<<31, 1<<31-1)
	switch {
	case err != nil:
		return err
	case n < 0 || n > 1:
		return unix.ERANGE
	}
	d.g.Freeze(n == 1)
	return nil
}

func storeKill(d *dir, _ vfs.Caller, text string) error {
	n, err := pseudo.ParseInt([]byte(text), -1<<31, 1<<31-1)
	switch {
	case err != nil:
		return err
	case n != 1:
		return unix.ERANGE
	}
	d.g.Kill()
	return nil
}

func showCPU(d *dir, w *bytes.Buffer) error {
	user, system := d.g.CPUTime()
	fmt.Fprintf(w, "usage_usec %d\nuser_usec %d\nsystem_usec %d\n", (user+system)/1000, user/1000, system/1000)
	return nil
}

// storeLimit takes a number or "max".
func storeLimit(set func(*cgroup.Group, int)) func(*dir, vfs.Caller, string) error {
	return func(d *dir, _ vfs.Caller, text string) error {
		if text == "max" {
			set(d.g, cgroup.Max)
			return nil
		}
		n, err := pseudo.ParseInt([]byte(text), -1<<31, 1<<31-1)
		switch {
		case err != nil:
			return err
		case n < 0:
			return unix.ERANGE
		}
		set(d.g, int(n))
		return nil
	}
}

// storePidsMax takes a number below the highest process id, or "max".
func storePidsMax(d *dir, _ vfs.Caller, text string) error {
	if text == "max" {
		d.g.SetPidsMax(cgroup.Max)
		return nil
	}
	n, err := pseudo.ParseInt([]byte(text), -1<<62, 1<<62)
	if err != nil {
		return err
	}
	if n < 0 || n > pidMaxLimit {
		return unix.EINVAL
	}
	d.g.SetPidsMax(int(n))
	return nil
}

// pidMaxLimit is PID_MAX_LIMIT of a 64-bit Linux.
const pidMaxLimit = 4 << 20
