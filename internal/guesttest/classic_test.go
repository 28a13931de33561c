package guesttest

import (
	"bytes"
	"context"
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// classicInit is what the classic User Mode Linux does with a disk, and ourPart what we do: each makes files, removes some of the
// other's and checks what it finds.
const (
	classicInit = `#!/bin/sh
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -o remount,rw /
if [ -f /ours.md5 ]; then $b md5sum -c /ours.md5 && echo found-ours; $b rm -f /o-1*; fi
i=0; while [ $i -lt 150 ]; do echo $i > /c-$i; i=$((i+1)); done
$b dd if=/dev/urandom of=/classic bs=64k count=20
$b md5sum /classic > /classic.md5
$b sync
$b mount -o remount,ro /
echo classic-done
$b halt -f
`
	ourPart = `b=/bin/busybox; cd /
if [ -f /classic.md5 ]; then $b md5sum -c /classic.md5 && echo found-classic; $b rm -f /c-1*; $b mkdir -p /moved; $b mv /c-* /moved; fi
i=0; while [ $i -lt 150 ]; do echo $i > /o-$i; i=$((i+1)); done
$b dd if=/dev/urandom of=/ours bs=64k count=20
$b md5sum /ours > /ours.md5
echo ours-done`
)

// TestClassic lets the classic User Mode Linux and us work in turn on one COW file, which each makes once.
func TestClassic(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: boots guests")
	}
	for _, tool := range []string{"linux.uml", "uml_moo", "mke2fs", "e2fsck"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed (packages user-mode-linux, uml-utilities, e2fsprogs)", tool)
		}
	}
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil || !static(busybox) {
		t.Skip("no static /bin/busybox on this machine (package busybox-static)")
	}
	need(t, guest{}.works(t))
	dir := t.TempDir()
	launch, tree := filepath.Join(dir, "launch"), filepath.Join(dir, "root")
	need(t, build(launch, root, "./internal/bench"))
	for _, d := range []string{"root/bin", "root/proc", "root/dev", "root/sys"} {
		need(t, os.MkdirAll(filepath.Join(dir, d), 0o755))
	}
	need(t, os.WriteFile(filepath.Join(dir, "root/bin/busybox"), busybox, 0o755))
	need(t, os.Symlink("busybox", filepath.Join(dir, "root/bin/sh")))
	need(t, os.WriteFile(filepath.Join(dir, "root/init"), []byte(classicInit), 0o755))
	kinds := []string{"-t ext4"}
	if long() {
		kinds = append(kinds, "-t ext4 -O ^metadata_csum,^64bit", "-t ext3", "-t ext2", "-t ext4 -b 4096 -O inline_data", "-t ext4 -b 2048 -O meta_bg,^resize_inode")
	}
	for i, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			dir := filepath.Join(dir, fmt.Sprint(i)) // the name of the test has commas, which end the names of images
			need(t, os.Mkdir(dir, 0o755))
			base := filepath.Join(dir, "base")
			args := append(strings.Fields(kind), "-q", "-F", "-d", tree, base, "32M")
			if out, err := exec.Command("mke2fs", args...).CombinedOutput(); err != nil {
				t.Fatalf("mke2fs: %v\n%s", err, out)
			}
			classic := func(disk, want string) {
				t.Helper()
				out := runClassic(t, launch, disk)
				if !strings.Contains(out, want) || !strings.Contains(out, "classic-done") || strings.Contains(out, "EXT4-fs error") {
					t.Fatalf("the classic one says:\n%s", tail(out))
				}
			}
			ours := func(disk, want string) {
				t.Helper()
				out, log, err := guest{args: []string{"rw", disk}, command: ourPart, limit: 60 * time.Second}.run(t)
				if err != nil || !strings.Contains(out, want) || !strings.Contains(out, "ours-done") || strings.Contains(log, "EXT4-fs error") {
					t.Fatalf("we say: %v\n%s%s", err, tail(out), tail(log))
				}
			}
			check := func(cow string) {
				t.Helper()
				merged := filepath.Join(dir, "merged")
				if out, err := exec.Command("uml_moo", cow, merged).CombinedOutput(); err != nil {
					t.Fatalf("uml_moo: %v\n%s", err, out)
				}
				if out, err := exec.Command("e2fsck", "-fn", merged).CombinedOutput(); err != nil {
					t.Fatalf("e2fsck: %v\n%s", err, out)
				}
			}
			cow := filepath.Join(dir, "theirs")
			classic("ubd0="+cow+","+base, "")
			ours("ubd0="+cow, "found-classic")
			check(cow)
			classic("ubd0="+cow, "found-ours")
			check(cow)
			if !long() {
				return
			}
			cow = filepath.Join(dir, "ours")
			ours("ubd0="+cow+","+base, "")
			classic("ubd0="+cow, "found-ours")
			ours("ubd0="+cow, "found-classic")
			check(cow)
		})
	}
}

// static reports whether a program needs no interpreter.
func static(program []byte) bool {
	f, err := elf.NewFile(bytes.NewReader(program))
	return err == nil && !slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP })
}

// runClassic boots the classic User Mode Linux. Old ones do not know the register state of new processors: they are
// started as the benchmark does, and with a C library that keeps to old registers.
func runClassic(t *testing.T, launch, disk string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	args := []string{"linux.uml", disk, "root=/dev/ubda", "mem=256M", "con=null", "con0=null,fd:1", "init=/init"}
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	out, _ := cmd.CombinedOutput()
	if bytes.Contains(out, []byte("ptrace set fp regs failed")) {
		args = append([]string{"-launch-without-regset"}, args...)
		args = append(args, "GLIBC_TUNABLES=glibc.cpu.hwcaps=-AVX2,-AVX512VL,-AVX512BW,-AVX512F,-AVX,-XSAVE,-XSAVEC,"+
			"-AVX_Fast_Unaligned_Load,-Prefer_No_AVX512_Probing,-RTM")
		cmd = exec.CommandContext(ctx, launch, args...)
		out, _ = cmd.CombinedOutput()
	}
	return string(out)
}
