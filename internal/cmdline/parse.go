package cmdline

import (
	"fmt"
	"slices"
	"strings"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
)

// Error is a command line that cannot be used. The program prints it and ends with status 1.
type Error struct{ Text string }

func (e *Error) Error() string { return e.Text }

// parser is the state of one Parse.
type parser struct {
	c *Config
	// line are the words of /proc/cmdline.
	line                    []string
	rootGiven, consoleGiven bool
	// unknownArgs and unknownEnv are the words of initArgs and initEnv that stood before "--".
	unknownArgs, unknownEnv []string
	initArgs, initEnv       []string
	after                   []string // what stood after "--"
	warned                  map[string]bool
	err                     error
}

// Parse reads the arguments of the program, without its name.
func Parse(args []string) (*Config, error) {
	p := &parser{c: newConfig(), warned: map[string]bool{}}
	for i, word := range args {
		if i == 0 && strings.HasPrefix(word, " ") {
			continue
		}
		if word == "--" {
			p.after = args[i+1:]
			p.initArgs = append(p.initArgs, p.after...)
			break
		}
		p.word(word)
		if p.err != nil {
			return nil, p.err
		}
		if p.c.Action != Boot {
			return p.c, nil
		}
	}
	return p.finish()
}

// word handles one argument.
func (p *parser) word(word string) {
	for i := range options {
		o := &options[i]
		rest, ok := strings.CutPrefix(word, o.prefix)
		if !ok {
			continue
		}
		switch o.set(p, word, rest) {
		case taken:
			p.line = append(p.line, quote(word))
			return
		case withdrawn:
			return
		}
	}
	p.line = append(p.line, word)
	for _, w := range fields(word) {
		p.param(w)
	}
}

// param handles one word as the kernel does.
func (p *parser) param(word string) {
	name, value, hasValue := strings.Cut(word, "=")
	if k, ok := params[canonical(name)]; ok && k(p, value, hasValue) {
		return
	}
	if i := strings.IndexByte(name, '.'); i > 0 {
		if sysctl, ok := strings.CutPrefix(name, "sysctl."); ok && hasValue {
			p.c.Sysctls = append(p.c.Sysctls, Setting{strings.ReplaceAll(sysctl, "/", "."), value})
			return
		}
		p.modparam(name, value)
		return
	}
	if s := suggest(word); s != "" {
		p.warnf("%q is not an option and goes to init; did you mean %q?", word, s)
	}
	if hasValue {
		p.unknownEnv = append(p.unknownEnv, word)
		p.setenv(name, word)
		return
	}
	p.unknownArgs = append(p.unknownArgs, word)
	p.initArgs = append(p.initArgs, word)
}

// setenv sets one word of init's environment; a later word of the same name replaces the earlier.
func (p *parser) setenv(name, word string) {
	i := slices.IndexFunc(p.initEnv, func(s string) bool { return strings.HasPrefix(s, name+"=") })
	if i >= 0 {
		p.initEnv[i] = word
		return
	}
	p.initEnv = append(p.initEnv, word)
}

// missingModules are the modules that are not there but whose parameters are often given.
var missingModules = map[string]string{
	"virtio_uml": "vhost-user devices are not there",
	"vfio_uml":   "VFIO devices are not there",
}

func (p *parser) modparam(name, value string) {
	module, _, _ := strings.Cut(name, ".")
	if why, ok := missingModules[canonical(module)]; ok {
		p.warnf("%s is ignored: %s", name, why)
	}
	p.c.ModuleParams = append(p.c.ModuleParams, Setting{name, value})
}

// warnf adds a warning, the same only once.
func (p *parser) warnf(format string, args ...any) {
	s := fmt.Sprintf(format, args...)
	if !p.warned[s] {
		p.warned[s] = true
		p.c.Warnings = append(p.c.Warnings, s)
	}
}

