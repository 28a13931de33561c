package procfs

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/fs/pseudo"
	"github.com/user-mode-linux/linux/internal/kernel/net/inet"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// addInet fills net/ with what net-tools and others read (proc(5)).
func addInet(d *pseudo.Dir) {
	add := func(name string, show func(w *bytes.Buffer)) {
		d.AddFile(name, 0o444, func(_ vfs.Caller, w *bytes.Buffer) error { show(w); return nil }, nil)
	}
	for _, t := range []struct {
		name        string
		family, typ int
		ping        bool
	}{
		{"tcp", unix.AF_INET, unix.SOCK_STREAM, false}, {"udp", unix.AF_INET, unix.SOCK_DGRAM, false}, {"raw", unix.AF_INET, unix.SOCK_RAW, false},
		{"icmp", unix.AF_INET, unix.SOCK_DGRAM, true}, {"tcp6", unix.AF_INET6, unix.SOCK_STREAM, false},
		{"udp6", unix.AF_INET6, unix.SOCK_DGRAM, false}, {"raw6", unix.AF_INET6, unix.SOCK_RAW, false}, {"icmp6", unix.AF_INET6, unix.SOCK_DGRAM, true},
	} {
		add(t.name, func(w *bytes.Buffer) {
			var l []inet.SockInfo
			for _, s := range inet.Sockets() {
				// Sockets without address are in no table.
				ping := s.Protocol == unix.IPPROTO_ICMP || s.Protocol == unix.IPPROTO_ICMPV6
				if s.Family == t.family && s.Type == t.typ && (t.typ != unix.SOCK_DGRAM || ping == t.ping) && (s.Local.Port() != 0 || t.typ == unix.SOCK_RAW) {
					l = append(l, s)
				}
			}
			formatSockets(w, t.family, t.typ, l)
		})
	}
	add("dev", func(w *bytes.Buffer) { formatDev(w, inet.Devices()) })
	add("route", func(w *bytes.Buffer) { formatRoutes(w, inet.Routes()) })
	add("ipv6_route", func(w *bytes.Buffer) { formatRoutes6(w, inet.Routes()) })
	add("if_inet6", func(w *bytes.Buffer) { formatInet6(w, inet.Devices()) })
	add("arp", func(w *bytes.Buffer) { formatARP(w, inet.Neighbors()) })
	add("snmp", func(w *bytes.Buffer) { formatSNMP(w, inet.Counters()) })
	add("sockstat", func(w *bytes.Buffer) { formatSockstat(w, inet.Sockets(), unix.AF_INET) })
	add("sockstat6", func(w *bytes.Buffer) { formatSockstat(w, inet.Sockets(), unix.AF_INET6) })
	d.AddText("protocols", "protocol  size sockets  memory press maxhdr  slab module     cl co di ac io in de sh ss gs se re sp bi br ha uh gp em\n")
	d.AddText("packet", "sk               RefCnt Type Proto  Iface R Rmem   User   Inode\n")
	d.AddText("dev_mcast", "")
	d.AddText("igmp", "Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n")
	d.AddText("wireless", "Inter-| sta-|   Quality        |   Discarded packets               | Missed | WE\n face | tus | link level noise |  nwid  crypt   frag  retry   misc | beacon | 22\n")
}

// hexAddr writes an address and port as /proc/net/tcp does: words in host order.
func hexAddr(w *bytes.Buffer, a netip.AddrPort) {
	b := a.Addr().AsSlice()
	for ; len(b) > 0; b = b[4:] {
		fmt.Fprintf(w, "%08X", binary.NativeEndian.Uint32(b))
	}
	fmt.Fprintf(w, ":%04X", a.Port())
}

