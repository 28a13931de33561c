package bdev

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/klog"
	"github.com/user-mode-linux/linux/internal/kernel/platform"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// Major is the block major number of ubd disks (Documentation/admin-guide/devices.txt), and MinorsPerDisk how many minor
// numbers each has: itself and 15 partitions.
const (
	Major         = 98
	MinorsPerDisk = 16
)

// ExtMajor is the major number of partitions that have no minor number of their disk (BLOCK_EXT_MAJOR).
const ExtMajor = 259

// maxParts is the largest partition number.
const maxParts = 255

// Disk is a whole disk as a driver registers it. All fields are immutable after Register.
type Disk struct {
	Dev Device
	// Index is the unit number; the name (ubda) and minor numbers follow from it.
	Index int
	// Major, Minors and Name are for disks that are no ubd: the major number, how many minor numbers a disk has (1: only
	// itself), and its name. Path is where it is below /sys/devices, without its name.
	Major        uint32
	Minors       int
	Name, Path   string
	NoPartitions bool // no partitions are looked for
	// Serial is shown in sysfs and answers HDIO_GET_IDENTITY.
	Serial string

	whole *Node
	parts atomic.Pointer[[]*Node]
	wb    writeback

	seq       atomic.Uint64
	readAhead atomic.Int64 // in sectors, of who reads the special file in order

	rescan sync.Mutex // held while partitions are changed
}

// LastCloser is a Device that wants to know when the last user of the disk and its partitions has gone.
type LastCloser interface{ LastClose() }

// Ioctler is a Device with requests of its own; ENOTTY for others.
type Ioctler interface {
	Ioctl(c vfs.Caller, f *vfs.File, cmd uint32, arg uint64) (uint64, error)
}

// PartScanner is a Device of which partitions are only looked for at times, whatever NoPartitions says.
type PartScanner interface{ PartScan() bool }

// scans reports whether BLKRRPART looks for partitions.
func (d *Disk) scans() bool {
	if s, ok := d.Dev.(PartScanner); ok {
		return s.PartScan()
	}
	return !d.NoPartitions
}

// Describer is a Device with a directory of its own in sysfs; without attributes it is not there. It is asked again after
// Resized.
type Describer interface {
	Describe() (group string, attrs []Attribute)
}

// Attribute is a file in sysfs.
type Attribute struct {
	Name  string
	Value func() string // without newline
}

// Cacher is a mounted file system that keeps blocks of a node in memory. The block special file asks it so that both see
// the same bytes.
type Cacher interface {
	// Overlay puts what is newer in memory over p, which was read from the device at off.
	Overlay(p []byte, off int64)
	// Written says that p was written to the device at off.
	Written(p []byte, off int64)
}

// Node is a whole disk or a partition: what a block special file refers to. It is a Device.
type Node struct {
	name   string
	disk   *Disk
	partno int // 0 for the whole disk
	rdev   uint64
	start  int64
	size   atomic.Int64
	ro     atomic.Bool // set by BLKROSET
	cacher atomic.Pointer[Cacher]
	failed failure
	// UUID and Label are the partition's (PARTUUID=, PARTLABEL=), empty for a disk.
	UUID, Label string

	// Stats counts what was done.
	Stats Stats

	mu sync.Mutex
	// +checklocks:mu
	opens int
	// +checklocks:mu
	holder any // who claimed it exclusively (a mounted file system)
	// +checklocks:mu
	claims int
	// +checklocks:mu
	removed bool

	rmw sync.Mutex // serialises unaligned writes through the special file
}

var registry struct {
	mu      sync.RWMutex
	disks   map[uint64]*Disk // by device number
	watch   []func(n *Node, added bool)
	changes []func(d *Disk)

	ext   atomic.Uint32 // the next minor number of ExtMajor
	seq   atomic.Uint64 // of the last disk
	claim sync.Mutex    // held while nodes are claimed; before Node.mu
}

