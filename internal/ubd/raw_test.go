package ubd

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/bdev"
	"github.com/user-mode-linux/linux/internal/kernel/klog"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func imageFile(t *testing.T, content []byte) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), "image")
	must(t, os.WriteFile(p, content, 0o644))
	return p
}

func openDevice(t *testing.T, sp *Spec) Device {
	t.Helper()
	d, err := Open(sp)
	must(t, err)
	t.Cleanup(func() { d.Close() })
	return d
}

func TestRaw(t *testing.T) {
	p := imageFile(t, bytes.Repeat([]byte("a"), 10_000))
	d := openDevice(t, &Spec{Unit: 1, File: p})
	if d.Name() != "ubdb" || d.Size() != 10_240 || d.ReadOnly() {
		t.Fatalf("%s %d %v", d.Name(), d.Size(), d.ReadOnly())
	}
	b := make([]byte, 1024)
	if n, err := d.ReadAt(b, 9216); n != 1024 || err != nil || b[783] != 'a' || b[784] != 0 {
		t.Errorf("read at the end: %d %v %q", n, err, b[780:790])
	}
	if n, err := d.WriteAt(bytes.Repeat([]byte("b"), 512), 512); n != 512 || err != nil {
		t.Errorf("write: %d %v", n, err)
	}
	must(t, d.Flush())
	if v := d.(bdev.Viewer).View(512, 512); v == nil || v[0] != 'b' {
		t.Errorf("view does not follow writes")
	}
	if d.(bdev.Viewer).View(9728, 512) != nil {
		t.Errorf("view beyond the end of the file")
	}
	if err := d.WriteZeroes(512, 512); err != nil {
		t.Errorf("zeroes: %v", err)
	}
	if err := d.Discard(4096, 4096); err != nil && err != unix.EOPNOTSUPP {
		t.Errorf("discard: %v", err)
	}
	if _, err := d.ReadAt(b, 512); err != nil || b[0] != 0 || b[512] != 'a' {
		t.Errorf("after zeroes: %v %q", err, b[510:514])
	}
	if h, off, n := d.(bdev.Mapper).HostRange(0, 4096); h == nil || off != 0 || n != 4096 {
		t.Errorf("host range: %+v %d %d", h, off, n)
	}
	st, err := os.Stat(p)
	must(t, err)
	if st.Size() != 10_000 {
		t.Errorf("the file has %d bytes now", st.Size())
	}
}

// TestCut cuts a file that is a disk: what is gone gives EIO, and there is more when it has grown again.
func TestCut(t *testing.T) {
	p := imageFile(t, bytes.Repeat([]byte("a"), 64<<10))
	d := openDevice(t, &Spec{Unit: 1, File: p})
	b := make([]byte, 4096)
	must(t, os.Truncate(p, 32<<10))
	if _, err := d.ReadAt(b, 32<<10); err != unix.EIO {
		t.Errorf("beyond the new end: %v", err)
	}
	if _, err := d.ReadAt(b, 30<<10); err != unix.EIO {
		t.Errorf("across the new end: %v", err)
	}
	if _, err := d.ReadAt(b, 28<<10); err != nil || b[4095] != 'a' {
		t.Errorf("before the new end: %v", err)
	}
	if n, err := d.WriteAt(b, 48<<10); n != len(b) || err != nil {
		t.Errorf("writing beyond the new end: %d, %v", n, err)
	}
	must(t, os.Truncate(p, 1<<20))
	if _, err := d.ReadAt(b, 32<<10); err != nil || b[0] != 0 || d.Size() != 64<<10 {
		t.Errorf("a file that has grown: %v, %d bytes", err, d.Size())
	}
}

