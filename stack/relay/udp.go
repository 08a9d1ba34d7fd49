package relay

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"taproom/stack/hook"
	"taproom/stack/packet"
)

// dgramFlow is a UDP flow, or a series of echo requests: a connected host
// socket for the packets between two addresses.
type dgramFlow struct {
	r     *Relay
	key   flowKey
	fd    int
	v6    bool
	echo  bool
	ident uint16 // of echo requests, as the container has it
	ttl   uint8  // the host socket's
	used  time.Time
	since time.Time

	out, in       atomic.Uint64 // packets
	outLen, inLen atomic.Uint64 // bytes
	closeOnce     sync.Once
	reply         func(f *dgramFlow, b []byte, gso int) // sends the container what came

	sentMu sync.Mutex     // guards sent
	sent   *packet.Packet // the header of the last packet sent
}

// udpOut takes a datagram from the container.
func (r *Relay) udpOut(p *hook.Packet, l4 int, k flowKey) hook.Verdict {
	if r.forwards.reply(p, l4, k) {
		return hook.Stolen
	}
	now := r.conf.Now()
	f := r.udp.get(k, now)
	if f == nil {
		to, err := r.target(k.dst)
		if err == nil {
			f, err = r.openDgram(unix.SOCK_DGRAM, 0, to, k, &r.udp, now)
		}
		if err != nil {
			if e, ok := fromErrno(p.Head(), err); ok {
				r.node.SendICMPError(p, e)
			}
			p.Reason = packet.NoRoute
			return hook.Drop
		}
		r.stats.udpOpened.Add(1)
	}
	f.send(p, l4+8)
	p.Release()
	return hook.Stolen
}

// openDgram opens the host socket of a new flow.
func (r *Relay) openDgram(kind, proto int, to netip.AddrPort, k flowKey, t *flowTable, now time.Time) (*dgramFlow, error) {
	fd, err := r.hostSocket(kind, proto, to)
	if err != nil {
		return nil, err
	}
	f := &dgramFlow{r: r, key: k, fd: fd, v6: k.dst.Addr().Is6(), ttl: 64, since: now, reply: (*dgramFlow).udpIn}
	errorQueue(fd, to.Addr().Is6())
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_GRO, 1)
	if victim := t.put(f, now); victim != nil {
		r.stats.evicted.Add(1)
		victim.end(r)
	}
	if err := r.eng.add(fd, f, unix.EPOLLIN|unix.EPOLLERR); err != nil {
		t.remove(f)
		_ = unix.Close(fd)
		return nil, err
	}
	return f, nil
}

// send passes a packet's payload on. Errors are told to the container at once.
func (f *dgramFlow) send(p *hook.Packet, payload int) {
	h := p.Head()
	if t := ttl(h) - 1; t != f.ttl {
		f.ttl = t
		setTTL(f.fd, f.v6, t)
	}
	f.remember(p, payload)
	f.out.Add(1)
	f.outLen.Add(uint64(p.Len() - payload))
	err := f.transmit(p, payload)
	if errors.Is(err, unix.ECONNREFUSED) {
		// That was the answer to an earlier one, taken from the error queue
		// by the engine; this one has not been sent.
		err = f.transmit(p, payload)
	}
	switch {
	case err == nil, errors.Is(err, unix.EAGAIN):
	case errors.Is(err, unix.EMSGSIZE):
		f.r.node.SendICMPError(p, tooBig(h, f.pathMTU()))
	default:
		if e, ok := fromErrno(h, err); ok {
			f.r.node.SendICMPError(p, e)
		}
	}
}

// transmit writes a payload to the host socket; super-frames as such.
func (f *dgramFlow) transmit(p *packet.Packet, payload int) error {
	h := p.Head()[payload:]
	if p.GSO.Type != packet.GSOUDP && len(p.Frags()) == 0 && len(h) > 0 {
		_, err := unix.Write(f.fd, h) // the usual one, without an allocation
		return err
	}
	var oob []byte
	if p.GSO.Type == packet.GSOUDP {
		oob = segmentSize(p.GSO.Size)
	}
	iov := append(make([][]byte, 0, 4), h)
	_, err := unix.SendmsgBuffers(f.fd, append(iov, p.Frags()...), oob, nil, unix.MSG_NOSIGNAL)
	return err
}

func segmentSize(n uint16) []byte {
	b := make([]byte, unix.CmsgSpace(2))
	binary.LittleEndian.PutUint64(b, uint64(unix.CmsgLen(2)))
	binary.LittleEndian.PutUint32(b[8:], unix.IPPROTO_UDP)
	binary.LittleEndian.PutUint32(b[12:], unix.UDP_SEGMENT)
	binary.LittleEndian.PutUint16(b[unix.CmsgLen(0):], n)
	return b
}

func (f *dgramFlow) pathMTU() int {
	level, name := unix.IPPROTO_IP, unix.IP_MTU
	if f.v6 {
		level, name = unix.IPPROTO_IPV6, unix.IPV6_MTU
	}
	if n, err := unix.GetsockoptInt(f.fd, level, name); err == nil {
		return n
	}
	return 1280
}

// remember keeps the header of a packet that was sent, for errors about it.
func (f *dgramFlow) remember(p *packet.Packet, payload int) {
	q := quote(p, payload-8)
	f.sentMu.Lock()
	old := f.sent
	f.sent = q
	f.sentMu.Unlock()
	if old != nil {
		old.Release()
	}
}