func formatSockets(w *bytes.Buffer, family, typ int, l []inet.SockInfo) {
	pad := "" // the columns of addresses are wider for IPv6
	if family == unix.AF_INET6 {
		pad = "                        "
	}
	stream := typ == unix.SOCK_STREAM
	var line bytes.Buffer
	end := func() {
		if family == unix.AF_INET {
			for width := map[bool]int{true: 149, false: 127}[stream]; line.Len() < width; {
				line.WriteByte(' ')
			}
		}
		line.WriteByte('\n')
		w.Write(line.Bytes())
		line.Reset()
	}
	switch {
	case stream && family == unix.AF_INET:
		line.WriteString("  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode")
	case stream:
		fmt.Fprintf(&line, "  sl  local_address %s        remote_address%s        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode", pad[:18], pad[:10])
	case family == unix.AF_INET:
		line.WriteString("   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops")
	default:
		fmt.Fprintf(&line, "  sl  local_address %s        remote_address%s        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops", pad[:18], pad[:10])
	}
	end()
	for i, s := range l {
		if stream {
			fmt.Fprintf(&line, "%4d: ", i)
		} else {
			fmt.Fprintf(&line, "%5d: ", i)
		}
		hexAddr(&line, s.Local)
		line.WriteByte(' ')
		hexAddr(&line, s.Remote)
		fmt.Fprintf(&line, " %02X %08X:%08X 00:00000000 00000000 %5d        0 %d 2 0000000000000000", s.State, s.TxQueue, s.RxQueue, s.UID, s.Inode)
		if stream {
			line.WriteString(" 20 4 0 10 -1")
		} else {
			line.WriteString(" 0")
		}
		end()
	}
}

func formatDev(w *bytes.Buffer, l []inet.Info) {
	w.WriteString("Inter-|   Receive                                                |  Transmit\n" +
		" face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n")
	for _, d := range l {
		s := d.Stats
		fmt.Fprintf(w, "%6s: %7d %7d %4d %4d %4d %5d %10d %9d %8d %7d %4d %4d %4d %5d %7d %10d\n", d.Name,
			s.RxBytes, s.RxPackets, 0, s.RxDropped, 0, 0, 0, 0, s.TxBytes, s.TxPackets, 0, s.TxDropped, 0, 0, 0, 0)
	}
}

// names are the names of devices by index.
func names() map[int]string {
	m := map[int]string{}
	for _, d := range inet.Devices() {
		m[d.Index] = d.Name
	}
	return m
}

// Flags of routes in /proc/net (linux/route.h, linux/ipv6_route.h).
const (
	rtfUp      = 1
	rtfGateway = 2
	rtfHost    = 4
)

func routeFlags(r *inet.Route) uint32 {
	f := uint32(rtfUp)
	if r.Gateway.IsValid() {
		f |= rtfGateway
	}
	if r.Dst.IsSingleIP() {
		f |= rtfHost
	}
	return f
}

func formatRoutes(w *bytes.Buffer, l []inet.Route) {
	fmt.Fprintf(w, "%-127s\n", "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT")
	dev := names()
	word := func(ip netip.Addr) uint32 {
		if !ip.Is4() {
			return 0
		}
		return binary.NativeEndian.Uint32(ip.AsSlice())
	}
	for _, r := range l {
		if !r.Dst.Addr().Is4() || r.Table != unix.RT_TABLE_MAIN {
			continue
		}
		var mask [4]byte
		binary.BigEndian.PutUint32(mask[:], ^uint32(0)<<(32-r.Dst.Bits()))
		fmt.Fprintf(w, "%-127s\n", fmt.Sprintf("%s\t%08X\t%08X\t%04X\t%d\t%d\t%d\t%08X\t%d\t%d\t%d", dev[r.Dev], word(r.Dst.Addr()), word(r.Gateway),
			routeFlags(&r), 0, 0, r.Metric, binary.NativeEndian.Uint32(mask[:]), r.MTU, 0, 0))
	}
}

func formatRoutes6(w *bytes.Buffer, l []inet.Route) {
	dev := names()
	for _, r := range l {
		if !r.Dst.Addr().Is6() {
			continue
		}
		var gw [16]byte
		if r.Gateway.IsValid() {
			gw = r.Gateway.As16()
		}
		flags := routeFlags(&r) &^ rtfHost
		if r.Type == unix.RTN_LOCAL {
			flags |= 0x80200000 // RTF_LOCAL, RTF_NONEXTHOP
		}
		fmt.Fprintf(w, "%s %02x %032x 00 %s %08x %08x %08x %08x %8s\n", hex.EncodeToString(r.Dst.Addr().AsSlice()), r.Dst.Bits(), 0,
			hex.EncodeToString(gw[:]), r.Metric, 1, 0, flags, dev[r.Dev])
	}
}

