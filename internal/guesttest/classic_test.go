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
	"syscall"
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
	e := newClassic(t, classicInit)
	kinds := []string{"-t ext4"}
	if long() {
		for _, size := range []string{"1024", "2048", "4096"} {
			for _, kind := range []string{"-t ext4 -O ^metadata_csum,^64bit", "-t ext4 -O 64bit,metadata_csum", "-t ext4 -O ^extent,^64bit,^dir_index",
				"-t ext4 -O inline_data,large_dir", "-t ext4 -O meta_bg,^resize_inode", "-t ext4 -O ^has_journal", "-t ext3", "-t ext2"} {
				kinds = append(kinds, kind+" -b "+size)
			}
		}
	}
	for i, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			dir := filepath.Join(e.dir, fmt.Sprint(i)) // the name of the test has commas, which end the names of images
			need(t, os.Mkdir(dir, 0o755))
			base := filepath.Join(dir, "base")
			e.mkfs(t, kind, base, "32M")
			classic := func(disk, want string) {
				t.Helper()
				ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
				defer cancel()
				said, _ := e.command(ctx, disk).CombinedOutput() // it ends with odd statuses
				out := string(said)
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

// crashInit writes until it is killed; it needs a journal.
const crashInit = `#!/bin/sh
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -o remount,rw /
$b rm -rf /old; [ -d /work ] && $b mv /work /old
$b mkdir /work
echo kept > /kept; $b sync
echo classic-writes
i=0; while :; do
	$b mkdir /work/d$i; $b dd if=/dev/zero of=/work/d$i/f bs=5k count=$((i%40+1)) 2>/dev/null
	echo $i > /work/d$i/g; $b mv /work/d$i/g /work/g$i; [ $((i%3)) = 0 ] && $b rm -r /work/d$i
	[ $((i%20)) = 0 ] && $b sync
	i=$((i+1))
done
`

// TestClassicCrash kills the classic User Mode Linux and us in turn while they write to one image. Each replays the other's
// journal; after that e2fsck has nothing to repair.
func TestClassicCrash(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: boots guests")
	}
	e := newClassic(t, crashInit)
	kinds, rounds := []string{"-t ext4"}, 1
	if long() {
		kinds, rounds = append(kinds, "-t ext4 -b 4096 -O ^metadata_csum,^64bit", "-t ext3 -b 1024"), 5
	}
	for i, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			image := filepath.Join(e.dir, fmt.Sprintf("crash%d", i))
			e.mkfs(t, kind, image, "64M")
			check := func(who string) {
				t.Helper()
				if out, err := exec.Command("e2fsck", "-fn", image).CombinedOutput(); err != nil {
					t.Fatalf("e2fsck after %s: %v\n%s", who, err, out)
				}
			}
			for round := range rounds {
				ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
				defer cancel()
				if out := killAt(t, e.command(ctx, "ubd0="+image), "classic-writes", time.Duration(300+100*round)*time.Millisecond); !strings.Contains(out, "classic-writes") {
					t.Fatalf("the classic one says:\n%s", tail(out))
				}
				out, log, err := guest{args: []string{"rw", "ubd0=" + image}, command: "/bin/busybox cat /kept", limit: time.Minute}.run(t)
				if err != nil || out != "kept\n" || broken(log) != "" {
					t.Fatalf("we say: %v\n%s%s", err, tail(out), tail(log))
				}
				check("our recovery")
				ours := guest{args: []string{"rw", "ubd0=" + image}, command: "/bin/busybox sed -e '/ -o remount/d' -e '/mount -t/d' /init >/x; exec /bin/sh /x"}
				if out := killAt(t, ours.cmd(ctx, t), "classic-writes", time.Duration(300+100*round)*time.Millisecond); !strings.Contains(out, "classic-writes") {
					t.Fatalf("we say:\n%s", tail(out))
				}
				// The classic one mounts it, which replays the journal, and is killed again in the next round; here it only has to get that far.
				if out := killAt(t, e.command(ctx, "ubd0="+image), "classic-writes", 0); !strings.Contains(out, "classic-writes") || strings.Contains(out, "EXT4-fs error") {
					t.Fatalf("the classic one says:\n%s", tail(out))
				}
				if out, err := exec.Command("e2fsck", "-p", "-E", "journal_only", image).CombinedOutput(); err != nil && err.(*exec.ExitError).ExitCode() > 1 {
					t.Fatalf("e2fsck: %v\n%s", err, out)
				}
				check("the recovery of the classic one")
			}
		})
	}
}

