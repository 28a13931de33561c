package ext4

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/fs/ext4/disk"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// modelNode is a file of the model. Files are shared by their links.
type modelNode struct {
	dir    map[string]*modelNode // nil if it is none
	data   []byte
	target string
	links  int
	xattrs map[string]string
}

func (n *modelNode) kind() byte {
	switch {
	case n.dir != nil:
		return 'd'
	case n.target != "":
		return 'l'
	}
	return 'f'
}

// model is what a file system should hold, and the file system.
type model struct {
	*rwDisk
	rng  *rand.Rand
	root *modelNode
	ops  int
	log  []string
}

func newModel(d *rwDisk, seed uint64) *model {
	return &model{rwDisk: d, rng: rand.New(rand.NewPCG(seed, 99)), root: &modelNode{dir: map[string]*modelNode{}, links: 2}}
}

// paths lists all paths of some kinds ("dfl").
func (m *model) paths(kinds string) (out []string) {
	var walk func(p string, n *modelNode)
	walk = func(p string, n *modelNode) {
		if strings.IndexByte(kinds, n.kind()) >= 0 {
			out = append(out, p)
		}
		for _, name := range slices.Sorted(maps.Keys(n.dir)) {
			walk(strings.TrimSuffix(p, "/")+"/"+name, n.dir[name])
		}
	}
	walk("/", m.root)
	return out
}

func (m *model) pick(kinds string) string {
	all := m.paths(kinds)
	if len(all) == 0 {
		return ""
	}
	return all[m.rng.IntN(len(all))]
}

func (m *model) find(path string) (parent *modelNode, name string, n *modelNode) {
	n = m.root
	for _, e := range strings.Split(strings.Trim(path, "/"), "/") {
		if e == "" {
			continue
		}
		parent, name = n, e
		n = n.dir[e]
	}
	return parent, name, n
}

func (m *model) newName() string {
	dir := m.pick("d")
	return strings.TrimSuffix(dir, "/") + fmt.Sprintf("/n%d%s", m.ops, strings.Repeat("z", m.rng.IntN(60)))
}

// full tells that an error may come from a full disk, which the test of the model does not expect.
func full(err error) bool { return errors.Is(err, unix.ENOSPC) }

