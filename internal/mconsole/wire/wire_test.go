package wire

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"strings"
	"testing"
)

// le says whether the host has the byte order of the vectors.
func le(t *testing.T) {
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		t.Skip("the vectors are of a little-endian host")
	}
}

func unhex(s string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		panic(err)
	}
	return b
}

// TestVectors compares with datagrams that were seen between the C implementation and its tools.
func TestVectors(t *testing.T) {
	le(t)
	req, err := EncodeRequest("version")
	want := append(unhex("bebafeca 02000000 07000000"), append([]byte("version"), make([]byte, 505)...)...)
	if err != nil || !bytes.Equal(req, want) {
		t.Errorf("request: %v\n%x", err, req)
	}
	if c, err := DecodeRequest(req); c != "version" || err != nil {
		t.Errorf("%q, %v", c, err)
	}
	for _, v := range []struct {
		r    Reply
		want string
	}{
		{Reply{}, "00000000 00000000 01000000 00"},
		{Reply{Err: 1, Text: "Unknown command"}, "01000000 00000000 10000000" + hex.EncodeToString([]byte("Unknown command\x00"))},
		{Reply{Err: -16, Text: "busy"}, "f0ffffff 00000000 05000000 6275737900"},
		{Reply{More: true, Text: "\n"}, "00000000 01000000 02000000 0a00"},
	} {
		got := v.r.Encode()
		if !bytes.Equal(got, unhex(v.want)) {
			t.Errorf("%+v: %x", v.r, got)
		}
		if r, err := DecodeReply(got); r != v.r || err != nil {
			t.Errorf("%x: %+v, %v", got, r, err)
		}
	}
	long := Reply{Text: strings.Repeat("x", 600)}
	if n := len(long.Encode()); n != 524 {
		t.Errorf("a long reply has %d bytes", n)
	}
	for _, v := range []struct {
		n    Notify
		want string
	}{
		{Notify{NotifySocket, []byte("/tmp/mc/sock/mconsole-of-30-b\x00")}, "bebafeca 02000000 00000000 1e000000" + hex.EncodeToString([]byte("/tmp/mc/sock/mconsole-of-30-b\x00"))},
		{Notify{NotifyPanic, []byte("sysrq triggered crash\x00")}, "bebafeca 02000000 01000000 16000000" + hex.EncodeToString([]byte("sysrq triggered crash\x00"))},
		{Notify{NotifyHang, nil}, "bebafeca 02000000 02000000 00000000"},
		{Notify{NotifyUser, []byte("nonl")}, "bebafeca 02000000 03000000 04000000 6e6f6e6c"},
	} {
		got := v.n.Encode()
		if !bytes.Equal(got, unhex(v.want)) {
			t.Errorf("%+v: %x", v.n, got)
		}
		if n, err := DecodeNotify(got); n.Type != v.n.Type || !bytes.Equal(n.Data, v.n.Data) || err != nil {
			t.Errorf("%x: %+v, %v", got, n, err)
		}
	}
	if n, err := DecodeNotify(unhex("bebafeca00000000 02000000 02000000 00000000 deadbeef")); n.Type != NotifyHang || len(n.Data) != 0 || err != nil {
		t.Errorf("uml_watchdog's: %+v, %v", n, err)
	}
}

func TestBadRequests(t *testing.T) {
	le(t)
	for _, v := range []struct {
		in   string
		text string
		err  error
	}{
		{"", "", ErrUnversioned},
		{"bebafe", "", ErrUnversioned},
		{hex.EncodeToString([]byte("version\n")), "", ErrUnversioned},
		{"bebafeca", "", ErrShort},
		{"bebafeca 02000000", "", ErrShort},
		{"bebafeca 01000000 01000000 41", "", ErrVersion},
		{"bebafeca 02000000 00020000 41", "", ErrTooLarge},
		{"bebafeca 02000000 ffffffff 41", "", ErrTooLarge},
		{"bebafeca 02000000 ff010000 4142", "AB", nil},
		{"bebafeca 02000000 01000000 4142", "A", nil},
		{"bebafeca 02000000 03000000 410042", "A", nil},
		{"bebafeca 02000000 00000000", "", nil},
	} {
		if s, err := DecodeRequest(unhex(v.in)); s != v.text || err != v.err {
			t.Errorf("%s: %q, %v", v.in, s, err)
		}
	}
	if _, err := EncodeRequest(strings.Repeat("x", 512)); err != ErrTooLarge {
		t.Error(err)
	}
	if b, err := EncodeRequest(strings.Repeat("x", 511)); err != nil || len(b) != 524 {
		t.Error(err)
	}
}

func FuzzDecode(f *testing.F) {
	req, _ := EncodeRequest("config ubd0=file")
	f.Add(req)
	f.Add((&Reply{Err: -16, Text: "busy"}).Encode())
	f.Add((&Notify{NotifyUser, []byte("x")}).Encode())
	f.Add(unhex("bebafeca00000000 02000000 02000000 00000000 deadbeef"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := DecodeRequest(b); err == nil {
			again, err := EncodeRequest(c)
			if err != nil {
				t.Fatal(err)
			}
			if d, err := DecodeRequest(again); d != c || err != nil {
				t.Fatalf("%q became %q, %v", c, d, err)
			}
		}
		if r, err := DecodeReply(b); err == nil && len(r.Text) < MaxData {
			if s, err := DecodeReply(r.Encode()); s.Err != r.Err || s.Text != r.Text || err != nil {
				t.Fatalf("%+v became %+v, %v", r, s, err)
			}
		}
		if n, err := DecodeNotify(b); err == nil {
			if m, err := DecodeNotify(n.Encode()); m.Type != n.Type || !bytes.Equal(m.Data, n.Data) || err != nil {
				t.Fatalf("%+v became %+v, %v", n, m, err)
			}
		}
	})
}
