package netdrv

import (
	"fmt"
	"strings"

	"github.com/user-mode-linux/linux/internal/kernel/klog"
	"github.com/user-mode-linux/linux/internal/netdrv/slirp"
)

// user reads the options of a network behind the user's own sockets: eth<n>=user[,<mac>][,loopback][,hostfwd=...]...
func (p *plan) user(rest string) error {
	var c slirp.Config
	if rest != "" {
		for i, f := range strings.Split(rest, ",") {
			switch {
			case i == 0 && (f == "" || strings.Count(f, ":") == 5):
				p.mac = f
			case f == "loopback":
				c.Loopback = true
			case strings.HasPrefix(f, "hostfwd="):
				fwd, err := slirp.ParseForward(strings.TrimPrefix(f, "hostfwd="))
				if err != nil {
					return err
				}
				c.Forwards = append(c.Forwards, fwd)
			default:
				return fmt.Errorf("%q: use eth<n>=user,<mac>,loopback,hostfwd=<forward>", f)
			}
		}
	}
	p.open = func() (wire, string, error) {
		n, err := slirp.New(c)
		if err != nil {
			return nil, "", err
		}
		return n, fmt.Sprintf("user network - guest %v, router %v, name server %v", slirp.Guest, slirp.Router, slirp.DNS), nil
	}
	return nil
}

// slirp reads the options of the transport that had a program of the host do the same: eth<n>=slirp,<mac>,<program>,...
func (p *plan) slirp(rest string) error {
	mac, program, ok := strings.Cut(rest, ",")
	if ok && program != "" {
		klog.Warnf("slirp: %s is not started: the network is built in", strings.ReplaceAll(program, ",", " "))
	}
	return p.user(mac)
}
