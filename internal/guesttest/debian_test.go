package guesttest

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write what scripts print on the host into testdata/debian; needs root")

// debian is the image of Debian that the environment names; make debian-test does.
func debian(t *testing.T) string {
	t.Helper()
	image := os.Getenv("GUESTTEST_DEBIAN")
	if image == "" {
		t.Skip("GUESTTEST_DEBIAN names no image of Debian (make debian-test makes one)")
	}
	image, err := filepath.Abs(image)
	need(t, err)
	_, err = os.Stat(image)
	need(t, err)
	return image
}

// debianScript is a file of testdata/debian: a script, and after a line "-- want --" what it prints.
type debianScript struct {
	script, want string
	user         string // "user", or what a line "# user:" says
	disk         string // what a line "# disk:" wants to be on /mnt: "" or "go"
}

const wantMark = "\n-- want --\n"

var debianHeader = regexp.MustCompile(`(?m)^# (user|disk): (\w+)$`)

func readDebianScript(t *testing.T, path string) debianScript {
	t.Helper()
	b, err := os.ReadFile(path)
	need(t, err)
	s := debianScript{user: "user"}
	var ok bool
	if s.script, s.want, ok = strings.Cut(string(b), wantMark); !ok {
		t.Fatalf("%s: no line %q", path, strings.TrimSpace(wantMark))
	}
	s.script += "\n"
	for _, m := range debianHeader.FindAllStringSubmatch(s.script, -1) {
		switch m[1] {
		case "user":
			s.user = m[2]
		case "disk":
			s.disk = m[2]
		}
	}
	return s
}

// debianRun is how root runs a script, in /dev/ubdb or another file, as a user in an empty directory.
func debianRun(script, user string) string {
	return fmt.Sprintf(`mkdir /home/user/work && cat %[1]s >/home/user/script && chown %[2]s /home/user/work && cd /home/user/work &&
		exec setpriv --reuid %[2]s --regid %[2]s --init-groups env -i HOME=/home/user USER=%[2]s SHELL=/bin/bash LC_ALL=C.UTF-8 TZ=UTC \
		PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin bash /home/user/script </dev/null 2>&1`, script, user)
}

// TestDebianWork has Debian's programs do real work, as a user of a guest that an unprivileged user of the host runs from a
// layer above the image. They must print what they print in a chroot of the host.
func TestDebianWork(t *testing.T) {
	image := debian(t)
	files, err := filepath.Glob(root + "/testdata/debian/*.txt")
	need(t, err)
	for _, path := range files {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			s := readDebianScript(t, path)
			dir, err := os.MkdirTemp(work, "debian")
			need(t, err)
			defer os.RemoveAll(dir)
			need(t, os.Chmod(dir, 0o777))
			disk := ""
			if s.disk != "" {
				disk = filepath.Join(dir, "disk")
				out, err := exec.Command(hostTool(t, "mke2fs", "e2fsprogs"), "-q", "-t", "ext4", "-d", goroot(t), disk, "1G").CombinedOutput()
				if err != nil {
					t.Fatalf("mke2fs: %v\n%s", err, out)
				}
			}
			if *update {
				need(t, os.WriteFile(path, []byte(strings.TrimSuffix(s.script, "\n")+wantMark+debianOnHost(t, image, disk, s)), 0o644))
				return
			}
			// A disk has whole sectors.
			script := s.script + strings.Repeat("\n", 511-(len(s.script)+511)%512)
			need(t, os.WriteFile(filepath.Join(dir, "script"), []byte(script), 0o644))
			g := guest{args: []string{"ubd0=" + dir + "/layer," + image, "rw", "ubd1r=" + dir + "/script"}, unprivileged: os.Geteuid() == 0, limit: 10 * time.Minute,
				command: debianRun("/dev/ubdb", s.user)}
			if disk != "" {
				g.args = append(g.args, "ubd2r="+disk)
				g.command = "mount -o ro /dev/ubdc /mnt && " + g.command
			}
			out, log, err := g.run(t)
			if err != nil || broken(log) != "" {
				t.Errorf("%v\n%s", err, tail(log))
			}
			if out != s.want {
				t.Errorf("differs from the host:\n%s", diff(s.want, out))
			}
		})
	}
}

// goroot is where the Go toolchain of this machine is.
func goroot(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("go", "env", "GOROOT").Output()
	need(t, err)
	return strings.TrimSpace(string(out))
}

