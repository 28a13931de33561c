package mm

import (
	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
	"github.com/user-mode-linux/linux/internal/kernel/arch"
	"github.com/user-mode-linux/linux/internal/kernel/platform"
)

// faultAround is how much of a file is mapped at once when a page is touched that was left out: the file has grown since,
// or the file system did not want to read all of it at mmap.
const faultAround = 1 << 20

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
		_, there := m.FaultIn(t, ev.Addr, 0)
		return info, there, nil
	}
	return info, false, nil
}

// FaultIn maps the page at addr, which its file did not have when it was mapped, if the file has it now. there reports whether
// it can be accessed as prot says, so that what failed should be done again, and mapped that it could not before. It may sleep.
func (m *MM) FaultIn(t platform.Thread, addr uint64, prot uint32) (mapped, there bool) {
	addr = abi.PageDown(addr)
	m.mu.Lock()
	a, ok := m.book.at(addr)
	if !ok {
		m.mu.Unlock()
		return false, false
	}
	a.b.refs.Add(1)
	m.mu.Unlock()
	defer a.b.Put()

	off, n := a.off+addr-a.start, min(a.end-addr, faultAround)
	ext, err := a.b.m.Extents(off, n, a.shared, a.write)
	if err != nil || len(ext) == 0 || ext[0].Host == nil || ext[0].Off > off || ext[0].Off+ext[0].Len <= off {
		return false, false
	}
	m.mu.Lock()
	defer m.unlock()
	if b, ok := m.book.at(addr); !ok || b.b != a.b || b.off+addr-b.start != off || b.end < addr+n {
		return false, true // changed meanwhile: let it fault again
	}
	host, err := m.as.Mappings()
	if err != nil {
		return false, false
	}
	for _, h := range host {
		if addr < h.Start || addr >= h.End {
			continue
		}
		if prot&^h.Prot != 0 {
			return false, false
		}
		if h.File != m.host.Empty.ID {
			// Another thread was faster, or there is a real I/O error.
			var p [1]byte
			_, err := m.as.ReadAt(p[:], addr)
			return false, err == nil
		}
		n = min(n, h.End-addr)
		m.ops = appendFile(m.ops[:0], m.host.Empty, addr, off, n, h.Prot, a.shared, a.write, ext)
		err := t.Map(m.ops)
		return err == nil, err == nil
	}
	return false, false
}

// MayFaultIn reports whether FaultIn could find something at addr. It does not sleep.
func (m *MM) MayFaultIn(addr uint64) bool {
	if !m.mu.TryLock() {
		return true
	}
	defer m.mu.Unlock()
	_, ok := m.book.at(abi.PageDown(addr))
	return ok
}
