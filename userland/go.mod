module github.com/user-mode-linux/linux/userland

go 1.26.3

require (
	github.com/vishvananda/netlink v1.3.1
	golang.org/x/sys v0.49.0
	golang.org/x/term v0.47.0
	mvdan.cc/sh/v3 v3.14.1
)

require github.com/vishvananda/netns v0.0.5 // indirect
