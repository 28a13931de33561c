package mconsole

import (
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/mconsole/wire"
)

// pair is a socket pair.
func pair(t *testing.T) (ours, theirs *os.File) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs = os.NewFile(uintptr(fds[0]), "ours"), os.NewFile(uintptr(fds[1]), "theirs")
	t.Cleanup(func() { ours.Close(); theirs.Close() })
	return ours, theirs
}

// TestExecOnTerminal: the first size comes before the command, later ones and signals go to it, and who goes away hangs up.
func TestExecOnTerminal(t *testing.T) {
	g, path := start(t)
	c := dial(t, path)
	for _, v := range []struct{ command, text string }{
		{"exec -t", "Please specify a command"},
		{"exec -t true", "This client cannot pass its terminal"},
	} {
		if n, text := ask(t, c, v.command); n != 1 || text != v.text {
			t.Errorf("%s: %d %q", v.command, n, text)
		}
	}
	data, theirData := pair(t)
	ctl, theirCtl := pair(t)
	ctl.WriteString("size 24 80\nsize 25 81\nsize many\n" + strings.Repeat("x", 1000) + "\nsignal 65\nsignal 2\nsi")
	b, _ := wire.EncodeRequest("exec -t vi -t")
	if _, _, err := c.WriteMsgUnix(b, unix.UnixRights(int(theirData.Fd()), int(theirCtl.Fd())), c.server); err != nil {
		t.Fatal(err)
	}
	theirData.Close()
	theirCtl.Close()
	buf := make([]byte, 100)
	if n, err := data.Read(buf); err != nil || string(buf[:n]) != "24x80:vi -t" {
		t.Fatalf("%q %v", buf[:n], err)
	}
	ctl.WriteString("ze 1 2\n")
	did := ""
	for end := time.Now().Add(30 * time.Second); !strings.HasSuffix(did, "size-1x2"); time.Sleep(time.Millisecond) {
		if did += " " + g.take(); time.Now().After(end) {
			break
		}
	}
	if did = strings.Join(strings.Fields(did), " "); did != "size-25x81 signal-2 size-1x2" {
		t.Errorf("%q", did)
	}
	ctl.Close()
	if r := packet(t, c); r.Err != 1 || r.Text != "exit status 3" || g.take() != "hangup" {
		t.Errorf("%+v", r)
	}
	if n, err := data.Read(buf); n != 0 {
		t.Errorf("%d %v", n, err)
	}
}
