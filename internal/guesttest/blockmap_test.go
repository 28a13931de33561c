package guesttest

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// blkmapWant is what testdata/guest/disk/blkmap.c prints.
const blkmapWant = `lseek(fd, 0, SEEK_END): 66048
mprotect(r, 4096, PROT_READ | PROT_WRITE): EACCES
backing backing backing
pread(ro, b, 16, 4096): 16
stored1 stored1 private
pwrite(fd, b, 4096, 8192): 4096
ww ww
pwrite(fd, "sector", 6, 8192 + 512): 6
wwsector
msync(s, 1 << 16, MS_SYNC): 0
fsync(fd): 0
pread(ro, b, 4096, 65536): 512
e
0 7
munmap(s, 1 << 17): 0
pread(ro, b, 16, 4096): 16
stored1
pread(d, a, 4096, 4096): 4096
pread(d, a + 512, 512, 512): 512
pread(d, a, 4095, 4096): EINVAL
pread(d, a, 512, 511): EINVAL
pread(d, a + 1, 512, 4096): EINVAL
pwrite(d, a, 512, 12288): 512
pwrite(d, a + 8, 512, 12288): EINVAL
pwrite(d, a, 100, 12288): EINVAL
stored1
`

// TestBlockMappings maps the special files of a raw disk and of a COW disk, and looks for what was stored in the files of
// the host.
func TestBlockMappings(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: boots guests")
	}
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skip("no gcc on this machine")
	}
	bin := filepath.Join(t.TempDir(), "blkmap")
	if out, err := exec.Command("gcc", "-O1", "-static", "-w", "-o", bin, filepath.Join(testdata, "disk/blkmap.c")).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	b, err := os.ReadFile(bin)
	need(t, err)
	root := diskImage(t, map[string]string{"blkmap": string(b)})
	dir := filepath.Dir(root)
	need(t, guest{}.works(t))
	for _, kind := range []string{"raw", "cow"} {
		file := filepath.Join(dir, kind)
		disk := make([]byte, 65536+512)
		copy(disk[4096:], "backing")
		copy(disk[12288:], "backing")
		need(t, os.WriteFile(file, disk, 0o644))
		option, merged := file, file
		if kind == "cow" {
			option, merged = file+".layer,"+file, file+".merged"
		}
		g := guest{args: []string{"ubd0r=" + root, "ubd1=" + option}, command: "/blkmap /dev/ubdb", limit: time.Minute}
		out, log, err := g.run(t)
		if err != nil || out != blkmapWant || broken(log) != "" {
			t.Errorf("%s: %v\n%s%s", kind, err, diff(blkmapWant, out), log)
		}
		if kind == "cow" {
			if b, _ := os.ReadFile(file); string(b) != string(disk) {
				t.Errorf("the backing file has changed")
			}
			moo := exec.Command("uml_moo", file+".layer", merged)
			if _, err := exec.LookPath("uml_moo"); err != nil {
				path, err := linux()
				need(t, err)
				moo = exec.Command(path, moo.Args[1:]...)
				moo.Args[0] = "uml_moo"
			}
			if out, err := moo.CombinedOutput(); err != nil {
				t.Fatalf("uml_moo: %v\n%s", err, out)
			}
		}
		copy(disk[4096:], "stored1")
		for i := range 4096 {
			disk[8192+i] = 'w'
		}
		copy(disk[8192+512:], "sector")
		copy(disk[12288:12288+512], disk[4096:])
		disk[65536+511] = 'e'
		got, err := os.ReadFile(merged)
		need(t, err)
		for i := range disk {
			if len(got) != len(disk) || got[i] != disk[i] {
				t.Errorf("%s: %d bytes, want %d; byte %d differs", kind, len(got), len(disk), i)
				break
			}
		}
	}
}
