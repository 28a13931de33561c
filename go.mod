module github.com/user-mode-linux/linux

go 1.26.3

require golang.org/x/sys v0.49.0
