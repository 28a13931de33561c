package hostfs

import (
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/klog"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// hostfsMagic is f_type of statfs(2) (HOSTFS_SUPER_MAGIC of linux/magic.h).
const hostfsMagic = 0x00c0ffee

// Config says what guests may see of the host.
type Config struct {
	// Dir is the directory that all mounts are confined to.
	Dir string
	// Append lets guests only add to files: host files are opened with O_APPEND, not cut, and not removed.
	Append bool
	// ReadOnly makes all mounts read-only. Map keeps owners and modes of the guest in attributes.
	ReadOnly, Map bool
}

// Server is hostfs with its configuration.
type Server struct {
	cfg      Config
	jail     int    // descriptor of Config.Dir
	uid, gid uint32 // who the program runs as
	umask    uint32
	handles  ring[*handle]
	maps     ring[*mappedFile]
}

// Type is the file system type; Mount is set by New.
var Type = &vfs.FilesystemType{Name: "hostfs"}

// New opens the directory that mounts are confined to. Register makes hostfs known to mount(2) then.
func New(cfg Config) (*Server, error) {
	if cfg.Dir == "" {
		cfg.Dir = "/"
	}
	fd, err := unix.Open(cfg.Dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &unixError{"hostfs", cfg.Dir, err}
	}
	s := &Server{cfg: cfg, jail: fd, uid: uint32(unix.Geteuid()), gid: uint32(unix.Getegid()), umask: umask()}
	limit := 1024
	var r unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &r) == nil && r.Cur < 1<<20 {
		limit = int(r.Cur)
	}
	s.handles.limit = min(max(limit/4, 16), 4096)
	s.maps.limit = min(max(limit/16, 16), 512)
	return s, nil
}

// Register makes hostfs known to mount(2).
func (s *Server) Register() {
	Type.Mount = s.mount
	vfs.RegisterFilesystem(Type)
}

// RegisterClosed makes a hostfs known that has no directory: to mount it is EPERM, and the log says what to do.
func RegisterClosed() {
	Type.Mount = func(vfs.Caller, string, uint64, string) (vfs.SuperBlock, error) {
		klog.Warnf("hostfs: no directory of the host was given: start linux with hostfs=<directory>")
		return nil, unix.EPERM
	}
	vfs.RegisterFilesystem(Type)
}

// Close closes the directory. Mounts that are there stay usable.
func (s *Server) Close() { _ = unix.Close(s.jail) }

// superBlock is one mount of a directory. It is a vfs.SuperBlock.
type superBlock struct {
	srv    *Server
	dev    uint64
	root   *inode
	base   *handle // of root
	option string  // as given to mount
	mapped bool
	append bool
	ro     atomic.Bool
	dirty  atomic.Bool  // something may have been written since the last Sync
	stores atomic.Int32 // files that guests have mapped for writing: these may change at any time

	mu sync.Mutex
	// +checklocks:mu
	table map[fileID]*inode
	devMu sync.RWMutex
	// +checklocks:devMu
	devs map[uint64]device
}

// device is what is known of a file system of the host.
type device struct {
	index  uint64 // 0 for that of the root; distinguishes inode numbers
	hidden bool
}

// hiddenFS are file systems that are interfaces of the host's kernel: through some of them (proc/<pid>/mem) the guest
// could reach the program that it runs in. The numbers are of linux/magic.h and statfs(2).
var hiddenFS = map[int64]string{
	0x9fa0: "proc", 0x62656572: "sysfs", 0x64626720: "debugfs", 0x74726163: "tracefs", 0x73636673: "securityfs",
	0xf97cff8c: "selinuxfs", 0x43415d53: "smackfs", 0x5a3c69f0: "apparmorfs", 0x27e0eb: "cgroup", 0x63677270: "cgroup2",
	0xcafe4a11: "bpf", 0x6165676c: "pstore", 0xde5e81e4: "efivarfs", 0x62656570: "configfs", 0x42494e4d: "binfmt_misc",
	0x1cd1: "devpts", 0x6e736673: "nsfs", 0x50495045: "pipefs", 0x534f434b: "sockfs", 0x19800202: "mqueue",
	0x65735543: "fusectl", 0x9fa2: "usbdevfs", 0x67596969: "rpc_pipefs", 0x6c6f6f70: "binderfs", 0x187: "autofs",
	0x7655821: "resctrl", 0x5345434d: "secretmem", 0x444d4142: "dmabuf", 0x6e667364: "nfsd", 0xabba1974: "xenfs",
}