// debianOnHost runs a script in a chroot of the host's own kernel, on a copy of the image.
func debianOnHost(t *testing.T, image, disk string, s debianScript) string {
	t.Helper()
	dir := t.TempDir()
	need(t, os.WriteFile(filepath.Join(dir, "script"), []byte(s.script), 0o644))
	setup := `set -e
	cd "$1"; cp --sparse=always "$2" copy; mkdir root; mount -o loop copy root; cp script root/script
	mount -t tmpfs tmpfs root/dev; for d in null zero full random urandom tty; do cp -a /dev/$d root/dev; done; mkdir root/dev/pts root/dev/shm root/dev/mqueue; ln -s /proc/self/fd root/dev/fd; ln -s pts/ptmx root/dev/ptmx
	mount -t devpts -o newinstance,ptmxmode=666,gid=5,mode=620 devpts root/dev/pts
	mount -t tmpfs -o mode=1777 tmpfs root/dev/shm; mount -t mqueue mqueue root/dev/mqueue; mount -t sysfs sysfs root/sys; mount -t proc proc root/proc
	if [ "$3" ]; then mount -o loop,ro "$3" root/mnt; fi
	exec chroot root /bin/sh -c "$4"`
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "unshare", "-m", "-p", "-f", "-i", "-u", "--kill-child", "sh", "-c", setup, "sh", dir, image, disk, debianRun("/script", s.user))
	var log bytes.Buffer
	cmd.Stderr = &log
	out, err := cmd.Output()
	if err != nil {
		t.Errorf("%v\n%s", err, tail(log.String()))
	}
	return string(out)
}

// conversation talks to a guest's console.
type conversation struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.Writer

	mu    sync.Mutex
	out   []byte
	seen  int           // what expect has found so far ends here
	more  chan struct{} // there is more in out
	ended chan error
}

// converse starts a guest, as nobody if the test runs as root, whose first console is the conversation.
func converse(t *testing.T, args ...string) *conversation {
	t.Helper()
	g := guest{args: args, unprivileged: os.Geteuid() == 0, command: "x"}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	t.Cleanup(cancel)
	cmd := g.cmd(ctx, t)
	cmd.Args = append(cmd.Args[:len(cmd.Args)-1], "con0=fd:0,fd:1", "con=null") // instead of exec=
	in, err := cmd.StdinPipe()
	need(t, err)
	c := &conversation{t: t, cmd: cmd, in: in, more: make(chan struct{}, 1), ended: make(chan error, 1)}
	cmd.Stdout, cmd.Stderr = c, c
	need(t, cmd.Start())
	go func() { c.ended <- cmd.Wait() }()
	return c
}

func (c *conversation) Write(p []byte) (int, error) {
	c.mu.Lock()
	c.out = append(c.out, p...)
	c.mu.Unlock()
	select {
	case c.more <- struct{}{}:
	default:
	}
	return len(p), nil
}

// expect waits for a text behind what was found last, and then types a line.
func (c *conversation) expect(text, answer string) {
	c.t.Helper()
	deadline := time.After(3 * time.Minute)
	for {
		c.mu.Lock()
		i := bytes.Index(c.out[c.seen:], []byte(text))
		if i >= 0 {
			c.seen += i + len(text)
		}
		rest := string(c.out[c.seen:])
		c.mu.Unlock()
		if i >= 0 {
			break
		}
		select {
		case <-c.more:
		case <-deadline:
			c.t.Fatalf("%q does not come, but\n%s", text, tail(rest))
		case err := <-c.ended:
			c.t.Fatalf("ended (%v) without %q:\n%s", err, text, tail(rest))
		}
	}
	if answer != "" {
		fmt.Fprintln(c.in, answer)
	}
}

// halted waits for the end of the guest.
func (c *conversation) halted() {
	c.t.Helper()
	select {
	case err := <-c.ended:
		if s := string(c.out); err != nil || broken(s) != "" || strings.Contains(s, "EXT4-fs error") {
			c.t.Errorf("%v\n%s", err, tail(s))
		}
	case <-time.After(3 * time.Minute):
		c.t.Fatalf("does not end:\n%s", tail(string(c.out[c.seen:])))
	}
}

// debianCopy is a copy of an image that the guest may write.
func debianCopy(t *testing.T, image string) string {
	t.Helper()
	dir, err := os.MkdirTemp(work, "debian")
	need(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	need(t, os.Chmod(dir, 0o755))
	disk := filepath.Join(dir, "disk")
	if out, err := exec.Command("cp", "--sparse=always", image, disk).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v\n%s", err, out)
	}
	if os.Geteuid() == 0 {
		need(t, os.Chown(disk, nobody, nobody))
	}
	return disk
}

