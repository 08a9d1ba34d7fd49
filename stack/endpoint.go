package stack

import (
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	tcpstack "gvisor.dev/gvisor/pkg/tcpip/stack"

	"taproom/stack/hook"
	"taproom/stack/packet"
)

// endpoint is what netstack takes for the link of an interface. It has no
// link layer: what netstack sends are network packets for our own routing,
// and neighbours are none of its business. It takes super-frames, packets of
// any size and unfinished checksums, so that netstack neither segments nor
// fragments nor sums.
type endpoint struct {
	ifc        *Interface
	self       hop // the way out of this interface, for what is on its link
	dispatcher atomic.Pointer[tcpstack.NetworkDispatcher]
}

var (
	_ tcpstack.LinkEndpoint = (*endpoint)(nil)
	_ tcpstack.GSOEndpoint  = (*endpoint)(nil)
)

func newEndpoint(i *Interface) (*endpoint, error) {
	e := &endpoint{ifc: i, self: hop{kind: hook.Unicast, ifc: i}}
	opts := tcpstack.NICOptions{Name: i.name}
	if err := i.node.net.CreateNICWithOptions(tcpip.NICID(i.index), e, opts); err != nil {
		return nil, fmt.Errorf("stack: interface %s: %v", i.name, err)
	}
	return e, nil
}

func (e *endpoint) remove() { _ = e.ifc.node.net.RemoveNIC(tcpip.NICID(e.ifc.index)) }

func (e *endpoint) setUp(up bool) {
	if up {
		_ = e.ifc.node.net.EnableNIC(tcpip.NICID(e.ifc.index))
	}
	// A NIC stays enabled when the link goes down: its addresses are still
	// the node's, as on Linux, and connections survive a short outage.
}

func (e *endpoint) addAddress(p netip.Prefix) error {
	a := p.Addr()
	err := e.ifc.node.net.AddProtocolAddress(tcpip.NICID(e.ifc.index), tcpip.ProtocolAddress{
		Protocol:          protocolOf(a),
		AddressWithPrefix: tcpip.AddressWithPrefix{Address: address(a), PrefixLen: p.Bits()},
	}, tcpstack.AddressProperties{})
	if err != nil {
		return fmt.Errorf("stack: %s:%s: address %v: %v", e.ifc.node.name, e.ifc.name, p, err)
	}
	return nil
}

func (e *endpoint) removeAddress(a netip.Addr) {
	_ = e.ifc.node.net.RemoveAddress(tcpip.NICID(e.ifc.index), address(a))
}

// WritePackets takes netstack's packets to our own output path.
func (e *endpoint) WritePackets(l tcpstack.PacketBufferList) (int, tcpip.Error) {
	for k, pb := range l.AsSlice() {
		if err := e.ifc.node.output(fromNetstack(pb), e.ifc); err != nil {
			return k, netstackError(err)
		}
	}
	return l.Len(), nil
}

// netstackError is what a socket is told.
func netstackError(err error) tcpip.Error {
	switch {
	case errors.Is(err, hook.ErrDropped):
		return &tcpip.ErrNotPermitted{}
	case errors.Is(err, ErrTooBig):
		return &tcpip.ErrMessageTooLong{}
	case errors.Is(err, ErrNoRouteTo):
		return &tcpip.ErrNetworkUnreachable{}
	case errors.Is(err, ErrLinkDown):
		return &tcpip.ErrNetworkUnreachable{} // there is nothing nearer to ENETDOWN
	}
	return &tcpip.ErrHostUnreachable{}
}

// copyBreak is the size up to which a packet of netstack's is copied whole;
// larger ones share its buffers.
const copyBreak = packet.SmallSize

