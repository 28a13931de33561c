package mconsole

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/klog"
	"github.com/user-mode-linux/linux/internal/mconsole/hotplug"
	"github.com/user-mode-linux/linux/internal/mconsole/wire"
)

// command is an entry of the table.
type command struct {
	name, args, help string
	// run answers. What it returns, if anything, is done after the answer has been sent.
	run func(s *Server, r *request) (after func())
}

// commands in the order in which they are tried; a line means the first one that it begins with.
var commands []command

func init() {
	commands = []command{
		{"version", "", "Show the names of the guest's kernel", (*Server).version},
		{"halt", "", "Halt the guest at once", func(s *Server, _ *request) func() { return s.guest.Halt }},
		{"reboot", "", "Start the guest again at once", func(s *Server, _ *request) func() { return s.guest.Reboot }},
		{"config", "<dev>[=<config>]", "Add a device, change it, or show its configuration (ubd, con, ssl, mem, ...)", plain((*Server).config)},
		{"remove", "<dev>", "Remove a device", plain((*Server).remove)},
		{"sysrq", "<letter>", "Press SysRq and a letter; h shows the letters", (*Server).sysrq},
		{"help", "", "Show this", plain((*Server).help)},
		{"cad", "", "Press Ctrl-Alt-Del", func(s *Server, _ *request) func() { return s.guest.CtrlAltDel }},
		{"stop", "", "Stop all programs of the guest; the console goes on", plain((*Server).stop)},
		{"go", "", "Let them go on", plain((*Server).goOn)},
		{"log", "<text> | @<file>", "Write to the guest's kernel log; a file is one of the host", plain((*Server).log)},
		{"proc", "<file>", "Show a file of the guest's /proc", plain((*Server).proc)},
		{"stack", "<pid>", "Show what a process of the guest is doing", plain((*Server).stack)},
		{"exec", "[-t] <command>", "Run a command in the guest, with -t on a terminal; shows its output and exit status", plain((*Server).exec)},
		{"attach", "<dev>", "Join a console or serial line", plain((*Server).attach)},
		{"status", "", "Show how the guest is", plain((*Server).status)},
		{"json", "<command>", "Any of these, answered as a JSON object", func(s *Server, r *request) func() { s.inJSON(r); return nil }},
	}
}

// plain is a command that has nothing to do after its answer.
func plain(f func(s *Server, r *request)) func(*Server, *request) func() {
	return func(s *Server, r *request) func() { f(s, r); return nil }
}

var errUnknown = errors.New("Unknown command")

// serve answers a request.
func (s *Server) serve(r *request) {
	after := s.run(r)
	r.done(nil)
	if after != nil {
		after()
	}
}

// run finds the command of a request and runs it.
func (s *Server) run(r *request) (after func()) {
	line := strings.TrimLeft(r.line, " \t")
	for i := range commands {
		c := &commands[i]
		arg, ok := strings.CutPrefix(line, c.name)
		if !ok {
			continue
		}
		if arg != "" && arg[0] != ' ' && arg[0] != '\t' && arg[0] != '\n' {
			klog.Infof("mconsole: %q is taken as %s", line, c.name)
		}
		r.arg = strings.Trim(arg, " \t\n")
		return c.run(s, r)
	}
	r.done(errUnknown)
	return nil
}

func (s *Server) version(r *request) func() {
	st := s.guest.Status()
	r.data(map[string]string{"sysname": st.Sysname, "nodename": st.Nodename, "release": st.Release, "version": st.Version, "machine": st.Machine})
	r.reply(strings.Join([]string{st.Sysname, st.Nodename, st.Release, st.Version, st.Machine}, " "))
	return nil
}

func (s *Server) help(r *request) {
	var b strings.Builder
	b.WriteString("Commands:\n")
	for i := range commands {
		c := &commands[i]
		b.WriteString("    " + c.name)
		if c.args != "" {
			b.WriteString(" " + c.args)
		}
		b.WriteString(" - " + c.help + "\n")
	}
	r.reply(b.String())
}

func (s *Server) status(r *request) {
	st := s.guest.Status()
	s.freezeMu.Lock()
	state := "running"
	if s.frozen {
		state = "stopped"
	}
	s.freezeMu.Unlock()
	dir := filepath.Dir(s.path)
	r.data(map[string]any{
		"state": state, "umid": filepath.Base(dir), "pid": os.Getpid(), "release": st.Release, "nodename": st.Nodename,
		"uptime": st.Uptime, "load": st.Load, "mem_total": st.MemTotal, "mem_available": st.MemAvailable,
		"threads": st.Threads, "running": st.Running,
	})
	fmt.Fprintf(r, "%s %s, pid %d, up %.0f s, load %.2f %.2f %.2f, memory %d of %d MiB available, %d threads, %d running",
		filepath.Base(dir), state, os.Getpid(), st.Uptime, st.Load[0], st.Load[1], st.Load[2], st.MemAvailable>>20, st.MemTotal>>20, st.Threads, st.Running)
}

// log writes to the kernel log. "@<path>" are the lines of a host file.
func (s *Server) log(r *request) {
	name, file := strings.CutPrefix(r.arg, "@")
	if !file {
		logLine(r.arg)
		return
	}
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		r.done(err)
		return
	}
	defer f.Close()
	lines := bufio.NewScanner(io.LimitReader(f, 1<<20))
	for lines.Scan() {
		logLine(lines.Text())
	}
	if err := lines.Err(); err != nil {
		r.done(err)
	}
}

// logLine logs what a client sends as one harmless line.
func logLine(text string) {
	text = strings.Map(func(c rune) rune {
		if c < ' ' && c != '\t' || c == 0x7f {
			return ' '
		}
		return c
	}, text)
	if strings.TrimSpace(text) != "" {
		klog.Warnf("%s", text)
	}
}