// DiskName is the name of the disk with index i: ubda, ubdb, ... ubdz, ubdaa.
func DiskName(i int) string {
	s := ""
	for i++; i > 0; i = (i - 1) / 26 {
		s = string(rune('a'+(i-1)%26)) + s
	}
	return "ubd" + s
}

// Register adds a disk and its partitions. EBUSY if the index is taken, EINVAL if it is out of range.
func Register(d *Disk) error {
	if d.Major == 0 {
		d.Major, d.Minors, d.Name, d.Path = Major, MinorsPerDisk, DiskName(d.Index), fmt.Sprintf("platform/uml-blkdev.%d/block", d.Index)
	}
	if d.Index < 0 || d.Index >= 1<<12/d.Minors {
		return unix.EINVAL
	}
	d.whole = &Node{name: d.Name, disk: d, rdev: unix.Mkdev(d.Major, uint32(d.Index*d.Minors))}
	d.whole.size.Store(d.Dev.Size())
	d.wb.disk = d
	d.NewContent()
	d.readAhead.Store(maxReadAhead / SectorSize)
	d.parts.Store(new([]*Node))
	registry.mu.Lock()
	if registry.disks == nil {
		registry.disks = map[uint64]*Disk{}
	}
	if registry.disks[d.whole.rdev] != nil {
		registry.mu.Unlock()
		return unix.EBUSY
	}
	registry.disks[d.whole.rdev] = d
	registry.mu.Unlock()
	notify(d.whole, true)
	if d.NoPartitions {
		return nil
	}
	return d.Rescan()
}

// Seq is the disk's sequence number, which no other disk had since the boot; NewContent gives it another one, because
// there is a new medium.
func (d *Disk) Seq() uint64 { return d.seq.Load() }
func (d *Disk) NewContent() { d.seq.Store(registry.seq.Add(1)) }

// Sync gives the device what was written to the special files of the disk and is not there yet.
func (d *Disk) Sync() { d.wb.cleanAll() }

// ReadAhead is how many bytes may be read ahead of who reads the special file in order (BLKRASET). More than
// mostReadAhead is kept, but not used.
func (d *Disk) ReadAhead() int64     { return d.readAhead.Load() * SectorSize }
func (d *Disk) SetReadAhead(n int64) { d.readAhead.Store(n / SectorSize) }

// Resized takes over the size of the device after it has changed.
func (d *Disk) Resized() {
	d.whole.size.Store(d.Dev.Size())
	d.wb.gen.Add(1)
	registry.mu.RLock()
	w := registry.changes
	registry.mu.RUnlock()
	for _, f := range w {
		f(d)
	}
}

// WatchChanges calls f for every disk whose size or description changes.
func WatchChanges(f func(d *Disk)) {
	registry.mu.Lock()
	registry.changes = append(registry.changes, f)
	registry.mu.Unlock()
}

// Rescan reads the partition table again (BLKRRPART). EBUSY if a partition is in use.
func (d *Disk) Rescan() error {
	d.rescan.Lock()
	defer d.rescan.Unlock()
	found := scanPartitions(d.whole)
	var parts []*Node
	for _, f := range found {
		if f.number <= maxParts {
			parts = append(parts, d.newPart(f))
		}
	}
	slices.SortFunc(parts, func(a, b *Node) int { return cmp.Compare(a.partno, b.partno) })
	old := *d.parts.Load()
	if slices.EqualFunc(old, parts, same) && !d.partsBusy() {
		return nil
	}
	if err := remove(old); err != nil {
		return err
	}
	d.parts.Store(&parts)
	for _, p := range old {
		notify(p, false)
	}
	line := " " + d.whole.name + ":"
	for _, p := range parts {
		line += " " + p.name
		notify(p, true)
	}
	if len(parts) > 0 {
		klog.Infof("%s", line)
	}
	return nil
}

func (d *Disk) partsBusy() bool { return d.Opens() > d.whole.Opens() }

// Opens is how often the node is open.
func (n *Node) Opens() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.opens
}

func same(a, b *Node) bool {
	return a.partno == b.partno && a.start == b.start && a.Size() == b.Size() && a.UUID == b.UUID && a.Label == b.Label
}

