package pipefs

import (
	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/ktime"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
	"github.com/user-mode-linux/linux/internal/kernel/wait"
)

// WaitData waits until the pipe has data. It returns false at the end of the file: EAGAIN, ERESTARTSYS.
func (p *Pipe) WaitData(c vfs.Caller, nonblock bool) (bool, error) {
	p.mu.Lock()
	data, eof := p.used > 0, p.writers == 0
	p.mu.Unlock()
	switch {
	case data || eof:
		return data, nil
	case nonblock:
		return false, unix.EAGAIN
	}
	if err := p.q.Wait(c, wait.Readable, ktime.Forever, p.dataOrEOF); err != nil {
		return false, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.used > 0, nil
}

// WaitRoom waits until the pipe has a free slot: EPIPE (with SIGPIPE), EAGAIN, ERESTARTSYS.
func (p *Pipe) WaitRoom(c vfs.Caller, nonblock bool) error {
	for {
		p.mu.Lock()
		full, broken := p.full(), p.readers == 0
		p.mu.Unlock()
		switch {
		case broken:
			c.Signal(unix.SIGPIPE)
			return unix.EPIPE
		case !full:
			return nil
		case nonblock:
			return unix.EAGAIN
		}
		if err := p.q.Wait(c, wait.Writable, ktime.Forever, p.roomOrBroken); err != nil {
			return err
		}
	}
}

// Feed lets fn put up to n bytes into free pages of the pipe; fn returns how many it put. It returns 0, nil without a call
// of fn when the pipe is full. fn runs under the pipe's lock.
func (p *Pipe) Feed(n int, fn func(dst *uio.Dst) (int, error)) (int, error) {
	p.mu.Lock()
	start, room := p.room(min((n+pageSize-1)/pageSize, p.max))
	if room == nil {
		p.mu.Unlock()
		return 0, nil
	}
	k, err := fn(uio.ToBytes(room[:min(n, len(room))]))
	p.commit(start, k, false)
	p.mu.Unlock()
	if k > 0 {
		p.q.Notify(wait.In | wait.RdNorm)
	}
	return k, err
}

// FeedUser moves guest memory into the pipe as far as it fits, without waiting (vmsplice(2)).
func (p *Pipe) FeedUser(src *uio.Src) (int, error) {
	p.mu.Lock()
	n, err := p.fill(src, false, true)
	p.mu.Unlock()
	if n > 0 {
		p.q.Notify(wait.In | wait.RdNorm)
	}
	return n, partial(n, err)
}

// DrainUser moves what the pipe has into guest memory, without waiting (vmsplice(2)).
func (p *Pipe) DrainUser(dst *uio.Dst) (int, error) {
	p.mu.Lock()
	wasFull := p.full()
	n, err := p.drain(dst)
	woken := wasFull && !p.full()
	p.mu.Unlock()
	if woken {
		p.q.Notify(wait.Out | wait.WrNorm)
	}
	return n, partial(n, err)
}

// Drain lets fn take up to n bytes from the head of the pipe; fn returns how many it took. It returns 0, nil without a
// call of fn when the pipe is empty. fn runs under the pipe's lock.
func (p *Pipe) Drain(n int, fn func(src *uio.Src) (int, error)) (int, error) {
	p.mu.Lock()
	wasFull := p.full()
	data, _ := p.front(n)
	if len(data) == 0 {
		p.mu.Unlock()
		return 0, nil
	}
	k, err := fn(uio.FromBytes(data))
	p.consume(k)
	woken := wasFull && !p.full()
	p.mu.Unlock()
	if woken {
		p.q.Notify(wait.Out | wait.WrNorm)
	}
	return k, err
}

// Transfer copies up to n bytes from src to dst without waiting; move takes them out of src (splice(2)), else they stay
// there (tee(2)). It returns 0 when src is empty or dst is full; src and dst differ.
func Transfer(dst, src *Pipe, n int, move bool) int {
	a, b := dst, src
	if a.id > b.id {
		a, b = b, a
	}
	a.mu.Lock()
	b.mu.Lock()
	wasFull := src.full()
	done := 0
	for i := 0; done < n && i < src.used && !dst.full(); {
		j := src.at(i)
		s := src.slots[j]
		k := min(int(s.n), n-done)
		start, room := dst.room(1)
		if room == nil {
			break
		}
		copy(room, src.buf[j*pageSize+int(s.off):][:k])
		dst.commit(start, k, s.packet)
		done += k
		if move {
			src.consume(k)
		} else {
			i++
		}
	}
	woken := wasFull && !src.full()
	b.mu.Unlock()
	a.mu.Unlock()
	if done > 0 {
		dst.q.Notify(wait.In | wait.RdNorm)
	}
	if woken {
		src.q.Notify(wait.Out | wait.WrNorm)
	}
	return done
}
