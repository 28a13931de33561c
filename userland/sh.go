package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
	"mvdan.cc/sh/v3/interp"
	"mvdan.cc/sh/v3/syntax"
)

// sh is the shell: sh [-ceuxil] [file [argument...]].
func sh(args []string) int {
	var command string
	haveCommand, interactive := false, false
	var set []string
	for len(args) > 0 && len(args[0]) > 1 && (args[0][0] == '-' || args[0][0] == '+') {
		a := args[0]
		args = args[1:]
		if a == "--" {
			break
		}
		for _, c := range a[1:] {
			switch c {
			case 'c':
				haveCommand = true
			case 'i':
				interactive = true
			case 'l', 's':
			case 'e', 'u', 'x', 'n', 'f', 'a':
				set = append(set, string(a[0])+string(c))
			default:
				fmt.Fprintf(os.Stderr, "sh: unknown option -%c\n", c)
				return 2
			}
		}
	}
	login := strings.HasPrefix(os.Args[0], "-")
	switch {
	case haveCommand:
		if len(args) == 0 {
			fmt.Fprintln(os.Stderr, "sh: -c needs a command")
			return 2
		}
		command, args = args[0], args[1:]
		if len(args) > 0 {
			args = args[1:] // $0
		}
		return runScript(command, args, set...)
	case len(args) > 0:
		text, err := os.ReadFile(args[0])
		if err != nil {
			fail(err)
			return 127
		}
		return runScript(string(text), args[1:], set...)
	case interactive || term.IsTerminal(0):
		return newInteractive(login).loop()
	}
	return runInput(set)
}

// newRunner makes an interpreter with our way to run commands.
func newRunner(run interp.ExecHandlerFunc, args []string, set []string, more ...interp.RunnerOption) (*interp.Runner, error) {
	opts := []interp.RunnerOption{
		interp.StdIO(os.Stdin, os.Stdout, os.Stderr),
		interp.CallHandler(notBuiltin),
		interp.ExecHandlers(func(interp.ExecHandlerFunc) interp.ExecHandlerFunc { return run }),
		interp.Params(append(append(set, "--"), args...)...),
	}
	return interp.New(append(opts, more...)...)
}

// external before a command's name makes the interpreter ask us to run it rather than say that it has no such builtin.
const external = "\x00"

// notBuiltin marks the commands that the interpreter takes for builtins but has not got, or not well enough.
func notBuiltin(_ context.Context, args []string) ([]string, error) {
	switch args[0] {
	case "echo":
		// The interpreter's own echo writes word by word, which files of /proc and pipes with other writers can tell.
		if len(args) > 1 && strings.HasPrefix(args[1], "-") && args[1] != "-n" {
			return args, nil // escapes are the interpreter's
		}
		fallthrough
	case "kill", "umask":
		return append([]string{external + args[0]}, args[1:]...), nil
	}
	return args, nil
}

// umask is the shell's command: it shows or sets the mask of the shell.
func umask(w io.Writer, args []string) int {
	if len(args) == 0 {
		old := unix.Umask(0)
		unix.Umask(old)
		fmt.Fprintf(w, "%04o\n", old)
		return 0
	}
	n, err := strconv.ParseUint(args[0], 8, 9)
	if err != nil {
		fmt.Fprintf(os.Stderr, "sh: umask: %s: not an octal number\n", args[0])
		return 1
	}
	unix.Umask(int(n))
	return 0
}

// exited is a status as the interpreter wants it.
func exited(n int) error {
	if n == 0 {
		return nil
	}
	return interp.ExitStatus(n)
}

// status is the exit status that an interpreter's error means.
func status(err error) int {
	if err == nil {
		return 0
	}
	if n, ok := interp.IsExitStatus(err); ok {
		return int(n)
	}
	fmt.Fprintf(os.Stderr, "sh: %v\n", err)
	return 1
}

// runScript runs a text as a shell script.
func runScript(text string, args []string, set ...string) int {
	file, err := syntax.NewParser().Parse(strings.NewReader(text), "sh")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	r, err := newRunner(runCommand, args, set)
	if err != nil {
		fmt.Fprintf(os.Stderr, "sh: %v\n", err)
		return 2
	}
	return status(r.Run(context.Background(), file))
}

