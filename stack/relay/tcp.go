package relay

import (
	"errors"
	"io"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"taproom/stack"
	"taproom/stack/packet"
)

// This file splices TCP connections. The host's side is connected before the
// container's handshake is answered, so that the container sees what the host
// saw: an answer, a refusal, an error, or silence.

// pendingSYN is the start of a connection that is not decided yet.
type pendingSYN struct {
	p  *packet.Packet // its header, for errors about it
	at time.Time
}

// remember keeps a SYN until its connection is decided, and reports whether
// there was room. Netstack is shown no other SYN: what it asks serveTCP about
// without one is not for the relay.
func (r *Relay) remember(k flowKey, p *packet.Packet) bool {
	t, _ := packet.ParseTransport(p.Head())
	s := pendingSYN{quote(p, t.Offset), r.conf.Now()}
	r.mu.Lock()
	old, repeated := r.pending[k]
	full := r.closed || !repeated && len(r.pending) >= r.conf.Limits.InFlight
	if full {
		old, repeated = s, true
	} else {
		r.pending[k] = s
	}
	r.mu.Unlock()
	if repeated {
		old.p.Release()
	}
	return !full
}

// takeSYN returns the SYN of a connection, nil if it is not known.
func (r *Relay) takeSYN(k flowKey) *packet.Packet {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.pending[k].p
	delete(r.pending, k)
	return p
}

// expireSYNs forgets SYNs that were repeated after their connection had been
// decided.
func (r *Relay) expireSYNs(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for k, s := range r.pending {
		if now.Sub(s.at) > 2*r.conf.Limits.Connect {
			delete(r.pending, k)
			s.p.Release()
		}
	}
}

// serveTCP makes one connection. It runs on a goroutine of its own, which ends
// when the connection is established or has failed.
func (r *Relay) serveTCP(q *stack.TCPRequest) {
	k := flowKey{q.Src, q.Dst}
	r.mu.Lock()
	_, ours := r.pending[k]
	full := len(r.tcp) >= r.conf.Limits.TCP || r.closed
	r.mu.Unlock()
	if !ours || full {
		if syn := r.takeSYN(k); syn != nil {
			r.stats.refusedLimit.Add(1)
			syn.Release()
		}
		q.Refuse(true)
		return
	}
	fd, err := r.connect(q.Dst)
	if err != nil {
		syn := r.takeSYN(k)
		r.stats.tcpRefused.Add(1)
		r.refuse(q, syn, err)
		if syn != nil {
			syn.Release()
		}
		return
	}
	c, err := q.Accept()
	if syn := r.takeSYN(k); syn != nil {
		syn.Release()
	}
	if err != nil {
		_ = unix.Close(fd)
		return
	}
	r.splice(c, fd, q.Src, q.Dst, false)
}

// refuse passes on why the host could not connect: a refusal is a reset, an
// unreachable destination an ICMP error, and silence stays silence.
func (r *Relay) refuse(q *stack.TCPRequest, syn *packet.Packet, err error) {
	if syn != nil && !errors.Is(err, unix.ECONNREFUSED) {
		if e, ok := fromErrno(syn.Head(), err); ok {
			r.node.SendICMPError(syn, e)
			q.Refuse(false)
			return
		}
	}
	q.Refuse(!errors.Is(err, unix.ETIMEDOUT))
}

// connect connects a host socket and waits for the outcome.
func (r *Relay) connect(dst netip.AddrPort) (int, error) {
	to, err := r.target(dst)
	if err != nil {
		return -1, err
	}
	fd, err := r.hostSocket(unix.SOCK_STREAM, 0, to)
	if err != nil {
		return -1, err
	}
	w := &connecting{fd: fd, done: make(chan struct{})}
	if err := r.eng.add(fd, w, unix.EPOLLOUT); err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	timer := time.NewTimer(r.conf.Limits.Connect)
	defer timer.Stop()
	select {
	case <-w.done:
	case <-r.eng.done:
		_ = unix.Close(fd)
		return -1, unix.ECANCELED
	case <-timer.C:
		r.eng.remove(fd)
		return -1, unix.ETIMEDOUT
	}
	r.eng.forget(fd)
	if n, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR); err != nil || n != 0 {
		_ = unix.Close(fd)
		return -1, os.NewSyscallError("connect", unix.Errno(n))
	}
	return fd, nil
}

// connecting waits for a connect to end.
type connecting struct {
	fd   int
	done chan struct{}
	once bool
}

func (w *connecting) event(uint32) {
	if !w.once {
		w.once = true
		close(w.done)
	}
}

// tcpFlow is one spliced connection.
//
// Both of the engine's goroutines bring events. Whoever comes while the other
// is at work leaves a note and goes: the one at work looks again before it
// leaves. So a flow is worked on by one at a time, and nobody waits.
type tcpFlow struct {
	r        *Relay
	in       *stack.TCPConn
	fd       int
	src, dst netip.AddrPort
	since    time.Time
	inbound  bool // came by a forward: src is outside

	queued atomic.Bool   // on the engine's list of ready flows
	events atomic.Uint32 // epoll events that nobody has looked at, and noted
	up     atomic.Uint64
	down   atomic.Uint64

	mu                 sync.Mutex // guards what follows
	readable, writable bool       // the host socket, as far as epoll has told
	hup                bool       // the host's side has ended, or broken
	upEnd, downEnd     bool       // that direction has been closed
	ended              bool
}

// noted says that there is something to look at. It is no epoll event.
const noted = 1 << 20

