package guesttest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/fs/ext4"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
	"github.com/user-mode-linux/linux/internal/kernel/vfs/vfstest"
	"github.com/user-mode-linux/linux/internal/ubd"
)

// TestCrash kills guests that work on a disk, at random moments, round after round on the same image. After each the
// journal is all that has to be repaired, by e2fsck and by ourselves, and what the guest had made durable is there.
// CRASH_ROUNDS is how many rounds each kind of disk gets, CRASH_KINDS a word of the kinds to run.
func TestCrash(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: boots guests")
	}
	rounds := 3
	if s := os.Getenv("CRASH_ROUNDS"); s != "" {
		n, err := strconv.Atoi(s)
		need(t, err)
		rounds = n
	}
	for _, tool := range []string{"mke2fs", "e2fsck"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed (package e2fsprogs)", tool)
		}
	}
	need(t, guest{}.works(t))
	programs := t.TempDir()
	need(t, build(filepath.Join(programs, "crash"), root, "./testdata/guest/crash"))
	initrd := filepath.Join(programs, "initrd")
	bin := filepath.Join(programs, "t")
	need(t, os.Mkdir(bin, 0o755))
	need(t, os.Rename(filepath.Join(programs, "crash"), filepath.Join(bin, "crash")))
	need(t, initramfs(initrd, bin))
	for _, k := range []crashKind{
		{name: "raw", mkfs: []string{"-t", "ext4"}},
		{name: "cow", mkfs: []string{"-t", "ext4", "-b", "1024"}, cow: true},
		{name: "journal", mkfs: []string{"-t", "ext4", "-b", "1024"}, options: "data=journal", long: true},
		{name: "writeback", mkfs: []string{"-t", "ext4", "-b", "4096"}, options: "data=writeback", long: true, cow: true},
		{name: "ext3", mkfs: []string{"-t", "ext3", "-b", "1024"}, long: true},
		{name: "inline", mkfs: []string{"-t", "ext4", "-b", "4096", "-O", "inline_data,^64bit"}, long: true},
		{name: "nocsum", mkfs: []string{"-t", "ext4", "-b", "2048", "-O", "^metadata_csum,^64bit,^flex_bg"}, long: true, cow: true},
	} {
		if want := os.Getenv("CRASH_KINDS"); want != "" && !strings.Contains(want, k.name) || want == "" && k.long && rounds < 20 {
			continue
		}
		t.Run(k.name, func(t *testing.T) {
			d := newCrashDisk(t, k)
			for i := range rounds {
				d.round(initrd, i)
			}
			if d.found == 0 {
				t.Error("no guest made anything durable")
			}
			t.Logf("%d rounds: %d claims held", rounds, d.found)
		})
	}
}

type crashKind struct {
	name    string
	mkfs    []string
	options string // of the mount
	cow     bool
	long    bool // left out of few rounds
}

// crashDisk is a disk that guests work on and are killed.
type crashDisk struct {
	t      *testing.T
	option string // after ubd1
	mount  string // options of the mount
	spec   ubd.Spec
	rng    *rand.Rand
	claims map[string][]string // of the guest that ran last, by path
	found  int                 // claims that held
}

func newCrashDisk(t *testing.T, k crashKind) *crashDisk {
	dir := t.TempDir()
	img := filepath.Join(dir, "img")
	out, err := exec.Command("mke2fs", append(k.mkfs, "-q", "-F", img, "48M")...).CombinedOutput()
	if err != nil {
		t.Fatalf("mke2fs: %v\n%s", err, out)
	}
	d := &crashDisk{t: t, rng: rand.New(rand.NewPCG(uint64(len(k.name)), uint64(time.Now().UnixNano()))),
		option: "=" + img, mount: "rw," + k.options, spec: ubd.Spec{File: img}}
	if k.cow {
		cow := filepath.Join(dir, "cow")
		d.option, d.spec.File = "="+cow+","+img, cow
	}
	return d
}

// round lets a guest work for a while, kills it and looks at what it leaves.
func (d *crashDisk) round(initrd string, i int) {
	t := d.t
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	g := guest{initrd: initrd, args: []string{"ubd1" + d.option},
		command: fmt.Sprintf("mkdir /m && mount -o %s /dev/ubdb /m && echo go && exec /t/crash /m 3 %d", strings.TrimSuffix(d.mount, ","), d.rng.IntN(1<<30))}
	cmd := g.cmd(ctx, t)
	out, err := cmd.StdoutPipe()
	need(t, err)
	var log bytes.Buffer
	cmd.Stderr = &log
	need(t, cmd.Start())
	lines := make(chan string, 1)
	first := make(chan bool, 1)
	go func() {
		var b strings.Builder
		p := make([]byte, 64<<10)
		for {
			n, err := out.Read(p)
			if n > 0 && b.Len() == 0 {
				first <- true
			}
			b.Write(p[:n])
			if err != nil {
				lines <- b.String()
				return
			}
		}
	}()
	select {
	case <-first:
		time.Sleep(time.Duration(d.rng.IntN(900_000)) * time.Microsecond)
	case <-ctx.Done():
	}
	cmd.Process.Kill()
	said := <-lines
	err = cmd.Wait()
	if s, ok := cmd.ProcessState.Sys().(interface{ Signaled() bool }); !ok || !s.Signaled() {
		t.Fatalf("round %d: the guest ended by itself: %v\n%s\n%s", i, err, tail(said), log.String())
	}
	d.claims = map[string][]string{}
	for line := range strings.Lines(said) {
		f := strings.Fields(line)
		if !strings.HasSuffix(line, "\n") || len(f) < 2 {
			continue
		}
		if len(f[0]) > 1 {
			at := strings.Index(said, line)
			t.Fatalf("round %d: a program of the guest failed, %d bytes before the end of its output: %s%s", i, len(said)-at, line, log.String())
		}
		d.claims[f[1]] = f
	}
	what := fmt.Sprintf("round %d, %d claims", i, len(d.claims))
	d.repairs(what)
	d.recover(what)
}

