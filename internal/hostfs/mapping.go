package hostfs

import (
	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

const pageSize = 4096

// mappedFile is a file whose pages guests map: the host's own pages of it, so that all see the same content. One is made for
// reading; it is kept in a ring after its last use, as programs are run again and again. The one for writing goes with the
// last mapping.
type mappedFile struct {
	in   *inode
	host platform.HostFile
	h, w *handle
	used bool // guarded by in.mapMu
}

// Mapping implements vfs.Mappable. With the option append the content cannot be changed in place.
func (f *file) Mapping(_ vfs.Caller, _ *vfs.File, shared, write bool) (vfs.Mapping, error) {
	if shared && write && f.in.sb.append {
		return nil, unix.EPERM
	}
	return f.in, nil
}

// Extents implements vfs.Mapping.
func (in *inode) Extents(off, n uint64, shared, write bool) ([]vfs.Extent, error) {
	m, fresh, err := in.mappedFile(shared && write)
	if err != nil {
		return nil, err
	}
	if fresh && m.w == nil {
		in.sb.srv.maps.add(m)
	}
	var st unix.Statx_t
	if err := statx(m.h.fd, "", &st); err != nil {
		return nil, errno(err)
	}
	end := (st.Size + pageSize - 1) &^ (pageSize - 1)
	if off%pageSize != 0 || off >= end || n == 0 {
		return nil, nil
	}
	n = min((n+pageSize-1)&^(pageSize-1), end-off)
	return []vfs.Extent{{Off: off, Len: n, Host: &m.host, HostOff: off}}, nil
}

// mappedFile returns the file for a mapping that exists already, as Mapped has been told of it.
func (in *inode) mappedFile(write bool) (m *mappedFile, fresh bool, err error) {
	in.mapMu.Lock()
	defer in.mapMu.Unlock()
	at := &in.ro
	if write {
		at = &in.rw
		in.sb.wrote()
	}
	if *at != nil {
		(*at).used = true
		return *at, false, nil
	}
	m = &mappedFile{in: in, used: true, host: platform.HostFile{RW: -1}}
	m.host.ID = platform.FileID{Dev: in.id.dev, Ino: in.id.ino}
	if m.h, err = in.openRead(); err != nil {
		return nil, false, err
	}
	m.host.RO = m.h.fd
	if write {
		if m.w, err = in.openWrite(true); err != nil {
			m.h.put()
			return nil, false, err
		}
		m.host.RW = m.w.fd
	}
	*at = m
	return m, true, nil
}

// MSync implements vfs.Mapping.
func (in *inode) MSync(uint64, uint64) error {
	in.mapMu.Lock()
	m := in.rw
	if m == nil {
		m = in.ro
	}
	if m == nil || !m.h.tryGet() {
		in.mapMu.Unlock()
		return nil
	}
	in.mapMu.Unlock()
	defer m.h.put()
	return again(func() error { return unix.Fdatasync(m.h.fd) })
}

// Mapped implements vfs.Mapping.
func (in *inode) Mapped(delta int, write bool) {
	in.mapMu.Lock()
	defer in.mapMu.Unlock()
	in.mapped += delta
	if !write {
		return
	}
	was := in.mappedRW > 0
	in.mappedRW += delta
	switch now := in.mappedRW > 0; {
	case now && !was:
		in.sb.stores.Add(1)
	case was && !now:
		in.sb.wrote() // up to now
		in.sb.stores.Add(-1)
	}
	if in.mappedRW == 0 && in.rw != nil {
		in.rw.close()
		in.rw = nil
	}
}

// close gives up the descriptors, and those that stubs have.
func (m *mappedFile) close() {
	if m.host.OnClose != nil {
		m.host.OnClose()
	}
	m.h.put()
	if m.w != nil {
		m.w.put()
	}
}

// recent and evict implement ringed. A file that is locked is in use.
func (m *mappedFile) recent() bool {
	if !m.in.mapMu.TryLock() {
		return true
	}
	defer m.in.mapMu.Unlock()
	if m.in.mapped > 0 {
		return true
	}
	used := m.used
	m.used = false
	return used
}

func (m *mappedFile) evict() bool {
	if !m.in.mapMu.TryLock() {
		return false
	}
	defer m.in.mapMu.Unlock()
	if m.in.mapped > 0 {
		return false
	}
	if m.in.ro == m {
		m.in.ro = nil
		m.close()
	}
	return true
}

// closeMaps ends what mappings have left open.
func (in *inode) closeMaps() {
	in.mapMu.Lock()
	ro, rw := in.ro, in.rw
	in.ro, in.rw = nil, nil
	in.mapMu.Unlock()
	if ro != nil {
		in.sb.srv.maps.forget(ro)
		ro.close()
	}
	if rw != nil {
		rw.close()
	}
}