// step does one random operation on both. ENOSPC is allowed and must leave everything as it was, writes apart.
func (m *model) step() {
	t := m.t
	m.ops++
	r := m.rng
	failed := func(what string, err error) bool {
		m.log = append(m.log, what)
		if err != nil && !full(err) {
			t.Fatalf("op %d: %s: %v\n%s", m.ops, what, err, strings.Join(m.log[max(0, len(m.log)-30):], "\n"))
		}
		return err != nil
	}
	switch k := r.IntN(100); {
	case k < 15: // create
		p := m.newName()
		f, err := vfs.Open(m, nil, p, vfs.OpenHow{Flags: unix.O_CREAT | unix.O_EXCL | unix.O_RDWR, Mode: 0o640})
		if failed("create "+p, err) {
			return
		}
		f.DecRef()
		dir, name, _ := m.find(p)
		dir.dir[name] = &modelNode{links: 1}
	case k < 22:
		p := m.newName()
		if failed("mkdir "+p, vfs.Mkdir(m, nil, p, 0o755)) {
			return
		}
		dir, name, _ := m.find(p)
		dir.dir[name] = &modelNode{dir: map[string]*modelNode{}, links: 2}
		dir.links++
	case k < 26:
		p := m.newName()
		target := strings.Repeat("t", 1+r.IntN(150))
		if failed("symlink "+p, vfs.Symlink(m, target, nil, p)) {
			return
		}
		dir, name, _ := m.find(p)
		dir.dir[name] = &modelNode{target: target, links: 1}
	case k < 30:
		old := m.pick("f")
		if old == "" {
			return
		}
		p := m.newName()
		if failed("link "+old+" "+p, vfs.Link(m, nil, old, nil, p, 0)) {
			return
		}
		dir, name, _ := m.find(p)
		_, _, n := m.find(old)
		dir.dir[name] = n
		n.links++
	case k < 38:
		p := m.pick("fl")
		if p == "" || failed("unlink "+p, vfs.Unlink(m, nil, p)) {
			return
		}
		dir, name, n := m.find(p)
		delete(dir.dir, name)
		n.links--
	case k < 41:
		p := m.pick("d")
		dir, name, n := m.find(p)
		if p == "/" {
			return
		}
		err := vfs.Rmdir(m, nil, p)
		if len(n.dir) > 0 {
			if err != unix.ENOTEMPTY {
				t.Fatalf("rmdir %s: %v", p, err)
			}
			return
		}
		if failed("rmdir "+p, err) {
			return
		}
		delete(dir.dir, name)
		dir.links--
	case k < 50:
		m.rename(failed)
	case k < 75:
		p := m.pick("f")
		if p == "" {
			return
		}
		_, _, n := m.find(p)
		off := r.IntN(len(n.data) + 1 + r.IntN(200000)*r.IntN(2))
		size := 1 + r.IntN(1<<(4+r.IntN(14)))
		data := pattern(size, m.ops)
		f, err := vfs.Open(m, nil, p, vfs.OpenHow{Flags: unix.O_WRONLY})
		must(t, err)
		k, err := vfs.Pwrite(m, f, uio.FromBytes(data), int64(off))
		f.DecRef()
		if err == nil && k == 0 {
			t.Fatal("write of nothing")
		}
		if k > 0 {
			n.write(data[:k], off)
		}
		failed(fmt.Sprintf("write %s %d at %d: %d", p, size, off, k), err)
	case k < 82:
		p := m.pick("f")
		if p == "" {
			return
		}
		_, _, n := m.find(p)
		size := r.IntN(2*len(n.data) + 5000)
		if failed(fmt.Sprintf("truncate %s from %d to %d", p, len(n.data), size), vfs.Truncate(m, nil, p, int64(size))) {
			return
		}
		n.truncate(size)
	case k < 87:
		m.fallocate(failed)
	case k < 90:
		m.shift(failed)
	case k < 96:
		p := m.pick("fd")
		_, _, n := m.find(p)
		name := fmt.Sprintf("user.a%d", r.IntN(5))
		value := string(pattern(r.IntN(300), m.ops))
		if m.sb.s.Incompat&disk.IncompatEAInode != 0 && r.IntN(2) == 0 {
			value = string(pattern(r.IntN(20000), m.ops))
		}
		if failed("setxattr "+p+" "+name, vfs.Setxattr(m, nil, p, 0, name, []byte(value), 0)) {
			return
		}
		if n.xattrs == nil {
			n.xattrs = map[string]string{}
		}
		n.xattrs[name] = value
	case k < 98:
		p := m.pick("fd")
		_, _, n := m.find(p)
		for name := range n.xattrs {
			if failed("removexattr "+p+" "+name, vfs.Removexattr(m, nil, p, 0, name)) {
				return
			}
			delete(n.xattrs, name)
			break
		}
	default:
		failed("sync", m.sb.Sync())
	}
}

