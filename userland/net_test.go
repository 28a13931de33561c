package main

import (
	"os/exec"
	"path/filepath"
	"testing"
)

// netScript sets up a loopback interface in an empty network.
const netScript = `
ip link set lo up mtu 1500
ip address add 10.1.2.3/24 brd + dev lo
ip -4 addr show lo
ip route add 10.9.0.0/16 dev lo
ip route add default via 10.1.2.9
ip route
ip route get 10.9.1.1
ip r del default
ip r
ip addr del 10.1.2.3/24 dev lo
ifconfig lo 192.168.3.4 netmask 255.255.128.0
ip -4 a
ping -c 1 127.0.0.1
ifconfig lo 127.0.0.1
ping -q -c 2 -i 0.01 127.0.0.1 | grep transm | cut -d, -f1-3
echo hello | nc -l 1234 &
until nc 127.0.0.1 1234 </dev/null 2>/dev/null; do sleep 0.01; done
echo hello | nc -u -l 1234 >got &
until grep -q . got; do echo hi | nc -u 127.0.0.1 1234 >/dev/null 2>&1 & sleep 0.1; done
cat got
nc -z 127.0.0.1 1235
ip link set nope up
ip address add 1.2.3.4.5 dev lo
ip route add 1.2.3.0/24 via 99.1.1.1
`

const netWant = `1: lo: <LOOPBACK,UP,LOWER_UP> mtu 1500 state UNKNOWN
    link/loopback 00:00:00:00:00:00 brd 00:00:00:00:00:00
    inet 127.0.0.1/8 scope host lo
       valid_lft forever preferred_lft forever
    inet 10.1.2.3/24 brd 10.1.2.255 scope global lo
       valid_lft forever preferred_lft forever
default via 10.1.2.9 dev lo
10.9.0.0/16 dev lo scope link
10.9.1.1 dev lo src 10.1.2.3
10.9.0.0/16 dev lo scope link
1: lo: <LOOPBACK,UP,LOWER_UP> mtu 1500 state UNKNOWN
    link/loopback 00:00:00:00:00:00 brd 00:00:00:00:00:00
    inet 192.168.3.4/17 brd 192.168.127.255 scope global lo
       valid_lft forever preferred_lft forever
PING 127.0.0.1 (127.0.0.1): 56 data bytes
ping: Network is unreachable

--- 127.0.0.1 ping statistics ---
1 packets transmitted, 0 received, 100% packet loss, time 0ms
2 packets transmitted, 2 received, 0% packet loss
hello
hi
nc: Connection refused
ip: cannot find device "nope"
ip: 1.2.3.4.5 is not an address like 10.0.0.1/24
ip: Network is unreachable
`

// TestNetwork runs the commands for networks in a network of their own, and with process ids of their own: all end with the shell.
func TestNetwork(t *testing.T) {
	dir := bin(t)
	cmd := exec.Command("unshare", "-Urnpf", filepath.Join(dir, "sh"), "-c", netScript)
	if out, err := exec.Command("unshare", "-Urnpf", "true").CombinedOutput(); err != nil {
		t.Skipf("no network namespaces here: %v %s", err, out)
	}
	cmd.Env = []string{"PATH=" + dir}
	cmd.Dir = t.TempDir()
	out, err := cmd.CombinedOutput()
	if err == nil || string(out) != netWant {
		t.Errorf("%v (the last command fails)\n%s", err, out)
	}
}