// invalid reports a bad value with the syntax that is right.
func (p *parser) invalid(word, syntax string) {
	p.warnf("%q is not valid and is ignored; the form is %s", word, syntax)
}

func (p *parser) fatalf(format string, args ...any) {
	if p.err == nil {
		p.err = &Error{fmt.Sprintf(format, args...)}
	}
}

// finish checks what was collected and completes the Config.
func (p *parser) finish() (*Config, error) {
	c := p.c
	if !p.rootGiven {
		p.line = append(p.line, "root=98:0")
	}
	if !p.consoleGiven {
		// Of systemd's own accord nobody can log in at tty0, which a machine has no screen for; other inits ignore the word.
		p.line = append(p.line, "console=tty0", "systemd.wants=getty@tty0.service")
	}
	if p.after != nil {
		p.line = append(p.line, "--")
		for _, w := range p.after {
			p.line = append(p.line, quote(w))
		}
	}
	c.CommandLine = strings.Join(p.line, " ")
	if len(c.CommandLine) >= MaxLine {
		return nil, &Error{fmt.Sprintf("The command line is too long: %d bytes, the limit is %d.", len(c.CommandLine), MaxLine-1)}
	}
	c.InitArgs, c.InitEnv = p.initArgs, p.initEnv
	if len(c.InitArgs) > maxInit || len(c.InitEnv) > maxInit {
		return nil, &Error{fmt.Sprintf("Too many words for init: the limit is %d arguments and %d environment words.", maxInit, maxInit)}
	}
	if unknown := slices.Concat(p.unknownArgs, p.unknownEnv); len(unknown) > 0 {
		c.Log = append(c.Log, fmt.Sprintf("Unknown kernel command line parameters \"%s\", will be passed to user space.", strings.Join(unknown, " ")))
	}
	if c.Mem > MaxMem {
		c.Mem = MaxMem
		c.Log = append(c.Log, fmt.Sprintf("Kernel virtual memory size shrunk to %d bytes", uint64(MaxMem)))
	}
	if c.Mem < MinMem {
		return nil, &Error{fmt.Sprintf("Too few physical memory! Needed=%d, given=%d", uint64(MinMem), c.Mem)}
	}
	c.Mem = abi.PageDown(c.Mem)
	if c.Strict && len(c.Warnings) > 0 {
		return nil, &Error{strings.Join(c.Warnings, "\n") + "\nstrict: not started because of the above."}
	}
	return c, nil
}

// canonical is a parameter's name as it is compared: '-' and '_' are the same.
func canonical(name string) string { return strings.ReplaceAll(name, "-", "_") }

// quote puts a word that has blanks between double quotes, after its '=' if it has one, so that whoever splits
// /proc/cmdline gets it back whole. A word that has quotes already is left alone.
func quote(word string) string {
	if !strings.ContainsAny(word, " \t\n") || strings.Contains(word, `"`) {
		return word
	}
	if name, value, ok := strings.Cut(word, "="); ok && !strings.ContainsAny(name, " \t\n") {
		return name + `="` + value + `"`
	}
	return `"` + word + `"`
}

// fields splits s at blanks outside of double quotes, and takes off the quotes round a word or round the value after its
// '='.
func fields(s string) []string {
	var out []string
	inQuotes := false
	words := strings.FieldsFunc(s, func(r rune) bool {
		if r == '"' {
			inQuotes = !inQuotes
		}
		return !inQuotes && (r == ' ' || r == '\t' || r == '\n')
	})
	for _, w := range words {
		if name, value, ok := strings.Cut(w, "="); ok && !strings.HasPrefix(w, `"`) {
			w = name + "=" + unquote(value)
		} else {
			w = unquote(w)
		}
		if w != "" {
			out = append(out, w)
		}
	}
	return out
}

func unquote(s string) string {
	if !strings.HasPrefix(s, `"`) {
		return s
	}
	return strings.TrimSuffix(s[1:], `"`)
}
