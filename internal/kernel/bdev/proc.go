package bdev

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// ProcPartitions is the content of /proc/partitions.
func ProcPartitions() string {
	var b strings.Builder
	b.WriteString("major minor  #blocks  name\n\n")
	for _, n := range Nodes() {
		if n.Size() == 0 {
			continue
		}
		fmt.Fprintf(&b, "%4d  %7d %10d %s\n", unix.Major(n.Rdev()), unix.Minor(n.Rdev()), n.Size()/1024, n.Name())
	}
	return b.String()
}

// ProcDiskstats is the content of /proc/diskstats.
func ProcDiskstats() string {
	var b strings.Builder
	for _, n := range Nodes() {
		fmt.Fprintf(&b, "%4d %7d %s %s\n", unix.Major(n.Rdev()), unix.Minor(n.Rdev()), n.Name(), n.Stats.Line())
	}
	return b.String()
}
