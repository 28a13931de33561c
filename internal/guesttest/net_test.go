package guesttest

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// TestTap lets a guest and its host talk over a TAP device, in a network namespace. It looks at what the guest's own
// commands show of addresses and routes, and that an address elsewhere draws none of the host's traffic to the guest.
func TestTap(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: boots a guest")
	}
	unshare, ip := hostTool(t, "unshare", "util-linux"), hostTool(t, "ip", "iproute2")
	if out, err := exec.Command(unshare, "-Urn", ip, "tuntap", "add", "dev", "probe", "mode", "tap").CombinedOutput(); err != nil {
		t.Skipf("no TAP devices in a namespace here: %v %s", err, out)
	}
	path, err := linux()
	need(t, err)
	// The host looks while the guest waits for a line.
	const command = `ip addr add 10.8.0.2/24 dev eth0
ip addr add 10.9.0.2/24 dev eth0
ip link set eth0 up
ip -4 addr show eth0 | grep inet
ip route
ping -q -c 3 -i 0.1 -W 20 10.8.0.1 | grep transmitted | cut -d, -f1-3
echo up; read x
ip addr del 10.8.0.2/24 dev eth0
dmesg | grep -o "10.9.0.2 is [n]ot in.*"
echo gone; read x`
	const host = `
mkfifo "$HOME/in"
"$LINUX" quiet eth0=tuntap,,,10.8.0.1 exec="$COMMAND" <"$HOME/in" | (
	exec 3>"$HOME/in"
	while read -r line; do
		echo "$line"
		case $line in up|gone) "$IP" route | sed 's/^/host: /;s/ *$//'; echo >&3 ;; esac
	done
)`
	cmd := exec.Command(unshare, "-Urn", "sh", "-c", host)
	cmd.Env = append(os.Environ(), "IP="+ip, "HOME="+t.TempDir(), "LINUX="+path, "COMMAND="+command)
	out, err := cmd.CombinedOutput()
	const want = `inet 10.8.0.2/24 brd 10.8.0.255 scope global eth0
inet 10.9.0.2/24 brd 10.9.0.255 scope global eth0
10.8.0.0/24 dev eth0 proto kernel scope link src 10.8.0.2
10.9.0.0/24 dev eth0 proto kernel scope link src 10.9.0.2
3 packets transmitted, 3 received, 0% packet loss
up
host: 10.8.0.2 dev tap0 scope link
10.9.0.2 is not in 10.8.0.0/24: the host needs a route to it: ip route add 10.9.0.2 dev tap0
gone
`
	if err != nil || string(out) != want {
		t.Errorf("%v\n%s", err, diff(want, string(out)))
	}
}