// repairs has e2fsck replay the journal of a copy, and then look for damage.
func (d *crashDisk) repairs(what string) {
	t := d.t
	t.Helper()
	img := filepath.Join(t.TempDir(), "copy")
	defer os.Remove(img)
	need(t, d.copyTo(img))
	out, err := exec.Command("e2fsck", "-p", "-E", "journal_only", img).CombinedOutput()
	if e := (*exec.ExitError)(nil); errors.As(err, &e) && e.ExitCode() > 1 {
		d.keep(img)
		t.Fatalf("%s: e2fsck cannot replay the journal: %v\n%s", what, err, out)
	}
	out, err = exec.Command("e2fsck", "-fy", img).CombinedOutput()
	if err == nil {
		return
	}
	for line := range strings.Lines(string(out)) {
		line = strings.TrimSpace(line)
		if harmless(line) {
			continue
		}
		d.keep(img)
		t.Fatalf("%s: e2fsck finds damage: %q\n%s", what, line, out)
	}
}

// harmless reports whether a line of e2fsck tells of no damage: files that were removed while they were open, which the
// journal leaves on the list of orphans, and the counts that follow.
func harmless(line string) bool {
	for _, s := range []string{"e2fsck ", "Pass ", "Clearing orphaned inode", "Truncating orphaned inode", "Deleted orphaned", "***** FILE SYSTEM WAS MODIFIED"} {
		if strings.Contains(line, s) {
			return true
		}
	}
	return line == "" || strings.Contains(line, " files (")
}

// copyTo writes the disk as a guest would see it to a file.
func (d *crashDisk) copyTo(img string) error {
	sp := d.spec
	sp.ReadOnly = true
	dev, err := ubd.Open(&sp)
	if err != nil {
		return err
	}
	defer dev.Close()
	f, err := os.Create(img)
	if err != nil {
		return err
	}
	defer f.Close()
	p, zero := make([]byte, 1<<20), make([]byte, 1<<20)
	for off := int64(0); off < dev.Size(); off += int64(len(p)) {
		p := p[:min(int64(len(p)), dev.Size()-off)]
		if _, err := dev.ReadAt(p, off); err != nil {
			return err
		}
		if !bytes.Equal(p, zero[:len(p)]) {
			if _, err := f.WriteAt(p, off); err != nil {
				return err
			}
		}
	}
	return f.Truncate(dev.Size())
}

// keep keeps an image that fails for whoever wants to see why.
func (d *crashDisk) keep(img string) {
	if dir := os.Getenv("CRASH_KEEP"); dir != "" {
		to := filepath.Join(dir, fmt.Sprintf("crash-%d", time.Now().Unix()))
		if b, err := os.ReadFile(img); err == nil && os.WriteFile(to, b, 0o600) == nil {
			d.t.Logf("the image is %s", to)
		}
	}
}

// recover mounts the disk, which replays the journal, and looks for all that was claimed. After that e2fsck has nothing
// to repair at all.
func (d *crashDisk) recover(what string) {
	t := d.t
	t.Helper()
	dev, err := ubd.Open(&d.spec)
	need(t, err)
	sb, err := ext4.Mount(ext4.Ext4, dev, 0, "")
	if err != nil {
		t.Fatalf("%s: mount: %v", what, err)
	}
	if ro, ok := sb.(interface{ ReadOnly() bool }); !ok || ro.ReadOnly() {
		t.Fatalf("%s: mounted read-only", what)
	}
	c := vfstest.New(sb)
	for path, claim := range d.claims {
		if why := checkClaim(c, path, claim); why != "" {
			t.Errorf("%s: %s: %s", what, strings.Join(claim, " "), why)
		} else if claim[0] != "m" {
			d.found++
		}
	}
	c.Ctx.Release()
	need(t, dev.Close())
	img := filepath.Join(t.TempDir(), "copy")
	defer os.Remove(img)
	need(t, d.copyTo(img))
	if out, err := exec.Command("e2fsck", "-fn", img).CombinedOutput(); err != nil {
		d.keep(img)
		t.Fatalf("%s: e2fsck after our own recovery: %v\n%s", what, err, out)
	}
	if t.Failed() {
		t.FailNow()
	}
}

// checkClaim says what is wrong with a claim, "" if it holds.
func checkClaim(c *vfstest.Caller, path string, claim []string) string {
	if claim[0] == "m" {
		return ""
	}
	f, err := vfs.Open(c, nil, "/"+path, vfs.OpenHow{Flags: unix.O_RDONLY})
	if claim[0] == "d" {
		if err == unix.ENOENT {
			return ""
		}
		return fmt.Sprintf("the file is there (%v)", err)
	}
	if err != nil {
		return err.Error()
	}
	defer f.DecRef()
	data, err := readAll(c, f)
	if err != nil {
		return err.Error()
	}
	got := fmt.Sprintf("%d %08x", len(data), crc32.ChecksumIEEE(data))
	for want := claim[2:]; len(want) >= 2; want = want[2:] {
		if got == want[0]+" "+want[1] {
			return ""
		}
	}
	return "found " + got
}

func readAll(c *vfstest.Caller, f *vfs.File) ([]byte, error) {
	var all []byte
	p := make([]byte, 64<<10)
	for {
		n, err := vfs.Pread(c, f, uio.ToBytes(p), int64(len(all)))
		all = append(all, p[:n]...)
		if err != nil && err != io.EOF || n == 0 {
			return all, err
		}
	}
}
