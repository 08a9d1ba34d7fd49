package stack

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"taproom/stack/hook"
	"taproom/stack/packet"
)

// The errors of Send, as a socket on Linux would see them.
var (
	ErrNoRouteTo  = errors.New("stack: network is unreachable")        // ENETUNREACH
	ErrProhibited = errors.New("stack: route forbids it")              // EACCES, EHOSTUNREACH, EINVAL
	ErrTooBig     = errors.New("stack: larger than the path MTU")      // EMSGSIZE
	ErrMalformed  = errors.New("stack: not a well-formed IP packet")   // EINVAL
	ErrLinkDown   = errors.New("stack: interface is down")             // ENETDOWN
	errUnresolved = errors.New("stack: next hop cannot be determined") // EHOSTUNREACH
)

// Send sends a packet of the node's own. See hook.Host.
func (n *Node) Send(p *packet.Packet) error { return n.output(p, nil) }

// output routes a packet of the node's own and sends it. via is the interface
// it must use, where the sender named one. It takes the packet over.
func (n *Node) output(p *packet.Packet, via *Interface) error {
	n.counters.outRequests.Add(1)
	p.Local, p.Type = true, packet.Outgoing
	f, ok := parseOutgoing(p)
	if !ok {
		n.drop(p, packet.BadHeader)
		return ErrMalformed
	}
	hp, err := n.routeOutput(p, f, via)
	if err != nil {
		n.drop(p, packet.NoRoute)
		return err
	}
	p.Out = hp.ifc.index
	if p.GSO.Type != packet.GSONone && n.hooks.NeedsSegments(hook.Output, f) {
		for s := range p.Segments() {
			if e := n.afterOutput(s, f, hp, via); e != nil {
				err = e
			}
		}
		p.Release()
		return err
	}
	return n.afterOutput(p, f, hp, via)
}

func (n *Node) afterOutput(p *packet.Packet, f hook.Family, hp *hop, via *Interface) error {
	mark, dst := p.Mark, destination(p.Head(), f)
	switch n.hooks.Run(hook.Output, f, p) {
	case hook.Accept:
	case hook.Stolen:
		return nil
	default:
		n.dropVerdict(p)
		return hook.ErrDropped
	}
	if p.Mark != mark || destination(p.Head(), f) != dst {
		var err error
		if hp, err = n.routeOutput(p, f, via); err != nil {
			n.drop(p, packet.NoRoute)
			return err
		}
		p.Out = hp.ifc.index
	}
	return n.postrouting(p, f, hp)
}

// parseOutgoing finds the layers of a packet that begins with its IP header.
func parseOutgoing(p *packet.Packet) (hook.Family, bool) {
	h := p.Head()
	if len(h) < 20 {
		return 0, false
	}
	p.SetL3(0)
	p.ClearMAC()
	f := hook.IPv4
	p.Proto = packet.EtherIPv4
	if h[0]>>4 == 6 {
		f, p.Proto = hook.IPv6, packet.EtherIPv6
	} else if h[0]>>4 != 4 {
		return 0, false
	}
	t, ok := packet.ParseTransport(h)
	if !ok {
		return 0, false
	}
	p.SetL4(t.Offset)
	return f, true
}

func destination(h []byte, f hook.Family) netip.Addr {
	if f == hook.IPv4 {
		return netip.AddrFrom4([4]byte(h[16:]))
	}
	return netip.AddrFrom16([16]byte(h[24:]))
}

func sourceOf(h []byte, f hook.Family) netip.Addr {
	if f == hook.IPv4 {
		return netip.AddrFrom4([4]byte(h[12:]))
	}
	return netip.AddrFrom16([16]byte(h[8:]))
}

