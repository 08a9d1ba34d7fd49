package ioamtest

import (
	"encoding/binary"
	"net/netip"

	"taproom/stack/hook"
	"taproom/stack/packet"
)

// Input is a frame that comes in at an interface.
func (n *Node) Input(ifindex int, frame []byte) {
	p := packet.New(frame)
	p.In, p.Time = ifindex, n.Clock().UnixNano()
	if !p.ParseLink() || p.Proto != packet.EtherIPv6 {
		n.dropped(p, packet.UnknownProto)
		return
	}
	switch v := n.table.RunFrame(hook.Ingress, n.Ifaces[ifindex-1].chains, p); v {
	case hook.Stolen:
		return
	case hook.Drop:
		n.dropped(p, packet.ByHandler)
		return
	}
	p.Trim(packet.EthernetLen)
	p.SetL3(0)
	n.receive(p)
}

// receive is ip6_rcv and what follows.
func (n *Node) receive(p *packet.Packet) {
	n.count("Ip6InReceives")
	b := p.Head()
	if len(b) < 40 || b[0]>>4 != 6 {
		n.count("Ip6InHdrErrors")
		n.dropped(p, packet.BadHeader)
		return
	}
	if length := int(binary.BigEndian.Uint16(b[4:])); length != 0 || b[6] != packet.ProtoHopByHop {
		if 40+length > p.Len() {
			n.count("Ip6InTruncatedPkts")
			n.dropped(p, packet.TooShort)
			return
		}
		p.Truncate(40 + length)
	}
	switch n.table.Run(hook.Prerouting, hook.IPv6, p) {
	case hook.Stolen:
		return
	case hook.Drop:
		n.dropped(p, packet.ByHandler)
		return
	}
	n.route(p)
}

func (n *Node) route(p *packet.Packet) {
	b := p.Head()
	dst := netip.AddrFrom16([16]byte(b[24:40]))
	if dst.IsMulticast() {
		if n.Groups[dst] == 0 {
			n.dropped(p, packet.NoRoute)
			return
		}
		n.local(p)
		return
	}
	r := n.Route(hook.RouteQuery{Dst: dst, In: p.In, Mark: p.Mark})
	switch r.Kind {
	case hook.LocalRoute:
		n.local(p)
	case hook.Unicast:
		n.forward(p, r)
	case hook.Blackhole:
		n.dropped(p, packet.Prohibited)
	default:
		code := uint8(0) // no route
		if r.Kind == hook.Prohibit {
			code = 1
		}
		n.count("Ip6InNoRoutes")
		n.icmpError(p, 1, code, 0)
		n.dropped(p, packet.NoRoute)
	}
}

func (n *Node) forward(p *packet.Packet, r hook.Route) {
	b := p.Head()
	if b[7] <= 1 {
		n.count("Ip6InHdrErrors")
		n.icmpError(p, 3, 0, 0)
		n.dropped(p, packet.TTLExceeded)
		return
	}
	if p.Len() > r.MTU {
		n.icmpError(p, 2, 0, uint32(r.MTU))
		n.dropped(p, packet.TooBig)
		return
	}
	b[7]--
	p.Out = r.Out
	n.count("Ip6OutForwDatagrams")
	switch n.table.Run(hook.Forward, hook.IPv6, p) {
	case hook.Stolen:
		return
	case hook.Drop:
		n.dropped(p, packet.ByHandler)
		return
	}
	n.post(p, r)
}

// Send implements hook.Host. The error is that of the socket call.
func (n *Node) Send(p *packet.Packet) error {
	b := p.Head()
	p.Local = true
	r := n.Route(hook.RouteQuery{Dst: netip.AddrFrom16([16]byte(b[24:40])), Mark: p.Mark})
	switch r.Kind {
	case hook.Unicast:
	case hook.LocalRoute:
		p.In = r.Out
		n.receive(p)
		return nil
	default:
		n.dropped(p, packet.NoRoute)
		return errnoFor(packet.NoRoute)
	}
	n.count("Ip6OutRequests")
	p.Out = r.Out
	n.errno = nil
	switch n.table.Run(hook.Output, hook.IPv6, p) {
	case hook.Stolen:
		return nil
	case hook.Drop:
		n.dropped(p, packet.ByHandler)
		return hook.ErrDropped
	}
	n.post(p, r)
	return n.errno
}

// post is what follows the choice of a way: Postrouting, the MTU, the link.
func (n *Node) post(p *packet.Packet, r hook.Route) {
	switch n.table.Run(hook.Postrouting, hook.IPv6, p) {
	case hook.Stolen:
		return
	case hook.Drop:
		reason := p.Reason
		n.dropped(p, packet.ByHandler)
		n.errno = errnoFor(reason)
		return
	}
	if p.Len() <= r.MTU {
		n.link(p, r)
		return
	}
	if !p.Local {
		n.icmpError(p, 2, 0, uint32(r.MTU))
		n.dropped(p, packet.TooBig)
		return
	}
	p.CompleteChecksum()
	for _, f := range fragments(p, r.MTU) {
		n.link(f, r)
	}
	p.Release()
}

// fragments cuts a packet as RFC 8200 section 4.5 says, a hop-by-hop header
// being in every piece. The identification is always the same.
func fragments(p *packet.Packet, mtu int) []*packet.Packet {
	p.Linearize()
	b := p.Head()
	head, link := 40, 6
	if b[6] == packet.ProtoHopByHop {
		head, link = 40+(int(b[41])+1)*8, 40
	}
	room := (mtu - head - 8) &^ 7
	var out []*packet.Packet
	for off := 0; head+off < len(b); off += room {
		data := b[head+off : min(head+off+room, len(b))]
		f := packet.Alloc(head + 8 + len(data))
		h := f.Head()
		copy(h, b[:head])
		h[link] = packet.ProtoFragment
		binary.BigEndian.PutUint16(h[4:], uint16(len(h)-40))
		more := uint16(0)
		if head+off+len(data) < len(b) {
			more = 1
		}
		h[head], h[head+1] = b[link], 0
		binary.BigEndian.PutUint16(h[head+2:], uint16(off)|more)
		binary.BigEndian.PutUint32(h[head+4:], 0x7a61726f)
		copy(h[head+8:], data)
		f.Meta = p.Meta
		out = append(out, f)
	}
	return out
}

func (n *Node) link(p *packet.Packet, r hook.Route) {
	i := n.Ifaces[r.Out-1]
	b := p.Push(packet.EthernetLen)
	copy(b, r.MAC[:])
	copy(b[6:], i.HardwareAddr)
	binary.BigEndian.PutUint16(b[12:], packet.EtherIPv6)
	p.SetMAC(0)
	p.SetL3(packet.EthernetLen)
	p.Proto = packet.EtherIPv6
	n.Transmit(i.Index, p)
}

// Transmit implements hook.Host.
func (n *Node) Transmit(ifindex int, p *packet.Packet) error {
	i := n.Ifaces[ifindex-1]
	switch n.table.RunFrame(hook.Egress, i.chains, p) {
	case hook.Stolen:
		return nil
	case hook.Drop:
		n.dropped(p, packet.ByHandler)
		return hook.ErrDropped
	}
	if !i.Offload {
		p.CompleteChecksum()
	}
	p.Linearize()
	frame := append([]byte(nil), p.Head()...)
	p.Release()
	if i.Wire != nil {
		i.Wire(frame)
	}
	return nil
}
