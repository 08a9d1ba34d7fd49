package hook

import (
	"errors"
	"net"
	"net/netip"
	"time"
)

// ErrDropped is what Host.Send returns when a handler at Output or
// Postrouting dropped the packet, as EPERM is to a sender on Linux.
var ErrDropped = errors.New("hook: dropped by a handler")

// Host is what a subsystem may ask of the node it is hooked into. A node is
// one; tests have others. All methods may be called from any goroutine, and
// from inside handlers unless their comment says otherwise.
type Host interface {
	// Attach puts a handler at a point.
	Attach(pt Point, h Handler, o Options) (*Link, error)
	// Interfaces lists the interfaces by index.
	Interfaces() []Interface
	// Interface returns one of them.
	Interface(index int) (Interface, bool)
	// Route answers what the node would do with a packet. It does not allocate.
	Route(q RouteQuery) Route
	// Send sends a network packet (Head starts at the IP header, complete with
	// checksums or a partial one) as if the node itself had made it: Output,
	// Postrouting, neighbour, Egress. It takes the packet over. The error is
	// ErrDropped, or says why there was no way.
	Send(p *Packet) error
	// Transmit sends a whole frame out of an interface, through its Egress. It
	// takes the packet over.
	Transmit(ifindex int, p *Packet) error
	// Receive lets a whole frame come in at an interface, through its Ingress.
	// It takes the packet over.
	Receive(ifindex int, p *Packet) error
	// Deliver lets a network packet go on behind Ingress, as if its frame had
	// come in at the interface: Prerouting, routing and so on. It takes the
	// packet over.
	Deliver(ifindex int, p *Packet) error
	// JoinGroup and LeaveGroup make the node a member of a multicast group;
	// calls nest. Not for handlers.
	JoinGroup(ifindex int, group netip.Addr) error
	LeaveGroup(ifindex int, group netip.Addr) error
	// OnChange calls f after interfaces, their addresses or state have
	// changed, until cancel is called. f must return soon.
	OnChange(f func()) (cancel func())
	// Now is the node's clock.
	Now() time.Time
}

// Router is a Host that also lets subsystems stand in for parts of its own
// path: queues behind Egress, neighbours, reassembly.
type Router interface {
	Host
	// ToNeighbor sends a network packet to an address on an interface's link,
	// whatever the routes say, through Egress. It takes the packet over.
	ToNeighbor(ifindex int, p *Packet, to netip.Addr) error
	// ToDevice hands a whole frame to an interface's device, past Egress: for
	// handlers at Egress that stole it to send it later. It takes the packet
	// over.
	ToDevice(ifindex int, p *Packet) error
	// Reassemble is what a handler returns that needs whole packets, at
	// Prerouting or Output: a fragment is stolen and kept, and the one that
	// completes a packet becomes the whole of it (Continue). Packets made whole
	// may be fragmented again on their way out.
	Reassemble(p *Packet) Verdict
}

// Interface is a view of one of a node's interfaces. Its slices are not to be
// changed.
type Interface struct {
	Index        int
	Name         string
	MTU          int              // bytes of network packet
	HardwareAddr net.HardwareAddr // nil if the link has none (TUN)
	Addrs        []netip.Prefix   // in the order in which they were given
	Up           bool
	Loopback     bool
	GSO          bool // the device takes TCP super-frames
	USO          bool // and UDP ones
	TxQueues     int  // transmit queues of the device
}

// RouteKind is what a route does with packets.
type RouteKind uint8

// The kinds of routes (RTN_* in uapi linux/rtnetlink.h).
const (
	NoRoute RouteKind = iota
	Unicast
	LocalRoute // the address is the node's own
	BroadcastRoute
	MulticastRoute
	Blackhole
	Unreachable
	Prohibit
)

var routeKindNames = [...]string{"none", "unicast", "local", "broadcast", "multicast", "blackhole", "unreachable", "prohibit"}

func (k RouteKind) String() string { return routeKindNames[int(k)%len(routeKindNames)] }

// RouteQuery asks for a route.
type RouteQuery struct {
	Dst  netip.Addr
	Src  netip.Addr // may be invalid
	In   int        // receiving interface, 0 for the node's own packets
	Out  int        // only routes through this interface, 0 for any
	Mark uint32
	// Brief leaves out the source address and the neighbour, for those who
	// only want to know where a packet would go: it is several times faster.
	Brief bool
}

// Route is the answer.
type Route struct {
	Kind    RouteKind
	Out     int        // egress interface
	NextHop netip.Addr // the destination itself if it is on the link
	Src     netip.Addr // source address the node would use
	MTU     int        // of the egress interface, or smaller if the route says so
	// MAC of the next hop, if the neighbour is known (HasMAC).
	MAC    [6]byte
	HasMAC bool
}

// SocketHost is a Host that can say which of its sockets a packet is for.
type SocketHost interface {
	LookupSocket(q SocketQuery) (Socket, bool)
}

// SocketQuery describes a packet. Dst is the node's side.
type SocketQuery struct {
	Proto    uint8 // packet.ProtoTCP or packet.ProtoUDP
	Src, Dst netip.AddrPort
	Ifindex  int
	Listen   bool // listening sockets will do
}

// Socket is what is known of a socket.
type Socket struct {
	Local, Remote netip.AddrPort
	State         uint32 // TCP state as in Linux (TCP_ESTABLISHED is 1)
	Bound         int    // interface it is bound to
	Cookie        uint64 // names it, never 0
}
