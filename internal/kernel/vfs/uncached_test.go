package vfs_test

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// changing is a file system whose names come and go without the vfs, like proc: "d" directories of themselves, "link"
// a magic link to where the test wants, and "now" only while the test says so.
type changing struct {
	target  vfs.Path
	now     bool
	lookups int
}

type changingInode struct {
	vfs.InodeBase
	fs   *changing
	mode uint32
}

type changingLink struct{ changingInode }

func (fs *changing) Root() vfs.Inode                          { return &changingInode{fs: fs, mode: unix.S_IFDIR | 0o755} }
func (fs *changing) Type() *vfs.FilesystemType                { return changingType }
func (fs *changing) Dev() uint64                              { return 99 }
func (fs *changing) Statfs() unix.Statfs_t                    { return unix.Statfs_t{} }
func (fs *changing) Sync() error                              { return nil }
func (fs *changing) Options() string                          { return "" }
func (fs *changing) Remount(vfs.Caller, uint64, string) error { return nil }
func (fs *changing) Release()                                 {}
func (in *changingInode) Super() vfs.SuperBlock               { return in.fs }
func (in *changingInode) Attr() vfs.Attr                      { return vfs.Attr{Ino: 1, Mode: in.mode, Nlink: 1} }
func (in *changingLink) Follow(vfs.Caller) (vfs.Path, error)  { return in.fs.target, nil }
func (in *changingLink) Readlink(vfs.Caller) (string, error)  { return "elsewhere", nil }
func (in *changingInode) Lookup(_ vfs.Caller, name string) (vfs.Inode, error) {
	in.fs.lookups++
	switch {
	case name == "d":
		return &changingInode{fs: in.fs, mode: unix.S_IFDIR | 0o755}, nil
	case name == "link":
		return &changingLink{changingInode{fs: in.fs, mode: unix.S_IFLNK | 0o777}}, nil
	case name == "now" && in.fs.now:
		return &changingInode{fs: in.fs, mode: unix.S_IFREG | 0o444}, nil
	}
	return nil, unix.ENOENT
}

var changingType = &vfs.FilesystemType{Name: "changing", NoDcache: true}

func TestUncached(t *testing.T) {
	c := newCaller(t)
	build(t, c, "p/", "x/", "x/f")
	fs := new(changing)
	changingType.Mount = func(vfs.Caller, string, uint64, string) (vfs.SuperBlock, error) { return fs, nil }
	vfs.RegisterFilesystem(changingType)
	must(t, vfs.DoMount(c, "", "/p", "changing", 0, ""))
	for _, now := range []bool{false, true, false} {
		fs.now = now
		var wanted error
		if !now {
			wanted = unix.ENOENT
		}
		_, err := vfs.Stat(c, nil, "/p/d/now", 0)
		want(t, "a name that changes", err, wanted)
	}

	// A mount on a name that is not cached is found again.
	must(t, vfs.DoMount(c, "", "/p/d/d", "tmpfs", 0, ""))
	build(t, c, "p/d/d/in")
	if s, _ := read(c, "/p/d/d/in"); s != "p/d/d/in" {
		t.Errorf("mount below: %q", s)
	}
	must(t, vfs.Umount(c, "/p/d/d", 0))
	_, err := vfs.Stat(c, nil, "/p/d/d/in", 0)
	want(t, "after umount", err, unix.ENOENT)
	n := fs.lookups
	vfs.Stat(c, nil, "/p/d/d", 0)
	if fs.lookups != n+2 {
		t.Errorf("%d lookups for two names after umount", fs.lookups-n)
	}

	// Magic links jump; their text is only for readlink.
	f, err := open(c, "x/f", unix.O_RDONLY, 0)
	must(t, err)
	must(t, vfs.Unlink(c, nil, "x/f"))
	fs.target = f.Path
	if s, err := read(c, "/p/link"); s != "x/f" {
		t.Errorf("deleted file through a magic link: %q %v", s, err)
	}
	if s, _ := vfs.Readlink(c, nil, "/p/link"); s != "elsewhere" {
		t.Errorf("readlink %q", s)
	}
	_, err = vfs.Open(c, nil, "/p/link", vfs.OpenHow{Resolve: unix.RESOLVE_NO_MAGICLINKS})
	want(t, "RESOLVE_NO_MAGICLINKS", err, unix.ELOOP)
	_, err = open(c, "/p/link", unix.O_CREAT|unix.O_EXCL, 0)
	want(t, "O_EXCL", err, unix.EEXIST)
	g, err := open(c, "/p/link", unix.O_CREAT|unix.O_WRONLY|unix.O_TRUNC, 0)
	must(t, err)
	vfs.Write(c, g, uio.FromBytes([]byte("new")))
	g.DecRef()
	if s, _ := read(c, "/p/link"); s != "new" {
		t.Errorf("written through a magic link: %q", s)
	}
	f.DecRef()
	if _, err := read(c, "/p/link"); err != unix.ENOENT {
		t.Errorf("link to a closed file: %v", err)
	}

	// To a file that is in no tree.
	a := vfs.NewAnonFile(c, "pipe:", vfs.FileBase{}, unix.O_RDWR, unix.S_IFIFO|0o600)
	defer a.DecRef()
	fs.target = a.Path
	if name := vfs.PathName(c, a.Path); !strings.HasPrefix(name, "pipe:[") {
		t.Errorf("name %q", name)
	}
	st, err := vfs.Stat(c, nil, "/p/link", 0)
	if err != nil || st.Mode != unix.S_IFIFO|0o600 {
		t.Errorf("%o %v", st.Mode, err)
	}
	_, err = open(c, "/p/link", unix.O_RDONLY, 0)
	want(t, "reopen", err, unix.ENXIO)
	_, err = vfs.Stat(c, nil, "/p/link/x", 0)
	want(t, "below it", err, unix.ENOTDIR)
}

func TestEvents(t *testing.T) {
	c := newCaller(t)
	build(t, c, "d/")
	var got []string
	r := vfs.Receiver{Func: func(ev *vfs.Event) {
		for bit, name := range map[uint32]string{unix.IN_CREATE: "create", unix.IN_OPEN: "open", unix.IN_MODIFY: "modify",
			unix.IN_CLOSE_WRITE: "close", unix.IN_MOVED_FROM: "from", unix.IN_MOVED_TO: "to", unix.IN_MOVE_SELF: "moveself",
			unix.IN_DELETE: "delete", unix.IN_DELETE_SELF: "deleteself", unix.IN_ATTRIB: "attrib"} {
			if ev.Mask&bit != 0 {
				got = append(got, strings.TrimSpace(name+" "+ev.Name))
			}
		}
	}}
	vfs.AddReceiver(&r)
	build(t, c, "d/f")
	must(t, vfs.Chmod(c, nil, "d/f", 0o600, 0))
	must(t, vfs.Rename(c, nil, "d/f", nil, "d/g", 0))
	must(t, vfs.Unlink(c, nil, "d/g"))
	must(t, vfs.Rmdir(c, nil, "d"))
	vfs.RemoveReceiver(&r)
	wanted := "create f, open f, modify f, close f, attrib f, from f, to g, moveself, attrib, deleteself, delete g, deleteself, delete d"
	if s := strings.Join(got, ", "); s != wanted {
		t.Errorf("got  %s\nwant %s", s, wanted)
	}
}
