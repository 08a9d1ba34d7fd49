package dhcp

import (
	"encoding/binary"
	"net"
	"net/netip"

	"taproom/stack/hook"
	"taproom/stack/packet"
)

// Messages and options of neighbour discovery (RFC 4861, RFC 8106).
const (
	routerSolicit, routerAdvert       = 133, 134
	neighbourSolicit, neighbourAdvert = 135, 136

	optSource, optTarget, optPrefix, optMTU, optRDNSS = 1, 2, 3, 5, 25

	routerLifetime = 9000 // seconds: the most there is (section 6.2.1)
	prefixLifetime = 86400
)

func routeTo(a netip.Addr, index int) hook.RouteQuery { return hook.RouteQuery{Dst: a, Out: index} }

// advertise makes a router advertisement, for everybody on the link.
func (s *Server) advertise() *packet.Packet {
	dns := s.resolvers(true)
	size := 16 + 8 + 32
	if s.MTU > 0 {
		size += 8
	}
	if len(dns) > 0 {
		size += 8 + 16*len(dns)
	}
	all := netip.MustParseAddr("ff02::1")
	return s.frame(net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}, s.linkLocal(), all, packet.ProtoICMPv6, size, func(b []byte) {
		b[0], b[4] = routerAdvert, 64
		if !s.NoDHCP6 {
			b[5] = 0x40 // other configuration by DHCPv6
		}
		binary.BigEndian.PutUint16(b[6:], routerLifetime)
		b = b[16:]
		b[0], b[1] = optSource, 1
		copy(b[2:], s.mac)
		b = b[8:]
		b[0], b[1], b[2], b[3] = optPrefix, 4, uint8(s.Guest6.Bits()), 0x80 // on link
		if s.Guest6.Bits() == 64 {
			b[3] |= 0x40 // addresses may be made of it
		}
		binary.BigEndian.PutUint32(b[4:], prefixLifetime)
		binary.BigEndian.PutUint32(b[8:], prefixLifetime)
		copy(b[16:], s.Guest6.Masked().Addr().AsSlice())
		b = b[32:]
		if s.MTU > 0 {
			b[0], b[1] = optMTU, 1
			binary.BigEndian.PutUint32(b[4:], uint32(s.MTU))
			b = b[8:]
		}
		if len(dns) > 0 {
			b[0], b[1] = optRDNSS, uint8(1+2*len(dns))
			binary.BigEndian.PutUint32(b[4:], routerLifetime)
			for k, a := range dns {
				copy(b[8+16*k:], a)
			}
		}
	})
}

// neighbour answers, at Ingress, for addresses that are on the link only
// because the host's network was copied.
func (s *Server) neighbour(_ hook.Point, p *hook.Packet) hook.Verdict {
	const link = packet.EthernetLen
	switch {
	case p.Proto == packet.EtherARP && s.Guest4.IsValid():
		if !p.Pull(link + 28) {
			return hook.Continue
		}
		h := p.Head()[link:]
		sender, target := netip.AddrFrom4([4]byte(h[14:18])), netip.AddrFrom4([4]byte(h[24:28]))
		if binary.BigEndian.Uint16(h[6:]) != 1 || target == s.Guest4.Addr() || target == s.Gateway4 || sender == target || sender.IsUnspecified() {
			return hook.Continue // not a question, a probe, or the node's to answer
		}
		return s.swap(p, func(h []byte) {
			b := h[link:]
			b[7] = 2
			copy(b[18:28], b[8:18])
			copy(b[8:], s.mac)
			copy(b[14:], target.AsSlice())
		})
	case p.Proto == packet.EtherIPv6 && s.Guest6.IsValid():
		if p.Len() < link+64 || !p.Pull(link+64) {
			return hook.Continue
		}
		h := p.Head()[link:]
		src, target := netip.AddrFrom16([16]byte(h[8:24])), netip.AddrFrom16([16]byte(h[48:64]))
		if h[6] != packet.ProtoICMPv6 || h[7] != 255 || h[40] != neighbourSolicit || src.IsUnspecified() ||
			target == s.Guest6.Addr() || target == s.Gateway6 || target.IsLinkLocalUnicast() || target.IsMulticast() {
			return hook.Continue
		}
		answer := s.frame(net.HardwareAddr(p.Head()[6:12]), target, src, packet.ProtoICMPv6, 32, func(b []byte) {
			b[0], b[4] = neighbourAdvert, 0x60 // solicited, override
			copy(b[8:], target.AsSlice())
			b[24], b[25] = optTarget, 1
			copy(b[26:], s.mac)
		})
		p.Release()
		_ = s.node.Transmit(s.index, answer)
		return hook.Stolen
	}
	return hook.Continue
}

// swap sends an ARP frame back to where it came from, as f changes it.
func (s *Server) swap(p *hook.Packet, f func(h []byte)) hook.Verdict {
	r := packet.Alloc(packet.EthernetLen + 28)
	h := r.Head()
	copy(h, p.Head())
	copy(h, h[6:12])
	copy(h[6:], s.mac)
	f(h)
	p.Release()
	_ = s.node.Transmit(s.index, r)
	return hook.Stolen
}
