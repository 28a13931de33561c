package chrdev

import (
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/klog"
	"github.com/user-mode-linux/linux/internal/kernel/ktime"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
	"github.com/user-mode-linux/linux/internal/kernel/wait"
)

// The actions of syslog(2).
const (
	SyslogClose = iota
	SyslogOpen
	SyslogRead
	SyslogReadAll
	SyslogReadClear
	SyslogClear
	SyslogConsoleOff
	SyslogConsoleOn
	SyslogConsoleLevel
	SyslogSizeUnread
	SyslogSizeBuffer
)

// bufferSize is what SyslogSizeBuffer tells: enough for READ_ALL of a log of usual lines.
const bufferSize = 1 << 18

// syslogRead is the position of SYSLOG_ACTION_READ and /proc/kmsg, which all their readers share.
var syslogRead struct {
	sync.Mutex
	seq    uint64
	offset int // bytes of record seq that were already read
	// saved is the console level before SYSLOG_ACTION_CONSOLE_OFF, plus 1.
	saved klog.Level
}

// syslogAllowed is the permission check (kernel.dmesg_restrict is 0).
func syslogAllowed(c vfs.Caller, action int) error {
	if action == SyslogReadAll || action == SyslogSizeBuffer ||
		c.Cred().Capable(unix.CAP_SYSLOG) || c.Cred().Capable(unix.CAP_SYS_ADMIN) {
		return nil
	}
	return unix.EPERM
}

// Syslog is syslog(2).
func Syslog(c vfs.Caller, action int, buf uint64, n int32) (uint64, error) {
	if action < SyslogClose || action > SyslogSizeBuffer {
		return 0, unix.EINVAL
	}
	if err := syslogAllowed(c, action); err != nil {
		return 0, err
	}
	switch action {
	case SyslogRead, SyslogReadAll, SyslogReadClear:
		if buf == 0 || n < 0 {
			return 0, unix.EINVAL
		}
		if n == 0 {
			return 0, nil
		}
		var dst uio.Dst
		dst.Reset(c.Mem(), buf, uint64(n))
		var k int
		var err error
		if action == SyslogRead {
			k, err = ReadSyslog(c, &dst, false)
		} else {
			k, err = readAll(&dst, action == SyslogReadClear)
		}
		return uint64(k), err
	case SyslogClear:
		klog.Clear()
	case SyslogConsoleOff, SyslogConsoleOn, SyslogConsoleLevel:
		return 0, setConsole(action, n)
	case SyslogSizeUnread:
		return uint64(unread()), nil
	case SyslogSizeBuffer:
		return bufferSize, nil
	}
	return 0, nil
}

// setConsole is SYSLOG_ACTION_CONSOLE_*.
func setConsole(action int, n int32) error {
	s := &syslogRead
	s.Lock()
	defer s.Unlock()
	switch action {
	case SyslogConsoleOff:
		if old := klog.SetConsoleLevel(1); s.saved == 0 {
			s.saved = old + 1
		}
	case SyslogConsoleOn:
		if s.saved != 0 {
			klog.SetConsoleLevel(s.saved - 1)
			s.saved = 0
		}
	default:
		if n < 1 || n > 8 {
			return unix.EINVAL
		}
		klog.SetConsoleLevel(klog.Level(n))
		s.saved = 0
	}
	return nil
}

// syslogLine is "<prio>[time] text\n".
func syslogLine(b []byte, r *klog.Record) []byte {
	b = append(b, '<')
	b = strconv.AppendUint(b, uint64(r.Facility)<<3|uint64(r.Level), 10)
	b = append(b, '>')
	b = append(b, r.String()...)
	return append(b, '\n')
}

// unread is the size of what SYSLOG_ACTION_READ would return.
func unread() int {
	s := &syslogRead
	s.Lock()
	seq, n := s.seq, -s.offset
	s.Unlock()
	for {
		recs, _ := klog.From(seq, 256)
		if len(recs) == 0 {
			return max(n, 0)
		}
		for i := range recs {
			n += len(syslogLine(nil, &recs[i]))
		}
		seq = recs[len(recs)-1].Seq + 1
	}
}

// ReadSyslog is SYSLOG_ACTION_READ and the read of /proc/kmsg: it waits for messages and consumes them.
func ReadSyslog(c vfs.Caller, dst *uio.Dst, nonblock bool) (int, error) {
	if dst.Len() == 0 {
		return 0, nil
	}
	s := &syslogRead
	for {
		s.Lock()
		b := takeSyslog(min(dst.Len(), 64<<10))
		seq := s.seq
		s.Unlock()
		if len(b) > 0 {
			return dst.CopyOut(b)
		}
		if nonblock {
			return 0, unix.EAGAIN
		}
		err := klog.Queue.Wait(c, wait.Readable, ktime.Forever, func() bool { return klog.Next() > seq })
		if err != nil {
			return 0, err
		}
	}
}

// takeSyslog consumes up to n bytes; syslogRead is locked.
func takeSyslog(n int) []byte {
	s := &syslogRead
	var b []byte
	for len(b) < n {
		recs, lost := klog.From(s.seq, 1)
		if len(recs) == 0 {
			break
		}
		if lost {
			s.offset = 0
		}
		s.seq = recs[0].Seq
		line := syslogLine(nil, &recs[0])[s.offset:]
		if k := n - len(b); k < len(line) {
			s.offset += k
			return append(b, line[:k]...)
		}
		b = append(b, line...)
		s.seq, s.offset = s.seq+1, 0
	}
	return b
}

// SyslogReady tells whether ReadSyslog would return at once, for poll of /proc/kmsg; the queue is klog.Queue.
func SyslogReady() bool {
	syslogRead.Lock()
	defer syslogRead.Unlock()
	return klog.Next() > syslogRead.seq
}

// readAll is SYSLOG_ACTION_READ_ALL: the newest messages that fit, oldest first, without consuming them.
func readAll(dst *uio.Dst, clear bool) (int, error) {
	var lines [][]byte
	for seq := klog.Cleared(); ; {
		recs, _ := klog.From(seq, 256)
		if len(recs) == 0 {
			break
		}
		for i := range recs {
			lines = append(lines, syslogLine(nil, &recs[i]))
		}
		seq = recs[len(recs)-1].Seq + 1
	}
	first, size := len(lines), 0
	for first > 0 && size+len(lines[first-1]) <= dst.Len() {
		first--
		size += len(lines[first])
	}
	done := 0
	for _, l := range lines[first:] {
		k, err := dst.CopyOut(l)
		done += k
		if err != nil {
			return 0, err
		}
	}
	if clear {
		klog.Clear()
	}
	return done, nil
}
