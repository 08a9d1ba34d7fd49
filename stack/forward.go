package stack

import (
	"encoding/binary"
	"net/netip"

	"taproom/stack/hook"
	"taproom/stack/packet"
)

// This file forwards: hop limit, MTU, Forward. The order of the checks is
// that of Linux (ip_forward, ip6_forward), so that handlers at Forward see
// packets whose hop limit has been counted down already.

// forward sends a packet on its way to somebody else.
func (i *Interface) forward(p *packet.Packet, f hook.Family, hp *hop) {
	n := i.node
	if !n.forwarding.Load() {
		i.dropIn(p, packet.NotForwarding)
		return
	}
	if p.Type != packet.Host {
		i.dropIn(p, packet.OtherMAC) // unicast in a link-layer broadcast (RFC 1812 5.3.4)
		return
	}
	h := p.Head()
	if f == hook.IPv6 && !forwardable6(netip.AddrFrom16([16]byte(h[8:]))) {
		if h[8] == 0xfe {
			n.icmp6Error(i, p, icmp6Unreachable, 2, 0) // beyond the scope of the source (RFC 4443 3.1)
		}
		i.dropIn(p, packet.BadSource)
		return
	}
	if hopLimit(h, f) <= 1 {
		n.timeExceeded(i, p, f)
		i.dropIn(p, packet.TTLExceeded)
		return
	}
	if mtu := hp.pathMTU(); tooBig(p, f, mtu) && !mayFragment(p, f) {
		n.packetTooBig(i, p, f, mtu)
		i.dropIn(p, packet.TooBig)
		return
	}
	countDown(h, f)
	p.Out = hp.ifc.index
	p.Local = false
	if p.GSO.Type != packet.GSONone && n.hooks.NeedsSegments(hook.Forward, f) {
		for s := range p.Segments() {
			i.afterForward(s, f, hp, n.hooks.Run(hook.Forward, f, s))
		}
		p.Release()
		return
	}
	i.afterForward(p, f, hp, n.hooks.Run(hook.Forward, f, p))
}

func (i *Interface) afterForward(p *packet.Packet, f hook.Family, hp *hop, v hook.Verdict) {
	switch v {
	case hook.Accept:
		i.node.counters.forwarded.Add(1)
		_ = i.node.postrouting(p, f, hp)
	case hook.Stolen:
	default:
		i.counters.rxDrops.Add(1)
		i.node.dropVerdict(p)
	}
}

// forwardable6 reports whether packets from a source may leave their link.
func forwardable6(src netip.Addr) bool {
	return !src.IsLinkLocalUnicast() && !src.IsUnspecified() && !src.IsLoopback()
}

func hopLimit(h []byte, f hook.Family) uint8 {
	if f == hook.IPv4 {
		return h[8]
	}
	return h[7]
}

// countDown takes one off the hop limit and, for IPv4, mends the header
// checksum by the difference (RFC 1624).
func countDown(h []byte, f hook.Family) {
	if f == hook.IPv6 {
		h[7]--
		return
	}
	h[8]--
	c := uint32(binary.BigEndian.Uint16(h[10:])) + 0x0100
	binary.BigEndian.PutUint16(h[10:], uint16(c+c>>16))
}

// pathMTU is the largest packet that may take this way.
func (h *hop) pathMTU() int {
	m := h.ifc.MTU()
	if h.mtu > 0 && h.mtu < m {
		return h.mtu
	}
	return m
}

// tooBig reports whether a packet, or a segment of a super-frame, is larger
// than an MTU.
func tooBig(p *packet.Packet, f hook.Family, mtu int) bool {
	if p.FragMax != 0 {
		mtu = min(mtu, int(p.FragMax)) // it came in parts and leaves in parts
	}
	if p.Len() <= mtu {
		return false
	}
	if p.GSO.Type == packet.GSONone {
		return true
	}
	return p.NetworkLen() > mtu
}

// mayFragment reports whether a packet that is too big may be cut here.
func mayFragment(p *packet.Packet, f hook.Family) bool {
	if p.FragMax != 0 {
		return true
	}
	if f == hook.IPv6 {
		return p.Local && !p.NoFragment
	}
	return (p.Head()[6]&0x40 == 0 || p.Local && p.SoftDF) && !p.NoFragment
}