// proc shows a file of /proc: a newline, the text, an empty packet.
func (s *Server) proc(r *request) {
	f, err := s.guest.OpenProc(r.arg)
	if err != nil {
		r.done(&hotplug.Error{Errno: errnoOf(err), Text: "Failed to open file"})
		return
	}
	defer f.Close()
	_, _ = r.Write([]byte("\n"))
	_ = r.flush()
	// Files that would wait for more (kmsg) end where they would.
	if _, err := io.Copy(r, f); err != nil && err != unix.EAGAIN && r.gone == nil {
		r.done(&hotplug.Error{Errno: errnoOf(err), Text: "Read of file failed"})
		return
	}
	_ = r.flush()
}

// errnoOf is the errno in err, 0 if there is none.
func errnoOf(err error) unix.Errno {
	var e unix.Errno
	errors.As(err, &e)
	return e
}

func (s *Server) stack(r *request) {
	pid, err := strconv.ParseInt(r.arg, 10, 32)
	if err != nil || pid <= 0 {
		r.done(errors.New("Please specify a pid"))
		return
	}
	if err := s.guest.Stack(int32(pid), r); errors.Is(err, unix.ESRCH) {
		r.done(errors.New("Couldn't find that pid"))
	}
}

// ackFirst are the letters that end the guest: their answer goes before.
const ackFirst = "bco"

// sysrq presses a key and shows what the kernel logs meanwhile.
func (s *Server) sysrq(r *request) func() {
	key := byte('h')
	if r.arg != "" {
		key = r.arg[0]
	}
	if strings.IndexByte(ackFirst, key) >= 0 {
		return func() { s.guest.Sysrq(key) }
	}
	s.sysrqMu.Lock()
	defer s.sysrqMu.Unlock()
	next := klog.Next()
	s.guest.Sysrq(key)
	// Not what comes after: the guest may log all the time.
	for end := klog.Next(); next < end; {
		recs, _ := klog.From(next, 64)
		if len(recs) == 0 {
			break
		}
		for _, rec := range recs {
			if rec.Seq < end {
				fmt.Fprintln(r, rec)
			}
		}
		next = recs[len(recs)-1].Seq + 1
	}
	_ = r.flush()
	return nil
}

func (s *Server) stop(r *request) {
	s.freezeMu.Lock()
	defer s.freezeMu.Unlock()
	if s.frozen {
		r.done(errors.New("Already stopped"))
		return
	}
	if err := s.guest.Freeze(); err != nil {
		s.guest.Thaw()
		r.done(err)
		return
	}
	s.frozen = true
	r.reply("stopped")
}

func (s *Server) goOn(r *request) {
	s.freezeMu.Lock()
	defer s.freezeMu.Unlock()
	if !s.frozen {
		r.done(errors.New("Not stopped"))
		return
	}
	s.frozen = false
	s.guest.Thaw()
}

// sortDrivers puts longer names first, so that no driver hides another.
func sortDrivers(list []hotplug.Driver) []hotplug.Driver {
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b hotplug.Driver) int { return len(b.Name()) - len(a.Name()) })
	return list
}

// driver finds the driver of a device; id is the rest of its name.
func (s *Server) driver(device string) (d hotplug.Driver, id string) {
	for _, d := range s.drivers {
		if id, ok := strings.CutPrefix(device, d.Name()); ok {
			return d, id
		}
	}
	return nil, ""
}

func (s *Server) config(r *request) {
	d, arg := s.driver(r.arg)
	if d == nil {
		r.done(errors.New("Bad configuration option"))
		return
	}
	if strings.Contains(arg, "=") {
		r.done(d.Config(arg))
		return
	}
	text, err := d.Query(arg)
	if err != nil {
		r.done(err)
		return
	}
	r.data(map[string]string{"device": r.arg, "config": text})
	r.reply(text)
}

// attach joins the client's terminal, a socket that comes with the request, to a device; a control stream may come after it. Once
// that is done there is a first packet.
func (s *Server) attach(r *request) {
	d, id := s.driver(r.arg)
	a, ok := d.(hotplug.Attacher)
	switch {
	case !ok:
		r.done(errors.New("Bad attach option"))
		return
	case len(r.files) == 0:
		text, err := d.Query(id)
		if err == nil {
			err = errors.New("This client cannot attach; the device is " + text)
		}
		r.done(err)
		return
	}
	at, err := a.Attach(id, r.files[0])
	if err == unix.ENODEV {
		err = &hotplug.Error{Errno: unix.ENODEV, Text: "Device doesn't exist"}
	}
	if err != nil {
		r.done(err)
		return
	}
	ctl, err := newControl(r.files, 1)
	if err != nil {
		r.done(err)
		return
	}
	defer ctl.close()
	_ = r.packet(wire.Reply{More: true, Text: "attached"})
	if ctl != nil {
		go ctl.follow(func(m message) {
			if m.signal == 0 {
				at.Resize(m.size)
			}
		}, func() {})
	}
	select {
	case <-at.Done():
	case <-s.quit:
	}
}

func (s *Server) remove(r *request) {
	d, id := s.driver(r.arg)
	if d == nil {
		r.done(errors.New("Bad remove option"))
		return
	}
	err := d.Remove(id)
	switch err {
	case unix.ENODEV:
		err = &hotplug.Error{Errno: unix.ENODEV, Text: "Device doesn't exist"}
	case unix.EBUSY:
		err = &hotplug.Error{Errno: unix.EBUSY, Text: "Device is currently open"}
	}
	r.done(err)
}