func TestReadOnly(t *testing.T) {
	p := imageFile(t, make([]byte, 8192))
	d := openDevice(t, &Spec{File: p, ReadOnly: true})
	if !d.ReadOnly() {
		t.Fatal("not read-only")
	}
	if _, err := d.WriteAt(make([]byte, 512), 0); err != unix.EROFS {
		t.Errorf("write: %v", err)
	}
	h, off, n := d.(bdev.Mapper).HostRange(4096, 8192)
	if h == nil || h.RW != -1 || h.RO < 0 || off != 4096 || n != 4096 {
		t.Errorf("host range: %+v %d %d", h, off, n)
	}
}

func TestFileErrors(t *testing.T) {
	dir := t.TempDir()
	must(t, unix.Mkfifo(filepath.Join(dir, "fifo"), 0o644))
	for file, want := range map[string]struct {
		text string
		err  unix.Errno
	}{
		dir:                        {"errno = 21 (it is a directory); expected an image file", unix.EISDIR},
		filepath.Join(dir, "none"): {"errno = 2 (no such file or directory); expected an image file", unix.ENOENT},
		filepath.Join(dir, "fifo"): {"it is a fifo; expected an image file", unix.ENOTBLK},
		"/dev/null":                {"it is a character device; expected an image file", unix.ENOTBLK},
	} {
		for _, ro := range []bool{true, false} {
			_, err := Open(&Spec{File: file, ReadOnly: ro})
			if err == nil || !errors.Is(err, want.err) || !strings.Contains(err.Error(), want.text) || !strings.HasPrefix(err.Error(), file) {
				t.Errorf("%s (ro %v): %v", file, ro, err)
			}
		}
	}
}

// TestLockHelper is the other process of TestLock.
func TestLockHelper(t *testing.T) {
	file := os.Getenv("UBD_LOCK_FILE")
	if file == "" {
		t.Skip("helper of TestLock")
	}
	_, err := Open(&Spec{File: file, ReadOnly: os.Getenv("UBD_LOCK_RO") != "", Shared: os.Getenv("UBD_LOCK_SHARED") != ""})
	fmt.Printf("result: %v\n", err)
}

