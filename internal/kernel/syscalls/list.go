package syscalls

import (
	"fmt"
	"io"
)

const listHead = `# System calls

What this kernel makes of the system calls of Linux on x86-64. The lane is the way by which a call reaches the kernel:

- notify: by seccomp notification;
- trace: by ptrace, because it needs the registers of the thread or runs rewritten;
- native: not at all, if its arguments are harmless; else as the second word says;
- none: the call is missing and gives ENOSYS, as in a Linux that was built without it.

Calls without a note are meant to do all that Linux's do.

| number | name                    | lane           | note |
|-------:|-------------------------|----------------|------|
`

// WriteList writes the table for people, in Markdown. docs/syscalls.md is made by it.
func WriteList(w io.Writer) error {
	if _, err := io.WriteString(w, listHead); err != nil {
		return err
	}
	for nr, e := range Table {
		if e.Name == "" {
			continue
		}
		lane := "none"
		if e.Fn != nil {
			lane = e.Lane.String()
		}
		if _, err := fmt.Fprintf(w, "| %6d | %-23s | %-14s | %s |\n", nr, e.Name, lane, e.Note); err != nil {
			return err
		}
	}
	return nil
}
