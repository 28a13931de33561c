package initramfs

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
	"github.com/ulikunitz/xz/lzma"
	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/fs/tmpfs"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
	"github.com/user-mode-linux/linux/internal/kernel/vfs/vfstest"
)

// entry is one file of a test archive.
type entry struct {
	name, data       string
	mode             uint32
	uid, gid         uint32
	ino, nlink, time uint32
	major, minor     uint32
}

func archive(crc bool, es ...entry) []byte {
	var b bytes.Buffer
	pad := func() {
		for b.Len()%4 != 0 {
			b.WriteByte(0)
		}
	}
	for _, e := range append(es, entry{name: trailer, nlink: 1}) {
		magic, sum := magicNewc, uint32(0)
		if crc {
			magic = magicCRC
			for _, c := range []byte(e.data) {
				sum += uint32(c)
			}
		}
		fmt.Fprintf(&b, "%s%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00", magic, e.ino, e.mode, e.uid, e.gid,
			max(e.nlink, 1), e.time, len(e.data), 0, 0, e.major, e.minor, len(e.name)+1, sum, e.name)
		pad()
		b.WriteString(e.data)
		pad()
	}
	return b.Bytes()
}

var sample = []entry{
	{name: ".", mode: unix.S_IFDIR | 0o755, time: 7},
	{name: "bin", mode: unix.S_IFDIR | 0o2755, uid: 1, gid: 2, time: 1000},
	{name: "bin/sh", mode: unix.S_IFREG | 0o4755, uid: 3, gid: 4, data: "#!shell", time: 1234},
	{name: "/init", mode: unix.S_IFLNK | 0o777, data: "bin/sh"},
	{name: "console", mode: unix.S_IFCHR | 0o600, major: 5, minor: 1},
	{name: "disk", mode: unix.S_IFBLK | 0o660, major: 98, minor: 16},
	{name: "fifo", mode: unix.S_IFIFO | 0o622},
	{name: "sock", mode: unix.S_IFSOCK | 0o666},
	{name: "h1", mode: unix.S_IFREG | 0o644, ino: 9, nlink: 2},
	{name: "h2", mode: unix.S_IFREG | 0o644, ino: 9, nlink: 2, data: "linked"},
	{name: "empty", mode: unix.S_IFREG},
}

func content(t *testing.T, c vfs.Caller, name string) string {
	t.Helper()
	f, err := vfs.Open(c, nil, name, vfs.OpenHow{})
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return ""
	}
	defer f.DecRef()
	b := make([]byte, 1<<16)
	n, _ := vfs.Read(c, f, uio.ToBytes(b))
	return string(b[:n])
}

func check(t *testing.T, c vfs.Caller) {
	t.Helper()
	for _, e := range sample {
		a, err := vfs.Stat(c, nil, e.name, unix.AT_SYMLINK_NOFOLLOW)
		if err != nil {
			t.Errorf("%s: %v", e.name, err)
			continue
		}
		rdev := uint64(0)
		if e.major != 0 {
			rdev = unix.Mkdev(e.major, e.minor)
		}
		if a.Mode != e.mode || a.UID != e.uid || a.GID != e.gid || a.Rdev != rdev || a.Mtime.Sec != int64(e.time) {
			t.Errorf("%s: %+v", e.name, a)
		}
	}
	if s := content(t, c, "init"); s != "#!shell" {
		t.Errorf("init: %q", s)
	}
	if s := content(t, c, "h1"); s != "linked" {
		t.Errorf("h1: %q", s)
	}
	if a, _ := vfs.Stat(c, nil, "h2", 0); a.Nlink != 2 {
		t.Errorf("h2: %d links", a.Nlink)
	}
}

func unpack(b []byte, limit int64) (*vfstest.Caller, error) {
	c := vfstest.New(tmpfs.NewRoot())
	return c, Unpack(c, nil, bytes.NewReader(b), limit)
}

// lz4Store makes a legacy LZ4 stream of literals only.
func lz4Store(b []byte) []byte {
	out := binary.LittleEndian.AppendUint32(nil, lz4Magic)
	block := []byte{0xf0}
	n := len(b) - 15
	for ; n >= 255; n -= 255 {
		block = append(block, 255)
	}
	block = append(append(block, byte(n)), b...)
	return append(binary.LittleEndian.AppendUint32(out, uint32(len(block))), block...)
}

func compressors(t testing.TB) map[string]func([]byte) []byte {
	via := func(open func(io.Writer) (io.WriteCloser, error)) func([]byte) []byte {
		return func(b []byte) []byte {
			var out bytes.Buffer
			w, err := open(&out)
			if err == nil {
				_, err = w.Write(b)
			}
			if err == nil {
				err = w.Close()
			}
			if err != nil {
				t.Fatal(err)
			}
			return out.Bytes()
		}
	}
	return map[string]func([]byte) []byte{
		"plain": func(b []byte) []byte { return b },
		"gzip":  via(func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil }),
		"xz":    via(func(w io.Writer) (io.WriteCloser, error) { return xz.NewWriter(w) }),
		"lzma":  via(func(w io.Writer) (io.WriteCloser, error) { return lzma.NewWriter(w) }),
		"zstd":  via(func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) }),
		"lz4":   lz4Store,
	}
}

