package stack

import (
	"encoding/binary"
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip/checksum"

	"taproom/stack/hook"
	"taproom/stack/packet"
)

// This file is the first part of a packet's way: from the device through
// Ingress and Prerouting to the decision where it goes. Everything here runs
// on the device's reader, one queue at a time.

// maxDepth is how often a packet may be redirected or looped on one node
// before it counts as caught in a loop (Linux: XMIT_RECURSION_LIMIT).
const maxDepth = 8

// ingress takes a frame from the device. It takes the packet over.
func (i *Interface) ingress(p *packet.Packet) {
	p.In = i.index
	if !i.up.Load() {
		i.dropIn(p, packet.DeviceDown)
		return
	}
	i.counters.rxPackets.Add(1)
	i.counters.rxBytes.Add(uint64(p.Len()))
	i.frameIn(p)
}

// frameIn is also where redirected and injected frames come in.
func (i *Interface) frameIn(p *packet.Packet) {
	p.In, p.Out = i.index, 0
	if !i.parseFrame(p) {
		i.dropIn(p, packet.TooShort)
		return
	}
	n := i.node
	if p.GSO.Type != packet.GSONone && n.hooks.FrameNeedsSegments(hook.Ingress, i.chains) {
		for s := range p.Segments() {
			i.afterIngress(s, n.hooks.RunFrame(hook.Ingress, i.chains, s))
		}
		p.Release()
		return
	}
	i.afterIngress(p, n.hooks.RunFrame(hook.Ingress, i.chains, p))
}

// parseFrame sets what the link layer tells. A VLAN tag moves from the bytes
// to the metadata, as Linux does before clsact.
func (i *Interface) parseFrame(p *packet.Packet) bool {
	if !i.ether {
		h := p.Head()
		if len(h) == 0 {
			return false
		}
		p.SetL3(0)
		p.Type, p.Proto = packet.Host, packet.EtherIPv4
		if h[0]>>4 == 6 {
			p.Proto = packet.EtherIPv6
		}
		return true
	}
	if !p.Pull(min(p.Len(), packet.EthernetLen+4)) || !p.ParseLink() {
		return false
	}
	if (p.Proto == packet.EtherVLAN || p.Proto == packet.EtherQinQ) && !p.VLAN.Present {
		if !p.PullVLAN() {
			return false
		}
	}
	h := p.Head()
	switch dst := [6]byte(h[:6]); {
	case dst == i.mac:
		p.Type = packet.Host
	case dst == broadcastMAC:
		p.Type = packet.Broadcast
	case dst[0]&1 != 0:
		p.Type = packet.Multicast
	default:
		p.Type = packet.OtherHost
	}
	return true
}

func (i *Interface) afterIngress(p *packet.Packet, v hook.Verdict) {
	switch v {
	case hook.Accept:
		i.network(p)
	case hook.Redirect:
		i.node.redirect(p)
	case hook.Stolen:
	default:
		i.counters.rxDrops.Add(1)
		i.node.dropVerdict(p)
	}
}

// network leaves the link layer behind.
func (i *Interface) network(p *packet.Packet) {
	switch {
	case p.VLAN.Present && p.VLAN.TCI&0xfff != 0:
		i.dropIn(p, packet.UnknownProto) // no VLAN interface here
		return
	case p.Type == packet.OtherHost:
		i.dropIn(p, packet.OtherMAC)
		return
	}
	if off, ok := p.L3(); ok && off > 0 {
		if !p.Pull(off) {
			i.dropIn(p, packet.TooShort)
			return
		}
		p.Trim(off)
	}
	switch p.Proto {
	case packet.EtherIPv4:
		i.ipv4In(p)
	case packet.EtherIPv6:
		i.ipv6In(p)
	case packet.EtherARP:
		i.arpIn(p)
	default:
		i.dropIn(p, packet.UnknownProto)
	}
}

func (i *Interface) ipv4In(p *packet.Packet) {
	n := i.node
	n.counters.inReceives.Add(1)
	if r := checkIPv4(p); r != packet.NoReason {
		i.dropIn(p, r)
		return
	}
	i.prerouting(p, hook.IPv4)
}

// checkIPv4 is RFC 1812 section 5.2.2: length, version, checksum. It cuts off
// padding and finds the transport header.
func checkIPv4(p *packet.Packet) packet.Reason {
	if !p.Pull(20) {
		return packet.TooShort
	}
	h := p.Head()
	ihl := int(h[0]&15) * 4
	if h[0]>>4 != 4 || ihl < 20 {
		return packet.BadHeader
	}
	if !p.Pull(ihl) {
		return packet.TooShort
	}
	h = p.Head()
	total := int(binary.BigEndian.Uint16(h[2:]))
	if total < ihl {
		return packet.BadHeader
	}
	if total > p.Len() {
		return packet.TooShort
	}
	if checksum.Checksum(h[:ihl], 0) != 0xffff {
		return packet.BadChecksum
	}
	p.Truncate(total)
	p.SetL3(0)
	p.SetL4(ihl)
	return packet.NoReason
}

func (i *Interface) ipv6In(p *packet.Packet) {
	i.node.counters.inReceives.Add(1)
	if r := checkIPv6(p); r != packet.NoReason {
		i.dropIn(p, r)
		return
	}
	i.prerouting(p, hook.IPv6)
}

