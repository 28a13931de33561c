package main

import (
	"io"
	"os"
	"path/filepath"

	"github.com/user-mode-linux/linux/internal/mconsole/client"
	"github.com/user-mode-linux/linux/internal/ubd"
	"github.com/user-mode-linux/linux/internal/watchdog"
)

// tools are programs for the host that this one is when it is started under their names. They return their exit status.
var tools = map[string]func(args []string, stderr io.Writer) int{
	"uml_mkcow":    ubd.Mkcow,
	"uml_moo":      ubd.Moo,
	"uml_mconsole": func(args []string, _ io.Writer) int { return client.Main(args) },
	"uml_watchdog": func(args []string, _ io.Writer) int { return watchdog.Main(args) },
}

// runTool ends the program if it was started as one of the tools.
func runTool() {
	if tool := tools[filepath.Base(os.Args[0])]; tool != nil {
		os.Exit(tool(os.Args[1:], os.Stderr))
	}
}
