package syscalls

import (
	"sync"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/fs/pipefs"
	"github.com/user-mode-linux/linux/internal/kernel/ktime"
	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/task"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
	"github.com/user-mode-linux/linux/internal/kernel/wait"
)

func init() {
	register(map[int]Entry{
		unix.SYS_SENDFILE:        {Name: "sendfile", Fn: sysSendfile},
		unix.SYS_SPLICE:          {Name: "splice", Fn: sysSplice, Note: "copies"},
		unix.SYS_TEE:             {Name: "tee", Fn: sysTee, Note: "copies"},
		unix.SYS_VMSPLICE:        {Name: "vmsplice", Fn: sysVmsplice, Note: "copies"},
		unix.SYS_COPY_FILE_RANGE: {Name: "copy_file_range", Fn: sysCopyFileRange, Note: "copies; no reflinks"},
	})
}

const copyChunk = 128 << 10

var copyBufs = sync.Pool{New: func() any { return new([copyChunk]byte) }}

// checkOffset checks that a position at addr can be read, if there is one.
func checkOffset(t *task.Task, addr uint64) error {
	if addr == 0 {
		return nil
	}
	var b [8]byte
	return uio.ReadFull(t.Mem(), b[:], addr)
}

// twoFiles returns the open files of two descriptors: EBADF.
func twoFiles(t *task.Task, in, out uint64) (*vfs.File, *vfs.File, error) {
	fi, err := openFile(t, in)
	if err != nil {
		return nil, nil, err
	}
	fo, err := openFile(t, out)
	if err != nil {
		fi.DecRef()
		return nil, nil, err
	}
	return fi, fo, nil
}

// checkModes checks that in can be read and out be written: EBADF.
func checkModes(in, out *vfs.File) error {
	if !in.Readable() || !out.Writable() {
		return unix.EBADF
	}
	return nil
}

// cursor is a position in a file: one that the guest gave, or the file's own.
type cursor struct {
	f    *vfs.File
	addr uint64 // of the guest's off_t, 0 for the file's own
	pos  int64
}

func newCursor(t *task.Task, f *vfs.File, addr uint64) (cursor, error) {
	c := cursor{f: f, addr: addr}
	if addr == 0 {
		c.pos = f.Pos()
		return c, nil
	}
	var b [8]byte
	if err := uio.ReadFull(t.Mem(), b[:], addr); err != nil {
		return c, err
	}
	c.pos = int64(le.Uint64(b[:]))
	if c.pos < 0 {
		return c, unix.EINVAL
	}
	return c, nil
}

// store puts the position back.
func (c *cursor) store(t *task.Task) error {
	if c.addr != 0 {
		return writeU64(t, c.addr, uint64(c.pos))
	}
	_, err := vfs.Seek(t, c.f, c.pos, unix.SEEK_SET)
	return err
}

func fileType(f *vfs.File) uint32 { return f.Inode.Attr().Mode & unix.S_IFMT }

// copyData copies up to n bytes from in, through a buffer, to what put writes to. put returns how much it took.
func copyData(t *task.Task, in *cursor, n uint64, put func(src *uio.Src) (int, error)) (done uint64, err error) {
	buf := copyBufs.Get().(*[copyChunk]byte)
	defer copyBufs.Put(buf)
	var dst uio.Dst
	var src uio.Src
	for done < n {
		dst.ResetBytes(buf[:min(n-done, copyChunk)])
		got, err := vfs.Pread(t, in.f, &dst, in.pos)
		if got <= 0 {
			return done, err
		}
		src.ResetBytes(buf[:got])
		k, err := put(&src)
		in.pos += int64(k)
		done += uint64(k)
		if err != nil || k < got {
			return done, err
		}
	}
	return done, nil
}

// sysSendfile implements sendfile(2).
func sysSendfile(t *task.Task, a *platform.Args) (uint64, error) {
	if a[2] == 0 {
		return sendfile(t, a)
	}
	var b [8]byte
	if err := uio.ReadFull(t.Mem(), b[:], a[2]); err != nil {
		return 0, err
	}
	n, err := sendfile(t, a)
	if err != nil && uio.WriteFull(t.Mem(), b[:], a[2]) != nil {
		err = unix.EFAULT // the position is stored after an error too
	}
	return n, err
}

func sendfile(t *task.Task, a *platform.Args) (uint64, error) {
	in, out, err := twoFiles(t, a[1], a[0])
	if err != nil {
		return 0, err
	}
	defer in.DecRef()
	defer out.DecRef()
	if err := checkModes(in, out); err != nil {
		return 0, err
	}
	if typ := fileType(in); typ != unix.S_IFREG && typ != unix.S_IFBLK {
		return 0, unix.EINVAL
	}
	if out.Flags()&unix.O_APPEND != 0 || int64(a[3]) < 0 {
		return 0, unix.EINVAL
	}
	c, err := newCursor(t, in, a[2])
	if err != nil {
		return 0, err
	}
	n, err := copyData(t, &c, min(a[3], maxRW), func(src *uio.Src) (int, error) { return vfs.Write(t, out, src) })
	if e := c.store(t); e != nil {
		return 0, e
	}
	return moved(int(n), err)
}

