package ioam

import (
	"encoding/binary"

	"taproom/ioam/option"
	"taproom/stack/hook"
	"taproom/stack/packet"
)

// postrouting is what every IPv6 packet that leaves meets first: the tunnels,
// then the domain's edge.
func (n *Node) postrouting(_ hook.Point, p *hook.Packet) hook.Verdict {
	s := n.state.Load()
	if s.tunnels.n == 0 && !s.anyEdge {
		return hook.Continue
	}
	b := p.Head()
	if len(b) < 40 {
		return hook.Continue
	}
	// Encapsulation comes with a route, which neighbour discovery does not take.
	if t := s.tunnels.match(p, b[24:40]); t != nil && !p.OnLink && !ownTunnel(p) {
		if v := n.inject(s, t, p); v != hook.Continue {
			return v
		}
	}
	if s.anyEdge && s.iface(p.Out).edge != Inside {
		return n.leave(p)
	}
	return hook.Continue
}

// ownTunnel recognises a packet this node has just put into an outer header:
// its own, a trace, and IPv6 inside. It has been through here before.
func ownTunnel(p *hook.Packet) bool {
	b := p.Head()
	if b[6] != packet.ProtoHopByHop || !(p.Local || p.In == 0) || !p.Pull(48) {
		return false
	}
	b = p.Head()
	if b[44] != option.OptMutable && b[44] != option.OptImmutable {
		return false
	}
	if b[40] == packet.ProtoDestOpts {
		at := 40 + (int(b[41])+1)*8
		return p.Pull(at+8) && p.Head()[at] == protoIPv6
	}
	return b[40] == protoIPv6
}

// inject puts a tunnel's options into a packet.
func (n *Node) inject(s *state, t *tunnel, p *hook.Packet) hook.Verdict {
	if c := t.count.Add(1) - 1; t.N > 1 && c%uint64(t.N) >= uint64(t.K) {
		n.counters.add(NotSampled)
		return hook.Continue
	}
	mode := t.Mode
	if mode == Auto {
		mode = Encap
		if p.In == 0 {
			mode = Inline
		}
	}
	b := p.Head()
	if mode == Inline && !t.Stripped && b[6] == packet.ProtoUDP && isRoCE(p, 40) {
		if t.Mode == Inline {
			n.counters.add(RefusedRoCE)
			return hook.Continue
		}
		mode = Encap
	}
	switch {
	case mode == Inline:
		return n.inline(s, t, p)
	case p.GSO.Type != packet.GSONone && p.Len()+len(t.header) > 0xffff:
		return n.encapSegments(s, t, p)
	}
	return n.encap(s, t, p)
}

// encapSegments is for a super-frame that an IPv6 header cannot state the
// length of once the outer headers are on. It counts as one packet for k out
// of n.
func (n *Node) encapSegments(s *state, t *tunnel, p *hook.Packet) hook.Verdict {
	for q := range p.Segments() {
		switch n.encap(s, t, q) {
		case hook.Stolen:
		case hook.Drop:
			q.Release()
		default:
			n.host.Send(q) // no room for the trace; the way is the same
		}
	}
	p.Release()
	return hook.Stolen
}

func (n *Node) inline(s *state, t *tunnel, p *hook.Packet) hook.Verdict {
	b := p.Head()
	if b[6] == packet.ProtoHopByHop {
		n.counters.add(NotInserted)
		return hook.Continue
	}
	grow := len(t.header)
	length := int(binary.BigEndian.Uint16(b[4:])) + grow
	out := s.iface(p.Out)
	if v, ok := n.fits(t, p, length, grow, out.mtu, mtuInline); !ok {
		return v
	}
	b = p.Push(grow)
	copy(b[:40], b[grow:grow+40])
	next := b[6]
	b[6] = packet.ProtoHopByHop
	binary.BigEndian.PutUint16(b[4:], uint16(length))
	p.SetL3(0)
	p.ClearMAC()
	var a arrival // set one by one, see receive
	a.n, a.s, a.p, a.b, a.in, a.hop = n, s, p, b, s.ingress(p), b[7]
	a.sent, a.routed, a.kind = true, true, hook.Unicast
	a.setOut(p.Out)
	a.write(t, next)
	n.counters.add(Inserted)
	return hook.Continue
}

