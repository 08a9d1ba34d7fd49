package ioam

import (
	"encoding/binary"

	"taproom/stack/hook"
	"taproom/stack/packet"
)

// prerouting is what a received IPv6 packet meets first: the domain's edge,
// the options, the end of a tunnel, and stripping for those who need bare
// packets.
func (n *Node) prerouting(_ hook.Point, p *hook.Packet) hook.Verdict {
	if b := p.Head(); len(b) < 40 || b[6] != packet.ProtoHopByHop {
		return hook.Continue
	}
	s := n.state.Load()
	return n.receive(s, p, s.iface(p.In), true)
}

// receive acts on a packet that begins with a hop-by-hop header. outer is
// false for one that came out of a tunnel of ours.
func (n *Node) receive(s *state, p *hook.Packet, in *ifState, outer bool) hook.Verdict {
	b, v := headers(p, s.maxHeader)
	switch v {
	case tooShort:
		return hook.Continue // not even as long as it says: the stack drops it for that
	case badHBH:
		n.counters.add(InHdrErrors)
		n.counters.add(DropOptions)
		p.Reason = packet.TooShort
		return hook.Drop
	}
	if s.anyEdge && outer && in.edge != Inside {
		if v, done := n.enter(p, in.edge); done {
			return v
		}
		b = p.Head()
	}
	// Set one by one: a composite literal would be built elsewhere and copied.
	var a arrival
	a.n, a.s, a.p, a.b, a.in, a.hop = n, s, p, b, in, b[7]-1
	if !a.walk() {
		return a.refuse()
	}
	if !a.seen {
		return hook.Continue
	}
	return a.leaveDomain(outer)
}

type headerCheck uint8

const (
	wholeHBH headerCheck = iota
	badHBH
	tooShort
)

// headers makes the IPv6 and hop-by-hop headers linear. The header must be
// within the packet, and no longer than the limit.
func headers(p *hook.Packet, limit int) ([]byte, headerCheck) {
	b := p.Head()
	if len(b) >= 48 {
		// Nearly always: all of it is linear, and the packet is as long as it says.
		n := 40 + (int(b[41])+1)*8
		if size := 40 + int(binary.BigEndian.Uint16(b[4:])); n <= len(b) && n <= size && size <= len(b) && n-40 <= limit {
			return b, wholeHBH
		}
	}
	total := p.Len()
	if n := 40 + int(binary.BigEndian.Uint16(b[4:])); n != 40 {
		if n > total {
			return nil, tooShort
		}
		total = n
	}
	if total < 48 || !p.Pull(48) {
		return nil, badHBH
	}
	b = p.Head()
	n := (int(b[41]) + 1) * 8
	if n > limit || 40+n > total || !p.Pull(40+n) {
		return nil, badHBH
	}
	return p.Head(), wholeHBH
}

// refuse drops the packet as walk found, and sends the ICMP error if there is
// one to be sent.
func (a *arrival) refuse() hook.Verdict {
	c, o := &a.n.counters, &a.o
	if o.truncated {
		c.add(InTruncatedPkts)
	} else {
		c.add(InHdrErrors)
	}
	c.add(o.counter)
	if o.icmp {
		a.n.parameterProblem(a.p, o.code, o.pointer)
	}
	a.p.Reason = o.reason
	return hook.Drop
}

// leaveDomain is for a packet with IOAM options that this node has seen to:
// if it is the node's own, it may end a tunnel or want its options removed.
func (a *arrival) leaveDomain(outer bool) hook.Verdict {
	s := a.s
	if s.decap && outer && a.local() {
		if next, at := a.payload(); next == protoIPv6 && at > 0 {
			return a.decapsulate(at)
		}
	}
	if s.extras.EdgeToEdge && a.local() {
		a.edgeToEdge()
	}
	if s.stripLocal && a.local() || a.carriesRoCE() && (a.local() || a.b[24] == 0xff) {
		a.n.strip(a.p)
	}
	return hook.Continue
}

// protoIPv6 is IPv6 in IPv6 (RFC 2473).
const protoIPv6 = 41

// payload finds what the packet carries behind its hop-by-hop header and, if
// our own encapsulation put one there, a destination options header.
func (a *arrival) payload() (next uint8, at int) {
	b := a.p.Head()
	next, at = b[40], 40+(int(b[41])+1)*8
	if next == packet.ProtoDestOpts && a.p.Pull(at+8) {
		b = a.p.Head()
		if n := (int(b[at+1]) + 1) * 8; a.p.Pull(at + n) {
			b = a.p.Head()
			return b[at], at + n
		}
		return 0, 0
	}
	return next, at
}

// portRoCE is RoCEv2's UDP destination port (IBTA annex A17).
const portRoCE = 4791

// carriesRoCE reports whether the packet is a RoCE packet.
func (a *arrival) carriesRoCE() bool {
	if next := a.b[40]; next != packet.ProtoUDP && next != packet.ProtoDestOpts {
		return false
	}
	next, at := a.payload()
	return next == packet.ProtoUDP && at > 0 && isRoCE(a.p, at)
}

func isRoCE(p *hook.Packet, udp int) bool {
	if b := p.Head(); len(b) >= udp+4 {
		return binary.BigEndian.Uint16(b[udp+2:]) == portRoCE
	}
	var port [2]byte
	return p.CopyTo(port[:], udp+2) == 2 && binary.BigEndian.Uint16(port[:]) == portRoCE
}
