package packet

import (
	"bytes"
	"encoding/binary"
)

const (
	groFlows       = 8  // flows looked at together, as many as Linux keeps in a bucket
	groUDPSegments = 64 // datagrams in a super-frame (UDP_GRO_CNT_MAX)
	groMaxLen      = 65535
)

// GRO puts single TCP and UDP packets of a flow together into super-frames.
// It is strict: what it builds, a Segmenter takes apart into the very bytes
// that came in. So packets are joined only if
//
//   - their headers are equal, options, extension headers and tags included,
//     but for what counts up: IPv4 identification (by one) and TCP sequence;
//   - all checksums are right, in the form in which Linux writes them;
//   - all payloads but the last have the same length, and the last no more;
//   - TCP: none has SYN, RST or URG, only the first CWR, only the last PSH or
//     FIN (the rules of tcp_gro_receive).
//
// Everything else passes as it is: fragments, tunnels, padded frames, UDP
// without checksum. The order of packets within a flow stays; a super-frame
// is where the first of its packets was.
//
// The zero value is ready. It keeps nothing between calls, and is not safe for
// concurrent use.
type GRO struct {
	flows [groFlows]groFlow
	used  int
	next  int // replaced when all are in use
}

// groFlow is a packet that others may be joined to.
type groFlow struct {
	p        *Packet
	h        headers
	payload  int    // so far
	size     int    // of a segment
	segs     int    // so far
	seq      uint32 // TCP: expected next
	id       uint16 // IPv4: expected next
	verified bool
	flags    byte // TCP flags that later packets added
}

// Coalesce joins what can be joined in batch, in place, and returns the
// shortened batch. The packets that were joined to others are released.
func (g *GRO) Coalesce(batch []*Packet) []*Packet {
	if len(batch) < 2 {
		return batch
	}
	out := batch[:0]
	for _, p := range batch {
		if !g.receive(p) {
			out = append(out, p)
		}
	}
	g.flushAll()
	clear(batch[len(out):])
	return out
}

// receive joins p to a flow's packet and reports true, or lets it pass.
func (g *GRO) receive(p *Packet) (joined bool) {
	h, ok := p.parseHeaders()
	if !ok || h.tunnels > 0 || p.GSO.Type != GSONone {
		// It may belong to any of the flows: none may overtake it.
		g.flushAll()
		return false
	}
	i := g.find(p, h)
	good := p.groCandidate(h)
	if i >= 0 {
		f := &g.flows[i]
		if good && f.accepts(p, h) && f.join(p, h) {
			if f.finished(p, h) {
				g.flush(i)
			}
			p.Release()
			return true
		}
		g.flush(i)
	}
	if good && p.groMayStart(h) {
		g.start(p, h)
	}
	return false
}

// find returns the flow that p belongs to, or -1.
func (g *GRO) find(p *Packet, h headers) int {
	b := p.Head()
	for i := g.used - 1; i >= 0; i-- {
		f := &g.flows[i]
		if f.h.proto != h.proto || f.h.v6 != h.v6 {
			continue
		}
		c := f.p.Head()
		first := 12
		last := 20
		if h.v6 {
			first, last = 8, 40
		}
		if bytes.Equal(b[h.l4:h.l4+4], c[f.h.l4:f.h.l4+4]) && bytes.Equal(b[h.l3+first:h.l3+last], c[f.h.l3+first:f.h.l3+last]) {
			return i
		}
	}
	return -1
}

// groCandidate reports whether p's own headers allow it to be joined or to
// begin: lengths exact, IPv4 header canonical, flags ordinary.
func (p *Packet) groCandidate(h headers) bool {
	b := p.Head()
	ip := b[h.l3:]
	n := p.Len() - h.l3
	if h.v6 {
		if int(binary.BigEndian.Uint16(ip[4:])) != n-40 {
			return false
		}
	} else {
		if h.l4-h.l3 != 20 || int(binary.BigEndian.Uint16(ip[2:])) != n || binary.BigEndian.Uint16(ip[6:])&0xbfff != 0 {
			return false
		}
		if binary.BigEndian.Uint16(ip[10:]) != ^Fold(Sum(Sum(0, ip[:10]), ip[12:20])) {
			return false
		}
	}
	if p.Len() == h.payload || p.Shared() {
		return false
	}
	if start, off, ok := p.PartialChecksum(); ok && (start != h.l4 || off != h.checkOffset()) {
		return false
	}
	check := binary.BigEndian.Uint16(b[h.l4+h.checkOffset():])
	if h.proto == ProtoUDP {
		return check != 0 && int(binary.BigEndian.Uint16(b[h.l4+4:])) == p.Len()-h.l4
	}
	// Segments are written with 0000 where others may write ffff.
	return (check != 0xffff || p.CsumPartial) && b[h.l4+13]&(tcpSYN|tcpRST|tcpURG) == 0
}

// groMayStart reports whether packets may be joined to p.
func (p *Packet) groMayStart(h headers) bool {
	if len(p.frags) > 1 || len(p.frags) == 1 && p.tail == nil {
		return false
	}
	return h.proto == ProtoUDP || p.Head()[h.l4+13]&(tcpPSH|tcpFIN) == 0
}

