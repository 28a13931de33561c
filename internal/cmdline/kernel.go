package cmdline

import (
	"slices"
	"strings"
	"time"
)

// param handles a kernel parameter; it returns false if the word is none of its business after all.
type param func(p *parser, value string, hasValue bool) bool

// params are the parameters that are matched by their whole name, '_' standing for '-' too.
var params map[string]param

// withValue are those that are written with '='; suggestions need to know.
var withValue = map[string]bool{}

func init() {
	params = map[string]param{
		"ro":                   bare(func(c *Config) { c.ReadWrite = false }),
		"rw":                   bare(func(c *Config) { c.ReadWrite = true }),
		"rootwait":             bare(func(c *Config) { c.RootWait = true }),
		"noinitrd":             bare(func(c *Config) { c.NoInitrd = true }),
		"ignore_loglevel":      bare(func(c *Config) { c.IgnoreLogLevel = true }),
		"initcall_debug":       bare(func(c *Config) { c.InitcallDebug = true }),
		"strict":               bare(func(c *Config) { c.Strict = true }),
		"rootfstype":           text(func(c *Config, v string) { c.RootFS = v }),
		"rootflags":            text(func(c *Config, v string) { c.RootFlags = v }),
		"hostname":             text(func(c *Config, v string) { c.Hostname = v }),
		"rdinit":               text(func(c *Config, v string) { c.RDInit = v }),
		"init":                 initParam,
		"rootdelay":            rootDelay,
		"loglevel":             logLevel,
		"panic":                panicTimeout,
		"oops":                 oops,
		"panic_on_oops":        oops,
		"ip":                   absent("IP configuration by the kernel"),
		"nfsroot":              absent("a root on NFS"),
		"resume":               ignored,
		"noresume":             ignored,
		"crashkernel":          absent("crash kernels"),
		"lsm":                  ignored,
		"security":             ignored,
		"selinux":              ignored,
		"apparmor":             ignored,
		"audit":                ignored,
		"nosmp":                bare(func(c *Config) { c.NCPUs = 1 }),
		"maxcpus":              maxCPUs,
		"nr_cpus":              maxCPUs,
		"mitigations":          ignored,
		"nokaslr":              ignored,
		"elevator":             ignored,
		"raid":                 ignored,
		"reboot":               ignored,
		"vga":                  ignored,
		"clocksource":          ignored,
		"highres":              ignored,
		"nohz":                 ignored,
		"hz":                   ignored,
		"log_buf_len":          ignored,
		"ramdisk_size":         ignored,
		"load_ramdisk":         ignored,
		"prompt_ramdisk":       ignored,
		"max_loop":             ignored,
		"swapaccount":          ignored,
		"cgroup_disable":       ignored,
		"cgroup_enable":        ignored,
		"cgroup_no_v1":         ignored,
		"transparent_hugepage": ignored,
		"numa":                 ignored,
		"acpi":                 ignored,
		"noapic":               ignored,
		"nolapic":              ignored,
		"pci":                  ignored,
		"isolcpus":             ignored,
		"no_timer_check":       ignored,
		"lpj":                  ignored,
		"watchdog":             ignored,
		"nowatchdog":           ignored,
		"nmi_watchdog":         ignored,
		"softlockup_panic":     ignored,
		"hung_task_panic":      ignored,
		"init_on_alloc":        ignored,
		"init_on_free":         ignored,
		"page_poison":          ignored,
		"random":               ignored,
	}
	for _, n := range []string{"rootfstype", "rootflags", "hostname", "rdinit", "init", "rootdelay", "loglevel", "panic", "oops", "maxcpus"} {
		withValue[n] = true
	}
	// So short or so common that a guess would be noise.
	for _, n := range []string{"ro", "rw", "ip", "hz", "lpj", "pci", "vga", "lsm", "raid", "numa", "random", "audit"} {
		noGuess[n] = true
	}
}

// noGuess are parameters that are never suggested.
var noGuess = map[string]bool{}

// paramForm is how a parameter is written in a suggestion, "" if it is not to be suggested.
func paramForm(name string) string {
	switch {
	case noGuess[name]:
		return ""
	case withValue[name]:
		return name + "="
	}
	return name
}

// bare is a parameter without value.
func bare(set func(*Config)) param {
	return func(p *parser, _ string, hasValue bool) bool {
		if hasValue {
			return false
		}
		set(p.c)
		return true
	}
}

// text is a parameter with any value.
func text(set func(*Config, string)) param {
	return func(p *parser, v string, hasValue bool) bool {
		if hasValue {
			set(p.c, v)
		}
		return hasValue
	}
}

// absent is a parameter of Linux whose feature this kernel has not got.
func absent(what string) param {
	return func(p *parser, _ string, _ bool) bool {
		p.warnf("this kernel does not have %s; the option is ignored", what)
		return true
	}
}

// ignored is a parameter of Linux about things that a UML does not have or does by itself.
func ignored(*parser, string, bool) bool { return true }

// initParam also forgets the arguments so far, as the kernel does.
func initParam(p *parser, v string, hasValue bool) bool {
	if !hasValue {
		return false
	}
	p.c.Init = v
	p.initArgs = nil
	p.unknownArgs = nil
	return true
}

func rootDelay(p *parser, v string, _ bool) bool {
	n, ok := integer(v)
	if !ok || n < 0 {
		p.invalid("rootdelay="+v, "rootdelay=<seconds>")
		return true
	}
	p.c.RootDelay = time.Duration(n) * time.Second
	return true
}

func logLevel(p *parser, v string, _ bool) bool {
	n, ok := integer(v)
	if !ok || n < 0 {
		p.invalid("loglevel="+v, "loglevel=<0 to 8>")
		return true
	}
	p.c.LogLevel = min(n, 15)
	return true
}

func panicTimeout(p *parser, v string, hasValue bool) bool {
	n, ok := integer(v)
	if !ok {
		p.invalid("panic="+v, "panic=<seconds>")
		return true
	}
	p.c.PanicTimeout = n
	return true
}

func oops(p *parser, v string, _ bool) bool {
	p.c.PanicOnOops = v == "panic" || v == "1"
	return true
}

func maxCPUs(p *parser, v string, _ bool) bool {
	n, ok := integer(v)
	if !ok || n < 0 {
		p.invalid("maxcpus="+v, "maxcpus=<n>")
		return true
	}
	p.c.NCPUs = max(n, 1)
	return true
}

// kernelHelp is the help of the parameters above that are worth telling.
var kernelHelp = []struct{ syntax, help string }{
	{"ro, rw", "Mounts the root read-only (the default) or read-write."},
	{"rootfstype=<type>, rootflags=<options>", "How to mount the root. Example: rootfstype=ext4 rootflags=errors=panic"},
	{"rootwait, rootdelay=<seconds>", "Waits for the root device, or some time, before mounting it."},
	{"init=<path>", "What to run as init. Words that are no options are its arguments, key=value its environment; everything\nafter \"--\" goes to init alone."},
	{"loglevel=<n>", "Shows messages of a level below n on the console."},
	{"panic_on_oops=1", "Makes an oops a panic."},
	{"sysctl.<name>=<value>", "Sets a sysctl before init starts."},
	{"strict", "Does not start if there is anything to warn about on the command line: mistyped, unknown or missing things."},
}

// KernelParams are the names of the parameters, sorted.
func KernelParams() []string {
	names := make([]string, 0, len(params))
	for n := range params {
		names = append(names, strings.ReplaceAll(n, "_", "-"))
	}
	slices.Sort(names)
	return names
}
