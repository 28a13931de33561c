package unixsock

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/net/socket"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
	"github.com/user-mode-linux/linux/internal/kernel/wait"
)

// Recv is recvmsg(2).
func (s *Socket) Recv(c vfs.Caller, m *socket.Msg, dst *uio.Dst) (int, error) {
	if m.Flags&unix.MSG_OOB != 0 {
		return 0, unix.EOPNOTSUPP
	}
	if m.Flags&unix.MSG_ERRQUEUE != 0 {
		return 0, unix.EAGAIN
	}
	if s.stream() {
		if s.state() != connected {
			return 0, unix.EINVAL
		}
		return s.recvStream(c, m, dst)
	}
	if !s.dgram() && s.state() != connected {
		return 0, unix.ENOTCONN
	}
	return s.recvPacket(c, m, dst)
}

// hasInput reports whether a receive need not wait.
func (s *Socket) hasInput() bool {
	s.rx.mu.Lock()
	n := s.rx.n
	s.rx.mu.Unlock()
	return n > 0 || s.shut.Load()&shutRd != 0 || s.HasError()
}

// stampOptions are the options that ask for the time of a datagram, and what a second has of the control message's unit.
// The type of the message is the option's number.
var stampOptions = [...]struct {
	name int
	unit int64
}{
	{unix.SO_TIMESTAMP, 1e6}, {unix.SO_TIMESTAMPNS, 1e9}, {unix.SO_TIMESTAMP_NEW, 1e6}, {unix.SO_TIMESTAMPNS_NEW, 1e9},
}

// describe fills in what a receive tells about the packet besides its data.
func (s *Socket) describe(m *socket.Msg, p *packet) {
	if p.stamp != 0 && s.stamps.Load() {
		for _, o := range stampOptions {
			if !s.Flag(o.name) {
				continue
			}
			b := binary.LittleEndian.AppendUint64(nil, uint64(p.stamp/1e9))
			b = binary.LittleEndian.AppendUint64(b, uint64(p.stamp%1e9/(1e9/o.unit)))
			m.Cmsgs = append(m.Cmsgs, socket.Cmsg{Level: unix.SOL_SOCKET, Type: int32(o.name), Data: b})
			break
		}
	}
	if s.passcred.Load() {
		m.Cmsgs = append(m.Cmsgs, socket.Cmsg{Level: unix.SOL_SOCKET, Type: unix.SCM_CREDENTIALS, Data: p.cred.encode()})
	}
}

// receiveFiles moves the packet's files to m, or with peek gives it more references to them.
func receiveFiles(m *socket.Msg, p *packet, peek bool) {
	rightsMu.Lock()
	defer rightsMu.Unlock()
	if !peek {
		m.Rights = append(m.Rights, p.takeFiles()...)
		return
	}
	for _, f := range p.files {
		m.Rights = append(m.Rights, f.IncRef())
	}
}

func (s *Socket) recvPacket(c vfs.Caller, m *socket.Msg, dst *uio.Dst) (int, error) {
	peek := m.Flags&unix.MSG_PEEK != 0
	t := s.RecvTimeout()
	for {
		if err := s.TakeError(); err != nil {
			return 0, err
		}
		s.rx.readMu.Lock()
		s.rx.mu.Lock()
		p := s.rx.head
		drained := false
		if p != nil && !peek {
			drained = s.rx.n == maxDgramQueue+1
			s.rx.popLocked()
		}
		s.rx.mu.Unlock()
		if p == nil {
			s.rx.readMu.Unlock()
			nonblock := m.Flags&unix.MSG_DONTWAIT != 0
			if s.shut.Load()&shutRd != 0 && (!nonblock || !s.dgram()) {
				return 0, nil
			}
			if nonblock {
				return 0, unix.EAGAIN
			}
			if err := s.q.Wait(c, wait.Readable, t.Deadline, s.hasInput); err != nil {
				return 0, t.Err(err)
			}
			continue
		}
		if drained {
			s.tellSenders()
		}
		n, err := dst.CopyOut(p.data)
		size := len(p.data)
		if err == nil {
			m.Addr = p.from
			s.describe(m, p)
		}
		if p.hasFiles {
			receiveFiles(m, p, peek)
		}
		s.rx.readMu.Unlock()
		if !peek {
			p.free()
		}
		if err != nil {
			m.DropRights()
			return 0, err
		}
		if n < size {
			m.OutFlags |= unix.MSG_TRUNC
			if m.Flags&unix.MSG_TRUNC != 0 {
				n = size
			}
		}
		return n, nil
	}
}

