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
	e2fsck -fy /dev/ubdb >/dev/null 2>&1 || [ $? = 1 ]
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
			for _, kind := range []string{"-t ext4", "-t ext4 -O ^metadata_csum,^64bit", "-t ext4 -O ^has_journal", "-t ext4 -O ^extent,^64bit,^flex_bg",
				"-t ext4 -O inline_data", "-t ext4 -O meta_bg,^resize_inode", "-t ext4 -O ^dir_index,^huge_file",
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

// loopScript works with loop devices as losetup, mount and sfdisk do, and maps one.
const loopScript = `
set -e
cd /root; truncate -s 32M img
python3 -c "
import struct
b = bytearray(512); b[510:] = b'\x55\xaa'
for i, (at, n) in enumerate([(2048, 16384), (18432, 32768)]): struct.pack_into('<B3xB3xII', b, 446 + 16*i, 0, 0x83, at, n)
open('img', 'r+b').write(b)"
L=$(losetup -f --show -P img); echo $L; ls $L*
cat /sys/block/loop0/loop/backing_file /sys/block/loop0/loop/partscan
mke2fs -q -F ${L}p2; mount ${L}p2 /mnt; cp /etc/passwd /mnt; umount /mnt; e2fsck -fn ${L}p2 >/dev/null 2>&1 && echo checked
losetup --direct-io=on $L; losetup -n -O DIO $L
losetup -d $L; ls $L*
truncate -s 8M fs; mke2fs -q -F -t ext4 fs; mount -o loop fs /mnt; cp /etc/passwd /mnt; losetup -n -O AUTOCLEAR,BACK-FILE -j fs
umount /mnt; losetup -j fs; e2fsck -fn fs >/dev/null 2>&1 && echo checked
truncate -s 1M data; L=$(losetup -f --show data)
dd if=/dev/zero bs=512 count=2048 status=none | tr '\0' x | dd of=$L bs=512 status=none
tr -d x <data | wc -c
python3 - $L <<'END'
import mmap, os, sys
f = os.open(sys.argv[1], os.O_RDWR)
d = os.open("data", os.O_RDWR)
m = mmap.mmap(f, 1 << 20)
print(m[:3], m[-3:])
m[4096:4100] = b"mmap"
print(os.pread(d, 6, 4095), os.pread(f, 6, 4095))
os.pwrite(f, b"loop", 8192)
print(m[8191:8197], os.pread(d, 6, 8191))
os.pwrite(d, b"file", 500000)
print(m[499999:500005])
m.flush()
try:
    mmap.mmap(f, 1 << 20, offset=1 << 20)
except Exception as e:
    print(type(e).__name__)
m.close()
END
losetup -d $L; md5sum data | cut -c1-8
L=$(losetup -f --show -o 512 data); python3 -c "import mmap,os; mmap.mmap(os.open('$L', os.O_RDWR), 4096)" 2>&1 | tail -1; losetup -d $L
L=$(losetup -f --show data); truncate -s 4096 data; blockdev --getsize64 $L; dd if=$L bs=4096 skip=1 count=1 status=none | tr -d '\0' | wc -c
losetup -c $L; blockdev --getsize64 $L; losetup -d $L; losetup -a
`

const loopWant = `/dev/loop0
/dev/loop0
/dev/loop0p1
/dev/loop0p2
/root/img
1
checked
  1
/dev/loop0
        1 /root/fs
checked
0
b'xxx' b'xxx'
b'xmmapx' b'xmmapx'
b'xloopx' b'xloopx'
b'xfilex'
652b4ed7
OSError: [Errno 19] No such device
1048576
0
4096
`

// TestDebianLoop works with loop devices in a guest.
func TestDebianLoop(t *testing.T) {
	image := debian(t)
	dir, err := os.MkdirTemp(work, "loop")
	need(t, err)
	defer os.RemoveAll(dir)
	need(t, os.Chmod(dir, 0o777))
	g := guest{args: []string{"ubd0=" + dir + "/layer," + image, "rw"}, unprivileged: os.Geteuid() == 0, limit: 2 * time.Minute,
		command: "bash -c '" + strings.ReplaceAll(loopScript, "'", `'\''`) + "'"}
	out, log, err := g.run(t)
	if err != nil || out != loopWant || broken(log) != "" {
		t.Fatalf("%v\n%s%s", err, diff(loopWant, out), tail(log))
	}
}
