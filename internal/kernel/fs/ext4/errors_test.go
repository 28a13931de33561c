package ext4

import (
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/fs/ext4/disk"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// superOf is the superblock on the device.
func (d *rwDisk) superOf() (s disk.Super) {
	s.Decode(content(d.t, d.dev)[disk.SuperOffset:])
	return s
}

// patchSuper changes the superblock behind the file system's back.
func (d *rwDisk) patchSuper(change func(s *disk.Super)) {
	p := content(d.t, d.dev)[disk.SuperOffset:][:disk.SuperSize]
	var s disk.Super
	s.Decode(p)
	change(&s)
	s.Encode(p)
	_, err := d.dev.WriteAt(p, disk.SuperOffset)
	must(d.t, err)
}

// TestErrors finds a damaged directory with each value of errors=.
func TestErrors(t *testing.T) {
	defer func() { Panic = nil }()
	for _, option := range []string{"", "errors=continue", "errors=remount-ro", "errors=panic"} {
		panics := 0
		Panic = func(string) { panics++ }
		d := newDisk(t, Ext4, "8M")
		must(t, vfs.Mkdir(d, nil, "/dir", 0o755))
		in, err := vfs.Stat(d, nil, "/dir", 0)
		must(t, err)
		dir, err := d.sb.iget(uint32(in.Ino), false)
		must(t, err)
		r, err := dir.mapBlock(0)
		must(t, err)
		d.umount()
		_, err = d.dev.WriteAt(make([]byte, 512), int64(r.phys)<<d.sb.blockBits)
		must(t, err)
		d.mount()
		must(t, d.sb.Remount(nil, 0, option))
		if got := d.sb.Options(); got != strings.TrimSuffix(","+option, ",") {
			t.Errorf("%q: options %q", option, got)
		}
		if _, err := vfs.Stat(d, nil, "/dir/x", 0); err != unix.EBADMSG && err != unix.EUCLEAN {
			t.Errorf("%q: %v", option, err)
		}
		err = vfs.Mknod(d, nil, "/file", unix.S_IFREG|0o600, 0)
		switch option {
		case "errors=remount-ro":
			if err != unix.EROFS {
				t.Errorf("%q: a file was made: %v", option, err)
			}
			if err := d.sb.Remount(nil, 0, option); err != unix.EROFS {
				t.Errorf("%q: writable again: %v", option, err)
			}
		default:
			if err != nil || panics != map[bool]int{true: 1}[option == "errors=panic"] {
				t.Errorf("%q: %v, %d panics", option, err, panics)
			}
		}
		for i := 0; option != "errors=panic" && d.superOf().State&disk.StateError == 0; i++ {
			if i > 500 {
				t.Fatalf("%q: the superblock knows nothing of the error", option)
			}
			time.Sleep(10 * time.Millisecond)
		}
		d.umount()
		if s := d.superOf(); s.State&disk.StateError == 0 {
			t.Errorf("%q: state %#x after the unmount", option, s.State)
		}
	}
}

// TestRefresh changes the superblock while the file system is read-only, as e2fsck does with the root at boot.
func TestRefresh(t *testing.T) {
	d := newDisk(t, Ext4, "8M")
	must(t, d.sb.Remount(nil, unix.MS_RDONLY, ""))
	d.patchSuper(func(s *disk.Super) { s.MountCount, s.State = 40, s.State|disk.StateError })
	must(t, d.sb.Remount(nil, 0, ""))
	d.write("/a", []byte("a"), 0)
	must(t, d.sb.Remount(nil, unix.MS_RDONLY, ""))
	d.patchSuper(func(s *disk.Super) { s.State &^= disk.StateError })
	must(t, d.sb.Remount(nil, 0, ""))
	d.remount("refreshed")
	if s := d.superOf(); s.MountCount != 43 || s.State&disk.StateError != 0 {
		t.Errorf("mount count %d, state %#x", s.MountCount, s.State)
	}
	d.expect("/a", []byte("a"))
	must(t, d.sb.Remount(nil, unix.MS_RDONLY, ""))
	d.patchSuper(func(s *disk.Super) { s.Compat ^= disk.CompatDirIndex })
	if err := d.sb.Remount(nil, 0, ""); err != unix.EROFS {
		t.Errorf("writable with other features: %v", err)
	}
	d.umount()
}
