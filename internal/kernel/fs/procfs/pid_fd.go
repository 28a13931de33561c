package procfs

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/fs/pseudo"
	"github.com/user-mode-linux/linux/internal/kernel/task"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// file returns the open file of the node's descriptor with a reference; ENOENT if it is closed.
func (p *node) file() (*vfs.File, error) {
	t, err := p.task()
	if err != nil {
		return nil, err
	}
	fds := t.Files()
	if fds == nil {
		return nil, unix.ENOENT
	}
	f, err := fds.Get(p.fd)
	if err != nil {
		return nil, unix.ENOENT
	}
	return f, nil
}

// fdMode is the mode of a link in fd/, whose owner bits tell how the file is open.
func (p *node) fdMode() uint32 {
	f, err := p.file()
	if err != nil {
		return unix.S_IFLNK | 0o500
	}
	defer f.DecRef()
	mode := uint32(unix.S_IFLNK | 0o100)
	if f.Readable() {
		mode |= 0o400
	}
	if f.Writable() {
		mode |= 0o200
	}
	return mode
}

func (p *node) lookupDescriptor(c vfs.Caller, name string, e *entry) (vfs.Inode, error) {
	fd, ok := parseID(name)
	if !ok {
		return nil, unix.ENOENT
	}
	t, err := p.task()
	if err != nil {
		return nil, unix.ENOENT
	}
	if err := mayTrace(c, t); err != nil {
		return nil, err
	}
	in := p.child(e)
	in.fd = fd
	f, err := in.file()
	if err != nil {
		return nil, err
	}
	f.DecRef()
	return in.inode(), nil
}

func lookupFd(p *node, c vfs.Caller, name string) (vfs.Inode, error) {
	return p.lookupDescriptor(c, name, fdLinkEntry)
}

func lookupFdInfo(p *node, c vfs.Caller, name string) (vfs.Inode, error) {
	return p.lookupDescriptor(c, name, fdInfoFileEntry)
}

// listFds lists fd/ or fdinfo/; the cookie is the descriptor and 3.
func listFds(p *node, c vfs.Caller, off int64, emit func(vfs.DirEnt) bool) error {
	t, err := p.task()
	if err != nil {
		return unix.ENOENT
	}
	if err := mayTrace(c, t); err != nil {
		return err
	}
	fds := t.Files()
	if fds == nil {
		return nil
	}
	in, typ := p.child(fdLinkEntry), uint8(unix.DT_LNK)
	if p.e.name == "fdinfo" {
		in, typ = p.child(fdInfoFileEntry), unix.DT_REG
	}
	var open []int32
	fds.Range(func(fd int32, _ *vfs.File, _ bool) bool {
		if int64(fd)+3 > off {
			open = append(open, fd)
		}
		return true
	})
	for _, fd := range open {
		in.fd = fd
		if !emit(vfs.DirEnt{Name: strconv.Itoa(int(fd)), Ino: in.ino(), Type: typ, Off: int64(fd) + 3}) {
			break
		}
	}
	return nil
}

func linkFd(p *node, c vfs.Caller) (string, error) {
	f, err := p.file()
	if err != nil {
		return "", err
	}
	defer f.DecRef()
	return fileName(c, f), nil
}

// fileName is what the link of an open file shows: anonymous files have their type and inode number.
func fileName(c vfs.Caller, f *vfs.File) string {
	name := vfs.PathName(c, f.Path)
	if f.Path.Mount == nil && f.Inode != nil && (name == "pipe" || name == "socket") {
		return fmt.Sprintf("%s:[%d]", name, f.Inode.Attr().Ino)
	}
	return name
}

func followFd(p *node, _ vfs.Caller) (vfs.Path, error) {
	f, err := p.file()
	if err != nil {
		return vfs.Path{}, err
	}
	defer f.DecRef()
	return f.Path, nil
}

