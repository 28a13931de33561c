package main

import (
	"fmt"
	"io"

	"github.com/user-mode-linux/linux/internal/cmdline"
	"github.com/user-mode-linux/linux/internal/host"
	"github.com/user-mode-linux/linux/internal/mconsole/umid"
)

// ending is how a guest ended.
type ending uint8

const (
	// halted: by halt or poweroff, or because the command of exec= ended.
	halted ending = iota
	// rebooted: the program is to start again.
	rebooted
	// panicked: the guest kernel's messages tell why.
	panicked
	// notBooted: it never started; the user has been told why.
	notBooted
)

// outcome is an ending and, for the first two, the exit status that the guest chose.
type outcome struct {
	how    ending
	status int
}

// handlers are what the guest kernel does on host signals.
var handlers host.Handlers

// boot builds the drivers that the command line asks for, boots the guest kernel with them and returns when the guest has
// ended. dir is nil if there is no umid directory, root is nil if there is no built-in root file system.
func boot(cfg *cmdline.Config, dir *umid.Dir, root *io.SectionReader) outcome {
	fmt.Fprintln(host.Stderr, "this program was built without the guest kernel")
	return outcome{how: notBooted}
}
