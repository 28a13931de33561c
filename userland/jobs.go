package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
	"mvdan.cc/sh/v3/interp"
	"mvdan.cc/sh/v3/syntax"
)

// Job control over an interpreter that knows nothing of it: each statement that is typed is a job, run by the interpreter
// on a goroutine of its own, and every program that it starts joins the job's process group. When the group stops, that
// goroutine stays where it is, waiting for the program, and the shell goes on with a copy of the interpreter; fg makes the
// group the terminal's again and waits for the goroutine. So a whole loop or pipeline can be stopped and continued.

// job is one statement that was typed.
type job struct {
	id         int
	text       string
	done       chan struct{} // closed when the statement has ended
	stops      chan struct{} // gets one value when the group stops
	cancel     context.CancelFunc
	runner     *interp.Runner
	status     int  // valid when done
	exited     bool // the statement was an exit; valid when done
	stopped    bool // owned by the shell's loop
	announced  bool // listed to the user: it outlives its line
	background bool // guarded by mu: never takes the terminal

	mu sync.Mutex
	// pgid is the process group of the live programs; live is how many there are.
	pgid, live int
}

type jobKey struct{}

// shell is an interactive shell.
type shell struct {
	runner *interp.Runner
	editor *editor
	jobs   []*job
	pgrp   int
	tty    int
	modes  *term.State // how the shell wants the terminal
	sigint chan os.Signal
	last   int
	exited bool // by exit
}

func newInteractive(login bool) *shell {
	s := &shell{tty: 0, sigint: make(chan os.Signal, 1)}
	signal.Notify(s.sigint, unix.SIGINT)
	// Caught rather than ignored, because programs would inherit that.
	drop := make(chan os.Signal, 8)
	signal.Notify(drop, unix.SIGQUIT, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU, unix.SIGTERM)
	go func() {
		for range drop {
		}
	}()
	if unix.Getpgrp() != os.Getpid() {
		unix.Setpgid(0, 0)
	}
	s.pgrp = unix.Getpgrp()
	s.setForeground(s.pgrp)
	s.modes, _ = term.GetState(s.tty)
	s.editor = newEditor()
	var err error
	if s.runner, err = newRunner(s.command, nil, nil, interp.Interactive(true)); err != nil {
		fmt.Fprintf(os.Stderr, "sh: %v\n", err)
		os.Exit(2)
	}
	if login {
		if text, err := os.ReadFile("/etc/profile"); err == nil {
			s.runText(string(text))
		}
	}
	return s
}

// setForeground makes pgrp the terminal's foreground group. SIGTTOU is blocked meanwhile: the shell may be in the
// background itself.
func (s *shell) setForeground(pgrp int) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var set, old unix.Sigset_t
	set.Val[0] = 1 << (unix.SIGTTOU - 1)
	unix.PthreadSigmask(unix.SIG_BLOCK, &set, &old)
	unix.IoctlSetPointerInt(s.tty, unix.TIOCSPGRP, pgrp)
	unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil)
}

// loop reads and runs lines until the end and returns the exit status.
func (s *shell) loop() int {
	defer s.hangUp()
	for {
		s.report()
		os.Chdir(s.runner.Dir) // for the completion of names; programs are given the directory
		text, err := s.read()
		if err != nil {
			if s.stoppedJobs() && !s.editor.warned {
				s.editor.warned = true
				fmt.Fprintln(os.Stderr, "There are stopped jobs.")
				continue
			}
			return s.last
		}
		s.editor.warned = false
		s.runText(text)
		if s.exited {
			return s.last
		}
	}
}

// hangUp ends stopped jobs, which nobody could continue.
func (s *shell) hangUp() {
	for _, j := range s.jobs {
		if j.stopped {
			j.signal(unix.SIGHUP)
			j.signal(unix.SIGCONT)
		}
	}
}

func (s *shell) stoppedJobs() bool {
	return slices.ContainsFunc(s.jobs, func(j *job) bool { return j.stopped })
}

