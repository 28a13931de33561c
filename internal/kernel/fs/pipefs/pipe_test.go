package pipefs

import (
	"bytes"
	"math/rand"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
	"github.com/user-mode-linux/linux/internal/kernel/vfs/vfstest"
	"github.com/user-mode-linux/linux/internal/kernel/wait"
)

func write(c vfs.Caller, f *vfs.File, p []byte) (int, error) {
	return f.Ops.Write(c, f, uio.FromBytes(p), 0)
}

func read(c vfs.Caller, f *vfs.File, n int) ([]byte, error) {
	p := make([]byte, n)
	n, err := f.Ops.Read(c, f, uio.ToBytes(p), 0)
	return p[:n], err
}

func TestPipeBasics(t *testing.T) {
	c := vfstest.NoFS()
	r, w := New(c, unix.O_NONBLOCK)
	if _, err := read(c, r, 10); err != unix.EAGAIN {
		t.Fatalf("empty: %v", err)
	}
	if n, err := write(c, w, []byte("hello")); n != 5 || err != nil {
		t.Fatal(n, err)
	}
	if ev := r.Ops.Readiness(wait.All); ev != wait.In|wait.RdNorm {
		t.Fatalf("readiness %x", ev)
	}
	if p, err := read(c, r, 3); string(p) != "hel" || err != nil {
		t.Fatal(string(p), err)
	}
	w.DecRef()
	if ev := r.Ops.Readiness(wait.All); ev != wait.In|wait.RdNorm|wait.Hup {
		t.Fatalf("readiness %x", ev)
	}
	if p, err := read(c, r, 30); string(p) != "lo" || err != nil {
		t.Fatal(string(p), err)
	}
	if p, err := read(c, r, 30); len(p) != 0 || err != nil {
		t.Fatal(string(p), err)
	}
}

func TestPipeBroken(t *testing.T) {
	c := vfstest.NoFS()
	r, w := New(c, 0)
	r.DecRef()
	if _, err := write(c, w, []byte("x")); err != unix.EPIPE {
		t.Fatal(err)
	}
	if s := c.Signals(); len(s) != 1 || s[0] != unix.SIGPIPE {
		t.Fatal(s)
	}
	if ev := w.Ops.Readiness(wait.All); ev != wait.Out|wait.WrNorm|wait.Err {
		t.Fatalf("readiness %x", ev)
	}
}

func TestPipeCapacity(t *testing.T) {
	c := vfstest.NoFS()
	r, w := New(c, unix.O_NONBLOCK)
	if n, err := write(c, w, make([]byte, 100000)); n != DefaultSize || err != nil {
		t.Fatal(n, err)
	}
	if _, err := write(c, w, []byte("x")); err != unix.EAGAIN {
		t.Fatal(err)
	}
	if _, err := read(c, r, pageSize-1); err != nil {
		t.Fatal(err)
	}
	if ev := w.Ops.Readiness(wait.All); ev != 0 {
		t.Fatalf("writable although no page is free: %x", ev)
	}
	if _, err := read(c, r, 1); err != nil {
		t.Fatal(err)
	}
	if ev := w.Ops.Readiness(wait.All); ev != wait.Out|wait.WrNorm {
		t.Fatalf("not writable: %x", ev)
	}
	// A write of up to PIPE_BUF is all or nothing.
	if n, err := write(c, w, make([]byte, 4096)); n != 4096 || err != nil {
		t.Fatal(n, err)
	}
	p := Of(r)
	if _, err := p.SetSize(c, pageSize); err != unix.EBUSY {
		t.Fatal(err)
	}
	if n, err := p.SetSize(c, 100000); n != 1<<17 || err != nil {
		t.Fatal(n, err)
	}
	if n, _ := read(c, r, 1<<20); len(n) != DefaultSize {
		t.Fatal(len(n))
	}
	if n, err := p.SetSize(c, 1); n != pageSize || err != nil {
		t.Fatal(n, err)
	}
	c.Creds = c.Creds.Copy()
	c.Creds.Effective = 0
	if _, err := p.SetSize(c, 1<<21); err != unix.EPERM {
		t.Fatal(err)
	}
	if _, err := p.SetSize(c, 1<<33); err != unix.EINVAL {
		t.Fatal(err)
	}
}

func TestPipePackets(t *testing.T) {
	c := vfstest.NoFS()
	r, w := New(c, unix.O_DIRECT|unix.O_NONBLOCK)
	write(c, w, []byte("first"))
	write(c, w, []byte("second"))
	write(c, w, make([]byte, 5000))
	if p, _ := read(c, r, 3); string(p) != "fir" {
		t.Fatalf("%q", p)
	}
	if p, _ := read(c, r, 300); string(p) != "second" {
		t.Fatalf("%q", p)
	}
	if p, _ := read(c, r, 8192); len(p) != 4096 {
		t.Fatal(len(p))
	}
	if p, _ := read(c, r, 8192); len(p) != 904 {
		t.Fatal(len(p))
	}
}

