package console

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/klog"
)

// Operations and directions of a terminal record.
const (
	recOpen  = 1
	recClose = 2
	recWrite = 3 // data, in either direction
	recExec  = 4

	recRead    = 1
	recWritten = 2
)

const (
	// maxRecorded bounds what waits to be written, in bytes; what comes then is lost.
	maxRecorded = 4 << 20
	// maxRecord bounds the data of one record.
	maxRecord = 64 << 10
)

// Recorder writes the log of terminals in the format that User-Mode Linux has for honeypots. A record is, all in native byte
// order: operation, terminal, length of the data, direction, seconds, microseconds, 32 bits each; then the data. That of
// an open is the number of the terminal that it came from, 0 if none; that of an exec is the arguments, each
// ended by a zero byte. It implements tty.Recorder.
//
// The guest never waits for the host's file: records are queued and written by a goroutine.
type Recorder struct {
	dir string   // a file for each use of a terminal, or
	all *os.File // one for all

	mu     sync.Mutex
	work   *sync.Cond
	queue  []record
	queued int // bytes
	lost   int // records
	closed bool

	files map[uint32]*os.File // open files of dir by terminal; the writer's
	done  chan struct{}
}

// record is one to be written.
type record struct {
	op, tty uint32
	at      time.Time
	bytes   []byte
}

// RecordToFD records to an open descriptor.
func RecordToFD(fd int) (*Recorder, error) {
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, fmt.Errorf("tty_log_fd=%d: %w", fd, err)
	}
	return startRecorder(&Recorder{all: os.NewFile(uintptr(dup), fmt.Sprintf("tty_log_fd=%d", fd))}), nil
}

// RecordToDir records to files in a directory, which must be there. They are named by the time: "<seconds>-<microseconds>".
func RecordToDir(dir string) (*Recorder, error) {
	fi, err := os.Stat(dir)
	if err == nil && !fi.IsDir() {
		err = unix.ENOTDIR
	}
	if err == nil {
		err = unix.Access(dir, unix.W_OK|unix.X_OK)
	}
	if err == nil {
		dir, err = filepath.Abs(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("tty_log_dir=%s: %w", dir, err)
	}
	return startRecorder(&Recorder{dir: dir, files: map[uint32]*os.File{}}), nil
}

func startRecorder(r *Recorder) *Recorder {
	r.work = sync.NewCond(&r.mu)
	r.done = make(chan struct{})
	go r.write()
	return r
}

// Open is the first open of a terminal.
func (r *Recorder) Open(tty, from uint32) {
	r.add(recOpen, tty, 0, binary.NativeEndian.AppendUint32(nil, from))
}

// Close is the last close of a terminal.
func (r *Recorder) Close(tty uint32) { r.add(recClose, tty, 0, nil) }

// Data is what was read or written.
func (r *Recorder) Data(tty uint32, read bool, p []byte) {
	direction := uint32(recWritten)
	if read {
		direction = recRead
	}
	r.add(recWrite, tty, direction, p)
}

// Exec is a program that was started.
func (r *Recorder) Exec(tty uint32, argv []string) {
	var b strings.Builder
	for _, a := range argv {
		if b.Len()+len(a) >= maxRecord {
			break
		}
		b.WriteString(a)
		b.WriteByte(0)
	}
	r.add(recExec, tty, 0, []byte(b.String()))
}

func (r *Recorder) add(op, tty, direction uint32, data []byte) {
	data = data[:min(len(data), maxRecord)]
	now := time.Now()
	b := make([]byte, 0, 24+len(data))
	for _, v := range [...]uint32{op, tty, uint32(len(data)), direction, uint32(now.Unix()), uint32(now.Nanosecond() / 1000)} {
		b = binary.NativeEndian.AppendUint32(b, v)
	}
	b = append(b, data...)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || r.queued+len(b) > maxRecorded {
		r.lost++
		return
	}
	r.queued += len(b)
	r.queue = append(r.queue, record{op, tty, now, b})
	r.work.Signal()
}

// write writes records until Close.
func (r *Recorder) write() {
	defer close(r.done)
	for {
		r.mu.Lock()
		for len(r.queue) == 0 && !r.closed {
			r.work.Wait()
		}
		batch, lost := r.queue, r.lost
		r.queue, r.lost = nil, 0
		over := r.closed
		r.mu.Unlock()
		for _, rec := range batch {
			if err := r.writeOne(rec); err != nil {
				klog.Once("tty log", "the log of terminals is not complete: %v", err)
			}
			r.mu.Lock()
			r.queued -= len(rec.bytes)
			r.mu.Unlock()
		}
		if lost > 0 {
			klog.Warnf("the log of terminals is not complete: %d records came faster than the host's file took them", lost)
		}
		if over && len(batch) == 0 {
			return
		}
	}
}

func (r *Recorder) writeOne(rec record) error {
	f := r.all
	if f == nil {
		var err error
		if f, err = r.file(rec); err != nil {
			return err
		}
	}
	_, err := f.Write(rec.bytes)
	if rec.op == recClose && r.all == nil {
		delete(r.files, rec.tty)
		f.Close()
	}
	return err
}

// file is the file of a terminal, a new one with its first record.
func (r *Recorder) file(rec record) (*os.File, error) {
	if f := r.files[rec.tty]; f != nil {
		return f, nil
	}
	at := rec.at
	for {
		name := filepath.Join(r.dir, fmt.Sprintf("%d-%d", at.Unix(), at.Nanosecond()/1000))
		f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o600)
		if os.IsExist(err) {
			at = at.Add(time.Microsecond)
			continue
		}
		if err == nil {
			r.files[rec.tty] = f
		}
		return f, err
	}
}

// Stop writes what is queued, for a second at most, and ends the record.
func (r *Recorder) Stop() {
	r.mu.Lock()
	r.closed = true
	r.work.Signal()
	r.mu.Unlock()
	select {
	case <-r.done:
	case <-time.After(time.Second):
	}
}