// read reads a statement, asking for more lines while it is incomplete.
func (s *shell) read() (string, error) {
	text := ""
	for {
		line, err := s.editor.line(s.prompt(text != ""))
		if err == errInterrupted {
			text = ""
			continue
		}
		if err != nil {
			return "", err
		}
		text += line + "\n"
		if _, err := syntax.NewParser().Parse(strings.NewReader(text), ""); err == nil || !syntax.IsIncomplete(err) {
			return text, nil
		}
	}
}

func (s *shell) prompt(more bool) string {
	name := "PS1"
	if more {
		name = "PS2"
	}
	p := os.Getenv(name)
	// The interpreter sets plain defaults, for which we have better ones.
	if v, ok := s.runner.Vars[name]; ok && v.String() != "$ " && v.String() != "# " {
		p = v.String()
	}
	switch {
	case p != "":
		return expandPrompt(p, s.runner.Dir)
	case more:
		return "> "
	}
	sign := "$ "
	if os.Getuid() == 0 {
		sign = "# "
	}
	return s.shortDir() + " " + sign
}

func (s *shell) shortDir() string {
	dir := s.runner.Dir
	if home := os.Getenv("HOME"); home != "" && home != "/" && (dir == home || strings.HasPrefix(dir, home+"/")) {
		return "~" + dir[len(home):]
	}
	return dir
}

func expandPrompt(p, dir string) string {
	h, _ := os.Hostname()
	sign := "$"
	if os.Getuid() == 0 {
		sign = "#"
	}
	return strings.NewReplacer(`\w`, dir, `\h`, h, `\u`, userName(uint32(os.Getuid())), `\$`, sign, `\n`, "\n").Replace(p)
}

// runText parses and runs statements, each as a job.
func (s *shell) runText(text string) {
	file, err := syntax.NewParser().Parse(strings.NewReader(text), "")
	if err != nil {
		fmt.Fprintf(os.Stderr, "sh: %v\n", err)
		s.last = 2
		return
	}
	for _, stmt := range file.Stmts {
		from, to := stmt.Pos().Offset(), stmt.End().Offset()
		src := strings.TrimSpace(text[min(int(from), len(text)):min(int(to), len(text))])
		if name, args, ok := literalCall(stmt); !ok || !s.builtin(name, args) {
			s.run(stmt, src)
		}
		if s.exited || s.last == 128+int(unix.SIGINT) {
			return
		}
	}
}

// literalCall is the command and arguments of a statement that has nothing to expand.
func literalCall(stmt *syntax.Stmt) (string, []string, bool) {
	call, ok := stmt.Cmd.(*syntax.CallExpr)
	if !ok || stmt.Background || stmt.Negated || len(stmt.Redirs) > 0 || len(call.Assigns) > 0 || len(call.Args) == 0 {
		return "", nil, false
	}
	var words []string
	for _, w := range call.Args {
		lit := w.Lit()
		if lit == "" {
			return "", nil, false
		}
		words = append(words, lit)
	}
	return words[0], words[1:], true
}

// builtin runs the commands of job control; it returns false if name is none of them.
func (s *shell) builtin(name string, args []string) bool {
	switch name {
	case "jobs":
		for _, j := range s.jobs {
			fmt.Fprintf(os.Stderr, "[%d] %-10s %s\n", j.id, j.state(), j.text)
		}
		s.last = 0
	case "fg", "bg":
		j := s.find(args)
		if j == nil {
			fmt.Fprintf(os.Stderr, "sh: %s: no such job\n", name)
			s.last = 1
			return true
		}
		fmt.Fprintln(os.Stderr, j.text)
		s.resume(j, name == "fg")
	case "wait":
		s.waitAll()
	case "kill":
		if !slices.ContainsFunc(args, func(a string) bool { return strings.HasPrefix(a, "%") }) {
			return false
		}
		s.killJobs(args)
	default:
		return false
	}
	return true
}

