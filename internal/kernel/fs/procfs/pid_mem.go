package procfs

import (
	"bytes"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
	"github.com/user-mode-linux/linux/internal/kernel/fs/pseudo"
	"github.com/user-mode-linux/linux/internal/kernel/mm"
	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/task"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// mm is the memory of the process with a reference, nil if it has ended. The access check of the entry is made again: the
// process may have executed a program that the caller may not look at since.
func (p *node) mm(c vfs.Caller) (*mm.MM, error) {
	t, err := p.task()
	if err != nil {
		return nil, err
	}
	m := t.MM()
	if m == nil || !m.TryGet() {
		return nil, nil
	}
	if err := p.allowed(c); err != nil {
		m.Put()
		return nil, err
	}
	return m, nil
}

// argMax bounds what is read of a program's arguments or environment.
const argMax = 8 << 20

// readRange copies memory [start, end) of m, as far as it can be read.
func readRange(m *mm.MM, start, end uint64) []byte {
	if end <= start {
		return nil
	}
	b := make([]byte, min(end-start, argMax))
	n, _ := m.ReadAt(b, start)
	return b[:n]
}

// cmdline is the text of /proc/<pid>/cmdline. A program that has overwritten the zero byte at the end of its arguments
// has set a title: one string that may reach into the environment.
func cmdline(l *mm.Layout, read func(start, end uint64) []byte) []byte {
	b := read(l.ArgStart, l.ArgEnd)
	if len(b) == 0 || b[len(b)-1] == 0 || uint64(len(b)) < l.ArgEnd-l.ArgStart {
		return b
	}
	if l.EnvEnd > l.ArgEnd {
		b = append(b, read(l.ArgEnd, min(l.EnvEnd, l.ArgEnd+abi.PageSize))...)
	}
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i+1]
	}
	return b
}

func showCmdline(p *node, c vfs.Caller, w *bytes.Buffer) error {
	m, err := p.mm(c)
	if err != nil || m == nil {
		return err
	}
	defer m.Put()
	l := m.Layout()
	w.Write(cmdline(&l, func(start, end uint64) []byte { return readRange(m, start, end) }))
	return nil
}

func showEnviron(p *node, c vfs.Caller, w *bytes.Buffer) error {
	m, err := p.mm(c)
	if err != nil || m == nil {
		return err
	}
	defer m.Put()
	l := m.Layout()
	w.Write(readRange(m, l.EnvStart, l.EnvEnd))
	return nil
}

func showAuxv(p *node, c vfs.Caller, w *bytes.Buffer) error {
	m, err := p.mm(c)
	if err != nil || m == nil {
		return err
	}
	defer m.Put()
	w.Write(m.Layout().Auxv)
	return nil
}

// formatRegion writes one line of maps; name is the last column.
func formatRegion(w *bytes.Buffer, r *mm.Region, name string) {
	flags := []byte("---p")
	for i, f := range []uint32{unix.PROT_READ, unix.PROT_WRITE, unix.PROT_EXEC} {
		if r.Prot&f != 0 {
			flags[i] = "rwx"[i]
		}
	}
	if r.Shared {
		flags[3] = 's'
	}
	start := w.Len()
	fmt.Fprintf(w, "%08x-%08x %s %08x %02x:%02x %d ", r.Start, r.End, flags, r.Off, unix.Major(r.Dev), unix.Minor(r.Dev), r.Ino)
	if name != "" {
		for w.Len()-start < 73 {
			w.WriteByte(' ')
		}
		w.WriteString(name)
	}
	w.WriteByte('\n')
}

// regionName is the last column of a line of maps.
func regionName(c vfs.Caller, r *mm.Region) string {
	if r.File == nil {
		return r.Name
	}
	return escape(fileName(c, r.File), "\n")
}

// eachRegion calls fn for each mapping of the process.
func (p *node) eachRegion(c vfs.Caller, fn func(m *mm.MM, r *mm.Region)) error {
	m, err := p.mm(c)
	if err != nil || m == nil {
		return err
	}
	defer m.Put()
	rs, err := m.Maps()
	if err != nil {
		return err
	}
	for i := range rs {
		fn(m, &rs[i])
	}
	return nil
}

func showMaps(p *node, c vfs.Caller, w *bytes.Buffer) error {
	return p.eachRegion(c, func(_ *mm.MM, r *mm.Region) { formatRegion(w, r, regionName(c, r)) })
}

// smapsInfo are the figures of one mapping, or of all, in bytes.
type smapsInfo struct{ rss, anon, swap, locked uint64 }

// formatSmaps writes the figures of smaps and smaps_rollup that follow a line of maps.
func formatSmaps(w *bytes.Buffer, s smapsInfo) {
	kb := func(name string, n uint64) { fmt.Fprintf(w, "%-16s%8d kB\n", name+":", n/1024) }
	kb("Rss", s.rss)
	kb("Pss", s.rss)
	kb("Pss_Dirty", s.anon)
	kb("Shared_Clean", 0)
	kb("Shared_Dirty", 0)
	kb("Private_Clean", s.rss-min(s.anon, s.rss))
	kb("Private_Dirty", s.anon)
	kb("Referenced", s.rss)
	kb("Anonymous", s.anon)
	for _, name := range []string{"KSM", "LazyFree", "AnonHugePages", "ShmemPmdMapped", "FilePmdMapped",
		"Shared_Hugetlb", "Private_Hugetlb"} {
		kb(name, 0)
	}
	kb("Swap", s.swap)
	kb("SwapPss", s.swap)
	kb("Locked", s.locked)
}

