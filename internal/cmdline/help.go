package cmdline

import (
	"fmt"
	"io"
	"strings"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
)

// WriteHelp writes the banner and the help of every option.
func WriteHelp(w io.Writer) {
	fmt.Fprintf(w, "%s\n\nUsage: linux [option]...\n\n", abi.Banner)
	for i := range options {
		if o := &options[i]; o.syntax != "" {
			writeOption(w, o.syntax, o.help)
		}
	}
	fmt.Fprintf(w, "Options of the kernel:\n\n")
	for _, o := range kernelHelp {
		writeOption(w, o.syntax, o.help)
	}
	fmt.Fprint(w, exitHelp)
}

const exitHelp = `Exit status:

    0             the guest was halted (or what the guest wrote to /proc/exitcode)
    status        of the command, with exec=; 128+n if signal n ended it
    1             the command line cannot be used, or SIGINT or SIGTERM ended the program
    123           the guest panicked, with exec= (also if its root has no shell)
    124           timeout= ended the guest
    125           the guest could not be started
    134 (SIGABRT) the guest panicked, without exec=; panic_exit= sets another status
`

func writeOption(w io.Writer, syntax, help string) {
	fmt.Fprintf(w, "%s\n    %s\n\n", syntax, strings.ReplaceAll(help, "\n", "\n    "))
}
