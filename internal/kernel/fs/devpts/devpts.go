package devpts

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
	"github.com/user-mode-linux/linux/internal/kernel/ktime"
	"github.com/user-mode-linux/linux/internal/kernel/tty"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

const (
	magic      = 0x1cd1
	indexLimit = 1 << 20 // of max=
	// The inode numbers of the root and of ptmx; a pty has its number plus 3.
	rootIno, ptmxIno, firstIno = 1, 2, 3
	anyID                      = ^uint32(0) // uid and gid are the opener's
)

// Type is the file system type.
var Type = &vfs.FilesystemType{Name: "devpts", NoDcache: true, Mount: mount}

// Init registers the file system.
func Init() { vfs.RegisterFilesystem(Type) }

// options are the mount options.
type options struct {
	uid, gid       uint32
	mode, ptmxMode uint32
	max            int
}

// take counts one more pty; false if there are too many.
func (sb *superBlock) take() bool {
	limit := tty.Ptys.Max.Load()
	if !sb.first {
		limit -= tty.Ptys.Reserve.Load()
	}
	if tty.Ptys.Count.Add(1) < limit {
		return true
	}
	tty.Ptys.Count.Add(-1)
	return false
}

// superBlock is one instance. It implements tty.PtyHost.
type superBlock struct {
	dev   uint64
	first bool // mounted in the first mount name space
	root  *dir
	ptmx  *node

	mu   sync.Mutex
	opts options
	used []uint64      // bit per number in use
	ptys map[int]*node // visible ones
}

var _ tty.PtyHost = (*superBlock)(nil)

func mount(c vfs.Caller, _ string, _ uint64, data string) (vfs.SuperBlock, error) {
	sb := &superBlock{dev: vfs.NewAnonDev(), ptys: map[int]*node{}}
	opts, err := parse(options{uid: anyID, gid: anyID, mode: 0600, max: indexLimit}, data)
	if err != nil {
		return nil, err
	}
	sb.opts = opts
	sb.first = c == nil || c.FS() == nil || !c.FS().Namespace().Copied()
	now := abi.Timespec(ktime.Now())
	sb.root = &dir{inode{sb: sb, attr: vfs.Attr{Ino: rootIno, Mode: unix.S_IFDIR | 0755, Nlink: 2, Blksize: 1024,
		Atime: now, Mtime: now, Ctime: now, Btime: now}}}
	sb.ptmx = &node{inode: inode{sb: sb, attr: vfs.Attr{Ino: ptmxIno, Mode: unix.S_IFCHR | opts.ptmxMode, Nlink: 1,
		Blksize: 1024, Rdev: unix.Mkdev(tty.AuxMajor, 2), Atime: now, Mtime: now, Ctime: now, Btime: now}}}
	return sb, nil
}

// parse reads mount options over o.
func parse(o options, data string) (options, error) {
	for w := range strings.SplitSeq(data, ",") {
		key, val, _ := strings.Cut(w, "=")
		base := 10
		if key == "mode" || key == "ptmxmode" {
			base = 8
		}
		n, err := strconv.ParseUint(val, base, 32)
		switch key {
		case "", "newinstance":
			continue
		case "uid":
			o.uid = uint32(n)
		case "gid":
			o.gid = uint32(n)
		case "mode":
			o.mode = uint32(n) & 07777
		case "ptmxmode":
			o.ptmxMode = uint32(n) & 07777
		case "max":
			if n > indexLimit {
				err = unix.EINVAL
			}
			o.max = int(n)
		default:
			err = unix.EINVAL
		}
		if err != nil {
			return o, unix.EINVAL
		}
	}
	return o, nil
}

func (sb *superBlock) Root() vfs.Inode           { return sb.root }
func (sb *superBlock) Type() *vfs.FilesystemType { return Type }
func (sb *superBlock) Dev() uint64               { return sb.dev }
func (sb *superBlock) Sync() error               { return nil }
func (sb *superBlock) Release()                  {}

func (sb *superBlock) Statfs() unix.Statfs_t {
	return unix.Statfs_t{Type: magic, Bsize: abi.PageSize, Frsize: abi.PageSize, Namelen: 255}
}

