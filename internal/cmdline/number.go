package cmdline

import (
	"math"
	"math/bits"
	"strconv"
	"strings"
	"time"
)

// number reads the number at the start of s with C's base rule (0x hexadecimal, 0 octal, else decimal) and returns what
// follows it. Without a digit it is 0 and all of s; too large a number is the largest.
func number(s string) (n uint64, rest string) {
	base := uint64(10)
	digits := s
	switch {
	case len(s) > 2 && s[0] == '0' && (s[1] == 'x' || s[1] == 'X') && hexDigit(s[2]) < 16:
		base, digits = 16, s[2:]
	case len(s) > 0 && s[0] == '0':
		base = 8
	}
	i := 0
	for ; i < len(digits); i++ {
		d := uint64(hexDigit(digits[i]))
		if d >= base {
			break
		}
		hi, lo := bits.Mul64(n, base)
		sum, carry := bits.Add64(lo, d, 0)
		if n = sum; hi != 0 || carry != 0 || n == math.MaxUint64 {
			n = math.MaxUint64
		}
	}
	return n, digits[i:]
}

func hexDigit(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10
	}
	return 255
}

// ParseSize reads a size that is nothing else: a number and perhaps one of the suffixes of mem=.
func ParseSize(s string) (n uint64, ok bool) {
	_, rest := number(s)
	if s == "" || rest == s || len(rest) > 1 || rest != "" && !strings.Contains("kmgtpe", string(rest[0]|0x20)) {
		return 0, false
	}
	return memparse(s), true
}

// memparse reads a size as the kernel does: a number and one of the suffixes K, M, G, T, P, E in either case. What follows
// is ignored, as is everything that does not begin with a digit (0). Sizes beyond 64 bits are cut to the largest.
func memparse(s string) uint64 {
	n, rest := number(s)
	if rest == "" {
		return n
	}
	shift := 0
	switch rest[0] | 0x20 {
	case 'k':
		shift = 10
	case 'm':
		shift = 20
	case 'g':
		shift = 30
	case 't':
		shift = 40
	case 'p':
		shift = 50
	case 'e':
		shift = 60
	}
	if bits.LeadingZeros64(n) < shift {
		return math.MaxUint64
	}
	return n << shift
}

// duration reads seconds ("10", "1.5") or a Go duration ("90s", "2m").
func duration(s string) (time.Duration, bool) {
	if f, err := strconv.ParseFloat(s, 64); err == nil {
		if !(f >= 0 && f < 1e9) {
			return 0, false
		}
		return time.Duration(f * float64(time.Second)), true
	}
	d, err := time.ParseDuration(s)
	return d, err == nil && d >= 0
}

// integer reads a whole decimal, octal or hexadecimal number with an optional sign.
func integer(s string) (int, bool) {
	n, err := strconv.ParseInt(s, 0, 32)
	return int(n), err == nil
}

// ubdUnit is the unit of a word like ubd0r=file, ubda=file or ubd15=file.
func ubdUnit(word string) (int, bool) {
	s, ok := strings.CutPrefix(word, "ubd")
	if !ok || s == "" {
		return 0, false
	}
	if c := s[0]; 'a' <= c && c <= 'z' {
		return int(c - 'a'), true
	}
	if s[0] < '0' || s[0] > '9' {
		return 0, false
	}
	n, _ := number(s)
	return int(min(n, 1<<20)), true
}