// vmFlags is the last line of a mapping in smaps.
func vmFlags(r *mm.Region) string {
	s := ""
	for _, f := range []struct {
		prot uint32
		name string
	}{{unix.PROT_READ, "rd "}, {unix.PROT_WRITE, "wr "}, {unix.PROT_EXEC, "ex "}} {
		if r.Prot&f.prot != 0 {
			s += f.name
		}
	}
	if r.Shared {
		s += "sh "
	}
	s += "mr mw me "
	if r.Shared {
		s += "ms "
	}
	if r.Name == "[stack]" {
		s += "gd "
	}
	return s
}

// showSmaps shows the mappings with what they have of memory. With whom they share it stays the host's knowledge: all counts
// as the process's own. What the host has in one mapping and the guest in two counts for the first of them.
func showSmaps(p *node, c vfs.Caller, w *bytes.Buffer) error {
	var rs []platform.Resident
	if m, err := p.mm(c); err == nil && m != nil {
		rs, _ = m.AddressSpace().Residents()
		m.Put()
	}
	return p.eachRegion(c, func(m *mm.MM, r *mm.Region) {
		s := smapsInfo{locked: m.Locked(r.Start, r.End)}
		for ; len(rs) > 0 && rs[0].Start < r.End; rs = rs[1:] {
			if rs[0].Start >= r.Start {
				s.rss, s.anon, s.swap = s.rss+rs[0].RSS, s.anon+rs[0].Anon, s.swap+rs[0].Swap
			}
		}
		formatRegion(w, r, regionName(c, r))
		fmt.Fprintf(w, "%-16s%8d kB\n", "Size:", (r.End-r.Start)/1024)
		fmt.Fprintf(w, "%-16s%8d kB\n", "KernelPageSize:", abi.PageSize/1024)
		fmt.Fprintf(w, "%-16s%8d kB\n", "MMUPageSize:", abi.PageSize/1024)
		formatSmaps(w, s)
		fmt.Fprintf(w, "%-16s%8d\nVmFlags: %s\n", "THPeligible:", 0, vmFlags(r))
	})
}

func showSmapsRollup(p *node, c vfs.Caller, w *bytes.Buffer) error {
	m, err := p.mm(c)
	if err != nil {
		return err
	}
	if m == nil {
		return unix.ESRCH
	}
	defer m.Put()
	rs, err := m.Maps()
	if err != nil {
		return err
	}
	u, err := m.AddressSpace().Usage()
	if err != nil {
		u = platform.Usage{}
	}
	all := mm.Region{}
	if len(rs) > 0 {
		all.Start, all.End = rs[0].Start, rs[len(rs)-1].End
	}
	formatRegion(w, &all, "[rollup]")
	formatSmaps(w, smapsInfo{rss: u.RSS, anon: u.Anon, swap: u.Swap, locked: m.Locked(all.Start, all.End)})
	return nil
}

// storeClearRefs takes what clear_refs knows. The bits are the host's and are not cleared, except the peak, which the
// host keeps, too.
func storeClearRefs(p *node, _ vfs.Caller, b []byte) error {
	_, err := pseudo.ParseInt(b, 1, 5)
	return err
}

// memFile is an open /proc/<pid>/mem: reads and writes go to the address space that the process had at open.
type memFile struct {
	vfs.FileBase
	m *mm.MM // nil if the process had ended
}

func openMem(p *node, c vfs.Caller, _ *vfs.File) (vfs.FileOps, error) {
	m, err := p.mm(c)
	if err != nil {
		return nil, err
	}
	return &memFile{m: m}, nil
}

// Release implements vfs.FileOps.
func (f *memFile) Release(*vfs.File) {
	if f.m != nil {
		f.m.Put()
	}
}

// memChunk is how much is copied at a time.
const memChunk = 64 << 10

// Read implements vfs.FileOps: EIO where nothing is mapped.
func (f *memFile) Read(_ vfs.Caller, _ *vfs.File, dst *uio.Dst, off int64) (done int, err error) {
	if f.m == nil {
		return 0, nil
	}
	buf := make([]byte, min(dst.Len(), memChunk))
	for dst.Len() > 0 {
		n, _ := f.m.ReadAt(buf[:min(dst.Len(), len(buf))], uint64(off)+uint64(done))
		if n == 0 {
			break
		}
		k, err := dst.CopyOut(buf[:n])
		done += k
		if err != nil {
			return done, err
		}
	}
	if done == 0 && dst.Len() > 0 {
		return 0, unix.EIO
	}
	return done, nil
}

// Write implements vfs.FileOps.
func (f *memFile) Write(c vfs.Caller, _ *vfs.File, src *uio.Src, off int64) (done int, err error) {
	if f.m == nil {
		return 0, nil
	}
	buf := make([]byte, min(src.Len(), memChunk))
	for src.Len() > 0 {
		n, err := src.CopyIn(buf[:min(src.Len(), len(buf))])
		if err != nil && n == 0 {
			return done, err
		}
		at := uint64(off) + uint64(done)
		k, _ := f.m.WriteAt(buf[:n], at)
		if t, ok := c.(*task.Task); ok && k < n {
			if x := t.StoppedTracee(f.m); x != nil && x.PokeMem(buf[k:n], at+uint64(k)) == nil {
				k = n
			}
		}
		done += k
		if k < n {
			break
		}
	}
	if done == 0 && src.Len() > 0 {
		return 0, unix.EIO
	}
	return done, nil
}

// Seek implements vfs.Seeker: any address is a position.
func (f *memFile) Seek(_ vfs.Caller, file *vfs.File, off int64, whence int) (int64, error) {
	switch whence {
	case unix.SEEK_SET:
		return off, nil
	case unix.SEEK_CUR:
		return file.Pos() + off, nil
	}
	return 0, unix.EINVAL
}