func (g *GRO) start(p *Packet, h headers) {
	if g.used == groFlows {
		g.next = (g.next + 1) % groFlows
		g.flush(g.next)
	}
	b := p.Head()
	f := groFlow{p: p, h: h, payload: p.Len() - h.payload, segs: 1}
	f.size = f.payload
	if !h.v6 {
		f.id = binary.BigEndian.Uint16(b[h.l3+4:]) + 1
	}
	if h.proto == ProtoTCP {
		f.seq = binary.BigEndian.Uint32(b[h.l4+4:]) + uint32(f.payload)
	}
	g.flows[g.used] = f
	g.used++
}

// accepts reports whether p continues the flow, byte for byte.
func (f *groFlow) accepts(p *Packet, h headers) bool {
	n := p.Len() - h.payload
	if h.l3 != f.h.l3 || h.l4 != f.h.l4 || h.payload != f.h.payload || n > f.size ||
		f.p.Len()-f.h.l3+n > groMaxLen || p.VLAN != f.p.VLAN || p.In != f.p.In || p.Mark != f.p.Mark {
		return false
	}
	a, b := f.p.Head()[:h.payload], p.Head()[:h.payload]
	if !bytes.Equal(a[:h.l3+2], b[:h.l3+2]) { // MAC, tags, version, traffic class, TOS
		return false
	}
	if h.v6 {
		if !bytes.Equal(a[h.l3+2:h.l3+4], b[h.l3+2:h.l3+4]) || !bytes.Equal(a[h.l3+6:h.l4], b[h.l3+6:h.l4]) {
			return false
		}
	} else if binary.BigEndian.Uint16(b[h.l3+4:]) != f.id || !bytes.Equal(a[h.l3+6:h.l3+10], b[h.l3+6:h.l3+10]) {
		return false
	}
	a, b = a[h.l4:], b[h.l4:]
	if h.proto == ProtoUDP {
		if f.segs == groUDPSegments {
			return false
		}
	} else if binary.BigEndian.Uint32(b[4:]) != f.seq || !bytes.Equal(a[8:13], b[8:13]) ||
		b[13]&tcpCWR != 0 || (a[13]^b[13])&^(tcpCWR|tcpFIN|tcpPSH) != 0 ||
		!bytes.Equal(a[14:16], b[14:16]) || !bytes.Equal(a[18:], b[18:]) {
		return false
	}
	if !f.verified {
		f.verified = f.p.transportGood(f.h)
	}
	return f.verified && p.transportGood(h)
}

// transportGood verifies the transport checksum, if it is not known.
func (p *Packet) transportGood(h headers) bool {
	if p.CsumValid && !p.CsumPartial {
		return true
	}
	pseudo := PseudoSum(p.Head()[h.l3:], h.proto, p.Len()-h.l4)
	if p.CsumPartial { // must be what makePartial will write
		return binary.BigEndian.Uint16(p.Head()[h.l4+h.checkOffset():]) == Fold(pseudo)
	}
	return Fold(p.sumFrom(h.l4)+pseudo) == 0xffff
}

// join copies the payload of p behind that of the flow's packet, if there is
// room.
func (f *groFlow) join(p *Packet, h headers) bool {
	n := p.Len() - h.payload
	if f.p.tail == nil {
		f.p.AttachTail(NewTail(), 0)
	}
	dst := f.p.frags[0]
	used := len(dst)
	if cap(dst)-used < n {
		return false
	}
	dst = dst[:used+n]
	p.CopyTo(dst[used:], h.payload)
	f.p.frags[0] = dst
	f.p.fragsLen += n
	f.payload += n
	f.segs++
	f.seq += uint32(n)
	f.id++
	if h.proto == ProtoTCP {
		f.flags |= p.Head()[h.l4+13] & (tcpPSH | tcpFIN)
	}
	return true
}

// finished reports whether p, the packet joined last, must remain the last.
func (f *groFlow) finished(p *Packet, h headers) bool {
	return p.Len()-h.payload < f.size || f.flags != 0
}

func (g *GRO) flushAll() {
	for g.used > 0 {
		g.flush(g.used - 1)
	}
}

// flush gives the packet of a flow the headers of a super-frame, if others
// have been joined to it, and forgets the flow.
func (g *GRO) flush(i int) {
	f := g.flows[i]
	g.used--
	g.flows[i] = g.flows[g.used]
	g.flows[g.used] = groFlow{}
	if f.segs == 1 {
		return
	}
	p, h := f.p, f.h
	b := p.Head()
	ip, l4 := b[h.l3:], b[h.l4:]
	n := p.Len() - h.l3
	p.GSO = GSO{Type: GSOTCPv6, Size: uint16(f.size), Segs: uint16(f.segs)}
	if h.v6 {
		binary.BigEndian.PutUint16(ip[4:], uint16(n-40))
	} else {
		p.GSO.Type = GSOTCPv4
		old := binary.BigEndian.Uint16(ip[2:])
		binary.BigEndian.PutUint16(ip[2:], uint16(n))
		check := binary.BigEndian.Uint16(ip[10:])
		binary.BigEndian.PutUint16(ip[10:], Update16(check, old, uint16(n)))
	}
	if h.proto == ProtoUDP {
		p.GSO.Type = GSOUDP
		binary.BigEndian.PutUint16(l4[4:], uint16(p.Len()-h.l4))
	} else {
		p.GSO.ECN = l4[13]&tcpCWR != 0
		l4[13] |= f.flags
	}
	p.SetL3(h.l3)
	p.SetL4(h.l4)
	p.CsumPartial = false
	p.makePartial(h)
}
