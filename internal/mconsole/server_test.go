package mconsole

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/klog"
	"github.com/user-mode-linux/linux/internal/mconsole/hotplug"
	"github.com/user-mode-linux/linux/internal/mconsole/wire"
)

// fakeGuest notes what is done to it.
type fakeGuest struct {
	mu    sync.Mutex
	did   []string
	block chan struct{} // exec of "block" waits for it
	total uint64
}

func (g *fakeGuest) note(s string) { g.mu.Lock(); g.did = append(g.did, s); g.mu.Unlock() }
func (g *fakeGuest) take() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := strings.Join(g.did, " ")
	g.did = nil
	return s
}
func (g *fakeGuest) Halt()         { g.note("halt") }
func (g *fakeGuest) Reboot()       { g.note("reboot") }
func (g *fakeGuest) CtrlAltDel()   { g.note("cad") }
func (g *fakeGuest) Freeze() error { g.note("freeze"); return nil }
func (g *fakeGuest) Thaw()         { g.note("thaw") }
func (g *fakeGuest) Sysrq(key byte) {
	g.note("sysrq-" + string(key))
	klog.Infof("sysrq: key %c", key)
}

func (g *fakeGuest) OpenProc(name string) (io.ReadCloser, error) {
	switch name {
	case "big":
		return io.NopCloser(strings.NewReader(strings.Repeat("0123456789abcdef", 1<<12))), nil
	case "bad":
		return io.NopCloser(io.MultiReader(strings.NewReader("a bit"), failing{})), nil
	case "nul":
		return io.NopCloser(strings.NewReader("one\x00two\x00")), nil
	}
	return nil, unix.ENOENT
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, unix.EIO }

func (g *fakeGuest) Stack(pid int32, w io.Writer) error {
	if pid != 1 {
		return unix.ESRCH
	}
	fmt.Fprintln(w, "task:init")
	return nil
}

// fakeProcess notes what is done to it; its end is that of wait.
type fakeProcess struct {
	g    *fakeGuest
	wait func() int
}

func (p fakeProcess) Wait() int              { return p.wait() }
func (p fakeProcess) Signal(sig unix.Signal) { p.g.note(fmt.Sprintf("signal-%d", sig)) }
func (p fakeProcess) Resize(ws unix.Winsize) { p.g.note(fmt.Sprintf("size-%dx%d", ws.Row, ws.Col)) }
func (p fakeProcess) Hangup()                { p.g.note("hangup"); close(p.g.block) }

func (g *fakeGuest) Exec(command string, stdio [3]*os.File) (Process, error) {
	switch command {
	case "block":
		return fakeProcess{g, func() int { <-g.block; return 0 }}, nil
	case "fail":
		return nil, unix.ENOENT
	}
	status := 0
	fmt.Sscanf(command, "status %d", &status)
	fmt.Fprint(stdio[1], "out:", command)
	return fakeProcess{g, func() int { return status }}, nil
}

func (g *fakeGuest) ExecOnTerminal(command string, f *os.File, size unix.Winsize) (Process, error) {
	if command == "fail" {
		return nil, unix.ENODEV
	}
	fmt.Fprintf(f, "%dx%d:%s", size.Row, size.Col, command)
	return fakeProcess{g, func() int { <-g.block; return 3 }}, nil
}

func (g *fakeGuest) Status() Status {
	return Status{Sysname: "Linux", Nodename: "n", Release: "6.12", Version: "#1", Machine: "x86_64"}
}

func (g *fakeGuest) Memory() uint64 { return g.total }
func (g *fakeGuest) SetMemory(n uint64) error {
	if n < 64<<20 {
		return unix.ENOMEM
	}
	g.total = n
	return nil
}

// toy is a driver with devices 0 and 1, of which 1 is in use.
type toy struct{ name string }

func (d toy) Name() string { return d.name }
func (d toy) Config(arg string) error {
	switch arg {
	case "0=x":
		return nil
	case "1=x":
		return &hotplug.Error{Errno: unix.EBUSY, Text: "Device is already configured"}
	}
	return errors.New("Couldn't parse device number")
}
func (d toy) Query(id string) (string, error) { return d.name + "/" + id, nil }
func (d toy) Remove(id string) error {
	switch id {
	case "0":
		return nil
	case "1":
		return unix.EBUSY
	}
	return unix.ENODEV
}

// line is a driver of terminals that greet.
type line struct{ toy }

type attachment chan struct{}

func (a attachment) Done() <-chan struct{} { return a }
func (attachment) Resize(unix.Winsize)     {}

