package guesttest

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// TestCutMappings has programs look at mappings of files that are truncated, punched, shifted and written. What they see on
// Linux 6.18's ext4 is in disk/cutmap.want.
func TestCutMappings(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: boots guests")
	}
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skip("no gcc on this machine")
	}
	e2fsck := hostTool(t, "e2fsck", "e2fsprogs")
	need(t, guest{}.works(t))
	want, err := os.ReadFile(filepath.Join(testdata, "disk/cutmap.want"))
	need(t, err)
	bin := filepath.Join(t.TempDir(), "cutmap")
	if out, err := exec.Command("gcc", "-O1", "-static", "-pthread", "-w", "-o", bin, filepath.Join(testdata, "disk/cutmap.c")).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	b, err := os.ReadFile(bin)
	need(t, err)
	for _, c := range []struct {
		name string
		long bool
		args []string
	}{
		{"raw", false, nil},
		{"cow", false, nil},
		{"ptrace", true, []string{"seccomp=off"}},
		{"journalled", true, []string{"rootflags=data=journal"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.long && !long() {
				t.Skip("only with GUESTTEST_LONG=1")
			}
			image := diskImage(t, map[string]string{"cutmap": string(b)})
			option := "ubd0=" + image
			if c.name == "cow" {
				option = "ubd0=" + image + ".layer," + image
			}
			g := guest{args: append(c.args, option, "rw"), command: "cd /data; /cutmap", limit: 2 * time.Minute}
			out, log, err := g.run(t)
			if err != nil || out != string(want) || broken(log) != "" {
				t.Errorf("%v\n%s%s", err, diff(string(want), out), log)
			}
			if out, err := exec.Command(e2fsck, "-fn", image).CombinedOutput(); err != nil {
				t.Errorf("e2fsck: %v\n%s", err, out)
			}
		})
	}
}
