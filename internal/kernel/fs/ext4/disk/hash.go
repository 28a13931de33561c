package disk

import "math/bits"

// Hash versions of directories.
const (
	HashLegacy = iota
	HashHalfMD4
	HashTEA
	HashLegacyUnsigned
	HashHalfMD4Unsigned
	HashTEAUnsigned
	HashSip
)

// hashEOF is a hash value that readdir cursors use as end mark, so no name has it.
const hashEOF = 0x7fffffff << 1

// DirHash computes the hash of a name. ok is false for an unknown version. Versions 0-2 take characters as signed.
func DirHash(name []byte, version uint8, seed [4]uint32) (hash, minor uint32, ok bool) {
	buf := [4]uint32{0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476}
	if seed != [4]uint32{} {
		buf = seed
	}
	signed := version <= HashTEA
	switch version {
	case HashLegacy, HashLegacyUnsigned:
		hash = legacyHash(name, signed)
	case HashHalfMD4, HashHalfMD4Unsigned:
		for p := name; len(p) > 0; p = p[min(32, len(p)):] {
			var in [8]uint32
			hashWords(p, in[:], signed)
			halfMD4(&buf, &in)
		}
		hash, minor = buf[1], buf[2]
	case HashTEA, HashTEAUnsigned:
		for p := name; len(p) > 0; p = p[min(16, len(p)):] {
			var in [4]uint32
			hashWords(p, in[:], signed)
			tea(&buf, &in)
		}
		hash, minor = buf[0], buf[1]
	default:
		return 0, 0, false
	}
	if hash &^= 1; hash == hashEOF {
		hash = (0x7fffffff - 1) << 1
	}
	return hash, minor, true
}

func char(c byte, signed bool) uint32 {
	if signed {
		return uint32(int32(int8(c)))
	}
	return uint32(c)
}

func legacyHash(name []byte, signed bool) uint32 {
	h0, h1 := uint32(0x12a3fe2d), uint32(0x37abe8f9)
	for _, c := range name {
		h := h1 + (h0 ^ char(c, signed)*7152373)
		if h&0x80000000 != 0 {
			h -= 0x7fffffff
		}
		h1, h0 = h0, h
	}
	return h0 << 1
}

// hashWords packs a name into words, padded with its length.
func hashWords(p []byte, out []uint32, signed bool) {
	n := uint32(len(p))
	pad := n | n<<8
	pad |= pad << 16
	p = p[:min(len(p), 4*len(out))]
	i, v := 0, pad
	for k, c := range p {
		v = char(c, signed) + v<<8
		if k%4 == 3 {
			out[i] = v
			i, v = i+1, pad
		}
	}
	if i < len(out) {
		out[i] = v
		i++
	}
	for ; i < len(out); i++ {
		out[i] = pad
	}
}

func tea(buf *[4]uint32, in *[4]uint32) {
	var sum uint32
	b0, b1 := buf[0], buf[1]
	for range 16 {
		sum += 0x9e3779b9
		b0 += (b1<<4 + in[0]) ^ (b1 + sum) ^ (b1>>5 + in[1])
		b1 += (b0<<4 + in[2]) ^ (b0 + sum) ^ (b0>>5 + in[3])
	}
	buf[0] += b0
	buf[1] += b1
}

// halfMD4 is MD4's compression cut to three rounds of eight steps.
func halfMD4(buf *[4]uint32, in *[8]uint32) {
	a, b, c, d := buf[0], buf[1], buf[2], buf[3]
	step := func(f, x uint32, s int) { // (a,b,c,d) <- (d, rotl(a+f+x), b, c)
		a, b, c, d = d, bits.RotateLeft32(a+f+x, s), b, c
	}
	for i, k := range [8]int{0, 1, 2, 3, 4, 5, 6, 7} {
		step(d^(b&(c^d)), in[k], [4]int{3, 7, 11, 19}[i%4])
	}
	for i, k := range [8]int{1, 3, 5, 7, 0, 2, 4, 6} {
		step(b&c+(b^c)&d, in[k]+0x5a827999, [4]int{3, 5, 9, 13}[i%4])
	}
	for i, k := range [8]int{3, 7, 2, 6, 1, 5, 0, 4} {
		step(b^c^d, in[k]+0x6ed9eba1, [4]int{3, 9, 11, 15}[i%4])
	}
	buf[0] += a
	buf[1] += b
	buf[2] += c
	buf[3] += d
}
