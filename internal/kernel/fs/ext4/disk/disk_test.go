package disk

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

func tool(t *testing.T, name string) string {
	for _, dir := range []string{"/usr/sbin/", "/sbin/"} {
		if _, err := os.Stat(dir + name); err == nil {
			return dir + name
		}
	}
	t.Skipf("%s is not installed (package e2fsprogs)", name)
	return ""
}

// image is a file system made by mke2fs with 4 KiB blocks.
func image(t *testing.T) []byte {
	dir := t.TempDir()
	for i := range 40 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("file%d", i)), bytes.Repeat([]byte("x"), i*500), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	img := filepath.Join(t.TempDir(), "img")
	out, err := exec.Command(tool(t, "mke2fs"), "-q", "-F", "-t", "ext4", "-b", "4096", "-I", "256", "-O", "metadata_csum,64bit",
		"-d", dir, img, "16M").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	b, err := os.ReadFile(img)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestRealBytes decodes what mke2fs wrote, verifies checksums, and encodes it again to the same bytes.
func TestRealBytes(t *testing.T) {
	img := image(t)
	raw := img[SuperOffset : SuperOffset+SuperSize]
	var s Super
	s.Decode(raw)
	if s.Magic != SuperMagic || s.InodeSize != 256 || s.BlocksCount != 4096 || s.LogBlockSize != 2 {
		t.Fatalf("superblock %+v", s)
	}
	if SuperChecksum(raw) != s.Checksum {
		t.Error("superblock checksum")
	}
	again := append([]byte(nil), raw...)
	s.Encode(again)
	if !bytes.Equal(again, raw) {
		t.Error("superblock is different after Encode")
	}
	var g GroupDesc
	desc := img[4096 : 4096+int(s.DescSize)]
	g.Decode(desc)
	if sum, ok := s.GroupChecksum(0, desc); !ok || sum != g.Checksum {
		t.Errorf("group checksum %x, stored %x", sum, g.Checksum)
	}
	again = append([]byte(nil), desc...)
	g.Encode(again)
	if !bytes.Equal(again, desc) {
		t.Error("group descriptor is different after Encode")
	}
	used := 0
	for ino := uint32(1); ino <= s.InodesPerGroup; ino++ {
		at := int(g.InodeTable)*4096 + int(ino-1)*256
		b := img[at : at+256]
		var in Inode
		in.Decode(b)
		if in.Mode == 0 {
			continue
		}
		used++
		if sum, wide := InodeChecksum(s.Seed(), ino, b); sum != in.Checksum || !wide {
			t.Errorf("inode %d: checksum %x, stored %x", ino, sum, in.Checksum)
		}
		again := append([]byte(nil), b...)
		in.Encode(again)
		if !bytes.Equal(again, b) {
			t.Errorf("inode %d is different after Encode", ino)
		}
		if in.Mode>>12 == 4 && in.Flags&InodeExtents != 0 {
			checkDir(t, img, &s, ino, &in)
		}
	}
	if used < 42 {
		t.Errorf("%d inodes in use", used)
	}
}

func checkDir(t *testing.T, img []byte, s *Super, ino uint32, in *Inode) {
	var e Extent
	e.Decode(in.Block[ExtentHeaderSize:])
	var back [ExtentSize]byte
	e.Encode(back[:])
	if !bytes.Equal(back[:], in.Block[ExtentHeaderSize:][:ExtentSize]) {
		t.Errorf("inode %d: extent is different after Encode", ino)
	}
	b := img[e.Start*4096:][:4096]
	seed := InodeSeed(s.Seed(), ino, in.Generation)
	if sum, stored, ok := DirChecksum(seed, b); !ok || sum != stored {
		t.Errorf("inode %d: directory checksum %x, stored %x", ino, sum, stored)
	}
	again := append([]byte(nil), b...)
	for at := 0; at < len(b); {
		d, err := DecodeDirent(b, at, true)
		if err != nil {
			t.Fatal(err)
		}
		if d.Type != ftTail {
			EncodeDirent(again, at, &d, true)
		}
		at += d.RecLen
	}
	PutDirTail(seed, again)
	if !bytes.Equal(again, b) {
		t.Errorf("inode %d: directory block is different after Encode", ino)
	}
}

