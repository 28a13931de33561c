package cmdline

import (
	"strings"
)

// disposition is what a handler did with a word.
type disposition uint8

const (
	notMine   disposition = iota // other options and the kernel's parameters are tried
	taken                        // done; the word stays on the kernel command line
	withdrawn                    // done; the word is taken off the kernel command line
)

// option is one UML option.
type option struct {
	// prefix is what a word must begin with.
	prefix string
	// names are what a mistyped word is compared with; with '=' if a value follows.
	names []string
	// syntax and help are for --help; an option without syntax is not listed.
	syntax, help string
	// set handles a word; rest is what follows the prefix.
	set func(p *parser, word, rest string) disposition
}

// options are the options that are matched by prefix, in the order in which they are tried and listed.
var options []option

// The table refers to functions that refer to the table (suggest), so it is filled here.
func init() {
	options = []option{
		{"--help", nil, "--help", "Prints this text and ends.",
			func(p *parser, _, _ string) disposition { p.c.Action = ShowHelp; return withdrawn }},
		{"--version", nil, "--version", "Prints the release of the guest kernel and ends.",
			func(p *parser, _, _ string) disposition { p.c.Action = ShowVersion; return withdrawn }},
		{"--showconfig", nil, "--showconfig", "Prints what is built in, in the form of a kernel configuration, and ends.",
			func(p *parser, _, _ string) disposition { p.c.Action = ShowConfig; return withdrawn }},
		{"--syscalls", nil, "--syscalls", "Prints which system calls of Linux there are, how they reach the kernel and what is missing, and ends.",
			func(p *parser, _, _ string) disposition { p.c.Action = ShowSyscalls; return withdrawn }},

		{"mem=", []string{"mem="}, "mem=<size>[kKmMgG]",
			"How much memory the guest has. It is a limit: the host gives memory only when the guest uses it.\nThe default is 256M. Example: mem=128M",
			func(p *parser, _, v string) disposition { p.c.Mem = memparse(v); return taken }},
		{"ncpus=", []string{"ncpus="}, "ncpus=<n>", "How many CPUs the guest sees. The default is all that the host has.", setNCPUs},

		{"root=", []string{"root="}, "root=<device>",
			"The root file system: /dev/ubda1, /dev/ubd0, 98:0, 6200, UUID=..., LABEL=..., PARTUUID=... or\nPARTLABEL=... The default is 98:0, the first disk. Example: root=/dev/ubda1",
			func(p *parser, _, v string) disposition { p.c.Root, p.rootGiven = v, true; return taken }},
		{"initrd=", []string{"initrd="}, "initrd=<host file>",
			"A cpio archive (plain or compressed) on the host that becomes the first root.",
			func(p *parser, _, v string) disposition { p.c.Initrd = v; return taken }},
		{"exec=", []string{"exec="}, "exec=<command>",
			"Starts the guest, runs the command with its shell under a built-in init, and ends with the command's exit\nstatus (128+n if signal n ended it). Standard input and output are the command's; the boot log goes to\nstandard error. Example: exec='make check'",
			func(p *parser, _, v string) disposition { p.c.Exec, p.c.HasExec = v, true; return taken }},
		{"timeout=", []string{"timeout="}, "timeout=<seconds>|<n>s|<n>m|<n>h",
			"Ends the guest with exit status 124 when it has run for that long.", setTimeout},

		{"udb", nil, "", "", setUDB},
		{"ubd=", nil, "", "", setUBDGlobal},
		{"ubd", []string{"ubd="}, "ubd<n><flags>=<file>[,<backing file>][,<serial>]",
			"A file on the host is disk n (0 to 15, or a to p) of the guest: /dev/ubda, /dev/ubdb, ... With two files the first\nis a copy-on-write layer over the second, created if it is not there. A directory as\ndisk 0 becomes the root, by hostfs and confined to it; options of hostfs may follow. Flags: r read-only,\ns write synchronously, d no search for a copy-on-write header, c do not lock the file, t no discard. Without ubd0 a file\nroot_fs in the working directory is the first disk; without that the built-in root is used.\n\"ubd=sync\" makes all disks write synchronously. Example: ubd0=cow,debian.img", setUBD},
		{"hostfs=", []string{"hostfs="}, "hostfs=<directory>[,append][,map][,ro] | off",
			"The directory of the host that hostfs mounts see, and nothing outside it; / is all that you can read. Without it\nhostfs cannot be mounted; a root on hostfs gives its own directory. append: the guest can only add to the end\nof host files. map: owners, modes and devices of the guest are kept in attributes of the host's files, so that\nthe guest's root may set them. ro: nothing can be changed. off: no hostfs.\nExample: hostfs=/srv/share,map", setHostfs},

		{"console=", []string{"console="}, "console=<device>",
			"Where the kernel's messages go and what /dev/console is: tty0 (the default), ttyS0, mc (management console\nclients) or stderr0. Without it the guest's command line has console=tty0, and a word that has systemd offer a\nlogin there.",
			func(p *parser, _, v string) disposition {
				p.c.Console, p.consoleGiven = append(p.c.Console, v), true
				return taken
			}},
		{"con", []string{"con="}, "con[<n>]=<channel>[,<channel>]",
			"What console n (/dev/tty<n>), or every console without one of its own, is on the host: fd:<n>, null, none, pts,\npty (the same), tty:<device>, port:[<address>:]<n> (telnet, on the loopback interface unless an address is\ngiven), xterm. Two channels are input and output. The defaults are fd:0,fd:1 for console 0 and pts for the\nothers, opened when the guest opens the console. Example: con0=fd:0,fd:1 con=pts", setConsole("con")},
		{"ssl-non-raw", []string{"ssl-non-raw"}, "ssl-non-raw", "Host terminals of serial lines are not put into raw mode.",
			func(p *parser, _, _ string) disposition { p.c.SSLNonRaw = true; return taken }},
		{"ssl", []string{"ssl="}, "ssl[<n>]=<channel>[,<channel>]",
			"The same for serial lines /dev/ttyS<n>. The default is pts, opened when the guest opens the line.", setConsole("ssl")},
		{"xterm=", []string{"xterm="}, "xterm=<emulator>,<title switch>,<exec switch>",
			"The terminal emulator of the xterm channel; the default is xterm,-T,-e. Example: xterm=gnome-terminal,-t,-x", setXterm},
		{"tty_log_dir=", []string{"tty_log_dir="}, "tty_log_dir=<directory>",
			"Records what programs read from and write to the guest's terminals, ptys included, and what they execute there:\na file in the directory for each time that a terminal is in use.", setTTYLogDir},
		{"tty_log_fd=", []string{"tty_log_fd="}, "tty_log_fd=<n>",
			"The same for all terminals together to an open descriptor. Example: 10>tty.log linux tty_log_fd=10", setTTYLogFD},
		{"stderr=1", nil, "stderr=1", "Shows the boot log on the host's standard error until the consoles are up.",
			func(p *parser, _, _ string) disposition { p.c.EarlyStderr = true; return taken }},
		{"earlyprintk", []string{"earlyprintk"}, "earlyprintk", "Shows the boot log on the host's standard output until the consoles are up.",
			func(p *parser, _, _ string) disposition { p.c.EarlyPrintk = true; return taken }},

		{"eth", []string{"eth="}, "eth<n>=<transport>[,<options>]",
			"Network interface eth<n>. Transports: user,<mac>,loopback,hostfwd=tcp:<host ip>:<port>-:<guest port> (a network\nbehind the sockets of the user, who needs no rights for it: the guest is 10.0.2.15, the router 10.0.2.2, the name\nserver 10.0.2.3, DHCP tells it so; ports of the host lead into the guest; with loopback the router is also\n127.0.0.1 of the host); tuntap,<tap>,<mac>,<host ip> (a TAP device of the host;\nwithout <tap> one is made, and the host gets the address and routes to the guest's in the same /24);\ndaemon,<mac>,unix,<socket> (a port of uml_switch); mcast,<mac>,<group>,<port>,<ttl> (a network of all guests in\na multicast group); ucast,<mac>,<ip>,<port>,<remote port>. slirp,<mac> is user, too. Fields may be left\nempty. Example: eth0=user,hostfwd=tcp::2222-:22", setEth},
		{"vec", []string{"vec:"}, "vec<n>:transport=<t>,<key>=<value>,...",
			"Network interface vec<n>. Transports: tap (key ifname), bess (src, dst: sockets of the host) and fd (fd: an open\ndescriptor). Keys of all: mac, mtu. Example: vec0:transport=tap,ifname=tap0", setVec},

		{"umid=", []string{"umid="}, "umid=<name>",
			"The name of this guest: its management socket and pid file are in ~/.uml/<name>. The default is a random name.", setUmid},
		{"uml_dir=", []string{"uml_dir="}, "uml_dir=<directory>", "Where those directories are, instead of ~/.uml.", setUMLDir},
		{"mconsole=", []string{"mconsole="}, "mconsole=notify:<socket>",
			"Sends notifications (ready, panic, hang, and what the guest writes to /proc/mconsole) to a datagram socket.", setMconsole},

		{"quiet", []string{"quiet"}, "quiet", "Leaves out all but warnings of the boot log, and the checks of the host.",
			func(p *parser, _, _ string) disposition { p.c.Quiet, p.c.LogLevel = true, 4; return taken }},
		{"noreboot", []string{"noreboot"}, "noreboot", "A reboot of the guest ends the program instead of starting it again.",
			func(p *parser, _, _ string) disposition { p.c.NoReboot = true; return taken }},
		{"panic_exit=", []string{"panic_exit="}, "panic_exit=<status>",
			"The exit status of a guest panic, 0 to 255. The default is to end by SIGABRT (134 in a shell).", setPanicExit},
		{"seccomp=", []string{"seccomp="}, "seccomp=on|auto|off",
			"Whether guest programs are run with seccomp notification (fast) or ptrace alone. auto, the default, uses\nseccomp where the host has it; on ends the program where it has not.", setSeccomp},
		{"nosysemu", []string{"nosysemu"}, "nosysemu", "The ptrace mode goes without PTRACE_SYSEMU. For debugging.",
			func(p *parser, _, _ string) disposition { p.c.NoSysemu = true; return taken }},
		{"debug", []string{"debug"}, "debug", "Shows debug messages, and says how to debug the guest kernel.", setDebug},

		{"time-travel", []string{"time-travel", "time-travel="}, "", "", missing("time travel")},
		{"iomem=", []string{"iomem="}, "", "", missing("mapping host files as I/O memory")},
		{"dtb=", []string{"dtb="}, "", "", missing("device trees")},
		{"dsp=", []string{"dsp="}, "", "", missing("sound")},
		{"mixer=", []string{"mixer="}, "", "", missing("sound")},

		{"fake_ide", nil, "", "", legacy("The fake_ide option has been removed")},
		{"fakehd", nil, "", "", legacy("fakehd has no effect: disks are always called ubd")},
		{"mode=", nil, "", "", legacy("mode= has no effect: guest programs always run in address spaces of their own (skas)")},
		{"skas", nil, "", "", setSkas},
		{"jail", nil, "", "", legacy("jail has no effect: the guest kernel's memory is always out of reach")},
		{"honeypot", nil, "", "", setHoneypot},
		{"aio=", nil, "", "", legacy("")},
		{"noptraceldt", nil, "", "", legacy("")},
		{"noptracefaultinfo", nil, "", "", legacy("")},
		{"noprocmm", nil, "", "", legacy("")},
		{"devfs=", nil, "", "", legacy("")},
		{"gdb-pid=", nil, "", "", legacy("gdb-pid= has no effect: attach gdb or dlv to the program itself")},
		{"umn=", nil, "", "", legacy("umn= is gone: use eth0=slirp, or eth0=tuntap,,,<host address>")},
	}
}

