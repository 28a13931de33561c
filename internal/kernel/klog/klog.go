// Package klog is the guest kernel's log: printk, dmesg and /dev/kmsg.
//
// Messages go into a ring that syslog(2) and /dev/kmsg read, and, up to the console log level, to the sinks that the
// consoles register.
package klog

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/user-mode-linux/linux/internal/kernel/ktime"
	"github.com/user-mode-linux/linux/internal/kernel/wait"
)

// Level is a printk level, 0 (emergency) to 7 (debug).
type Level uint8

// The levels of syslog(2).
const (
	Emerg Level = iota
	Alert
	Crit
	Err
	Warning
	Notice
	Info
	Debug
)

// Record is one message.
type Record struct {
	Seq   uint64
	Level Level
	// Facility is 0 for the kernel's own messages, else what a writer of /dev/kmsg gave (syslog(3) facility number).
	Facility uint8
	// Time is nanoseconds since boot.
	Time int64
	Text string
}

// String is the line that consoles and dmesg show, without a newline.
func (r Record) String() string {
	return fmt.Sprintf("[%5d.%06d] %s", r.Time/1e9, r.Time%1e9/1000, r.Text)
}

const ringSize = 4096 // records

var log struct {
	sync.Mutex
	ring         []Record
	first        uint64 // sequence number of ring's first record
	clear        uint64 // records before this are hidden by SYSLOG_ACTION_CLEAR
	consoleLevel Level
	sinks        []*func(Record)
	once         map[string]bool
}

// Queue is notified when a message is added.
var Queue wait.Queue

func init() { log.consoleLevel = 7 }

// Printf logs a message at a level.
func Printf(l Level, format string, args ...any) {
	for line := range strings.SplitSeq(strings.TrimRight(fmt.Sprintf(format, args...), "\n"), "\n") {
		Write(l, 0, line)
	}
}

// Infof logs at level Info, Warnf at Warning, Errf at Err.
func Infof(format string, args ...any) { Printf(Info, format, args...) }

// Warnf logs at level Warning.
func Warnf(format string, args ...any) { Printf(Warning, format, args...) }

// Errf logs at level Err.
func Errf(format string, args ...any) { Printf(Err, format, args...) }

// Once logs a warning the first time that key is seen.
func Once(key, format string, args ...any) { OnceAt(Warning, key, format, args...) }

// OnceAt is Once for any level.
func OnceAt(l Level, key, format string, args ...any) {
	log.Lock()
	if log.once == nil {
		log.once = map[string]bool{}
	}
	seen := log.once[key]
	if len(log.once) < 10000 {
		log.once[key] = true
	}
	log.Unlock()
	if !seen {
		Printf(l, format, args...)
	}
}

// Write adds one line.
func Write(l Level, facility uint8, text string) {
	log.Lock()
	r := Record{Seq: log.first + uint64(len(log.ring)), Level: l, Facility: facility, Time: int64(ktime.Uptime()), Text: text}
	if len(log.ring) >= ringSize {
		drop := ringSize / 4
		log.ring = append(log.ring[:0], log.ring[drop:]...)
		log.first += uint64(drop)
	}
	log.ring = append(log.ring, r)
	var sinks []*func(Record)
	if l < log.consoleLevel {
		sinks = log.sinks
	}
	log.Unlock()
	for _, f := range sinks {
		(*f)(r)
	}
	Queue.Notify(wait.In | wait.RdNorm)
}

// AddSink registers a console. It is first called with everything logged so far at the console level. remove ends it.
func AddSink(f func(Record)) (remove func()) {
	log.Lock()
	old := append([]Record(nil), log.ring...)
	level := log.consoleLevel
	s := &f
	log.sinks = append(log.sinks[:len(log.sinks):len(log.sinks)], s)
	log.Unlock()
	for _, r := range old {
		if r.Level < level {
			f(r)
		}
	}
	return func() {
		log.Lock()
		defer log.Unlock()
		log.sinks = slices.DeleteFunc(slices.Clone(log.sinks), func(x *func(Record)) bool { return x == s })
	}
}

// SetConsoleLevel sets the console log level: messages below it are shown. It returns the old one.
func SetConsoleLevel(l Level) Level {
	log.Lock()
	defer log.Unlock()
	old := log.consoleLevel
	log.consoleLevel = l
	return old
}

// ConsoleLevel is the current console log level.
func ConsoleLevel() Level {
	log.Lock()
	defer log.Unlock()
	return log.consoleLevel
}

// From returns up to max records with sequence number seq or later, and whether some before the first were lost.
func From(seq uint64, max int) (recs []Record, lost bool) {
	log.Lock()
	defer log.Unlock()
	if seq < log.first {
		seq, lost = log.first, true
	}
	i := seq - log.first
	if i >= uint64(len(log.ring)) {
		return nil, lost
	}
	return append(recs, log.ring[i:min(i+uint64(max), uint64(len(log.ring)))]...), lost
}

// Next is the sequence number that the next message will have; First that of the oldest kept and Clear that of the first
// not hidden by SYSLOG_ACTION_CLEAR.
func Next() uint64 { log.Lock(); defer log.Unlock(); return log.first + uint64(len(log.ring)) }

// First is the sequence number of the oldest record kept.
func First() uint64 { log.Lock(); defer log.Unlock(); return log.first }

// Cleared is the sequence number of the first record not hidden by Clear.
func Cleared() uint64 { log.Lock(); defer log.Unlock(); return max(log.clear, log.first) }

// Clear hides all records so far from SYSLOG_ACTION_READ_ALL.
func Clear() { log.Lock(); log.clear = log.first + uint64(len(log.ring)); log.Unlock() }
