package bdev

import (
	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/abi"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// mapping is a node as mmap(2) sees its block special file: the pages are those of the host file that holds the device's
// bytes, so that loads, stores, read(2) and write(2) meet there. What a mounted file system has in memory only is not in
// them, and it does not hear of stores: unlike read(2) and write(2), a mapping is not coherent with a file system mounted on
// the device.
type mapping Node

// Mapping is vfs.Mappable's: ENODEV if the device's bytes are in no pages of the host.
func (s *special) Mapping(vfs.Caller, *vfs.File, bool, bool) (vfs.Mapping, error) {
	if _, ok := s.n.disk.Dev.(PageMapper); !ok || s.n.start%abi.PageSize != 0 {
		return nil, unix.ENODEV
	}
	if c, ok := s.n.disk.Dev.(MapCounter); ok && !c.CanMap() {
		return nil, unix.ENODEV
	}
	return (*mapping)(s.n), nil
}

// mappable is the end of what can be mapped: the last page of a disk may be one in part, but in that of a partition another
// one may begin.
func (n *Node) mappable() int64 {
	if n.partno != 0 {
		return n.Size() &^ (abi.PageSize - 1)
	}
	return int64(abi.PageUp(uint64(n.Size())))
}

// Extents is vfs.Mapping's. What a device does not hand out at once is asked for when it is touched.
func (m *mapping) Extents(off, n uint64, shared, _ bool) (list []vfs.Extent, err error) {
	node := (*Node)(m)
	dev, ok := node.disk.Dev.(PageMapper)
	end := uint64(node.mappable())
	if !ok || off >= end {
		return nil, nil
	}
	node.disk.wb.clean(node.start+int64(off), int64(min(n, end-off)))
	for end = off + min(n, end-off); off < end; {
		h, at, k, err := dev.HostPages(node.start+int64(off), int64(end-off), shared)
		if err != nil && len(list) == 0 {
			return nil, err
		}
		if k = k &^ (abi.PageSize - 1); err != nil || h == nil || k <= 0 || at%abi.PageSize != 0 {
			break
		}
		if i := len(list) - 1; i >= 0 && list[i].Host == h && list[i].HostOff+list[i].Len == uint64(at) {
			list[i].Len += uint64(k)
		} else if len(list) == maxExtents {
			break
		} else {
			list = append(list, vfs.Extent{Off: off, Len: uint64(k), Host: h, HostOff: uint64(at)})
		}
		if off += uint64(k); shared {
			break // each piece may have cost the device something
		}
	}
	return list, nil
}

// maxExtents is how many host mappings one mapping is made of before somebody touches the rest.
const maxExtents = 64

// MSync is vfs.Mapping's: the host writes its pages back.
func (m *mapping) MSync(uint64, uint64) error { return (*Node)(m).flush() }

// Mapped is vfs.Mapping's. The open file that a mapping holds keeps the disk. Loads and stores go to the host's pages, so
// that nothing is held back from them meanwhile.
func (m *mapping) Mapped(delta int, write bool) {
	if c, ok := m.disk.Dev.(MapCounter); ok {
		c.Mapped(delta, write)
	}
	if write {
		m.disk.wb.changed() // it may have been; while stores is more than 0 it may be at any time
		m.disk.wb.stores.Add(int32(delta))
	}
	for ; delta > 0; delta-- {
		m.disk.wb.stopHolding()
	}
	for ; delta < 0; delta++ {
		m.disk.wb.holdAgain()
	}
}