// TestUserNet gives a normal user's guest a network: an address by DHCP, a server on the host that it may reach, a port of the host
// that leads to its own server; and nothing of the host's loopback when it was not allowed.
func TestUserNet(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: boots guests")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	need(t, err)
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			b, _ := io.ReadAll(c)
			fmt.Fprint(c, strings.ToUpper(string(b)))
			c.Close()
		}
	}()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	need(t, err)
	_, in, _ := net.SplitHostPort(free.Addr().String())
	free.Close()
	_, out, _ := net.SplitHostPort(l.Addr().String())
	command := `udhcpc | cut -d" " -f1-5
ip -4 addr show eth0 | grep inet; ip route
ping -q -c 2 -i 0.1 10.0.2.3 | grep transmitted | cut -d, -f1-3
echo hello | nc 10.0.2.2 ` + out + `
nc 127.0.0.1 ` + out + ` </dev/null 2>&1
echo from the guest | nc -l 80`
	// The host calls until the guest's server is there.
	answers := make(chan string, 1)
	go func() {
		for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
			c, err := net.Dial("tcp", "127.0.0.1:"+in)
			if err != nil {
				continue
			}
			c.SetDeadline(deadline)
			fmt.Fprintln(c, "from the host")
			c.(*net.TCPConn).CloseWrite()
			b, err := io.ReadAll(c)
			c.Close()
			if err == nil && len(b) > 0 {
				answers <- string(b)
				return
			}
		}
		answers <- "none"
	}()
	const lease = `lease of 10.0.2.15 from 10.0.2.2
    inet 10.0.2.15/24 brd 10.0.2.255 scope global eth0
10.0.2.0/24 dev eth0 proto kernel scope link src 10.0.2.15
default via 10.0.2.2 dev eth0
2 packets transmitted, 2 received, 0% packet loss
`
	g := guest{args: []string{"eth0=user,loopback,hostfwd=tcp::" + in + "-:80"}, unprivileged: os.Geteuid() == 0, limit: time.Minute, command: command}
	got, log, err := g.run(t)
	if want := lease + "HELLO\nnc: Connection refused\nfrom the host\n"; err != nil || got != want {
		t.Errorf("%v\n%s\n%s", err, diff(want, got), tail(log))
	}
	if a := <-answers; a != "from the guest\n" {
		t.Errorf("the host got %q", a)
	}
	g.args, g.command = []string{"eth0=user"}, "udhcpc >/dev/null; nc 10.0.2.2 "+out+" </dev/null 2>&1"
	if got, log, _ := g.run(t); got != "nc: Connection refused\n" {
		t.Errorf("%s\n%s", got, tail(log))
	}
}

// TestUserNetWorld has a guest reach an address of the world, which is one of a network namespace here, by TCP, UDP and ping.
func TestUserNetWorld(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: boots guests")
	}
	unshare, ip := hostTool(t, "unshare", "util-linux"), hostTool(t, "ip", "iproute2")
	const setup = `"$IP" link set lo up && "$IP" addr add 198.51.100.7/32 dev lo && echo 0 0 >/proc/sys/net/ipv4/ping_group_range`
	if out, err := exec.Command(unshare, "-Urn", "env", "IP="+ip, "sh", "-c", setup).CombinedOutput(); err != nil {
		t.Skipf("no network namespace with pings here: %v %s", err, out)
	}
	path, err := linux()
	need(t, err)
	// The servers are in a guest, too, whose ports are opened on that address. It ends when it has got the last word.
	const server = `udhcpc >/dev/null
nc -u -l 7777 >/tmp/got & echo by TCP | nc -l 80
until grep -q hello /tmp/got; do sleep 0.05; done; echo by UDP`
	const client = `udhcpc >/dev/null
ping -q -c 2 -i 0.1 -W 20 198.51.100.7 | grep transmitted | cut -d, -f1-3
ping -q -c 1 -W 1 198.51.100.8 | grep transmitted | cut -d, -f2
until nc 198.51.100.7 8000 </dev/null 2>/dev/null | grep TCP; do sleep 0.05; done
nc 198.51.100.7 9999 </dev/null 2>&1
while sleep 0.1; do echo hello; done | nc -u 198.51.100.7 7777`
	const host = setup + ` || exit 1
"$LINUX" quiet timeout=60 eth0=user exec="$CLIENT" >"$HOME/out" &
"$LINUX" quiet timeout=60 eth0=user,hostfwd=tcp:198.51.100.7:8000-:80,hostfwd=udp:198.51.100.7:7777-:7777 exec="$SERVER" >"$HOME/last"
kill $!; wait; cat "$HOME/out" "$HOME/last"`
	cmd := exec.Command(unshare, "-Urn", "sh", "-c", host)
	cmd.Env = append(os.Environ(), "IP="+ip, "HOME="+t.TempDir(), "LINUX="+path, "SERVER="+server, "CLIENT="+client)
	out, err := cmd.Output()
	const want = `2 packets transmitted, 2 received, 0% packet loss
 0 received
by TCP
nc: Connection refused
by UDP
`
	if err != nil || string(out) != want {
		t.Errorf("%v\n%s", err, diff(want, string(out)))
	}
}
