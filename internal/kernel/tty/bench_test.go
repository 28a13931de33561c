package tty

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// BenchmarkOutput is a program that writes text lines to a terminal.
func BenchmarkOutput(b *testing.B) {
	port := &discardPort{}
	line := New("tty9", 4, 9, port)
	c := newProc(2, 2, 1)
	f := vfs.NewFile(vfs.Path{}, nil, nil, unix.O_RDWR)
	ops, err := line.open(c, f, false, true)
	if err != nil {
		b.Fatal(err)
	}
	s := &opened{c: c, f: f, ops: ops}
	text := strings.Repeat(strings.Repeat("x", 60)+"\n", 64)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		_, _ = s.write(text)
	}
}

// BenchmarkInput is a program that reads what is typed into a raw terminal.
func BenchmarkInput(b *testing.B) {
	port := &discardPort{}
	line := New("tty9", 4, 9, port)
	line.termios.Lflag, line.termios.Iflag = 0, 0
	c := newProc(2, 2, 1)
	f := vfs.NewFile(vfs.Path{}, nil, nil, unix.O_RDWR)
	ops, err := line.open(c, f, false, true)
	if err != nil {
		b.Fatal(err)
	}
	s := &opened{c: c, f: f, ops: ops}
	text := []byte(strings.Repeat("x", 4000))
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		line.Receive(text)
		_, _ = s.read(bufSize)
	}
}

type discardPort struct{ fakePort }

func (*discardPort) Write(b []byte) int { return len(b) }
func (*discardPort) Room() int          { return 4096 }