// killAt starts a command, waits until it has printed a word and a while longer, and kills it with all its processes.
func killAt(t *testing.T, cmd *exec.Cmd, word string, after time.Duration) string {
	t.Helper()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := cmd.StdoutPipe()
	need(t, err)
	cmd.Stderr = nil
	need(t, cmd.Start())
	var said strings.Builder
	p := make([]byte, 4096)
	for !strings.Contains(said.String(), word) {
		n, err := out.Read(p)
		said.Write(p[:n])
		if err != nil {
			break
		}
	}
	time.Sleep(after)
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	_ = cmd.Wait() // it was killed
	return said.String()
}

// classic is what is needed to boot the classic User Mode Linux.
type classic struct {
	dir, tree, launch string
	oldRegs           bool // it does not know this processor's register state
}

// newClassic makes a tree with an init script.
func newClassic(t *testing.T, script string) *classic {
	t.Helper()
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
	e := &classic{dir: t.TempDir()}
	e.launch, e.tree = filepath.Join(e.dir, "launch"), filepath.Join(e.dir, "root")
	need(t, build(e.launch, root, "./internal/bench"))
	for _, d := range []string{"bin", "proc", "dev", "sys"} {
		need(t, os.MkdirAll(filepath.Join(e.tree, d), 0o755))
	}
	need(t, os.WriteFile(filepath.Join(e.tree, "bin/busybox"), busybox, 0o755))
	need(t, os.Symlink("busybox", filepath.Join(e.tree, "bin/sh")))
	need(t, os.WriteFile(filepath.Join(e.tree, "init"), []byte(script), 0o755))
	// Old ones do not know the register state of new processors, which ends their first program.
	probe := filepath.Join(e.dir, "probe")
	e.mkfs(t, "-t ext2", probe, "16M")
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	out, _ := exec.CommandContext(ctx, "linux.uml", "ubd0r="+probe, "root=/dev/ubda", "mem=64M", "con=null", "con0=null,fd:1", "init=/bin/busybox").CombinedOutput()
	e.oldRegs = bytes.Contains(out, []byte("ptrace set fp regs failed"))
	return e
}

// mkfs makes an image of the tree.
func (e *classic) mkfs(t *testing.T, kind, image, size string) {
	t.Helper()
	args := append(strings.Fields(kind), "-q", "-F", "-d", e.tree, image, size)
	if out, err := exec.Command("mke2fs", args...).CombinedOutput(); err != nil {
		t.Fatalf("mke2fs: %v\n%s", err, out)
	}
}

// command boots the classic one from a disk. If it has to be, it is started as the benchmark does, and with a C library
// that keeps to old registers.
func (e *classic) command(ctx context.Context, disk string) *exec.Cmd {
	args := []string{"linux.uml", disk, "root=/dev/ubda", "mem=256M", "con=null", "con0=null,fd:1", "init=/init"}
	if !e.oldRegs {
		return exec.CommandContext(ctx, args[0], args[1:]...)
	}
	args = append([]string{"-launch-without-regset"}, args...)
	args = append(args, "GLIBC_TUNABLES=glibc.cpu.hwcaps=-AVX2,-AVX512VL,-AVX512BW,-AVX512F,-AVX,-XSAVE,-XSAVEC,"+
		"-AVX_Fast_Unaligned_Load,-Prefer_No_AVX512_Probing,-RTM")
	return exec.CommandContext(ctx, e.launch, args...)
}

// static reports whether a program needs no interpreter.
func static(program []byte) bool {
	f, err := elf.NewFile(bytes.NewReader(program))
	return err == nil && !slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP })
}
