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
// rows. Every other row is the best of three, but for the build of project.tar.
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
best disk_du du -s .
prepare() { cd "$dir/t" && rm -rf .git; }
add() { git init -q . && git add . && git commit -qm all; }
best disk_git_commit add
prepare() { cd "$dir/t"; }
best disk_git_status git status --short
prepare() { cd "$dir" && rm -rf t && tar xf "$here/bench.tar"; }
best disk_rm rm -rf t
mkdir -p "$dir/u"
for r in create_write_unlink pwrite_fsync file_read_bw file_write_bw file_page_fault; do
	"$here/ubench" -d "$dir/u" -t "$2" $r | sed 's/^/disk_/'
done
"$here/diskio" "$dir/u/io" "$2" | sed 's/^/disk_/'
rm -rf "$dir/u" "$dir/t"
cd "$dir" && tar xf "$here/project.tar" && cd p
a=$(date +%s%N); make -s || exit 1; b=$(date +%s%N)
echo "disk_gcc $(((b - a) / 1000000)) ms"
./prog && cd "$dir" && rm -rf p
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
	if err := os.WriteFile(filepath.Join(tree, "project.tar"), projectTar(), 0o644); err != nil {
		return err
	}
	if err := tool("gcc", "-O2", "-static", "-o", filepath.Join(tree, "diskio"), "testdata/bench/diskio.c"); err != nil {
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
	for _, f := range []string{"bench.tar", "project.tar", "disk.sh", "init", "ubench", "diskio"} {
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

// archive writes a tar file to memory, which does not fail.
type archive struct {
	bytes.Buffer
	w *tar.Writer
}

func newArchive() *archive {
	a := new(archive)
	a.w = tar.NewWriter(&a.Buffer)
	return a
}

func (a *archive) add(name, text string) {
	_ = a.w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text)), ModTime: time.Unix(1e9, 0)})
	_, _ = a.w.Write([]byte(text))
}

func (a *archive) end() []byte {
	_ = a.w.Close()
	return a.Bytes()
}

// sourceTar is an archive of a tree like a program's: 1500 files in 60 directories.
func sourceTar() []byte {
	r := rand.New(rand.NewPCG(1, 2))
	a := newArchive()
	for i := range 1500 {
		text := make([]byte, 200+r.IntN(1<<r.IntN(16)))
		for j := range text {
			text[j] = "etaoin shrdlu\n"[r.IntN(14)]
		}
		a.add(fmt.Sprintf("t/d%d/e%d/file%d.txt", i%6, i%60, i), string(text))
	}
	return a.end()
}

// projectTar is a program of 50,000 lines of C in 250 files and 25 headers, with a makefile: mostly short-lived compilers.
func projectTar() []byte {
	const files, functions, headers = 250, 40, 25
	a := newArchive()
	all := ""
	for h := range headers {
		text := fmt.Sprintf("#ifndef H%d\n#define H%d\n#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n", h, h)
		for f := h; f < files; f += headers {
			text += fmt.Sprintf("struct s%d { int a, b; char name[%d]; struct s%d *next; };\nint f%d(struct s%d *s, int x);\n", f, 8+f%24, f, f, f)
		}
		a.add(fmt.Sprintf("p/h%d.h", h), text+"#endif\n")
		all += fmt.Sprintf("#include \"h%d.h\"\n", h)
	}
	a.add("p/all.h", all)
	start := ""
	for f := range files {
		text := "#include \"all.h\"\n"
		for k := range functions {
			text += fmt.Sprintf("static int g%d(struct s%d *s, int x) {\n\tfor (int i = 0; i < x %% %d; i++)\n\t\ts->a += s->b ^ i;\n\treturn s->a;\n}\n", k, f, k+3)
		}
		text += fmt.Sprintf("int f%d(struct s%d *s, int x) {\n", f, f)
		for k := range functions {
			text += fmt.Sprintf("\tx += g%d(s, x);\n", k)
		}
		a.add(fmt.Sprintf("p/f%d.c", f), text+"\treturn x;\n}\n")
		start += fmt.Sprintf("\t{ struct s%d s = {1, 2, \"\", 0}; x += f%d(&s, x & 7); }\n", f, f)
	}
	a.add("p/main.c", "#include \"all.h\"\nint main(void) {\n\tint x = 1;\n"+start+"\treturn x == 12345;\n}\n")
	a.add("p/Makefile", "prog: $(patsubst %.c,%.o,$(wildcard *.c))\n\t$(CC) -o $@ $^\n%.o: %.c\n\t$(CC) -O1 -c -o $@ $<\n")
	return a.end()
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
		if err != nil { // an image without such an init
			b.notes = append(b.notes, fmt.Sprintf("The boot to a login was not measured: %v", err))
			return rows, nil
		}
		best = min(best, d)
	}
	return append(rows, row{"disk_boot_login", best.Seconds() * 1e3, "ms"}), nil
}

// free waits until no killed guest has the image locked any more.
func (b *bench) free() {
	f, err := os.OpenFile(b.debian(), os.O_RDWR, 0)
	if err != nil {
		return
	}
	defer f.Close()
	for range 1000 {
		if unix.FcntlFlock(f.Fd(), unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK}) == nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
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
		b.free()
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
