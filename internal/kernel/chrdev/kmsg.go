package chrdev

import (
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/klog"
	"github.com/user-mode-linux/linux/internal/kernel/ktime"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
	"github.com/user-mode-linux/linux/internal/kernel/wait"
)

const (
	kmsgMaxWrite = 1024
	userFacility = 1 // LOG_USER
)

// kmsg is an open /dev/kmsg (Documentation/ABI/testing/dev-kmsg): each read returns one record.
type kmsg struct {
	vfs.FileBase

	mu  sync.Mutex
	seq uint64 // of the next record to read
}

func openKmsg(vfs.Caller, *vfs.File) (vfs.FileOps, error) { return &kmsg{seq: klog.First()}, nil }

// Read returns the next record. EPIPE tells that records were lost; the next read goes on with the oldest there is.
func (k *kmsg) Read(c vfs.Caller, f *vfs.File, dst *uio.Dst, _ int64) (int, error) {
	for {
		k.mu.Lock()
		recs, lost := klog.From(k.seq, 1)
		if lost {
			k.seq = klog.First()
			k.mu.Unlock()
			return 0, unix.EPIPE
		}
		if len(recs) > 0 {
			line := formatKmsg(&recs[0])
			if len(line) > dst.Len() {
				k.mu.Unlock()
				return 0, unix.EINVAL
			}
			k.seq++
			k.mu.Unlock()
			return dst.CopyOut(line)
		}
		next := k.seq
		k.mu.Unlock()
		if f.Nonblock() {
			return 0, unix.EAGAIN
		}
		err := klog.Queue.Wait(c, wait.Readable, ktime.Forever, func() bool { return klog.Next() > next })
		if err != nil {
			return 0, err
		}
	}
}

// formatKmsg makes "prio,seq,usec,-;text\n", with bytes that are not printable escaped.
func formatKmsg(r *klog.Record) []byte {
	b := strconv.AppendUint(nil, uint64(r.Facility)<<3|uint64(r.Level), 10)
	b = append(b, ',')
	b = strconv.AppendUint(b, r.Seq, 10)
	b = append(b, ',')
	b = strconv.AppendInt(b, r.Time/1000, 10)
	b = append(b, ",-;"...)
	const hex = "0123456789abcdef"
	for i := range len(r.Text) {
		if c := r.Text[i]; c < ' ' || c >= 127 || c == '\\' {
			b = append(b, '\\', 'x', hex[c>>4], hex[c&15])
		} else {
			b = append(b, c)
		}
	}
	return append(b, '\n')
}

// Write logs a message, with an optional "<prio>" in front.
func (k *kmsg) Write(_ vfs.Caller, _ *vfs.File, src *uio.Src, _ int64) (int, error) {
	n := src.Len()
	if n > kmsgMaxWrite {
		return 0, unix.EINVAL
	}
	b := make([]byte, n)
	if _, err := src.CopyIn(b); err != nil {
		return 0, err
	}
	level, facility, text := parsePrefix(string(b))
	for line := range strings.SplitSeq(strings.TrimRight(text, "\n"), "\n") {
		klog.Write(level, facility, line)
	}
	return n, nil
}

// parsePrefix splits "<prio>" off. A program can not speak as the kernel: facility 0 becomes LOG_USER.
func parsePrefix(s string) (level klog.Level, facility uint8, text string) {
	level, facility = klog.Warning, userFacility
	if !strings.HasPrefix(s, "<") {
		return level, facility, s
	}
	num, rest, ok := strings.Cut(s[1:], ">")
	prio, err := strconv.ParseUint(num, 10, 32)
	if !ok || err != nil {
		return level, facility, s
	}
	if f := uint8(prio >> 3 & 0x7f); f != 0 {
		facility = f
	}
	return klog.Level(prio & 7), facility, rest
}

// Seek knows the beginning, the first record after the last clear (SEEK_DATA) and the end.
func (k *kmsg) Seek(_ vfs.Caller, _ *vfs.File, off int64, whence int) (int64, error) {
	if off != 0 {
		return 0, unix.ESPIPE
	}
	var seq uint64
	switch whence {
	case unix.SEEK_SET:
		seq = klog.First()
	case unix.SEEK_DATA:
		seq = klog.Cleared()
	case unix.SEEK_END:
		seq = klog.Next()
	default:
		return 0, unix.EINVAL
	}
	k.mu.Lock()
	k.seq = seq
	k.mu.Unlock()
	return 0, nil
}

// Readiness is poll(2): readable if there are records, with an error if some were lost.
func (k *kmsg) Readiness(mask wait.Events) wait.Events {
	k.mu.Lock()
	seq := k.seq
	k.mu.Unlock()
	var ev wait.Events
	if seq < klog.Next() {
		ev = wait.In | wait.RdNorm
		if seq < klog.First() {
			ev |= wait.Err | wait.Pri
		}
	}
	return ev & (mask | wait.Err)
}

// WaitQueue is the log's.
func (k *kmsg) WaitQueue() *wait.Queue { return &klog.Queue }
