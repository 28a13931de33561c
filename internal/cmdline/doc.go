// Package cmdline reads the command line of the linux program: one table of all options, the rules by which UML and the
// kernel match them, and the Config that comes out.
//
// # Rules
//
// The arguments are a kernel command line, not flags. Each argument is compared, in order and by prefix, with the options
// that UML itself takes (table.go); the others are split at blanks, as the kernel does, and compared with the kernel's own
// parameters by their whole name (kernel.go), '-' and '_' being the same. What nobody takes belongs to init: plain words are its arguments, key=value its
// environment. What comes after "--" goes to init without being looked at. Names with a dot before the '=' are parameters
// of modules and never go to init.
//
// All words but those of withdrawn options, joined by single blanks, are what the guest reads in /proc/cmdline, with root=
// and console= appended if they were not given.
//
// # Config
//
// Parse has no effects: it reads no file and prints nothing. What the user should hear is in Config.Warnings (host stderr)
// and Config.Log (the guest's kernel log). Device options (ubd, con, ssl, eth, vec) are handed on as words; their drivers
// know the syntax behind the name.
package cmdline
