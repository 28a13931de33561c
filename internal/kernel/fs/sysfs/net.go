package sysfs

import (
	"fmt"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/net/inet"
)

// addNet shows the network interfaces, now and later.
func addNet() {
	var mu sync.Mutex
	shown := map[int]string{} // paths by index
	show := func(i inet.Info, gone bool) {
		mu.Lock()
		defer mu.Unlock()
		p := netPath(i)
		if old, ok := shown[i.Index]; ok && (gone || old != p) {
			RemoveDevice(old)
			delete(shown, i.Index)
		}
		if _, ok := shown[i.Index]; !ok && !gone {
			shown[i.Index] = p
			stats := AddDevice(netDevice(i)).Subdir("statistics", 0o755)
			for _, a := range netStats(i) {
				stats.AddFile(a.Name, a.Perm, a.Show, nil)
			}
		}
	}
	inet.Watch(func(c inet.Change) {
		if c.Link != nil {
			show(*c.Link, c.Deleted)
		}
	})
	for _, i := range inet.Devices() {
		show(i, false)
	}
}

// netPath is where an interface is: those of drivers are platform devices, as in UML.
func netPath(i inet.Info) string {
	if i.Loopback {
		return "virtual/net/" + i.Name
	}
	return fmt.Sprintf("platform/uml-netdev.%d/net/%s", i.Index-2, i.Name)
}

func netDevice(i inet.Info) Device {
	index := i.Index
	value := func(name string, f func(inet.Info) string) Attr {
		return Value(name, func() string {
			now, _ := inet.ByIndex(index)
			return f(now)
		})
	}
	num := func(name string, f func(inet.Info) int) Attr {
		return value(name, func(i inet.Info) string { return strconv.Itoa(f(i)) })
	}
	d := Device{Path: netPath(i), Subsystem: "net", Env: []string{"INTERFACE=" + i.Name, "IFINDEX=" + strconv.Itoa(index)}}
	d.Attrs = []Attr{
		num("ifindex", func(i inet.Info) int { return i.Index }),
		num("iflink", func(i inet.Info) int { return i.Index }),
		num("mtu", func(i inet.Info) int { return i.MTU }),
		num("tx_queue_len", func(i inet.Info) int { return i.TxQueue }),
		num("type", func(i inet.Info) int { return int(i.Type) }),
		Text("addr_len", "6"),
		Text("addr_assign_type", "0"),
		Text("dev_id", "0x0"),
		Text("dev_port", "0"),
		Text("ifalias", ""),
		Text("link_mode", "0"),
		Text("name_assign_type", "4"),
		value("flags", func(i inet.Info) string { return fmt.Sprintf("0x%x", i.Flags&0xffff) }),
		value("address", func(i inet.Info) string { return macText(i.MAC) }),
		value("broadcast", func(i inet.Info) string {
			if i.Loopback {
				return macText([6]byte{})
			}
			return macText([6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
		}),
		value("operstate", func(i inet.Info) string {
			switch {
			case i.Loopback:
				return "unknown"
			case i.Flags&unix.IFF_RUNNING != 0:
				return "up"
			}
			return "down"
		}),
		value("carrier", func(i inet.Info) string {
			if i.Up() {
				return "1"
			}
			return "0"
		}),
	}
	return d
}

func macText(mac [6]byte) string {
	var l []string
	for _, b := range mac {
		l = append(l, fmt.Sprintf("%02x", b))
	}
	return strings.Join(l, ":")
}

// netStats adds the counters of an interface.
func netStats(i inet.Info) []Attr {
	var l []Attr
	for name, f := range map[string]func(inet.Stats) uint64{
		"rx_bytes": func(s inet.Stats) uint64 { return s.RxBytes }, "rx_packets": func(s inet.Stats) uint64 { return s.RxPackets },
		"rx_dropped": func(s inet.Stats) uint64 { return s.RxDropped }, "rx_errors": func(inet.Stats) uint64 { return 0 },
		"tx_bytes": func(s inet.Stats) uint64 { return s.TxBytes }, "tx_packets": func(s inet.Stats) uint64 { return s.TxPackets },
		"tx_dropped": func(s inet.Stats) uint64 { return s.TxDropped }, "tx_errors": func(inet.Stats) uint64 { return 0 },
		"collisions": func(inet.Stats) uint64 { return 0 }, "multicast": func(inet.Stats) uint64 { return 0 },
	} {
		l = append(l, Value(name, func() string {
			now, _ := inet.ByIndex(i.Index)
			return strconv.FormatUint(f(now.Stats), 10)
		}))
	}
	return l
}