// showFdInfo is fdinfo/<fd>.
func showFdInfo(p *node, _ vfs.Caller, w *bytes.Buffer) error {
	f, err := p.file()
	if err != nil {
		return err
	}
	defer f.DecRef()
	flags := f.Flags()
	if t, err := p.task(); err == nil {
		if fds := t.Files(); fds != nil {
			if on, err := fds.Cloexec(p.fd); err == nil && on {
				flags |= unix.O_CLOEXEC
			}
		}
	}
	mnt := 0
	if m := f.Path.Mount; m != nil {
		mnt = m.ID()
	}
	fmt.Fprintf(w, "pos:\t%d\nflags:\t0%o\nmnt_id:\t%d\nino:\t%d\n", f.Pos(), flags, mnt, f.Inode.Attr().Ino)
	if i, ok := f.Ops.(vfs.FdInfoer); ok {
		w.WriteString(i.FdInfo(f))
	}
	return nil
}

// path is a link to a place that fn finds; its reference, if fn took one, is not needed beyond the call.
func (p *node) path(get func(fs *vfs.FSContext) vfs.Path) (vfs.Path, error) {
	t, err := p.task()
	if err != nil {
		return vfs.Path{}, err
	}
	fs := t.FS()
	if fs == nil {
		return vfs.Path{}, unix.ENOENT
	}
	at := get(fs)
	if at.Dentry == nil {
		return vfs.Path{}, unix.ENOENT
	}
	return at, nil
}

func followCwd(p *node, _ vfs.Caller) (vfs.Path, error)  { return p.path((*vfs.FSContext).Cwd) }
func followRoot(p *node, _ vfs.Caller) (vfs.Path, error) { return p.path((*vfs.FSContext).Root) }

func followExe(p *node, c vfs.Caller) (vfs.Path, error) {
	m, err := p.mm(c)
	if err != nil {
		return vfs.Path{}, err
	}
	if m == nil {
		return vfs.Path{}, unix.ENOENT
	}
	defer m.Put()
	f := m.Exe()
	if f == nil {
		return vfs.Path{}, unix.ENOENT
	}
	defer f.DecRef()
	return f.Path, nil
}

// linkName is readlink of a magic link that leads to a place with a name.
func linkName(follow func(p *node, c vfs.Caller) (vfs.Path, error)) func(p *node, c vfs.Caller) (string, error) {
	return func(p *node, c vfs.Caller) (string, error) {
		at, err := follow(p, c)
		if err != nil {
			return "", err
		}
		return vfs.PathName(c, at), nil
	}
}

var (
	linkCwd  = linkName(followCwd)
	linkRoot = linkName(followRoot)
	linkExe  = linkName(followExe)
)

// nsNames are the name spaces of ns/: those that programs can have of their own. Init systems take a name here for a sign
// that the kernel knows the kind (namespaces(7)), and fail where they would do without.
var nsNames = []string{"mnt"}

// Inode numbers of the initial name spaces (linux/proc_ns.h); Linux allocates that of mounts at boot.
var nsInodes = map[string]uint64{"user": 0xEFFFFFFD, "mnt": 0xF0000000}

// mountsOf is the mount name space of the process: ENOENT when it has ended.
func (p *node) mountsOf() (*vfs.Namespace, error) {
	t, err := p.task()
	if err != nil {
		return nil, err
	}
	fs := t.FS()
	if fs == nil || fs.Namespace() == nil {
		return nil, unix.ENOENT
	}
	return fs.Namespace(), nil
}

func mountsName(ns *vfs.Namespace) string {
	return fmt.Sprintf("mnt:[%d]", nsInodes["mnt"]+uint64(ns.ID()))
}

func linkNs(p *node, _ vfs.Caller) (string, error) {
	ns, err := p.mountsOf()
	if err != nil {
		return "", err
	}
	return mountsName(ns), nil
}

// nsFiles keeps one nameless file for each name space that was looked at, so that opening ns/<name> gives an inode whose
// device and number tell name spaces apart.
type nsFiles struct {
	mu sync.Mutex
	fs *pseudo.FS
	m  map[string]*vfs.File
}

