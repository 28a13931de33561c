package inotify

import (
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
	"github.com/user-mode-linux/linux/internal/kernel/vfs/vfstest"
)

// next reads one event.
func next(t *testing.T, f *vfs.File) (wd int32, mask uint32, name string, err error) {
	t.Helper()
	b := make([]byte, headLen)
	n, err := f.Ops.Read(vfstest.NoFS(), f, uio.ToBytes(b), 0)
	if err == unix.EINVAL {
		b = make([]byte, 2*headLen)
		n, err = f.Ops.Read(vfstest.NoFS(), f, uio.ToBytes(b), 0)
	}
	if err != nil {
		return 0, 0, "", err
	}
	b = b[:n]
	if n != headLen+int(binary.LittleEndian.Uint32(b[12:])) {
		t.Fatalf("%x", b)
	}
	for _, x := range b[headLen:] {
		if x != 0 {
			name += string(x)
		}
	}
	return int32(binary.LittleEndian.Uint32(b)), binary.LittleEndian.Uint32(b[4:]), name, nil
}

// addWatch is Add without a path walk.
func addWatch(in *Instance, inode vfs.Inode, mask uint32) *watch {
	marks.mu.Lock()
	defer marks.mu.Unlock()
	in.lastWD++
	w := &watch{inst: in, wd: in.lastWD, inode: inode, mask: mask}
	in.watches[w.wd], in.byInode[inode] = w, w
	marks.watches[in.uid]++
	marks.m[inode] = append(marks.m[inode], w)
	return w
}

func TestEvents(t *testing.T) {
	c := vfstest.NoFS()
	f, err := New(c, unix.IN_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	dir, file := vfs.NewAnonInode(c, 0o600), vfs.NewAnonInode(c, 0o600)
	addWatch(Of(f), dir, unix.IN_ALL_EVENTS)
	addWatch(Of(f), file, unix.IN_MODIFY|unix.IN_ONESHOT)
	ev := vfs.Event{Mask: unix.IN_MODIFY, Dir: dir, Name: "name-of-16-bytes", Inode: file}
	receive(&ev)
	receive(&ev)
	receive(&vfs.Event{Mask: unix.IN_DELETE_SELF, Inode: dir})
	want := []struct {
		wd   int32
		mask uint32
		name string
	}{
		{1, unix.IN_MODIFY, "name-of-16-bytes"}, {2, unix.IN_MODIFY, ""}, {2, unix.IN_IGNORED, ""},
		{1, unix.IN_MODIFY, "name-of-16-bytes"}, {1, unix.IN_DELETE_SELF, ""}, {1, unix.IN_IGNORED, ""},
	}
	for i, w := range want {
		b := make([]byte, 3*headLen)
		if w.name != "" {
			if _, err := f.Ops.Read(c, f, uio.ToBytes(b[:47]), 0); err != unix.EINVAL {
				t.Fatal("short buffer:", err)
			}
			k, err := f.Ops.Read(c, f, uio.ToBytes(b), 0)
			if err != nil || k != 48 || binary.LittleEndian.Uint32(b) != uint32(w.wd) || binary.LittleEndian.Uint32(b[12:]) != 32 ||
				string(b[16:32]) != w.name {
				t.Fatalf("event %d: %d %v %x", i, k, err, b)
			}
			continue
		}
		b = b[:headLen]
		k, err := f.Ops.Read(c, f, uio.ToBytes(b), 0)
		if err != nil || k != headLen || int32(binary.LittleEndian.Uint32(b)) != w.wd || binary.LittleEndian.Uint32(b[4:]) != w.mask {
			t.Fatalf("event %d: %d %v %x", i, k, err, b)
		}
	}
	if _, _, _, err := next(t, f); err != unix.EAGAIN {
		t.Fatal(err)
	}
	if len(marks.m) != 0 || len(marks.watches) != 0 {
		t.Fatal(marks.m, marks.watches)
	}
	f.DecRef()
	if len(marks.instances) != 0 {
		t.Fatal(marks.instances)
	}
}

func TestQueue(t *testing.T) {
	c := vfstest.NoFS()
	f, _ := New(c, unix.IN_NONBLOCK)
	defer f.DecRef()
	in := Of(f)
	in.queueEvent(event{wd: 1, mask: 1, name: "a"})
	in.queueEvent(event{wd: 1, mask: 1, name: "a"})
	in.queueEvent(event{wd: 1, mask: 2, name: "a"})
	if len(in.queue) != 2 {
		t.Fatal("equal events were not merged")
	}
	for i := range uint32(2 * MaxQueuedEvents) {
		in.queueEvent(event{wd: 1, mask: 1, cookie: i})
	}
	if n := len(in.queue); n != MaxQueuedEvents+1 || in.queue[n-1] != (event{wd: -1, mask: unix.IN_Q_OVERFLOW}) {
		t.Fatal(n)
	}
	for len(in.queue) > 0 {
		if _, _, _, err := next(t, f); err != nil {
			t.Fatal(err)
		}
	}
	in.queueEvent(event{wd: 1, mask: 1})
	if _, mask, _, err := next(t, f); mask != 1 || err != nil {
		t.Fatal(mask, err)
	}
}

func TestInstanceLimit(t *testing.T) {
	c := vfstest.NoFS()
	var files []*vfs.File
	for range MaxUserInstances {
		f, err := New(c, 0)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	if _, err := New(c, 0); err != unix.EMFILE {
		t.Fatal(err)
	}
	for _, f := range files {
		f.DecRef()
	}
}
