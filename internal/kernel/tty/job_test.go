package tty

import (
	"bytes"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
	"github.com/user-mode-linux/linux/internal/kernel/cred"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
	"github.com/user-mode-linux/linux/internal/kernel/wait"
)

// session is a shell (leader, group 10) with a job (group 20) on a pty, and the parent of the shell that has the master.
func session(t *testing.T) (f *fakeController, shell, job *proc, m, s *opened, p *Pty) {
	t.Helper()
	shell, job = newProc(10, 10, 10), newProc(20, 20, 10)
	f = withController(t, shell, job)
	m, first, p := newPair(t, newProc(2, 2, 1), unix.O_NONBLOCK)
	s = openFile(t, shell, unix.O_RDWR|unix.O_NONBLOCK, func(vf *vfs.File) (vfs.FileOps, error) { return OpenSlave(shell, vf, p) })
	first.close()
	if shell.ctty != p.slave {
		t.Fatal("open by a session leader did not make a controlling terminal")
	}
	job.ctty = p.slave
	return f, shell, job, m, s, p
}

func TestControllingTerminal(t *testing.T) {
	leader, other := newProc(10, 10, 10), newProc(30, 30, 30)
	withController(t, leader, other)
	m, s, p := newPair(t, newProc(2, 2, 1), unix.O_NONBLOCK)
	open := func(c *proc, flags uint32) *opened {
		return openFile(t, c, flags, func(vf *vfs.File) (vfs.FileOps, error) { return OpenSlave(c, vf, p) })
	}
	open(leader, unix.O_RDWR|unix.O_NOCTTY)
	open(newProc(11, 10, 10), unix.O_RDWR)
	open(leader, unix.O_WRONLY)
	if leader.ctty != nil || p.slave.Session() != 0 {
		t.Fatal("O_NOCTTY, a process that is no leader or a write-only open got the terminal")
	}
	if err := s.as(leader).ioctl(unix.TIOCGSID, memBase); err != unix.ENOTTY {
		t.Error("TIOCGSID without controlling terminal:", err)
	}
	if err := s.as(newProc(11, 10, 10)).ioctl(unix.TIOCSCTTY, 0); err != unix.EPERM {
		t.Error("TIOCSCTTY by no leader:", err)
	}
	if err := s.as(leader).ioctl(unix.TIOCSCTTY, 0); err != nil || leader.ctty != p.slave {
		t.Error("TIOCSCTTY:", err)
	}
	if err := s.as(leader).ioctl(unix.TIOCSCTTY, 0); err != nil {
		t.Error("TIOCSCTTY again:", err)
	}
	if err := m.ioctl(unix.TIOCGSID, memBase); err != nil || m.c.int() != 10 {
		t.Error("TIOCGSID on the master:", err, m.c.int())
	}
	// Stealing needs root and arg 1.
	if err := s.as(other).ioctl(unix.TIOCSCTTY, 0); err != unix.EPERM {
		t.Error("TIOCSCTTY of another session's terminal:", err)
	}
	user := newProc(40, 40, 40)
	user.cred = &cred.Cred{UID: 1000, EUID: 1000}
	if err := s.as(user).ioctl(unix.TIOCSCTTY, 1); err != unix.EPERM {
		t.Error("stealing by a user:", err)
	}
	if err := s.as(other).ioctl(unix.TIOCSCTTY, 1); err != nil || other.ctty != p.slave || leader.ctty != nil {
		t.Error("stealing by root:", err)
	}
}

