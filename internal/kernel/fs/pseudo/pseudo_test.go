package pseudo_test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/fs/pseudo"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
	"github.com/user-mode-linux/linux/internal/kernel/wait"
)

func newRoot() *pseudo.Dir {
	return pseudo.NewRoot(pseudo.NewFS(&vfs.FilesystemType{Name: "test"}, 7, 1), 0o555)
}

func open(t *testing.T, in vfs.Inode) vfs.FileOps {
	t.Helper()
	ops, err := in.Open(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return ops
}

func read(t *testing.T, ops vfs.FileOps, off int64, n int) string {
	t.Helper()
	b := make([]byte, n)
	k, err := ops.Read(nil, nil, uio.ToBytes(b), off)
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:k])
}

func TestTextSnapshot(t *testing.T) {
	root, n := newRoot(), 0
	root.AddFile("count", 0o444, func(_ vfs.Caller, w *bytes.Buffer) error {
		n++
		fmt.Fprintf(w, "value %d\n", n)
		return nil
	}, nil)
	in, err := root.Lookup(nil, "count")
	if err != nil {
		t.Fatal(err)
	}
	ops := open(t, in)
	// A program that reads in pieces sees one text, one that goes back to the start a new one.
	if s := read(t, ops, 0, 3) + read(t, ops, 3, 100) + read(t, ops, 8, 100); s != "value 1\n" {
		t.Errorf("pieces: %q", s)
	}
	if s := read(t, ops, 0, 100); s != "value 2\n" {
		t.Errorf("rewound: %q", s)
	}
	if s := read(t, open(t, in), 6, 100); s != "3\n" {
		t.Errorf("first read in the middle: %q", s)
	}
	if _, err := ops.Write(nil, nil, uio.FromBytes([]byte("x")), 0); err != unix.EIO {
		t.Errorf("write: %v", err)
	}
}

func TestTextErrors(t *testing.T) {
	ops := &pseudo.Text{
		Show:  func(vfs.Caller, *bytes.Buffer) error { return unix.ESRCH },
		Store: func(_ vfs.Caller, p []byte) error { return unix.EINVAL },
	}
	if _, err := ops.Read(nil, nil, uio.ToBytes(make([]byte, 9)), 0); err != unix.ESRCH {
		t.Errorf("read: %v", err)
	}
	if _, err := ops.Write(nil, nil, uio.FromBytes([]byte("x")), 0); err != unix.EINVAL {
		t.Errorf("write: %v", err)
	}
	if _, err := (&pseudo.Text{}).Read(nil, nil, uio.ToBytes(make([]byte, 9)), 0); err != unix.EIO {
		t.Errorf("read of a file that cannot be read: %v", err)
	}
	var got []byte
	ops.Store = func(_ vfs.Caller, p []byte) error { got = p; return nil }
	if n, err := ops.Write(nil, nil, uio.FromBytes(make([]byte, 1<<20)), 0); err != nil || n != pseudo.MaxWrite || len(got) != n {
		t.Errorf("long write: %d, %v", n, err)
	}
}

func TestTextPoll(t *testing.T) {
	changed := false
	var q wait.Queue
	ops := &pseudo.Text{Queue: &q, Changed: func() bool { return changed }}
	if ev := ops.Readiness(wait.Pri | wait.In); ev != wait.In {
		t.Errorf("before: %#x", ev)
	}
	changed = true
	if ev := ops.Readiness(wait.Pri | wait.Err | wait.In); ev != wait.In|wait.Pri|wait.Err {
		t.Errorf("after: %#x", ev)
	}
	if ops.WaitQueue() != &q {
		t.Error("not the queue")
	}
}

// numbered is a computed part with the names 1 to n.
type numbered int64

func (numbered) Lookup(vfs.Caller, string) (vfs.Inode, error) { return nil, unix.ENOENT }
func (n numbered) ReadDir(_ vfs.Caller, off int64, emit func(vfs.DirEnt) bool) error {
	for i := off + 1; i <= int64(n); i++ {
		if !emit(vfs.DirEnt{Name: fmt.Sprint(i), Off: i}) {
			break
		}
	}
	return nil
}

// list reads a directory a few entries at a time and calls between after each piece.
func list(t *testing.T, d *pseudo.Dir, piece int, between func()) (names []string) {
	t.Helper()
	dr := open(t, d).(vfs.DirReader)
	for pos := int64(0); ; {
		n := 0
		err := dr.ReadDir(nil, nil, pos, func(e vfs.DirEnt) bool {
			if n == piece {
				return false
			}
			n++
			if e.Off <= pos {
				t.Fatalf("cookie %d after %d", e.Off, pos)
			}
			names, pos = append(names, e.Name), e.Off
			return true
		})
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			return names
		}
		between()
	}
}

func TestReadDir(t *testing.T) {
	root := newRoot()
	root.Subdir("sub", 0o555)
	root.AddText("a", "")
	root.AddLink("l", "a")
	root.SetDynamic(numbered(3))
	want := []string{".", "..", "sub", "a", "l", "1", "2", "3"}
	for piece := 1; piece < 10; piece++ {
		if got := list(t, root, piece, func() {}); !slices.Equal(got, want) {
			t.Errorf("piece %d: %q", piece, got)
		}
	}
	if n := root.Attr().Nlink; n != 3 {
		t.Errorf("%d links", n)
	}
}

func TestReadDirWhileChanging(t *testing.T) {
	root := newRoot()
	for _, n := range []string{"a", "b", "c", "d"} {
		root.AddText(n, "")
	}
	i := 0
	got := list(t, root, 3, func() {
		if i++; i == 1 {
			root.Remove("a")
			root.Remove("b")
			root.AddText("e", "")
		}
	})
	if want := []string{".", "..", "a", "c", "d", "e"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestAttributes(t *testing.T) {
	root := newRoot()
	root.AddText("f", "text")
	in, _ := root.Lookup(nil, "f")
	if a := in.Attr(); a.Mode != unix.S_IFREG|0o444 || a.Size != 0 || a.Nlink != 1 || a.UID != 0 {
		t.Errorf("%+v", a)
	}
	// Opening with O_TRUNC sets the size.
	if err := in.SetAttr(nil, &vfs.SetAttr{Valid: vfs.SetSize}); err != nil {
		t.Error(err)
	}
	if err := in.SetAttr(nil, &vfs.SetAttr{Valid: vfs.SetMode | vfs.SetUID, Mode: 0o600, UID: 5}); err != nil {
		t.Error(err)
	}
	if a := in.Attr(); a.Mode != unix.S_IFREG|0o600 || a.UID != 5 {
		t.Errorf("%+v", a)
	}
	if _, err := root.Lookup(nil, "g"); err != unix.ENOENT {
		t.Error(err)
	}
	if _, err := root.Mkdir(nil, "g", 0o755); err != unix.EPERM {
		t.Error(err)
	}
}

func TestNumber(t *testing.T) {
	n := pseudo.NewNumber(5, -1, 100)
	for s, want := range map[string]int64{"7\n": 7, " 0x10 ": 16, "-1": -1, "010": 8, "9\x00": 9} {
		if err := n.Store([]byte(s)); err != nil || n.Value() != want {
			t.Errorf("%q: %v, %d", s, err, n.Value())
		}
	}
	for _, s := range []string{"", "x", "101", "-2", "1_0", "1 2", "99999999999999999999"} {
		if err := n.Store([]byte(s)); err != unix.EINVAL {
			t.Errorf("%q: %v", s, err)
		}
	}
}
