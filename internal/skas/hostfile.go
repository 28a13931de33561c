package skas

import (
	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/platform"
)

// installed is kept in platform.HostFile.Installed: the numbers of a host file in the stubs' descriptor tables. Guarded
// by Platform.fileMu.
type installed struct {
	ro, rw []int32 // by shard, -1 if not there
	users  int     // calls in flight that name a number
	closed bool
}

// useFile returns the stub-side number for f and keeps it from being closed until releaseFile: a number is used again
// only when no call that names it is in flight.
func (s *shard) useFile(f *platform.HostFile, rw bool) (int32, error) {
	if f == nil || rw && f.RW < 0 {
		return -1, unix.EACCES
	}
	p := s.p
	p.fileMu.Lock()
	defer p.fileMu.Unlock()
	in, _ := f.Installed.(*installed)
	if in == nil {
		in = &installed{ro: make([]int32, p.cfg.Shards), rw: make([]int32, p.cfg.Shards)}
		for i := range in.ro {
			in.ro[i], in.rw[i] = -1, -1
		}
		f.Installed = in
		f.OnClose = func() { p.closeFile(in) }
	}
	if in.closed {
		return -1, unix.EBADF
	}
	slot, fd := &in.ro[s.idx], f.RO
	if rw {
		slot, fd = &in.rw[s.idx], f.RW
	}
	if *slot < 0 {
		n, err := s.fam.installFd(fd)
		if err != nil {
			return -1, err
		}
		*slot = n
	}
	in.users++
	return *slot, nil
}

// releaseFile ends what useFile began.
func (p *Platform) releaseFile(f *platform.HostFile) {
	p.fileMu.Lock()
	defer p.fileMu.Unlock()
	if in, _ := f.Installed.(*installed); in != nil {
		in.users--
		if in.closed && in.users == 0 {
			p.dropLocked(in)
		}
	}
}

// closeFile drops the stub-side numbers of a file as soon as no call uses them.
func (p *Platform) closeFile(in *installed) {
	p.fileMu.Lock()
	defer p.fileMu.Unlock()
	in.closed = true
	if in.users == 0 {
		p.dropLocked(in)
	}
}

func (p *Platform) dropLocked(in *installed) {
	if p.closing.Load() {
		return
	}
	for i, s := range p.shards {
		for _, slot := range []*int32{&in.ro[i], &in.rw[i]} {
			if *slot >= 0 {
				s.fam.closeFd(*slot)
				*slot = -1
			}
		}
	}
}