// legacy takes a word of long ago, with a warning unless there is nothing to say.
func legacy(warning string) func(*parser, string, string) disposition {
	return func(p *parser, word, _ string) disposition {
		if warning != "" {
			p.warnf("%s", warning)
		}
		return taken
	}
}

// missing takes a word whose feature this kernel has not got.
func missing(what string) func(*parser, string, string) disposition {
	return func(p *parser, word, _ string) disposition {
		p.warnf("%q is ignored: this kernel does not have %s", word, what)
		return taken
	}
}

func setNCPUs(p *parser, word, v string) disposition {
	n, ok := integer(v)
	if !ok || n < 1 {
		p.invalid(word, "ncpus=<n>, n at least 1")
		return withdrawn
	}
	p.c.NCPUs = n
	return withdrawn
}

func setTimeout(p *parser, word, v string) disposition {
	d, ok := duration(v)
	if !ok {
		p.fatalf("%q is not valid; the form is timeout=<seconds> or timeout=<n>s, <n>m, <n>h", word)
		return taken
	}
	p.c.Timeout = d
	return taken
}

func setUDB(p *parser, word, _ string) disposition {
	p.warnf("udb... (%q) specified on command line is almost certainly a ubd -> udb TYPO", word)
	return taken
}

func setUBDGlobal(p *parser, word, v string) disposition {
	if v == "sync" {
		p.c.UBDSync = true
	} else {
		p.warnf("%q is ignored: fake major not supported any more", word)
	}
	return taken
}

