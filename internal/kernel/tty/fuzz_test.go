package tty

import (
	"testing"

	"golang.org/x/sys/unix"
)

// TestFullLine: a line that is too long keeps within the buffer, also if bytes become two.
func TestFullLine(t *testing.T) {
	for _, iflag := range []uint32{0, unix.PARMRK} {
		m, s, p := newPair(t, newProc(10, 10, 10), unix.O_NONBLOCK)
		tt := p.slave
		tm := tt.termios
		tm.Iflag, tm.Lflag = iflag, unix.ICANON
		tt.mu.Lock()
		tt.setTermios(tm)
		tt.unlock()
		for range 3 * bufSize {
			if _, err := m.write("\xff"); err != nil {
				t.Fatal(err)
			}
			if n := tt.in.count(); n > bufSize {
				t.Fatalf("iflag %#x: %d bytes in a buffer of %d", iflag, n, bufSize)
			}
		}
		_, _ = m.write("\n")
		if b, err := s.read(bufSize); len(b) < bufSize-2 || b[len(b)-1] != '\n' || err != nil {
			t.Errorf("iflag %#x: %d bytes, %v", iflag, len(b), err)
		}
	}
}

// FuzzTerminal drives a pty with what a guest and a user can send: settings, input, output, flow control, packet mode, hangups.
// Nothing panics, buffers keep within their bounds, and reading everything brings the terminal back to where it takes input.
func FuzzTerminal(f *testing.F) {
	f.Add([]byte("\x00hello\n\x01\x05\xff\xff\xff\xff\x00abc\x04\x03\x02"))
	f.Add([]byte("\x00a\x16\x03\x7f\x15\n\x04\x00\x01\x02\x03\x09\x0a\x05\x06\x07\x08"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 512 {
			return
		}
		m, s, p := newPair(t, newProc(10, 10, 10), unix.O_NONBLOCK)
		tt := p.slave
		next := func(n int) []byte {
			n = min(n, len(data))
			b := data[:n]
			data = data[n:]
			return b
		}
		for len(data) > 0 {
			op := next(1)[0]
			switch op % 10 {
			case 0:
				_, _ = m.write(string(next(int(op / 10))))
			case 1: // much of it
				b := next(int(op/10)%8 + 1)
				for range 100 {
					_, _ = m.write(string(b))
				}
			case 2:
				_, _ = s.write(string(next(int(op / 10))))
			case 3:
				_, _ = s.read(int(op))
			case 4:
				_, _ = m.read(int(op) * 8)
			case 5:
				tm := encodeTermios(&tt.termios)
				copy(tm[:], next(termios1))
				copy(s.c.mem[:], tm[:termios1])
				_ = s.ioctl(unix.TCSETS, memBase) // the others wait until output has been read
			case 6:
				_ = s.ioctl(unix.TCXONC, uint64(op/10)%5)
			case 7:
				_ = s.ioctl(unix.TCFLSH, uint64(op/10)%4)
				_ = m.ioctl(unix.TCFLSH, uint64(op/10)%4)
			case 8:
				_ = m.ioctl(unix.TIOCPKT, m.c.setInt(int32(op/10)%2))
			case 9:
				if op/10%4 == 0 {
					tt.ReceiveBreak()
				}
			}
			in := &tt.in
			if in.count() > bufSize || int32(in.canon-in.tail) < 0 || int32(in.head-in.canon) < 0 && canonical(&tt.termios) || len(in.flip) > flipSize {
				t.Fatalf("tail %d canon %d head %d, %d waiting", in.tail, in.canon, in.head, len(in.flip))
			}
			if p.used() > ptyBuf || len(tt.out.pending) > echoLimit+2*chunk {
				t.Fatalf("%d and %d bytes of output wait", p.used(), len(tt.out.pending))
			}
			if n := tt.in.queued(&tt.termios); n < 0 || n > bufSize {
				t.Fatalf("%d bytes queued", n)
			}
		}
		m.close()
		for range 100 {
			if b, err := s.read(4096); b == "" || err != nil {
				break
			}
		}
		if _, err := s.write("x"); err != unix.EIO {
			t.Errorf("the master is gone: %v", err)
		}
		s.close()
	})
}