// mount implements vfs.FilesystemType.Mount. The source is ignored; data is the directory, relative to the one that
// mounts are confined to, with "hostfs=" before it or not, and options behind commas.
func (s *Server) mount(_ vfs.Caller, _ string, flags uint64, data string) (vfs.SuperBlock, error) {
	sb := &superBlock{srv: s, dev: vfs.NewAnonDev(), mapped: s.cfg.Map, append: s.cfg.Append,
		table: map[fileID]*inode{}, devs: map[uint64]device{}}
	sb.ro.Store(s.cfg.ReadOnly || flags&unix.MS_RDONLY != 0)
	dir := sb.parse(data)
	h, err := s.openMount(dir)
	if err != nil {
		klog.Warnf("hostfs: cannot mount %q: %v", dir, err)
		return nil, err
	}
	var st unix.Statx_t
	if err := statx(h.fd, "", &st); err != nil {
		h.put()
		return nil, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		h.put()
		return nil, unix.ENOTDIR
	}
	if d := sb.device(h, &st); d.hidden {
		klog.Warnf("hostfs: %q is on a file system of the host's kernel, which is not shown to guests", dir)
		h.put()
		return nil, unix.EACCES
	}
	if !sb.ro.Load() && !sb.keepsOwners(h) {
		h.put()
		return nil, unix.EOPNOTSUPP
	}
	// The root's descriptor is never in the ring: it could not be made again.
	root, err := sb.inode(nil, "", nil, h, &st)
	if err != nil {
		h.put()
		return nil, err
	}
	h.refs.Add(1)
	root.cached.Store(h)
	sb.root, sb.base = root, h
	return sb, nil
}

// keepsOwners reports whether the file system of the root can do what the option map needs, and says so if not.
func (sb *superBlock) keepsOwners(root *handle) bool {
	if !sb.mapped {
		return true
	}
	var buf [1]byte
	if _, err := unix.Getxattr(root.path(), overrideXattr, buf[:]); err != unix.EOPNOTSUPP {
		return true
	}
	klog.Warnf("hostfs: option map: the file system of %q keeps no user attributes", sb.option)
	return false
}

// parse takes a mount's options apart. What follows the directory is only an option if it is one that is known, as
// directories may have commas in their names.
func (sb *superBlock) parse(data string) (dir string) {
	for {
		rest, last, ok := cutLast(data)
		switch last {
		case "map":
			sb.mapped = true
		case "append":
			sb.append = true
		default:
			ok = false
		}
		if !ok {
			break
		}
		data = rest
	}
	sb.option = data
	return strings.TrimPrefix(data, "hostfs=")
}

// cutLast cuts off what follows the last comma, or all if there is none.
func cutLast(s string) (rest, last string, ok bool) {
	if i := strings.LastIndexByte(s, ','); i >= 0 {
		return s[:i], s[i+1:], true
	}
	return "", s, s != ""
}

// openMount opens the directory of a mount inside the jail.
func (s *Server) openMount(dir string) (*handle, error) {
	dir = strings.TrimLeft(dir, "/")
	if dir == "" {
		dir = "."
	}
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	fd, err := unix.Openat2(s.jail, dir, &how)
	for range 100 {
		if err != unix.EAGAIN && err != unix.EINTR {
			break
		}
		fd, err = unix.Openat2(s.jail, dir, &how) // somebody renamed directories
	}
	if err == unix.ENOSYS || err == unix.EPERM {
		fd, err = openSteps(s.jail, dir)
	}
	if err != nil {
		return nil, errno(err)
	}
	return newHandle(fd), nil
}