func setUBD(p *parser, word, rest string) disposition {
	if rest == "" || !strings.Contains(rest, "=") {
		return notMine
	}
	if rest[0] == '0' && len(rest) > 1 && '0' <= rest[1] && rest[1] <= '9' {
		if n, ok := ubdUnit(word); ok {
			p.warnf("the number in %q is octal: disk %d", word, n)
		}
	}
	p.c.UBD = append(p.c.UBD, word)
	return taken
}

func setHostfs(p *parser, _, v string) disposition {
	if v == "off" {
		p.c.HostfsOff = true
		return taken
	}
	dir, flags, _ := strings.Cut(v, ",")
	p.c.HostfsDir = dir
	for f := range strings.SplitSeq(flags, ",") {
		switch f {
		case "":
		case "append":
			p.c.HostfsAppend = true
		case "map":
			p.c.HostfsMap = true
		case "ro":
			p.c.HostfsReadOnly = true
		default:
			p.warnf("hostfs_args - unsupported option - %s", f)
		}
	}
	return taken
}

// setConsole takes con=, con<n>=, ssl= and ssl<n>=.
func setConsole(kind string) func(*parser, string, string) disposition {
	return func(p *parser, word, rest string) disposition {
		n, _, ok := strings.Cut(rest, "=")
		if !ok || strings.Trim(n, "0123456789abcdefxABCDEFX") != "" || n != "" && (n[0] < '0' || n[0] > '9') {
			return notMine
		}
		p.c.Consoles = append(p.c.Consoles, word)
		return taken
	}
}