// routeOutput finds the way of a packet of the node's own. The hop it returns
// is only valid for this packet.
func (n *Node) routeOutput(p *packet.Packet, f hook.Family, via *Interface) (*hop, error) {
	h := p.Head()
	src, dst := sourceOf(h, f), destination(h, f)
	if dst.IsMulticast() || dst == broadcastIPv4 || dst.Is6() && dst.IsLinkLocalUnicast() {
		return n.routeOnLink(src, dst, via)
	}
	fib := n.fib.Load()
	hp := fib.lookup(dst, func() uint32 { return flowHash(src, dst) })
	if hp != nil && hp.kind == hook.Unicast && via != nil && !via.loopback() && hp.ifc != via {
		// The sender named an interface; take its route if it has one, else
		// the table's: an answer leaves where the table says, not where the
		// question came in.
		if o := fib.lookupOut(dst, via); o != nil && o.metric <= hp.metric {
			hp = o
		}
	}
	switch {
	case hp == nil:
		return nil, ErrNoRouteTo
	case hp.kind == hook.LocalRoute:
		return &n.lo.ep.self, nil
	case hp.kind == hook.Blackhole, hp.kind == hook.Unreachable, hp.kind == hook.Prohibit:
		return nil, ErrProhibited
	case !hp.ifc.up.Load():
		return nil, ErrLinkDown
	}
	return hp, nil
}

// routeOnLink is for destinations that the table cannot decide: the interface
// is the sender's choice, or the one that has the source address.
func (n *Node) routeOnLink(src, dst netip.Addr, via *Interface) (*hop, error) {
	if via == nil {
		if src.Is6() && src.IsLinkLocalUnicast() {
			via = n.linkLocalOwner(src)
		} else {
			via = n.ownerOf(src)
		}
	}
	switch {
	case via == nil:
		return nil, errUnresolved
	case !via.up.Load():
		return nil, ErrLinkDown
	case dst.IsLinkLocalUnicast() && via.has(dst):
		return &n.lo.ep.self, nil
	}
	return &via.ep.self, nil
}

// postrouting runs the last netfilter point and sends the packet, whole or in
// fragments. It takes the packet over.
func (n *Node) postrouting(p *packet.Packet, f hook.Family, hp *hop) error {
	if p.GSO.Type != packet.GSONone && n.hooks.NeedsSegments(hook.Postrouting, f) {
		var err error
		for s := range p.Segments() {
			if e := n.afterPostrouting(s, f, hp); e != nil {
				err = e
			}
		}
		p.Release()
		return err
	}
	return n.afterPostrouting(p, f, hp)
}

func (n *Node) afterPostrouting(p *packet.Packet, f hook.Family, hp *hop) error {
	switch n.hooks.Run(hook.Postrouting, f, p) {
	case hook.Accept:
		return n.finish(p, f, hp)
	case hook.Stolen:
		return nil
	}
	n.dropVerdict(p)
	return hook.ErrDropped
}

// finish sends a packet that has met its last netfilter point: it is cut into
// fragments if it must be and may be, and goes to the next hop.
func (n *Node) finish(p *packet.Packet, f hook.Family, hp *hop) error {
	mtu := hp.pathMTU()
	if !tooBig(p, f, mtu) {
		hp.ifc.toNextHop(p, f, hp.nextHop(p.Head(), f))
		return nil
	}
	if p.GSO.Type != packet.GSONone {
		var err error
		for s := range p.Segments() {
			if e := n.fragment(s, f, hp, mtu); e != nil {
				err = e
			}
		}
		p.Release()
		return err
	}
	return n.fragment(p, f, hp, mtu)
}

// nextHop is the address to ask the link for.
func (h *hop) nextHop(b []byte, f hook.Family) netip.Addr {
	if h.via.IsValid() {
		return h.via
	}
	return destination(b, f)
}

// nextID gives identifications to packets that taproom makes itself.
func (n *Node) nextID() uint16 { return uint16(n.ipID.Add(1)) }

// setIPv4Checksum computes the header checksum.
func setIPv4Checksum(h []byte) {
	binary.BigEndian.PutUint16(h[10:], 0)
	binary.BigEndian.PutUint16(h[10:], ^headerSum(h[:int(h[0]&15)*4]))
}