func TestLock(t *testing.T) {
	p := imageFile(t, make([]byte, 4096))
	other := func(env ...string) string {
		cmd := exec.Command(os.Args[0], "-test.run=^TestLockHelper$")
		cmd.Env = append(append(os.Environ(), "UBD_LOCK_FILE="+p), env...)
		out, err := cmd.CombinedOutput()
		must(t, err)
		_, s, _ := strings.Cut(string(out), "result: ")
		s, _, _ = strings.Cut(s, "\n")
		return s
	}
	d, err := Open(&Spec{File: p})
	must(t, err)
	want := fmt.Sprintf("%s: F_SETLK failed, file already locked by pid %d; Failed to lock '%s', err = 11; expected a file that no other guest uses (flags r, or c for a shared disk, allow it)", p, os.Getpid(), p)
	if got := other(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := other("UBD_LOCK_RO=1"); got != want {
		t.Errorf("read lock against a write lock: %s", got)
	}
	if got := other("UBD_LOCK_SHARED=1"); got != "<nil>" {
		t.Errorf("shared: %s", got)
	}
	if _, err := Open(&Spec{File: p}); err == nil || !strings.Contains(err.Error(), "already locked by another disk of this guest") {
		t.Errorf("twice in one process: %v", err)
	}
	if got := other(); !strings.Contains(got, "already locked") {
		t.Errorf("the lock was lost: %s", got)
	}
	must(t, d.Close())
	if got := other(); got != "<nil>" {
		t.Errorf("after close: %s", got)
	}
	d, err = Open(&Spec{File: p, ReadOnly: true})
	must(t, err)
	defer d.Close()
	if got := other("UBD_LOCK_RO=1"); got != "<nil>" {
		t.Errorf("two readers: %s", got)
	}
	if got := other(); !strings.Contains(got, "already locked") {
		t.Errorf("writer against a reader: %s", got)
	}
}

func TestSet(t *testing.T) {
	var s Set
	p := imageFile(t, make([]byte, 4096))
	must(t, s.Option("ubd3r="+p+",,serial7"))
	n := bdev.Lookup("/dev/ubd3")
	if n == nil || n.Name() != "ubdd" || n.Disk().Serial != "serial7" || n.Size() != 4096 {
		t.Fatalf("%+v", n)
	}
	if err := s.Option("ubdd=" + p); err == nil || err.Error() != fmt.Sprintf("Failed to initialize device with %q : Device is already configured", "d="+p) {
		t.Errorf("twice: %v", err)
	}
	if got := s.Query(3); got != p {
		t.Errorf("query %q", got)
	}
	must(t, n.Open(nil))
	if err := s.Remove(3); err != unix.EBUSY {
		t.Errorf("remove while open: %v", err)
	}
	n.Close(nil)
	must(t, s.Remove(3))
	if err := s.Remove(3); err != unix.ENODEV {
		t.Errorf("remove again: %v", err)
	}
	if bdev.Lookup("ubdd") != nil || s.Query(3) != "" {
		t.Error("still there")
	}
}

// TestDriver has disks come and go as the management console asks for it.
func TestDriver(t *testing.T) {
	var s Set
	d := s.Driver()
	p := imageFile(t, make([]byte, 4096))
	must(t, d.Config("5r="+p))
	if q, err := d.Query("5"); q != p || err != nil {
		t.Errorf("query: %q %v", q, err)
	}
	if q, err := d.Query("f"); q != p || err != nil {
		t.Errorf("query by letter: %q %v", q, err)
	}
	if q, err := d.Query("6"); q != "" || err != nil {
		t.Errorf("query of nothing: %q %v", q, err)
	}
	fails := func(err error, errno unix.Errno, text string) {
		t.Helper()
		if err == nil || !strings.HasPrefix(err.Error(), text) || errno != 0 && !errors.Is(err, errno) {
			t.Errorf("got %v, want %q (%v)", err, text, errno)
		}
	}
	fails(d.Config("5="+p), unix.EBUSY, "Device is already configured")
	fails(d.Config("7=/no/such/file"), unix.ENOENT, "Couldn't determine size of device's file")
	fails(d.Config("16="+p), 0, "Device number out of range")
	fails(d.Config("x"), 0, "Device number out of range")
	fails(d.Config("7q="+p), 0, "Expected '=' or flag letter")
	fails(d.Remove(""), 0, "Couldn't parse device number")
	fails(d.Remove("99"), 0, "Invalid device number - must be between 0 and 15")
	n := bdev.Lookup("/dev/ubdf")
	must(t, n.Open(nil))
	if err := d.Remove("5"); err != unix.EBUSY {
		t.Errorf("remove of an open disk: %v", err)
	}
	n.Close(nil)
	must(t, d.Remove("5"))
	if err := d.Remove("5"); err != unix.ENODEV {
		t.Errorf("remove again: %v", err)
	}
}

func TestDefault(t *testing.T) {
	t.Chdir(t.TempDir())
	var s Set
	if ok, err := s.Default(); ok || err != nil {
		t.Errorf("without a file: %v %v", ok, err)
	}
	must(t, os.WriteFile(DefaultFile, make([]byte, 1024), 0o644))
	if ok, err := s.Default(); !ok || err != nil {
		t.Errorf("with a file: %v %v", ok, err)
	}
	if n := bdev.Lookup("ubda"); n == nil || n.Size() != 1024 {
		t.Errorf("%+v", n)
	}
	must(t, s.Remove(0))
}

// cowFile makes a COW file of a version over backing with the given sectors in it.
func cowFile(t *testing.T, version int, backing string, sectors map[int]byte) string {
	t.Helper()
	st, err := os.Stat(backing)
	must(t, err)
	be, ne := binary.BigEndian, binary.NativeEndian
	var b []byte
	var bitmapOff, dataOff int
	size, mtime := uint64(st.Size()), uint32(st.ModTime().Unix())
	n := int(size+511) / 512
	switch version {
	case 1:
		b = make([]byte, 280)
		ne.PutUint32(b, cowMagic)
		ne.PutUint32(b[4:], 1)
		copy(b[8:], backing)
		ne.PutUint32(b[264:], mtime)
		ne.PutUint64(b[268:], size)
		ne.PutUint32(b[276:], 512)
		bitmapOff, dataOff = 280, 512
	case 2:
		b = make([]byte, 4120)
		be.PutUint32(b, cowMagic)
		be.PutUint32(b[4:], 2)
		copy(b[8:], backing)
		be.PutUint32(b[4104:], mtime)
		be.PutUint64(b[4108:], size)
		be.PutUint32(b[4116:], 512)
		bitmapOff, dataOff = 4120, 4608
	case 3, 4:
		at := 0
		b = make([]byte, 8192)
		if version == 4 { // the broken version 3
			at = 4
		}
		be.PutUint32(b, cowMagic)
		be.PutUint32(b[4:], 3)
		be.PutUint32(b[8:], mtime)
		be.PutUint64(b[12+at:], size)
		be.PutUint32(b[20+at:], 512)
		be.PutUint32(b[24+at:], 4096)
		copy(b[32+2*at:], backing)
		bitmapOff, dataOff = 8192, 12288
	}
	img := make([]byte, dataOff+n*512)
	copy(img, b)
	for s, c := range sectors {
		img[bitmapOff+s/8] |= 1 << (s % 8)
		copy(img[dataOff+512*s:], bytes.Repeat([]byte{c}, 512))
	}
	return imageFile(t, img)
}

func TestCow(t *testing.T) {
	back := imageFile(t, bytes.Repeat([]byte("."), 64<<10))
	for version := 1; version <= 4; version++ {
		p := cowFile(t, version, back, map[int]byte{0: 'A', 3: 'B', 9: 'C', 127: 'D'})
		d, err := Open(&Spec{File: p})
		must(t, err)
		if d.ReadOnly() || d.Size() != 64<<10 {
			t.Errorf("version %d: ro %v size %d", version, d.ReadOnly(), d.Size())
		}
		all := make([]byte, 64<<10)
		_, err = d.ReadAt(all, 0)
		must(t, err)
		for s := range 128 {
			want := byte('.')
			switch s {
			case 0:
				want = 'A'
			case 3:
				want = 'B'
			case 9:
				want = 'C'
			case 127:
				want = 'D'
			}
			if !bytes.Equal(all[512*s:][:512], bytes.Repeat([]byte{want}, 512)) {
				t.Errorf("version %d: sector %d is %q, want %q", version, s, all[512*s], want)
			}
		}
		x := d.(*cow)
		if h, off, n := x.HostRange(0, 4096); h != x.file.host || off != x.h.dataOff || n != 512 {
			t.Errorf("version %d: host range of the COW file: %v %d %d", version, h, off, n)
		}
		if h, off, n := x.HostRange(8192, 16384); h != x.backing.host || off != 8192 || n != 16384 {
			t.Errorf("version %d: host range of the backing file: %v %d %d", version, h, off, n)
		}
		if v := x.View(512, 512); v == nil || v[0] != '.' {
			t.Errorf("version %d: no view of the backing file", version)
		}
		if v := x.View(512*127, 512); v == nil || v[0] != 'D' {
			t.Errorf("version %d: no view of the COW file", version)
		}
		if v := x.View(512, 512*3); v != nil {
			t.Errorf("version %d: a view of two files", version)
		}
		must(t, d.Close())
	}
}

// TestMkcow reads what uml_mkcow of uml-utilities makes.
func TestMkcow(t *testing.T) {
	mkcow, err := exec.LookPath("uml_mkcow")
	if err != nil {
		t.Skip("uml_mkcow is not installed (package uml-utilities)")
	}
	back := imageFile(t, bytes.Repeat([]byte("odd"), 1111))
	p := filepath.Join(t.TempDir(), "cow")
	if out, err := exec.Command(mkcow, p, back).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	d := openDevice(t, &Spec{File: p, ReadOnly: true})
	b := make([]byte, 3584)
	if _, err := d.ReadAt(b, 0); d.Size() != 3584 || err != nil || string(b[:6]) != "oddodd" || b[3332] != 'd' || b[3333] != 0 {
		t.Errorf("size %d: %v %q", d.Size(), err, b[3320:3340])
	}
}

// TestCowWrite creates a COW file, writes at random places and compares with a model, across reopening and with uml_moo.
func TestCowWrite(t *testing.T) {
	content := bytes.Repeat([]byte("backing "), 40_000/8*2+1)
	back := imageFile(t, content)
	before, err := os.Stat(back)
	must(t, err)
	p := filepath.Join(t.TempDir(), "cow")
	seq := klog.Next()
	sp := &Spec{File: p, Backing: back}
	d, err := Open(sp)
	must(t, err)
	if recs, _ := klog.From(seq, 10); len(recs) == 0 || recs[0].Text != fmt.Sprintf("Creating \"%s\" as COW file for \"%s\"", p, back) {
		t.Errorf("log: %v", recs)
	}
	st, err := os.Stat(p)
	must(t, err)
	if st.Size() != 12288+int64(len(content)) || st.Mode() != 0o644 {
		t.Errorf("size %d mode %o", st.Size(), st.Mode())
	}
	model := make([]byte, d.Size())
	copy(model, content)
	rng := rand.New(rand.NewPCG(8, 9))
	check := func() {
		t.Helper()
		got := make([]byte, d.Size())
		if _, err := d.ReadAt(got, 0); err != nil || !bytes.Equal(got, model) {
			t.Fatalf("content differs (%v)", err)
		}
	}
	check()
	for i := range 60 {
		sectors := int(d.Size() / 512)
		first := rng.IntN(sectors)
		n := 1 + rng.IntN(min(20, sectors-first))
		b := bytes.Repeat([]byte{byte(i) + 1}, n*512)
		if _, err := d.WriteAt(b, int64(first)*512); err != nil {
			t.Fatal(err)
		}
		copy(model[first*512:], b)
		if i%20 == 7 {
			check()
			must(t, d.Flush())
			must(t, d.Close())
			d, err = Open(&Spec{File: p})
			must(t, err)
		}
	}
	check()
	must(t, d.(bdev.Device).WriteZeroes(0, 1024))
	clear(model[:1024])
	check()
	must(t, d.Close())
	after, err := os.Stat(back)
	must(t, err)
	if now, _ := os.ReadFile(back); !bytes.Equal(now, content) || !after.ModTime().Equal(before.ModTime()) {
		t.Error("the backing file was changed")
	}
	if moo, err := exec.LookPath("uml_moo"); err == nil {
		merged := filepath.Join(t.TempDir(), "merged")
		if out, err := exec.Command(moo, p, merged).CombinedOutput(); err != nil {
			t.Fatalf("uml_moo: %v\n%s", err, out)
		}
		got, err := os.ReadFile(merged)
		must(t, err)
		if n := len(got) &^ 511; !bytes.Equal(got[:n], model[:n]) {
			t.Error("uml_moo merges to something else")
		}
	}
}

// TestSwitchBacking gives another name, then another file, as backing file.
func TestSwitchBacking(t *testing.T) {
	back := imageFile(t, make([]byte, 8192))
	p := cowFile(t, 3, back, nil)
	other := filepath.Join(t.TempDir(), "copy")
	must(t, os.WriteFile(other, make([]byte, 8192), 0o644))
	st, err := os.Stat(back)
	must(t, err)
	must(t, os.Chtimes(other, st.ModTime(), st.ModTime()))
	seq := klog.Next()
	d, err := Open(&Spec{File: p, Backing: other})
	must(t, err)
	must(t, d.Close())
	recs, _ := klog.From(seq, 10)
	if len(recs) != 2 || !strings.HasPrefix(recs[0].Text, "Backing file mismatch - ") || recs[1].Text != "Switching backing file to '"+other+"'" {
		t.Errorf("log: %v", recs)
	}
	must(t, os.Remove(back))
	d, err = Open(&Spec{File: p})
	must(t, err)
	must(t, d.Close())
}

func TestCowErrors(t *testing.T) {
	back := imageFile(t, make([]byte, 8192))
	p := cowFile(t, 3, back, nil)
	must(t, os.Chtimes(back, time.Unix(1000, 0), time.Unix(1000, 0)))
	st, err := os.Stat(p)
	must(t, err)
	if _, err := Open(&Spec{File: p}); err == nil || !strings.Contains(err.Error(), "vs 1000) of COW header vs backing file") ||
		!strings.Contains(err.Error(), "mtime mismatch (") || !errors.Is(err, unix.EINVAL) {
		t.Errorf("mtime: %v", err)
	}
	must(t, os.Truncate(back, 4096))
	if _, err := Open(&Spec{File: p}); err == nil || !strings.Contains(err.Error(), "Size mismatch (8192 vs 4096) of COW header vs backing file") {
		t.Errorf("size: %v", err)
	}
	if d, err := Open(&Spec{File: p, Data: true}); err != nil || d.Size() != (st.Size()+511)&^511 {
		t.Errorf("flag d: %v", err)
	} else {
		d.Close()
	}
	if _, err := Open(&Spec{File: filepath.Join(t.TempDir(), "new"), Backing: back, ReadOnly: true}); !errors.Is(err, unix.ENOENT) {
		t.Errorf("missing COW file: %v", err)
	}
	bad := make([]byte, 8192)
	binary.BigEndian.PutUint32(bad, cowMagic)
	binary.BigEndian.PutUint32(bad[4:], 9)
	if _, err := Open(&Spec{File: imageFile(t, bad)}); err == nil || !strings.Contains(err.Error(), "unknown version 9") {
		t.Errorf("version: %v", err)
	}
}

// TestStore writes through the writable mapping: only what was written before and not synced since.
func TestStore(t *testing.T) {
	p := imageFile(t, make([]byte, 300<<10))
	d := openDevice(t, &Spec{File: p})
	s := func(off, n int64) (p []byte) {
		d.(bdev.Storer).Store(off, n, func(m []byte) { p = m })
		return p
	}
	b := bytes.Repeat([]byte("a"), 8192)
	if s(0, 4096) != nil {
		t.Error("what was never written is handed out")
	}
	_, err := d.WriteAt(b, 60<<10) // in two parts
	must(t, err)
	for off, want := range map[int64]bool{0: true, 60 << 10: true, 127 << 10: true, 128 << 10: false, 299 << 10: false, 300 << 10: false, -4096: false} {
		if v := s(off, 1024); (v != nil) != want {
			t.Errorf("at %d: handed out %v", off, v != nil)
		}
	}
	if s(0, 129<<10) != nil {
		t.Error("a range is handed out that was not written wholly")
	}
	copy(s(1000, 3), "xyz")
	got := make([]byte, 1024)
	if _, err := d.ReadAt(got, 512); err != nil || string(got[487:492]) != "\x00xyz\x00" {
		t.Errorf("read %v %q", err, got[487:492])
	}
	must(t, d.Flush())
	if s(0, 4096) != nil {
		t.Error("what was synced is handed out")
	}
	for _, sp := range []*Spec{{File: p, ReadOnly: true}, {File: imageFile(t, make([]byte, 8192)), Sync: true}} {
		_ = d.Close()
		d = openDevice(t, sp)
		_, _ = d.WriteAt(b[:512], 0)
		if s(0, 512) != nil {
			t.Errorf("%+v: handed out", sp)
		}
	}
}
