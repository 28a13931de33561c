package coredump

import (
	"strconv"
	"strings"
	"sync"
)

// Settings is /proc/sys/kernel/core_pattern and core_uses_pid.
type Settings struct {
	mu      sync.Mutex
	pattern string
	usesPID bool
}

// maxPattern is CORENAME_MAX_SIZE with the terminating zero.
const maxPattern = 128

// NewSettings are the defaults.
func NewSettings() *Settings { return &Settings{pattern: "core"} }

// Pattern is the template of names.
func (s *Settings) Pattern() string { s.mu.Lock(); defer s.mu.Unlock(); return s.pattern }

// SetPattern changes it; what is too long is cut.
func (s *Settings) SetPattern(p string) {
	s.mu.Lock()
	s.pattern = p[:min(len(p), maxPattern-1)]
	s.mu.Unlock()
}

// UsesPID says that names without %p get the process id.
func (s *Settings) UsesPID() bool { s.mu.Lock(); defer s.mu.Unlock(); return s.usesPID }

// SetUsesPID changes it.
func (s *Settings) SetUsesPID(on bool) { s.mu.Lock(); s.usesPID = on; s.mu.Unlock() }

// Names are the values for a template (core(5)).
type Names struct {
	PID, TID, Signal    int32
	UID, GID            uint32
	Dumpable            int32
	Time                int64 // seconds since 1970
	Limit               uint64
	CPU                 int
	Host, Comm, Program string // Program is the path of the executable
}

// File is the name of the core file; Command is the helper and its arguments if the template begins with a bar.
func (n *Names) File(s *Settings) (file string, command []string) {
	pattern := s.Pattern()
	if rest, ok := strings.CutPrefix(pattern, "|"); ok {
		for f := range strings.FieldsSeq(rest) {
			f, _ = n.expand(f)
			command = append(command, f)
		}
		return "", command
	}
	file, hasPID := n.expand(pattern)
	if s.UsesPID() && !hasPID && file != "" {
		file += "." + strconv.Itoa(int(n.PID))
	}
	return file, nil
}

func (n *Names) expand(pattern string) (name string, hasPID bool) {
	var b strings.Builder
	for i := 0; i < len(pattern); i++ {
		if pattern[i] != '%' {
			b.WriteByte(pattern[i])
			continue
		}
		if i++; i == len(pattern) {
			break
		}
		num := func(v int64) { b.WriteString(strconv.FormatInt(v, 10)) }
		switch pattern[i] {
		case '%':
			b.WriteByte('%')
		case 'p', 'P':
			hasPID = true
			num(int64(n.PID))
		case 'i', 'I':
			num(int64(n.TID))
		case 'u':
			num(int64(n.UID))
		case 'g':
			num(int64(n.GID))
		case 'd':
			num(int64(n.Dumpable))
		case 's':
			num(int64(n.Signal))
		case 't':
			num(n.Time)
		case 'h':
			b.WriteString(flat(n.Host))
		case 'e':
			b.WriteString(flat(n.Comm))
		case 'f':
			b.WriteString(flat(n.Program[strings.LastIndexByte(n.Program, '/')+1:]))
		case 'E':
			b.WriteString(flat(n.Program))
		case 'c':
			b.WriteString(strconv.FormatUint(n.Limit, 10))
		case 'C':
			num(int64(n.CPU))
		}
	}
	return b.String(), hasPID
}

// flat makes a value harmless in a path: it cannot leave the directory.
func flat(s string) string {
	if s == "." || s == ".." {
		s = strings.Replace(s, ".", "!", 1)
	}
	return strings.ReplaceAll(s, "/", "!")
}
