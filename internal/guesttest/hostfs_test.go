package guesttest

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// hostTree makes a directory with a small root of busybox that an unprivileged guest owns.
func hostTree(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(hostTool(t, "busybox", "busybox-static"))
	need(t, err)
	tree, err := os.MkdirTemp(work, "tree")
	need(t, err)
	for _, d := range []string{"bin", "dev", "proc", "sys", "tmp", "run", "etc", "secret"} {
		need(t, os.Mkdir(filepath.Join(tree, d), 0o755))
	}
	need(t, os.WriteFile(filepath.Join(tree, "bin/busybox"), b, 0o755))
	for _, name := range strings.Fields("sh cat chmod chown echo ls mkdir mkfifo mknod mount poweroff rm stat su touch uname id") {
		need(t, os.Symlink("busybox", filepath.Join(tree, "bin", name)))
	}
	need(t, os.WriteFile(filepath.Join(tree, "etc/passwd"), []byte("root::0:0::/:/bin/sh\njoe::1000:1000::/:/bin/sh\n"), 0o644))
	need(t, os.WriteFile(filepath.Join(tree, "init"), []byte("#!/bin/sh\nmount -t proc proc /proc\nid >/done\npoweroff -f\n"), 0o755))
	need(t, filepath.Walk(tree, func(path string, _ os.FileInfo, err error) error {
		if err == nil && os.Getuid() == 0 {
			err = os.Lchown(path, nobody, nobody)
		}
		return err
	}))
	need(t, os.Chmod(tree, 0o755))
	return tree
}

// TestDirectoryRoot boots directories.
func TestDirectoryRoot(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: boots guests")
	}
	tree := hostTree(t)
	unprivileged := os.Getuid() == 0
	if unprivileged {
		need(t, guest{unprivileged: true}.works(t))
	}
	for _, c := range []struct{ name, args, command, want string }{
		{"map", "ubd0=" + tree + ",map rw", `cd /tmp; grep -q tmpfs /proc/mounts || echo no tmp; cd /etc
			touch a; chown 5:6 a; chmod 4755 a; mknod null c 1 3; echo x >null; stat -c "%u:%g %a %F" a null
			su joe -c "id -u; cat /etc/a; touch /etc/b 2>/dev/null || echo refused"; rm a null; ls`,
			"5:6 4755 regular empty file\n0:0 644 character special file\n1000\nrefused\npasswd\n"},
		{"plain", "root=/dev/root rootfstype=hostfs rw rootflags=" + tree, `cd /etc; touch a; stat -c %u a; chown 5 a 2>/dev/null || echo refused
			mknod null c 1 3 2>/dev/null || echo refused; rm a; cat /proc/mounts | while read a b c d; do [ $b != / ] || echo $a $c $d; done`,
			fmt.Sprintf("%d\nrefused\nrefused\n/dev/root hostfs rw,relatime 0 0\n", nobody)},
		{"read-only", "hostfs=" + filepath.Dir(tree) + " rootfstype=hostfs rootflags=/" + filepath.Base(tree), "touch /etc/x 2>/dev/null || echo refused", "refused\n"},
		{"jail of a root", "root=/dev/root rootfstype=hostfs rw rootflags=" + tree, `mkdir /n; mount -t hostfs none /n -o /..; ls /n/etc`, "passwd\n"},
		{"jail of a disk with rootfstype", "rootfstype=hostfs rw ubd0=" + tree, `mkdir -p /o; mount -t hostfs none /o -o /..; ls /o/etc`, "passwd\n"},
		{"jail", "ubd0=" + tree + " rw", `mkdir /m; mount -t hostfs none /m -o /../../..; ls /m/etc; rm -rf /m/secret; cat /m/m/etc/passwd 2>/dev/null || echo fresh`, "passwd\nfresh\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.name == "plain" && !unprivileged {
				t.Skip("the owner is another one")
			}
			g := guest{args: strings.Fields(c.args), command: c.command, unprivileged: unprivileged, limit: time.Minute}
			out, log, err := g.run(t)
			if err != nil || out != c.want || broken(log) != "" {
				t.Errorf("%v\n%s%s\nwant\n%s", err, out, tail(log), c.want)
			}
		})
	}
	t.Run("init", func(t *testing.T) {
		g := guest{limit: time.Minute, unprivileged: unprivileged}
		ctx, cancel := context.WithTimeout(context.Background(), g.limit)
		defer cancel()
		cmd := g.cmd(ctx, t)
		cmd.Args = append(cmd.Args[:len(cmd.Args)-1], "ubd0="+tree+",map", "rw", "init=/init", "con0=null,fd:1", "con=null")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		if b, err := os.ReadFile(filepath.Join(tree, "done")); !strings.HasPrefix(string(b), "uid=0") {
			t.Errorf("%q %v", b, err)
		}
	})
}

// TestHostChanges changes files on the host while a guest uses them: what is read, mapped and run.
func TestHostChanges(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: boots guests")
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "f")
	put := func(text string) { need(t, os.WriteFile(file, []byte(text), 0o644)) }
	put("one")
	g := guest{args: []string{"hostfs=" + dir}, limit: time.Minute, command: `mount -t hostfs none /mnt; cd /mnt; echo ready
		while read word; do
			case $word in
			read) cat f;;
			list) ls;;
			size) wc -c <f;;
			write) echo from the guest >g; echo written;;
			run) ./prog;;
			esac
		done`}
	ctx, cancel := context.WithTimeout(context.Background(), g.limit)
	defer cancel()
	cmd := g.cmd(ctx, t)
	in, err := cmd.StdinPipe()
	need(t, err)
	out, err := cmd.StdoutPipe()
	need(t, err)
	var log bytes.Buffer
	cmd.Stderr = &log
	need(t, cmd.Start())
	lines := bufio.NewScanner(out)
	ask := func(word, want string) {
		t.Helper()
		if word != "" {
			io.WriteString(in, word+"\n")
		}
		if !lines.Scan() || lines.Text() != want {
			t.Errorf("%s: %q, want %q", word, lines.Text(), want)
		}
	}
	ask("", "ready")
	put("two\n")
	ask("read", "two")
	put("longer\n")
	ask("size", "7")
	need(t, os.Rename(file, filepath.Join(dir, "moved")))
	ask("list", "moved")
	ask("write", "written")
	if b, _ := os.ReadFile(filepath.Join(dir, "g")); string(b) != "from the guest\n" {
		t.Errorf("%q", b)
	}
	for _, text := range []string{"first", "second"} {
		tmp := filepath.Join(dir, "tmp")
		need(t, os.WriteFile(tmp, []byte("#!/bin/sh\necho "+text+"\n"), 0o755))
		need(t, os.Rename(tmp, filepath.Join(dir, "prog")))
		ask("run", text)
	}
	in.Close()
	if err := cmd.Wait(); err != nil || broken(log.String()) != "" {
		t.Error(err, log.String())
	}
}