// event implements source: something came, or an error.
func (f *dgramFlow) event(ev uint32) {
	if ev&unix.EPOLLERR != 0 {
		f.errorIn()
	}
	var oob [128]byte
	for range 256 {
		n, on, _, _, err := unix.Recvmsg(f.fd, f.r.eng.buf, oob[:], unix.MSG_DONTWAIT)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			if err != unix.EAGAIN {
				f.errorIn()
			}
			return
		}
		f.in.Add(1)
		f.inLen.Add(uint64(n))
		f.reply(f, f.r.eng.buf[:n], groSize(oob[:on]))
	}
	f.r.eng.later(f)
}

// groSize finds the size of the datagrams that the kernel has joined, 0 if it
// has not.
func groSize(oob []byte) int {
	for len(oob) >= unix.CmsgLen(0) {
		n := int(binary.LittleEndian.Uint64(oob))
		if n < unix.CmsgLen(0) || n > len(oob) {
			return 0
		}
		if binary.LittleEndian.Uint32(oob[8:]) == unix.IPPROTO_UDP && binary.LittleEndian.Uint32(oob[12:]) == unix.UDP_GRO && n >= unix.CmsgLen(4) {
			return int(binary.LittleEndian.Uint32(oob[unix.CmsgLen(0):]))
		}
		oob = oob[min(unix.CmsgSpace(n-unix.CmsgLen(0)), len(oob)):]
	}
	return 0
}

// errorIn tells the container of an error that came back.
func (f *dgramFlow) errorIn() {
	f.sentMu.Lock()
	sent := f.sent
	f.sent = nil
	f.sentMu.Unlock()
	if sent == nil {
		_, _ = socketErrors(f.fd, []byte{0x45})
		return
	}
	defer sent.Release()
	if e, ok := socketErrors(f.fd, sent.Head()); ok {
		f.r.node.SendICMPError(sent, e)
		return
	}
	if n, err := unix.GetsockoptInt(f.fd, unix.SOL_SOCKET, unix.SO_ERROR); err == nil && n != 0 {
		if e, ok := fromErrno(sent.Head(), unix.Errno(n)); ok {
			f.r.node.SendICMPError(sent, e)
		}
	}
}

// udpIn sends what came from the host to the container, in the name of whom
// the container had written to.
func (f *dgramFlow) udpIn(b []byte, gso int) {
	f.r.udp.get(f.key, f.r.conf.Now())
	_ = f.r.node.Send(datagram(f.key.dst, f.key.src, b, gso))
	if f.key.dst.Port() == 53 {
		// One question, one answer: nothing is kept of it.
		if f.in.Load() >= f.out.Load() && f.r.udp.remove(f) {
			f.end(f.r)
		}
	}
}

// end closes the flow's socket. The flow has been taken out of its table.
func (f *dgramFlow) end(r *Relay) {
	f.closeOnce.Do(func() {
		r.eng.remove(f.fd)
		f.sentMu.Lock()
		if f.sent != nil {
			f.sent.Release()
			f.sent = nil
		}
		f.sentMu.Unlock()
	})
}

// expire ends idle flows; the engine calls it once a second.
func (r *Relay) expire() {
	now := r.conf.Now()
	r.expireSYNs(now)
	base := r.conf.Limits.UDPTimeout
	timeout := func(f *dgramFlow) time.Duration {
		if f.in.Load() > 1 && f.out.Load() > 1 {
			return 3 * base
		}
		return base
	}
	for _, t := range [...]*flowTable{&r.udp, &r.echo} {
		for _, f := range t.idle(now, timeout) {
			f.end(r)
		}
	}
}

// datagram builds a UDP packet with a partial checksum; gso is the payload of
// each datagram if there are several in b.
func datagram(src, dst netip.AddrPort, b []byte, gso int) *packet.Packet {
	l4 := 20
	if src.Addr().Is6() {
		l4 = 40
	}
	p := packet.Alloc(l4 + 8 + len(b))
	h := p.Head()
	writeIP(h, src.Addr(), dst.Addr(), packet.ProtoUDP, 8+len(b))
	u := h[l4:]
	binary.BigEndian.PutUint16(u, src.Port())
	binary.BigEndian.PutUint16(u[2:], dst.Port())
	binary.BigEndian.PutUint16(u[4:], uint16(8+len(b)))
	sum := packet.Fold(packet.PseudoSum(h[:l4], packet.ProtoUDP, 8+len(b)))
	binary.BigEndian.PutUint16(u[6:], sum)
	copy(u[8:], b)
	p.SetPartialChecksum(l4, 6)
	p.SetL3(0)
	p.SetL4(l4)
	if gso > 0 && len(b) > gso {
		p.GSO = packet.GSO{Type: packet.GSOUDP, Size: uint16(gso), Segs: uint16((len(b) + gso - 1) / gso)}
	}
	return p
}

var ipID atomic.Uint32

// writeIP writes a plain IP header.
func writeIP(h []byte, src, dst netip.Addr, proto uint8, payload int) {
	if src.Is4() {
		clear(h[:20])
		h[0], h[8], h[9] = 0x45, 64, proto
		binary.BigEndian.PutUint16(h[2:], uint16(20+payload))
		binary.BigEndian.PutUint16(h[4:], uint16(ipID.Add(1)))
		a, b := src.As4(), dst.As4()
		copy(h[12:], a[:])
		copy(h[16:], b[:])
		binary.BigEndian.PutUint16(h[10:], packet.Checksum(h[:20]))
		return
	}
	clear(h[:40])
	h[0], h[6], h[7] = 0x60, proto, 64
	binary.BigEndian.PutUint16(h[4:], uint16(payload))
	a, b := src.As16(), dst.As16()
	copy(h[8:], a[:])
	copy(h[24:], b[:])
}