// newPart makes the node of a partition.
func (d *Disk) newPart(f partition) *Node {
	name := d.Name
	if c := name[len(name)-1]; c >= '0' && c <= '9' {
		name += "p"
	}
	n := &Node{name: name + fmt.Sprint(f.number), disk: d, partno: f.number, start: f.start, UUID: f.uuid, Label: f.label}
	n.size.Store(f.size)
	if f.number < d.Minors {
		n.rdev = d.whole.rdev + uint64(f.number)
	} else {
		n.rdev = unix.Mkdev(ExtMajor, registry.ext.Add(1)-1)
	}
	return n
}

// AddPart and DelPart change the list of partitions without the table on the disk (BLKPG). EBUSY if the number or a part of
// the range is taken, or for DelPart if the partition is in use.
func (d *Disk) AddPart(number int, start, size int64) error {
	d.rescan.Lock()
	defer d.rescan.Unlock()
	if number < 1 || number > maxParts || start < 0 || size <= 0 || start > d.whole.Size()-size {
		return unix.EINVAL
	}
	old := *d.parts.Load()
	for _, p := range old {
		if p.partno == number || start < p.start+p.Size() && p.start < start+size {
			return unix.EBUSY
		}
	}
	n := d.newPart(partition{number: number, start: start, size: size})
	parts := append(slices.Clone(old), n)
	slices.SortFunc(parts, func(a, b *Node) int { return cmp.Compare(a.partno, b.partno) })
	d.parts.Store(&parts)
	notify(n, true)
	return nil
}

// DelPart removes a partition; ENXIO if there is none with that number.
func (d *Disk) DelPart(number int) error {
	d.rescan.Lock()
	defer d.rescan.Unlock()
	old := *d.parts.Load()
	i := slices.IndexFunc(old, func(p *Node) bool { return p.partno == number })
	if i < 0 {
		return unix.ENXIO
	}
	if err := remove(old[i : i+1]); err != nil {
		return err
	}
	parts := slices.Delete(slices.Clone(old), i, i+1)
	d.parts.Store(&parts)
	notify(old[i], false)
	return nil
}

// remove marks nodes as gone, all or none: EBUSY if one is in use.
func remove(nodes []*Node) error {
	for i, n := range nodes {
		n.mu.Lock()
		busy := n.opens > 0
		if !busy {
			n.removed = true
		}
		n.mu.Unlock()
		if busy {
			for _, u := range nodes[:i] {
				u.mu.Lock()
				u.removed = false
				u.mu.Unlock()
			}
			return unix.EBUSY
		}
	}
	return nil
}

// Unregister removes a disk. EBUSY if it or a partition is open or mounted.
func Unregister(d *Disk) error {
	d.rescan.Lock()
	defer d.rescan.Unlock()
	nodes := d.Nodes()
	if err := remove(nodes); err != nil {
		return err
	}
	d.Sync()
	registry.mu.Lock()
	delete(registry.disks, d.whole.rdev)
	registry.mu.Unlock()
	for _, n := range slices.Backward(nodes) {
		notify(n, false)
	}
	return nil
}

// Watch calls f for every node there is and for each that comes or goes: devtmpfs and sysfs use it.
func Watch(f func(n *Node, added bool)) {
	registry.mu.Lock()
	registry.watch = append(registry.watch, f)
	registry.mu.Unlock()
	for _, n := range Nodes() {
		f(n, true)
	}
}

func notify(n *Node, added bool) {
	registry.mu.RLock()
	w := registry.watch
	registry.mu.RUnlock()
	for _, f := range w {
		f(n, added)
	}
}

// Disks returns all disks in order of their device numbers.
func Disks() []*Disk {
	registry.mu.RLock()
	defer registry.mu.RUnlock()
	var out []*Disk
	for _, d := range registry.disks {
		out = append(out, d)
	}
	slices.SortFunc(out, func(a, b *Disk) int {
		return cmp.Or(cmp.Compare(a.Major, b.Major), cmp.Compare(a.Index, b.Index))
	})
	return out
}