// openSteps is what hosts without openat2 get: no links, and ".." leads nowhere.
func openSteps(jail int, dir string) (int, error) {
	fd, err := unix.Openat(jail, ".", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	for name := range strings.SplitSeq(dir, "/") {
		if err != nil {
			return -1, err
		}
		if name == "" || name == "." {
			continue
		}
		if name == ".." {
			_ = unix.Close(fd)
			return -1, unix.EACCES
		}
		var next int
		next, err = unix.Openat(fd, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		_ = unix.Close(fd)
		fd = next
	}
	return fd, err
}

// openPath opens a name of a directory with O_PATH. One name and O_NOFOLLOW lead nowhere else.
func (sb *superBlock) openPath(dir *handle, name string) (*handle, error) {
	if !valid(name) {
		return nil, unix.ENOENT
	}
	fd, err := sb.srv.open(dir.fd, name, unix.O_PATH|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	return newHandle(fd), nil
}

// valid reports whether a name is one that a directory can have an entry for.
func valid(name string) bool {
	return name != "" && name != "." && name != ".." && len(name) <= nameMax && strings.IndexByte(name, '/') < 0 && strings.IndexByte(name, 0) < 0
}

// open is openat(2), which makes room for descriptors when they have run out.
func (s *Server) open(dir int, name string, flags int, mode uint32) (int, error) {
	for try := 0; ; try++ {
		fd, err := unix.Openat(dir, name, flags|unix.O_CLOEXEC, mode)
		switch {
		case err == nil:
			return fd, nil
		case err == unix.EINTR:
		case err == unix.EMFILE && try < 8:
			s.handles.halve()
			s.maps.halve()
		case err == unix.EMFILE:
			return -1, unix.ENFILE // it is not the guest's process that has too many
		default:
			return -1, errno(err)
		}
	}
}

// inode returns the inode of a file that was found at name of dir. h is the file itself, or nil; then dh is the directory.
func (sb *superBlock) inode(dir *inode, name string, dh, h *handle, st *unix.Statx_t) (*inode, error) {
	id := idOf(st)
	hostType := uint32(st.Mode) & unix.S_IFMT
	sb.mu.Lock()
	in := sb.table[id]
	sb.mu.Unlock()
	if in != nil && in.hostType == hostType && in.Attr().Nlink > 0 {
		if dir != nil {
			in.at(dir, name)
		}
		if in.fresh(st) {
			return in, nil
		}
	}
	d, known := sb.known(st)
	if (!known || sb.mapped) && h == nil {
		var err error
		if h, err = sb.openSame(dh, name, st); err != nil {
			return nil, err
		}
		defer h.put()
	}
	if !known {
		d = sb.device(h, st)
	}
	if d.hidden && hostType != unix.S_IFDIR {
		return nil, unix.EACCES
	}
	var over override
	if sb.mapped {
		over = readOverride(h, st)
	}
	in = &inode{sb: sb, id: id, hostType: hostType, typ: over.guestType(hostType), covered: d.hidden}
	if dir != nil {
		in.at(dir, name)
		if sb.mapped && h != nil {
			in.cache(h)
		}
	}
	in.update(st, over)
	sb.mu.Lock()
	defer sb.mu.Unlock()
	if other := sb.table[id]; other != nil && other.typ == in.typ && other.Attr().Nlink > 0 {
		return other, nil // somebody was faster
	}
	sb.table[id] = in
	return in, nil
}

// openSame opens a file of which st was read: ESTALE if it is another one now.
func (sb *superBlock) openSame(dh *handle, name string, st *unix.Statx_t) (*handle, error) {
	h, err := sb.openPath(dh, name)
	if err != nil {
		return nil, err
	}
	id := idOf(st)
	if err := statx(h.fd, "", st); err != nil {
		h.put()
		return nil, err
	}
	if idOf(st) != id {
		h.put()
		return nil, unix.ESTALE
	}
	return h, nil
}

// remove takes an inode out of the table.
func (sb *superBlock) remove(in *inode) {
	sb.mu.Lock()
	defer sb.mu.Unlock()
	if sb.table[in.id] == in {
		delete(sb.table, in.id)
	}
}

func (sb *superBlock) known(st *unix.Statx_t) (device, bool) {
	sb.devMu.RLock()
	defer sb.devMu.RUnlock()
	d, ok := sb.devs[unix.Mkdev(st.Dev_major, st.Dev_minor)]
	return d, ok
}

// device finds out about the file system that the file h is on.
func (sb *superBlock) device(h *handle, st *unix.Statx_t) device {
	hide := hidden(h)
	sb.devMu.Lock()
	defer sb.devMu.Unlock()
	dev := unix.Mkdev(st.Dev_major, st.Dev_minor)
	d, ok := sb.devs[dev]
	if !ok {
		d = device{index: uint64(len(sb.devs)), hidden: hide}
		sb.devs[dev] = d
	}
	return d
}

// hidden reports whether a file that is about to be opened is on one of hiddenFS after all. What sb.devs knows is not enough:
// when the host unmounts a file system without a disk, its device number (of major 0) goes to the next one that is mounted.
func (in *inode) hidden(h *handle) bool { return unix.Major(in.id.dev) == 0 && hidden(h) }

// hidden reports whether a file is on one of hiddenFS.
func hidden(h *handle) bool {
	var fs unix.Statfs_t
	if unix.Fstatfs(h.fd, &fs) != nil {
		return true
	}
	_, hide := hiddenFS[int64(uint32(fs.Type))]
	return hide
}

// number is the guest's number of a file: the host's on the file system of the root, another one elsewhere, as all files of
// a mount have the same st_dev in the guest.
func (sb *superBlock) number(st *unix.Statx_t) uint64 {
	if sb.root != nil && sb.root.id.dev == unix.Mkdev(st.Dev_major, st.Dev_minor) {
		return st.Ino
	}
	d, _ := sb.known(st)
	return st.Ino ^ d.index<<48
}

func (sb *superBlock) Root() vfs.Inode           { return sb.root }
func (sb *superBlock) Type() *vfs.FilesystemType { return Type }
func (sb *superBlock) Dev() uint64               { return sb.dev }

// ReadOnly implements vfs.ReadOnlyer.
func (sb *superBlock) ReadOnly() bool { return sb.srv.cfg.ReadOnly }

// Statfs is what the host says of the file system that the root is on.
func (sb *superBlock) Statfs() unix.Statfs_t {
	var fs unix.Statfs_t
	_ = unix.Fstatfs(sb.base.fd, &fs) // it is open: that cannot fail
	return unix.Statfs_t{Type: hostfsMagic, Bsize: fs.Bsize, Frsize: fs.Frsize, Blocks: fs.Blocks, Bfree: fs.Bfree, Bavail: fs.Bavail,
		Files: fs.Files, Ffree: fs.Ffree, Namelen: min(fs.Namelen, nameMax), Fsid: unix.Fsid{Val: [2]int32{int32(sb.dev), 0}}}
}

// wrote notes that there is something for Sync.
func (sb *superBlock) wrote() {
	if !sb.dirty.Load() {
		sb.dirty.Store(true)
	}
}

// Sync makes durable what was written.
func (sb *superBlock) Sync() error {
	if !sb.unsynced() {
		return nil
	}
	fd, err := sb.srv.open(sb.base.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err == nil {
		err = errno(unix.Syncfs(fd))
		unix.Close(fd)
	}
	if err != nil {
		sb.wrote()
	}
	return err
}

// unsynced reports whether there may be something for Sync, which is about to see to it.
func (sb *superBlock) unsynced() bool { return sb.dirty.Swap(false) || sb.stores.Load() > 0 }

// Options shows the directory as it was given.
func (sb *superBlock) Options() string {
	s := ""
	if sb.option != "" {
		s = "," + sb.option
	}
	if sb.append {
		s += ",append"
	}
	if sb.mapped {
		s += ",map"
	}
	return s
}

// Remount refuses to make writable what the command line says is not; other options stay as they are. What was written is
// durable when the mount has become read-only, as Sync passes it over from then on.
func (sb *superBlock) Remount(_ vfs.Caller, flags uint64, _ string) error {
	if flags&unix.MS_RDONLY != 0 {
		err := sb.Sync()
		sb.ro.Store(err == nil || sb.ro.Load())
		return err
	}
	switch {
	case sb.srv.cfg.ReadOnly:
		return unix.EROFS
	case sb.ro.Load() && !sb.keepsOwners(sb.base):
		return unix.EOPNOTSUPP
	}
	sb.ro.Store(false)
	return nil
}

// Release closes what is open after the last unmount.
func (sb *superBlock) Release() {
	sb.mu.Lock()
	all := make([]*inode, 0, len(sb.table))
	for _, in := range sb.table {
		all = append(all, in)
	}
	sb.mu.Unlock()
	for _, in := range all {
		in.Forget()
	}
	if h := sb.root.cached.Swap(nil); h != nil {
		h.put()
	}
	sb.base.put()
}