// runInput runs statements from standard input as they arrive.
func runInput(set []string) int {
	r, err := newRunner(runCommand, nil, set)
	if err != nil {
		fmt.Fprintf(os.Stderr, "sh: %v\n", err)
		return 2
	}
	last := 0
	for stmt, err := range syntax.NewParser().StmtsSeq(os.Stdin) {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 2
		}
		if last = status(r.Run(context.Background(), stmt)); r.Exited() {
			break
		}
	}
	return last
}

// prepareCommand finds a program and makes its exec.Cmd. Without one the status is the command's.
func prepareCommand(ctx context.Context, args []string) (*exec.Cmd, int) {
	hc := interp.HandlerCtx(ctx)
	args[0] = strings.TrimPrefix(args[0], external)
	if args[0] == "umask" {
		return nil, umask(hc.Stdout, args[1:])
	}
	if args[0] == "echo" {
		line, end := args[1:], "\n"
		if len(line) > 0 && line[0] == "-n" {
			line, end = line[1:], ""
		}
		if _, err := io.WriteString(hc.Stdout, strings.Join(line, " ")+end); err != nil {
			return nil, 1
		}
		return nil, 0
	}
	path, err := interp.LookPathDir(hc.Dir, hc.Env, args[0])
	if err != nil {
		what, n := "not found", 127
		if strings.Contains(args[0], "/") {
			if fi, serr := os.Stat(args[0]); serr == nil {
				what, n = "Permission denied", 126
				if fi.IsDir() {
					what = "Is a directory"
				}
			}
		}
		fmt.Fprintf(hc.Stderr, "sh: %s: %s\n", args[0], what)
		return nil, n
	}
	cmd := &exec.Cmd{Path: path, Args: args, Dir: hc.Dir, Stdin: hc.Stdin, Stdout: hc.Stdout, Stderr: hc.Stderr}
	for name, v := range hc.Env.Each {
		if v.Exported && v.IsSet() {
			cmd.Env = append(cmd.Env, name+"="+v.String())
		}
	}
	return cmd, 0
}

// startFailed reports why a program could not be started.
func startFailed(ctx context.Context, cmd *exec.Cmd, err error) int {
	if errors.Is(err, syscall.ENOEXEC) {
		// A script without "#!".
		text, rerr := os.ReadFile(cmd.Path)
		if rerr == nil && !strings.Contains(string(text), "\x00") {
			script := exec.Command("/proc/self/exe")
			script.Args = append([]string{"sh", cmd.Path}, cmd.Args[1:]...)
			script.Env, script.Dir, script.Stdin, script.Stdout, script.Stderr = cmd.Env, cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr
			return exitStatus(script.Run())
		}
	}
	fmt.Fprintf(interp.HandlerCtx(ctx).Stderr, "sh: %s\n", message(err))
	if errors.Is(err, fs.ErrNotExist) {
		return 127
	}
	return 126
}

// exitStatus is the shell's $? for the result of Wait.
func exitStatus(err error) int {
	var ee *exec.ExitError
	if errors.As(err, &ee) {
		if ws, ok := ee.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			return 128 + int(ws.Signal())
		}
		return ee.ExitCode()
	}
	if err != nil {
		return 126
	}
	return 0
}

// runCommand runs a program for a script.
func runCommand(ctx context.Context, args []string) error {
	cmd, n := prepareCommand(ctx, args)
	if cmd == nil {
		return exited(n)
	}
	if err := startRetry(cmd); err != nil {
		return exited(startFailed(ctx, cmd, err))
	}
	return exited(exitStatus(cmd.Wait()))
}

// startRetry starts a command. A file that was just written may be held open for a moment by a child that another
// goroutine is starting; then exec says ETXTBSY.
func startRetry(cmd *exec.Cmd) error {
	for delay := time.Millisecond; ; delay *= 2 {
		err := cmd.Start()
		if !errors.Is(err, syscall.ETXTBSY) || delay > 200*time.Millisecond {
			return err
		}
		time.Sleep(delay)
		again := *cmd
		*cmd = exec.Cmd{Path: again.Path, Args: again.Args, Env: again.Env, Dir: again.Dir, Stdin: again.Stdin, Stdout: again.Stdout, Stderr: again.Stderr, SysProcAttr: again.SysProcAttr}
	}
}