// TestHash compares the hashes with those of debugfs.
func TestHash(t *testing.T) {
	debugfs := tool(t, "debugfs")
	names := []string{"a", "abc", "lost+found", "0123456789abcdef", "0123456789abcdef0", "0123456789abcdef0123456789abcdef",
		"0123456789abcdef0123456789abcdefX", strings.Repeat("long", 60), "h\xe4user", "\xff\xfe\x80"}
	seedText := "01020304-0506-0708-090a-0b0c0d0e0f10"
	seed := [4]uint32{0x04030201, 0x08070605, 0x0c0b0a09, 0x100f0e0d}
	var script strings.Builder
	versions := []string{"legacy", "half_md4", "tea"}
	for _, v := range versions {
		for _, n := range names {
			fmt.Fprintf(&script, "dx_hash -h %s -s %s %s\n", v, seedText, n)
		}
	}
	f := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(f, []byte(script.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(debugfs, "-f", f).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	found := regexp.MustCompile(`is 0x([0-9a-f]+) \(minor 0x([0-9a-f]+)\)`).FindAllStringSubmatch(string(out), -1)
	if len(found) != len(versions)*len(names) {
		t.Fatalf("%d hashes in\n%s", len(found), out)
	}
	for i, m := range found {
		want, _ := strconv.ParseUint(m[1], 16, 32)
		minor, _ := strconv.ParseUint(m[2], 16, 32)
		v, n := i/len(names), names[i%len(names)]
		h, mi, ok := DirHash([]byte(n), uint8(v), seed)
		if !ok || uint64(h) != want || uint64(mi) != minor {
			t.Errorf("%s %q: %x %x, want %x %x", versions[v], n, h, mi, want, minor)
		}
	}
}

func TestCRC16(t *testing.T) {
	if c := CRC16(0, []byte("123456789")); c != 0xbb3d { // the check value of CRC-16/ARC
		t.Errorf("%x", c)
	}
	if c := ^CRC32C(^uint32(0), []byte("123456789")); c != 0xe3069283 {
		t.Errorf("%x", c)
	}
}

// TestIteratorsDoNotPanic feeds random bytes to everything that walks.
func TestIteratorsDoNotPanic(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 20000 {
		b := make([]byte, 8*(1+rng.IntN(64)))
		for i := range b {
			if rng.IntN(3) == 0 {
				b[i] = byte(rng.Uint32())
			}
		}
		if len(b) >= 4 && rng.IntN(2) == 0 {
			le.PutUint32(b, XattrMagic)
			if len(b) > 12 {
				le.PutUint32(b[8:], 1)
			}
		}
		_ = BlockXattrs(b, func(Xattr) bool { return true })
		_ = InodeXattrs(b, func(Xattr) bool { return true })
		_, _ = ACLToXattr(b)
		_, _ = ACLFromXattr(b)
		for at := 0; at < len(b); {
			d, err := DecodeDirent(b, at, rng.IntN(2) == 0)
			if err != nil {
				break
			}
			at += d.RecLen
		}
		if n, err := DecodeDxNode(b, DxNodeEntries, rng.IntN(2) == 0); err == nil {
			n.Find(rng.Uint32())
			n.Block(n.Count - 1)
		}
		_, _ = DecodeDxRoot(b)
		_, _ = CheckExtentNode(b, 0)
		if len(b) >= 128 {
			var in Inode
			in.Decode(b)
			InodeChecksum(1, 2, b)
		}
	}
}

// TestFindDirent searches blocks of entries, whole and damaged ones, and compares with a walk over all entries.
func TestFindDirent(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	names := []string{"a", "bc", "def", "name", "other"}
	found := 0
	for range 20000 {
		b := make([]byte, []int{256, 1024, 1 << 16}[rng.IntN(3)])
		filetype := rng.IntN(2) == 0
		for at := 0; at < len(b); {
			d := Dirent{Inode: rng.Uint32N(3), Type: FTReg, Name: []byte(names[rng.IntN(len(names))])}
			d.RecLen = DirentLen(len(d.Name)) + 4*rng.IntN(3)
			if len(b)-at-d.RecLen < 16 || len(b) == 1<<16 && rng.IntN(40) == 0 {
				d.RecLen = len(b) - at
			}
			EncodeDirent(b, at, &d, filetype)
			at += d.RecLen
		}
		for range rng.IntN(3) {
			b[rng.IntN(min(len(b), 256))] ^= 1 << rng.IntN(8)
		}
		name := names[rng.IntN(len(names))]
		wantPrev, wantAt, wantErr := -1, -1, error(nil)
		for at := 0; at < len(b); {
			d, err := DecodeDirent(b, at, filetype)
			if err != nil {
				wantAt, wantErr = at, err
				break
			}
			if d.Inode != 0 && string(d.Name) == name {
				wantAt = at
				found++
				break
			}
			wantPrev = at
			at += d.RecLen
		}
		if prev, at, err := FindDirent(b, 0, name, filetype); prev != wantPrev || at != wantAt || err != wantErr {
			t.Fatalf("%q: %d, %d, %v; not %d, %d, %v", name, prev, at, err, wantPrev, wantAt, wantErr)
		}
	}
	if found < 1000 {
		t.Errorf("found %d", found)
	}
}
