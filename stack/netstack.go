package stack

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/time/rate"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	tcpstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"

	"taproom/stack/hook"
)

// mirrorLimit is how many routes netstack is told of. It walks its table for
// every new flow, and needs it only to choose a source address and an MSS;
// flows beyond it get those of the first interface with a default route.
const mirrorLimit = 512

// newNetstack makes the part of the node that terminates. It never forwards,
// resolves no neighbours and sees no fragments of IPv4.
func newNetstack(n *Node) (*tcpstack.Stack, error) {
	s := tcpstack.New(tcpstack.Options{
		NetworkProtocols: []tcpstack.NetworkProtocolFactory{
			ipv4.NewProtocol,
			ipv6.NewProtocolWithOptions(ipv6.Options{MLD: ipv6.MLDOptions{Enabled: true}}),
		},
		TransportProtocols: []tcpstack.TransportProtocolFactory{
			tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4, icmp.NewProtocol6,
		},
		Clock:      netstackClock{n.opts.Clock, n.start},
		RandSource: n.opts.Rand,
	})
	if n.opts.ICMPRate < 0 {
		s.SetICMPLimit(rate.Inf)
	} else {
		s.SetICMPLimit(rate.Limit(n.opts.ICMPRate))
		s.SetICMPBurst(n.opts.ICMPBurst)
	}
	sack := tcpip.TCPSACKEnabled(true)
	if err := s.SetTransportProtocolOption(tcp.ProtocolNumber, &sack); err != nil {
		return nil, fmt.Errorf("stack: TCP SACK: %v", err)
	}
	ttl := tcpip.DefaultTTLOption(n.opts.DefaultTTL)
	for _, p := range [...]tcpip.NetworkProtocolNumber{ipv4.ProtocolNumber, ipv6.ProtocolNumber} {
		if err := s.SetNetworkProtocolOption(p, &ttl); err != nil {
			return nil, fmt.Errorf("stack: default TTL: %v", err)
		}
	}
	return s, nil
}

// mirrorRoutesLocked tells netstack the routes it needs for its own sockets.
// Behind them stands a default route of every interface, so that an answer
// from any of the node's addresses finds a way out to our own table.
func (n *Node) mirrorRoutesLocked() {
	if n.net == nil {
		return
	}
	var table []tcpip.Route
	if f := n.fib.Load(); f.table.Size() <= mirrorLimit+2*len(n.byName) {
		for pfx, e := range f.table.All() {
			for i := range e.hops {
				if h := &e.hops[i]; h.kind == hook.Unicast {
					table = append(table, tcpip.Route{
						Destination: subnet(pfx), NIC: tcpip.NICID(h.ifc.index), MTU: uint32(h.pathMTU()), SourceHint: address(h.src),
					})
				}
			}
		}
	}
	for _, i := range n.byName {
		for _, all := range [...]tcpip.Subnet{header.IPv4EmptySubnet, header.IPv6EmptySubnet} {
			table = append(table, tcpip.Route{Destination: all, NIC: tcpip.NICID(i.index), MTU: uint32(i.MTU())})
		}
	}
	slices.SortStableFunc(table, func(a, b tcpip.Route) int {
		return cmp.Or(cmp.Compare(b.Destination.Prefix(), a.Destination.Prefix()), cmp.Compare(a.NIC, b.NIC))
	})
	for i := range table {
		// A route's MTU counts what is behind the IP header.
		if table[i].Destination.ID().Len() == 4 {
			table[i].MTU -= header.IPv4MinimumSize
		} else {
			table[i].MTU -= header.IPv6MinimumSize
		}
	}
	n.net.SetRouteTable(table)
}

func address(a netip.Addr) tcpip.Address {
	switch {
	case !a.IsValid():
		return tcpip.Address{}
	case a.Is4():
		return tcpip.AddrFrom4(a.As4())
	}
	return tcpip.AddrFrom16(a.As16())
}

func subnet(p netip.Prefix) tcpip.Subnet {
	return tcpip.AddressWithPrefix{Address: address(p.Masked().Addr()), PrefixLen: p.Bits()}.Subnet()
}

func protocolOf(a netip.Addr) tcpip.NetworkProtocolNumber {
	if a.Is4() {
		return ipv4.ProtocolNumber
	}
	return ipv6.ProtocolNumber
}

// JoinGroup makes the node a member of a multicast group on an interface.
func (n *Node) JoinGroup(ifindex int, group netip.Addr) error {
	if err := n.net.JoinGroup(protocolOf(group), tcpip.NICID(ifindex), address(group)); err != nil {
		return fmt.Errorf("stack: join %v on interface %d of %s: %v", group, ifindex, n.name, err)
	}
	return nil
}

// LeaveGroup takes back one JoinGroup.
func (n *Node) LeaveGroup(ifindex int, group netip.Addr) error {
	if err := n.net.LeaveGroup(protocolOf(group), tcpip.NICID(ifindex), address(group)); err != nil {
		return fmt.Errorf("stack: leave %v on interface %d of %s: %v", group, ifindex, n.name, err)
	}
	return nil
}

// member reports whether the interface listens to a group.
func (i *Interface) member(group netip.Addr) bool {
	if group == allNodes4 || group == allNodes6 {
		return true
	}
	ok, err := i.node.net.IsInGroup(tcpip.NICID(i.index), address(group))
	return ok && err == nil
}

var (
	allNodes4 = netip.MustParseAddr("224.0.0.1")
	allNodes6 = netip.MustParseAddr("ff02::1")
)
