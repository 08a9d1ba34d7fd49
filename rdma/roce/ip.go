package roce

import (
	"encoding/binary"
	"net/netip"
)

// Port is the UDP destination port of RoCEv2 (IBTA A17.3.1).
const Port = 4791

// Lengths of the headers around the transport packet. RoCEv2 packets of ours
// have no IPv4 options and no IPv6 extension headers, and those of others that
// have are not recognised by any receiver: the ICRC has no place for them.
const (
	IPv4Len = 20
	IPv6Len = 40
	UDPLen  = 8
)

// DefaultTTL is the TTL and hop limit that rxe sends with.
const DefaultTTL = 64

const protoUDP = 17

// Path is the IP and UDP part of a flow: an inert value, comparable.
type Path struct {
	Src, Dst  netip.Addr // both IPv4 or both IPv6; IPv4-mapped addresses count as IPv4
	SrcPort   uint16     // see [RCPort] and [UDPort]; receivers do not check it
	TOS       uint8      // traffic class with ECN bits
	TTL       uint8      // 0 means DefaultTTL
	FlowLabel uint32     // IPv6, 20 bits; rxe sends 0
}

// V6 tells whether the path is over IPv6.
func (p *Path) V6() bool { return !p.Dst.Unmap().Is4() }

// HeaderLen is the length of IP and UDP header: 28 or 48.
func (p *Path) HeaderLen() int {
	if p.V6() {
		return IPv6Len + UDPLen
	}
	return IPv4Len + UDPLen
}

// Put writes the IP and UDP headers of a packet with n bytes of UDP payload (BTH
// to ICRC) to b and returns their length. id is the IPv4 identification. The UDP
// checksum is zero, as rxe sends it over both versions of IP; DF is set.
func (p *Path) Put(b []byte, n int, id uint16) int {
	ttl := p.TTL
	if ttl == 0 {
		ttl = DefaultTTL
	}
	l := IPv4Len
	if p.V6() {
		l = IPv6Len
		_ = b[IPv6Len+UDPLen-1]
		binary.BigEndian.PutUint32(b, 6<<28|uint32(p.TOS)<<20|p.FlowLabel&0xfffff)
		binary.BigEndian.PutUint16(b[4:], uint16(UDPLen+n))
		b[6], b[7] = protoUDP, ttl
		*(*[16]byte)(b[8:]), *(*[16]byte)(b[24:]) = p.Src.As16(), p.Dst.As16()
	} else {
		_ = b[IPv4Len+UDPLen-1]
		b[0], b[1] = 0x45, p.TOS
		binary.BigEndian.PutUint16(b[2:], uint16(IPv4Len+UDPLen+n))
		binary.BigEndian.PutUint16(b[4:], id)
		b[6], b[7] = 0x40, 0 // DF
		b[8], b[9] = ttl, protoUDP
		b[10], b[11] = 0, 0
		*(*[4]byte)(b[12:]), *(*[4]byte)(b[16:]) = p.Src.Unmap().As4(), p.Dst.Unmap().As4()
		binary.BigEndian.PutUint16(b[10:], ^fold(sum16(0, b[:IPv4Len])))
	}
	u := b[l:]
	binary.BigEndian.PutUint16(u, p.SrcPort)
	binary.BigEndian.PutUint16(u[2:], Port)
	binary.BigEndian.PutUint16(u[4:], uint16(UDPLen+n))
	u[6], u[7] = 0, 0
	return l + UDPLen
}

// Flow returns the ICRC flow of the path.
func (p *Path) Flow() Flow {
	var b [IPv6Len + UDPLen]byte
	n := p.Put(b[:], 0, 0)
	return NewFlow(b[:n-UDPLen], b[n-UDPLen:n])
}

// sum16 adds the big endian 16-bit words of b to s.
func sum16(s uint32, b []byte) uint32 {
	for ; len(b) >= 2; b = b[2:] {
		s += uint32(b[0])<<8 | uint32(b[1])
	}
	if len(b) == 1 {
		s += uint32(b[0]) << 8
	}
	return s
}

func fold(s uint32) uint16 {
	for s>>16 != 0 {
		s = s&0xffff + s>>16
	}
	return uint16(s)
}

// FixIPv4 recomputes the header checksum of an IPv4 header after a change; it
// does nothing for IPv6.
func FixIPv4(ip []byte) {
	if ip[0]>>4 == 4 {
		ip[10], ip[11] = 0, 0
		binary.BigEndian.PutUint16(ip[10:], ^fold(sum16(0, ip[:IPv4Len])))
	}
}

// FlowLabelPort returns the UDP source port that stands for a flow label (20
// bits): its two halves folded into the dynamic range from 49152 on.
func FlowLabelPort(label uint32) uint16 {
	label &= 0xfffff
	return uint16(0xc000 | (label&0x3fff ^ label>>14))
}

// RCPort returns the source port rxe gives a connected queue pair whose address
// vector has no flow label. It is the same in both directions, so a flow and
// its acknowledgements take the same path through a network that hashes.
func RCPort(localQPN, remoteQPN uint32) uint16 {
	v := uint64(localQPN) * uint64(remoteQPN)
	v ^= v >> 20
	v ^= v >> 40
	return FlowLabelPort(uint32(v))
}

// UDPort returns the source port rxe gives a datagram queue pair; QP 1's is
// 55410.
func UDPort(qpn uint32) uint16 { return uint16(0xc000 + qpn*0x61c88647>>18) }

// CMFlowLabel returns the flow label that rdma_cm puts in the REQ of a
// connection between two of its ports.
func CMFlowLabel(srcPort, dstPort uint16) uint32 {
	return (uint32(srcPort)*31 + uint32(dstPort)) & 0xfffff
}