func TestPipeFault(t *testing.T) {
	c := vfstest.NoFS()
	c.Memory = make(vfstest.Memory, 5000)
	r, w := New(c, unix.O_NONBLOCK)
	var src uio.Src
	src.Reset(c.Memory, 0, 9000)
	if n, err := w.Ops.Write(c, w, &src, 0); n != 4096 || err != nil {
		t.Fatal(n, err)
	}
	src.Reset(c.Memory, 4999, 10)
	if _, err := w.Ops.Write(c, w, &src, 0); err != unix.EFAULT {
		t.Fatal(err)
	}
	if p, _ := read(c, r, 8192); len(p) != 4096 {
		t.Fatal(len(p))
	}
}

// TestRingModel compares random reads and writes with a byte queue.
func TestRingModel(t *testing.T) {
	c := vfstest.NoFS()
	rnd := rand.New(rand.NewSource(1))
	r, w := New(c, unix.O_NONBLOCK)
	var model []byte
	next := byte(0)
	for range 5000 {
		switch rnd.Intn(5) {
		case 0, 1:
			p := make([]byte, 1+rnd.Intn(1<<rnd.Intn(18)))
			for i := range p {
				p[i] = next + byte(i)
			}
			n, err := write(c, w, p)
			if err == nil {
				model = append(model, p[:n]...)
				next += byte(n)
			} else if err != unix.EAGAIN {
				t.Fatal(err)
			}
		case 2, 3:
			p, err := read(c, r, 1+rnd.Intn(1<<rnd.Intn(18)))
			if err == nil {
				if !bytes.Equal(p, model[:len(p)]) {
					t.Fatal("wrong bytes")
				}
				model = model[len(p):]
			} else if len(model) > 0 {
				t.Fatal(err)
			}
		case 4:
			Of(r).SetSize(c, uint64(pageSize)<<rnd.Intn(6))
		}
		if Of(r).bytes != len(model) {
			t.Fatal(Of(r).bytes, len(model))
		}
	}
}

func TestPipeBlockingStream(t *testing.T) {
	cr, cw := vfstest.NoFS(), vfstest.NoFS()
	r, w := New(cr, 0)
	const total = 3 << 20
	var wg sync.WaitGroup
	wg.Go(func() {
		rnd := rand.New(rand.NewSource(2))
		for sent := 0; sent < total; {
			p := make([]byte, min(1+rnd.Intn(200000), total-sent))
			for i := range p {
				p[i] = byte((sent + i) * 7)
			}
			n, err := write(cw, w, p)
			if n != len(p) || err != nil {
				t.Error(n, err)
				return
			}
			sent += n
		}
		w.DecRef()
	})
	got := 0
	for {
		p, err := read(cr, r, 70000)
		if err != nil {
			t.Fatal(err)
		}
		if len(p) == 0 {
			break
		}
		for i := range p {
			if p[i] != byte((got+i)*7) {
				t.Fatal("wrong byte at", got+i)
			}
		}
		got += len(p)
	}
	wg.Wait()
	if got != total {
		t.Fatal(got)
	}
}

func TestPipeInterrupted(t *testing.T) {
	c := vfstest.NoFS()
	r, w := New(c, 0)
	c.Interrupt()
	if _, err := read(c, r, 1); err != abi.ERESTARTSYS {
		t.Fatal(err)
	}
	c.Interrupt()
	if n, err := write(c, w, make([]byte, 2*DefaultSize)); n != DefaultSize || err != nil {
		t.Fatal(n, err)
	}
}

func openFIFO(c vfs.Caller, in vfs.Inode, flags uint32) (*vfs.File, error) {
	f := vfs.NewFile(vfs.Path{}, in, nil, flags)
	ops, err := OpenFIFO(c, f)
	f.Ops = ops
	return f, err
}

