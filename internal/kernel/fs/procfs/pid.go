package procfs

import (
	"bytes"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
	"github.com/user-mode-linux/linux/internal/kernel/fs/pseudo"
	"github.com/user-mode-linux/linux/internal/kernel/ktime"
	"github.com/user-mode-linux/linux/internal/kernel/task"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// entry describes one file that every process or thread has. Entries are in tables that never change.
type entry struct {
	name   string
	mode   uint32 // type and permission bits
	idx    uint64 // place in the inode number, set by number
	scope  scope
	access access

	show  func(p *node, c vfs.Caller, w *bytes.Buffer) error
	store func(p *node, c vfs.Caller, b []byte) error
	open  func(p *node, c vfs.Caller, f *vfs.File) (vfs.FileOps, error)

	// Links: what readlink gives and where a magic link leads.
	link   func(p *node, c vfs.Caller) (string, error)
	follow func(p *node, c vfs.Caller) (vfs.Path, error)

	// Directories: a table, or computed names.
	sub    []*entry
	lookup func(p *node, c vfs.Caller, name string) (vfs.Inode, error)
	list   func(p *node, c vfs.Caller, off int64, emit func(vfs.DirEnt) bool) error
}

// scope says whether an entry belongs to processes, threads or both.
type scope uint8

const (
	both scope = iota
	processOnly
	threadOnly
)

// access says who may open a file or follow a link, beyond its permission bits.
type access uint8

const (
	anyone access = iota
	tracer        // who may trace the process
)

// node is an inode of a process: a value that is equal to another one exactly if it is the same file.
type node struct {
	vfs.InodeBase
	fs *FS
	g  *task.ThreadGroup
	t  *task.Task // the thread for what is below task/<tid>, else nil
	by *task.Task // the thread by whose id a process was looked up: shown in the place of the leader, if not nil
	e  *entry
	fd int32 // the descriptor for what is in fd/ and fdinfo/, else 0
}

// GroupOf returns the process whose directory /proc/<pid> an open file is, nil if it is none (pidfd_send_signal(2)).
func GroupOf(f *vfs.File) *task.ThreadGroup {
	if d, ok := f.Inode.(pidDir); ok {
		return d.g
	}
	return nil
}

// task is the thread that the node tells about: for a process its leader. ESRCH once it has been reaped.
func (p *node) task() (*task.Task, error) {
	t := p.t
	if t == nil {
		t = p.by
	}
	if t == nil {
		if t = p.g.Leader(); t == nil || p.fs.k.FindGroup(p.g.PID()) != p.g {
			return nil, unix.ESRCH
		}
		return t, nil
	}
	if p.fs.k.FindTask(t.TID()) != t {
		return nil, unix.ESRCH
	}
	return t, nil
}

// allowed makes the access check of the entry.
func (p *node) allowed(c vfs.Caller) error {
	if p.e.access == anyone {
		return nil
	}
	t, err := p.task()
	if err != nil {
		return err
	}
	return mayTrace(c, t)
}

// mayTrace is ptrace_may_access for a caller that reads: EACCES if it may not.
func mayTrace(c vfs.Caller, t *task.Task) error {
	me, ok := c.(*task.Task)
	if ok && me.Group != t.Group && me.CanPtrace(t) != nil {
		return unix.EACCES
	}
	return nil
}

// Inode numbers of processes: the id, whether it is a thread, the entry, the descriptor.
const (
	inoTask   = 30
	inoThread = 29
	inoEntry  = 22
)

func (p node) ino() uint64 {
	id, thread := uint64(p.g.PID()), uint64(0)
	if p.t != nil {
		id, thread = uint64(p.t.TID()), 1
	} else if p.by != nil {
		id = uint64(p.by.TID())
	}
	return id<<inoTask | thread<<inoThread | p.e.idx<<inoEntry | uint64(p.fd)&(1<<inoEntry-1)
}

// Super implements vfs.Inode.
func (p node) Super() vfs.SuperBlock { return p.fs }

// Attr implements vfs.Inode. Files belong to the process's effective user.
func (p node) Attr() vfs.Attr {
	a := vfs.Attr{Ino: p.ino(), Mode: p.e.mode, Nlink: 1, Blksize: abi.PageSize / 4}
	if a.IsDir() {
		a.Nlink = 2
		for _, s := range p.e.sub {
			if s.mode&unix.S_IFMT == unix.S_IFDIR && s.in(p.t != nil) {
				a.Nlink++
			}
		}
	}
	if p.e.name == "task" {
		a.Nlink += uint32(p.g.Live())
	}
	start := p.g.StartTime()
	if t := p.t; t != nil {
		start = t.StartTime()
	} else {
		t = p.g.Leader()
		p.t = t
	}
	// What a process that may not be dumped has belongs to root, except its directory.
	if p.t != nil && (p.g.Dumpable() == 1 || p.e.mode == dirMode|0o555) {
		cr := p.t.Cred()
		a.UID, a.GID = cr.EUID, cr.EGID
	}
	if p.e.mode&unix.S_IFMT == unix.S_IFLNK && p.e.follow != nil {
		a.Size = 64
	}
	ts := abi.NsecToTimespec(ktime.BootTime()*1e9 + start)
	a.Atime, a.Mtime, a.Ctime = ts, ts, ts
	if p.e == fdLinkEntry {
		a.Mode = p.fdMode()
	}
	return a
}

// SetAttr accepts what opening for writing does; modes and owners are fixed.
func (p node) SetAttr(_ vfs.Caller, sa *vfs.SetAttr) error {
	if sa.Valid&(vfs.SetMode|vfs.SetUID|vfs.SetGID) != 0 {
		return unix.EPERM
	}
	return nil
}

// in reports whether the entry exists for a thread or process.
func (e *entry) in(thread bool) bool {
	return e.scope == both || (e.scope == threadOnly) == thread
}

// Lookup implements vfs.Inode.
func (p node) Lookup(c vfs.Caller, name string) (vfs.Inode, error) {
	if _, err := p.task(); err != nil {
		return nil, unix.ENOENT
	}
	if p.e.lookup != nil {
		return p.e.lookup(&p, c, name)
	}
	for _, s := range p.e.sub {
		if s.name == name && s.in(p.t != nil) {
			return p.child(s).inode(), nil
		}
	}
	if p.e == pidEntry && name == "net" {
		return p.fs.net, nil
	}
	return nil, unix.ENOENT
}

// child is the node of another entry of the same process.
func (p node) child(e *entry) node {
	p.e, p.fd = e, 0
	return p
}

// Readlink implements vfs.Inode.
func (p node) Readlink(c vfs.Caller) (string, error) {
	if p.e.link == nil {
		return "", unix.EINVAL
	}
	if err := p.allowed(c); err != nil {
		return "", err
	}
	return p.e.link(&p, c)
}

// magic is a node whose link leads to a place, not to a name. It is a type of its own because the vfs tells magic links
// by their type.
type magic struct{ node }

// Follow implements vfs.LinkFollower.
func (m magic) Follow(c vfs.Caller) (vfs.Path, error) {
	if err := m.allowed(c); err != nil {
		return vfs.Path{}, err
	}
	return m.e.follow(&m.node, c)
}

// inode is the node as the right type.
func (p node) inode() vfs.Inode {
	switch {
	case p.e.follow != nil:
		return magic{p}
	case p.e == pidEntry:
		return pidDir{p}
	}
	return p
}

// Open implements vfs.Inode.
func (p node) Open(c vfs.Caller, f *vfs.File) (vfs.FileOps, error) {
	if err := p.allowed(c); err != nil {
		return nil, err
	}
	if p.e.mode&unix.S_IFMT == unix.S_IFDIR {
		return &pseudo.List{Self: p.ino(), Parent: p.parentIno(), ReadFrom: p.readFrom}, nil
	}
	if p.e.open != nil {
		return p.e.open(&p, c, f)
	}
	t := &pseudo.Text{}
	if show := p.e.show; show != nil {
		t.Show = func(c vfs.Caller, w *bytes.Buffer) error {
			if err := p.allowed(c); err != nil {
				return err
			}
			return show(&p, c, w)
		}
	}
	if store := p.e.store; store != nil {
		t.Store = func(c vfs.Caller, b []byte) error { return store(&p, c, b) }
	}
	return t, nil
}

// parentIno is the inode number of "..".
func (p node) parentIno() uint64 {
	switch p.e {
	case pidEntry:
		return 1
	case threadEntry:
		return node{fs: p.fs, g: p.g, e: taskDirEntry}.ino()
	}
	if p.t != nil {
		return p.child(threadEntry).ino()
	}
	return p.child(pidEntry).ino()
}

// readFrom lists a directory.
func (p node) readFrom(c vfs.Caller, off int64, emit func(vfs.DirEnt) bool) error {
	if _, err := p.task(); err != nil {
		return unix.ENOENT
	}
	if p.e.list != nil {
		return p.e.list(&p, c, off, emit)
	}
	for i, s := range p.e.sub {
		at := int64(i) + 3
		if at <= off || !s.in(p.t != nil) {
			continue
		}
		if !emit(vfs.DirEnt{Name: s.name, Ino: p.child(s).ino(), Type: pseudo.DirentType(s.mode), Off: at}) {
			return nil
		}
	}
	if at := int64(len(p.e.sub)) + 3; p.e == pidEntry && off < at {
		emit(vfs.DirEnt{Name: "net", Ino: p.fs.net.Ino(), Type: unix.DT_DIR, Off: at})
	}
	return nil
}

// parseID reads a process id or descriptor as a name: decimal, without leading zeros or sign.
func parseID(name string) (int32, bool) {
	if name == "" || name[0] < '0' || name[0] > '9' || name[0] == '0' && len(name) > 1 {
		return 0, false
	}
	n, err := strconv.ParseInt(name, 10, 32)
	return int32(n), err == nil
}

// pids is the dynamic part of the root directory: the processes.
type pids struct{ fs *FS }

// Lookup implements pseudo.Dynamic. A thread's id works too, as a name that is not listed.
func (d pids) Lookup(c vfs.Caller, name string) (vfs.Inode, error) {
	id, ok := parseID(name)
	if !ok {
		return nil, unix.ENOENT
	}
	g := d.fs.k.FindGroup(id)
	var t *task.Task
	if g == nil {
		if t = d.fs.k.FindTask(id); t == nil {
			return nil, unix.ENOENT
		}
		g = t.Group
	}
	if d.fs.hidden(c, g, 2) {
		return nil, unix.ENOENT
	}
	return node{fs: d.fs, g: g, by: t, e: pidEntry}.inode(), nil
}

// ReadDir implements pseudo.Dynamic: the cookie is the process id.
func (d pids) ReadDir(c vfs.Caller, off int64, emit func(vfs.DirEnt) bool) error {
	for _, g := range d.fs.k.Groups() {
		pid := g.PID()
		if int64(pid) <= off || d.fs.hidden(c, g, 2) {
			continue
		}
		p := node{fs: d.fs, g: g, e: pidEntry}
		if !emit(vfs.DirEnt{Name: strconv.Itoa(int(pid)), Ino: p.ino(), Type: unix.DT_DIR, Off: int64(pid)}) {
			return nil
		}
	}
	return nil
}

// lookupThread and listThreads are the directory task/.
func lookupThread(p *node, _ vfs.Caller, name string) (vfs.Inode, error) {
	id, ok := parseID(name)
	if !ok {
		return nil, unix.ENOENT
	}
	t := p.fs.k.FindTask(id)
	if t == nil || t.Group != p.g {
		return nil, unix.ENOENT
	}
	return node{fs: p.fs, g: p.g, t: t, e: threadEntry}, nil
}

func listThreads(p *node, _ vfs.Caller, off int64, emit func(vfs.DirEnt) bool) error {
	for i, t := range p.g.Threads() {
		at := int64(i) + 3
		if at <= off {
			continue
		}
		tid := t.TID()
		in := node{fs: p.fs, g: p.g, t: t, e: threadEntry}
		if !emit(vfs.DirEnt{Name: strconv.Itoa(int(tid)), Ino: in.ino(), Type: unix.DT_DIR, Off: at}) {
			return nil
		}
	}
	return nil
}