func TestForegroundGroup(t *testing.T) {
	f, shell, job, m, s, p := session(t)
	if err := s.ioctl(unix.TIOCGPGRP, memBase); err != nil || shell.int() != 10 {
		t.Fatal(err, shell.int())
	}
	for _, c := range []struct {
		pgrp int32
		want error
	}{{-1, unix.EINVAL}, {99, unix.ESRCH}, {30, unix.EPERM}, {20, nil}} {
		f.pgrps[30] = 30
		if err := s.ioctl(unix.TIOCSPGRP, shell.setInt(c.pgrp)); err != c.want {
			t.Errorf("TIOCSPGRP %d: %v, want %v", c.pgrp, err, c.want)
		}
	}
	if err := s.ioctl(unix.TIOCSPGRP, 1); err != abi.ERESTARTSYS {
		t.Error("the shell is in the background now:", err)
	}
	if got := f.take(); !slices.Equal(got, []sent{{"pgrp", 10, unix.SIGTTOU}}) {
		t.Error(got)
	}
	// Signal characters go to the foreground group.
	if _, err := m.write("\x03\x1c\x1a"); err != nil {
		t.Fatal(err)
	}
	want := []sent{{"pgrp", 20, unix.SIGINT}, {"pgrp", 20, unix.SIGQUIT}, {"pgrp", 20, unix.SIGTSTP}}
	if got := f.take(); len(got) != 3 || !contains(got, want) {
		t.Error(got)
	}
	// Background reads, writes with TOSTOP, and changes of settings.
	if _, err := s.read(1); err != abi.ERESTARTSYS || !slices.Equal(f.take(), []sent{{"pgrp", 10, unix.SIGTTIN}}) {
		t.Error("background read:", err)
	}
	if n, err := s.write("x"); n != 1 || err != nil {
		t.Error("background write:", n, err)
	}
	p.slave.termios.Lflag |= unix.TOSTOP
	if _, err := s.write("x"); err != abi.ERESTARTSYS || !slices.Equal(f.take(), []sent{{"pgrp", 10, unix.SIGTTOU}}) {
		t.Error("background write with TOSTOP:", err)
	}
	shell.orphaned = true
	if _, err := s.read(1); err != unix.EIO {
		t.Error("background read of an orphaned group:", err)
	}
	if _, err := s.write("x"); err != unix.EIO {
		t.Error("background write of an orphaned group:", err)
	}
	shell.blocked = true
	if _, err := s.read(1); err != unix.EIO {
		t.Error("background read with SIGTTIN ignored:", err)
	}
	if n, err := s.write("x"); n != 1 || err != nil {
		t.Error("background write with SIGTTOU ignored:", n, err)
	}
	if err := s.as(job).ioctl(unix.TIOCSPGRP, job.setInt(10)); err != nil {
		t.Error("the foreground gives the terminal back:", err)
	}
	if len(f.take()) != 0 {
		t.Error("unexpected signals")
	}
}

func contains(got, want []sent) bool {
	for _, w := range want {
		if !slices.Contains(got, w) {
			return false
		}
	}
	return true
}

func TestWindowSize(t *testing.T) {
	f, shell, _, m, s, _ := session(t)
	copy(m.c.mem[:], []byte{24, 0, 80, 0, 0, 0, 0, 0})
	for range 2 {
		if err := m.ioctl(unix.TIOCSWINSZ, memBase); err != nil {
			t.Fatal(err)
		}
	}
	if got := f.take(); !slices.Equal(got, []sent{{"pgrp", 10, unix.SIGWINCH}}) {
		t.Error("one change, signals:", got)
	}
	if err := s.ioctl(unix.TIOCGWINSZ, memBase); err != nil || shell.mem[0] != 24 || shell.mem[2] != 80 {
		t.Error(err, shell.mem[:8])
	}
	if err := s.ioctl(unix.TIOCGWINSZ, 1); err != unix.EFAULT {
		t.Error(err)
	}
}

func TestMasterCloseHangsUp(t *testing.T) {
	f, shell, job, m, s, p := session(t)
	p.slave.pgrp = 20
	_, _ = m.write("typed\n")
	m.close()
	if got := f.take(); !slices.Equal(got, []sent{{"leader", 10, unix.SIGHUP}, {"leader", 10, unix.SIGCONT}}) {
		t.Error(got)
	}
	if shell.ctty != nil || job.ctty != nil {
		t.Error("the session still has its terminal")
	}
	if got, err := s.read(10); got != "" || err != nil {
		t.Errorf("read: %q %v", got, err)
	}
	if _, err := s.write("x"); err != unix.EIO {
		t.Error("write:", err)
	}
	if err := s.ioctl(unix.TCGETS, memBase); err != unix.EIO {
		t.Error("ioctl:", err)
	}
	if err := s.ioctl(unix.TIOCSPGRP, memBase); err != unix.ENOTTY {
		t.Error("TIOCSPGRP:", err)
	}
	if ev := s.ops.Readiness(wait.All); ev&unix.POLLHUP == 0 || ev&unix.POLLIN == 0 {
		t.Errorf("poll: %x", ev)
	}
	vf := vfs.NewFile(vfs.Path{}, nil, nil, unix.O_RDWR)
	if _, err := OpenSlave(shell, vf, p); err != unix.EIO {
		t.Error("open after the master is gone:", err)
	}
	h := p.host.(*fakeHost)
	if !h.hidden[0] || h.freed[0] {
		t.Error("the name is there, or the number is free while the slave is open")
	}
	s.close()
	if !h.hidden[0] || !h.freed[0] {
		t.Error("the number is not free")
	}
	// The leader's exit tells the group that was in the foreground.
	SessionLeaderExit(shell)
	if got := f.take(); !slices.Equal(got, []sent{{"pgrp", 20, unix.SIGHUP}, {"pgrp", 20, unix.SIGCONT}}) {
		t.Error(got)
	}
}

