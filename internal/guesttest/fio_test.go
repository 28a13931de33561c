package guesttest

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// fioScript has fio write files in each way that it has, several jobs at once, and read back what it wrote, before and after
// the disk was mounted anew.
const fioScript = `
mkdir /f /m; mount -t ext4 -o ro /dev/ubdb /f || exit 1
run() {
	/f/ld.so --library-path /f/lib /f/fio --directory=/m --size=$SIZE --numjobs=2 --thread --verify_fatal=1 --end_fsync=1 --fallocate=none --output=/tmp/out "$@" ||
		{ echo "failed: $*"; cat /tmp/out; exit 1; }
}
job() {
	mount -t ext4 /dev/ubdc /m || exit 1
	run --name=job --do_verify=1 "$@"
	umount /m && mount -t ext4 /dev/ubdc /m || exit 1
	run --name=job --verify_only "$@"
	rm -f /m/job*
	umount /m || exit 1
	echo "$1 $2 $3: verified"
}
for engine in $ENGINES; do
	job --ioengine=$engine --rw=randwrite --direct=0 --bsrange=4k-64k --verify=crc32c --fsync=50
done
job --ioengine=psync --rw=randwrite --direct=1 --bsrange=4k-64k --verify=sha256
job --ioengine=psync --rw=write --direct=0 --bs=1024 --verify=md5
job --ioengine=psync --rw=randrw --direct=0 --bs=512 --verify=crc64 --fdatasync=100
`

// TestFio has fio (fio(1)) verify what it writes to disks. With GUESTTEST_LONG the files are larger and the disks of more kinds.
func TestFio(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: boots guests")
	}
	fio, mke2fs, e2fsck := hostTool(t, "fio", "fio"), hostTool(t, "mke2fs", "e2fsprogs"), hostTool(t, "e2fsck", "e2fsprogs")
	need(t, guest{}.works(t))
	dir := t.TempDir()
	tools := withLibraries(t, dir, fio)
	kinds, size, engines := []string{"-t ext4 -b 4096"}, "1m", "psync mmap"
	if long() {
		size, engines = "16m", "psync sync pvsync2 vsync mmap posixaio"
		kinds = append(kinds, "-t ext4 -b 1024", "-t ext3 -b 2048", "-t ext4 -O ^has_journal", "-t ext4 -O inline_data")
	}
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			disk := filepath.Join(dir, "disk")
			defer os.Remove(disk)
			if out, err := exec.Command(mke2fs, append(strings.Fields(kind), "-q", "-F", disk, "128M")...).CombinedOutput(); err != nil {
				t.Fatalf("mke2fs: %v\n%s", err, out)
			}
			g := guest{args: []string{"ubd1r=" + tools, "ubd2=" + disk}, limit: 10 * time.Minute, command: "SIZE=" + size + "; ENGINES='" + engines + "'\n" + fioScript}
			out, log, err := g.run(t)
			if err != nil || strings.Count(out, ": verified\n") != len(strings.Fields(engines))+3 || broken(log) != "" {
				t.Fatalf("%v\n%s%s", err, tail(out), tail(log))
			}
			if out, err := exec.Command(e2fsck, "-fn", disk).CombinedOutput(); err != nil {
				t.Errorf("e2fsck: %v\n%s", err, out)
			}
		})
	}
}

// withLibraries makes an image with a program of the host, the libraries that it needs in lib and what loads them as ld.so.
func withLibraries(t *testing.T, dir, program string) string {
	t.Helper()
	tree, image := filepath.Join(dir, "tree"), filepath.Join(dir, "tools")
	need(t, os.MkdirAll(filepath.Join(tree, "lib"), 0o755))
	put := func(from, to string) {
		b, err := os.ReadFile(from)
		need(t, err)
		need(t, os.WriteFile(filepath.Join(tree, to), b, 0o755))
	}
	put(program, filepath.Base(program))
	out, err := exec.Command("ldd", program).Output()
	if err != nil {
		t.Skipf("ldd %s: %v", program, err)
	}
	for _, lib := range regexp.MustCompile(`/\S+`).FindAllString(string(out), -1) {
		if strings.HasPrefix(filepath.Base(lib), "ld-linux") {
			put(lib, "ld.so")
		} else {
			put(lib, filepath.Join("lib", filepath.Base(lib)))
		}
	}
	if out, err := exec.Command(hostTool(t, "mke2fs", "e2fsprogs"), "-q", "-t", "ext4", "-d", tree, image, "256M").CombinedOutput(); err != nil {
		t.Fatalf("mke2fs: %v\n%s", err, out)
	}
	return image
}
