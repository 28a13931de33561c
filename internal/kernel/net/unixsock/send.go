package unixsock

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/kmem"
	"github.com/user-mode-linux/linux/internal/kernel/ktime"
	"github.com/user-mode-linux/linux/internal/kernel/net/socket"
	"github.com/user-mode-linux/linux/internal/kernel/uio"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
	"github.com/user-mode-linux/linux/internal/kernel/wait"
)

// maxChunk is how much of a stream one packet carries.
const maxChunk = 1 << maxClass

// control is the decoded control messages of a send.
type control struct {
	cred  ucred
	files []*vfs.File
}

func (ct *control) drop() {
	for _, f := range ct.files {
		f.DecRef()
	}
	ct.files = nil
}

// parseControl decodes SCM_RIGHTS and SCM_CREDENTIALS; messages of other levels are ignored.
func parseControl(c vfs.Caller, m *socket.Msg) (ct control, err error) {
	ct.cred = callerCred(c)
	cr := c.Cred()
	ct.cred.uid, ct.cred.gid = cr.UID, cr.GID
	for rest := m.Control; ; {
		var cm socket.Cmsg
		var ok bool
		if cm, rest, ok, err = socket.NextCmsg(rest); err != nil || !ok {
			break
		}
		if cm.Level != unix.SOL_SOCKET {
			continue
		}
		switch cm.Type {
		case unix.SCM_RIGHTS:
			err = ct.addRights(m.FDs, cm.Data)
		case unix.SCM_CREDENTIALS:
			err = ct.setCred(c, cm.Data)
		default:
			err = unix.EINVAL
		}
		if err != nil {
			break
		}
	}
	if err == nil && len(ct.files) > 0 && tooMany(c) {
		err = unix.ETOOMANYREFS
	}
	if err != nil {
		ct.drop()
	}
	return ct, err
}

func (ct *control) addRights(fds socket.FDs, data []byte) error {
	if len(data)%4 != 0 {
		data = data[:len(data)&^3]
	}
	if len(data)/4+len(ct.files) > maxRights {
		return unix.EINVAL
	}
	if fds == nil && len(data) > 0 {
		return unix.EBADF
	}
	for ; len(data) > 0; data = data[4:] {
		f, err := fds.Get(int32(binary.LittleEndian.Uint32(data)))
		if err != nil {
			return err
		}
		ct.files = append(ct.files, f)
	}
	return nil
}

// setCred checks the credentials that a sender claims.
func (ct *control) setCred(c vfs.Caller, data []byte) error {
	if len(data) != 12 {
		return unix.EINVAL
	}
	u := ucred{int32(binary.LittleEndian.Uint32(data)), binary.LittleEndian.Uint32(data[4:]), binary.LittleEndian.Uint32(data[8:])}
	cr := c.Cred()
	if u.pid != c.PID() && !cr.Capable(unix.CAP_SYS_ADMIN) ||
		u.uid != cr.UID && u.uid != cr.EUID && u.uid != cr.SUID && !cr.Capable(unix.CAP_SETUID) ||
		u.gid != cr.GID && u.gid != cr.EGID && u.gid != cr.SGID && !cr.Capable(unix.CAP_SETGID) {
		return unix.EPERM
	}
	ct.cred = u
	return nil
}

// Send is sendmsg(2).
func (s *Socket) Send(c vfs.Caller, m *socket.Msg, src *uio.Src) (int, error) {
	if m.Flags&unix.MSG_OOB != 0 {
		return 0, unix.EOPNOTSUPP
	}
	ct, err := parseControl(c, m)
	if err != nil {
		return 0, err
	}
	defer ct.drop()
	if s.passcred.Load() && s.addr.Load() == nil {
		if err := s.autobind(); err != nil {
			return 0, err
		}
	}
	if s.stream() {
		return s.sendStream(c, m, &ct, src)
	}
	return s.sendPacket(c, m, &ct, src)
}

// room waits until the socket may queue more.
func (s *Socket) room(c vfs.Caller, nonblock bool, t socket.Timeout) error {
	if s.canQueue() {
		return nil
	}
	if nonblock {
		return unix.EAGAIN
	}
	err := s.q.Wait(c, wait.Writable, t.Deadline, func() bool {
		return s.canQueue() || s.shut.Load()&shutWr != 0
	})
	return t.Err(err)
}

func (s *Socket) sendStream(c vfs.Caller, m *socket.Msg, ct *control, src *uio.Src) (done int, err error) {
	if m.Addr != nil {
		if s.state() == connected {
			return 0, unix.EISCONN
		}
		return 0, unix.EOPNOTSUPP
	}
	peer := s.peer.Load()
	if s.state() != connected || peer == nil {
		return 0, unix.ENOTCONN
	}
	nonblock := m.Flags&unix.MSG_DONTWAIT != 0
	t := s.SendTimeout()
	for src.Len() > 0 && err == nil {
		if s.shut.Load()&shutWr != 0 {
			err = unix.EPIPE
			break
		}
		if err = s.room(c, nonblock, t); err != nil {
			break
		}
		var n int
		n, err = s.sendChunk(c, peer, ct, src)
		done += n
	}
	if err == unix.EPIPE && done == 0 && m.Flags&unix.MSG_NOSIGNAL == 0 {
		c.Signal(unix.SIGPIPE)
	}
	if done > 0 {
		err = nil
	}
	return done, err
}