func (m *model) rename(failed func(string, error) bool) {
	old, nu := m.pick("dfl"), m.newName()
	r := m.rng
	if old == "/" || old == "" {
		return
	}
	flags := uint32(0)
	if r.IntN(2) == 0 {
		if nu = m.pick("dfl"); r.IntN(2) == 0 {
			flags = unix.RENAME_EXCHANGE
		}
	} else if r.IntN(4) == 0 {
		flags = unix.RENAME_WHITEOUT
	}
	od, on, n := m.find(old)
	nd, nn, t := m.find(nu)
	err := vfs.Rename(m, nil, old, nil, nu, flags)
	switch err {
	case nil:
	case unix.EINVAL, unix.ENOTEMPTY, unix.EISDIR, unix.ENOTDIR, unix.EBUSY:
		return // the vfs's part; nothing has changed
	default:
		failed("rename "+old+" "+nu, err)
		return
	}
	failed(fmt.Sprintf("rename %s %s %d", old, nu, flags), nil)
	if n == t {
		return
	}
	sub := func(d, x *modelNode, k int) {
		if x.dir != nil {
			d.links += k
		}
	}
	if flags == unix.RENAME_EXCHANGE {
		od.dir[on], nd.dir[nn] = t, n
		sub(od, n, -1)
		sub(nd, t, -1)
		sub(od, t, 1)
		sub(nd, n, 1)
		return
	}
	delete(od.dir, on)
	sub(od, n, -1)
	if t != nil {
		sub(nd, t, -1)
		t.links--
	}
	nd.dir[nn] = n
	sub(nd, n, 1)
	if flags == unix.RENAME_WHITEOUT {
		if err := vfs.Unlink(m, nil, old); err != nil {
			m.t.Fatalf("whiteout: %v", err)
		}
	}
}

func (m *model) fallocate(failed func(string, error) bool) {
	p := m.pick("f")
	if p == "" {
		return
	}
	r := m.rng
	_, _, n := m.find(p)
	off, size := r.IntN(len(n.data)+10000), 1+r.IntN(100000)
	mode := []uint32{0, unix.FALLOC_FL_KEEP_SIZE, unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE, unix.FALLOC_FL_ZERO_RANGE,
		unix.FALLOC_FL_ZERO_RANGE | unix.FALLOC_FL_KEEP_SIZE}[r.IntN(5)]
	f, err := vfs.Open(m, nil, p, vfs.OpenHow{Flags: unix.O_WRONLY})
	must(m.t, err)
	err = vfs.Fallocate(m, f, mode, int64(off), int64(size))
	f.DecRef()
	zero := mode&(unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_ZERO_RANGE) != 0
	if err == unix.EOPNOTSUPP {
		return
	}
	failed(fmt.Sprintf("fallocate %s %d %d+%d (size %d)", p, mode, off, size, len(n.data)), err)
	if zero && off < len(n.data) {
		clear(n.data[off:min(off+size, len(n.data))])
	}
	if err == nil && mode&unix.FALLOC_FL_KEEP_SIZE == 0 && off+size > len(n.data) {
		n.truncate(off + size)
	}
}

// shift collapses or inserts a range.
func (m *model) shift(failed func(string, error) bool) {
	p := m.pick("f")
	if p == "" {
		return
	}
	r := m.rng
	_, _, n := m.find(p)
	bs := m.sb.blockSize << m.sb.clusterLog
	off, size := r.IntN(len(n.data)/bs+2)*bs, (1+r.IntN(20))*bs
	mode, want := uint32(unix.FALLOC_FL_INSERT_RANGE), error(nil)
	if r.IntN(2) == 0 {
		mode = unix.FALLOC_FL_COLLAPSE_RANGE
	}
	switch {
	case r.IntN(10) == 0:
		size, want = size-1, unix.EINVAL
	case mode == unix.FALLOC_FL_INSERT_RANGE && off >= len(n.data), mode == unix.FALLOC_FL_COLLAPSE_RANGE && off+size >= len(n.data):
		want = unix.EINVAL
	}
	f, err := vfs.Open(m, nil, p, vfs.OpenHow{Flags: unix.O_WRONLY})
	must(m.t, err)
	err = vfs.Fallocate(m, f, mode, int64(off), int64(size))
	f.DecRef()
	what := fmt.Sprintf("fallocate %s %d %d+%d (size %d)", p, mode, off, size, len(n.data))
	if !m.sb.extents() && err == unix.EOPNOTSUPP {
		return
	}
	if want != nil {
		if err != want {
			m.t.Fatalf("%s: %v, want %v", what, err, want)
		}
		return
	}
	if failed(what, err) {
		return
	}
	if mode == unix.FALLOC_FL_COLLAPSE_RANGE {
		n.data = slices.Delete(n.data, off, off+size)
	} else {
		n.data = slices.Insert(n.data, off, make([]byte, size)...)
	}
}

