package stack

import (
	"net/netip"
	"reflect"

	"gvisor.dev/gvisor/pkg/tcpip"
	tcpstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"

	"taproom/stack/hook"
	"taproom/stack/packet"
)

var _ hook.SocketHost = (*Node)(nil)

// States of sockets in Linux's numbers (include/net/tcp_states.h), which
// netstack's TCP has, too.
const (
	stateEstablished = 1
	stateClosed      = 7
)

// LookupSocket finds the node's socket that a packet would be delivered to. It
// asks netstack's tables only, never a socket itself, whose lock this very
// goroutine may hold: what a socket is bound to shows in the questions that
// find it.
func (n *Node) LookupSocket(q hook.SocketQuery) (hook.Socket, bool) {
	var trans tcpip.TransportProtocolNumber
	switch q.Proto {
	case packet.ProtoTCP:
		trans = tcp.ProtocolNumber
	case packet.ProtoUDP:
		trans = udp.ProtocolNumber
	default:
		return hook.Socket{}, false
	}
	if !q.Src.IsValid() || !q.Dst.IsValid() || q.Src.Addr().Is4() != q.Dst.Addr().Is4() {
		return hook.Socket{}, false
	}
	find := func(local, remote netip.AddrPort, ifindex int) tcpstack.TransportEndpoint {
		return n.net.FindTransportEndpoint(protocolOf(q.Dst.Addr()), trans, tcpstack.TransportEndpointID{
			LocalAddress: address(local.Addr()), LocalPort: local.Port(), RemoteAddress: address(remote.Addr()), RemotePort: remote.Port(),
		}, tcpip.NICID(ifindex))
	}
	ep := find(q.Dst, q.Src, q.Ifindex)
	if ep == nil {
		return hook.Socket{}, false
	}
	s := hook.Socket{Local: q.Dst, Remote: q.Src, State: stateEstablished, Cookie: cookie(ep)}
	anybody, anywhere := netip.AddrPort{}, netip.AddrPortFrom(netip.Addr{}, q.Dst.Port())
	if find(q.Dst, anybody, q.Ifindex) == ep {
		s.Remote, s.State = anybody, stateClosed
		if find(anywhere, anybody, q.Ifindex) == ep {
			s.Local = netip.AddrPortFrom(unspecified(q.Dst.Addr()), q.Dst.Port())
		}
	}
	if t, ok := ep.(*tcp.Endpoint); ok {
		s.State = t.State() // an atomic
	}
	if s.Remote == anybody && !q.Listen {
		return hook.Socket{}, false
	}
	if q.Ifindex != 0 && find(q.Dst, q.Src, 0) != ep {
		s.Bound = q.Ifindex
	}
	return s, true
}

// cookie names a socket while it lives.
func cookie(ep tcpstack.TransportEndpoint) uint64 { return uint64(reflect.ValueOf(ep).Pointer()) }

func unspecified(a netip.Addr) netip.Addr {
	if a.Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}
