package sysfs

import (
	"bytes"
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"github.com/user-mode-linux/linux/internal/kernel/bdev"
	"github.com/user-mode-linux/linux/internal/kernel/fs/pseudo"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// diskPath is where a disk is below devices/.
func diskPath(d *bdev.Disk) string { return d.Path + "/" + d.Name }

// blockChanged follows bdev's registry.
func blockChanged(n *bdev.Node, added bool) {
	d := n.Disk()
	p := diskPath(d)
	if n.Partno() > 0 {
		p += "/" + n.Name()
	}
	if !added {
		RemoveDevice(p)
		if n.Partno() == 0 {
			Dir("block").Remove(n.Name())
		}
		return
	}
	dev := Device{Path: p, Subsystem: "block", Rdev: n.Rdev(), Block: true, Attrs: blockAttrs(n)}
	if n.Partno() > 0 {
		dev.Env = []string{"DEVTYPE=partition", fmt.Sprintf("PARTN=%d", n.Partno())}
		if n.Label != "" {
			dev.Env = append(dev.Env, "PARTNAME="+n.Label)
		}
		if n.UUID != "" {
			dev.Env = append(dev.Env, "PARTUUID="+n.UUID)
		}
		AddDevice(dev)
		return
	}
	dev.Env = []string{"DEVTYPE=disk", fmt.Sprintf("DISKSEQ=%d", d.Seq())}
	if parent, ok := strings.CutSuffix(d.Path, "/block"); ok && !strings.HasPrefix(parent, "virtual") {
		dev.Parent = parent
	}
	dir := AddDevice(dev)
	addQueue(dir.Subdir("queue", 0o755), n)
	dir.Subdir("holders", 0o755)
	dir.Subdir("slaves", 0o755)
	Dir("block").AddLink(n.Name(), "../devices/"+p)
}

// diskChanged follows disks whose size or description changes.
func diskChanged(d *bdev.Disk) {
	if x, ok := d.Dev.(bdev.Describer); ok {
		group, attrs := x.Describe()
		dir := Dir("devices/" + diskPath(d))
		dir.Remove(group)
		if len(attrs) > 0 {
			sub := dir.Subdir(group, 0o755)
			for _, a := range attrs {
				sub.AddFile(a.Name, 0o444, Value(a.Name, a.Value).Show, nil)
			}
		}
	}
	for _, dev := range Devices() {
		if dev.Path == diskPath(d) {
			send("change", dev)
		}
	}
}

func blockAttrs(n *bdev.Node) []Attr {
	ro := func() string {
		if n.ReadOnly() {
			return "1"
		}
		return "0"
	}
	attrs := []Attr{
		Value("size", func() string { return strconv.FormatInt(n.Size()/bdev.SectorSize, 10) }),
		Value("ro", ro),
		Value("stat", func() string { return formatBlockStat(n.Stats.Line()) }),
		Value("inflight", func() string {
			r, w := n.Stats.InFlight()
			return fmt.Sprintf("%8d %8d", r, w)
		}),
		Text("alignment_offset", "0"),
		Text("discard_alignment", "0"),
	}
	if n.Partno() > 0 {
		return append(attrs,
			Text("partition", strconv.Itoa(n.Partno())),
			Text("start", strconv.FormatInt(n.Start()/bdev.SectorSize, 10)))
	}
	if d := n.Disk(); d.Major == bdev.Major { // a driver's own attribute, without a newline
		attrs = append(attrs, Attr{Name: "serial", Perm: 0o444, Show: pseudo.String(cmp.Or(d.Serial, "(null)"))})
	}
	return append(attrs,
		Text("removable", "0"), Text("hidden", "0"), Text("capability", "0"), Text("range", "16"), Text("ext_range", "256"),
		Value("diskseq", func() string { return strconv.FormatUint(n.Disk().Seq(), 10) }))
}

// formatBlockStat puts the counters in the columns that the file stat has.
func formatBlockStat(line string) string {
	var b strings.Builder
	for i, f := range strings.Fields(line) {
		if i > 0 {
			b.WriteByte(' ')
		}
		fmt.Fprintf(&b, "%8s", f)
	}
	return b.String()
}

// addQueue adds the limits of a disk.
func addQueue(q *pseudo.Dir, n *bdev.Node) {
	l := n.Limits()
	num := func(name string, v int64) { q.AddText(name, strconv.FormatInt(v, 10)+"\n") }
	num("logical_block_size", bdev.SectorSize)
	num("hw_sector_size", bdev.SectorSize)
	num("physical_block_size", int64(max(l.PhysicalBlock, bdev.SectorSize)))
	num("minimum_io_size", int64(max(l.PhysicalBlock, bdev.SectorSize)))
	num("optimal_io_size", 0)
	num("discard_granularity", l.DiscardGranularity)
	num("discard_max_bytes", l.DiscardMax)
	num("discard_max_hw_bytes", l.DiscardMax)
	num("discard_zeroes_data", 0)
	num("write_zeroes_max_bytes", l.DiscardMax)
	num("write_same_max_bytes", 0)
	num("max_sectors_kb", 1280)
	num("max_hw_sectors_kb", 1280)
	num("max_segments", 128)
	num("nr_requests", 128)
	num("rotational", int64(bit(l.Rotational)))
	num("add_random", 0)
	num("iostats", 1)
	num("nomerges", 0)
	num("dax", 0)
	num("fua", 0)
	q.AddText("zoned", "none\n")
	q.AddText("scheduler", "[none]\n")
	cache := "write through"
	if l.WriteCache {
		cache = "write back"
	}
	q.AddText("write_cache", cache+"\n")
	q.AddFile("read_ahead_kb", 0o644, func(_ vfs.Caller, w *bytes.Buffer) error {
		fmt.Fprintf(w, "%d\n", n.Disk().ReadAhead()>>10)
		return nil
	}, func(_ vfs.Caller, p []byte) error {
		kb, err := pseudo.ParseInt(p, 0, 1<<20)
		if err == nil {
			n.Disk().SetReadAhead(kb << 10)
		}
		return err
	})
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}
