package guesttest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestFsx does random operations on one file of a disk and compares it with a model, in every mode of writing data and every
// block size. FSX_OPS is the number of operations for each, FSX_SEED the first seed.
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
	mke2fs, e2fsck := hostTool(t, "mke2fs", "e2fsprogs"), hostTool(t, "e2fsck", "e2fsprogs")
	need(t, guest{}.works(t))
	dir := t.TempDir()
	bin := filepath.Join(dir, "t")
	need(t, os.Mkdir(bin, 0o755))
	need(t, build(filepath.Join(bin, "fsx"), root, "./testdata/guest/fsx"))
	initrd := filepath.Join(dir, "initrd")
	need(t, initramfs(initrd, bin))
	kinds := []struct{ features, block, options string }{
		{"", "4096", ""},
		{"", "1024", "data=journal"},
		{"", "4096", "data=journal"},
		{"", "1024", ""},
		{"", "2048", "data=writeback"},
		{"inline_data", "4096", "discard"},
		{"^has_journal", "1024", ""},
		{"", "4096", "data=writeback,nobarrier"},
	}
	for i, k := range kinds {
		if os.Getenv("FSX_OPS") == "" && i > 2 {
			break
		}
		t.Run(strings.Trim(k.block+","+k.features+","+k.options, ","), func(t *testing.T) {
			img := filepath.Join(dir, fmt.Sprint("img", i))
			args := []string{"-q", "-F", "-t", "ext4", "-b", k.block}
			if k.features != "" {
				args = append(args, "-O", k.features)
			}
			if out, err := exec.Command(mke2fs, append(args, img, "24M")...).CombinedOutput(); err != nil {
				t.Fatalf("mke2fs: %v\n%s", err, out)
			}
			defer os.Remove(img)
			options := k.options
			if options == "" {
				options = "acl"
			}
			g := guest{initrd: initrd, args: []string{"ubd1=" + img}, limit: time.Minute + time.Duration(ops)*20*time.Millisecond,
				command: fmt.Sprintf("exec /t/fsx /dev/ubdb %s %d %d", options, seed+i, ops)}
			out, log, err := g.run(t)
			if err != nil || !strings.HasPrefix(out, fmt.Sprintf("fsx: %d operations", ops)) || broken(log) != "" {
				t.Fatalf("%v\n%s%s", err, out, log)
			}
			if out, err := exec.Command(e2fsck, "-fn", img).CombinedOutput(); err != nil {
				t.Fatalf("e2fsck: %v\n%s", err, out)
			}
		})
	}
}
