package mm

import (
	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// Region is a line of /proc/<pid>/maps.
type Region struct {
	Start, End uint64
	Prot       uint32
	Shared     bool
	Off        uint64
	Dev, Ino   uint64
	// File is the mapped file (valid for its name only: there is no reference), or nil. Name is for what is no file:
	// "[heap]", "[stack]", "[vdso]".
	File *vfs.File
	Name string
}

// Maps lists the mappings as the guest sees them.
func (m *MM) Maps() ([]Region, error) {
	m.mu.Lock()
	defer m.unlock()
	// Under the lock no file mapping comes or goes by the kernel's doing between the two lists.
	host, err := m.as.Mappings()
	if err != nil {
		return nil, err
	}
	out := make([]Region, 0, len(host))
	for _, h := range host {
		if h.End > m.host.UserMax && !h.VDSO {
			continue
		}
		if h.File == (platform.FileID{}) {
			out = append(out, m.anonRegion(h))
			continue
		}
		for at := h.Start; at < h.End; {
			r := Region{Start: at, End: h.End, Prot: h.Prot, Shared: h.Shared}
			i := m.book.from(at)
			if i < len(m.book.areas) && m.book.areas[i].start <= at {
				a := m.book.areas[i]
				r.End = min(a.end, h.End)
				r.Off, r.Shared, r.File = a.off+at-a.start, a.shared, a.b.f
				st := r.File.Attr()
				r.Dev, r.Ino = st.Dev, st.Ino
			} else if i < len(m.book.areas) {
				r.End = min(m.book.areas[i].start, h.End)
			}
			at = r.End
			if n := len(out) - 1; n >= 0 && out[n].joins(&r) {
				out[n].End = r.End
				continue
			}
			out = append(out, r)
		}
	}
	return out, nil
}

// joins reports whether r goes on where a ends: pieces of one file mapping.
func (a *Region) joins(r *Region) bool {
	return r.File != nil && a.File == r.File && a.End == r.Start && a.Prot == r.Prot && a.Shared == r.Shared &&
		a.Off+(a.End-a.Start) == r.Off
}

func (m *MM) anonRegion(h platform.Mapping) Region {
	r := Region{Start: h.Start, End: h.End, Prot: h.Prot, Shared: h.Shared}
	switch {
	case h.VDSO:
		r.Name = "[vdso]"
	case h.Heap || m.brk > m.startBrk && h.Start < m.brk && h.End > m.startBrk:
		r.Name = "[heap]"
	case h.Start <= m.layout.StartStack && m.layout.StartStack < h.End:
		r.Name = "[stack]"
	}
	return r
}

// Sizes are the figures of /proc/<pid>/status and statm that come from the list of mappings, in bytes.
type Sizes struct{ Locked, Text, Data, Stack, Lib, Files uint64 }

// Sizes counts the mappings.
func (m *MM) Sizes() (Sizes, error) {
	rs, err := m.Maps()
	if err != nil {
		return Sizes{}, err
	}
	m.mu.Lock()
	s := Sizes{Locked: m.locked.total(), Text: m.layout.EndCode - m.layout.StartCode}
	m.mu.Unlock()
	for _, r := range rs {
		n := r.End - r.Start
		switch {
		case r.Name == "[stack]":
			s.Stack += n
		case r.Prot&unix.PROT_WRITE != 0 && !r.Shared:
			s.Data += n
		case r.File != nil && r.Prot&unix.PROT_EXEC != 0:
			s.Lib += n
		}
		if r.File != nil {
			s.Files += n
		}
	}
	s.Lib -= min(s.Lib, s.Text)
	return s, nil
}
