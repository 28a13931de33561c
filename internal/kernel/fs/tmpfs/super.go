package tmpfs

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

const (
	tmpfsMagic = 0x01021994
	ramfsMagic = 0x858458f6

	pageSize = abi.PageSize
)

// Set by boot before the first mount.
var (
	// NewMemfile makes the host memory object of a mapped file; without it files cannot be mapped.
	NewMemfile func(name string) (platform.Memfile, error)
	// CountMapped counts what is really mapped of a file, with Mapped(-1) for all else; it may be nil.
	CountMapped func(vfs.Mapping) int
	// TotalPages is the memory of the machine in pages: what "size=50%" counts from, and more than which all files
	// together never hold. 0 is no limit.
	TotalPages uint64
)

var (
	used  atomic.Int64 // pages of all instances
	extra atomic.Int64 // bytes that inodes, links and attributes of all instances take besides
)

// inodeCost is about how many bytes an inode takes, with its name and what the vfs keeps of it.
const inodeCost = 1024

// chargeExtra books n bytes besides pages: ENOSPC if they would not fit into the machine.
func chargeExtra(n int) error {
	if e := extra.Add(int64(n)); n > 0 && TotalPages > 0 && used.Load()+e/pageSize > int64(TotalPages) {
		extra.Add(-int64(n))
		return unix.ENOSPC
	}
	return nil
}

// Usage is the memory that all files hold, in bytes (Shmem of /proc/meminfo).
func Usage() uint64 {
	shared.mu.Lock()
	all := slices.Collect(maps.Keys(shared.m))
	shared.mu.Unlock()
	for _, in := range all {
		in.mu.Lock()
		in.recount()
		in.mu.Unlock()
	}
	return uint64(max(used.Load(), 0))*pageSize + uint64(max(extra.Load(), 0))
}

// shared has the inodes whose pages are in host memory objects, where guests add pages without a call.
var shared struct {
	mu sync.Mutex
	m  map[*inode]struct{}
}

// superBlock is one instance. It is a vfs.SuperBlock.
type superBlock struct {
	typ   *vfs.FilesystemType
	dev   uint64
	magic int64
	root  *inode

	ino    atomic.Uint64
	pages  atomic.Int64 // in use
	inodes atomic.Int64

	optMu     sync.Mutex
	maxPages  atomic.Int64 // 0 is no limit
	maxInodes atomic.Int64
	mode      uint32 // guarded by optMu, as are the following
	uid, gid  uint32
	ram       bool
}

// Type is the file system type "tmpfs"; RamfsType and RootfsType are the same without limits.
var (
	Type       = &vfs.FilesystemType{Name: "tmpfs"}
	RamfsType  = &vfs.FilesystemType{Name: "ramfs"}
	RootfsType = &vfs.FilesystemType{Name: "rootfs"}
)

func init() {
	Type.Mount, RamfsType.Mount, RootfsType.Mount = mountTmpfs, mountRamfs, mountRamfs
}

// Register makes tmpfs and ramfs known to mount(2).
func Register() {
	vfs.RegisterFilesystem(Type)
	vfs.RegisterFilesystem(RamfsType)
}

// NewRoot makes the instance that the kernel starts with ("rootfs").
func NewRoot() vfs.SuperBlock {
	return newSuper(RootfsType, options{mode: 0o755}, true)
}

func mountTmpfs(c vfs.Caller, _ string, _ uint64, data string) (vfs.SuperBlock, error) {
	cr := c.Cred()
	o := options{mode: 0o1777, uid: cr.FSUID, gid: cr.FSGID, pages: int64(TotalPages / 2), inodes: int64(TotalPages / 2)}
	if err := o.parse(data, false); err != nil {
		return nil, err
	}
	return newSuper(Type, o, false), nil
}