func setXterm(p *parser, word, v string) disposition {
	f := strings.Split(v, ",")
	if len(f) != 3 || f[0] == "" {
		p.invalid(word, "xterm=<emulator>,<title switch>,<exec switch>")
		return withdrawn
	}
	p.c.Xterm = [3]string(f)
	return withdrawn
}

func setTTYLogDir(p *parser, word, v string) disposition {
	if v == "" {
		p.invalid(word, "tty_log_dir=<directory>")
		return taken
	}
	p.c.TTYLogDir = v
	return taken
}

func setTTYLogFD(p *parser, word, v string) disposition {
	n, ok := integer(v)
	if !ok || n < 0 {
		p.invalid(word, "tty_log_fd=<descriptor>")
		return taken
	}
	p.c.TTYLogFD, p.c.HasTTYLogFD = n, true
	return taken
}

func setEth(p *parser, word, rest string) disposition {
	n, cfg, ok := strings.Cut(rest, "=")
	if !ok {
		return notMine
	}
	clean := strings.TrimSuffix(n, "+")
	if clean == "" || strings.Trim(clean, "0123456789abcdefxABCDEFX") != "" || clean[0] < '0' || clean[0] > '9' {
		return notMine
	}
	if clean != n {
		p.warnf("%q is taken as eth%s=", "eth"+n+"=", clean)
		word = "eth" + clean + "=" + cfg
	}
	p.c.Nets = append(p.c.Nets, word)
	return taken
}

func setVec(p *parser, word, rest string) disposition {
	n, _, ok := strings.Cut(rest, ":")
	if !ok || n == "" || strings.Trim(n, "0123456789") != "" {
		return notMine
	}
	p.c.Nets = append(p.c.Nets, word)
	return taken
}

func setUmid(p *parser, word, v string) disposition {
	switch {
	case v == "" || strings.Contains(v, "/") || v == "." || v == "..":
		p.invalid(word, "umid=<name>, a name without slashes")
	case len(v) > MaxUmid:
		p.warnf("the umid is too long (%d characters, the limit is %d); a random one is used", len(v), MaxUmid)
	default:
		p.c.Umid = v
	}
	return withdrawn
}

// MaxUmid is the longest umid in bytes.
const MaxUmid = 63

func setUMLDir(p *parser, word, v string) disposition {
	if v == "" {
		p.warnf("uml_dir can't be an empty string")
		return taken
	}
	p.c.UMLDir = v
	return taken
}

func setMconsole(p *parser, word, v string) disposition {
	socket, ok := strings.CutPrefix(v, "notify:")
	if !ok || socket == "" {
		p.warnf("mconsole_setup : Unknown option - '%s'", v)
		return taken
	}
	p.c.MconsoleNotify = socket
	return taken
}

func setPanicExit(p *parser, word, v string) disposition {
	n, ok := integer(v)
	if !ok || n < 0 || n > 255 {
		p.invalid(word, "panic_exit=<status>, 0 to 255")
		return taken
	}
	p.c.PanicExit = n
	return taken
}

func setSeccomp(p *parser, word, v string) disposition {
	switch v {
	case "on", "auto", "off":
		p.c.Seccomp = v
	default:
		p.fatalf("%q is not valid; the form is seccomp=on|auto|off", word)
	}
	return withdrawn
}

func setDebug(p *parser, word, _ string) disposition {
	p.c.Debug = true
	p.c.LogLevel = 10
	p.c.Hints = append(p.c.Hints, "'debug' is not needed to debug the guest kernel: run gdb or dlv on this program, or attach to it.",
		"Guest programs run in other processes; their signals do not disturb the debugger.")
	return taken
}

func setSkas(p *parser, word, rest string) disposition {
	if strings.Trim(rest, "0123456789") != "" {
		return notMine
	}
	p.warnf("%s has no effect: guest programs always run in address spaces of their own (skas)", word)
	return taken
}

func setHoneypot(p *parser, _, _ string) disposition {
	p.c.HostLikeStack = true
	p.warnf("honeypot has no effect: guest programs see the host's usual stack addresses anyway")
	return taken
}
