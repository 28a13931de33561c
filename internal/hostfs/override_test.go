package hostfs

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

func FuzzOverride(f *testing.F) {
	for _, s := range []string{"0:0:0755:dir", "1000:1000:4755", "0:5:0620:char-136-0", "1:2:3:block-8-1", "::", "0:0:0644:file-1-2"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		o, ok := parseOverride(s)
		if !ok {
			return
		}
		if o.mode&^0o7777 != 0 {
			t.Fatalf("%q: mode %o", s, o.mode)
		}
		if o.typ == 0 {
			o.typ = unix.S_IFREG
		}
		if p, ok := parseOverride(o.format()); !ok || p != o {
			t.Fatalf("%q: %+v, then %+v (%v)", s, o, p, ok)
		}
	})
}

// TestMap keeps owners, modes and devices over a mount, and reads what other tools have written.
func TestMap(t *testing.T) {
	g := start(t, Config{Map: true})
	g.write(t, "f", "x")
	if err := unix.Setxattr(filepath.Join(g.host, "f"), "user.test", nil, 0); err != nil {
		t.Skip("no user attributes here: ", err)
	}
	if a := g.stat(t, "f"); a.UID != 0 || a.GID != 0 || a.Mode != unix.S_IFREG|0o644 {
		t.Errorf("%d:%d %o", a.UID, a.GID, a.Mode)
	}
	if _, err := unix.Getxattr(filepath.Join(g.host, "f"), overrideXattr, nil); err != unix.ENODATA {
		t.Error("a plain file has an attribute:", err)
	}
	must(t, vfs.Chown(g, nil, "f", 1000, 1001, 0))
	must(t, vfs.Chmod(g, nil, "f", 0o4501, 0))
	must(t, vfs.Mknod(g, nil, "dev", unix.S_IFBLK|0o660, unix.Mkdev(259, 70000)))
	must(t, vfs.Mkdir(g, nil, "d", 0o755))
	must(t, vfs.Chown(g, nil, "d", 0, 50, 0))
	must(t, vfs.Chmod(g, nil, "d", 0o2575, 0))
	user := g.As(7, 50)
	in, err := vfs.Open(user, nil, "d/g", vfs.OpenHow{Flags: unix.O_CREAT | unix.O_RDWR, Mode: 0o600})
	must(t, err)
	in.DecRef()
	g.hostWrite(t, "podman", "")
	must(t, unix.Setxattr(filepath.Join(g.host, "podman"), overrideXattr, []byte("3:4:0600:char-1-3"), 0))
	g.hostWrite(t, "own", "")
	must(t, os.Chmod(filepath.Join(g.host, "own"), 0o400))
	for _, c := range []*guest{g, mount(t, Config{Dir: g.host, Map: true}, "")} {
		for _, w := range []struct {
			name     string
			uid, gid uint32
			mode     uint32
			rdev     uint64
		}{
			{"f", 1000, 1001, unix.S_IFREG | 0o4501, 0},
			{"dev", 0, 0, unix.S_IFBLK | 0o640, unix.Mkdev(259, 70000)},
			{"d", 0, 50, unix.S_IFDIR | 0o2575, 0},
			{"d/g", 7, 50, unix.S_IFREG | 0o600, 0},
			{"podman", 3, 4, unix.S_IFCHR | 0o600, unix.Mkdev(1, 3)},
			{"own", 0, 0, unix.S_IFREG | 0o400, 0},
		} {
			if a := c.stat(t, w.name); a.UID != w.uid || a.GID != w.gid || a.Mode != w.mode || a.Rdev != w.rdev {
				t.Errorf("%s: %d:%d %o %x, want %d:%d %o %x", w.name, a.UID, a.GID, a.Mode, a.Rdev, w.uid, w.gid, w.mode, w.rdev)
			}
		}
		c.write(t, "own", "root may")
		if s, err := c.read("own"); s != "root may" || err != nil {
			t.Error(s, err)
		}
		if st, err := os.Stat(filepath.Join(g.host, "d")); err != nil || st.Mode().Perm() != 0o775 {
			t.Error(st.Mode(), err)
		}
	}
	// A user of the guest cannot make himself root by the attribute.
	want(t, "setxattr", vfs.Setxattr(user, nil, "d/g", 0, overrideXattr, []byte("0:0:4755:file"), 0), unix.EOPNOTSUPP)
	// Another owner given on the host is seen.
	must(t, unix.Setxattr(filepath.Join(g.host, "f"), overrideXattr, []byte("8:9:0640:file"), 0))
	if a := g.stat(t, "f"); a.UID != 8 || a.GID != 9 || a.Mode&0o7777 != 0o640 {
		t.Errorf("%d:%d %o", a.UID, a.GID, a.Mode)
	}
}

// TestMapRemount makes a mount writable that was read-only at first, as the root of most guests is.
func TestMapRemount(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Chmod(dir, 0o755))
	sub := filepath.Join(dir, "sub")
	must(t, os.Mkdir(sub, 0o555))
	if err := unix.Setxattr(dir, "user.test", nil, 0); err != nil {
		t.Skip("no user attributes here: ", err)
	}
	g := mount(t, Config{Dir: dir, Map: true}, "")
	must(t, vfs.Mkdir(g, nil, "/ro", 0o755))
	must(t, vfs.DoMount(g, "none", "/ro", "hostfs", unix.MS_RDONLY, ""))
	must(t, vfs.DoMount(g, "", "/ro", "", unix.MS_REMOUNT, ""))
	must(t, vfs.Chdir(g, "/ro"))
	if sb := g.super(t); sb.ro.Load() {
		t.Error("the mount counts as read-only")
	}
	g.write(t, "sub/f", "x") // the guest's root may, whatever the mode on the host is
}