func checkIPv6(p *packet.Packet) packet.Reason {
	if !p.Pull(40) {
		return packet.TooShort
	}
	h := p.Head()
	if h[0]>>4 != 6 {
		return packet.BadHeader
	}
	total := 40 + int(binary.BigEndian.Uint16(h[4:]))
	if total > p.Len() {
		return packet.TooShort
	}
	p.Truncate(total)
	p.SetL3(0)
	p.ClearL4()
	if t, ok := packet.ParseTransport(p.Head()); ok {
		p.SetL4(t.Offset)
	}
	return packet.NoReason
}

// prerouting runs the handlers, then routes what is left.
func (i *Interface) prerouting(p *packet.Packet, f hook.Family) {
	n := i.node
	if p.GSO.Type != packet.GSONone && n.hooks.NeedsSegments(hook.Prerouting, f) {
		for s := range p.Segments() {
			i.afterPrerouting(s, f, n.hooks.Run(hook.Prerouting, f, s))
		}
		p.Release()
		return
	}
	i.afterPrerouting(p, f, n.hooks.Run(hook.Prerouting, f, p))
}

func (i *Interface) afterPrerouting(p *packet.Packet, f hook.Family, v hook.Verdict) {
	switch v {
	case hook.Accept:
	case hook.Stolen:
		return
	default:
		i.counters.rxDrops.Add(1)
		i.node.dropVerdict(p)
		return
	}
	if f == hook.IPv4 {
		i.route4(p)
		return
	}
	if !i.hopByHop(p) {
		return // hopByHop has dropped it
	}
	i.route6(p)
}

func (i *Interface) route4(p *packet.Packet) {
	h := p.Head()
	src, dst := netip.AddrFrom4([4]byte(h[12:])), netip.AddrFrom4([4]byte(h[16:]))
	loop := i.loopback()
	switch {
	case h[12] >= 224, // multicast, reserved, broadcast
		!loop && (h[12] == 127 || h[16] == 127),
		h[12] == 0 && !(src.IsUnspecified() && (dst == broadcastIPv4 || dst.IsMulticast())):
		i.dropIn(p, packet.BadSource)
		return
	case dst == broadcastIPv4:
		i.localIn(p, hook.IPv4, i)
		return
	case dst.IsMulticast():
		i.multicastIn(p, hook.IPv4, src, dst)
		return
	}
	hp := i.node.fib.Load().lookup(dst, func() uint32 { return flowHash(src, dst) })
	i.decide(p, hook.IPv4, hp)
}

func (i *Interface) route6(p *packet.Packet) {
	h := p.Head()
	src, dst := netip.AddrFrom16([16]byte(h[8:])), netip.AddrFrom16([16]byte(h[24:]))
	switch {
	case src.IsMulticast(), !i.loopback() && (dst.IsLoopback() || src.IsLoopback()), dst.IsUnspecified():
		i.dropIn(p, packet.BadSource)
		return
	case dst.IsMulticast():
		i.multicastIn(p, hook.IPv6, src, dst)
		return
	case dst.IsLinkLocalUnicast():
		if i.has(dst) || i.loopback() && i.node.hasLinkLocal(dst) {
			i.localIn(p, hook.IPv6, i)
		} else {
			i.dropIn(p, packet.NoRoute) // link-local packets are never forwarded (RFC 4291 2.5.6)
		}
		return
	}
	hp := i.node.fib.Load().lookup(dst, func() uint32 { return flowHash(src, dst) })
	i.decide(p, hook.IPv6, hp)
}

// decide acts on the route of a unicast packet.
func (i *Interface) decide(p *packet.Packet, f hook.Family, hp *hop) {
	if hp == nil {
		i.noRoute(p, f, hook.NoRoute)
		return
	}
	switch hp.kind {
	case hook.LocalRoute:
		i.localIn(p, f, hp.ifc)
	case hook.BroadcastRoute:
		if hp.ifc == i || i.loopback() {
			i.localIn(p, f, hp.ifc)
		} else {
			i.dropIn(p, packet.Prohibited) // directed broadcasts are not forwarded (RFC 2644)
		}
	case hook.Unicast:
		i.forward(p, f, hp)
	default:
		i.noRoute(p, f, hp.kind)
	}
}

// noRoute tells the sender that there is no way, with the code the kind of
// route calls for.
func (i *Interface) noRoute(p *packet.Packet, f hook.Family, k hook.RouteKind) {
	reason := packet.NoRoute
	if k != hook.NoRoute {
		reason = packet.Prohibited
	}
	// A host that does not forward is silent, as Linux is.
	if k != hook.Blackhole && p.Type == packet.Host && (i.node.forwarding.Load() || i.loopback()) {
		i.node.unreachable(i, p, f, k)
	}
	i.dropIn(p, reason)
}

// flowHash spreads flows over equal routes by address, as Linux does by
// default (fib_multipath_hash_policy 0).
func flowHash(src, dst netip.Addr) uint32 {
	a, b := src.As16(), dst.As16()
	h := uint64(0x9e3779b97f4a7c15)
	for _, v := range [...]uint64{
		binary.LittleEndian.Uint64(a[:]), binary.LittleEndian.Uint64(a[8:]),
		binary.LittleEndian.Uint64(b[:]), binary.LittleEndian.Uint64(b[8:]),
	} {
		h = (h ^ v) * 0xff51afd7ed558ccd
		h ^= h >> 32
	}
	return packet.Mix(h)
}

var (
	broadcastMAC  = [6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	broadcastIPv4 = netip.AddrFrom4([4]byte{255, 255, 255, 255})
)