// find is the job that "%2", "2" or nothing (the last) names.
func (s *shell) find(args []string) *job {
	if len(s.jobs) == 0 {
		return nil
	}
	if len(args) == 0 || args[0] == "%%" || args[0] == "%+" {
		return s.jobs[len(s.jobs)-1]
	}
	n, err := strconv.Atoi(strings.TrimPrefix(args[0], "%"))
	if err != nil {
		return nil
	}
	if i := slices.IndexFunc(s.jobs, func(j *job) bool { return j.id == n }); i >= 0 {
		return s.jobs[i]
	}
	return nil
}

func (s *shell) killJobs(args []string) {
	sig := unix.SIGTERM
	s.last = 0
	for _, a := range args {
		if rest, ok := strings.CutPrefix(a, "-"); ok {
			if n, ok := signalNumber(rest); ok {
				sig = n
			}
			continue
		}
		j := s.find([]string{a})
		if j == nil {
			fmt.Fprintf(os.Stderr, "sh: kill: %s: no such job\n", a)
			s.last = 1
			continue
		}
		j.signal(sig)
		if j.stopped && sig != unix.SIGSTOP && sig != unix.SIGTSTP {
			j.signal(unix.SIGCONT)
			j.stopped = false
		}
	}
}

// run runs one statement as a job.
func (s *shell) run(stmt *syntax.Stmt, text string) {
	ctx, cancel := context.WithCancel(context.Background())
	j := &job{text: text, done: make(chan struct{}), stops: make(chan struct{}, 1), cancel: cancel, runner: s.runner, background: stmt.Background}
	ctx = context.WithValue(ctx, jobKey{}, j)
	if stmt.Background {
		j.runner = s.runner.Subshell()
		copied := *stmt
		copied.Background = false
		stmt = &copied
	}
	select {
	case <-s.sigint: // an old one
	default:
	}
	go func() {
		err := j.runner.Run(ctx, stmt)
		if errors.Is(err, context.Canceled) {
			j.status = 128 + int(unix.SIGINT)
		} else {
			j.status, j.exited = status(err), j.runner.Exited()
		}
		cancel()
		close(j.done)
	}()
	if j.background {
		s.add(j)
		fmt.Fprintf(os.Stderr, "[%d]\n", j.id)
		s.last = 0
		return
	}
	s.wait(j)
}

// add gives a job a number.
func (s *shell) add(j *job) {
	if j.announced {
		return
	}
	j.announced = true
	for j.id = 1; slices.ContainsFunc(s.jobs, func(k *job) bool { return k.id == j.id }); j.id++ {
	}
	s.jobs = append(s.jobs, j)
}

func (s *shell) remove(j *job) {
	s.jobs = slices.DeleteFunc(s.jobs, func(k *job) bool { return k == j })
}

// wait waits for a foreground job to end or to stop.
func (s *shell) wait(j *job) {
	for {
		select {
		case <-s.sigint:
			j.cancel() // the statement is busy in the shell itself
			continue
		case <-j.done:
			s.last, s.exited = j.status, j.exited
			s.remove(j)
		case <-j.stops:
			j.stopped = true
			s.add(j)
			if j.runner == s.runner {
				s.runner = s.runner.Subshell()
			}
			s.last = 128 + int(unix.SIGTSTP)
			fmt.Fprintf(os.Stderr, "\n[%d] Stopped    %s\n", j.id, j.text)
		}
		s.setForeground(s.pgrp)
		if s.modes != nil {
			term.Restore(s.tty, s.modes)
		}
		return
	}
}

// resume continues a job in the foreground or background.
func (s *shell) resume(j *job, foreground bool) {
	j.mu.Lock()
	j.background = !foreground
	pgid := j.pgid
	live := j.live
	j.mu.Unlock()
	select {
	case <-j.stops: // of the stop that we know
	default:
	}
	if foreground && live > 0 {
		s.setForeground(pgid)
	}
	j.stopped = false
	j.signal(unix.SIGCONT)
	s.last = 0
	if foreground {
		s.wait(j)
	}
}

