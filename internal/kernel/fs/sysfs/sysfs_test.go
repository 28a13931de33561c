package sysfs

import (
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// lookup finds a path from the root without following links.
func lookup(p string) (vfs.Inode, error) {
	var in vfs.Inode = tree()
	for name := range strings.SplitSeq(p, "/") {
		var err error
		if in, err = in.Lookup(nil, name); err != nil {
			return nil, err
		}
	}
	return in, nil
}

func text(t *testing.T, p string) string {
	t.Helper()
	in, err := lookup(p)
	if err != nil {
		t.Fatalf("%s: %v", p, err)
	}
	ops, err := in.Open(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 4096)
	n, err := ops.Read(nil, nil, uio.ToBytes(b), 0)
	if err != nil {
		t.Fatalf("%s: %v", p, err)
	}
	return string(b[:n])
}

func link(t *testing.T, p string) string {
	t.Helper()
	in, err := lookup(p)
	if err != nil {
		t.Fatalf("%s: %v", p, err)
	}
	s, err := in.Readlink(nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestDevice(t *testing.T) {
	var events []string
	OnEvent(func(e Event) { events = append(events, e.Action+" "+e.Device.Path) })
	defer OnEvent(nil)
	AddDevice(Device{
		Path: "virtual/tty/ttyX0", Subsystem: "tty", Rdev: unix.Mkdev(4, 70), Env: []string{"KEY=value"},
		Attrs: []Attr{Text("line", "5"), Value("computed", func() string { return "now" })},
	})
	for p, want := range map[string]string{
		"dev": "4:70\n", "line": "5\n", "computed": "now\n", "uevent": "MAJOR=4\nMINOR=70\nDEVNAME=ttyX0\nKEY=value\n",
	} {
		if s := text(t, "devices/virtual/tty/ttyX0/"+p); s != want {
			t.Errorf("%s: %q, want %q", p, s, want)
		}
	}
	for p, want := range map[string]string{
		"class/tty/ttyX0":                     "../../devices/virtual/tty/ttyX0",
		"dev/char/4:70":                       "../../devices/virtual/tty/ttyX0",
		"devices/virtual/tty/ttyX0/subsystem": "../../../../class/tty",
	} {
		if s := link(t, p); s != want {
			t.Errorf("%s: %q, want %q", p, s, want)
		}
	}
	in, err := lookup("devices/virtual/tty/ttyX0/uevent")
	if err != nil {
		t.Fatal(err)
	}
	if a := in.Attr(); a.Mode != unix.S_IFREG|0o644 || a.Size != 4096 {
		t.Errorf("attributes %+v", a)
	}
	ops, _ := in.Open(nil, nil)
	if _, err := ops.Write(nil, nil, uio.FromBytes([]byte("change\n")), 0); err != nil {
		t.Error(err)
	}
	if _, err := ops.Write(nil, nil, uio.FromBytes([]byte("nonsense")), 0); err != unix.EINVAL {
		t.Errorf("nonsense: %v", err)
	}
	RemoveDevice("virtual/tty/ttyX0")
	for _, p := range []string{"devices/virtual/tty/ttyX0", "class/tty/ttyX0", "dev/char/4:70"} {
		if _, err := lookup(p); err != unix.ENOENT {
			t.Errorf("%s: %v", p, err)
		}
	}
	if want := []string{"add virtual/tty/ttyX0", "change virtual/tty/ttyX0", "remove virtual/tty/ttyX0"}; !slices.Equal(events, want) {
		t.Errorf("events %q", events)
	}
}

func TestFixedPart(t *testing.T) {
	Init(Config{CPUs: 4})
	for p, want := range map[string]string{
		"devices/system/cpu/online":                             "0-3\n",
		"devices/system/cpu/cpu2/topology/core_siblings_list":   "0-3\n",
		"devices/system/cpu/cpu2/topology/thread_siblings_list": "2\n",
		"devices/system/node/node0/cpumap":                      "f\n",
		"devices/virtual/mem/null/dev":                          "1:3\n",
		"power/state":                                           "mem\n",
	} {
		if s := text(t, p); s != want {
			t.Errorf("%s: %q, want %q", p, s, want)
		}
	}
	AddTTY("tty0", unix.Mkdev(4, 0), true)
	if s := text(t, "devices/virtual/tty/console/active"); s != "tty0\n" {
		t.Errorf("active console %q", s)
	}
	if vfs.FindFilesystem("sysfs") != Type {
		t.Error("not registered")
	}
}

func TestBlockStat(t *testing.T) {
	if s := formatBlockStat("1 0 20 300"); s != "       1        0       20      300" {
		t.Errorf("%q", s)
	}
}
