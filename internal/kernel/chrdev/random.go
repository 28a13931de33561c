package chrdev

import (
	"crypto/rand"
	"encoding/binary"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
	"github.com/user-mode-linux/linux/internal/kernel/wait"
)

const (
	poolBits   = 256
	maxRandom  = 32<<20 - 1 // of one read (random(4))
	randomStep = 16 << 10
)

// ioctls of random(4) (linux/random.h).
const (
	rndGetEntCnt   = 0x80045200
	rndAddToEntCnt = 0x40045201
	rndAddEntropy  = 0x40085203
	rndZapEntCnt   = 0x5204
	rndClearPool   = 0x5206
	rndReseed      = 0x5207
)

var randomPool = sync.Pool{New: func() any { return new([randomStep]byte) }}

// Random fills p with random bytes, for AT_RANDOM and kernel use. The generator is the process's, seeded by the host.
func Random(p []byte) { _, _ = rand.Read(p) } // never fails

// ReadRandom is the transfer of getrandom(2) and of reads of /dev/urandom.
func ReadRandom(dst *uio.Dst) (int, error) {
	buf := randomPool.Get().(*[randomStep]byte)
	defer randomPool.Put(buf)
	done := 0
	for left := min(dst.Len(), maxRandom); left > 0; {
		b := buf[:min(left, randomStep)]
		Random(b)
		n, err := dst.CopyOut(b)
		done, left = done+n, left-n
		if err != nil {
			if done > 0 {
				return done, nil
			}
			return 0, err
		}
	}
	return done, nil
}

// random is /dev/random and /dev/urandom: the same, always ready.
type random struct{ vfs.FileBase }

// Readiness says that there is always something to read.
func (random) Readiness(mask wait.Events) wait.Events { return mask & (wait.In | wait.RdNorm) }

// Seek does nothing: there is no position to speak of.
func (random) Seek(vfs.Caller, *vfs.File, int64, int) (int64, error) { return 0, nil }

func (random) Read(_ vfs.Caller, _ *vfs.File, dst *uio.Dst, _ int64) (int, error) {
	return ReadRandom(dst)
}

// Write takes what would be mixed into the pool; the host's generator needs no help.
func (random) Write(_ vfs.Caller, _ *vfs.File, src *uio.Src, _ int64) (int, error) {
	return swallow(src)
}

// Ioctl is of random(4).
func (random) Ioctl(c vfs.Caller, _ *vfs.File, cmd uint32, arg uint64) (uint64, error) {
	switch cmd {
	case rndGetEntCnt:
		var b [4]byte
		binary.LittleEndian.PutUint32(b[:], poolBits)
		return 0, uio.WriteFull(c.Mem(), b[:], arg)
	case rndAddToEntCnt, rndAddEntropy, rndZapEntCnt, rndClearPool, rndReseed:
		if !c.Cred().Capable(unix.CAP_SYS_ADMIN) {
			return 0, unix.EPERM
		}
		return 0, nil
	}
	return 0, unix.EINVAL
}