// tellSenders wakes those who wait for room in the queue.
func (s *Socket) tellSenders() {
	s.q.Notify(writable)
	s.mu.Lock()
	for p := range s.senders {
		p.q.Notify(writable)
	}
	s.mu.Unlock()
}

// streamRead is the state of one receive from a stream.
type streamRead struct {
	m    *socket.Msg
	dst  *uio.Dst
	peek bool
	done int
	from *packet // peek: the last packet looked at
	seen int     // and how much of it; the sender may append to it
	// cred is that of the data so far, once known.
	cred  ucred
	known bool
}

func (s *Socket) recvStream(c vfs.Caller, m *socket.Msg, dst *uio.Dst) (int, error) {
	if dst.Len() == 0 {
		return 0, nil
	}
	target := min(s.Lowat(), dst.Len())
	if m.Flags&unix.MSG_WAITALL != 0 {
		target = dst.Len()
	}
	r := streamRead{m: m, dst: dst, peek: m.Flags&unix.MSG_PEEK != 0}
	t := s.RecvTimeout()
	for {
		s.rx.readMu.Lock()
		more, err := s.readQueue(&r)
		s.rx.readMu.Unlock()
		if err != nil && r.done == 0 {
			m.DropRights()
			return 0, err
		}
		if err != nil || !more || r.done >= target || r.peek && r.done > 0 {
			return r.done, nil
		}
		// Errors are looked at only when all data is received.
		if s.hasData() {
			continue
		}
		if err := s.TakeError(); err != nil {
			return s.partial(r.done, err)
		}
		if s.shut.Load()&shutRd != 0 {
			return r.done, nil
		}
		if m.Flags&unix.MSG_DONTWAIT != 0 {
			return s.partial(r.done, unix.EAGAIN)
		}
		if err := s.q.Wait(c, wait.Readable, t.Deadline, s.hasInput); err != nil {
			return s.partial(r.done, t.Err(err))
		}
	}
}

func (s *Socket) hasData() bool {
	s.rx.mu.Lock()
	defer s.rx.mu.Unlock()
	return s.rx.n > 0
}

func (s *Socket) partial(done int, err error) (int, error) {
	if done > 0 {
		return done, nil
	}
	return 0, err
}

// readQueue receives what is in the queue; more says that the receive may go on with what comes later. Called with readMu
// held: no packet leaves the queue meanwhile, but the sender may append to the last one.
func (s *Socket) readQueue(r *streamRead) (more bool, err error) {
	for r.dst.Len() > 0 {
		s.rx.mu.Lock()
		p := s.rx.head
		if r.from != nil {
			p = r.from
			if r.seen == len(p.data) {
				p, r.seen = p.next, 0
			}
		}
		if p == nil {
			s.rx.mu.Unlock()
			return true, nil
		}
		data := p.data[r.seen:]
		s.rx.mu.Unlock()
		if r.known && s.passcred.Load() && p.cred != r.cred {
			return false, nil
		}
		if !r.known {
			r.known, r.cred = true, p.cred
			s.describe(r.m, p)
			if a := p.owner.addr.Load(); a != nil && r.m.WantAddr {
				r.m.Addr = a.encode()
			}
		}
		n, err := r.dst.CopyOut(data)
		r.done += n
		if n == 0 && err != nil {
			return false, err
		}
		files := p.hasFiles
		if files {
			receiveFiles(r.m, p, r.peek)
		}
		if r.peek {
			r.from = p
			r.seen += n
		} else {
			s.advance(p, n, files)
		}
		if err != nil || files {
			return false, err
		}
	}
	return false, nil
}

// advance takes n received bytes off the first packet.
func (s *Socket) advance(p *packet, n int, files bool) {
	s.rx.mu.Lock()
	p.data = p.data[n:]
	s.rx.bytes -= n
	if files {
		p.hasFiles = false
	}
	empty := len(p.data) == 0
	if empty {
		s.rx.popLocked()
	}
	s.rx.mu.Unlock()
	if empty {
		p.free()
	}
}