// Nodes returns all disks, each followed by its partitions: the order of /proc/partitions.
func Nodes() []*Node {
	var out []*Node
	for _, d := range Disks() {
		out = append(out, d.Nodes()...)
	}
	return out
}

// Nodes returns the disk and its partitions.
func (d *Disk) Nodes() []*Node { return append([]*Node{d.whole}, *d.parts.Load()...) }

// Whole is the node of the whole disk.
func (d *Disk) Whole() *Node { return d.whole }

// ByRdev finds a node by device number; nil if there is none.
func ByRdev(rdev uint64) *Node {
	registry.mu.RLock()
	d := registry.disks[rdev]
	registry.mu.RUnlock()
	if d != nil {
		return d.whole
	}
	return find(func(n *Node) bool { return n.rdev == rdev })
}

// Name is the node's name without directory.
func (n *Node) Name() string { return n.name }

// Disk is the disk that the node is or is on; Partno its partition number, 0 for the disk; Start where it begins in bytes.
func (n *Node) Disk() *Disk  { return n.disk }
func (n *Node) Partno() int  { return n.partno }
func (n *Node) Start() int64 { return n.start }

// Rdev is the device number.
func (n *Node) Rdev() uint64 { return n.rdev }

// SetCacher says which file system keeps blocks of the node in memory; nil for none.
func (n *Node) SetCacher(c Cacher) {
	var p *Cacher
	if c != nil {
		p = &c
		n.disk.wb.stopHolding()
	}
	if n.cacher.Swap(p) != nil {
		n.disk.wb.holdAgain()
	}
}

// claimed reports whether somebody has claimed the disk as a whole, if n is a partition, or one of its partitions.
func (n *Node) claimed(by any) bool {
	for _, o := range n.disk.Nodes() {
		if o != n && (o.partno == 0) != (n.partno == 0) {
			o.mu.Lock()
			h := o.holder
			o.mu.Unlock()
			if h != nil && h != by {
				return true
			}
		}
	}
	return false
}

