package dhcp

import (
	"net"
	"net/netip"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv6"

	"taproom/stack"
	"taproom/stack/packet"
)

var client = net.HardwareAddr{2, 0, 0, 0, 0, 9}

func server(t *testing.T) *Server {
	t.Helper()
	n, err := stack.New(stack.Options{Name: "n"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	return &Server{node: n, index: 1, mac: net.HardwareAddr{2, 0, 0, 0, 0, 1}, Services: Services{
		Guest4: netip.MustParsePrefix("10.0.2.100/24"), Gateway4: netip.MustParseAddr("10.0.2.2"),
		Guest6: netip.MustParsePrefix("fd00::100/64"), Gateway6: netip.MustParseAddr("fe80::2"),
		Resolvers: []netip.Addr{netip.MustParseAddr("10.0.2.3"), netip.MustParseAddr("fd00::3")},
		Search:    []string{"example.org"}, MTU: 1400,
	}}
}

func reply4(t *testing.T, p *packet.Packet) *dhcpv4.DHCPv4 {
	t.Helper()
	if p == nil {
		t.Fatal("no answer")
	}
	defer p.Release()
	h := p.Head()
	if packet.Checksum(h[14:34]) != 0 {
		t.Error("wrong header checksum")
	}
	r, err := dhcpv4.FromBytes(h[14+20+8:])
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestDHCPv4(t *testing.T) {
	s := server(t)
	d, err := dhcpv4.NewDiscovery(client)
	if err != nil {
		t.Fatal(err)
	}
	offer := reply4(t, s.answer4(d.ToBytes()))
	if offer.MessageType() != dhcpv4.MessageTypeOffer || !offer.YourIPAddr.Equal(net.IPv4(10, 0, 2, 100)) {
		t.Errorf("offer: %v", offer.Summary())
	}
	q, err := dhcpv4.NewRequestFromOffer(offer)
	if err != nil {
		t.Fatal(err)
	}
	ack := reply4(t, s.answer4(q.ToBytes()))
	if ack.MessageType() != dhcpv4.MessageTypeAck || !ack.Router()[0].Equal(net.IPv4(10, 0, 2, 2)) || !ack.DNS()[0].Equal(net.IPv4(10, 0, 2, 3)) ||
		ack.DomainSearch().Labels[0] != "example.org" {
		t.Errorf("ack: %v", ack.Summary())
	}
	if m := ack.Options.Get(dhcpv4.OptionInterfaceMTU); len(m) != 2 || int(m[0])<<8|int(m[1]) != 1400 {
		t.Errorf("MTU %v", m)
	}
	q.UpdateOption(dhcpv4.OptRequestedIPAddress(net.IPv4(10, 0, 2, 7)))
	if nak := reply4(t, s.answer4(q.ToBytes())); nak.MessageType() != dhcpv4.MessageTypeNak {
		t.Errorf("another address: %v", nak.Summary())
	}
	q.UpdateOption(dhcpv4.OptServerIdentifier(net.IPv4(10, 0, 2, 9)))
	if s.answer4(q.ToBytes()) != nil {
		t.Error("answered for another server")
	}
}

func TestDHCPv6(t *testing.T) {
	s := server(t)
	q, err := dhcpv6.NewSolicit(client)
	if err != nil {
		t.Fatal(err)
	}
	p := s.answer6(q.ToBytes(), netip.MustParseAddr("fe80::9"))
	if p == nil {
		t.Fatal("no answer")
	}
	defer p.Release()
	m, err := dhcpv6.MessageFromBytes(p.Head()[14+40+8:])
	if err != nil {
		t.Fatal(err)
	}
	if m.MessageType != dhcpv6.MessageTypeAdvertise || !m.Options.OneIANA().Options.OneAddress().IPv6Addr.Equal(net.ParseIP("fd00::100")) ||
		!m.Options.DNS()[0].Equal(net.ParseIP("fd00::3")) {
		t.Error(m.Summary())
	}
}

func TestRouterAdvertisement(t *testing.T) {
	s := server(t)
	p := s.advertise()
	defer p.Release()
	h := p.Head()[14:]
	if ok := packet.Fold(packet.Sum(packet.PseudoSum(h[:40], packet.ProtoICMPv6, len(h)-40), h[40:])) == 0xffff; !ok || h[7] != 255 {
		t.Error("wrong checksum or hop limit")
	}
	kinds := []byte{}
	for o := h[40+16:]; len(o) > 0; o = o[8*int(o[1]):] {
		kinds = append(kinds, o[0])
	}
	if string(kinds) != string([]byte{optSource, optPrefix, optMTU, optRDNSS}) {
		t.Errorf("options %v", kinds)
	}
}

func FuzzAnswers(f *testing.F) {
	d, _ := dhcpv4.NewDiscovery(client)
	f.Add(d.ToBytes())
	q, _ := dhcpv6.NewSolicit(client)
	f.Add(q.ToBytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		s := server(t)
		for _, p := range []*packet.Packet{s.answer4(b), s.answer6(b, netip.MustParseAddr("fe80::9"))} {
			if p != nil {
				p.Release()
			}
		}
	})
}
