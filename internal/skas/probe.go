package skas

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Capabilities is what Probe found.
type Capabilities struct {
	seccomp bool
	sysemu  bool
}

func (c *Capabilities) backend() string {
	switch {
	case c.seccomp:
		return "seccomp user notification and ptrace"
	case c.sysemu:
		return "ptrace with SYSEMU"
	}
	return "ptrace"
}

// Probe finds out what the host allows, saying so line by line.
func Probe(cfg *Config) (*Capabilities, error) {
	c := &Capabilities{}
	if cfg.Seccomp != Off {
		c.seccomp = hasNotifications()
		cfg.Logf("Checking that seccomp filters can be installed...%s\n", okOr(c.seccomp, "not available"))
		if !c.seccomp && cfg.Seccomp == On {
			return nil, fmt.Errorf("skas: seccomp=on, but the host has no seccomp user notification (Linux 5.9 or newer is needed)")
		}
	}
	return c, nil
}

func okOr(ok bool, otherwise string) string {
	if ok {
		return "OK"
	}
	return otherwise
}

// hasNotifications reports whether the host knows seccomp user notification.
func hasNotifications() bool {
	action := uint32(unix.SECCOMP_RET_USER_NOTIF)
	return actionAvailable(&action) && notifSizesMatch()
}