func (line) Attach(id string, f *os.File) (hotplug.Attachment, error) {
	if id != "0" {
		return nil, unix.ENODEV
	}
	fmt.Fprint(f, "hello")
	done := make(chan struct{})
	close(done)
	return attachment(done), nil
}

// start runs a server for a test.
func start(t testing.TB) (*fakeGuest, string) {
	t.Helper()
	g := &fakeGuest{block: make(chan struct{}), total: 256 << 20}
	path := filepath.Join(t.TempDir(), "mconsole")
	s, err := New(path, g, toy{"to"}, toy{"toy"}, line{toy{"line"}}, MemoryDriver(g))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { s.Serve(); close(done) }()
	t.Cleanup(func() {
		s.Close()
		<-done
	})
	return g, path
}

// conn is a client's socket. It is not connected, as that of uml_mconsole.
type conn struct {
	*net.UnixConn
	server *net.UnixAddr
}

func dial(t testing.TB, path string) conn {
	t.Helper()
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: "@" + t.Name() + fmt.Sprint(time.Now().UnixNano()), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return conn{c, &net.UnixAddr{Name: path, Net: "unixgram"}}
}

func (c conn) Write(b []byte) (int, error) { return c.WriteToUnix(b, c.server) }

// packet receives one reply.
func packet(t testing.TB, c conn) wire.Reply {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(30 * time.Second))
	buf := make([]byte, 1024)
	n, err := c.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	r, err := wire.DecodeReply(buf[:n])
	if err != nil {
		t.Fatalf("%x: %v", buf[:n], err)
	}
	return r
}

// ask sends a command and returns the whole answer.
func ask(t testing.TB, c conn, command string) (int32, string) {
	t.Helper()
	b, err := wire.EncodeRequest(command)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write(b); err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for {
		r := packet(t, c)
		text.WriteString(r.Text)
		if !r.More {
			return r.Err, text.String()
		}
	}
}

func TestCommands(t *testing.T) {
	g, path := start(t)
	c := dial(t, path)
	for _, v := range []struct {
		command string
		err     int32
		text    string
		did     string
	}{
		{"version", 0, "Linux n 6.12 #1 x86_64", ""},
		{"versionXYZ", 0, "Linux n 6.12 #1 x86_64", ""},
		{"  version", 0, "Linux n 6.12 #1 x86_64", ""},
		{"bogus", 1, "Unknown command", ""},
		{"", 1, "Unknown command", ""},
		{"go", 1, "Not stopped", ""},
		{"stop", 0, "stopped", "freeze"},
		{"stop", 1, "Already stopped", ""},
		{"exec true", 1, "The guest is stopped", ""},
		{"go", 0, "", "thaw"},
		{"config nothing", 1, "Bad configuration option", ""},
		{"config", 1, "Bad configuration option", ""},
		{"config toy0", 0, "toy/0", ""},
		{"config to0", 0, "to/0", ""},
		{"config toy0=x", 0, "", ""},
		{"config toy1=x", -16, "Device is already configured", ""},
		{"config toyz=x", 1, "Couldn't parse device number", ""},
		{"remove toy0", 0, "", ""},
		{"remove toy1", -16, "Device is currently open", ""},
		{"remove toy2", -19, "Device doesn't exist", ""},
		{"remove nothing", 1, "Bad remove option", ""},
		{"config mem", 0, "268435456", ""},
		{"config mem=+32M", 0, "", ""},
		{"config mem", 0, "301989888", ""},
		{"config mem=-64M", 0, "", ""},
		{"config mem=128M", 0, "", ""},
		{"config mem", 0, "134217728", ""},
		{"config mem=32M", -12, "More memory than that is in use", ""},
		{"config mem=-1G", -22, "Memory must be between 8388608 and 70368744177664 bytes", ""},
		{"config mem=+18446744073709551615", -22, "Memory must be between 8388608 and 70368744177664 bytes", ""},
		{"config mem=", 1, "Expected a size, or an increment that starts with '-' or '+'", ""},
		{"config mem=+", 1, "Failed to parse memory size", ""},
		{"config mem=12Q", 1, "Failed to parse memory size", ""},
		{"remove mem", 1, "Memory doesn't support the remove operation", ""},
		{"proc big", 0, "\n" + strings.Repeat("0123456789abcdef", 1<<12), ""},
		{"proc nul", 0, "\none two ", ""},
		{"proc bad", -5, "\na bitRead of file failed", ""},
		{"proc nosuch", -2, "Failed to open file", ""},
		{"stack", 1, "Please specify a pid", ""},
		{"stack x", 1, "Please specify a pid", ""},
		{"stack 0", 1, "Please specify a pid", ""},
		{"stack 99999999999", 1, "Please specify a pid", ""},
		{"stack 7", 1, "Couldn't find that pid", ""},
		{"stack 1", 0, "task:init\n", ""},
		{"exec", 1, "Please specify a command", ""},
		{"exec hello", 0, "out:hello\n", ""},
		{"exec status 3", 1, "out:status 3\nexit status 3", ""},
		{"exec fail", -2, "no such file or directory", ""},
		{"json", 1, "Unknown command", ""},
		{"json json version", 1, "Unknown command", ""},
		{"json exec status 4", 0, `{"command":"exec status 4","error":1,"message":"exit status 4","text":"out:status 4\n","data":{"status":4}}`, ""},
		{"json remove toy1", 0, `{"command":"remove toy1","error":-16,"message":"Device is currently open","text":""}`, ""},
		{"json config mem", 0, `{"command":"config mem","error":0,"message":"","text":"134217728","data":{"config":"134217728","device":"mem"}}`, ""},
		{"attach toy0", 1, "Bad attach option", ""},
		{"attach nothing", 1, "Bad attach option", ""},
		{"attach line1", 1, "This client cannot attach; the device is line/1", ""},
		{"log", 0, "", ""},
		{"log @/nonexistent", -2, "open /nonexistent: no such file or directory", ""},
		{"cad", 0, "", "cad"},
		{"halt", 0, "", "halt"},
		{"halt now", 0, "", "halt"},
		{"reboot", 0, "", "reboot"},
		{"json halt", 0, `{"command":"halt","error":0,"message":"","text":""}`, "halt"},
		{"sysrq b", 0, "", "sysrq-b"},
		{"sysrq c", 0, "", "sysrq-c"},
	} {
		err, text := ask(t, c, v.command)
		if err != v.err || text != v.text {
			t.Errorf("%q: %d %.100q, want %d %.100q", v.command, err, text, v.err, v.text)
		}
		// What ends the guest happens after the answer: before the next one.
		if v.did != "" {
			ask(t, c, "version")
		}
		if did := g.take(); did != v.did {
			t.Errorf("%q: did %q, want %q", v.command, did, v.did)
		}
	}
}