// sendChunk moves one piece of a stream to the peer.
func (s *Socket) sendChunk(c vfs.Caller, peer *Socket, ct *control, src *uio.Src) (int, error) {
	n := min(src.Len(), maxChunk)
	q := &peer.rx
	if n < maxChunk && len(ct.files) == 0 {
		if k, err := s.appendTail(peer, ct.cred, src); k > 0 || err != nil {
			return k, err
		}
	}
	if kmem.Full() {
		return 0, unix.ENOBUFS
	}
	p := newPacket(n)
	n, err := src.CopyIn(p.buf[:n])
	if n == 0 {
		p.free()
		return 0, err
	}
	p.data = p.buf[:n]
	p.cred, p.owner, p.charge = ct.cred, s, charge(n)
	s.addCharge(p.charge)
	if len(ct.files) > 0 {
		rightsMu.Lock()
	}
	q.mu.Lock()
	if peer.shut.Load()&shutRd != 0 {
		q.mu.Unlock()
		if len(ct.files) > 0 {
			rightsMu.Unlock()
		}
		p.free()
		return 0, unix.EPIPE
	}
	rights := len(ct.files) > 0
	if rights {
		p.files, p.hasFiles, p.sender = ct.files, true, c.Cred().UID
		launch(p.sender, p.files)
		ct.files = nil
	}
	q.pushLocked(p)
	q.mu.Unlock()
	if rights {
		rightsMu.Unlock()
	}
	peer.q.Notify(readable)
	return n, err
}

// appendTail appends to the last packet of the peer's queue if that is of the same sender and has room for all of src.
func (s *Socket) appendTail(peer *Socket, cred ucred, src *uio.Src) (int, error) {
	q := &peer.rx
	q.mu.Lock()
	p := q.tail
	if p == nil || p.owner != s || p.cred != cred || p.hasFiles || cap(p.data)-len(p.data) < src.Len() ||
		peer.shut.Load()&shutRd != 0 {
		q.mu.Unlock()
		return 0, nil
	}
	old := len(p.data)
	n, err := src.CopyIn(p.data[old : old+src.Len()])
	p.data = p.data[:old+n]
	cost := charge(n)
	p.charge += cost
	q.bytes += n
	s.addCharge(cost)
	q.mu.Unlock()
	if n > 0 {
		peer.q.Notify(readable)
	}
	return n, err
}

// sendPacket sends a datagram or a seqpacket message.
func (s *Socket) sendPacket(c vfs.Caller, m *socket.Msg, ct *control, src *uio.Src) (int, error) {
	dest, err := s.destination(c, m)
	if err != nil {
		return 0, err
	}
	n := src.Len()
	if int64(n) > s.sndbuf.Load()-32 {
		return 0, unix.EMSGSIZE
	}
	nonblock := m.Flags&unix.MSG_DONTWAIT != 0
	t := s.SendTimeout()
	if err := s.TakeError(); err != nil {
		return 0, err
	}
	if s.shut.Load()&shutWr != 0 {
		return 0, unix.EPIPE
	}
	if err := s.room(c, nonblock, t); err != nil {
		return 0, err
	}
	if kmem.Full() {
		return 0, unix.ENOBUFS
	}
	p := newPacket(n)
	if _, err := src.CopyIn(p.buf[:n]); err != nil {
		p.free()
		return 0, err
	}
	p.data = p.buf[:n]
	p.cred, p.owner, p.charge = ct.cred, s, charge(n)
	if a := s.addr.Load(); a != nil {
		p.from = a.encode()
	}
	if dest.stamps.Load() {
		p.stamp = ktime.Realtime()
	}
	s.addCharge(p.charge)
	for {
		full, err := s.deliver(c, dest, p, ct)
		switch {
		case !full && err == nil:
			dest.q.Notify(readable)
			return n, nil
		case !full:
			p.free()
			if err == unix.ECONNREFUSED && s.dgram() && s.peer.Load() == dest {
				s.setDgramPeer(nil)
			}
			return 0, err
		case nonblock:
			p.free()
			return 0, unix.EAGAIN
		}
		err = dest.q.Wait(c, wait.Writable, t.Deadline, func() bool {
			dest.rx.mu.Lock()
			defer dest.rx.mu.Unlock()
			return dest.rx.n <= maxDgramQueue || dest.rx.closed || dest.shut.Load()&shutRd != 0 || s.shut.Load()&shutWr != 0
		})
		if err != nil {
			p.free()
			return 0, t.Err(err)
		}
	}
}

// destination is the socket that a message goes to.
func (s *Socket) destination(c vfs.Caller, m *socket.Msg) (*Socket, error) {
	if s.dgram() && m.Addr != nil {
		a, err := parseAddress(m.Addr)
		if err != nil {
			return nil, err
		}
		return a.find(c, s.Type)
	}
	p := s.peer.Load()
	if p == nil || !s.dgram() && s.state() != connected {
		return nil, unix.ENOTCONN
	}
	return p, nil
}

// deliver puts a packet into the queue of dest; full says that there is no room and nothing was done.
func (s *Socket) deliver(c vfs.Caller, dest *Socket, p *packet, ct *control) (full bool, err error) {
	if len(ct.files) > 0 {
		rightsMu.Lock()
		defer rightsMu.Unlock()
	}
	q := &dest.rx
	q.mu.Lock()
	defer q.mu.Unlock()
	back := dest.peer.Load()
	switch {
	case q.closed && s.dgram():
		return false, unix.ECONNREFUSED
	case q.closed || s.shut.Load()&shutWr != 0 || dest.shut.Load()&shutRd != 0:
		return false, unix.EPIPE
	case s.dgram() && back != nil && back != s:
		return false, unix.EPERM
	case dest != s && back != s && q.n > maxDgramQueue:
		return true, nil
	}
	if len(ct.files) > 0 {
		p.files, p.hasFiles, p.sender = ct.files, true, c.Cred().UID
		launch(p.sender, p.files)
		ct.files = nil
	}
	q.pushLocked(p)
	return false, nil
}
