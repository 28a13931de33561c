package guesttest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// hostTool finds a program that may be in a directory for administrators.
func hostTool(t *testing.T, name, pkg string) string {
	t.Helper()
	for _, n := range []string{name, "/sbin/" + name, "/usr/sbin/" + name} {
		if p, err := exec.LookPath(n); err == nil {
			return p
		}
	}
	t.Skipf("%s is missing: apt-get install %s", name, pkg)
	return ""
}

// diskImage makes an ext4 image, with blocks of 4 KiB, of busybox and some scripts.
func diskImage(t *testing.T, scripts map[string]string) string {
	t.Helper()
	mke2fs, busybox := hostTool(t, "mke2fs", "e2fsprogs"), hostTool(t, "busybox", "busybox-static")
	dir, err := os.MkdirTemp(work, "disk")
	need(t, err)
	tree := filepath.Join(dir, "tree")
	for _, d := range []string{"bin", "dev", "proc", "sys", "tmp", "data"} {
		need(t, os.MkdirAll(filepath.Join(tree, d), 0o777))
		need(t, os.Chmod(filepath.Join(tree, d), 0o777))
	}
	b, err := os.ReadFile(busybox)
	need(t, err)
	need(t, os.WriteFile(filepath.Join(tree, "bin/busybox"), b, 0o755))
	for _, name := range strings.Fields("sh cat cp cmp find grep ln ls mkdir mount mv poweroff readlink rm seq stat sync touch umount wc dd md5sum") {
		need(t, os.Symlink("busybox", filepath.Join(tree, "bin", name)))
	}
	for name, text := range scripts {
		need(t, os.WriteFile(filepath.Join(tree, name), []byte(text), 0o755))
	}
	image := filepath.Join(dir, "image")
	out, err := exec.Command(mke2fs, "-q", "-t", "ext4", "-b", "4096", "-d", tree, image, "32M").CombinedOutput()
	if err != nil {
		t.Fatalf("mke2fs: %v\n%s", err, out)
	}
	if os.Getuid() == 0 {
		need(t, os.Chmod(dir, 0o755))
		need(t, os.Chown(image, nobody, nobody))
	}
	return image
}

// TestDisk writes to a disk in one guest, reads it in the next, and lets e2fsck judge in between.
func TestDisk(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: boots guests")
	}
	e2fsck := hostTool(t, "e2fsck", "e2fsprogs")
	image := diskImage(t, map[string]string{
		"first": `set -e
cd /data
mkdir -p a/b/c
for i in $(seq 200); do echo $i >a/b/file$i; done
rm a/b/file1?; mv a/b/file1 a/b/c/one; ln a/b/file2 a/b/c/two; ln -s ../b/file3 a/b/c/three
cp /bin/busybox a/busybox; cmp /bin/busybox a/busybox
dd if=/dev/zero of=sparse bs=1 count=1 seek=5000000 2>/dev/null
touch gone; exec 5>gone; rm gone; echo text >&5
(cd /data; md5sum a/b/file* a/busybox sparse) >sums
echo first done
`,
		"second": `set -e
cd /data
md5sum -c -s sums
[ $(ls a/b | wc -l) = 190 ]
[ "$(cat a/b/c/one a/b/c/two)" = "1
2" ]
[ "$(readlink a/b/c/three)" = ../b/file3 ]
[ $(stat -c %h a/b/c/two) = 2 ]
[ ! -e gone ]
a/busybox echo second done
rm -r a sparse sums
`,
		// An init that does not come back: the power button is all it has.
		"third": "#!/bin/sh\nmount -t proc proc /proc\nls /data\necho third done >/data/third\npoweroff -f\n",
	})
	for i, name := range []string{"first", "second"} {
		g := guest{args: []string{"ubd0=" + image, "rw"}, command: "sh /" + name, limit: time.Minute, unprivileged: os.Getuid() == 0 && i == 0}
		if g.unprivileged {
			need(t, guest{unprivileged: true}.works(t))
		}
		out, log, err := g.run(t)
		if err != nil || out != name+" done\n" || broken(log) != "" {
			t.Fatalf("%s: %v\n%s%s", name, err, out, log)
		}
		if out, err := exec.Command(e2fsck, "-fn", image).CombinedOutput(); err != nil {
			t.Fatalf("%s: e2fsck: %v\n%s", name, err, out)
		}
	}
	path, err := linux()
	need(t, err)
	cmd := exec.Command(path, "quiet", "ubd0="+image, "rw", "init=/third", "con0=null,fd:1", "con=null", "timeout=60")
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
	if out, err := cmd.CombinedOutput(); err != nil || broken(string(out)) != "" {
		t.Fatalf("third: %v\n%s", err, out)
	}
	g := guest{args: []string{"ubd0r=" + image}, command: "cat /data/third; touch /data/x", limit: time.Minute}
	if out, log, err := g.run(t); err == nil || !strings.HasPrefix(out, "third done\n") || !strings.Contains(out+log, "Read-only") {
		t.Errorf("after the third: %v\n%s%s", err, out, log)
	}
}

// TestBadDisks boots what is no disk: the guest says which file and why, and ends.
func TestBadDisks(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: boots guests")
	}
	good, err := os.ReadFile(diskImage(t, nil))
	need(t, err)
	path, err := linux()
	need(t, err)
	damage := func(at, n int, to byte) func(string) error {
		return func(name string) error {
			p := append([]byte(nil), good...)
			for i := range n {
				p[at+i] = to
			}
			return os.WriteFile(name, p, 0o644)
		}
	}
	for _, c := range []struct {
		name string
		make func(file string) error
		want string // in what it says
	}{
		{"missing", func(string) error { return nil }, "errno = 2"},
		{"directory", func(f string) error { return os.Mkdir(f, 0o755) }, "No working init found"},
		{"empty", func(f string) error { return os.WriteFile(f, nil, 0o644) }, "unable to read superblock"},
		{"zeroes", func(f string) error { return os.WriteFile(f, make([]byte, 1<<20), 0o644) }, "Can't find ext4 filesystem"},
		{"truncated", func(f string) error { return os.WriteFile(f, good[:1<<20], 0o644) }, "exceeds size of device"},
		{"superblock", damage(1024+24, 4, 0xff), "superblock"},
		{"descriptors", damage(4096, 64, 0xa5), "ext4_check_descriptors"},
		{"inodes", damage(2*4096, 200*4096, 0x5a), "root inode failed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "image-"+c.name)
			need(t, c.make(file))
			cmd := exec.Command(path, "ubd0="+file, "rw", "con0=null,fd:1", "con=null", "timeout=30", "panic_exit=7")
			cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
			out, err := cmd.CombinedOutput()
			if cmd.ProcessState.ExitCode() != 7 {
				t.Errorf("ended with %v", err)
			}
			if s := string(out); !strings.Contains(s, c.want) || !strings.Contains(s, filepath.Base(file)) || strings.Contains(s, "goroutine ") {
				t.Errorf("%q is missing in\n%s", c.want, s)
			}
		})
	}
}
