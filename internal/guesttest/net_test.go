package guesttest

import (
	"os"
	"os/exec"
	"testing"
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