func (n *modelNode) write(p []byte, off int) {
	if off+len(p) > len(n.data) {
		n.truncate(off + len(p))
	}
	copy(n.data[off:], p)
}

func (n *modelNode) truncate(size int) {
	if size <= len(n.data) {
		n.data = n.data[:size:size]
		return
	}
	n.data = append(n.data, make([]byte, size-len(n.data))...)
}

// compare looks at everything.
func (m *model) compare() {
	t := m.t
	t.Helper()
	fail := func(format string, args ...any) {
		t.Helper()
		t.Fatalf("after %d operations: %s\n%s", m.ops, fmt.Sprintf(format, args...), strings.Join(m.log[max(0, len(m.log)-30):], "\n"))
	}
	for _, p := range m.paths("dfl") {
		_, _, n := m.find(p)
		a, err := vfs.Stat(m, nil, p, unix.AT_SYMLINK_NOFOLLOW)
		if err != nil {
			fail("%s: %v", p, err)
		}
		links := n.links
		if p == "/" {
			links++ // lost+found
		}
		if int(a.Nlink) != links {
			fail("%s: %d links, want %d", p, a.Nlink, links)
		}
		for name, v := range n.xattrs {
			if got, err := vfs.Getxattr(m, nil, p, 0, name); err != nil || string(got) != v {
				fail("%s: %s: %v", p, name, err)
			}
		}
		switch n.kind() {
		case 'f':
			if got := readFile(t, m, p); !bytes.Equal(got, n.data) {
				fail("%s: %d bytes, want %d, first difference at %d", p, len(got), len(n.data), firstDiff(got, n.data))
			}
		case 'l':
			if s, err := vfs.Readlink(m, nil, p); err != nil || s != n.target {
				fail("%s: %q %v", p, s, err)
			}
		case 'd':
			names := m.list(p)
			want := slices.Sorted(maps.Keys(n.dir))
			if p == "/" {
				names = slices.DeleteFunc(names, func(s string) bool { return s == "lost+found" })
			}
			if !slices.Equal(names, want) {
				fail("%s: %q, want %q", p, names, want)
			}
		}
	}
}

// list is the sorted names in a directory.
func (d *rwDisk) list(path string) (names []string) {
	d.t.Helper()
	f, err := vfs.Open(d, nil, path, vfs.OpenHow{Flags: unix.O_RDONLY | unix.O_DIRECTORY})
	must(d.t, err)
	defer f.DecRef()
	for {
		n := 0
		must(d.t, vfs.ReadDir(d, f, func(e vfs.DirEnt) bool {
			if n == 50 {
				return false
			}
			n++
			if e.Name != "." && e.Name != ".." {
				names = append(names, e.Name)
			}
			return true
		}))
		if n == 0 {
			slices.Sort(names)
			return names
		}
	}
}

func TestModel(t *testing.T) {
	for _, i := range rwMatrix {
		c := matrix[i]
		t.Run(c.name, func(t *testing.T) {
			newModel(newDisk(t, c.typ, "24M", c.args...), uint64(i)).history()
		})
	}
	for i, opt := range dataModeOptions {
		t.Run(opt, func(t *testing.T) {
			newModel(newDiskWith(t, Ext4, opt, "24M", "-t", "ext4", "-b", []string{"1024", "4096"}[i%2]), uint64(i)).history()
		})
	}
}

// dataModeOptions are mounts that write data in different ways.
var dataModeOptions = []string{"data=journal", "data=journal,nobarrier", "data=writeback", "data=writeback,discard"}

// history does random operations, compares, and has the disk checked now and then.
func (m *model) history() {
	for range 5 {
		for range 150 {
			m.step()
		}
		m.compare()
		m.remount(fmt.Sprintf("after %d operations", m.ops))
		m.compare()
	}
	m.umount()
}
