package disk

// Directory entry types (with the filetype feature), and the type that marks a checksum tail.
const (
	FTUnknown = iota
	FTReg
	FTDir
	FTChr
	FTBlk
	FTFifo
	FTSock
	FTSymlink

	ftTail      = 0xde
	DirTailSize = 12
)

// Dirent is a directory entry. Name points into the block.
type Dirent struct {
	Inode  uint32
	Type   uint8
	Name   []byte
	Off    int // where in the block it is
	RecLen int
}

// MaxName is the longest file name.
const MaxName = 255

// DirentLen is the room that a name needs.
func DirentLen(nameLen int) int { return (8 + nameLen + 3) &^ 3 }

// DecodeDirent reads the entry at off of a block (or inline region) and checks that it fits. filetype says that the type is
// stored; otherwise the name length has 16 bits.
func DecodeDirent(b []byte, off int, filetype bool) (d Dirent, err error) {
	if off < 0 || off+8 > len(b) {
		return d, ErrCorrupt
	}
	e := b[off:]
	d = Dirent{Inode: le.Uint32(e), Off: off, RecLen: int(le.Uint16(e[4:]))}
	if (d.RecLen == 0xffff || d.RecLen == 0) && len(b) == 1<<16 {
		d.RecLen = 1 << 16
	}
	n := int(e[6])
	if filetype {
		d.Type = e[7]
	} else if e[7] != 0 {
		return d, ErrCorrupt
	}
	if d.RecLen < 8 || d.RecLen%4 != 0 || d.RecLen > len(e) || DirentLen(n) > d.RecLen {
		return d, ErrCorrupt
	}
	d.Name = e[8 : 8+n]
	return d, nil
}

// FindDirent looks for a name among the entries from off on. It returns where its entry lies and where the entry before that
// does, -1 for what is not there; with an error, where the bad entry lies. Of an entry with another name it only reads the head.
func FindDirent(b []byte, off int, name string, filetype bool) (prev, at int, err error) {
	for prev = -1; off < len(b); {
		if off+8 > len(b) {
			return prev, off, ErrCorrupt
		}
		e := b[off:]
		head := le.Uint64(e)
		next, n := int(head>>32&0xffff), int(head>>48&0xff)
		if next < DirentLen(n) || next%4 != 0 || next > len(e) || !filetype && head>>56 != 0 {
			d, err := DecodeDirent(b, off, filetype)
			if err != nil {
				return prev, off, err
			}
			next = d.RecLen
		}
		if n == len(name) && uint32(head) != 0 && string(e[8:8+n]) == name {
			return prev, off, nil
		}
		prev = off
		off += next
	}
	return prev, -1, nil
}

// EncodeDirent writes an entry at off.
func EncodeDirent(b []byte, off int, d *Dirent, filetype bool) {
	e := b[off:]
	le.PutUint32(e, d.Inode)
	le.PutUint16(e[4:], uint16(d.RecLen)) // 1<<16 becomes 0, which DecodeDirent understands
	e[6], e[7] = byte(len(d.Name)), 0
	if filetype {
		e[7] = d.Type
	}
	copy(e[8:], d.Name)
}

// DirChecksum returns the computed and stored checksum of a leaf block. ok is false if the block has no tail.
func DirChecksum(inodeSeed uint32, b []byte) (sum, stored uint32, ok bool) {
	t := len(b) - DirTailSize
	if t < 0 || le.Uint32(b[t:]) != 0 || le.Uint16(b[t+4:]) != DirTailSize || b[t+6] != 0 || b[t+7] != ftTail {
		return 0, 0, false
	}
	return CRC32C(inodeSeed, b[:t]), le.Uint32(b[t+8:]), true
}

// PutDirTail writes a checksum tail into a leaf block.
func PutDirTail(inodeSeed uint32, b []byte) {
	t := len(b) - DirTailSize
	clear(b[t:])
	le.PutUint16(b[t+4:], DirTailSize)
	b[t+7] = ftTail
	le.PutUint32(b[t+8:], CRC32C(inodeSeed, b[:t]))
}

// DxRoot is the head of a hash tree, in block 0 of the directory.
type DxRoot struct {
	HashVersion, InfoLength, Levels, Flags uint8
}

// Where the entries begin in the root and in inner nodes.
const (
	DxRootEntries = 32
	DxNodeEntries = 8
	dxEntrySize   = 8
)

// DecodeDxRoot reads the head.
func DecodeDxRoot(b []byte) (r DxRoot, err error) {
	if len(b) < DxRootEntries+dxEntrySize {
		return r, ErrCorrupt
	}
	r = DxRoot{b[28], b[29], b[30], b[31]}
	if le.Uint32(b[24:]) != 0 || r.InfoLength != 8 || r.Flags&1 != 0 {
		return r, ErrCorrupt
	}
	return r, nil
}

// DxNode is the entries of a node.
type DxNode struct {
	b     []byte
	start int
	Count int
	Limit int
}

// DecodeDxNode reads the entries that begin at start; tail says that a checksum follows them.
func DecodeDxNode(b []byte, start int, tail bool) (n DxNode, err error) {
	n = DxNode{b: b, start: start}
	if len(b) < start+dxEntrySize {
		return n, ErrCorrupt
	}
	n.Limit, n.Count = int(le.Uint16(b[start:])), int(le.Uint16(b[start+2:]))
	room := (len(b) - start) / dxEntrySize
	if tail {
		room = (len(b) - start - 8) / dxEntrySize
	}
	if n.Limit != room || n.Count < 1 || n.Count > n.Limit {
		return n, ErrCorrupt
	}
	return n, nil
}

// Hash and Block of entry i. The first has no hash: it stands for everything below the second.
func (n *DxNode) Hash(i int) uint32 {
	if i == 0 {
		return 0
	}
	return le.Uint32(n.b[n.start+i*dxEntrySize:])
}

// Block is the directory block that entry i points to.
func (n *DxNode) Block(i int) uint32 { return le.Uint32(n.b[n.start+i*dxEntrySize+4:]) & 0x0fffffff }

// Find returns the last entry whose hash is not above h.
func (n *DxNode) Find(h uint32) int {
	lo, hi := 1, n.Count
	for lo < hi {
		if m := (lo + hi) / 2; n.Hash(m) > h {
			hi = m
		} else {
			lo = m + 1
		}
	}
	return lo - 1
}

// Checksum returns the computed and stored checksum of the node's block.
func (n *DxNode) Checksum(inodeSeed uint32) (sum, stored uint32) {
	t := n.start + n.Limit*dxEntrySize
	c := CRC32C(inodeSeed, n.b[:n.start+n.Count*dxEntrySize])
	c = CRC32C(c, n.b[t:t+4])
	return CRC32C(c, []byte{0, 0, 0, 0}), le.Uint32(n.b[t+4:])
}

// Insert puts an entry before entry i, which is not the first; there is room.
func (n *DxNode) Insert(i int, hash, block uint32) {
	at := n.start + i*dxEntrySize
	copy(n.b[at+dxEntrySize:], n.b[at:n.start+n.Count*dxEntrySize])
	le.PutUint32(n.b[at:], hash)
	le.PutUint32(n.b[at+4:], block)
	n.Count++
	le.PutUint16(n.b[n.start+2:], uint16(n.Count))
}

// Seal puts the checksum into the node's block.
func (n *DxNode) Seal(inodeSeed uint32) {
	sum, _ := n.Checksum(inodeSeed)
	le.PutUint32(n.b[n.start+n.Limit*dxEntrySize+4:], sum)
}
