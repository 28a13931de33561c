package console

import (
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// decoded is a record as a reader sees it.
type decoded struct {
	op, tty, direction uint32
	data               string
}

func decodeRecords(t *testing.T, b []byte) (out []decoded) {
	t.Helper()
	for len(b) > 0 {
		if len(b) < 24 {
			t.Fatalf("half a record: %q", b)
		}
		v := func(i int) uint32 { return binary.NativeEndian.Uint32(b[4*i:]) }
		n := int(v(2))
		if v(4) < 1e9 || v(5) >= 1e6 {
			t.Errorf("time %d.%d", v(4), v(5))
		}
		out = append(out, decoded{v(0), v(1), v(3), string(b[24 : 24+n])})
		b = b[24+n:]
	}
	return out
}

func recordSession(r *Recorder) {
	r.Open(0x8800, 0x401)
	r.Exec(0x8800, []string{"ls", "-l"})
	r.Data(0x8800, true, []byte("secret\n"))
	r.Data(0x8800, false, []byte("out"))
	r.Close(0x8800)
	r.Open(0x8800, 0)
	r.Close(0x8800)
	r.Stop()
}

var wantRecords = []decoded{
	{1, 0x8800, 0, "\x01\x04\x00\x00"}, {4, 0x8800, 0, "ls\x00-l\x00"}, {3, 0x8800, 1, "secret\n"}, {3, 0x8800, 2, "out"},
	{2, 0x8800, 0, ""}, {1, 0x8800, 0, "\x00\x00\x00\x00"}, {2, 0x8800, 0, ""},
}

func TestRecordToFD(t *testing.T) {
	rd, w := pipe(t)
	r, err := RecordToFD(int(w.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	recordSession(r)
	r.all.Close()
	w.Close()
	b, err := io.ReadAll(rd)
	if err != nil {
		t.Fatal(err)
	}
	got := decodeRecords(t, b)
	if len(got) != len(wantRecords) {
		t.Fatalf("%+v", got)
	}
	for i := range got {
		if got[i] != wantRecords[i] {
			t.Errorf("record %d: %+v, want %+v", i, got[i], wantRecords[i])
		}
	}
	if _, err := RecordToFD(9999); err == nil {
		t.Error("a descriptor that is not open was accepted")
	}
}

func TestRecordToDir(t *testing.T) {
	dir := t.TempDir()
	r, err := RecordToDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	recordSession(r)
	files, _ := filepath.Glob(dir + "/*-*")
	if len(files) != 2 {
		t.Fatal(files)
	}
	first, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	second, _ := os.ReadFile(files[1])
	if n, k := len(decodeRecords(t, first)), len(decodeRecords(t, second)); n+k != 7 || n != 5 && n != 2 {
		t.Error(n, k)
	}
	if _, err := RecordToDir(dir + "/missing"); err == nil {
		t.Error("a directory that is not there was accepted")
	}
}

// TestRecordStuck: a log that the host does not take costs no memory without bound, and no time.
func TestRecordStuck(t *testing.T) {
	_, w := pipe(t)
	r, err := RecordToFD(int(w.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	chunk := make([]byte, maxRecord)
	for range 200 {
		r.Data(1, false, chunk)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.queued > maxRecorded || r.lost == 0 {
		t.Error(r.queued, r.lost)
	}
}
