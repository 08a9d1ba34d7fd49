package stack

import (
	"fmt"
	"net/netip"

	"taproom/stack/hook"
	"taproom/stack/packet"
)

// This file is the rest of hook.Host: what subsystems may ask of a node.

// Interfaces lists the interfaces by index.
func (n *Node) Interfaces() []hook.Interface {
	l := *n.ifaces.Load()
	out := make([]hook.Interface, 0, len(l))
	for _, i := range l {
		if i != nil {
			out = append(out, i.view())
		}
	}
	return out
}

// Interface returns one interface.
func (n *Node) Interface(index int) (hook.Interface, bool) {
	i := n.byIndex(index)
	if i == nil {
		return hook.Interface{}, false
	}
	return i.view(), true
}

// Route answers what the node would do with a packet.
func (n *Node) Route(q hook.RouteQuery) hook.Route {
	if !q.Dst.IsValid() {
		return hook.Route{}
	}
	dst := q.Dst.WithZone("")
	out := n.byIndex(q.Out)
	in := n.byIndex(q.In)
	if dst.IsMulticast() || dst == broadcastIPv4 || dst.Is6() && dst.IsLinkLocalUnicast() {
		return n.routeQueryOnLink(dst, in, out)
	}
	f := n.fib.Load()
	var h *hop
	if out != nil {
		h = f.lookupOut(dst, out)
	} else {
		h = f.lookup(dst, func() uint32 { return flowHash(q.Src, dst) })
	}
	if h == nil {
		return hook.Route{}
	}
	r := hook.Route{Kind: h.kind, NextHop: dst}
	if h.ifc == nil {
		return r
	}
	r.Out, r.MTU = h.ifc.index, h.pathMTU()
	if h.via.IsValid() {
		r.NextHop = h.via
	}
	if q.Brief {
		return r
	}
	if r.Src = h.spec.Src; !r.Src.IsValid() {
		r.Src = h.ifc.source(r.NextHop)
	}
	if h.kind == hook.LocalRoute {
		r.Src = dst
		return r
	}
	r.MAC, r.HasMAC = h.ifc.neigh.lookup(r.NextHop)
	return r
}

// routeQueryOnLink is Route for what the table says nothing of: it is on the
// link of the interface that was named.
func (n *Node) routeQueryOnLink(dst netip.Addr, in, out *Interface) hook.Route {
	r := hook.Route{Kind: hook.Unicast, NextHop: dst}
	switch {
	case dst.IsMulticast():
		r.Kind = hook.MulticastRoute
	case dst.Is4():
		r.Kind = hook.BroadcastRoute
	}
	i := out
	if i == nil {
		i = in
	}
	if i == nil {
		return hook.Route{}
	}
	r.Out, r.MTU, r.Src = i.index, i.MTU(), i.source(dst)
	switch {
	case r.Kind == hook.MulticastRoute:
		r.MAC, r.HasMAC = multicastMAC(dst), i.ether
	case r.Kind == hook.BroadcastRoute:
		r.MAC, r.HasMAC = broadcastMAC, i.ether
	case i.has(dst):
		r.Kind, r.Src = hook.LocalRoute, dst
	default:
		r.MAC, r.HasMAC = i.neigh.lookup(dst)
	}
	return r
}

// Transmit sends a whole frame out of an interface. See hook.Host.
func (n *Node) Transmit(ifindex int, p *packet.Packet) error {
	i, err := n.frameTarget(ifindex, p)
	if err != nil {
		return err
	}
	if !i.parseFrame(p) {
		i.dropOut(p, packet.TooShort)
		return ErrMalformed
	}
	p.Type, p.Local = packet.Outgoing, true
	i.egress(p)
	return nil
}

// Receive lets a whole frame come in at an interface. See hook.Host.
func (n *Node) Receive(ifindex int, p *packet.Packet) error {
	i, err := n.frameTarget(ifindex, p)
	if err != nil {
		return err
	}
	i.ingress(p)
	return nil
}

// Deliver lets a network packet go on behind Ingress. See hook.Host.
func (n *Node) Deliver(ifindex int, p *packet.Packet) error {
	i, err := n.frameTarget(ifindex, p)
	if err != nil {
		return err
	}
	p.In, p.Type, p.Local = ifindex, packet.Host, false
	p.SetL3(0)
	if h := p.Head(); len(h) > 0 && h[0]>>4 == 6 {
		p.Proto = packet.EtherIPv6
		i.ipv6In(p)
		return nil
	}
	p.Proto = packet.EtherIPv4
	i.ipv4In(p)
	return nil
}

// ToNeighbor sends a network packet to an address on the link. See hook.Host.
func (n *Node) ToNeighbor(ifindex int, p *packet.Packet, to netip.Addr) error {
	i, err := n.frameTarget(ifindex, p)
	if err != nil {
		return err
	}
	f, ok := parseOutgoing(p)
	if !ok {
		n.drop(p, packet.BadHeader)
		return ErrMalformed
	}
	p.Out = ifindex
	i.toNextHop(p, f, to)
	return nil
}

// ToDevice hands a frame to the device. See hook.Host.
func (n *Node) ToDevice(ifindex int, p *packet.Packet) error {
	i := n.byIndex(ifindex)
	if i == nil {
		n.drop(p, packet.RedirectFailed)
		return fmt.Errorf("%w: index %d on node %s", hook.ErrNoInterface, ifindex, n.name)
	}
	i.toDevice(p)
	return nil
}

// Reassemble makes whole packets of fragments for a handler. See hook.Host.
func (n *Node) Reassemble(p *packet.Packet) hook.Verdict {
	if !isFragment(p) {
		return hook.Continue
	}
	i := n.byIndex(p.In)
	if i == nil {
		i = n.lo
	}
	part := packet.Alloc(0)
	part.Swap(p)
	whole := n.defrag.add(i, part)
	if whole == nil {
		p.Release()
		return hook.Stolen
	}
	p.Swap(whole)
	whole.Release()
	return hook.Continue
}

// frameTarget finds the interface for an injected packet, which is dropped if
// there is none, or if it has come this way too often.
func (n *Node) frameTarget(ifindex int, p *packet.Packet) (*Interface, error) {
	i := n.byIndex(ifindex)
	if i == nil {
		n.drop(p, packet.RedirectFailed)
		return nil, fmt.Errorf("%w: index %d on node %s", hook.ErrNoInterface, ifindex, n.name)
	}
	if p.Depth++; p.Depth > maxDepth {
		n.drop(p, packet.RedirectLoop)
		return nil, fmt.Errorf("stack: packet passed node %s %d times", n.name, maxDepth)
	}
	return i, nil
}