func TestFIFO(t *testing.T) {
	c := vfstest.NoFS()
	in := vfs.NewAnonInode(c, unix.S_IFIFO|0o600)
	if _, err := openFIFO(c, in, unix.O_WRONLY|unix.O_NONBLOCK); err != unix.ENXIO {
		t.Fatal(err)
	}
	c.Interrupt()
	if _, err := openFIFO(c, in, unix.O_RDONLY); err != abi.ERESTARTSYS {
		t.Fatal(err)
	}
	r, err := openFIFO(c, in, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	if ev := r.Ops.Readiness(wait.All); ev != 0 {
		t.Fatalf("hangup before the first writer: %x", ev)
	}
	w, err := openFIFO(c, in, unix.O_WRONLY)
	if err != nil {
		t.Fatal(err)
	}
	write(c, w, []byte("x"))
	w.DecRef()
	if ev := r.Ops.Readiness(wait.All); ev != wait.In|wait.RdNorm|wait.Hup {
		t.Fatalf("%x", ev)
	}
	r.DecRef()
	if len(fifos.m) != 0 {
		t.Fatal("FIFO is still in the table")
	}
	// Blocking opens meet.
	var wg sync.WaitGroup
	wg.Go(func() {
		w, err := openFIFO(vfstest.NoFS(), in, unix.O_WRONLY)
		if err != nil {
			t.Error(err)
			return
		}
		write(c, w, []byte("met"))
		w.DecRef()
	})
	r, err = openFIFO(c, in, unix.O_RDONLY)
	if err != nil {
		t.Fatal(err)
	}
	if p, err := read(c, r, 9); string(p) != "met" || err != nil {
		t.Fatal(string(p), err)
	}
	wg.Wait()
	r.DecRef()
}

func TestTransfer(t *testing.T) {
	c := vfstest.NoFS()
	r1, w1 := New(c, unix.O_NONBLOCK)
	r2, _ := New(c, unix.O_NONBLOCK)
	write(c, w1, bytes.Repeat([]byte("ab"), 3000))
	if n := Transfer(Of(r2), Of(r1), 5000, false); n != 5000 {
		t.Fatal(n)
	}
	if p, _ := read(c, r2, 9000); len(p) != 5000 {
		t.Fatal(len(p))
	}
	if n := Transfer(Of(r2), Of(r1), 5001, true); n != 5001 {
		t.Fatal(n)
	}
	if p, _ := read(c, r1, 9000); len(p) != 999 || p[0] != 'b' {
		t.Fatal(len(p))
	}
	n, err := Of(r1).Feed(10000, func(d *uio.Dst) (int, error) { return d.CopyOut([]byte("feed")) })
	if n != 4 || err != nil {
		t.Fatal(n, err)
	}
	n, err = Of(r1).Drain(3, func(s *uio.Src) (int, error) { return s.Len(), nil })
	if n != 3 || err != nil {
		t.Fatal(n, err)
	}
}

func BenchmarkPipe64K(b *testing.B) {
	c := vfstest.NoFS()
	r, w := New(c, 0)
	p := make([]byte, DefaultSize)
	src, dst := uio.FromBytes(p), uio.ToBytes(p)
	b.SetBytes(DefaultSize)
	b.ReportAllocs()
	for b.Loop() {
		src.ResetBytes(p)
		dst.ResetBytes(p)
		w.Ops.Write(c, w, src, 0)
		r.Ops.Read(c, r, dst, 0)
	}
}

// TestFIFOStorm opens and closes one FIFO from several sides.
func TestFIFOStorm(t *testing.T) {
	in := vfs.NewAnonInode(nil, unix.S_IFIFO|0o600)
	var wg sync.WaitGroup
	for _, flags := range []uint32{unix.O_RDWR, unix.O_RDONLY | unix.O_NONBLOCK, unix.O_WRONLY | unix.O_NONBLOCK} {
		wg.Go(func() {
			c := vfstest.NoFS()
			for range 500 {
				f, err := openFIFO(c, in, flags)
				if err == unix.ENXIO && flags&unix.O_ACCMODE == unix.O_WRONLY {
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				f.Ops.Readiness(wait.All)
				f.DecRef()
			}
		})
	}
	wg.Wait()
	if len(fifos.m) != 0 {
		t.Fatal("FIFO is still in the table")
	}
}

// TestPipeAtomicWrites checks that writes of up to PIPE_BUF are not mixed.
func TestPipeAtomicWrites(t *testing.T) {
	r, w := New(vfstest.NoFS(), 0)
	var wg sync.WaitGroup
	const size, count = 3000, 200
	for id := range byte(3) {
		wg.Go(func() {
			c, p := vfstest.NoFS(), bytes.Repeat([]byte{id}, size)
			for range count {
				if n, err := write(c, w, p); n != size || err != nil {
					t.Error(n, err)
				}
			}
		})
	}
	c := vfstest.NoFS()
	for range 3 * count {
		var msg []byte
		for len(msg) < size {
			p, err := read(c, r, size-len(msg))
			if err != nil {
				t.Fatal(err)
			}
			msg = append(msg, p...)
		}
		if !bytes.Equal(msg, bytes.Repeat(msg[:1], size)) {
			t.Fatal("writes are mixed")
		}
	}
	wg.Wait()
}

// TestPipeReopen opens a pipe again through its descriptor, as a shell's <(...) does: there is nobody to wait for.
func TestPipeReopen(t *testing.T) {
	c := vfstest.NoFS()
	r, w := New(c, 0)
	if _, err := write(c, w, []byte("rest")); err != nil {
		t.Fatal(err)
	}
	w.DecRef()
	f := vfs.NewFile(r.Path.Get(), r.Inode, nil, unix.O_RDONLY)
	ops, err := r.Inode.Open(c, f)
	if err != nil {
		t.Fatal(err)
	}
	again := vfs.NewFile(r.Path.Get(), r.Inode, ops, unix.O_RDONLY)
	r.DecRef()
	if p, err := read(c, again, 9); string(p) != "rest" || err != nil {
		t.Errorf("read %q, %v", p, err)
	}
	again.DecRef()
}