func TestLogs(t *testing.T) {
	g, path := start(t)
	c := dial(t, path)
	file := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(file, []byte("line 1\n\nline\x01 2\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	ask(t, c, "version") // the server's own message is logged by then
	next := klog.Next()
	ask(t, c, "log hello   there")
	ask(t, c, "log @"+file)
	var got []string
	recs, _ := klog.From(next, 10)
	for _, r := range recs {
		got = append(got, fmt.Sprint(r.Level, " ", r.Text))
	}
	if want := "4 hello   there,4 line 1,4 line  2"; strings.Join(got, ",") != want {
		t.Errorf("logged %q", got)
	}
	for command, key := range map[string]string{"sysrq s": "s", "sysrq": "h", "sysrq  m": "m"} {
		err, text := ask(t, c, command)
		if err != 0 || !strings.HasSuffix(text, "] sysrq: key "+key+"\n") || g.take() != "sysrq-"+key {
			t.Errorf("%q: %d %q", command, err, text)
		}
	}
}

// TestHelp: the list needs more than one packet and names every command.
func TestHelp(t *testing.T) {
	_, path := start(t)
	c := dial(t, path)
	_, text := ask(t, c, "help")
	for _, cmd := range commands {
		if !strings.Contains(text, "    "+cmd.name+" ") {
			t.Errorf("%s is not in the help", cmd.name)
		}
	}
	if len(text) < wire.MaxData {
		t.Error("the help fits into one packet")
	}
}

func TestMalformed(t *testing.T) {
	_, path := start(t)
	c := dial(t, path)
	good, _ := wire.EncodeRequest("version")
	wrong := bytes.Clone(good)
	wrong[4]++
	large := bytes.Clone(good)
	large[8], large[9] = 0, 2
	for _, v := range []struct {
		what string
		in   []byte
		want string
	}{
		{"no version", []byte("version\n"), "ERR Version 0 mconsole clients are not supported by this driver"},
		{"empty", nil, "ERR Version 0 mconsole clients are not supported by this driver"},
		{"wrong version", wrong, string((&wire.Reply{Err: 1, Text: "This driver only supports version 2 clients"}).Encode())},
		{"len 512", large, string((&wire.Reply{Err: 1, Text: "Request too large"}).Encode())},
		{"giant", append(bytes.Clone(good), make([]byte, 1<<16)...), string((&wire.Reply{Err: 1, Text: "Request too large"}).Encode())},
		{"short header", good[:11], string((&wire.Reply{Err: 1, Text: "Request too short"}).Encode())},
		{"short but whole", good[:12+7], string((&wire.Reply{Text: "Linux n 6.12 #1 x86_64"}).Encode())},
	} {
		if _, err := c.Write(v.in); err != nil {
			t.Fatal(v.what, err)
		}
		buf := make([]byte, 1024)
		n, err := c.Read(buf)
		if err != nil || string(buf[:n]) != v.want {
			t.Errorf("%s: %q, %v", v.what, buf[:n], err)
		}
	}
	// Only one answer to each.
	if err, text := ask(t, c, "version"); err != 0 || text != "Linux n 6.12 #1 x86_64" {
		t.Error(err, text)
	}
}

// TestUnbound: clients without an address are served and get no answer.
func TestUnbound(t *testing.T) {
	g, path := start(t)
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	b, _ := wire.EncodeRequest("cad")
	if err := unix.Sendto(fd, b, 0, &unix.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); g.take() != "cad"; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it was not served")
		}
	}
}

