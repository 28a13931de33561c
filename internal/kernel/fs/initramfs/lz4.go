package initramfs

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
)

// lz4Reader reads the legacy LZ4 frame format (lz4 -l), the one that kernels use: a magic number, then blocks of up to
// 8 MiB, each with its compressed length before it.
type lz4Reader struct {
	r    *bufio.Reader
	out  []byte // what is decoded and not read yet
	buf  []byte
	done bool
}

const (
	lz4Magic    = 0x184c2102
	lz4BlockMax = 8 << 20
)

var errLZ4 = errors.New("lz4: corrupt data")

func (z *lz4Reader) Read(p []byte) (int, error) {
	for len(z.out) == 0 {
		if z.done {
			return 0, io.EOF
		}
		if err := z.block(); err != nil {
			return 0, err
		}
	}
	n := copy(p, z.out)
	z.out = z.out[n:]
	return n, nil
}

// block reads the next block. What is no block length ends the stream and stays unread.
func (z *lz4Reader) block() error {
	h, err := z.r.Peek(4)
	if err != nil {
		z.done = true
		return nil
	}
	n := binary.LittleEndian.Uint32(h)
	if n != lz4Magic && (n == 0 || n > lz4BlockMax+lz4BlockMax/255+16) {
		z.done = true
		return nil
	}
	_, _ = z.r.Discard(4) // has been peeked
	if n == lz4Magic {
		return nil
	}
	in := make([]byte, n)
	if _, err := io.ReadFull(z.r, in); err != nil {
		return io.ErrUnexpectedEOF
	}
	z.buf, err = lz4Block(z.buf[:0], in)
	z.out = z.buf
	return err
}

// lz4Block decodes one block: sequences of literals and copies of earlier output.
func lz4Block(out, in []byte) ([]byte, error) {
	length := func(n int) (int, bool) {
		if n != 15 {
			return n, true
		}
		for len(in) > 0 && n <= lz4BlockMax {
			b := in[0]
			in = in[1:]
			if n += int(b); b != 255 {
				return n, true
			}
		}
		return 0, false
	}
	for len(in) > 0 {
		token := in[0]
		in = in[1:]
		lit, ok := length(int(token >> 4))
		if !ok || lit > len(in) || len(out)+lit > lz4BlockMax {
			return nil, errLZ4
		}
		out = append(out, in[:lit]...)
		in = in[lit:]
		if len(in) == 0 {
			return out, nil
		}
		if len(in) < 2 {
			return nil, errLZ4
		}
		off := int(in[0]) | int(in[1])<<8
		in = in[2:]
		n, ok := length(int(token & 15))
		n += 4
		if !ok || off == 0 || off > len(out) || len(out)+n > lz4BlockMax {
			return nil, errLZ4
		}
		for ; n > 0; n-- {
			out = append(out, out[len(out)-off])
		}
	}
	return out, nil
}
