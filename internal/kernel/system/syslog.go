package system

import (
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/klog"
	"github.com/user-mode-linux/linux/internal/kernel/ktime"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/wait"
)

// syslog is the one reader that SYSLOG_ACTION_READ and /proc/kmsg share: what one has read is gone for the other.
var syslog struct {
	sync.Mutex
	seq  uint64 // next record
	rest []byte // unread end of the record before it

	saved klog.Level // console level before MuteConsole
	muted bool
}

// appendRecord appends a message as syslog(2) shows it: "<6>[    0.000000] text".
func appendRecord(b []byte, r klog.Record) []byte {
	b = append(b, '<')
	b = strconv.AppendUint(b, uint64(r.Facility)<<3|uint64(r.Level), 10)
	b = append(b, '>')
	b = append(b, r.String()...)
	return append(b, '\n')
}

// ReadSyslog reads the next messages into dst, and waits for one if there is none.
func ReadSyslog(s wait.Sleeper, dst *uio.Dst, nonblock bool) (int, error) {
	for {
		n, err := readSyslog(dst)
		if n > 0 || err != nil {
			return n, err
		}
		if nonblock {
			return 0, unix.EAGAIN
		}
		if err := klog.Queue.Wait(s, wait.Readable, ktime.Forever, SyslogReady); err != nil {
			return 0, err
		}
	}
}

func readSyslog(dst *uio.Dst) (done int, err error) {
	syslog.Lock()
	defer syslog.Unlock()
	for dst.Len() > 0 {
		if len(syslog.rest) == 0 {
			recs, _ := klog.From(syslog.seq, 1)
			if len(recs) == 0 {
				break
			}
			syslog.seq = recs[0].Seq + 1
			syslog.rest = appendRecord(nil, recs[0])
		}
		n, err := dst.CopyOut(syslog.rest)
		syslog.rest = syslog.rest[n:]
		done += n
		if err != nil {
			if done > 0 {
				err = nil
			}
			return done, err
		}
	}
	return done, nil
}

// SyslogReady reports whether ReadSyslog would find something.
func SyslogReady() bool {
	syslog.Lock()
	defer syslog.Unlock()
	return len(syslog.rest) > 0 || syslog.seq < klog.Next()
}

// SyslogUnread is the number of bytes that ReadSyslog could return now.
func SyslogUnread() int {
	syslog.Lock()
	defer syslog.Unlock()
	n := len(syslog.rest)
	recs, _ := klog.From(syslog.seq, 1<<30)
	var b []byte
	for _, r := range recs {
		b = appendRecord(b[:0], r)
		n += len(b)
	}
	return n
}

// SyslogTail returns the last messages, at most max bytes of whole ones, since they were last cleared.
func SyslogTail(max int) []byte {
	recs, _ := klog.From(klog.Cleared(), 1<<30)
	var out []byte
	starts := make([]int, 0, len(recs))
	for _, r := range recs {
		starts = append(starts, len(out))
		out = appendRecord(out, r)
	}
	total := len(out)
	for _, at := range starts {
		if total-at <= max {
			return out[at:]
		}
	}
	return nil
}

// MuteConsole implements SYSLOG_ACTION_CONSOLE_OFF and _ON.
func MuteConsole(off bool) {
	syslog.Lock()
	defer syslog.Unlock()
	switch {
	case off && !syslog.muted:
		syslog.saved, syslog.muted = klog.SetConsoleLevel(1), true
	case !off && syslog.muted:
		klog.SetConsoleLevel(syslog.saved)
		syslog.muted = false
	}
}