func TestUnpack(t *testing.T) {
	for name, compress := range compressors(t) {
		for _, crc := range []bool{false, true} {
			for _, padding := range []int{0, 512} {
				c, err := unpack(append(compress(archive(crc, sample...)), make([]byte, padding)...), 1<<20)
				if err != nil {
					t.Errorf("%s crc %v padding %d: %v", name, crc, padding, err)
					continue
				}
				check(t, c)
			}
		}
	}
}

func TestConcatenated(t *testing.T) {
	one := archive(false, entry{name: "one", mode: unix.S_IFREG | 0o644, data: "1"},
		entry{name: "both", mode: unix.S_IFREG | 0o644, data: "first and longer"}, entry{name: "kind", mode: unix.S_IFDIR | 0o755})
	two := archive(false, entry{name: "two", mode: unix.S_IFREG | 0o644, data: "2"},
		entry{name: "both", mode: unix.S_IFREG | 0o600, data: "second"}, entry{name: "kind", mode: unix.S_IFREG | 0o644, data: "file"})
	z := compressors(t)
	for _, pair := range [][2]string{{"plain", "plain"}, {"plain", "gzip"}, {"gzip", "plain"}, {"gzip", "gzip"}, {"gzip", "zstd"},
		{"xz", "plain"}, {"plain", "xz"}, {"lz4", "gzip"}} {
		b := append(z[pair[0]](one), make([]byte, 100)...)
		c, err := unpack(append(b, z[pair[1]](two)...), 1<<20)
		if err != nil {
			t.Errorf("%v: %v", pair, err)
			continue
		}
		for name, want := range map[string]string{"one": "1", "two": "2", "both": "second", "kind": "file"} {
			if s := content(t, c, name); s != want {
				t.Errorf("%v: %s has %q, want %q", pair, name, s, want)
			}
		}
	}
}

// bzip2 has no compressor in the library: an empty stream between archives shows that the format is recognised.
func TestBzip2(t *testing.T) {
	const empty = "QlpoORdyRThQkAAAAAA="
	b, err := base64.StdEncoding.DecodeString(empty)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := unpack(b, 1000); err != nil {
		t.Error(err)
	}
}

func TestDamaged(t *testing.T) {
	good := archive(true, sample...)
	for n := 1; n < len(good)-130; n += 7 {
		if _, err := unpack(good[:n], 1<<20); err == nil && n%4 != 0 {
			t.Errorf("cut to %d bytes: no error", n)
		}
	}
	bad := bytes.Replace(good, []byte("#!shell"), []byte("#!shelk"), 1)
	if _, err := unpack(bad, 1<<20); err == nil || !strings.Contains(err.Error(), "checksum") {
		t.Errorf("wrong checksum: %v", err)
	}
	for _, s := range []string{"hello, world", "070701zz", "\x89LZO\x00\r\n"} {
		if _, err := unpack([]byte(s), 1<<20); err == nil {
			t.Errorf("%q: no error", s)
		}
	}
	if _, err := unpack(nil, 0); err != nil {
		t.Errorf("empty: %v", err)
	}
}

func TestBomb(t *testing.T) {
	big := archive(false, entry{name: "big", mode: unix.S_IFREG | 0o644, data: strings.Repeat("\x00", 4<<20)})
	for name, compress := range compressors(t) {
		b := compress(big)
		c, err := unpack(b, 1<<20)
		if !errors.Is(err, ErrTooBig) {
			t.Errorf("%s: %v", name, err)
		}
		if a, err := vfs.Stat(c, nil, "big", 0); err == nil && a.Size > 1<<20 {
			t.Errorf("%s: %d bytes were unpacked", name, a.Size)
		}
	}
	// Zeroes after an archive are skipped, but count.
	if _, err := unpack(compressors(t)["gzip"](make([]byte, 4<<20)), 1<<20); !errors.Is(err, ErrTooBig) {
		t.Errorf("zeroes: %v", err)
	}
}

func FuzzUnpack(f *testing.F) {
	good := archive(true, sample...)
	for _, compress := range compressors(f) {
		f.Add(compress(good))
	}
	f.Add(good[:len(good)/2])
	f.Add(archive(false, entry{name: "../../x", mode: unix.S_IFREG, data: "y"}, entry{name: "a/b/c", mode: unix.S_IFDIR}))
	f.Add(append(append([]byte{}, good...), good...))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 1<<16 {
			return
		}
		const limit = 1 << 20
		before := tmpfs.Usage()
		c, _ := unpack(b, limit) // errors are fine, panics and too much memory are not
		if n := tmpfs.Usage() - before; n > 2*limit+4096*limit/headerLen {
			t.Errorf("%d bytes for a limit of %d", n, limit)
		}
		c.Ctx.Release()
	})
}
