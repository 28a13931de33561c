// Package initramfs unpacks the archives that a kernel starts with: cpio(5) archives in the newc and crc formats, one
// after another, each plain or compressed (Documentation/driver-api/early-userspace/buffer-format).
//
// It reads what the user of the machine gives, through the operations of the vfs. The caller bounds how much may come
// out of the decompressors.
package initramfs

import (
	"bufio"
	"compress/bzip2"
	"compress/gzip"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
	"github.com/ulikunitz/xz/lzma"

	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// ErrTooBig is returned when the archives hold more than the limit.
var ErrTooBig = errors.New("initramfs: unpacked size is over the limit")

// dictMax bounds the memory of a decompressor.
const dictMax = 128 << 20

// Unpack unpacks the archives in r below the directory dir, nil for the working directory. limit bounds the unpacked size
// in bytes. What was unpacked before an error stays.
func Unpack(c vfs.Caller, dir *vfs.File, r io.Reader, limit int64) error {
	br := bufio.NewReaderSize(r, 64<<10)
	u := &unpacker{c: c, dir: dir, left: limit}
	for {
		if err := skipZeroes(br); err != nil {
			if err == io.EOF {
				return nil
			}
			return fmt.Errorf("initramfs: %w", err)
		}
		magic, _ := br.Peek(6)
		if string(magic) == magicNewc || string(magic) == magicCRC {
			if err := u.archive(br); err != nil {
				return err
			}
			continue
		}
		d, err := decompress(br, magic)
		if err != nil {
			return err
		}
		err = u.stream(d)
		if c, ok := d.(io.Closer); ok {
			_ = c.Close() // it only frees memory
		}
		if err != nil {
			return err
		}
	}
}

// stream unpacks the archives in a decompressed stream.
func (u *unpacker) stream(r io.Reader) error {
	br := bufio.NewReaderSize(&limited{r, u.left}, 64<<10)
	for {
		err := skipZeroes(br)
		var structural bzip2.StructuralError
		switch {
		case err == io.EOF:
			return nil
		case u.archives > 0 && (errors.Is(err, zstd.ErrMagicMismatch) || errors.As(err, &structural)):
			return nil // padding after the compressed data, which these two read too
		case errors.Is(err, ErrTooBig):
			return err
		case err != nil:
			return fmt.Errorf("initramfs: %w", err)
		}
		if err := u.archive(br); err != nil {
			return err
		}
	}
}

// limited fails with ErrTooBig when more than n bytes come.
type limited struct {
	r io.Reader
	n int64
}

func (l *limited) Read(p []byte) (int, error) {
	n, err := l.r.Read(p)
	if l.n -= int64(n); l.n < 0 {
		return 0, ErrTooBig
	}
	return n, err
}

func skipZeroes(br *bufio.Reader) error {
	for {
		b, err := br.ReadByte()
		if err != nil {
			return err
		}
		if b != 0 {
			return br.UnreadByte()
		}
	}
}

// decompress finds the decompressor by the magic number. It reads from br no more than it needs, where its format and
// library allow.
func decompress(br *bufio.Reader, magic []byte) (io.Reader, error) {
	has := func(m string) bool { return len(magic) >= len(m) && string(magic[:len(m)]) == m }
	var r io.Reader
	var err error
	switch {
	case has("\x1f\x8b"):
		var z *gzip.Reader
		if z, err = gzip.NewReader(br); err == nil {
			z.Multistream(false)
			r = z
		}
	case has("BZh"):
		r = bzip2.NewReader(br)
	case has("\xfd7zXZ\x00"):
		if xzDict(br) > dictMax {
			return nil, ErrTooBig
		}
		var z *xz.Reader
		if z, err = (xz.ReaderConfig{SingleStream: true}).NewReader(br); err == nil {
			r = &xzReader{z, br}
		}
	case has("\x5d\x00\x00"):
		r, err = newLZMA(br)
	case has("\x28\xb5\x2f\xfd"):
		var z *zstd.Decoder
		z, err = zstd.NewReader(br, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(dictMax))
		if err == nil {
			r = z.IOReadCloser()
		}
	case has("\x02\x21\x4c\x18"):
		r = &lz4Reader{r: br}
	default:
		return nil, fmt.Errorf("initramfs: no cpio archive and no known compression (starts with % x)", magic)
	}
	if err != nil {
		return nil, fmt.Errorf("initramfs: %w", err)
	}
	return r, nil
}

// xzReader reads one xz stream. The library looks for a byte behind it and complains when there is one: it belongs to what
// follows, and is put back.
type xzReader struct {
	z  *xz.Reader
	br *bufio.Reader
}

func (x *xzReader) Read(p []byte) (int, error) {
	n, err := x.z.Read(p)
	if err != nil && err.Error() == "xz: unexpected data after stream" {
		_ = x.br.UnreadByte() // one byte has just been read
		err = io.EOF
	}
	return n, err
}

// xzDict is the size of the dictionary that the first block of an xz stream asks for, 0 if there is none: the library
// would allocate it.
func xzDict(br *bufio.Reader) int64 {
	const streamHeader, lzma2 = 12, 0x21
	b, _ := br.Peek(streamHeader + 64)
	if len(b) < streamHeader+4 {
		return 0
	}
	flags := b[streamHeader+1]
	b = b[streamHeader+2:]
	varint := func() (v uint64) {
		for shift := 0; len(b) > 0 && shift < 63; shift += 7 {
			c := b[0]
			b = b[1:]
			v |= uint64(c&0x7f) << shift
			if c&0x80 == 0 {
				break
			}
		}
		return v
	}
	for bit := byte(0x40); bit != 0; bit <<= 1 { // the sizes, if they are there
		if flags&bit != 0 {
			varint()
		}
	}
	for range flags&3 + 1 {
		id, n := varint(), varint()
		if id == lzma2 && n == 1 && len(b) > 0 {
			return int64(2|b[0]&1) << (b[0]/2 + 11)
		}
		if n > uint64(len(b)) {
			break
		}
		b = b[n:]
	}
	return 0
}

// newLZMA refuses a dictionary that is too large before the library allocates it.
func newLZMA(br *bufio.Reader) (io.Reader, error) {
	h, err := br.Peek(lzma.HeaderLen)
	if err != nil {
		return nil, io.ErrUnexpectedEOF
	}
	if dict := uint32(h[1]) | uint32(h[2])<<8 | uint32(h[3])<<16 | uint32(h[4])<<24; dict > dictMax {
		return nil, ErrTooBig
	}
	return lzma.NewReader(br)
}
