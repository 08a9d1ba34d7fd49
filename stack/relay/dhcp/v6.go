package dhcp

import (
	"net"
	"net/netip"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"

	"taproom/stack/packet"
)

// answer6 answers a DHCPv6 message from src, nil if it is not for us to
// answer.
func (s *Server) answer6(b []byte, src netip.Addr) *packet.Packet {
	m, err := dhcpv6.FromBytes(b)
	if err != nil {
		return nil
	}
	q, ok := m.(*dhcpv6.Message)
	if !ok {
		return nil // of a relay agent
	}
	us := &dhcpv6.DUIDLL{HWType: iana.HWTypeEthernet, LinkLayerAddr: s.mac}
	if id := q.Options.ServerID(); id != nil && !id.Equal(us) {
		return nil
	}
	var r *dhcpv6.Message
	switch q.MessageType {
	case dhcpv6.MessageTypeSolicit:
		if q.GetOneOption(dhcpv6.OptionRapidCommit) == nil {
			r, err = dhcpv6.NewAdvertiseFromSolicit(q, dhcpv6.WithServerID(us))
			break
		}
		fallthrough
	case dhcpv6.MessageTypeRequest, dhcpv6.MessageTypeConfirm, dhcpv6.MessageTypeRenew, dhcpv6.MessageTypeRebind,
		dhcpv6.MessageTypeRelease, dhcpv6.MessageTypeDecline, dhcpv6.MessageTypeInformationRequest:
		r, err = dhcpv6.NewReplyFromMessage(q, dhcpv6.WithServerID(us))
	default:
		return nil
	}
	if err != nil {
		return nil
	}
	s.options6(q, r)
	mac := s.macOf(src)
	return s.udp(mac, netip.AddrPortFrom(s.linkLocal(), serverPort6), netip.AddrPortFrom(src, serverPort6-1), r.ToBytes())
}

// options6 gives each association the one address there is.
func (s *Server) options6(q, r *dhcpv6.Message) {
	if q.MessageType != dhcpv6.MessageTypeInformationRequest && q.MessageType != dhcpv6.MessageTypeConfirm {
		for _, ia := range q.Options.IANA() {
			a := &dhcpv6.OptIANA{IaId: ia.IaId, T1: lease / 2, T2: lease * 4 / 5}
			if q.MessageType != dhcpv6.MessageTypeRelease && q.MessageType != dhcpv6.MessageTypeDecline {
				a.Options.Add(&dhcpv6.OptIAAddress{IPv6Addr: s.Guest6.Addr().AsSlice(), PreferredLifetime: lease, ValidLifetime: lease})
			}
			r.AddOption(a)
		}
	}
	if dns := s.resolvers(true); len(dns) > 0 {
		r.UpdateOption(dhcpv6.OptDNS(dns...))
	}
	if len(s.Search) > 0 {
		dhcpv6.WithDomainSearchList(s.Search...)(r)
	}
}

// macOf is the link address of a neighbour that has just been heard of; where
// the node does not know it, it is asked for with everybody listening.
func (s *Server) macOf(a netip.Addr) net.HardwareAddr {
	if q := s.node.Route(routeTo(a, s.index)); q.HasMAC {
		return q.MAC[:]
	}
	return net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}
}
