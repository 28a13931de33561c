package ipc

import (
	"math"
	"sync/atomic"
)

// The limits that cannot be changed.
const (
	ShmMin  = 1
	SemVMX  = 32767
	SemAEM  = SemVMX
	SemUsz  = 20
	MsgPool = 32000 * 16384 / 1024
	MsgTql  = 16384
	MsgMap  = 16384
	MsgSsz  = 16
	MsgSeg  = 0xffff
)

// Limits are the settings of /proc/sys/kernel (sysvipc(7)).
type Limits struct {
	ShmMax, ShmAll                 atomic.Uint64 // bytes, pages
	ShmMni, ShmRmidForced          atomic.Int64
	SemMsl, SemMns, SemOpm, SemMni atomic.Int64
	MsgMax, MsgMnb, MsgMni         atomic.Int64
}

func (l *Limits) init() {
	const huge = 1<<64 - 1 - 1<<24
	l.ShmMax.Store(huge)
	l.ShmAll.Store(huge)
	l.ShmMni.Store(4096)
	l.SemMsl.Store(32000)
	l.SemMns.Store(32000 * 32000)
	l.SemOpm.Store(500)
	l.SemMni.Store(32000)
	l.MsgMax.Store(8192)
	l.MsgMnb.Store(16384)
	l.MsgMni.Store(32000)
}

// pageCount counts what a limit bounds.
type pageCount struct{ n atomic.Int64 }

// take adds n unless the sum would be more than limit.
func (p *pageCount) take(n int64, limit uint64) bool {
	if s := p.n.Add(n); s < 0 || uint64(s) > min(limit, math.MaxInt64) {
		p.n.Add(-n)
		return false
	}
	return true
}