func formatInet6(w *bytes.Buffer, l []inet.Info) {
	// The scope as IPv6 numbers it: IPV6_ADDR_LOOPBACK, LINKLOCAL, or 0 for global.
	scopes := map[uint8]int{unix.RT_SCOPE_HOST: 0x10, unix.RT_SCOPE_LINK: 0x20, unix.RT_SCOPE_SITE: 0x40}
	for _, d := range l {
		for _, a := range d.Addrs {
			if ip := a.Prefix.Addr(); ip.Is6() {
				fmt.Fprintf(w, "%s %02x %02x %02x %02x %8s\n", hex.EncodeToString(ip.AsSlice()), d.Index, a.Prefix.Bits(), scopes[a.Scope], a.Flags&0xff, d.Name)
			}
		}
	}
}

func formatARP(w *bytes.Buffer, l []inet.Neighbor) {
	w.WriteString("IP address       HW type     Flags       HW address            Mask     Device\n")
	dev := names()
	for _, n := range l {
		if !n.IP.Is4() {
			continue
		}
		mac := n.MAC
		if len(mac) != 6 {
			mac = make([]byte, 6)
		}
		var hw []string
		for _, b := range mac {
			hw = append(hw, fmt.Sprintf("%02x", b))
		}
		fmt.Fprintf(w, "%-16s 0x%-10x0x%-10x%-17s     *        %s\n", n.IP, unix.ARPHRD_ETHER, inet.ARPFlags(n), strings.Join(hw, ":"), dev[n.Dev])
	}
}

// snmp are the columns of /proc/net/snmp. What nobody counts is 0; constants follow the name after "=".
var snmp = []string{
	"Ip: Forwarding=2 DefaultTTL=64 InReceives InHdrErrors InAddrErrors ForwDatagrams InUnknownProtos InDiscards InDelivers OutRequests OutDiscards OutNoRoutes ReasmTimeout ReasmReqds ReasmOKs ReasmFails FragOKs FragFails FragCreates OutTransmits",
	"Icmp: InMsgs InErrors InCsumErrors InDestUnreachs InTimeExcds InParmProbs InSrcQuenchs InRedirects InEchos InEchoReps InTimestamps InTimestampReps InAddrMasks InAddrMaskReps OutMsgs OutErrors OutRateLimitGlobal OutRateLimitHost OutDestUnreachs OutTimeExcds OutParmProbs OutSrcQuenchs OutRedirects OutEchos OutEchoReps OutTimestamps OutTimestampReps OutAddrMasks OutAddrMaskReps",
	"IcmpMsg:",
	"Tcp: RtoAlgorithm=1 RtoMin=200 RtoMax=120000 MaxConn=-1 ActiveOpens PassiveOpens AttemptFails EstabResets CurrEstab InSegs OutSegs RetransSegs InErrs OutRsts InCsumErrors",
	"Udp: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors InCsumErrors IgnoredMulti MemErrors",
	"UdpLite: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors InCsumErrors IgnoredMulti MemErrors",
}

func formatSNMP(w *bytes.Buffer, c map[string]map[string]uint64) {
	for _, line := range snmp {
		f := strings.Fields(line)
		if len(f) == 1 {
			continue // Linux leaves tables without entries out
		}
		values := f[0]
		for i, col := range f[1:] {
			name, v, fixed := strings.Cut(col, "=")
			if !fixed {
				v = fmt.Sprint(c[strings.TrimSuffix(f[0], ":")][name])
			}
			f[i+1] = name
			values += " " + v
		}
		fmt.Fprintf(w, "%s\n%s\n", strings.Join(f, " "), values)
	}
}

func formatSockstat(w *bytes.Buffer, l []inet.SockInfo, family int) {
	n, tcp := map[int]int{}, 0 // tcp is both families'
	for _, s := range l {
		if s.Family == family {
			n[s.Type]++
		}
		if s.Type == unix.SOCK_STREAM {
			tcp++
		}
	}
	six := ""
	if family == unix.AF_INET6 {
		six = "6"
	} else {
		fmt.Fprintf(w, "sockets: used %d\n", len(l))
	}
	stream := fmt.Sprintf("TCP%s: inuse %d", six, n[unix.SOCK_STREAM])
	if six == "" {
		stream += fmt.Sprintf(" orphan 0 tw 0 alloc %d mem 0", tcp)
	}
	udp := fmt.Sprintf("UDP%s: inuse %d", six, n[unix.SOCK_DGRAM])
	if six == "" {
		udp += " mem 0"
	}
	fmt.Fprintf(w, "%s\n%s\nUDPLITE%s: inuse 0\nRAW%s: inuse %d\nFRAG%s: inuse 0 memory 0\n", stream, udp, six, six, n[unix.SOCK_RAW], six)
}