// Options is the options column of /proc/mounts.
func (sb *superBlock) Options() string {
	sb.mu.Lock()
	defer sb.mu.Unlock()
	var b strings.Builder
	if sb.opts.uid != anyID {
		fmt.Fprintf(&b, ",uid=%d", sb.opts.uid)
	}
	if sb.opts.gid != anyID {
		fmt.Fprintf(&b, ",gid=%d", sb.opts.gid)
	}
	fmt.Fprintf(&b, ",mode=%03o,ptmxmode=%03o", sb.opts.mode, sb.opts.ptmxMode)
	if sb.opts.max < indexLimit {
		fmt.Fprintf(&b, ",max=%d", sb.opts.max)
	}
	return b.String()
}

// Remount changes options; ptmxmode takes effect at once, the others for new ptys.
func (sb *superBlock) Remount(_ vfs.Caller, _ uint64, data string) error {
	sb.mu.Lock()
	defer sb.mu.Unlock()
	o, err := parse(sb.opts, data)
	if err != nil {
		return err
	}
	if o.ptmxMode != sb.opts.ptmxMode {
		sb.ptmx.attr.Mode = unix.S_IFCHR | o.ptmxMode
	}
	sb.opts = o
	return nil
}

// AllocPty gives a pty the lowest free number and a device.
func (sb *superBlock) AllocPty(c vfs.Caller, p *tty.Pty) (int, error) {
	sb.mu.Lock()
	defer sb.mu.Unlock()
	i := sb.lowest()
	if i >= sb.opts.max || !sb.take() {
		return 0, unix.ENOSPC
	}
	if i/64 == len(sb.used) {
		sb.used = append(sb.used, 0)
	}
	sb.used[i/64] |= 1 << (i % 64)
	uid, gid := c.Cred().FSUID, c.Cred().FSGID
	if sb.opts.uid != anyID {
		uid = sb.opts.uid
	}
	if sb.opts.gid != anyID {
		gid = sb.opts.gid
	}
	now := abi.Timespec(ktime.Now())
	sb.ptys[i] = &node{pty: p, inode: inode{sb: sb, attr: vfs.Attr{Ino: uint64(firstIno + i), Mode: unix.S_IFCHR | sb.opts.mode,
		Nlink: 1, UID: uid, GID: gid, Rdev: unix.Mkdev(tty.PtyMajor, uint32(i)), Blksize: 1024,
		Atime: now, Mtime: now, Ctime: now, Btime: now}}}
	sb.root.attr.Mtime, sb.root.attr.Ctime = now, now
	return i, nil
}

// lowest is the lowest number not in use.
func (sb *superBlock) lowest() int {
	for w, bits := range sb.used {
		for b := range 64 {
			if bits>>b&1 == 0 {
				return w*64 + b
			}
		}
	}
	return 64 * len(sb.used)
}

// HidePty removes the device of a pty whose master was closed.
func (sb *superBlock) HidePty(i int) {
	sb.mu.Lock()
	if n := sb.ptys[i]; n != nil {
		n.attr.Nlink = 0
		delete(sb.ptys, i)
		sb.root.attr.Mtime = abi.Timespec(ktime.Now())
		sb.root.attr.Ctime = sb.root.attr.Mtime
	}
	sb.mu.Unlock()
}

// FreePty makes the number free again.
func (sb *superBlock) FreePty(i int) {
	sb.mu.Lock()
	sb.used[i/64] &^= 1 << (i % 64)
	sb.mu.Unlock()
	tty.Ptys.Count.Add(-1)
}

// PtyInode is the device of a pty, nil if it is gone.
func (sb *superBlock) PtyInode(i int) vfs.Inode {
	sb.mu.Lock()
	defer sb.mu.Unlock()
	if n := sb.ptys[i]; n != nil {
		return n
	}
	return nil
}

// numbers lists the visible ptys in order.
func (sb *superBlock) numbers() []int {
	sb.mu.Lock()
	defer sb.mu.Unlock()
	return slices.Sorted(maps.Keys(sb.ptys))
}
