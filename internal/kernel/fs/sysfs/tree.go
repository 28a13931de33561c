package sysfs

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/bdev"
	"github.com/user-mode-linux/linux/internal/kernel/chrdev"
	"github.com/user-mode-linux/linux/internal/kernel/fs/pseudo"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

const sysfsMagic = 0x62656572

// Type is the file system type. Devices come and go, so names are not cached.
var Type = &vfs.FilesystemType{Name: "sysfs", NoDcache: true}

func init() { Type.Mount = mount }

// tree is the one file system.
var tree = sync.OnceValue(func() *pseudo.Dir {
	fs := pseudo.NewFS(Type, vfs.NewAnonDev(), sysfsMagic)
	fs.FileSize = 4096
	root := pseudo.NewRoot(fs, 0o555)
	for _, name := range []string{"block", "bus", "class", "dev", "devices", "firmware", "fs", "kernel", "module", "power"} {
		root.Subdir(name, 0o755)
	}
	return root
})

// mount shows the tree; there are no options.
func mount(vfs.Caller, string, uint64, string) (vfs.SuperBlock, error) { return tree().FS(), nil }

// Dir is a directory of the tree, made if it is not there: "kernel/mm".
func Dir(path string) *pseudo.Dir {
	d := tree()
	for name := range strings.SplitSeq(path, "/") {
		if name != "" && name != "." {
			d = d.Subdir(name, 0o755)
		}
	}
	return d
}

// Config is what the fixed part shows. Functions may be nil.
type Config struct {
	// CPUs is the number of guest CPUs.
	CPUs int
	// Suspend idles the guest until something wakes it (write "mem" to /sys/power/state).
	Suspend func(c vfs.Caller) error
}

// Init fills in the fixed part, follows block devices and registers the file system. It is called once, at boot.
func Init(cfg Config) {
	addCPUs(max(cfg.CPUs, 1))
	addMemDevices()
	addKernel()
	Dir("power").AddFile("state", 0o644, pseudo.String("mem\n"), func(c vfs.Caller, p []byte) error {
		if strings.TrimSpace(string(p)) != "mem" || cfg.Suspend == nil {
			return unix.EINVAL
		}
		return cfg.Suspend(c)
	})
	Dir("class/block")
	Dir("class/net")
	Dir("class/tty")
	Dir("dev/block")
	Dir("dev/char")
	bdev.Watch(blockChanged)
	bdev.WatchChanges(diskChanged)
	vfs.RegisterFilesystem(Type)
	addNet()
}

func addCPUs(n int) {
	all := "0"
	if n > 1 {
		all = fmt.Sprintf("0-%d", n-1)
	}
	mask := fmt.Sprintf("%x", uint64(1)<<n-1)
	d := Dir("devices/system/cpu")
	for _, name := range []string{"online", "possible", "present"} {
		d.AddText(name, all+"\n")
	}
	d.AddText("offline", "\n")
	d.AddText("isolated", "\n")
	d.AddText("kernel_max", "63\n")
	for i := range n {
		c := d.Subdir(fmt.Sprintf("cpu%d", i), 0o755)
		if i > 0 {
			c.AddText("online", "1\n")
		}
		t := c.Subdir("topology", 0o755)
		self := fmt.Sprintf("%x\n", uint64(1)<<i)
		t.AddText("core_id", fmt.Sprintf("%d\n", i))
		t.AddText("physical_package_id", "0\n")
		t.AddText("die_id", "0\n")
		t.AddText("thread_siblings", self)
		t.AddText("thread_siblings_list", fmt.Sprintf("%d\n", i))
		t.AddText("core_cpus", self)
		t.AddText("core_cpus_list", fmt.Sprintf("%d\n", i))
		t.AddText("core_siblings", mask+"\n")
		t.AddText("core_siblings_list", all+"\n")
		t.AddText("package_cpus", mask+"\n")
		t.AddText("package_cpus_list", all+"\n")
		c.AddLink("subsystem", "../../../../bus/cpu")
		Dir("bus/cpu/devices").AddLink(fmt.Sprintf("cpu%d", i), fmt.Sprintf("../../../devices/system/cpu/cpu%d", i))
	}
	node := Dir("devices/system/node")
	for _, name := range []string{"online", "possible", "has_cpu", "has_memory", "has_normal_memory"} {
		node.AddText(name, "0\n")
	}
	n0 := node.Subdir("node0", 0o755)
	n0.AddText("cpumap", mask+"\n")
	n0.AddText("cpulist", all+"\n")
	n0.AddText("distance", "10\n")
	for i := range n {
		n0.AddLink(fmt.Sprintf("cpu%d", i), fmt.Sprintf("../../cpu/cpu%d", i))
	}
}

