package bdev

import (
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/user-mode-linux/linux/internal/kernel/ktime"
)

// Stats are a node's counters, as /proc/diskstats has them (Documentation/admin-guide/iostats.rst).
type Stats struct {
	Read, Write, Discard, Flush Counter

	inFlight [2]atomic.Int64 // reads, and everything else
	busy     atomic.Int64    // nanoseconds with something in flight
	since    atomic.Int64    // until when busy has been counted
}

// Counter counts requests of one kind.
type Counter struct {
	Requests, Merged, Sectors, Nanos atomic.Uint64
}

func (c *Counter) String() string {
	return fmt.Sprintf("%d %d %d %d", c.Requests.Load(), c.Merged.Load(), c.Sectors.Load(), c.Nanos.Load()/1e6)
}

// InFlight is how many reads and how many other requests are being served.
func (s *Stats) InFlight() (reads, others int64) { return s.inFlight[0].Load(), s.inFlight[1].Load() }

// Line is the node's columns of /proc/diskstats and of /sys/block/*/stat after the name.
func (s *Stats) Line() string {
	var b strings.Builder
	r, w := s.InFlight()
	sum := uint64(0)
	for _, c := range []*Counter{&s.Read, &s.Write, &s.Discard, &s.Flush} {
		sum += c.Nanos.Load()
	}
	fmt.Fprintf(&b, "%v %v %d %d %d %v %d %d", &s.Read, &s.Write, r+w, s.busy.Load()/1e6, sum/1e6,
		&s.Discard, s.Flush.Requests.Load(), s.Flush.Nanos.Load()/1e6)
	return b.String()
}

// kind of a request.
type kind int

const (
	kindRead kind = iota
	kindWrite
	kindDiscard
	kindFlush
)

func (s *Stats) counter(k kind) *Counter {
	return [...]*Counter{&s.Read, &s.Write, &s.Discard, &s.Flush}[k]
}

// enter and leave keep the time in which something is in flight, which is counted whenever a request begins or ends.
func (s *Stats) enter(k kind, now int64) {
	i := min(k, 1)
	if since := s.since.Swap(now); s.inFlight[0].Load()+s.inFlight[1].Load() > 0 {
		s.busy.Add(max(now-since, 0))
	}
	s.inFlight[i].Add(1)
}

func (s *Stats) leave(k kind, now int64) {
	s.busy.Add(max(now-s.since.Swap(now), 0))
	s.inFlight[min(k, 1)].Add(-1)
}

func (c *Counter) add(size, nanos int64) {
	c.Requests.Add(1)
	c.Sectors.Add(uint64(size+SectorSize-1) / SectorSize)
	c.Nanos.Add(uint64(nanos))
}

// begin begins a request and returns the time. What is counted for a partition is counted for its disk, too.
func (n *Node) begin(k kind) int64 {
	now := ktime.Monotonic()
	n.Stats.enter(k, now)
	if n.partno != 0 {
		n.disk.whole.Stats.enter(k, now)
	}
	return now
}

// end ends a request of size bytes.
func (n *Node) end(k kind, began, size int64) {
	now := ktime.Monotonic()
	n.Stats.leave(k, now)
	n.Stats.counter(k).add(size, now-began)
	if n.partno != 0 {
		n.disk.whole.Stats.leave(k, now)
		n.disk.whole.Stats.counter(k).add(size, now-began)
	}
}

// mergedWrites counts writes that went to the device as a part of others.
func (n *Node) mergedWrites(count int) {
	n.Stats.Write.Merged.Add(uint64(count))
	if n.partno != 0 {
		n.disk.whole.Stats.Write.Merged.Add(uint64(count))
	}
}
