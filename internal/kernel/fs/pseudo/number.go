package pseudo

import (
	"strconv"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Number is a setting that programs read and write as text.
type Number struct {
	v      atomic.Int64
	lo, hi int64
}

// NewNumber makes a setting with a value and its bounds.
func NewNumber(v, lo, hi int64) *Number {
	n := &Number{lo: lo, hi: hi}
	n.v.Store(v)
	return n
}

// Value is the setting's value.
func (n *Number) Value() int64 { return n.v.Load() }

// Set changes it.
func (n *Number) Set(v int64) { n.v.Store(v) }

// Store changes it to what a program wrote: EINVAL if that is no number or not within the bounds.
func (n *Number) Store(p []byte) error {
	v, err := ParseInt(p, n.lo, n.hi)
	if err == nil {
		n.v.Store(v)
	}
	return err
}

// ParseInt reads a number that a program wrote, in base 10, 8 (0...) or 16 (0x...): EINVAL if it is none or not within
// the bounds.
func ParseInt(p []byte, lo, hi int64) (int64, error) {
	s := strings.TrimSpace(strings.TrimRight(string(p), "\x00"))
	v, err := strconv.ParseInt(s, 0, 64)
	if err != nil || strings.Contains(s, "_") || v < lo || v > hi {
		return 0, unix.EINVAL
	}
	return v, nil
}
