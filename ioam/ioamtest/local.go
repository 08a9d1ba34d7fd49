package ioamtest

import (
	"encoding/binary"
	"net/netip"

	"taproom/stack/hook"
	"taproom/stack/packet"
)

// local delivers a packet for this node: header by header as
// ip6_protocol_deliver_rcu does.
func (n *Node) local(p *packet.Packet) {
	switch n.table.Run(hook.Input, hook.IPv6, p) {
	case hook.Stolen:
		return
	case hook.Drop:
		n.dropped(p, packet.ByHandler)
		return
	}
	p.Linearize()
	b := p.Head()
	link, at := 6, 40
	if b[6] == packet.ProtoHopByHop {
		link, at = 40, 40+(int(b[41])+1)*8
	}
	for b[link] == packet.ProtoDestOpts && len(b) >= at+8 && len(b) >= at+(int(b[at+1])+1)*8 {
		link, at = at, at+(int(b[at+1])+1)*8
	}
	switch b[link] {
	case packet.ProtoUDP:
		n.count("Ip6InDelivers")
		n.udp(p, at)
	case packet.ProtoICMPv6:
		n.count("Ip6InDelivers")
		n.icmp(p, at)
	case packet.ProtoNone:
		n.count("Ip6InDelivers")
		n.dropped(p, packet.UnknownProto)
	case packet.ProtoFragment:
		n.dropped(p, packet.ReassemblyTimeout) // nobody waits for the rest
	default:
		n.icmpError(p, 4, 1, uint32(link))
		n.dropped(p, packet.UnknownProto)
	}
}

func (n *Node) udp(p *packet.Packet, at int) {
	b := p.Head()
	if len(b) < at+8 || checksum(b, packet.ProtoUDP, b[at:at+max(8, min(int(binary.BigEndian.Uint16(b[at+4:])), len(b)-at))]) != 0 {
		n.dropped(p, packet.BadChecksum)
		return
	}
	if f := n.Sockets[binary.BigEndian.Uint16(b[at+2:])]; f != nil {
		f(append([]byte(nil), b...))
		p.Release()
		return
	}
	n.icmpError(p, 1, 4, 0)
	n.dropped(p, packet.UnknownProto)
}

func (n *Node) icmp(p *packet.Packet, at int) {
	defer p.Release()
	b := p.Head()
	if len(b) < at+8 || b[at] != 128 || checksum(b, packet.ProtoICMPv6, b[at:]) != 0 {
		return
	}
	body := append([]byte(nil), b[at:]...)
	body[0], body[2], body[3] = 129, 0, 0
	n.Send(datagram(addr(b[24:40]), addr(b[8:24]), packet.ProtoICMPv6, 64, body, 2))
}

// SendUDP is a datagram from a socket.
func (n *Node) SendUDP(src, dst netip.AddrPort, payload []byte) error {
	body := make([]byte, 8, 8+len(payload))
	binary.BigEndian.PutUint16(body, src.Port())
	binary.BigEndian.PutUint16(body[2:], dst.Port())
	binary.BigEndian.PutUint16(body[4:], uint16(8+len(payload)))
	p := datagram(src.Addr(), dst.Addr(), packet.ProtoUDP, 64, append(body, payload...), 6)
	// As on Linux the checksum is left to the device: only the pseudo-header
	// has been summed.
	b := p.Head()
	binary.BigEndian.PutUint16(b[46:], ^checksum(b, packet.ProtoUDP, make([]byte, len(b)-40)))
	p.SetPartialChecksum(40, 6)
	return n.Send(p)
}

// datagram makes an IPv6 packet and completes the checksum at offset csum of
// the body.
func datagram(src, dst netip.Addr, proto, hops uint8, body []byte, csum int) *packet.Packet {
	p := packet.Alloc(40 + len(body))
	b := p.Head()
	clear(b[:40])
	b[0], b[6], b[7] = 6<<4, proto, hops
	binary.BigEndian.PutUint16(b[4:], uint16(len(body)))
	s, d := src.As16(), dst.As16()
	copy(b[8:], s[:])
	copy(b[24:], d[:])
	copy(b[40:], body)
	binary.BigEndian.PutUint16(b[40+csum:], checksum(b, proto, b[40:]))
	p.Proto, p.Local = packet.EtherIPv6, true
	p.SetL3(0)
	return p
}

var icmpNames = map[uint8]string{1: "Icmp6OutDestUnreachs", 2: "Icmp6OutPktTooBigs", 3: "Icmp6OutTimeExcds", 4: "Icmp6OutParmProblems"}

// icmpError answers a packet with as much of it as fits 1280 octets.
func (n *Node) icmpError(p *packet.Packet, typ, code uint8, word uint32) {
	b := p.Head()
	src, dst := addr(b[8:24]), addr(b[24:40])
	if src.IsUnspecified() || src.IsMulticast() || dst.IsMulticast() {
		return
	}
	from := dst
	if n.Route(hook.RouteQuery{Dst: dst}).Kind != hook.LocalRoute {
		from = n.Route(hook.RouteQuery{Dst: src}).Src
	}
	if !from.IsValid() || n.Route(hook.RouteQuery{Dst: src}).Kind == hook.LocalRoute {
		return
	}
	body := make([]byte, 8+min(p.Len(), 1280-48))
	body[0], body[1] = typ, code
	binary.BigEndian.PutUint32(body[4:], word)
	p.CopyTo(body[8:], 0)
	n.count(icmpNames[typ])
	n.Send(datagram(from, src, packet.ProtoICMPv6, 64, body, 2))
}

func addr(b []byte) netip.Addr { return netip.AddrFrom16([16]byte(b)) }

// checksum is the checksum of a transport header and payload, zero if a
// received one is right.
func checksum(ip []byte, proto uint8, body []byte) uint16 {
	return ^packet.Fold(packet.Sum(packet.PseudoSum(ip, proto, len(body)), body))
}

// ValidICMP reports whether the ICMPv6 checksum of a frame without extension
// headers is right.
func ValidICMP(frame []byte) bool {
	if len(frame) < 14+48 || frame[14+6] != packet.ProtoICMPv6 {
		return false
	}
	ip := frame[14:]
	return checksum(ip, packet.ProtoICMPv6, ip[40:40+int(binary.BigEndian.Uint16(ip[4:]))]) == 0
}