func mountRamfs(_ vfs.Caller, _ string, _ uint64, data string) (vfs.SuperBlock, error) {
	o := options{mode: 0o755}
	if err := o.parse(data, true); err != nil {
		return nil, err
	}
	return newSuper(RamfsType, o, true), nil
}

func newSuper(t *vfs.FilesystemType, o options, ram bool) *superBlock {
	sb := &superBlock{typ: t, dev: vfs.NewAnonDev(), magic: tmpfsMagic, mode: o.mode, uid: o.uid, gid: o.gid, ram: ram}
	if ram {
		sb.magic = ramfsMagic
	}
	sb.maxPages.Store(o.pages)
	sb.maxInodes.Store(o.inodes)
	sb.root = sb.newInode(unix.S_IFDIR|o.mode, o.uid, o.gid)
	sb.root.attr.Nlink = 2
	sb.root.attr.Size = 2 * direntSize
	sb.root.parent = sb.root
	sb.inodes.Add(1)
	extra.Add(inodeCost)
	return sb
}

// options are the mount options.
type options struct {
	mode, uid, gid uint32
	pages, inodes  int64
}

// parse reads the options of tmpfs(5). ramfs has only mode and ignores what it does not know.
func (o *options) parse(data string, ram bool) error {
	for opt := range strings.SplitSeq(data, ",") {
		key, val, _ := strings.Cut(opt, "=")
		var err error
		switch key {
		case "":
		case "mode":
			err = parseUint(val, 8, 0o7777, &o.mode)
		default:
			if ram {
				continue
			}
			err = o.parseTmpfs(key, val)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (o *options) parseTmpfs(key, val string) error {
	switch key {
	case "size":
		if p, ok := strings.CutSuffix(val, "%"); ok {
			n, err := strconv.ParseUint(p, 10, 32)
			if err != nil {
				return unix.EINVAL
			}
			o.pages = int64(TotalPages * n / 100)
			return nil
		}
		n, err := parseSize(val)
		o.pages = (n + pageSize - 1) / pageSize
		return err
	case "nr_blocks":
		n, err := parseSize(val)
		o.pages = n
		return err
	case "nr_inodes":
		n, err := parseSize(val)
		o.inodes = n
		return err
	case "uid":
		return parseUint(val, 10, math.MaxUint32-1, &o.uid)
	case "gid":
		return parseUint(val, 10, math.MaxUint32-1, &o.gid)
	case "huge", "mpol", "inode32", "inode64", "noswap":
		return nil
	}
	return unix.EINVAL
}

func parseUint(s string, base int, limit uint64, to *uint32) error {
	n, err := strconv.ParseUint(s, base, 32)
	if err != nil || n > limit {
		return unix.EINVAL
	}
	*to = uint32(n)
	return nil
}

// parseSize reads a number with an optional k, m, g, t, p, e, as memparse does.
func parseSize(s string) (int64, error) {
	shift := 0
	if s != "" {
		if i := strings.IndexByte("kmgtpe", s[len(s)-1]|0x20); i >= 0 {
			shift = 10 * (i + 1)
			s = s[:len(s)-1]
		}
	}
	n, err := strconv.ParseUint(s, 0, 63)
	if err != nil || n > (math.MaxInt64-pageSize)>>shift {
		return 0, unix.EINVAL
	}
	return int64(n << shift), nil
}

func (sb *superBlock) Root() vfs.Inode           { return sb.root }
func (sb *superBlock) Type() *vfs.FilesystemType { return sb.typ }
func (sb *superBlock) Dev() uint64               { return sb.dev }
func (sb *superBlock) Sync() error               { return nil }

// SupportsACL implements vfs.ACLSupporter.
func (sb *superBlock) SupportsACL() bool { return !sb.ram }

// Statfs reports the limits, or nothing where there are none.
func (sb *superBlock) Statfs() unix.Statfs_t {
	st := unix.Statfs_t{Type: sb.magic, Bsize: pageSize, Frsize: pageSize, Namelen: 255}
	if m := sb.maxPages.Load(); m > 0 {
		st.Blocks = uint64(m)
		st.Bfree = uint64(max(m-sb.pages.Load(), 0))
		st.Bavail = st.Bfree
	}
	if m := sb.maxInodes.Load(); m > 0 {
		st.Files = uint64(m)
		st.Ffree = uint64(max(m-sb.inodes.Load(), 0))
	}
	st.Fsid.Val[0] = int32(sb.dev)
	return st
}

// Options are shown as Linux does.
func (sb *superBlock) Options() string {
	sb.optMu.Lock()
	defer sb.optMu.Unlock()
	if sb.ram {
		if sb.typ == RootfsType || sb.mode == 0o755 {
			return ""
		}
		return fmt.Sprintf(",mode=%o", sb.mode)
	}
	var s strings.Builder
	if m := sb.maxPages.Load(); m > 0 && m != int64(TotalPages/2) {
		fmt.Fprintf(&s, ",size=%dk", m*(pageSize/1024))
	}
	if m := sb.maxInodes.Load(); m > 0 && m != int64(TotalPages/2) {
		fmt.Fprintf(&s, ",nr_inodes=%d", m)
	}
	if sb.mode != 0o1777 {
		fmt.Fprintf(&s, ",mode=%03o", sb.mode)
	}
	if sb.uid != 0 {
		fmt.Fprintf(&s, ",uid=%d", sb.uid)
	}
	if sb.gid != 0 {
		fmt.Fprintf(&s, ",gid=%d", sb.gid)
	}
	s.WriteString(",inode64")
	return s.String()
}

// Remount changes the limits; they cannot go below what is in use.
func (sb *superBlock) Remount(_ vfs.Caller, _ uint64, data string) error {
	sb.optMu.Lock()
	defer sb.optMu.Unlock()
	o := options{mode: sb.mode, uid: sb.uid, gid: sb.gid, pages: sb.maxPages.Load(), inodes: sb.maxInodes.Load()}
	if err := o.parse(data, sb.ram); err != nil {
		return err
	}
	if o.pages > 0 && sb.pages.Load() > o.pages || o.inodes > 0 && sb.inodes.Load() > o.inodes {
		return unix.EINVAL
	}
	sb.maxPages.Store(o.pages)
	sb.maxInodes.Store(o.inodes)
	return nil
}

// Release frees everything that is left after the last unmount.
func (sb *superBlock) Release() {
	stack := []*inode{sb.root}
	for len(stack) > 0 {
		in := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		in.mu.Lock()
		for _, e := range in.entries {
			stack = append(stack, e.in)
		}
		in.entries, in.order = nil, nil
		in.freeData()
		in.freeExtra()
		in.mu.Unlock()
	}
	sb.freeInodes(sb.inodes.Load())
}

// charge takes n pages: ENOSPC beyond a limit.
func (sb *superBlock) charge(n int64) error {
	if n <= 0 {
		sb.pages.Add(n)
		used.Add(n)
		return nil
	}
	if m := sb.maxPages.Load(); sb.pages.Add(n) > m && m > 0 {
		sb.pages.Add(-n)
		return unix.ENOSPC
	}
	if used.Add(n) > int64(TotalPages) && TotalPages > 0 {
		used.Add(-n)
		sb.pages.Add(-n)
		return unix.ENOSPC
	}
	return nil
}

// chargeInode takes one inode.
func (sb *superBlock) chargeInode() error {
	if err := chargeExtra(inodeCost); err != nil {
		return err
	}
	if m := sb.maxInodes.Load(); sb.inodes.Add(1) > m && m > 0 {
		sb.freeInodes(1)
		return unix.ENOSPC
	}
	return nil
}

// freeInodes gives n inodes back.
func (sb *superBlock) freeInodes(n int64) {
	sb.inodes.Add(-n)
	extra.Add(-n * inodeCost)
}