// fromNetstack makes a packet of a packet buffer, which stays the caller's.
func fromNetstack(pb *tcpstack.PacketBuffer) *packet.Packet {
	size := pb.Size()
	nh, th := pb.NetworkHeader().Slice(), pb.TransportHeader().Slice()
	headers := len(nh) + len(th)
	var p *packet.Packet
	if size <= copyBreak {
		p = packet.Alloc(size)
		b, at := p.Head(), 0
		for _, s := range pb.AsSlices() {
			at += copy(b[at:], s)
		}
		p.Truncate(at)
	} else {
		p = packet.Alloc(headers)
		b := p.Head()
		copy(b[copy(b, nh):], th)
		skip := headers
		for _, s := range pb.AsSlices() {
			if skip >= len(s) {
				skip -= len(s)
				continue
			}
			p.AppendShared(s[skip:], nil)
			skip = 0
		}
		p.AppendShared(nil, pb.IncRef())
	}
	// Netstack says DF in what it would fragment itself (path MTU discovery
	// "want"); as on Linux, that holds for packets that fit only.
	p.SoftDF = pb.TransportProtocolNumber != header.TCPProtocolNumber
	p.Hash = pb.Hash
	p.Mark = pb.Mark
	setOffload(p, pb, len(nh))
	return p
}

// setOffload carries over what is left to do: segments to cut, and a checksum
// of which netstack has summed at most the pseudo-header.
func setOffload(p *packet.Packet, pb *tcpstack.PacketBuffer, l4 int) {
	h := p.Head()
	switch g := &pb.GSOOptions; g.Type {
	case tcpstack.GSOTCPv4:
		p.GSO = packet.GSO{Type: packet.GSOTCPv4, Size: g.MSS}
	case tcpstack.GSOTCPv6:
		p.GSO = packet.GSO{Type: packet.GSOTCPv6, Size: g.MSS}
	}
	if p.GSO.Type != packet.GSONone && p.Len()-l4 <= int(p.GSO.Size)+20 {
		p.GSO = packet.GSO{} // one segment only is no super-frame
	}
	offset := 0
	switch pb.TransportProtocolNumber {
	case header.TCPProtocolNumber:
		offset = 16
	case header.UDPProtocolNumber:
		offset = 6
	default:
		return
	}
	if len(h) < l4+offset+2 {
		return
	}
	// Netstack leaves a zero here for a device to fill, or the sum of the
	// pseudo-header with GSO. Writing the latter in both cases is right.
	sum := packet.Fold(packet.PseudoSum(h[:l4], uint8(pb.TransportProtocolNumber), p.Len()-l4))
	h[l4+offset], h[l4+offset+1] = byte(sum>>8), byte(sum)
	p.SetPartialChecksum(l4, offset)
}

// The rest is what netstack asks of any link.

// MTU is the largest there is: our own output path fragments, after the hooks.
func (e *endpoint) MTU() uint32                             { return MaxMTU }
func (e *endpoint) SetMTU(uint32)                           {}
func (e *endpoint) MaxHeaderLength() uint16                 { return 0 }
func (e *endpoint) LinkAddress() tcpip.LinkAddress          { return tcpip.LinkAddress(e.ifc.mac[:]) }
func (e *endpoint) SetLinkAddress(tcpip.LinkAddress)        {}
func (e *endpoint) Wait()                                   {}
func (e *endpoint) AddHeader(*tcpstack.PacketBuffer)        {}
func (e *endpoint) ParseHeader(*tcpstack.PacketBuffer) bool { return true }
func (e *endpoint) Close()                                  {}
func (e *endpoint) SetOnCloseAction(func())                 {}
func (e *endpoint) ARPHardwareType() header.ARPHardwareType { return header.ARPHardwareNone }
func (e *endpoint) GSOMaxSize() uint32                      { return 65535 - 60 - 60 }
func (e *endpoint) SupportedGSO() tcpstack.SupportedGSO     { return tcpstack.HostGSOSupported }

func (e *endpoint) Capabilities() tcpstack.LinkEndpointCapabilities {
	c := tcpstack.CapabilityTXChecksumOffload | tcpstack.CapabilityRXChecksumOffload
	if e.ifc.loopback() {
		c |= tcpstack.CapabilityLoopback
	}
	return c
}

func (e *endpoint) Attach(d tcpstack.NetworkDispatcher) {
	if d == nil {
		e.dispatcher.Store(nil)
		return
	}
	e.dispatcher.Store(&d)
}

func (e *endpoint) IsAttached() bool { return e.dispatcher.Load() != nil }
