package ubd

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"
)

// options are the options of a tool, which come before its other arguments. It says itself what is wrong.
func options(name string) *pflag.FlagSet {
	f := pflag.NewFlagSet(name, pflag.ContinueOnError)
	f.SetInterspersed(false)
	f.SetOutput(io.Discard)
	f.Usage = func() {}
	return f
}

const mkcowUsage = `uml_mkcow usage:
	uml_mkcow [-f] <COW file> <backing file>
	-f, --force overwrites a COW file that exists
`

// Mkcow is the program uml_mkcow: it makes an empty COW file. It returns the exit status: 1 for a failure, 2 for wrong usage.
func Mkcow(args []string, stderr io.Writer) int {
	f := options("uml_mkcow")
	force := f.BoolP("force", "f", false, "")
	if f.Parse(args) != nil || f.NArg() != 2 {
		io.WriteString(stderr, mkcowUsage)
		return 2
	}
	if err := createCow(f.Arg(0), f.Arg(1), *force); err != nil {
		if errors.Is(err, unix.EEXIST) {
			err = fmt.Errorf("open COW file: File exists (%s; -f overwrites it)", f.Arg(0))
		}
		fmt.Fprintf(stderr, "uml_mkcow: %v\n", err)
		return 1
	}
	return 0
}

const mooUsage = `uml_moo usage:
	uml_moo [ -b <actual backing file> ] <COW file> <new backing file>
	uml_moo [ -b <actual backing file> ] -d <COW file>
The first form makes a new image of a COW file and its backing file. With -d (--destructive) the COW file is merged into its
backing file itself: other COW files of that backing file cannot be used any more. -b (--backing) names the backing file, for a
COW file whose header has another name for it. COW files of the versions 1, 2 and 3 are read.
`

// Moo is the program uml_moo: it merges a COW file with its backing file. It returns the exit status.
func Moo(args []string, stderr io.Writer) int {
	f := options("uml_moo")
	backing := f.StringP("backing", "b", "", "")
	inPlace := f.BoolP("destructive", "d", false, "")
	err := f.Parse(args)
	if files := f.NArg(); err != nil || *inPlace && files != 1 || !*inPlace && files != 2 {
		io.WriteString(stderr, mooUsage)
		return 1
	}
	if err := merge(f.Arg(0), *backing, f.Arg(1)); err != nil {
		fmt.Fprintf(stderr, "uml_moo: %v\n", err)
		return 1
	}
	return 0
}

// merge writes what a guest sees of a COW file to a new file, or with out "" to the backing file itself. backing may be "".
func merge(file, backing, out string) error {
	// Not locked: a backup of a guest that stands still is fine.
	im, err := openImage(file, out == "", false)
	if err != nil {
		return fmt.Errorf("COW file open: %w", err)
	}
	defer im.close()
	h, err := readHeader(im)
	if err != nil {
		return fmt.Errorf("Reading COW header failed: %w", err)
	}
	if h == nil {
		return fmt.Errorf("Reading COW header failed: %s is no COW file", file)
	}
	d, err := openCow(file, &Spec{File: file, Backing: backing, ReadOnly: true, Shared: true}, backing)
	if err != nil {
		return err
	}
	c := d.(*cow)
	defer c.Close()
	if out == "" {
		return c.mergeInto(im)
	}
	return c.mergeTo(out)
}

// mergeChunk is how much is copied at a time.
const mergeChunk = 1 << 20

// mergeTo writes a new file, with holes where there are only zeroes.
func (c *cow) mergeTo(out string) error {
	var st unix.Stat_t
	for _, im := range []*hostImage{c.file, c.backing} {
		if unix.Stat(out, &st) == nil && uint64(st.Dev) == im.host.ID.Dev && st.Ino == im.host.ID.Ino {
			return fmt.Errorf("Output file open: %s is read from (-d merges in place)", out)
		}
	}
	fd, err := unix.Open(out, unix.O_RDWR|unix.O_CREAT|unix.O_TRUNC|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return fmt.Errorf("Output file open: %s: %w", out, err)
	}
	im := &hostImage{name: out, fd: fd, rofd: -1}
	defer im.close()
	size := int64(c.h.size)
	buf, zero := make([]byte, mergeChunk), make([]byte, 4096)
	for off := int64(0); off < size; off += mergeChunk {
		p := buf[:min(mergeChunk, size-off)]
		if err := c.readRange(p, off); err != nil {
			return fmt.Errorf("Reading data: %w", err)
		}
		for at := 0; at < len(p); at += len(zero) {
			b := p[at:min(at+len(zero), len(p))]
			if bytes.Equal(b, zero[:len(b)]) {
				continue
			}
			if err := im.writeAt(b, off+int64(at)); err != nil {
				return fmt.Errorf("Writing data: %s: %w", out, err)
			}
		}
	}
	if err := unix.Ftruncate(fd, size); err != nil {
		return fmt.Errorf("Writing data: %s: %w", out, err)
	}
	if err := im.sync(); err != nil { // the COW file may be removed next
		return fmt.Errorf("Writing data: %s: %w", out, err)
	}
	return nil
}

// readRange is ReadAt for any bytes.
func (c *cow) readRange(p []byte, off int64) error {
	for len(p) > 0 {
		inCow, n := c.in(off, int64(len(p)))
		var err error
		if inCow {
			err = c.io.readAt(p[:n], c.h.dataOff+off)
		} else {
			err = c.backing.readAt(p[:n], off)
		}
		if err != nil {
			return err
		}
		p, off = p[n:], off+n
	}
	return nil
}

// mergeInto writes the sectors of the COW file to the backing file. im is the COW file, opened for writing: its header is
// told of the backing file's new time, so that it stays usable.
func (c *cow) mergeInto(im *hostImage) error {
	back, err := openImage(c.backing.name, true, false)
	if err != nil {
		return fmt.Errorf("Opening backing file: %w", err)
	}
	defer back.close()
	if back.ro || im.ro {
		return fmt.Errorf("Opening backing file: %s and %s must be writable", back.name, im.name)
	}
	for _, f := range []*hostImage{im, back} {
		if err := lockImage(f, false); err != nil {
			return err
		}
	}
	buf := make([]byte, mergeChunk)
	for off, size := int64(0), int64(c.h.size); off < size; {
		inCow, n := c.in(off, min(mergeChunk, size-off))
		if inCow {
			if err := c.io.readAt(buf[:n], c.h.dataOff+off); err != nil {
				return fmt.Errorf("Reading data: %w", err)
			}
			if err := back.writeAt(buf[:n], off); err != nil {
				return fmt.Errorf("Writing data: %w", err)
			}
		}
		off += n
	}
	if err := back.sync(); err != nil {
		return fmt.Errorf("Writing data: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(back.fd, &st); err != nil {
		return fmt.Errorf("Stating backing file: %w", err)
	}
	b, off := c.h.mtimeField(uint32(st.Mtim.Sec))
	return im.writeAt(b, off)
}