// sysCopyFileRange implements copy_file_range(2).
func sysCopyFileRange(t *task.Task, a *platform.Args) (uint64, error) {
	in, out, err := twoFiles(t, a[0], a[2])
	if err != nil {
		return 0, err
	}
	defer in.DecRef()
	defer out.DecRef()
	ci, err := newCursor(t, in, a[1])
	if err != nil {
		return 0, err
	}
	co, err := newCursor(t, out, a[3])
	if err != nil {
		return 0, err
	}
	if err := checkModes(in, out); err != nil {
		return 0, err
	}
	ti, to := fileType(in), fileType(out)
	switch {
	case ti == unix.S_IFDIR || to == unix.S_IFDIR:
		return 0, unix.EISDIR
	case u32(a[5]) != 0 || ti != unix.S_IFREG || to != unix.S_IFREG || int64(a[4]) < 0:
		return 0, unix.EINVAL
	case out.Flags()&unix.O_APPEND != 0:
		return 0, unix.EBADF
	}
	n := int64(min(a[4], maxRW))
	if ci.pos+n < 0 || co.pos+n < 0 {
		return 0, unix.EOVERFLOW
	}
	n = min(n, max(in.Inode.Attr().Size-ci.pos, 0))
	if in.Inode == out.Inode && ci.pos < co.pos+n && co.pos < ci.pos+n {
		return 0, unix.EINVAL
	}
	done, err := copyData(t, &ci, uint64(n), func(src *uio.Src) (int, error) {
		k, err := vfs.Pwrite(t, out, src, co.pos)
		co.pos += int64(k)
		return k, err
	})
	if done > 0 {
		if err := ci.store(t); err != nil {
			return 0, err
		}
		if err := co.store(t); err != nil {
			return 0, err
		}
	}
	return moved(int(done), err)
}

const spliceFlags = unix.SPLICE_F_MOVE | unix.SPLICE_F_NONBLOCK | unix.SPLICE_F_MORE | unix.SPLICE_F_GIFT

// sysSplice implements splice(2).
func sysSplice(t *task.Task, a *platform.Args) (uint64, error) {
	flags := u32(a[5])
	if a[4] == 0 {
		return 0, nil
	}
	if flags&^spliceFlags != 0 {
		return 0, unix.EINVAL
	}
	in, out, err := twoFiles(t, a[0], a[2])
	if err != nil {
		return 0, err
	}
	defer in.DecRef()
	defer out.DecRef()
	pi, po := pipefs.Of(in), pipefs.Of(out)
	if pi != nil && a[1] != 0 || po != nil && a[3] != 0 {
		return 0, unix.ESPIPE
	}
	if err := checkOffset(t, a[3]); err != nil {
		return 0, err
	}
	if err := checkOffset(t, a[1]); err != nil {
		return 0, err
	}
	if err := checkModes(in, out); err != nil {
		return 0, err
	}
	n, nonblock := int(min(a[4], maxRW)), flags&unix.SPLICE_F_NONBLOCK != 0
	switch {
	case pi != nil && po != nil:
		if pi == po {
			return 0, unix.EINVAL
		}
		return pipeToPipe(t, pi, po, n, nonblock || in.Nonblock() || out.Nonblock(), true)
	case pi != nil:
		return spliceOut(t, pi, out, a[3], n, nonblock || in.Nonblock())
	case po != nil:
		return spliceIn(t, in, a[1], po, n, nonblock || out.Nonblock())
	}
	return 0, unix.EINVAL
}

// pipeToPipe moves or copies between pipes; it waits only as long as nothing was moved.
func pipeToPipe(t *task.Task, in, out *pipefs.Pipe, n int, nonblock, move bool) (uint64, error) {
	for {
		if data, err := in.WaitData(t, nonblock); !data || err != nil {
			return 0, err
		}
		if err := out.WaitRoom(t, nonblock); err != nil {
			return 0, err
		}
		if k := pipefs.Transfer(out, in, n, move); k > 0 {
			return uint64(k), nil
		}
	}
}

// seekable reports whether a file has a position.
func seekable(f *vfs.File) bool {
	_, stream := f.Ops.(vfs.Streamer)
	return !stream
}

// waitReady waits until a stream is ready for one of mask; EAGAIN if it may not wait.
func waitReady(t *task.Task, f *vfs.File, mask wait.Events, nonblock bool) error {
	ready := func() bool { return f.Ops.Readiness(mask) != 0 }
	if ready() {
		return nil
	}
	q := f.Ops.WaitQueue()
	if nonblock || q == nil {
		return unix.EAGAIN
	}
	return q.Wait(t, mask, ktime.Forever, ready)
}