// ingress is where a packet came in, an interface with unset ids for the
// node's own.
func (s *state) ingress(p *hook.Packet) *ifState {
	if p.In == 0 {
		return &noInterface
	}
	return s.iface(p.In)
}

func (n *Node) encap(s *state, t *tunnel, p *hook.Packet) hook.Verdict {
	r := n.host.Route(hook.RouteQuery{Dst: t.Dst, Src: t.Src, Mark: p.Mark})
	if r.Kind != hook.Unicast && r.Kind != hook.LocalRoute {
		n.counters.add(Unroutable)
		p.Reason = packet.NoRoute
		return hook.Drop
	}
	src := t.Src
	if !src.IsValid() {
		if src = r.Src; !src.Is6() {
			n.counters.add(Unroutable)
			p.Reason = packet.BadSource
			return hook.Drop
		}
	}
	grow := 40 + len(t.header)
	length := p.Len() + grow - 40
	if v, ok := n.fits(t, p, length, grow, r.MTU, mtuEncap); !ok {
		return v
	}
	b := p.Push(grow)
	inner := b[grow:]
	copy(b[:4], inner[:4]) // version, traffic class, flow label
	binary.BigEndian.PutUint16(b[4:], uint16(length))
	b[6], b[7] = packet.ProtoHopByHop, inner[7]
	from := src.As16()
	copy(b[8:24], from[:])
	copy(b[24:40], t.dst[:])
	p.SetL3(0)
	p.ClearMAC()
	p.ClearL4()
	var a arrival
	a.n, a.s, a.p, a.b, a.in, a.hop = n, s, p, b, s.ingress(p), b[7]
	a.sent, a.routed, a.kind = true, true, r.Kind
	if r.Kind == hook.Unicast {
		a.setOut(r.Out)
	}
	a.write(t, protoIPv6)
	n.counters.add(Encapsulated)
	p.Local, p.Out = true, 0
	n.host.Send(p) // an error means that the packet is gone, as on any way
	return hook.Stolen
}

// write puts the tunnel's headers behind the IPv6 header, for which there is
// room, and this node's data into the trace.
func (a *arrival) write(t *tunnel, next uint8) {
	b := a.b[40 : 40+len(t.header) : 40+len(t.header)]
	copy(b, t.header)
	b[t.chained] = next
	if a.s.extras.Seed && a.p.In != 0 {
		a.hop--
	}
	if t.e2e != 0 || t.Kind == option.DirectExport {
		a.number(t, b)
	}
	opt := b[4 : 4+2+int(b[5])]
	switch t.Kind {
	case option.Preallocated:
		if ns := a.s.namespace(t.Namespace); ns != nil {
			a.record(option.Trace(opt), ns)
		}
	case option.Incremental:
		a.incremental(44)
	case option.DirectExport:
		if a.s.extras.DirectExport {
			a.directExport(opt)
		}
	}
}

// number writes what counts up from packet to packet.
func (a *arrival) number(t *tunnel, b []byte) {
	seq := t.seq.Add(1) - 1
	if t.Kind == option.DirectExport {
		binary.BigEndian.PutUint32(b[4+16:], uint32(seq))
	}
	if t.e2e == 0 {
		return
	}
	e := option.E2E{Namespace: t.Namespace, Type: t.E2E, Sequence: seq}
	now := uint64(a.now())
	e.Seconds, e.Fraction = uint32(now/1e9), uint32(now%1e9/1e3)
	e.Encode(b[t.e2e:])
}