// rtcAttrs are the files of a clock (Documentation/ABI/testing/rtc-cdev, admin-guide/rtc).
func rtcAttrs() []Attr {
	return []Attr{
		Text("name", "uml-rtc"), Text("hctosys", "0"), Text("max_user_freq", "64"),
		Value("date", func() string { return chrdev.RTCNow().Format("2006-01-02") }),
		Value("time", func() string { return chrdev.RTCNow().Format("15:04:05") }),
		Value("since_epoch", func() string { return fmt.Sprint(chrdev.RTCNow().Unix()) }),
	}
}

// addMemDevices adds the character devices that are always there.
func addMemDevices() {
	for _, d := range []struct {
		class, name  string
		major, minor uint32
		mode         string
	}{
		{"mem", "null", 1, 3, "0666"}, {"mem", "zero", 1, 5, "0666"}, {"mem", "full", 1, 7, "0666"},
		{"mem", "random", 1, 8, "0666"}, {"mem", "urandom", 1, 9, "0666"}, {"mem", "kmsg", 1, 11, "0644"},
		{"tty", "tty", 5, 0, "0666"}, {"tty", "console", 5, 1, ""}, {"tty", "ptmx", 5, 2, "0666"},
		{"misc", "loop-control", 10, 237, ""}, {"misc", "watchdog", 10, 130, ""}, {"misc", "hw_random", 10, 183, ""},
		{"rtc", "rtc0", 254, 0, ""},
	} {
		dev := Device{Path: "virtual/" + d.class + "/" + d.name, Subsystem: d.class, Rdev: unix.Mkdev(d.major, d.minor)}
		if d.mode != "" {
			dev.Env = []string{"DEVMODE=" + d.mode}
		}
		switch d.name {
		case "hw_random":
			dev.DevName = "hwrng"
			dev.Attrs = []Attr{Text("rng_available", "host"), Text("rng_current", "host")}
		case "rtc0":
			dev.Attrs = rtcAttrs()
		case "console":
			dev.Attrs = []Attr{Value("active", func() string {
				if p := activeConsole.Load(); p != nil {
					return *p
				}
				return ""
			})}
		}
		AddDevice(dev)
	}
}

// AddTTY adds a console or serial line ("tty0", "ttyS1") to the class tty; RemoveDevice("virtual/tty/...") takes it away.
// active says that it is the one behind /dev/console.
func AddTTY(name string, rdev uint64, active bool) {
	AddDevice(Device{Path: "virtual/tty/" + name, Subsystem: "tty", Rdev: rdev})
	if active {
		activeConsole.Store(&name)
	}
}

// activeConsole is the name of the terminal behind /dev/console.
var activeConsole atomic.Pointer[string]

func addKernel() {
	k := Dir("kernel")
	k.AddFile("uevent_seqnum", 0o444, func(_ vfs.Caller, w *bytes.Buffer) error {
		fmt.Fprintf(w, "%d\n", devices.seq.Load())
		return nil
	}, nil)
	k.AddText("uevent_helper", "\n")
	k.AddText("profiling", "0\n")
	k.AddText("cpu_byteorder", "little\n")
	k.AddText("address_bits", "64\n")
	Dir("kernel/mm/transparent_hugepage").AddText("enabled", "always [madvise] never\n")
}