// spliceIn moves from a file into a pipe. A stream is read without blocking under the pipe's lock, after it was ready.
func spliceIn(t *task.Task, in *vfs.File, offAddr uint64, p *pipefs.Pipe, n int, nonblock bool) (uint64, error) {
	if !seekable(in) {
		if offAddr != 0 {
			return 0, unix.ESPIPE
		}
		quick := in.Unblocking()
		for {
			if err := p.WaitRoom(t, nonblock); err != nil {
				return 0, err
			}
			if err := waitReady(t, in, wait.Readable, nonblock || in.Nonblock()); err != nil {
				return 0, err
			}
			asked := false
			k, err := p.Feed(n, func(dst *uio.Dst) (int, error) {
				asked = true
				return in.Ops.Read(t, quick, dst, 0)
			})
			if k > 0 || asked && err != unix.EAGAIN {
				return moved(k, err)
			}
		}
	}
	c, err := newCursor(t, in, offAddr)
	if err != nil {
		return 0, err
	}
	if err := p.WaitRoom(t, nonblock); err != nil {
		return 0, err
	}
	done := 0
	for done < n {
		var k int
		k, err = p.Feed(n-done, func(dst *uio.Dst) (int, error) { return vfs.Pread(t, in, dst, c.pos) })
		done += k
		c.pos += int64(k)
		if k == 0 || err != nil {
			break
		}
	}
	if done > 0 {
		if err := c.store(t); err != nil {
			return 0, err
		}
	}
	return moved(done, err)
}

// spliceOut moves from a pipe to a file.
func spliceOut(t *task.Task, p *pipefs.Pipe, out *vfs.File, offAddr uint64, n int, nonblock bool) (uint64, error) {
	if out.Flags()&unix.O_APPEND != 0 {
		return 0, unix.EINVAL
	}
	stream := !seekable(out)
	if stream && offAddr != 0 {
		return 0, unix.ESPIPE
	}
	var c cursor
	var quick *vfs.File
	if stream {
		quick = out.Unblocking()
	} else {
		var err error
		if c, err = newCursor(t, out, offAddr); err != nil {
			return 0, err
		}
	}
	if data, err := p.WaitData(t, nonblock); !data || err != nil {
		return 0, err
	}
	done := 0
	var err error
	for done < n {
		var k int
		k, err = p.Drain(n-done, func(src *uio.Src) (int, error) {
			if stream {
				return out.Ops.Write(t, quick, src, 0)
			}
			return vfs.Pwrite(t, out, src, c.pos)
		})
		done += k
		c.pos += int64(k)
		if err == unix.EAGAIN && stream {
			if err = waitReady(t, out, wait.Writable, out.Nonblock()); err == nil {
				continue
			}
		}
		if k == 0 || err != nil {
			break
		}
	}
	if done > 0 && !stream {
		if err := c.store(t); err != nil {
			return 0, err
		}
	}
	return moved(done, err)
}

// sysTee implements tee(2).
func sysTee(t *task.Task, a *platform.Args) (uint64, error) {
	flags := u32(a[3])
	if flags&^spliceFlags != 0 {
		return 0, unix.EINVAL
	}
	if a[2] == 0 {
		return 0, nil
	}
	in, out, err := twoFiles(t, a[0], a[1])
	if err != nil {
		return 0, err
	}
	defer in.DecRef()
	defer out.DecRef()
	if err := checkModes(in, out); err != nil {
		return 0, err
	}
	pi, po := pipefs.Of(in), pipefs.Of(out)
	if pi == nil || po == nil || pi == po {
		return 0, unix.EINVAL
	}
	nonblock := flags&unix.SPLICE_F_NONBLOCK != 0 || in.Nonblock() || out.Nonblock()
	return pipeToPipe(t, pi, po, int(min(a[2], maxRW)), nonblock, false)
}

// sysVmsplice implements vmsplice(2).
func sysVmsplice(t *task.Task, a *platform.Args) (uint64, error) {
	flags := u32(a[3])
	if flags&^spliceFlags != 0 {
		return 0, unix.EINVAL
	}
	f, err := openFile(t, a[0])
	if err != nil {
		return 0, err
	}
	defer f.DecRef()
	s := getScratch()
	defer s.put()
	iov, err := s.iovec(t.Mem(), a[1], a[2])
	if err != nil {
		return 0, err
	}
	if len(iov) == 0 {
		return 0, nil
	}
	p := pipefs.Of(f)
	if p == nil {
		return 0, unix.EBADF
	}
	nonblock := flags&unix.SPLICE_F_NONBLOCK != 0 || f.Nonblock()
	if f.Writable() {
		if err := p.WaitRoom(t, nonblock); err != nil {
			return 0, err
		}
		s.src.ResetV(t.Mem(), iov)
		return moved(p.FeedUser(&s.src))
	}
	if data, err := p.WaitData(t, nonblock); !data || err != nil {
		return 0, err
	}
	s.dst.ResetV(t.Mem(), iov)
	return moved(p.DrainUser(&s.dst))
}