// Open takes a reference that keeps the disk from being removed. With a holder the node is claimed: another holder, also
// of the whole disk or of a partition of it, gets EBUSY, the same one may claim again. ENXIO if the disk is gone. Close
// undoes it.
func (n *Node) Open(holder any) error {
	if holder != nil {
		registry.claim.Lock()
		defer registry.claim.Unlock()
		if n.claimed(holder) {
			return unix.EBUSY
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.removed {
		return unix.ENXIO
	}
	if holder != nil {
		if n.holder != nil && n.holder != holder {
			return unix.EBUSY
		}
		n.holder = holder
		n.claims++
	}
	n.opens++
	return nil
}

// Close drops a reference taken by Open with the same holder. The last one has written what its special file holds.
func (n *Node) Close(holder any) {
	if n.Opens() == 1 {
		n.disk.wb.clean(n.start, n.Size())
	}
	n.mu.Lock()
	n.opens--
	if holder != nil {
		if n.claims--; n.claims == 0 {
			n.holder = nil
		}
	}
	last := n.opens == 0
	n.mu.Unlock()
	if last { // two may have left at once
		n.disk.wb.clean(n.start, n.Size())
	}
	if o, ok := n.disk.Dev.(LastCloser); ok && last && n.disk.Opens() == 0 {
		o.LastClose()
	}
}

// Opens is how often the disk and its partitions are open.
func (d *Disk) Opens() (sum int) {
	for _, n := range d.Nodes() {
		sum += n.Opens()
	}
	return sum
}

// Size and ReadOnly are Device's.
func (n *Node) Size() int64    { return n.size.Load() }
func (n *Node) ReadOnly() bool { return n.ro.Load() || n.disk.whole.ro.Load() || n.disk.Dev.ReadOnly() }

// Limits are the disk's.
func (n *Node) Limits() Limits { return LimitsOf(n.disk.Dev) }

// check refuses ranges that are not aligned or not on the device.
func (n *Node) check(off, size int64) error {
	if off < 0 || size < 0 || off > n.Size() || size > n.Size()-off {
		return unix.EIO
	}
	if (off|size)%SectorSize != 0 {
		return unix.EINVAL
	}
	return nil
}

// ReadAt reads whole sectors.
func (n *Node) ReadAt(p []byte, off int64) (int, error) {
	if err := n.check(off, int64(len(p))); err != nil {
		return 0, err
	}
	n.disk.wb.clean(n.start+off, int64(len(p)))
	t := n.begin(kindRead)
	k, err := n.disk.Dev.ReadAt(p, n.start+off)
	n.end(kindRead, t, int64(len(p)))
	return k, err
}

// WriteAt writes whole sectors.
func (n *Node) WriteAt(p []byte, off int64) (int, error) {
	if err := n.change(off, int64(len(p))); err != nil {
		return 0, err
	}
	t := n.begin(kindWrite)
	k, err := n.disk.Dev.WriteAt(p, n.start+off)
	n.end(kindWrite, t, int64(len(p)))
	n.disk.wb.changed()
	return k, err
}

// change says that size bytes at off are about to be changed on the device.
func (n *Node) change(off, size int64) error {
	if n.ReadOnly() {
		return unix.EROFS
	}
	if err := n.check(off, size); err != nil {
		return err
	}
	n.disk.wb.clean(n.start+off, size)
	return nil
}

// Flush makes completed writes durable. What was written to the special file is another matter: see writeback.
func (n *Node) Flush() error {
	if n.ReadOnly() {
		return nil
	}
	t := n.begin(kindFlush)
	n.disk.wb.loose.Store(false)
	err := n.disk.Dev.Flush()
	if err != nil {
		n.disk.wb.loose.Store(true)
	}
	n.end(kindFlush, t, 0)
	return err
}

// Discard drops the content of whole sectors.
func (n *Node) Discard(off, size int64) error {
	if err := n.change(off, size); err != nil {
		return err
	}
	t := n.begin(kindDiscard)
	err := n.disk.Dev.Discard(n.start+off, size)
	n.end(kindDiscard, t, size)
	n.disk.wb.changed()
	return err
}

// WriteZeroes makes whole sectors read as zeroes.
func (n *Node) WriteZeroes(off, size int64) error {
	if err := n.change(off, size); err != nil {
		return err
	}
	err := n.disk.Dev.WriteZeroes(n.start+off, size)
	n.disk.wb.changed()
	return err
}

// View is the disk's, if it is a Viewer.
func (n *Node) View(off, size int64) []byte {
	v, ok := n.disk.Dev.(Viewer)
	if !ok || off < 0 || size < 0 || off > n.Size() || size > n.Size()-off {
		return nil
	}
	n.disk.wb.clean(n.start+off, size)
	p := v.View(n.start+off, size)
	if p != nil {
		n.Stats.Read.add(size, 0)
		if n.partno != 0 {
			n.disk.whole.Stats.Read.add(size, 0)
		}
	}
	return p
}

// Store is the disk's, if it is a Storer.
func (n *Node) Store(off, size int64, fill func(p []byte)) bool {
	s, ok := n.disk.Dev.(Storer)
	if !ok || n.ReadOnly() || off < 0 || size < 0 || off > n.Size() || size > n.Size()-off {
		return false
	}
	n.disk.wb.clean(n.start+off, size)
	return s.Store(n.start+off, size, func(p []byte) {
		t := n.begin(kindWrite)
		fill(p)
		n.end(kindWrite, t, size)
		n.disk.wb.changed()
	})
}

// HostRange is the disk's, if it is a Mapper.
func (n *Node) HostRange(off, size int64) (h *platform.HostFile, hostOff, length int64) {
	m, ok := n.disk.Dev.(Mapper)
	if !ok || off < 0 || size < 0 || off > n.Size() || size > n.Size()-off {
		return nil, 0, 0
	}
	n.disk.wb.clean(n.start+off, size)
	return m.HostRange(n.start+off, size)
}
