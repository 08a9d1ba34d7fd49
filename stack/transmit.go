package stack

import (
	"net/netip"

	"taproom/stack/hook"
	"taproom/stack/packet"
)

// This file is the end of a packet's way: link-layer header, Egress, device.

// toNextHop sends a network packet to an address on the link. It takes the
// packet over.
func (i *Interface) toNextHop(p *packet.Packet, f hook.Family, to netip.Addr) {
	if !i.up.Load() {
		i.dropOut(p, packet.DeviceDown)
		return
	}
	if !i.ether {
		i.egress(p)
		return
	}
	var mac [6]byte
	switch {
	case to.IsMulticast():
		mac = multicastMAC(to)
	case to.Is4() && (to == broadcastIPv4 || i.isBroadcast(to)):
		mac = broadcastMAC
	default:
		if !i.neigh.resolve(to, &mac, p, f) {
			return // the neighbour table has it now
		}
	}
	i.sendTo(p, mac)
}

// sendTo puts the Ethernet header in front and sends the frame.
func (i *Interface) sendTo(p *packet.Packet, mac [6]byte) {
	proto := p.Proto
	h := p.Push(packet.EthernetLen)
	copy(h[0:6], mac[:])
	copy(h[6:12], i.mac[:])
	h[12], h[13] = byte(proto>>8), byte(proto)
	p.SetMAC(0)
	i.egress(p)
}

// egress runs the frame's last handlers. It takes the packet over.
func (i *Interface) egress(p *packet.Packet) {
	n := i.node
	p.Out = i.index
	if p.GSO.Type != packet.GSONone && n.hooks.FrameNeedsSegments(hook.Egress, i.chains) {
		for s := range p.Segments() {
			i.afterEgress(s, n.hooks.RunFrame(hook.Egress, i.chains, s))
		}
		p.Release()
		return
	}
	i.afterEgress(p, n.hooks.RunFrame(hook.Egress, i.chains, p))
}

func (i *Interface) afterEgress(p *packet.Packet, v hook.Verdict) {
	switch v {
	case hook.Accept:
		i.toDevice(p)
	case hook.Redirect:
		i.node.redirect(p)
	case hook.Stolen:
	default:
		i.counters.txDrops.Add(1)
		i.node.dropVerdict(p)
	}
}

// toDevice is the end of the way.
func (i *Interface) toDevice(p *packet.Packet) {
	if !i.up.Load() {
		i.dropOut(p, packet.DeviceDown)
		return
	}
	if p.VLAN.Present {
		p.PushVLAN()
	}
	i.counters.txPackets.Add(1)
	i.counters.txBytes.Add(uint64(p.Len()))
	if i.loopback() {
		i.loopFrame(p)
		return
	}
	queue := 0
	if i.info.Queues > 1 {
		queue = int(txQueue(p)) % i.info.Queues
	}
	i.dev.Write(queue, p.Batch())
}

// txQueue keeps a flow on one queue: the one it came in at, else by hash.
func txQueue(p *packet.Packet) uint16 {
	if p.Queue > 0 {
		return p.Queue - 1
	}
	return uint16(p.FlowHash())
}

// loopFrame brings the node's own packet back to it.
func (i *Interface) loopFrame(p *packet.Packet) {
	p.Depth++
	if p.Depth > maxDepth {
		i.dropOut(p, packet.RedirectLoop)
		return
	}
	p.Local, p.CsumValid = false, true
	i.node.backlog.put(backlogItem{p: p, ifc: i})
}

// redirect carries out hook.Redirect. It takes the packet over.
func (n *Node) redirect(p *packet.Packet) {
	to := n.byIndex(p.RedirectTo)
	flags := p.RedirectFlags
	p.ResetRedirect()
	if p.Depth++; p.Depth > maxDepth {
		n.drop(p, packet.RedirectLoop)
		return
	}
	if to == nil || !to.up.Load() {
		n.drop(p, packet.RedirectFailed)
		return
	}
	if !to.fitFrame(p) {
		n.drop(p, packet.RedirectFailed)
		return
	}
	if flags&packet.RedirectIngress != 0 {
		to.frameIn(p)
		return
	}
	to.egress(p)
}

// fitFrame makes a frame of one kind of link fit another: a link without
// headers takes the network packet, and one with headers needs the frame to
// have one.
func (i *Interface) fitFrame(p *packet.Packet) bool {
	off, hasMAC := p.MAC()
	if hasMAC && off != 0 {
		p.Push(-off) // the header is still there, in front
	}
	switch {
	case i.ether == hasMAC:
		return true
	case i.ether:
		return false
	}
	l3, ok := p.L3()
	if !ok || l3 < 0 || !p.Pull(l3) {
		return false
	}
	p.Trim(l3)
	p.ClearMAC()
	return true
}

func (i *Interface) isBroadcast(a netip.Addr) bool {
	for _, p := range *i.addrs.Load() {
		if p.Addr().Is4() && p.Bits() <= 30 && p.Contains(a) && broadcastOf(p) == a {
			return true
		}
	}
	return false
}

// multicastMAC maps a group to its link address (RFC 1112 6.4, RFC 2464 7).
func multicastMAC(a netip.Addr) [6]byte {
	if a.Is4() {
		b := a.As4()
		return [6]byte{0x01, 0x00, 0x5e, b[1] & 0x7f, b[2], b[3]}
	}
	b := a.As16()
	return [6]byte{0x33, 0x33, b[12], b[13], b[14], b[15]}
}
