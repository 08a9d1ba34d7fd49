package dhcp

import (
	"encoding/binary"
	"net"
	"net/netip"

	"taproom/stack/packet"
)

// frame is room for a link header, an IP header and a payload; fill writes the
// payload, and the rest is completed around it.
func (s *Server) frame(to net.HardwareAddr, src, dst netip.Addr, proto uint8, payload int, fill func(b []byte)) *packet.Packet {
	const link = packet.EthernetLen
	ip := 20
	if src.Is6() {
		ip = 40
	}
	p := packet.Alloc(link + ip + payload)
	h := p.Head()
	clear(h)
	copy(h, to)
	copy(h[6:], s.mac)
	b := h[link:]
	if src.Is4() {
		binary.BigEndian.PutUint16(h[12:], packet.EtherIPv4)
		b[0], b[8], b[9] = 0x45, 64, proto
		binary.BigEndian.PutUint16(b[2:], uint16(ip+payload))
		copy(b[12:], src.AsSlice())
		copy(b[16:], dst.AsSlice())
		binary.BigEndian.PutUint16(b[10:], packet.Checksum(b[:20]))
	} else {
		binary.BigEndian.PutUint16(h[12:], packet.EtherIPv6)
		b[0], b[6], b[7] = 0x60, proto, 255
		binary.BigEndian.PutUint16(b[4:], uint16(payload))
		copy(b[8:], src.AsSlice())
		copy(b[24:], dst.AsSlice())
	}
	fill(b[ip:])
	at := map[uint8]int{packet.ProtoUDP: 6, packet.ProtoICMPv6: 2}[proto]
	sum := packet.Sum(packet.PseudoSum(b[:ip], proto, payload), b[ip:])
	binary.BigEndian.PutUint16(b[ip+at:], ^packet.Fold(sum))
	return p
}

// udp is a frame with a datagram.
func (s *Server) udp(to net.HardwareAddr, src, dst netip.AddrPort, data []byte) *packet.Packet {
	return s.frame(to, src.Addr(), dst.Addr(), packet.ProtoUDP, 8+len(data), func(b []byte) {
		binary.BigEndian.PutUint16(b, src.Port())
		binary.BigEndian.PutUint16(b[2:], dst.Port())
		binary.BigEndian.PutUint16(b[4:], uint16(8+len(data)))
		copy(b[8:], data)
	})
}
