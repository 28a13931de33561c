// Busybox is the userland that is built into the linux program: one executable that is init, a shell and the usual small
// commands, chosen by the name it is run by ("busybox ls" does the same as "ls"). It is enough to look round, mount disks
// and run programs from them; it is not a replacement for a distribution.
//
// The shell is mvdan.cc/sh with job control and line editing added (sh.go, jobs.go, edit.go). Options may stand anywhere
// among the arguments, and only common ones are known: an unknown option is an error, never ignored.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// applet is one command. args are without the name; the result is the exit status.
type applet func(args []string) int

// applets are all commands by name.
var applets map[string]applet

func init() {
	applets = map[string]applet{
		"[": test, "basename": basename, "cat": cat, "chgrp": chgrp, "chmod": chmod, "chown": chown, "clear": clearScreen, "cp": cp,
		"cut": cut, "date": date, "dd": dd, "df": df, "dirname": dirname, "dmesg": dmesg, "du": du, "echo": echo, "env": env,
		"false": func([]string) int { return 1 }, "find": find, "free": free, "grep": grep, "halt": halt, "head": head,
		"hostname": hostname, "id": id, "ifconfig": ifconfig, "init": initMain, "install-links": installLinks, "ip": ip, "kill": kill, "ln": ln, "ls": ls,
		"mkdir": mkdir, "mkfifo": mkfifo, "mknod": mknod, "mktemp": mktemp, "more": more, "mount": mount, "mv": mv, "nc": nc, "nproc": nproc, "ping": ping,
		"poweroff": halt, "printenv": printenv, "ps": ps, "pwd": pwd, "readlink": readlink, "reboot": reboot, "rm": rm,
		"rmdir": rmdir, "seq": seq, "sh": sh, "sleep": sleep, "sort": sortMain, "stat": stat, "stty": stty, "sync": syncMain,
		"tail": tail, "tee": tee, "test": test, "touch": touch, "tr": tr, "true": func([]string) int { return 0 }, "tty": tty,
		"udhcpc": udhcpc, "umount": umount, "uname": uname, "uniq": uniq, "uptime": uptime, "wc": wc, "which": which, "whoami": whoami, "xargs": xargs,
		"yes": yes,
	}
}

// self is the name that the running command was called by.
var self string

func main() {
	name := filepath.Base(strings.TrimPrefix(os.Args[0], "-"))
	args := os.Args[1:]
	run, ok := applets[name]
	if !ok {
		if len(args) == 0 {
			fmt.Println(strings.Join(slices.Sorted(maps.Keys(applets)), " "))
			return
		}
		name, args = filepath.Base(args[0]), args[1:]
		if run, ok = applets[name]; !ok {
			fmt.Fprintf(os.Stderr, "busybox: %s: no such command\n", name)
			os.Exit(127)
		}
	}
	self = name
	status := run(args)
	if err := stdout.Flush(); err != nil && !errors.Is(err, syscall.EPIPE) && status == 0 {
		status = fail(err)
	}
	os.Exit(status)
}

// stdout is buffered; main flushes it.
var stdout = bufio.NewWriterSize(os.Stdout, 32<<10)

// fail reports an error and returns the exit status 1.
func fail(err error) int {
	stdout.Flush()
	fmt.Fprintf(os.Stderr, "%s: %s\n", self, message(err))
	return 1
}

// message is "path: reason" as C programs print it.
func message(err error) string {
	var pe *fs.PathError
	var le *os.LinkError
	switch {
	case errors.As(err, &pe):
		return fmt.Sprintf("%s: %s", pe.Path, reason(pe.Err))
	case errors.As(err, &le):
		return fmt.Sprintf("%s: %s", le.New, reason(le.Err))
	}
	return reason(err)
}

// reason is an error's text with a capital.
func reason(err error) string {
	s := err.Error()
	if _, ok := err.(syscall.Errno); ok && s != "" {
		s = strings.ToUpper(s[:1]) + s[1:]
	}
	return s
}

// usage reports a wrong call.
func usage(text string) int {
	fmt.Fprintf(os.Stderr, "usage: %s %s\n", self, text)
	return 2
}

// options are parsed options: a letter's value, or "" for a letter without one.
type options map[byte]string

func (o options) has(c byte) bool { _, ok := o[c]; return ok }

// getopt splits options from operands as GNU programs do: options may stand anywhere before "--". spec lists the letters,
// those with a value followed by ':'. "+" at its start ends the options at the first operand. Long options are not known.
func getopt(args []string, spec string) (options, []string, error) {
	o := options{}
	var operands []string
	first := strings.HasPrefix(spec, "+")
	spec = strings.TrimPrefix(spec, "+")
	for i := 0; i < len(args); i++ {
		a := args[i]
		if a == "--" {
			return o, append(operands, args[i+1:]...), nil
		}
		if len(a) < 2 || a[0] != '-' {
			if first {
				return o, args[i:], nil
			}
			operands = append(operands, a)
			continue
		}
		for j := 1; j < len(a); j++ {
			k := strings.IndexByte(spec, a[j])
			if k < 0 || a[j] == ':' {
				return nil, nil, fmt.Errorf("unknown option -%s", a[1:])
			}
			if k+1 == len(spec) || spec[k+1] != ':' {
				o[a[j]] = ""
				continue
			}
			if v := a[j+1:]; v != "" {
				o[a[j]] = v
			} else if i++; i < len(args) {
				o[a[j]] = args[i]
			} else {
				return nil, nil, fmt.Errorf("option -%c needs a value", a[j])
			}
			break
		}
	}
	return o, operands, nil
}

// inputs calls f with each file ("-" and none at all are standard input) and returns the exit status.
func inputs(names []string, f func(name string, r io.Reader) error) int {
	if len(names) == 0 {
		names = []string{"-"}
	}
	status := 0
	for _, name := range names {
		err := func() error {
			if name == "-" {
				return f(name, os.Stdin)
			}
			file, err := os.Open(name)
			if err != nil {
				return err
			}
			defer file.Close()
			return f(name, file)
		}()
		if errors.Is(err, syscall.EPIPE) {
			return 1
		}
		if err != nil {
			status = fail(err)
		}
	}
	return status
}

// lines calls f with each line without its newline until f returns false.
func lines(r io.Reader, f func(line string) bool) error {
	br := bufio.NewReaderSize(r, 64<<10)
	for {
		s, err := br.ReadString('\n')
		if s != "" && !f(strings.TrimSuffix(s, "\n")) {
			return nil
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
