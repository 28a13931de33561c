package socket

import (
	"bytes"
	"testing"

	"golang.org/x/sys/unix"
)

func TestCmsgRoundTrip(t *testing.T) {
	b, ok := AppendCmsg(nil, 100, 1, 2, []byte("abc"))
	if !ok || len(b) != 24 {
		t.Fatal(ok, len(b))
	}
	b, ok = AppendCmsg(b, 100, 3, 4, []byte("12345678"))
	if !ok || len(b) != 48 {
		t.Fatal(ok, len(b))
	}
	m, rest, ok, err := NextCmsg(b)
	if !ok || err != nil || m.Level != 1 || m.Type != 2 || string(m.Data) != "abc" {
		t.Fatal(m, ok, err)
	}
	m, rest, ok, err = NextCmsg(rest)
	if !ok || err != nil || m.Level != 3 || string(m.Data) != "12345678" || len(rest) != 0 {
		t.Fatal(m, ok, err)
	}
	if _, _, ok, err = NextCmsg(rest); ok || err != nil {
		t.Fatal(ok, err)
	}
	if b, ok = AppendCmsg(nil, 18, 1, 2, []byte("abcd")); ok || len(b) != 18 || b[0] != 18 {
		t.Fatal(b, ok)
	}
	if b, ok = AppendCmsg(nil, 15, 1, 2, nil); ok || len(b) != 0 {
		t.Fatal(b, ok)
	}
	if RightsRoom(0, 23) != 1 || RightsRoom(24, 30) != 0 {
		t.Fatal(RightsRoom(0, 23))
	}
}

func TestOptions(t *testing.T) {
	var b Base
	b.Init(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err := b.SetSocketOption(nil, unix.SO_SNDBUF, PutInt32(10000)); err != nil {
		t.Fatal(err)
	}
	if v, _ := b.SocketOption(unix.SO_SNDBUF); !bytes.Equal(v, PutInt32(20000)) {
		t.Fatal(v)
	}
	b.SetSocketOption(nil, unix.SO_SNDBUF, PutInt32(-1))
	if v, _ := b.SocketOption(unix.SO_SNDBUF); !bytes.Equal(v, PutInt32(2*maxBuf)) {
		t.Fatal(v)
	}
	b.SetSocketOption(nil, unix.SO_KEEPALIVE, PutInt32(-5))
	if v, _ := b.SocketOption(unix.SO_KEEPALIVE); !bytes.Equal(v, PutInt32(1)) {
		t.Fatal(v)
	}
	if err := b.SetSocketOption(nil, unix.SO_KEEPALIVE, []byte{1}); err != unix.EINVAL {
		t.Fatal(err)
	}
	if err := b.SetSocketOption(nil, 9999, PutInt32(1)); err != unix.ENOPROTOOPT {
		t.Fatal(err)
	}
	if err := b.SetSocketOption(nil, unix.SO_RCVTIMEO, make([]byte, 15)); err != unix.EINVAL {
		t.Fatal(err)
	}
	tv := append(make([]byte, 8), 0x40, 0x42, 0x0f, 0, 0, 0, 0, 0)
	if err := b.SetSocketOption(nil, unix.SO_RCVTIMEO, tv); err != unix.EDOM {
		t.Fatal(err)
	}
}

func FuzzNextCmsg(f *testing.F) {
	b, _ := AppendCmsg(nil, 100, 1, 2, []byte("abc"))
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		for n := len(b); ; {
			_, rest, ok, err := NextCmsg(b)
			if !ok || err != nil {
				return
			}
			if len(rest) >= n {
				t.Fatal("no progress")
			}
			b, n = rest, len(rest)
		}
	})
}
