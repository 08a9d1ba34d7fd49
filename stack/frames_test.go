package stack

import (
	"encoding/binary"
	"net"
	"net/netip"

	"taproom/stack/packet"
)

// ipSpec is a packet to build: what is left out has a sensible value.
type ipSpec struct {
	src, dst string
	ttl      uint8
	proto    uint8
	id       uint16
	df       bool
	options  []byte // IPv4 options
	ext      []byte // IPv6 extension headers, the last one's next header is proto
	extNext  uint8  // next header of the fixed IPv6 header when ext is there
	payload  []byte
}

// ip builds a network packet.
func ip(s ipSpec) []byte {
	src, dst := netip.MustParseAddr(s.src), netip.MustParseAddr(s.dst)
	if s.ttl == 0 {
		s.ttl = 64
	}
	if s.proto == 0 {
		s.proto = packet.ProtoUDP
	}
	if src.Is4() {
		n := 20 + len(s.options)
		b := make([]byte, n, n+len(s.payload))
		b[0] = 0x40 | byte(n/4)
		binary.BigEndian.PutUint16(b[2:], uint16(n+len(s.payload)))
		binary.BigEndian.PutUint16(b[4:], s.id)
		if s.df {
			b[6] = 0x40
		}
		b[8], b[9] = s.ttl, s.proto
		a, d := src.As4(), dst.As4()
		copy(b[12:], a[:])
		copy(b[16:], d[:])
		copy(b[20:], s.options)
		setIPv4Checksum(b)
		return append(b, s.payload...)
	}
	b := make([]byte, 40, 40+len(s.ext)+len(s.payload))
	next := s.proto
	if len(s.ext) > 0 {
		next = s.extNext
	}
	putIPv6(b, src, dst, next, len(s.ext)+len(s.payload), s.ttl)
	return append(append(b, s.ext...), s.payload...)
}

// udpTo builds a datagram with the checksum for its addresses.
func udpTo(src, dst string, sport, dport uint16, data []byte) []byte {
	b := make([]byte, 8+len(data))
	binary.BigEndian.PutUint16(b, sport)
	binary.BigEndian.PutUint16(b[2:], dport)
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)))
	copy(b[8:], data)
	hdr := ip(ipSpec{src: src, dst: dst})
	sum := ^packet.Fold(packet.Sum(packet.PseudoSum(hdr, packet.ProtoUDP, len(b)), b))
	if sum == 0 {
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(b[6:], sum)
	return b
}

// echo builds an ICMP or ICMPv6 echo request.
func echo(src, dst string, data []byte) []byte {
	b := append([]byte{8, 0, 0, 0, 0, 1, 0, 1}, data...)
	if netip.MustParseAddr(src).Is4() {
		binary.BigEndian.PutUint16(b[2:], packet.Checksum(b))
		return ip(ipSpec{src: src, dst: dst, proto: packet.ProtoICMP, payload: b})
	}
	b[0] = 128
	p := ip(ipSpec{src: src, dst: dst, proto: packet.ProtoICMPv6, payload: b})
	putICMP6Checksum(p)
	return p
}

// frame puts an Ethernet header in front.
func frame(dst, src net.HardwareAddr, b []byte) []byte {
	f := append(append([]byte{}, dst...), src...)
	if b[0]>>4 == 4 {
		f = append(f, 8, 0)
	} else {
		f = append(f, 0x86, 0xdd)
	}
	return append(f, b...)
}

// forwarded is the frame a router makes of f: new link addresses, hop limit
// counted down, nothing else changed.
func forwarded(f []byte, dst, src net.HardwareAddr) []byte {
	g := append([]byte{}, f...)
	copy(g, dst)
	copy(g[6:], src)
	if g[14]>>4 == 4 {
		g[22]--
		setIPv4Checksum(g[14:])
	} else {
		g[21]--
	}
	return g
}
