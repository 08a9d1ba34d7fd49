package stack

import (
	"context"
	"fmt"
	"net"
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
)

// The node's own sockets, as Go's net package has them.

// DialTCP connects to an address. laddr may be the zero value.
func (n *Node) DialTCP(ctx context.Context, laddr, raddr netip.AddrPort) (net.Conn, error) {
	c, err := gonet.DialTCPWithBind(ctx, n.net, fullAddress(laddr), fullAddress(raddr), protocolOf(raddr.Addr()))
	if err != nil {
		return nil, fmt.Errorf("stack: node %s: dial %v: %w", n.name, raddr, err)
	}
	return c, nil
}

// ListenTCP listens on an address of the node; an unspecified one is all of
// that IP version, port 0 any free port.
func (n *Node) ListenTCP(laddr netip.AddrPort) (net.Listener, error) {
	l, err := gonet.ListenTCP(n.net, fullAddress(laddr), protocolOf(laddr.Addr()))
	if err != nil {
		return nil, fmt.Errorf("stack: node %s: listen on %v: %w", n.name, laddr, err)
	}
	return l, nil
}

// ListenUDP binds a socket that talks to anybody.
func (n *Node) ListenUDP(laddr netip.AddrPort) (net.PacketConn, error) {
	a := fullAddress(laddr)
	c, err := gonet.DialUDP(n.net, &a, nil, protocolOf(laddr.Addr()))
	if err != nil {
		return nil, fmt.Errorf("stack: node %s: bind %v: %w", n.name, laddr, err)
	}
	return c, nil
}

// DialUDP makes a socket that talks to one address. laddr may be the zero value.
func (n *Node) DialUDP(laddr, raddr netip.AddrPort) (net.Conn, error) {
	var local *tcpip.FullAddress
	if laddr.IsValid() {
		a := fullAddress(laddr)
		local = &a
	}
	to := fullAddress(raddr)
	c, err := gonet.DialUDP(n.net, local, &to, protocolOf(raddr.Addr()))
	if err != nil {
		return nil, fmt.Errorf("stack: node %s: dial %v: %w", n.name, raddr, err)
	}
	return c, nil
}

// fullAddress is an address for netstack; a zone is an interface index.
func fullAddress(a netip.AddrPort) tcpip.FullAddress {
	f := tcpip.FullAddress{Port: a.Port()}
	if ip := a.Addr(); ip.IsValid() && !ip.IsUnspecified() {
		f.Addr = address(ip.WithZone(""))
	}
	return f
}
