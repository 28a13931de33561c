package sysfs

import (
	"bytes"
	"fmt"
	"path"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/fs/pseudo"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// Device is one device.
type Device struct {
	// Path is where it is below devices/: "virtual/mem/null". Its last part is the device's name.
	Path string
	// Subsystem is its class ("mem", "tty", "net", "block").
	Subsystem string
	// Rdev is its device number, 0 if it has none; Block says which kind.
	Rdev  uint64
	Block bool
	// DevName is the path below /dev, if it is not the name.
	DevName string
	// Env are more lines for uevent ("DEVTYPE=disk").
	Env []string
	// Attrs are its own files.
	Attrs []Attr
	// Parent is the path of a device that it belongs to ("device" links to it), "" for none.
	Parent string
}

// Attr is a file of a device. Perm is 0444 or 0644, or what it has to be; a nil Store makes it read-only.
type Attr struct {
	Name  string
	Perm  uint32
	Show  pseudo.ShowFunc
	Store pseudo.StoreFunc
}

// Text is a constant attribute; the newline is added.
func Text(name, text string) Attr {
	return Attr{Name: name, Perm: 0o444, Show: pseudo.String(text + "\n")}
}

// Value is an attribute that is computed at each read.
func Value(name string, f func() string) Attr {
	return Attr{Name: name, Perm: 0o444, Show: func(_ vfs.Caller, w *bytes.Buffer) error {
		w.WriteString(f())
		w.WriteByte('\n')
		return nil
	}}
}

// Event is something that happened to a device, as the kernel tells it to udev.
type Event struct {
	Action string // add, remove, change, ...
	Device Device
	Seq    uint64
}

// Message is the event as udev gets it: a header and lines, each ended by a 0.
func (e Event) Message() []byte {
	d := &e.Device
	lines := []string{e.Action + "@/devices/" + d.Path, "ACTION=" + e.Action, "DEVPATH=/devices/" + d.Path, "SUBSYSTEM=" + d.Subsystem}
	lines = append(append(lines, d.Uevent()...), fmt.Sprintf("SEQNUM=%d", e.Seq))
	return []byte(strings.Join(lines, "\x00") + "\x00")
}

var devices struct {
	mu      sync.Mutex
	byPath  map[string]Device
	onEvent func(Event)
	seq     atomic.Uint64
}

// OnEvent installs the one receiver of events.
func OnEvent(f func(Event)) {
	devices.mu.Lock()
	devices.onEvent = f
	devices.mu.Unlock()
}

// Devices lists all devices.
func Devices() []Device {
	devices.mu.Lock()
	defer devices.mu.Unlock()
	out := make([]Device, 0, len(devices.byPath))
	for _, d := range devices.byPath {
		out = append(out, d)
	}
	return out
}

func send(action string, d Device) {
	devices.mu.Lock()
	f := devices.onEvent
	devices.mu.Unlock()
	seq := devices.seq.Add(1)
	if f != nil {
		f(Event{action, d, seq})
	}
}

// Name is the device's name.
func (d *Device) Name() string { return path.Base(d.Path) }

// Uevent are the lines that describe the device, as its file uevent shows them.
func (d *Device) Uevent() []string {
	var l []string
	if d.Rdev != 0 {
		name := d.DevName
		if name == "" {
			name = d.Name()
		}
		l = append(l, fmt.Sprintf("MAJOR=%d", unix.Major(d.Rdev)), fmt.Sprintf("MINOR=%d", unix.Minor(d.Rdev)), "DEVNAME="+name)
	}
	return append(l, d.Env...)
}

// up is the way from a directory that is depth levels below the root back to the root.
func up(depth int) string { return strings.Repeat("../", depth) }

// number is the name of a link under dev/.
func (d *Device) number() string { return fmt.Sprintf("%d:%d", unix.Major(d.Rdev), unix.Minor(d.Rdev)) }

func (d *Device) kind() string {
	if d.Block {
		return "dev/block"
	}
	return "dev/char"
}

// AddDevice adds a device. It returns the device's directory, to which more can be added. Adding a path again replaces it.
func AddDevice(d Device) *pseudo.Dir {
	d.Path = path.Clean(d.Path)
	devices.mu.Lock()
	if devices.byPath == nil {
		devices.byPath = map[string]Device{}
	}
	devices.byPath[d.Path] = d
	dir := Dir("devices/" + d.Path)
	depth := strings.Count(d.Path, "/") + 2
	dir.AddFile("uevent", 0o644, func(_ vfs.Caller, w *bytes.Buffer) error {
		for _, l := range d.Uevent() {
			w.WriteString(l)
			w.WriteByte('\n')
		}
		return nil
	}, func(_ vfs.Caller, p []byte) error { return d.trigger(p) })
	for _, a := range d.Attrs {
		dir.AddFile(a.Name, a.Perm, a.Show, a.Store)
	}
	if d.Parent != "" {
		dir.AddLink("device", up(depth)+"devices/"+d.Parent)
	}
	if d.Subsystem != "" {
		dir.AddLink("subsystem", up(depth)+"class/"+d.Subsystem)
		Dir("class/"+d.Subsystem).AddLink(d.Name(), "../../devices/"+d.Path)
	}
	if d.Rdev != 0 {
		dir.AddFile("dev", 0o444, pseudo.String(d.number()+"\n"), nil)
		Dir(d.kind()).AddLink(d.number(), "../../devices/"+d.Path)
	}
	devices.mu.Unlock()
	send("add", d)
	return dir
}

// RemoveDevice takes a device away, with all that is below it.
func RemoveDevice(p string) {
	p = path.Clean(p)
	devices.mu.Lock()
	d, ok := devices.byPath[p]
	if ok {
		delete(devices.byPath, p)
		if d.Subsystem != "" {
			Dir("class/" + d.Subsystem).Remove(d.Name())
		}
		if d.Rdev != 0 {
			Dir(d.kind()).Remove(d.number())
		}
		Dir("devices/" + path.Dir(p)).Remove(d.Name())
	}
	devices.mu.Unlock()
	if ok {
		send("remove", d)
	}
}

// trigger sends the event that a program wrote to uevent, as udevadm trigger does: an action and perhaps more words.
func (d *Device) trigger(p []byte) error {
	word, _, _ := strings.Cut(strings.TrimSpace(string(p)), " ")
	switch word {
	case "add", "remove", "change", "move", "online", "offline", "bind", "unbind":
		send(word, *d)
		return nil
	}
	return unix.EINVAL
}
