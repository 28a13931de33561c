package guesttest

import (
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestFullHostDisk has the image, or its COW file, on a file system of the host that becomes full. The guest hears of it,
// the log names file and reason, and what was durable before is there when the host has room again.
func TestFullHostDisk(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: boots guests")
	}
	mke2fs, e2fsck := hostTool(t, "mke2fs", "e2fsprogs"), hostTool(t, "e2fsck", "e2fsprogs")
	unshare := hostTool(t, "unshare", "util-linux")
	if out, err := exec.Command(unshare, "-Urm", "mount", "-t", "tmpfs", "tmpfs", "/mnt").CombinedOutput(); err != nil {
		t.Skipf("no user namespace with mounts here: %v %s", err, out)
	}
	need(t, guest{}.works(t))
	path, err := linux()
	need(t, err)
	const first = `set -e
mount -t ext4 /dev/ubdb /mnt
echo kept >/mnt/kept
sync
if dd if=/dev/zero of=/mnt/big bs=64k count=400; then echo "the disk is not full"; exit 1; fi
cat /mnt/kept
umount /mnt
dmesg | grep "ubd: writing"
`
	const second = `set -e
mount -t ext4 /dev/ubdb /mnt
cat /mnt/kept
rm -f /mnt/big
dd if=/dev/zero of=/mnt/big bs=64k count=150
echo more >/mnt/more
umount /mnt
`
	for name, script := range map[string]string{
		"raw": `"$MKE2FS" -q -t ext4 -b 4096 "$DIR/disk" 64M; DISK=$DIR/disk`,
		"COW": `"$MKE2FS" -q -t ext4 -b 4096 "$HOME/disk" 64M; DISK=$DIR/layer,$HOME/disk`,
	} {
		t.Run(name, func(t *testing.T) {
			dir, err := os.MkdirTemp(work, "full")
			need(t, err)
			cmd := exec.Command(unshare, "-Urm", "sh", "-ec", `
mount -t tmpfs -o size=40m tmpfs "$DIR"
dd if=/dev/zero of="$DIR/other" bs=1M count=30 2>/dev/null
`+script+`
"$LINUX" quiet mem=128M ubd1="$DISK" exec="$FIRST" || exit 3
if [ "$DISK" = "$DIR/disk" ]; then "$E2FSCK" -fp "$DIR/disk" || [ $? = 1 ]; fi
rm "$DIR/other"
"$LINUX" quiet mem=128M ubd1="$DISK" exec="$SECOND" || exit 4
if [ "$DISK" = "$DIR/disk" ]; then "$E2FSCK" -fn "$DIR/disk"; fi
`)
			cmd.Env = append(os.Environ(), "HOME="+t.TempDir(), "DIR="+dir, "LINUX="+path, "MKE2FS="+mke2fs, "E2FSCK="+e2fsck,
				"FIRST="+first, "SECOND="+second)
			out, err := cmd.CombinedOutput()
			text := string(out)
			if err != nil || strings.Count(text, "kept\n") != 2 || broken(text) != "" ||
				!strings.Contains(text, "writing "+dir) || !strings.Contains(text, "no space left on device") {
				t.Errorf("%v\n%s", err, text)
			}
		})
	}
}

// TestCutDisk cuts the image of a running guest. What is gone gives EIO, and nothing else ends.
func TestCutDisk(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: boots guests")
	}
	data := strings.Repeat("0123456789abcde\n", 1<<16)
	image := diskImage(t, map[string]string{"data/file": data})
	file := filepath.Join(filepath.Dir(image), "plain")
	need(t, os.WriteFile(file, []byte(data), 0o644))
	need(t, guest{}.works(t))
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	// The shell and all that it runs are in memory by then, but for what is asked for.
	cmd := guest{args: []string{"ubd1=" + file, "ubd2r=" + image}, command: `
mount -t ext4 -o ro /dev/ubdc /mnt
wc -c </dev/ubdb; wc -c </mnt/data/file
echo cut; read x
dd if=/dev/ubdb bs=4k count=1 skip=10 2>/dev/null | wc -c
dd if=/dev/ubdb of=/dev/null bs=4k skip=200 && echo "read what is gone"
cat /mnt/data/file >/dev/null && echo "read what is gone"
echo end`}.cmd(ctx, t)
	in, err := cmd.StdinPipe()
	need(t, err)
	out, err := cmd.StdoutPipe()
	need(t, err)
	var log strings.Builder
	cmd.Stderr = &log
	need(t, cmd.Start())
	seen := ""
	for p := make([]byte, 512); !strings.Contains(seen, "cut\n"); {
		n, err := out.Read(p)
		seen += string(p[:n])
		if err != nil {
			t.Fatalf("%v\n%s%s", err, seen, log.String())
		}
	}
	need(t, os.Truncate(file, 500<<10))
	need(t, os.Truncate(image, 64<<10))
	_, err = io.WriteString(in, "go\n")
	need(t, err)
	rest, err := io.ReadAll(out)
	need(t, err)
	err = cmd.Wait()
	if want := "1048576\n1048576\ncut\n4096\ndd: /dev/ubdb: Input/output error\ncat: /mnt/data/file: Input/output error\nend\n"; err != nil || seen+string(rest) != want || broken(log.String()) != "" {
		t.Errorf("%v, printed %q, want %q\n%s", err, seen+string(rest), want, log.String())
	}
}

// TestDiscard removes a file from a disk that is mounted with discard: the host gets its space back, but not with flag t.
func TestDiscard(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: boots guests")
	}
	mke2fs := hostTool(t, "mke2fs", "e2fsprogs")
	need(t, guest{}.works(t))
	dir, err := os.MkdirTemp(work, "discard")
	need(t, err)
	if f, err := os.Create(filepath.Join(dir, "hole")); err == nil {
		err = syscall.Fallocate(int(f.Fd()), 3, 0, 4096) // FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
		f.Close()
		if err != nil {
			t.Skipf("the host cannot punch holes into files of %s: %v", dir, err)
		}
	}
	for flags, freed := range map[string]bool{"": true, "t": false} {
		image := filepath.Join(dir, "image"+flags)
		if out, err := exec.Command(mke2fs, "-q", "-t", "ext4", image, "64M").CombinedOutput(); err != nil {
			t.Fatalf("mke2fs: %v\n%s", err, out)
		}
		g := guest{args: []string{"ubd1" + flags + "=" + image}, limit: time.Minute, command: `set -e
mount -t ext4 -o discard /dev/ubdb /mnt
dd if=/dev/urandom of=/mnt/file bs=64k count=400 2>/dev/null
sync
rm /mnt/file
umount /mnt`}
		if out, log, err := g.run(t); err != nil || broken(log) != "" {
			t.Fatalf("%v\n%s%s", err, out, log)
		}
		var st syscall.Stat_t
		need(t, syscall.Stat(image, &st))
		if (st.Blocks*512 < 20<<20) != freed {
			t.Errorf("flags %q: the host has %d KiB of the image", flags, st.Blocks/2)
		}
	}
}
