package stack

import (
	"net/netip"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	tcpstack "gvisor.dev/gvisor/pkg/tcpip/stack"

	"taproom/stack/hook"
	"taproom/stack/packet"
)

// This file brings packets to the node itself: reassembly (IPv4 is whole when
// Input sees it, as on Linux), Input, netstack.

// localIn takes a packet for one of the node's addresses, which owner has.
func (i *Interface) localIn(p *packet.Packet, f hook.Family, owner *Interface) {
	if f == hook.IPv4 {
		if isFragment(p) {
			if p = i.node.defrag.add(i, p); p == nil {
				return // not whole yet
			}
		}
	}
	n := i.node
	if p.GSO.Type != packet.GSONone && n.hooks.NeedsSegments(hook.Input, f) {
		for s := range p.Segments() {
			i.afterInput(s, f, owner, n.hooks.Run(hook.Input, f, s))
		}
		p.Release()
		return
	}
	i.afterInput(p, f, owner, n.hooks.Run(hook.Input, f, p))
}

func (i *Interface) afterInput(p *packet.Packet, f hook.Family, owner *Interface, v hook.Verdict) {
	switch v {
	case hook.Accept:
	case hook.Stolen:
		return
	default:
		i.counters.rxDrops.Add(1)
		i.node.dropVerdict(p)
		return
	}
	if f == hook.IPv6 && i.neighborDiscovery(p) {
		return
	}
	i.deliver(p, f, owner)
}

// deliver hands a packet to netstack, at the interface that has the address:
// netstack knows an address only there.
func (i *Interface) deliver(p *packet.Packet, f hook.Family, owner *Interface) {
	if !p.CsumPartial && !p.CsumValid && !transportChecksumOK(p, f) {
		i.dropIn(p, packet.BadChecksum)
		return
	}
	i.node.counters.inDelivers.Add(1)
	if i.info.Inline {
		i.node.backlog.put(backlogItem{p: p, ifc: i, owner: owner, f: f})
		return
	}
	i.intoNetstack(p, f, owner)
}

func (i *Interface) intoNetstack(p *packet.Packet, f hook.Family, owner *Interface) {
	d := owner.ep.dispatcher.Load()
	if d == nil {
		i.dropIn(p, packet.DeviceDown)
		return
	}
	proto := header.IPv4ProtocolNumber
	if f == hook.IPv6 {
		proto = header.IPv6ProtocolNumber
	}
	pb := toNetstack(p)
	p.Release()
	(*d).DeliverNetworkPacket(proto, pb)
	pb.DecRef()
}

// toNetstack copies a packet into netstack's own buffers.
func toNetstack(p *packet.Packet) *tcpstack.PacketBuffer {
	var b buffer.Buffer
	if n := p.Len(); n <= buffer.MaxChunkSize {
		// In one piece, so that it can leave by one system call.
		v := buffer.NewViewSize(n)
		p.CopyTo(v.AsSlice(), 0)
		_ = b.Append(v)
	} else {
		for _, f := range append([][]byte{p.Head()}, p.Frags()...) {
			v := buffer.NewViewSize(len(f))
			copy(v.AsSlice(), f)
			_ = b.Append(v)
		}
	}
	pb := tcpstack.NewPacketBuffer(tcpstack.PacketBufferOptions{Payload: b, Mark: p.Mark})
	switch p.Type {
	case packet.Broadcast:
		pb.PktType = tcpip.PacketBroadcast
	case packet.Multicast:
		pb.PktType = tcpip.PacketMulticast
	}
	return pb
}

// transportChecksumOK verifies TCP and UDP, which netstack leaves to the
// link. Fragments are verified when they are whole; what the walk cannot
// reach is netstack's to judge.
func transportChecksumOK(p *packet.Packet, f hook.Family) bool {
	t, ok := packet.ParseTransport(p.Head())
	if !ok || t.Fragment {
		return true
	}
	l4 := t.Offset
	h := p.Head()
	switch t.Proto {
	case packet.ProtoTCP:
	case packet.ProtoUDP:
		// No checksum: fine in IPv4, and for IPv6 left to those who asked for
		// it (RFC 6935), which is nobody here.
		if len(h) >= l4+8 && h[l4+6] == 0 && h[l4+7] == 0 {
			return f == hook.IPv4
		}
	default:
		return true
	}
	return p.VerifyTransport(l4, t.Proto)
}

// multicastIn takes a packet for a group: it goes to the node if it is a
// member, and on to where a multicast route says.
func (i *Interface) multicastIn(p *packet.Packet, f hook.Family, src, dst netip.Addr) {
	member := i.member(dst)
	if i.node.forwardMulticast(i, p, f, src, dst, member) {
		return // it was the last use of the packet
	}
	if !member {
		i.dropIn(p, packet.OtherMAC)
		return
	}
	i.localIn(p, f, i)
}

// hasLinkLocal reports whether any interface has a link-local address.
func (n *Node) hasLinkLocal(a netip.Addr) bool { return n.linkLocalOwner(a) != nil }

func (n *Node) linkLocalOwner(a netip.Addr) *Interface {
	for _, i := range *n.ifaces.Load() {
		if i != nil && i.has(a) {
			return i
		}
	}
	return nil
}