// splice joins a connection of the container's with a host socket.
func (r *Relay) splice(c *stack.TCPConn, fd int, src, dst netip.AddrPort, inbound bool) {
	f := &tcpFlow{r: r, in: c, fd: fd, src: src, dst: dst, since: r.conf.Now(), inbound: inbound, readable: true, writable: true}
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	r.mu.Lock()
	closed := r.closed
	if !closed {
		r.tcp[f] = struct{}{}
	}
	r.mu.Unlock()
	if closed {
		c.Reset()
		_ = unix.Close(fd)
		return
	}
	r.stats.tcpOpened.Add(1)
	c.Notify(f.wake)
	if err := r.eng.add(fd, f, unix.EPOLLIN|unix.EPOLLOUT|unix.EPOLLRDHUP); err != nil {
		f.abort()
		return
	}
	f.wake()
}

// wake is called by netstack, with its locks held.
func (f *tcpFlow) wake() {
	if !f.queued.Swap(true) {
		f.r.eng.post(f)
	}
}

// event implements source.
func (f *tcpFlow) event(ev uint32) {
	if ev == 0 {
		f.queued.Store(false)
	}
	f.events.Or(ev | noted)
	for f.events.Load() != 0 && f.mu.TryLock() {
		f.turn(f.events.Swap(0))
		f.mu.Unlock()
	}
}

// turn moves what can be moved. f.mu is held.
func (f *tcpFlow) turn(ev uint32) {
	if f.ended {
		return
	}
	if ev&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		f.hup, f.readable = true, true
	}
	if ev&unix.EPOLLIN != 0 {
		f.readable = true
	}
	if ev&(unix.EPOLLOUT|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		f.writable = true
	}
	if f.pumpUp() != nil || f.pumpDown() != nil {
		f.abortLocked() // the way one side broke, the other does
		return
	}
	if f.upEnd && f.downEnd {
		f.finishLocked()
	}
}

// Write implements io.Writer over the host socket, for netstack to hand its
// buffers to without a copy.
func (f *tcpFlow) Write(b []byte) (int, error) {
	done := 0
	for done < len(b) {
		n, err := unix.Write(f.fd, b[done:])
		if n > 0 {
			done += n
			continue
		}
		switch err {
		case unix.EINTR:
		case unix.EAGAIN:
			f.writable = false
			return done, io.ErrShortWrite
		default:
			return done, err
		}
	}
	return done, nil
}

// maxTurn is how much one flow may move before others have their turn.
const maxTurn = 1 << 20

// pumpUp moves data from the container to the host.
func (f *tcpFlow) pumpUp() error {
	for moved := 0; f.writable && !f.upEnd; {
		n, err := f.in.ReadTo(f)
		moved += n
		f.up.Add(uint64(n))
		switch {
		case err == nil && moved >= maxTurn:
			f.wake()
			return nil
		case err == nil:
		case errors.Is(err, stack.ErrWouldBlock):
			return nil
		case err == io.EOF:
			f.upEnd = true
			_ = unix.Shutdown(f.fd, unix.SHUT_WR)
		default:
			return err
		}
	}
	return nil
}

// hostData reads what waits at a host socket, n bytes of it, straight into
// netstack's buffers.
type hostData struct{ fd, n int }

// Len implements stack.Payload.
func (d *hostData) Len() int { return d.n }

func (d *hostData) Read(b []byte) (int, error) {
	if d.n == 0 {
		return 0, io.EOF
	}
	for {
		n, err := unix.Read(d.fd, b[:min(len(b), d.n)])
		if err == unix.EINTR {
			continue
		}
		if n <= 0 {
			return 0, io.ErrUnexpectedEOF // what was there a moment ago is gone: it broke
		}
		d.n -= n
		return n, nil
	}
}

// pumpDown moves data from the host to the container, no more than the
// container's side has room for: what waits, waits in the kernel.
func (f *tcpFlow) pumpDown() error {
	for moved := 0; f.readable && !f.downEnd; {
		room := f.in.Room()
		if room == 0 {
			return nil
		}
		waiting, err := unix.IoctlGetInt(f.fd, unix.SIOCINQ)
		if err != nil {
			return err
		}
		if waiting == 0 {
			if err := f.hostEnd(); err != nil {
				return err
			}
			continue
		}
		d := hostData{f.fd, min(waiting, room, maxTurn)}
		asked := d.n
		n, err := f.in.WriteFrom(&d)
		f.down.Add(uint64(n))
		switch {
		case errors.Is(err, stack.ErrWouldBlock):
			return nil
		case err != nil:
			return err
		case n == waiting && !f.hup:
			// Whatever comes from now on is a new event.
			f.readable = false
			return nil
		case n < asked && n == 0:
			return nil
		}
		if moved += n; moved >= maxTurn {
			f.wake()
			return nil
		}
	}
	return nil
}

// hostEnd is called when the host's side has no data: it may have ended.
func (f *tcpFlow) hostEnd() error {
	var b [1]byte
	n, _, err := unix.Recvfrom(f.fd, b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
	switch {
	case err == unix.EINTR, err == nil && n > 0:
		return nil
	case err == unix.EAGAIN:
		f.readable = false
		return nil
	case err != nil:
		return err
	}
	f.downEnd = true
	f.in.CloseWrite()
	return nil
}

// finishLocked ends a flow whose two directions were closed in order.
func (f *tcpFlow) finishLocked() {
	f.ended = true
	f.in.Close()
	f.drop()
}

// abort ends a flow with resets on both sides.
func (f *tcpFlow) abort() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.abortLocked()
}

func (f *tcpFlow) abortLocked() {
	if f.ended {
		return
	}
	f.ended = true
	f.in.Reset()
	_ = unix.SetsockoptLinger(f.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	f.drop()
}

func (f *tcpFlow) drop() {
	f.r.eng.remove(f.fd)
	f.r.mu.Lock()
	delete(f.r.tcp, f)
	f.r.mu.Unlock()
}