// TestOthersWait for nobody: while one client's command runs and another does not read, a third one is served.
func TestOthersWait(t *testing.T) {
	g, path := start(t)
	slow, deaf, c := dial(t, path), dial(t, path), dial(t, path)
	block, _ := wire.EncodeRequest("exec block")
	big, _ := wire.EncodeRequest("proc big")
	slow.Write(block)
	deaf.Write(big)
	for range 100 {
		if err, text := ask(t, c, "version"); err != 0 || text == "" {
			t.Fatal(err, text)
		}
	}
	close(g.block)
	if r := packet(t, slow); r.Err != 0 {
		t.Error(r)
	}
	if r := packet(t, deaf); r.Text != "\n" || !r.More {
		t.Error(r)
	}
}

// TestFlood: more requests than are queued, from one client and from many, are refused or lost, and then all is well.
func TestFlood(t *testing.T) {
	g, path := start(t)
	c := dial(t, path)
	block, _ := wire.EncodeRequest("exec block")
	version, _ := wire.EncodeRequest("version")
	c.Write(block)
	for range 1 + maxQueued {
		c.Write(version)
	}
	// The one that is too much is refused at once, before the others.
	if r := packet(t, c); r.Err != -int32(unix.EAGAIN) {
		t.Errorf("%+v", r)
	}
	var wg sync.WaitGroup
	for range 50 {
		o := dial(t, path)
		wg.Go(func() {
			o.SetWriteDeadline(time.Now().Add(2 * time.Second))
			for range 100 {
				o.Write(version)
			}
		})
	}
	wg.Wait()
	close(g.block)
	for range 1 + maxQueued {
		if r := packet(t, c); r.Err != 0 {
			t.Errorf("%+v", r)
		}
	}
	if err, text := ask(t, dial(t, path), "version"); err != 0 || text == "" {
		t.Error(err, text)
	}
}

// TestForeign: other users are refused. The client is this test binary as another user.
func TestForeign(t *testing.T) {
	if path := os.Getenv("MCONSOLE_TEST_FOREIGN"); path != "" {
		err, text := ask(t, dial(t, path), "version")
		fmt.Printf("answer %d %s\n", err, text)
		return
	}
	if os.Getuid() != 0 {
		t.Skip("needs root, to be another user")
	}
	dir, err := os.MkdirTemp("/tmp", "mconsole")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	os.Chmod(dir, 0o755)
	exe, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/test", exe, 0o755); err != nil {
		t.Fatal(err)
	}
	s, err := New(dir+"/mconsole", &fakeGuest{})
	if err != nil {
		t.Fatal(err)
	}
	os.Chmod(dir+"/mconsole", 0o777)
	go s.Serve()
	defer s.Close()
	p, err := os.StartProcess(dir+"/test", []string{"test", "-test.run=^TestForeign$"}, &os.ProcAttr{
		Dir: "/", Env: []string{"MCONSOLE_TEST_FOREIGN=" + dir + "/mconsole"}, Files: []*os.File{nil, pipeTo(t, dir+"/out"), nil},
		Sys: &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}},
	})
	if err != nil {
		t.Skip(err)
	}
	p.Wait()
	out, _ := os.ReadFile(dir + "/out")
	if !strings.HasPrefix(string(out), "answer -1 Operation not permitted") {
		t.Errorf("%s", out)
	}
}

