package guesttest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/user-mode-linux/linux/internal/ubd"
)

// TestFsx does random operations on one file of a disk and compares it with a model, in every mode of writing data and every
// block size. FSX_OPS is the number of operations for each, FSX_SEED the first seed; with FSX_CPU, as 1h, it goes on with other
// seeds until the guests have used that much time of the processor, their kernels included.
func TestFsx(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: boots guests")
	}
	ops, seed := 1500, 1
	for name, v := range map[string]*int{"FSX_OPS": &ops, "FSX_SEED": &seed} {
		if s := os.Getenv(name); s != "" {
			n, err := strconv.Atoi(s)
			need(t, err)
			*v = n
		}
	}
	var budget time.Duration
	if s := os.Getenv("FSX_CPU"); s != "" {
		var err error
		budget, err = time.ParseDuration(s)
		need(t, err)
	}
	d := newFsxDisks(t, ops)
	all := os.Getenv("FSX_OPS") != "" || budget > 0
	total, before := 0, childrenTime(t)
	for round := 0; round == 0 || childrenTime(t)-before < budget && !t.Failed(); round++ {
		for i, k := range fsxKinds {
			if !all && i > 2 {
				break
			}
			seed := seed + round*len(fsxKinds) + i
			t.Run(fmt.Sprintf("%s,seed=%d", k, seed), func(t *testing.T) { d.run(t, k, seed) })
			total += ops
		}
		t.Logf("%d operations, %v of the processor", total, childrenTime(t)-before)
	}
}

// childrenTime is the processor time of the guests that have ended.
func childrenTime(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	need(t, syscall.Getrusage(syscall.RUSAGE_CHILDREN, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Round(time.Second)
}

// fsxKind is a kind of disk that fsx works on.
type fsxKind struct {
	features, block, options string
	cow                      bool
	mem                      string // of the guest, "" for enough
}

// The first ones are those of the short form.
var fsxKinds = []fsxKind{
	{block: "4096"},
	{block: "1024", options: "data=journal"},
	{block: "4096", options: "data=journal"},
	{block: "1024"},
	{block: "2048", options: "data=writeback"},
	{block: "4096", features: "inline_data", options: "discard"},
	{block: "1024", features: "^has_journal"},
	{block: "4096", options: "data=writeback,nobarrier"},
	{block: "4096", cow: true},
	{block: "1024", cow: true, options: "data=journal,discard"},
	{block: "1024", features: "^extent,^64bit,^flex_bg"},
	{block: "4096", features: "^extent,^64bit,^metadata_csum", options: "data=journal"},
	{block: "1024", features: "inline_data,^64bit", options: "nodelalloc"},
	{block: "4096", features: "^has_journal,^metadata_csum", options: "dioread_lock", cow: true},
	{block: "2048", features: "inline_data,orphan_file", options: "data=journal,commit=1"},
	{block: "4096", mem: "48M"},
}

func (k fsxKind) String() string {
	s := k.block
	for _, word := range []string{k.features, k.options, k.mem} {
		if word != "" {
			s += "," + word
		}
	}
	if k.cow {
		s += ",cow"
	}
	return s
}

// fsxDisks is what the guests need.
type fsxDisks struct {
	dir, initrd, mke2fs, e2fsck string
	ops                         int
}

func newFsxDisks(t *testing.T, ops int) *fsxDisks {
	t.Helper()
	d := &fsxDisks{dir: t.TempDir(), ops: ops, mke2fs: hostTool(t, "mke2fs", "e2fsprogs"), e2fsck: hostTool(t, "e2fsck", "e2fsprogs")}
	need(t, guest{}.works(t))
	bin := filepath.Join(d.dir, "t")
	need(t, os.Mkdir(bin, 0o755))
	need(t, build(filepath.Join(bin, "fsx"), root, "./testdata/guest/fsx"))
	d.initrd = filepath.Join(d.dir, "initrd")
	need(t, initramfs(d.initrd, bin))
	return d
}

func (d *fsxDisks) run(t *testing.T, k fsxKind, seed int) {
	img, layer := filepath.Join(d.dir, "img"), filepath.Join(d.dir, "layer")
	args := []string{"-q", "-F", "-t", "ext4", "-b", k.block}
	if k.features != "" {
		args = append(args, "-O", k.features)
	}
	if out, err := exec.Command(d.mke2fs, append(args, img, "24M")...).CombinedOutput(); err != nil {
		t.Skipf("this mke2fs cannot make it: %v\n%s", err, out)
	}
	defer os.Remove(img)
	options, disk := k.options, "ubd1="+img
	if options == "" {
		options = "acl"
	}
	if k.cow {
		disk = "ubd1=" + layer + "," + img
		defer os.Remove(layer)
	}
	g := guest{initrd: d.initrd, args: []string{disk}, limit: time.Minute + time.Duration(d.ops)*20*time.Millisecond,
		command: fmt.Sprintf("exec /t/fsx /dev/ubdb %s %d %d", options, seed, d.ops)}
	if k.mem != "" {
		g.args = append(g.args, "mem="+k.mem)
	}
	out, log, err := g.run(t)
	if err != nil || !strings.HasPrefix(out, fmt.Sprintf("fsx: %d operations", d.ops)) || broken(log) != "" {
		t.Fatalf("%v\n%s%s", err, out, log)
	}
	if k.cow {
		c := crashDisk{t: t, spec: ubd.Spec{File: layer}}
		img = filepath.Join(d.dir, "merged")
		need(t, c.copyTo(img))
		defer os.Remove(img)
	}
	if out, err := exec.Command(d.e2fsck, "-fn", img).CombinedOutput(); err != nil {
		t.Fatalf("e2fsck: %v\n%s", err, out)
	}
}
