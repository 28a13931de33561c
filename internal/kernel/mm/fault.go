package mm

import (
	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
	"github.com/user-mode-linux/linux/internal/kernel/arch"
	"github.com/user-mode-linux/linux/internal/kernel/platform"
)

// faultAround is how much of a grown file is mapped at once.
const faultAround = 256 << 10

// HandleFault decides about a CPU exception of a held thread. If resolved is true the thread can run on; else info is the
// signal it gets. The error is ErrOffload, or nil.
func (m *MM) HandleFault(t platform.Thread, ev *platform.Event) (info arch.Siginfo, resolved bool, err error) {
	info = arch.InfoFault(ev.Signal, ev.Code, ev.Addr)
	switch ev.Signal {
	case unix.SIGSEGV:
		if ev.Code > 0 && ev.Code != arch.SI_KERNEL && ev.Addr >= m.host.UserMax {
			info.Code = arch.SEGV_MAPERR // whatever the platform has there
		}
	case unix.SIGBUS:
		if ev.Code != arch.BUS_ADRERR {
			if ev.Code > arch.BUS_OBJERR {
				info.Code = arch.BUS_ADRERR // memory failure of the host
			}
			return info, false, nil
		}
		if t.OnTracer() {
			return info, false, ErrOffload
		}
		return info, m.mapGrown(t, abi.PageDown(ev.Addr)), nil
	}
	return info, false, nil
}

// mapGrown maps the page at addr, which was beyond the end of its file when it was mapped, if the file has it now.
func (m *MM) mapGrown(t platform.Thread, addr uint64) bool {
	m.mu.Lock()
	defer m.unlock()
	a, ok := m.book.at(addr)
	if !ok {
		return false
	}
	off, n := a.off+addr-a.start, min(a.end-addr, faultAround)
	ext, err := a.b.m.Extents(off, n, a.shared, a.write)
	if err != nil || len(ext) == 0 || ext[0].Host == nil || ext[0].Off > off {
		return false
	}
	host, err := m.as.Mappings()
	if err != nil {
		return false
	}
	for _, h := range host {
		if addr < h.Start || addr >= h.End {
			continue
		}
		if h.File != m.host.Empty.ID {
			// It is the file that is mapped here, not the tail: a real I/O error, or another thread was faster.
			return h.File != ext[0].Host.ID || h.Off+addr-h.Start != ext[0].HostOff+off-ext[0].Off
		}
		n = min(n, h.End-addr)
		m.ops = appendFile(m.ops[:0], m.host.Empty, addr, off, n, h.Prot, a.shared, a.write, ext)
		return t.Map(m.ops) == nil
	}
	return false
}