func pipeTo(t *testing.T, name string) *os.File {
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// TestDescriptors: exec uses the streams that come with the request, and no request leaves one open.
func TestDescriptors(t *testing.T) {
	_, path := start(t)
	c := dial(t, path)
	count := func() int {
		l, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Skip(err)
		}
		return len(l)
	}
	before := count()
	out := pipeTo(t, filepath.Join(t.TempDir(), "out"))
	rights := unix.UnixRights(int(out.Fd()), int(out.Fd()), int(out.Fd()))
	for _, command := range []string{"exec status 5", "version", "bogus", strings.Repeat("x", 511), "exec fail"} {
		b, _ := wire.EncodeRequest(command)
		if _, _, err := c.WriteMsgUnix(b, rights, c.server); err != nil {
			t.Fatal(err)
		}
		r := packet(t, c)
		if command == "exec status 5" && (r.Err != 1 || r.Text != "exit status 5") {
			t.Errorf("%+v", r)
		}
	}
	for command, want := range map[string]string{"attach line0": "attached", "attach line7": "Device doesn't exist"} {
		b, _ := wire.EncodeRequest(command)
		c.WriteMsgUnix(b, rights, c.server)
		r := packet(t, c)
		if r.Text != want {
			t.Errorf("%s: %+v", command, r)
		}
		if r.More {
			packet(t, c)
		}
	}
	bad := []byte("junk")
	c.WriteMsgUnix(bad, rights, c.server)
	buf := make([]byte, 100)
	c.Read(buf)
	ask(t, c, "version")
	if text, err := os.ReadFile(out.Name()); string(text) != "out:status 5hello" || err != nil {
		t.Errorf("%q, %v", text, err)
	}
	if n := count(); n > before+1 { // out itself
		t.Errorf("%d descriptors, were %d", n, before)
	}
}

func TestLongPath(t *testing.T) {
	if _, err := New("/tmp/"+strings.Repeat("x", 120), &fakeGuest{}); err == nil || !strings.Contains(err.Error(), "too long") {
		t.Error(err)
	}
}

func TestNotifier(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	n, err := NewNotifier(path)
	if err != nil {
		t.Fatal(err)
	}
	n.User([]byte("nobody hears it")) // is no error
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	l.SetReadDeadline(time.Now().Add(20 * time.Second))
	n.Ready(&Server{path: "/a/b"})
	n.Panic("oh")
	n.Hang()
	n.User([]byte("hi\n"))
	n.User(bytes.Repeat([]byte("x"), 600))
	for _, want := range []wire.Notify{
		{Type: wire.NotifySocket, Data: []byte("/a/b\x00")}, {Type: wire.NotifyPanic, Data: []byte("oh\x00")}, {Type: wire.NotifyHang},
		{Type: wire.NotifyUser, Data: []byte("hi\n")}, {Type: wire.NotifyUser, Data: bytes.Repeat([]byte("x"), 512)},
	} {
		buf := make([]byte, 1024)
		k, err := l.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		got, err := wire.DecodeNotify(buf[:k])
		if err != nil || got.Type != want.Type || !bytes.Equal(got.Data, want.Data) {
			t.Errorf("%x, %v; want %v", buf[:k], err, want)
		}
	}
	var none *Notifier
	none.Panic("x")
}

// FuzzRequest: whatever comes, there is at most a refusal, and the server lives.
func FuzzRequest(f *testing.F) {
	_, path := start(f)
	c := dial(f, path)
	for _, command := range []string{"version", "config toy0=x", "json json json", "proc \x00", "sysrq \xff", "log @", "remove ", "config mem=+0x"} {
		b, _ := wire.EncodeRequest(command)
		f.Add(b)
	}
	f.Add([]byte("bare"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if line, err := wire.DecodeRequest(b); err == nil && strings.Contains(line, "exec block") {
			return
		}
		if len(b) > 1<<16 {
			return
		}
		if _, err := c.Write(b); err != nil {
			t.Fatal(err)
		}
		for {
			buf := make([]byte, 1024)
			n, err := c.Read(buf)
			if err != nil {
				t.Fatal(err)
			}
			if r, err := wire.DecodeReply(buf[:n]); err != nil || !r.More {
				break
			}
		}
		if err, text := ask(t, c, "version"); err != 0 || text != "Linux n 6.12 #1 x86_64" {
			t.Fatal(err, text)
		}
	})
}

// BenchmarkVersion is the round trip of a request.
func BenchmarkVersion(b *testing.B) {
	_, path := start(b)
	c := dial(b, path)
	for b.Loop() {
		ask(b, c, "version")
	}
}
