package stack

import (
	"encoding/binary"
	"net/netip"

	"taproom/stack/hook"
	"taproom/stack/packet"
)

// Neighbour discovery (RFC 4861): solicitations and advertisements. Router
// messages pass Input like any others, for whoever handles them, and end here.

const (
	icmp6RouterSolicit     = 133
	icmp6NeighborSolicit   = 135
	icmp6NeighborAdvertise = 136
	icmp6Redirect          = 137

	optSourceLink = 1
	optTargetLink = 2
)

// neighborDiscovery takes a packet that passed Input if it is of neighbour
// discovery, and reports whether it did.
func (i *Interface) neighborDiscovery(p *packet.Packet) bool {
	h := p.Head()
	if h[6] != packet.ProtoICMPv6 || len(h) < 44 || h[40] < icmp6RouterSolicit || h[40] > icmp6Redirect {
		return false
	}
	defer p.Release()
	// RFC 4861 6.1, 7.1: hop limit 255 proves that it comes from the link.
	if h[7] != 255 || h[41] != 0 || !i.ether || p.Len() < 64 || !p.Pull(p.Len()) || !p.VerifyTransport(40, packet.ProtoICMPv6) {
		return true
	}
	h = p.Head()
	src := netip.AddrFrom16([16]byte(h[8:]))
	target := netip.AddrFrom16([16]byte(h[48:]))
	if target.IsMulticast() {
		return true
	}
	switch h[40] {
	case icmp6NeighborSolicit:
		i.solicited(h, src, target)
	case icmp6NeighborAdvertise:
		flags := h[44]
		if mac, ok := linkOption(h[64:], optTargetLink); ok {
			multicast := h[24] == 0xff
			i.neigh.learn(target, mac, false, flags&0x40 != 0 && !multicast, flags&0x20 != 0)
		}
	}
	return true
}

// solicited answers a question about one of this interface's addresses.
func (i *Interface) solicited(h []byte, src, target netip.Addr) {
	if !i.has(target) {
		return
	}
	mac, ok := linkOption(h[64:], optSourceLink)
	if src.IsUnspecified() {
		if ok { // RFC 4861 7.1.1: not with the unspecified source
			return
		}
		i.advertise(target, allNodes6, multicastMAC(allNodes6), 0x20)
		return
	}
	if ok {
		i.neigh.learn(src, mac, true, false, true)
		i.advertise(target, src, mac, 0x60)
		return
	}
	if m, ok := i.neigh.lookup(src); ok {
		i.advertise(target, src, m, 0x60)
	}
}

// linkOption finds a link-layer address among options.
func linkOption(b []byte, kind byte) (mac [6]byte, ok bool) {
	for len(b) >= 8 {
		n := int(b[1]) * 8
		if n == 0 || n > len(b) {
			return mac, false
		}
		if b[0] == kind && n == 8 {
			copy(mac[:], b[2:8])
			return mac, mac[0]&1 == 0
		}
		b = b[n:]
	}
	return mac, false
}

// neighborSolicit asks for an address, its solicited-node group or, when it is
// known, the neighbour itself.
func (i *Interface) neighborSolicit(target netip.Addr, to [6]byte, known bool, hint netip.Addr) {
	dst := target
	if !known {
		dst = solicitedNode(target)
		to = multicastMAC(dst)
	}
	src := i.source(target)
	if hint.IsValid() && i.has(hint) {
		src = hint
	}
	if !src.IsValid() {
		return // no address yet to ask with
	}
	i.ndSend(icmp6NeighborSolicit, 0, src, dst, target, optSourceLink, to)
}

func (i *Interface) advertise(target, dst netip.Addr, to [6]byte, flags byte) {
	if i.node.forwarding.Load() {
		flags |= 0x80
	}
	i.ndSend(icmp6NeighborAdvertise, flags, target, dst, target, optTargetLink, to)
}

func (i *Interface) ndSend(kind, flags byte, src, dst, target netip.Addr, opt byte, to [6]byte) {
	p := packet.Alloc(40 + 32)
	h := p.Head()
	clear(h)
	putIPv6(h, src, dst, packet.ProtoICMPv6, 32, 255)
	h[40], h[44] = kind, flags
	t := target.As16()
	copy(h[48:], t[:])
	h[64], h[65] = opt, 1
	copy(h[66:], i.mac[:])
	putICMP6Checksum(h)
	p.Proto, p.Local, p.Type, p.OnLink = packet.EtherIPv6, true, packet.Outgoing, true
	p.SetL3(0)
	p.SetL4(40)
	if !i.up.Load() {
		i.dropOut(p, packet.DeviceDown)
		return
	}
	n := i.node
	for _, pt := range [...]hook.Point{hook.Output, hook.Postrouting} {
		switch n.hooks.Run(pt, hook.IPv6, p) {
		case hook.Accept:
		case hook.Stolen:
			return
		default:
			n.dropVerdict(p)
			return
		}
	}
	i.sendTo(p, to)
}

func solicitedNode(a netip.Addr) netip.Addr {
	b := a.As16()
	return netip.AddrFrom16([16]byte{0xff, 2, 11: 1, 12: 0xff, 13: b[13], 14: b[14], 15: b[15]})
}

// putIPv6 writes a plain IPv6 header.
func putIPv6(h []byte, src, dst netip.Addr, next uint8, payload int, hops uint8) {
	h[0], h[1], h[2], h[3] = 0x60, 0, 0, 0
	binary.BigEndian.PutUint16(h[4:], uint16(payload))
	h[6], h[7] = next, hops
	s, d := src.As16(), dst.As16()
	copy(h[8:], s[:])
	copy(h[24:], d[:])
}

// putICMP6Checksum completes a linear ICMPv6 packet without extension headers.
func putICMP6Checksum(h []byte) {
	h[42], h[43] = 0, 0
	sum := packet.Fold(packet.Sum(packet.PseudoSum(h, packet.ProtoICMPv6, len(h)-40), h[40:]))
	binary.BigEndian.PutUint16(h[42:], ^sum)
}
