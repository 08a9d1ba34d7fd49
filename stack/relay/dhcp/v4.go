package dhcp

import (
	"encoding/binary"
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/rfc1035label"

	"taproom/stack/packet"
)

// lease is how long an address is promised. It is asked for again at half of
// it, and is always the same.
const lease = 24 * time.Hour

// answer4 answers a DHCPv4 message, nil if it is not for us to answer.
func (s *Server) answer4(b []byte) *packet.Packet {
	q, err := dhcpv4.FromBytes(b)
	if err != nil || q.OpCode != dhcpv4.OpcodeBootRequest || len(q.ClientHWAddr) != 6 {
		return nil
	}
	if id := q.ServerIdentifier(); id != nil && !id.Equal(s.Gateway4.AsSlice()) {
		return nil // it has chosen another server
	}
	guest := net.IP(s.Guest4.Addr().AsSlice())
	kind := dhcpv4.MessageTypeAck
	switch q.MessageType() {
	case dhcpv4.MessageTypeDiscover:
		kind = dhcpv4.MessageTypeOffer
	case dhcpv4.MessageTypeRequest:
		want := q.RequestedIPAddress()
		if want == nil || want.IsUnspecified() {
			want = q.ClientIPAddr
		}
		if !want.Equal(guest) {
			kind = dhcpv4.MessageTypeNak
		}
	case dhcpv4.MessageTypeInform, dhcpv4.MessageTypeNone: // the latter is BOOTP
	default:
		return nil // releases and declines change nothing
	}
	r, err := dhcpv4.NewReplyFromRequest(q, dhcpv4.WithMessageType(kind), dhcpv4.WithOption(dhcpv4.OptServerIdentifier(s.Gateway4.AsSlice())))
	if err != nil {
		return nil
	}
	if kind != dhcpv4.MessageTypeNak {
		s.options4(q, r, guest)
	}
	dst, to := s.Guest4.Addr(), net.HardwareAddr(q.ClientHWAddr)
	if q.IsBroadcast() || kind == dhcpv4.MessageTypeNak { // RFC 2131 section 4.1
		dst, to = netip.AddrFrom4([4]byte{255, 255, 255, 255}), net.HardwareAddr{255, 255, 255, 255, 255, 255}
	}
	return s.udp(to, netip.AddrPortFrom(s.Gateway4, serverPort4), netip.AddrPortFrom(dst, serverPort4+1), r.ToBytes())
}

// options4 is what the lease says.
func (s *Server) options4(q, r *dhcpv4.DHCPv4, guest net.IP) {
	if q.MessageType() != dhcpv4.MessageTypeInform {
		r.YourIPAddr = guest
		r.UpdateOption(dhcpv4.OptIPAddressLeaseTime(lease))
	}
	r.UpdateOption(dhcpv4.OptSubnetMask(net.CIDRMask(s.Guest4.Bits(), 32)))
	gateway := net.IP(s.Gateway4.AsSlice())
	if !s.Guest4.Contains(s.Gateway4) {
		// Off the link (a host with a /32): it must be reached first (RFC 3442).
		all := &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}
		host := &net.IPNet{IP: gateway, Mask: net.CIDRMask(32, 32)}
		r.UpdateOption(dhcpv4.OptClasslessStaticRoute(&dhcpv4.Route{Dest: host, Router: net.IPv4zero}, &dhcpv4.Route{Dest: all, Router: gateway}))
	}
	r.UpdateOption(dhcpv4.OptRouter(gateway))
	if dns := s.resolvers(false); len(dns) > 0 {
		r.UpdateOption(dhcpv4.OptDNS(dns...))
	}
	if len(s.Search) > 0 {
		r.UpdateOption(dhcpv4.OptDomainSearch(&rfc1035label.Labels{Labels: s.Search}))
	}
	if s.MTU >= 68 {
		r.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionInterfaceMTU, binary.BigEndian.AppendUint16(nil, uint16(s.MTU))))
	}
}
