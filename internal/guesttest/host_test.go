package guesttest

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// process is what /proc says of a host process.
type process struct {
	pid, ppid int
	comm      string
	state     byte
}

// processes lists the host's processes.
func processes() []process {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	var list []process
	for _, d := range dirs {
		b, err := os.ReadFile(d + "/stat")
		if err != nil {
			continue
		}
		s := string(b)
		i, j := strings.IndexByte(s, '('), strings.LastIndexByte(s, ')')
		if i < 0 || j+4 > len(s) {
			continue
		}
		p := process{comm: s[i+1 : j], state: s[j+2]}
		p.pid, _ = strconv.Atoi(filepath.Base(d))
		fmt.Sscan(s[j+3:], &p.ppid)
		list = append(list, p)
	}
	return list
}

// family is a process and all its descendants.
func family(root int) []process {
	all := processes()
	in := map[int]bool{root: true}
	for changed := true; changed; {
		changed = false
		for _, p := range all {
			if in[p.ppid] && !in[p.pid] {
				in[p.pid], changed = true, true
			}
		}
	}
	var list []process
	for _, p := range all {
		if in[p.pid] {
			list = append(list, p)
		}
	}
	return list
}

// status reads fields of /proc/<pid>/status.
func status(pid int) map[string]string {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	m := map[string]string{}
	for line := range strings.Lines(string(b)) {
		k, v, _ := strings.Cut(line, ":")
		m[k] = strings.TrimSpace(v)
	}
	return m
}

// ended waits until none of the processes lives any more and returns those that still do.
func ended(pids map[int]string, limit time.Duration) []string {
	for end := time.Now().Add(limit); ; time.Sleep(10 * time.Millisecond) {
		var left []string
		for pid, start := range pids {
			if s, ok := startTime(pid); ok && s == start {
				left = append(left, strconv.Itoa(pid))
			}
		}
		if len(left) == 0 || time.Now().After(end) {
			return left
		}
	}
}

// startTime tells a process from a later one with the same id. It reports false if there is none.
func startTime(pid int) (string, bool) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", false
	}
	_, rest, _ := strings.Cut(string(b[strings.LastIndexByte(string(b), ')'):]), " ")
	f := strings.Fields(rest)
	if len(f) < 20 {
		return "", false
	}
	return f[19], true
}
