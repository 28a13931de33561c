package skas

import (
	"encoding/binary"
	"os"
	"strconv"

	"github.com/user-mode-linux/linux/internal/kernel/uio"
)

// Bits of an entry of /proc/pid/pagemap (proc_pid_pagemap(5)): swapped or present, and of a file or shared.
const (
	pagemapFile    = 1 << 61
	pagemapSwapped = 1 << 62
	pagemapPresent = 1 << 63
)

// Copied implements platform.AddressSpace. Where the host does not tell of pages, every mapping with one of its own counts.
func (as *addressSpace) Copied(start, end uint64) ([]uio.Range, error) {
	for _, tid := range as.others() {
		if own, err := readPagemap(tid, start, end); err == nil {
			return own, nil
		}
	}
	all, err := as.Residents()
	var own []uio.Range
	for _, r := range all {
		if r.Anon|r.Swap != 0 {
			own = append(own, uio.Range{Addr: r.Start, Len: r.End - r.Start})
		}
	}
	return own, err
}

// readPagemap lists the pages of a range that are not a file's.
func readPagemap(tid int, start, end uint64) (own []uio.Range, err error) {
	f, err := os.Open("/proc/" + strconv.Itoa(tid) + "/pagemap")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	buf := make([]byte, 8*min((end-start)/pageSize, 4<<10))
	for at := start; at < end; {
		p := buf[:min(uint64(len(buf)), (end-at)/pageSize*8)]
		if _, err := f.ReadAt(p, int64(at/pageSize*8)); err != nil {
			return nil, err
		}
		for ; len(p) > 0; p, at = p[8:], at+pageSize {
			e := binary.LittleEndian.Uint64(p)
			if e&(pagemapPresent|pagemapSwapped) == 0 || e&pagemapFile != 0 {
				continue
			}
			if n := len(own) - 1; n >= 0 && own[n].Addr+own[n].Len == at {
				own[n].Len += pageSize
			} else {
				own = append(own, uio.Range{Addr: at, Len: pageSize})
			}
		}
	}
	return own, nil
}
