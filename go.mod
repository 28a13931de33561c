module github.com/user-mode-linux/linux

go 1.26.3

require golang.org/x/sys v0.49.0

require (
	github.com/creack/pty v1.1.24 // indirect
	golang.org/x/term v0.47.0 // indirect
)
