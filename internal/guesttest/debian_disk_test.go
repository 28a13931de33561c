package guesttest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// mkfsScript makes file systems of all kinds on /dev/ubdb with Debian's own tools, works on them, changes their size both ways
// and has e2fsck look at them after each step. The last one stays for the host's e2fsck.
const mkfsScript = `
set -e
mkdir -p /m
sum() { (cd /m && find . -type f -not -path './lost+found/*' -print0 | sort -z | xargs -0 md5sum | md5sum; find . | wc -l); }
check() { e2fsck -fn /dev/ubdb >/log 2>&1 || { echo "$1: e2fsck:"; cat /log; exit 1; }; }
while read -r kind; do
	mke2fs -q -F $kind /dev/ubdb 96M >/log 2>&1 || { echo "mke2fs $kind:"; cat /log; exit 1; }
	check "new $kind"
	mount /dev/ubdb /m
	cp -a /usr/share/perl5 /etc /m 2>/dev/null || cp -a /etc /m
	dd if=/dev/urandom of=/m/big bs=100k count=150 status=none
	rm -rf /m/etc/[a-m]*
	before=$(sum)
	umount /m
	check "used $kind"
	tune2fs -L label -c 5 -i 3d -m 1 /dev/ubdb >/dev/null
	e2fsck -fy /dev/ubdb >/dev/null 2>&1 || [ $? = 1 ]
	resize2fs /dev/ubdb 180M >/log 2>&1 || { echo "grow $kind:"; cat /log; exit 1; }
	check "grown $kind"
	mount /dev/ubdb /m; [ "$(sum)" = "$before" ] || echo "$kind: differs after growing"
	dd if=/dev/zero of=/m/more bs=1M count=60 status=none; rm /m/more; umount /m
	check "used again $kind"
	resize2fs /dev/ubdb 70M >/log 2>&1 || { echo "shrink $kind:"; cat /log; exit 1; }
	check "shrunk $kind"
	mount /dev/ubdb /m; [ "$(sum)" = "$before" ] || echo "$kind: differs after shrinking"
	umount /m
	[ "$(blkid -s LABEL -o value /dev/ubdb)" = label ] || echo "$kind: no label"
	echo "$kind: good"
done
`

// TestDebianDisks makes, checks, resizes and tunes file systems of all kinds in a guest.
func TestDebianDisks(t *testing.T) {
	image := debian(t)
	e2fsck := hostTool(t, "e2fsck", "e2fsprogs")
	kinds := []string{"-t ext4", "-t ext4 -b 1024 -O ^metadata_csum,^64bit", "-t ext2 -b 2048"}
	if long() {
		kinds = nil
		for _, size := range []string{"1024", "2048", "4096"} {
			for _, kind := range []string{"-t ext4", "-t ext4 -O ^metadata_csum,^64bit", "-t ext4 -O ^has_journal", "-t ext4 -O ^extent,^flex_bg",
				"-t ext4 -O inline_data", "-t ext4 -O meta_bg,^resize_inode", "-t ext4 -O ^dir_index,^huge_file", "-t ext4 -O sparse_super2,^resize_inode",
				"-t ext4 -I 128", "-t ext4 -O uninit_bg,^metadata_csum", "-t ext3", "-t ext2"} {
				kinds = append(kinds, kind+" -b "+size)
			}
		}
	}
	dir, err := os.MkdirTemp(work, "disks")
	need(t, err)
	defer os.RemoveAll(dir)
	need(t, os.Chmod(dir, 0o777))
	disk := filepath.Join(dir, "disk")
	need(t, os.WriteFile(disk, nil, 0o666))
	need(t, os.Chmod(disk, 0o666))
	need(t, os.Truncate(disk, 256<<20))
	script := mkfsScript[:strings.LastIndex(mkfsScript, "done\n")] + "done <<'END'\n" + strings.Join(kinds, "\n") + "\nEND\n"
	g := guest{args: []string{"ubd0=" + dir + "/layer," + image, "rw", "ubd1=" + disk}, unprivileged: os.Geteuid() == 0,
		limit: time.Duration(2+len(kinds)) * time.Minute, command: "bash -c '" + strings.ReplaceAll(script, "'", `'\''`) + "'"}
	out, log, err := g.run(t)
	if want := strings.Join(kinds, ": good\n") + ": good\n"; err != nil || out != want || broken(log) != "" {
		t.Fatalf("%v\n%s%s", err, out, tail(log))
	}
	if out, err := exec.Command(e2fsck, "-fn", disk).CombinedOutput(); err != nil {
		t.Errorf("the host's e2fsck: %v\n%s", err, out)
	}
}
