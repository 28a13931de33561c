package ext4

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/bdev"
	"github.com/user-mode-linux/linux/internal/kernel/klog"
)

// logged returns the log lines since seq that contain s.
func logged(seq uint64, s string) (out []string) {
	recs, _ := klog.From(seq, 10000)
	for _, r := range recs {
		if strings.Contains(r.Text, s) {
			out = append(out, r.Text)
		}
	}
	return out
}

// TestRecovery writes transactions into the journal with debugfs and reads the result through a mount.
func TestRecovery(t *testing.T) {
	for _, tc := range []struct{ name, open, features string }{
		{"plain", "jo", "none,filetype,has_journal,ext_attr,extent"},
		{"64bit", "jo", "none,filetype,has_journal,ext_attr,extent,64bit"},
		{"csum2", "jo -c -v 2", "none,filetype,has_journal,ext_attr,extent,64bit,metadata_csum"},
		{"csum3", "jo -c -v 3", "none,filetype,has_journal,ext_attr,extent,64bit,metadata_csum"},
		{"csum3-32bit", "jo -c -v 3", "none,filetype,has_journal,ext_attr,extent,metadata_csum"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			const bs = 1024
			for i := range 4 {
				must(t, os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), bytes.Repeat([]byte{'0' + byte(i)}, bs), 0o644))
			}
			img := mkImage(t, dir, "8M", "-b", "1024", "-O", tc.features, "-J", "size=1")
			sb := mountImage(t, Ext4, img)
			phys := make([]uint64, 4)
			for i := range phys {
				in, err := sb.Root().Lookup(nil, fmt.Sprint(i))
				must(t, err)
				r, err := in.(*inode).mapBlock(0)
				must(t, err)
				phys[i] = r.phys
			}
			fill := func(name string, b []byte) string {
				p := filepath.Join(t.TempDir(), name)
				must(t, os.WriteFile(p, b, 0o644))
				return p
			}
			first := fill("first", bytes.Repeat([]byte{'A'}, bs))
			escaped := append([]byte{0xc0, 0x3b, 0x39, 0x98}, bytes.Repeat([]byte{'E'}, bs-4)...)
			second := fill("second", escaped)
			script := fill("script", []byte(strings.Join([]string{
				tc.open,
				fmt.Sprintf("jw -b %d %s", phys[0], first),
				fmt.Sprintf("jw -b %d %s", phys[1], first),
				fmt.Sprintf("jw -r %d", phys[1]),
				fmt.Sprintf("jw -b %d %s", phys[2], first),
				fmt.Sprintf("jw -b %d %s", phys[2], second),
				"jc", "",
			}, "\n")))
			mustRun(t, "debugfs", "-w", "-f", script, img)

			seq := klog.Next()
			sb = mountImage(t, Ext4, img)
			if l := logged(seq, "replayed in memory"); len(l) != 1 {
				t.Fatalf("no replay: %q", logged(seq, "EXT4-fs"))
			}
			want := [][]byte{bytes.Repeat([]byte{'A'}, bs), bytes.Repeat([]byte{'1'}, bs), escaped, bytes.Repeat([]byte{'3'}, bs)}
			for i, w := range want {
				in, err := sb.Root().Lookup(nil, fmt.Sprint(i))
				must(t, err)
				p := make([]byte, bs)
				if n, err := readAt(openRegular(t, in), p, 0); err != nil || n != bs || !bytes.Equal(p, w) {
					t.Errorf("file %d: %d %v %q, want %q", i, n, err, p[:8], w[:8])
				}
			}

			// The host's own recovery must come to the same.
			cmd := exec.Command(tool(t, "e2fsck"), "-fy", img)
			if out, err := cmd.CombinedOutput(); err != nil && cmd.ProcessState.ExitCode() > 1 {
				t.Fatalf("e2fsck: %v\n%s", err, out)
			}
			raw, err := os.ReadFile(img)
			must(t, err)
			for i, w := range want {
				if got := raw[phys[i]*bs:][:bs]; !bytes.Equal(got, w) {
					t.Errorf("e2fsck: block of file %d is %q, want %q", i, got[:8], w[:8])
				}
			}
		})
	}
}

// TestDamagedJournal mounts images whose journal cannot be replayed: they are mounted with a warning.
func TestDamagedJournal(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "f"), []byte("content"), 0o644))
	img := mkImage(t, dir, "8M", "-b", "1024", "-O", "none,filetype,has_journal,ext_attr,extent", "-J", "size=1")
	mustRun(t, "debugfs", "-w", "-R", "set_super_value feature_incompat 0x46", img)
	sb := mountImage(t, Ext4, img)
	in, err := sb.iget(8, true)
	must(t, err)
	r, err := in.mapBlock(0)
	must(t, err)
	raw, err := os.ReadFile(img)
	must(t, err)
	for _, at := range []int{0, 12, 16, 20, 28, 40} {
		b := append([]byte(nil), raw...)
		copy(b[int(r.phys)*1024+at:], []byte{0xff, 0xff, 0xff, 0xf0})
		seq := klog.Next()
		sb, err := Mount(Ext4, bdev.NewMem("ubda", b, true), unix.MS_RDONLY, "")
		must(t, err)
		if len(logged(seq, "cannot be replayed")) == 0 && at != 40 {
			t.Errorf("damage at %d: no warning: %q", at, logged(seq, "EXT4"))
		}
		if _, err := sb.Root().Lookup(nil, "f"); err != nil {
			t.Errorf("damage at %d: %v", at, err)
		}
	}
}
