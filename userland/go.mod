module github.com/user-mode-linux/linux/userland

go 1.26.3

require (
	golang.org/x/sys v0.49.0
	golang.org/x/term v0.47.0
	mvdan.cc/sh/v3 v3.14.1
)