func TestLeaderExit(t *testing.T) {
	f, shell, job, _, s, p := session(t)
	p.slave.pgrp = 20
	SessionLeaderExit(shell)
	if got := f.take(); !slices.Equal(got, []sent{{"pgrp", 20, unix.SIGHUP}}) {
		t.Error(got)
	}
	if shell.ctty != nil || job.ctty != nil || p.slave.Session() != 0 {
		t.Error("the session still has its terminal")
	}
	if _, err := s.write("x"); err != nil {
		t.Error("a pty lives on:", err)
	}
}

func TestConsoleLeaderExitHangsUpButNotTheConsoleFile(t *testing.T) {
	shell := newProc(10, 10, 10)
	f := withController(t, shell)
	port := &fakePort{room: 1 << 20}
	line := New("tty9", 4, 9, port)
	s := openFile(t, shell, unix.O_RDWR, func(vf *vfs.File) (vfs.FileOps, error) { return line.open(shell, vf, false, false) })
	con := openFile(t, shell, unix.O_RDWR, func(vf *vfs.File) (vfs.FileOps, error) { return line.open(shell, vf, true, true) })
	SessionLeaderExit(shell)
	if got := f.take(); !slices.Equal(got, []sent{{"pgrp", 10, unix.SIGHUP}}) {
		t.Error(got)
	}
	if _, err := s.write("x"); err != unix.EIO {
		t.Error("not hung up:", err)
	}
	if n, err := con.write("x"); n != 1 || err != nil {
		t.Error("/dev/console was hung up:", err)
	}
	s.close()
	if port.closes != 0 {
		t.Error("port closed under the console")
	}
	con.close()
	if port.opens != 1 || port.closes != 1 {
		t.Error("opens, closes:", port.opens, port.closes)
	}
}

func TestDisassociate(t *testing.T) {
	f, shell, job, _, s, p := session(t)
	p.slave.pgrp = 20
	if err := s.as(job).ioctl(unix.TIOCNOTTY, 0); err != nil || job.ctty != nil || shell.ctty == nil {
		t.Error("TIOCNOTTY of a job:", err)
	}
	if err := s.as(job).ioctl(unix.TIOCNOTTY, 0); err != unix.ENOTTY {
		t.Error("TIOCNOTTY again:", err)
	}
	job.ctty = p.slave
	if err := s.ioctl(unix.TIOCNOTTY, 0); err != nil || job.ctty != nil || shell.ctty != nil {
		t.Error("TIOCNOTTY of the leader:", err)
	}
	if got := f.take(); !slices.Equal(got, []sent{{"pgrp", 20, unix.SIGHUP}, {"pgrp", 20, unix.SIGCONT}}) {
		t.Error(got)
	}
}

func TestSimulatedInput(t *testing.T) {
	_, shell, job, _, s, _ := session(t)
	shell.cred = &cred.Cred{UID: 1000}
	shell.mem[0] = '\n'
	if err := s.ioctl(unix.TIOCSTI, memBase); err != nil {
		t.Error("own terminal:", err)
	}
	if got, err := s.read(5); got != "\n" || err != nil {
		t.Errorf("%q %v", got, err)
	}
	job.cred, job.ctty = shell.cred, nil
	if err := s.as(job).ioctl(unix.TIOCSTI, memBase); err != unix.EPERM {
		t.Error("foreign terminal:", err)
	}
}

// TestHangupUnthrottles hangs a terminal up that has more input than it takes: the port, and who writes to the master of a pty,
// go on.
func TestHangupUnthrottles(t *testing.T) {
	shell := newProc(10, 10, 10)
	withController(t, shell)
	port := &fakePort{room: 1 << 20}
	line := New("tty9", 4, 9, port)
	open := func(vf *vfs.File) (vfs.FileOps, error) { return line.open(shell, vf, false, false) }
	openFile(t, shell, unix.O_RDWR, open)
	if err := Hold(line); err != nil { // as the kernel's log does, so that the port stays open
		t.Fatal(err)
	}
	input := bytes.Repeat([]byte("line\n"), 4000)
	for n := line.Receive(input); n > 0; n = line.Receive(input) {
	}
	port.wakes = 0
	SessionLeaderExit(shell)
	if port.wakes != 1 {
		t.Errorf("the port was told %d times to go on", port.wakes)
	}
	s := openFile(t, shell, unix.O_RDWR, open)
	if n := line.Receive([]byte("new\n")); n != 4 {
		t.Errorf("%d bytes taken", n)
	}
	if got, err := s.read(10); got != "new\n" || err != nil {
		t.Errorf("%q %v", got, err)
	}
	m, _, p := newPair(t, newProc(20, 20, 20), unix.O_RDWR)
	done := make(chan error, 1)
	go func() {
		_, err := m.write(string(input[:16000]))
		done <- err
	}()
	for p.slave.inputRoom() > 0 {
		runtime.Gosched()
	}
	p.slave.Hangup()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Error("the writer of the master was not told to go on")
	}
}
