package main

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// diskScript works in the directory $1 on the files of bench.tar beside itself; ubench gets $2 seconds for each of its
// rows. Every other row is the best of three.
const diskScript = `
here=$(dirname "$0"); dir=$1
export PATH=$PATH:/usr/sbin:/usr/bin:/sbin:/bin HOME=$dir GIT_AUTHOR_NAME=b GIT_AUTHOR_EMAIL=b@b GIT_COMMITTER_NAME=b GIT_COMMITTER_EMAIL=b@b
best() {
	name=$1; shift; min=
	for i in 1 2 3; do
		prepare
		a=$(date +%s%N); "$@" >/dev/null || exit 1; b=$(date +%s%N)
		us=$(((b - a) / 1000))
		[ -n "$min" ] && [ "$min" -le $us ] || min=$us
	done
	echo "$name $((min / 1000)).$(printf %03d $((min % 1000))) ms"
}
prepare() { cd "$dir" && rm -rf t; }
best disk_untar tar xf "$here/bench.tar"
prepare() { cd "$dir/t"; }
best disk_find find . -xdev -type f -newer ../t
compile() { for f in c/*.c; do gcc -O1 -c -o "$f.o" "$f" || return; done; }
best disk_gcc compile
prepare() { cd "$dir/t" && rm -rf .git; }
add() { git init -q . && git add . && git commit -qm all; }
best disk_git_commit add
prepare() { cd "$dir/t"; }
best disk_git_status git status --short
prepare() { cd "$dir" && rm -rf t && tar xf "$here/bench.tar"; }
best disk_rm rm -rf t
mkdir -p "$dir/u"
for r in create_write_unlink pwrite_fsync file_read_bw; do "$here/ubench" -d "$dir/u" -t "$2" $r | sed 's/^/disk_/'; done
rm -rf "$dir/u" "$dir/t"
`

// diskInit is the init of a guest that runs diskScript.
const diskInit = `#!/bin/sh
[ -e /proc/self ] || mount -t proc proc /proc
mkdir -p /bench/work
sh /bench/disk.sh /bench/work %g
sync
exec /sbin/poweroff -f
`

// prepareDisk makes a copy of the image of Debian with the script, its files and ubench in it.
func (b *bench) prepareDisk() error {
	tree := filepath.Join(b.dir, "disk")
	if err := os.MkdirAll(tree, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(tree, "bench.tar"), sourceTar(), 0o644); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(tree, "disk.sh"), []byte(diskScript), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(tree, "init"), fmt.Appendf(nil, diskInit, b.budget), 0o755); err != nil {
		return err
	}
	if err := tool("cp", filepath.Join(b.dir, "root/bin/ubench"), tree); err != nil {
		return err
	}
	if err := tool("cp", "--sparse=always", b.disk, b.debian()); err != nil {
		return err
	}
	commands := "mkdir /bench\ncd /bench\n"
	for _, f := range []string{"bench.tar", "disk.sh", "init", "ubench"} {
		commands += fmt.Sprintf("write %s %s\nset_inode_field %s mode 0100755\n", filepath.Join(tree, f), f, f)
	}
	if err := os.WriteFile(filepath.Join(b.dir, "commands"), []byte(commands), 0o644); err != nil {
		return err
	}
	debugfs := "debugfs"
	if _, err := exec.LookPath(debugfs); err != nil {
		debugfs = "/sbin/debugfs"
	}
	return tool(debugfs, "-w", "-f", filepath.Join(b.dir, "commands"), b.debian())
}

func (b *bench) debian() string { return filepath.Join(b.dir, "debian") }

// sourceTar is an archive of a tree like a program's: 1500 files in 60 directories, and some C.
func sourceTar() []byte {
	r := rand.New(rand.NewPCG(1, 2))
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	add := func(name string, text []byte) {
		// A tar in memory does not fail.
		_ = w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text)), ModTime: time.Unix(1e9, 0)})
		_, _ = w.Write(text)
	}
	for i := range 1500 {
		text := make([]byte, 200+r.IntN(1<<r.IntN(16)))
		for j := range text {
			text[j] = "etaoin shrdlu\n"[r.IntN(14)]
		}
		add(fmt.Sprintf("t/d%d/e%d/file%d.txt", i%6, i%60, i), text)
	}
	for i := range 5 {
		c := "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n"
		for j := range 100 {
			c += fmt.Sprintf("int f%d_%d(int x) { for (int i = 0; i < x; i++) x ^= i * %d; return printf(\"%%d\\n\", x); }\n", i, j, j+3)
		}
		add(fmt.Sprintf("t/c/p%d.c", i), []byte(c))
	}
	_ = w.Close()
	return out.Bytes()
}

// diskArgs is the command line of a guest on the copy of the image.
func (b *bench) diskArgs(column int, init string) []string {
	image := b.debian()
	if column == ours {
		return []string{b.linux, "quiet", "ubd0=" + image, "rw", "mem=256M", "con=null", "con0=null,fd:1", "init=" + init}
	}
	args := b.umlArgs(init)
	for i, a := range args {
		if a == "ubd0="+b.image() {
			args[i] = "ubd0=" + image
		}
	}
	return append(args, "quiet")
}

// measureDisk returns the rows of diskScript, and how long the boot of the image takes, in one of the systems.
func (b *bench) measureDisk(column int, pinned bool) ([]row, error) {
	if column == host {
		dir, err := os.MkdirTemp(b.dir, "work")
		if err != nil {
			return nil, err
		}
		defer os.RemoveAll(dir)
		return b.rows(pinned, []string{"sh", filepath.Join(b.dir, "disk/disk.sh"), dir, fmt.Sprint(b.budget)})
	}
	rows, err := b.rows(pinned, b.diskArgs(column, "/bench/init"))
	if err != nil {
		return nil, err
	}
	best := time.Duration(1 << 62)
	for range 2 {
		d, err := b.untilLogin(pinned, b.diskArgs(column, "/sbin/init"))
		if err != nil {
			return nil, err
		}
		best = min(best, d)
	}
	return append(rows, row{"disk_boot_login", best.Seconds() * 1e3, "ms"}), nil
}

// untilLogin starts a guest, waits for its login prompt and kills it.
func (b *bench) untilLogin(pinned bool, args []string) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := command(ctx, args)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	start := time.Now()
	if err := startOn(cmd, pinned); err != nil {
		return 0, err
	}
	defer func() {
		_ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
		_ = cmd.Wait()
	}()
	var seen strings.Builder
	p := make([]byte, 4096)
	for {
		n, err := out.Read(p)
		seen.Write(p[:n])
		if strings.Contains(seen.String(), "login:") {
			return time.Since(start), nil
		}
		if err != nil {
			return 0, fmt.Errorf("no login prompt: %w\n%s", err, tail([]byte(seen.String())))
		}
	}
}
