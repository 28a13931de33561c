package main

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"
)

// The cpio program of the host is the judge.
func TestArchive(t *testing.T) {
	var b bytes.Buffer
	if err := write(&b, tree([]byte("program"), []string{"ls", "init"})); err != nil {
		t.Fatal(err)
	}
	if b.Len()%4 != 0 {
		t.Errorf("length %d", b.Len())
	}
	cpio, err := exec.LookPath("cpio")
	if err != nil {
		t.Skip("no cpio on this machine")
	}
	cmd := exec.Command(cpio, "-itv")
	cmd.Stdin = &b
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"bin/ls -> busybox", "sbin/init -> ../bin/busybox", "bin/busybox", "5,   1", "dev/console", "drwxrwxrwt"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("%q is missing in:\n%s", want, out)
		}
	}
}
