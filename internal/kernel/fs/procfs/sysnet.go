package procfs

import (
	"fmt"
	"math"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/fs/pseudo"
	"github.com/user-mode-linux/linux/internal/kernel/net/inet"
)

// addSysNet fills /proc/sys/net: what the network acts on, and what only has to be there for programs that set it.
func addSysNet(net *pseudo.Dir) {
	net.Subdir("unix", 0o555)
	core := net.Subdir("core", 0o555)
	kept(core, "somaxconn", 4096, 0, math.MaxInt32)
	for _, name := range []string{"rmem_max", "wmem_max", "rmem_default", "wmem_default"} {
		kept(core, name, 212992, 2304, math.MaxInt32)
	}
	kept(core, "netdev_max_backlog", 1000, 0, math.MaxInt32)
	kept(core, "optmem_max", 131072, 0, math.MaxInt32)
	v4 := net.Subdir("ipv4", 0o555)
	addForward(v4, "ip_forward", inet.ForwardIPv4)
	keptText(v4, "tcp_rmem", "4096\t131072\t6291456")
	keptText(v4, "tcp_wmem", "4096\t16384\t4194304")
	keptText(v4, "tcp_congestion_control", "cubic")
	v4.AddText("tcp_available_congestion_control", "reno cubic\n")
	for name, v := range map[string]int64{"tcp_syncookies": 1, "tcp_timestamps": 1, "tcp_sack": 1, "tcp_window_scaling": 1, "tcp_tw_reuse": 2,
		"tcp_fin_timeout": 60, "tcp_keepalive_time": 7200, "tcp_keepalive_intvl": 75, "tcp_keepalive_probes": 9, "tcp_syn_retries": 6,
		"tcp_synack_retries": 5, "tcp_retries2": 15, "tcp_max_syn_backlog": 128, "tcp_fastopen": 0, "tcp_ecn": 2, "tcp_mtu_probing": 0,
		"tcp_slow_start_after_idle": 1, "icmp_echo_ignore_broadcasts": 1, "ip_default_ttl": 64, "ip_nonlocal_bind": 0,
		"ip_unprivileged_port_start": 1024} {
		kept(v4, name, v, 0, math.MaxInt32)
	}
	ports := new(atomic.Uint64)
	ports.Store(32768<<32 | 60999)
	addRange(v4, "ip_local_port_range", ports, 1, 65535, func(lo, hi uint64) error { return inet.SetPortRange(uint16(lo), uint16(hi)) })
	addRange(v4, "ping_group_range", &inet.PingGroups, 0, math.MaxInt32, func(uint64, uint64) error { return nil })
	v6 := net.Subdir("ipv6", 0o555)
	kept(v6, "bindv6only", 0, 0, 1)
	conf4, conf6 := v4.Subdir("conf", 0o555), v6.Subdir("conf", 0o555)
	for _, dev := range []string{"all", "default", "lo"} {
		d := conf4.Subdir(dev, 0o555)
		for _, name := range []string{"rp_filter", "accept_redirects", "send_redirects", "accept_source_route", "proxy_arp", "log_martians", "arp_ignore", "arp_announce", "promote_secondaries"} {
			kept(d, name, 0, math.MinInt32, math.MaxInt32)
		}
		if dev != "all" {
			kept(d, "forwarding", 0, 0, 1)
		} else {
			addForward(d, "forwarding", inet.ForwardIPv4)
		}
		d = conf6.Subdir(dev, 0o555)
		for name, v := range map[string]int64{"disable_ipv6": 0, "accept_ra": 0, "accept_redirects": 0, "autoconf": 0, "use_tempaddr": 0, "accept_source_route": 0, "addr_gen_mode": 0, "dad_transmits": 0} {
			kept(d, name, v, math.MinInt32, math.MaxInt32)
		}
		if dev == "all" {
			addForward(d, "forwarding", inet.ForwardIPv6)
		} else {
			kept(d, "forwarding", 0, 0, 1)
		}
	}
}

// addForward adds a switch that makes the guest a router.
func addForward(d *pseudo.Dir, name string, set func(bool)) {
	n := pseudo.NewNumber(0, 0, 1)
	addNumber(d, name, 0, 1, n.Value, func(v int64) error {
		set(v != 0)
		n.Set(v)
		return nil
	})
}

// addRange adds two numbers, which n holds in its halves.
func addRange(d *pseudo.Dir, name string, n *atomic.Uint64, least, most int64, set func(lo, hi uint64) error) {
	addString(d, name, func() string { v := n.Load(); return fmt.Sprintf("%d\t%d", v>>32, v&math.MaxUint32) }, func(s string) error {
		v, err := numbers(s, 2)
		if err != nil {
			return err
		}
		if len(v) != 2 || v[0] < least || v[1] > most || v[0] > v[1] {
			return unix.EINVAL
		}
		if err := set(uint64(v[0]), uint64(v[1])); err != nil {
			return err
		}
		n.Store(uint64(v[0])<<32 | uint64(v[1]))
		return nil
	})
}

// keptText adds a line that is kept and shown, and nothing more.
func keptText(d *pseudo.Dir, name, text string) {
	var v atomic.Pointer[string]
	v.Store(&text)
	addString(d, name, func() string { return *v.Load() }, func(s string) error { v.Store(&s); return nil })
}