// path is where a name space ("mnt:[4026531841]") is. mounts is nil if it is of another kind.
func (ns *nsFiles) path(name string, mounts *vfs.Namespace) (vfs.Path, error) {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	f := ns.m[name]
	if f == nil {
		kind, num, _ := strings.Cut(strings.TrimSuffix(name, "]"), ":[")
		ino, err := strconv.ParseUint(num, 10, 64)
		if err != nil {
			return vfs.Path{}, unix.ENOENT
		}
		in := pseudo.NewNumberedFile(ns.fs, ino, 0o444, func(vfs.Caller, *vfs.File) (vfs.FileOps, error) {
			ops := &nsFile{ns: ns, kind: kind}
			if mounts != nil {
				var ok bool
				if ops.inside, ok = mounts.Enter(); !ok {
					return nil, unix.ENOENT
				}
			}
			return ops, nil
		})
		f = vfs.NewAnonFileAt(name, in, &nsFile{ns: ns, kind: kind}, unix.O_RDONLY)
		ns.m[name] = f
	}
	return f.Path, nil
}

func followNs(p *node, _ vfs.Caller) (vfs.Path, error) {
	ns, err := p.mountsOf()
	if err != nil {
		return vfs.Path{}, err
	}
	return p.fs.ns.path(mountsName(ns), ns)
}

// nsFile is an open name space (ioctl_ns(2)).
type nsFile struct {
	vfs.FileBase
	ns     *nsFiles
	kind   string
	inside *vfs.FSContext // keeps a mount name space alive while the file is open; nil for other kinds
}

// Release implements vfs.FileOps.
func (n *nsFile) Release(*vfs.File) {
	if n.inside != nil {
		n.inside.Release()
	}
}

// MountsOf is the mount name space that an open file is, nil if it is none. ns reports whether it is one of any kind.
func MountsOf(f *vfs.File) (mounts *vfs.Namespace, ns bool) {
	n, ns := f.Ops.(*nsFile)
	if ns && n.inside != nil {
		mounts = n.inside.Namespace()
	}
	return mounts, ns
}

// The commands of ioctl_ns(2) (linux/nsfs.h).
const (
	nsGetUserns   = 0xb701
	nsGetParent   = 0xb702
	nsGetNSType   = 0xb703
	nsGetOwnerUID = 0xb704
)

// nsTypes are the CLONE_ flags of the kinds.
var nsTypes = map[string]uint64{
	"cgroup": unix.CLONE_NEWCGROUP, "ipc": unix.CLONE_NEWIPC, "mnt": unix.CLONE_NEWNS, "net": unix.CLONE_NEWNET,
	"pid": unix.CLONE_NEWPID, "time": unix.CLONE_NEWTIME, "user": unix.CLONE_NEWUSER, "uts": unix.CLONE_NEWUTS,
}

// Ioctl implements vfs.Ioctler. All name spaces belong to the initial user name space, which has no parent, as have the
// pid name spaces.
func (n *nsFile) Ioctl(c vfs.Caller, _ *vfs.File, cmd uint32, arg uint64) (uint64, error) {
	switch cmd {
	case nsGetNSType:
		return nsTypes[n.kind], nil
	case nsGetParent:
		if n.kind != "user" && n.kind != "pid" {
			return 0, unix.EINVAL
		}
		return 0, unix.EPERM
	case nsGetOwnerUID:
		if n.kind != "user" {
			return 0, unix.EINVAL
		}
		var uid [4]byte // root
		return 0, uio.WriteFull(c.Mem(), uid[:], arg)
	case nsGetUserns:
		if n.kind == "user" {
			return 0, unix.EPERM
		}
		return n.ns.openUser(c)
	}
	return 0, unix.ENOTTY
}

// openUser opens the user name space for the caller.
func (ns *nsFiles) openUser(c vfs.Caller) (uint64, error) {
	t, ok := c.(*task.Task)
	if !ok {
		return 0, unix.EPERM
	}
	name := fmt.Sprintf("user:[%d]", nsInodes["user"])
	p, err := ns.path(name, nil)
	if err != nil {
		return 0, err
	}
	in := p.Inode()
	ops, err := in.Open(c, nil)
	if err != nil {
		return 0, err
	}
	f := vfs.NewAnonFileAt(name, in, ops, unix.O_RDONLY)
	fd, err := t.Files().Install(t, f, 0, true)
	if err != nil {
		f.DecRef()
		return 0, err
	}
	return uint64(fd), nil
}