// waitAll waits for all background jobs, or for Ctrl-C.
func (s *shell) waitAll() {
	s.last = 0
	for _, j := range slices.Clone(s.jobs) {
		if j.stopped {
			continue
		}
		select {
		case <-j.done:
		case <-s.sigint:
			s.last = 128 + int(unix.SIGINT)
			return
		}
	}
}

// report tells of background jobs that have ended or stopped.
func (s *shell) report() {
	for _, j := range slices.Clone(s.jobs) {
		select {
		case <-j.done:
			s.remove(j)
			what := "Done"
			if j.status != 0 {
				what = fmt.Sprintf("Exit %d", j.status)
			}
			fmt.Fprintf(os.Stderr, "[%d] %-10s %s\n", j.id, what, j.text)
		case <-j.stops:
			j.stopped = true
			fmt.Fprintf(os.Stderr, "[%d] Stopped    %s\n", j.id, j.text)
		default:
		}
	}
}

func (j *job) state() string {
	select {
	case <-j.done:
		return "Done"
	default:
	}
	if j.stopped {
		return "Stopped"
	}
	return "Running"
}

// signal sends a signal to the job's programs.
func (j *job) signal(sig syscall.Signal) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.live > 0 {
		syscall.Kill(-j.pgid, sig)
	}
}

// command runs a program of a job: the interpreter calls it.
func (s *shell) command(ctx context.Context, args []string) error {
	j, ok := ctx.Value(jobKey{}).(*job)
	if !ok {
		return runCommand(ctx, args)
	}
	cmd, n := prepareCommand(ctx, args)
	if cmd == nil {
		return exited(n)
	}
	j.mu.Lock()
	err := j.start(s, cmd)
	j.mu.Unlock()
	if err != nil {
		return exited(startFailed(ctx, cmd, err))
	}

	ws := j.waitFor(cmd.Process.Pid)
	if j.live--; j.live == 0 && !j.background {
		s.setForeground(s.pgrp) // the statement may go on in the shell itself
	}
	interrupted := !j.background && ws.Signaled() && ws.Signal() == unix.SIGINT
	j.mu.Unlock()
	cmd.WaitDelay = time.Second // the process is collected already; this waits for copied output
	cmd.Wait()
	switch {
	case interrupted:
		fmt.Fprintln(os.Stderr)
		j.cancel()
		return exited(128 + int(unix.SIGINT))
	case ws.Signaled():
		if !j.background {
			fmt.Fprintln(os.Stderr, unix.SignalName(ws.Signal()))
		}
		return exited(128 + int(ws.Signal()))
	}
	return exited(ws.ExitStatus())
}

// waitFor waits until a program has ended, telling the shell when it stops, and returns with j.mu held. The program is
// collected under j.mu, so that a group with live members never vanishes while another program is being added to it.
func (j *job) waitFor(pid int) unix.WaitStatus {
	for {
		var info unix.Siginfo
		if err := unix.Waitid(unix.P_PID, pid, &info, unix.WEXITED|unix.WSTOPPED|unix.WNOWAIT, nil); err == unix.EINTR {
			continue
		}
		j.mu.Lock()
		var ws unix.WaitStatus
		n, err := unix.Wait4(pid, &ws, unix.WUNTRACED|unix.WNOHANG, nil)
		if err != nil || n == pid && !ws.Stopped() {
			return ws
		}
		j.mu.Unlock()
		if n == pid {
			select {
			case j.stops <- struct{}{}:
			default:
			}
		}
	}
}

// start starts a program in the job's group, or in a new one if all others have ended, and gives a foreground job the
// terminal. j.mu is held.
func (j *job) start(s *shell, cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if j.live > 0 {
		cmd.SysProcAttr.Pgid = j.pgid
	}
	if err := startRetry(cmd); err != nil {
		return err
	}
	if j.live++; j.live > 1 {
		return nil
	}
	j.pgid = cmd.Process.Pid
	if !j.background {
		s.setForeground(j.pgid)
		syscall.Kill(-j.pgid, unix.SIGCONT) // it may have read from the terminal before that
	}
	return nil
}