// TestDebianBoot boots Debian by its init to a login, works as a user and as root, changes the password, reboots, and
// looks for all of it after that and after a new start.
func TestDebianBoot(t *testing.T) {
	image := debian(t)
	e2fsck := hostTool(t, "e2fsck", "e2fsprogs")
	disk := debianCopy(t, image)
	const user, root, old, new = "user@debian:~$ ", "root@debian:", "user", "Correct-Horse-9"
	login := func(c *conversation, password string) {
		t.Helper()
		c.expect("debian login: ", "user")
		c.expect("Password: ", password)
	}
	su := func(c *conversation, command string) {
		t.Helper()
		c.expect(user, "su -")
		c.expect("Password: ", "root")
		c.expect(root, command)
	}
	c := converse(t, "ubd0="+disk)
	login(c, "wrong")
	c.expect("Login incorrect", "")
	login(c, old)
	c.expect(user, "stty -echo; cp -r /usr/share/perl5 tree; find tree -type f -exec md5sum {} + >sums; tty; echo kept >file; id -un")
	c.expect("/dev/tty0\r\nuser\r\n", "")
	c.expect(user, "passwd")
	c.expect("Current password: ", old)
	c.expect("New password: ", new)
	c.expect("Retype new password: ", new)
	c.expect("successfully", "")
	su(c, "id -u; runlevel; ls /proc/1/exe -l; cat /proc/1/comm; exit")
	c.expect("0\r\nN 2\r\n", "")
	su(c, "sleep 1000 & echo root >/etc/by-root; reboot")
	c.expect("estarting system", "")
	login(c, new)
	c.expect(user, "stty -echo; md5sum --quiet -c sums && cat file /etc/by-root; rm -r tree; mkdir second; who | wc -l")
	c.expect("kept\r\nroot\r\n1\r\n", "")
	su(c, "poweroff")
	c.halted()
	if out, err := exec.Command(e2fsck, "-fn", disk).CombinedOutput(); err != nil {
		t.Errorf("e2fsck: %v\n%s", err, out)
	}

	c = converse(t, "ubd0="+disk)
	login(c, new)
	c.expect(user, "stty -echo; echo *")
	c.expect("file second sums\r\n", "")
	su(c, "halt -p")
	c.halted()
	if out, err := exec.Command(e2fsck, "-fn", disk).CombinedOutput(); err != nil {
		t.Errorf("e2fsck: %v\n%s", err, out)
	}
}

// TestDebianSystemd boots the image of GUESTTEST_SYSTEMD (mkdebian.sh -i systemd) by systemd to a login with no unit failed, has it
// start a unit with a limit, and reboots and ends it by its own commands.
func TestDebianSystemd(t *testing.T) {
	image := os.Getenv("GUESTTEST_SYSTEMD")
	if image == "" {
		t.Skip("GUESTTEST_SYSTEMD names no image with systemd")
	}
	e2fsck := hostTool(t, "e2fsck", "e2fsprogs")
	disk := debianCopy(t, image)
	login := func(c *conversation) {
		t.Helper()
		c.expect("debian login: ", "root")
		c.expect("Password: ", "root")
	}
	const prompt = "root@debian:~# "
	c := converse(t, "ubd0="+disk, "mem=512M", "eth0=user")
	login(c)
	c.expect(prompt, "stty -echo; systemctl is-system-running --wait; systemctl --failed --no-legend | wc -l; systemd-detect-virt")
	c.expect("running\r\n0\r\numl\r\n", "")
	c.expect(prompt, "systemd-run -q --pipe --wait -p TasksMax=5 sh -c 'cat /sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup)/pids.max'")
	c.expect("5\r\n", "")
	c.expect(prompt, "journalctl -b -q -o cat -u systemd-logind | grep -c 'New seat seat0'; echo kept >file; systemctl reboot")
	c.expect("1\r\n", "")
	login(c)
	c.expect(prompt, "stty -echo; cat file; systemctl poweroff")
	c.expect("kept\r\n", "")
	c.halted()
	if out, err := exec.Command(e2fsck, "-fn", disk).CombinedOutput(); err != nil {
		t.Errorf("e2fsck: %v\n%s", err, out)
	}
}
