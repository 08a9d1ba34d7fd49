package ioamtest

import (
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"taproom/stack/hook"
	"taproom/stack/packet"
)

// Iface is an interface of a Node. The fields are set before the node sees
// its first packet.
type Iface struct {
	hook.Interface
	// Wire takes the frames that leave.
	Wire func(frame []byte)
	// Offload leaves partial checksums to whoever takes the frames.
	Offload bool

	chains *hook.Chains
}

// Route is an entry of a node's routing table.
type Route struct {
	Prefix netip.Prefix
	Kind   hook.RouteKind // Unicast if zero
	Via    netip.Addr     // invalid: on the link
	Out    int
}

// Node is a router and host.
type Node struct {
	// Host is nil: it stands for what package ioam does not ask of a host.
	hook.Host

	Name     string
	Ifaces   []*Iface // by index - 1
	Routes   []Route
	MACs     map[netip.Addr]net.HardwareAddr // static neighbours
	Sockets  map[uint16]func(ip []byte)      // UDP ports
	Clock    func() time.Time
	Counters map[string]int     // by SNMP name
	Drops    []packet.Reason    // in order
	Groups   map[netip.Addr]int // joined

	table *hook.Table
	errno error // of the last Send
}

// NewNode returns a node without interfaces.
func NewNode(name string, clock func() time.Time) *Node {
	return &Node{
		Name: name, Clock: clock, table: hook.NewTable(), MACs: make(map[netip.Addr]net.HardwareAddr),
		Sockets: make(map[uint16]func([]byte)), Counters: make(map[string]int), Groups: make(map[netip.Addr]int),
	}
}

// AddIface adds an Ethernet interface and the routes of its addresses.
func (n *Node) AddIface(name string, mac net.HardwareAddr, addrs ...netip.Prefix) *Iface {
	i := &Iface{Interface: hook.Interface{
		Index: len(n.Ifaces) + 1, Name: name, MTU: 1500, HardwareAddr: mac, Addrs: addrs, Up: true, TxQueues: 1,
	}}
	i.chains = n.table.AddInterface(i.Index)
	n.Ifaces = append(n.Ifaces, i)
	for _, a := range addrs {
		n.Routes = append(n.Routes, Route{Prefix: a.Masked(), Out: i.Index},
			Route{Prefix: netip.PrefixFrom(a.Addr(), 128), Kind: hook.LocalRoute, Out: i.Index})
	}
	return i
}

// Link joins two interfaces: what leaves one comes in at the other.
func Link(a *Node, ai *Iface, b *Node, bi *Iface) {
	ai.Wire = func(f []byte) { b.Input(bi.Index, f) }
	bi.Wire = func(f []byte) { a.Input(ai.Index, f) }
}

// Attach implements hook.Host.
func (n *Node) Attach(pt hook.Point, h hook.Handler, o hook.Options) (*hook.Link, error) {
	return n.table.Attach(pt, h, o)
}

// Interfaces implements hook.Host.
func (n *Node) Interfaces() []hook.Interface {
	var out []hook.Interface
	for _, i := range n.Ifaces {
		out = append(out, i.Interface)
	}
	return out
}

// Interface implements hook.Host.
func (n *Node) Interface(index int) (hook.Interface, bool) {
	if index < 1 || index > len(n.Ifaces) {
		return hook.Interface{}, false
	}
	return n.Ifaces[index-1].Interface, true
}

// IfaceByName finds an interface.
func (n *Node) IfaceByName(name string) *Iface {
	for _, i := range n.Ifaces {
		if i.Name == name {
			return i
		}
	}
	return nil
}

// Route implements hook.Host: longest prefix, the first of equals.
func (n *Node) Route(q hook.RouteQuery) hook.Route {
	best := -1
	var r Route
	for _, e := range n.Routes {
		if e.Prefix.Contains(q.Dst) && e.Prefix.Bits() > best && (q.Out == 0 || e.Out == q.Out) {
			best, r = e.Prefix.Bits(), e
		}
	}
	if best < 0 {
		return hook.Route{}
	}
	if r.Kind == hook.NoRoute {
		r.Kind = hook.Unicast
	}
	out := hook.Route{Kind: r.Kind, Out: r.Out, NextHop: r.Via}
	if !r.Via.IsValid() {
		out.NextHop = q.Dst
	}
	if r.Out == 0 {
		return out
	}
	i := n.Ifaces[r.Out-1]
	out.MTU = i.MTU
	for _, a := range i.Addrs {
		// The address on the link of the next hop, else the first.
		if !out.Src.IsValid() || a.Contains(out.NextHop) {
			out.Src = a.Addr()
		}
	}
	if m, ok := n.MACs[out.NextHop]; ok {
		out.MAC, out.HasMAC = [6]byte(m), true
	}
	return out
}

// Deliver implements hook.Host.
func (n *Node) Deliver(ifindex int, p *packet.Packet) error {
	p.In = ifindex
	n.receive(p)
	return nil
}

// Receive implements hook.Host.
func (n *Node) Receive(ifindex int, p *packet.Packet) error {
	n.Input(ifindex, p.Head())
	p.Release()
	return nil
}

// JoinGroup implements hook.Host.
func (n *Node) JoinGroup(_ int, group netip.Addr) error {
	n.Groups[group]++
	return nil
}

// LeaveGroup implements hook.Host.
func (n *Node) LeaveGroup(_ int, group netip.Addr) error {
	n.Groups[group]--
	return nil
}

// OnChange implements hook.Host; nothing here changes by itself.
func (n *Node) OnChange(func()) (cancel func()) { return func() {} }

// Now implements hook.Host.
func (n *Node) Now() time.Time { return n.Clock() }

func (n *Node) count(name string) { n.Counters[name]++ }

func (n *Node) dropped(p *packet.Packet, r packet.Reason) {
	if p.Reason == packet.NoReason {
		p.Reason = r
	}
	n.Drops = append(n.Drops, p.Reason)
	p.Release()
}

// Err is the errno of a send that failed.
func errnoFor(r packet.Reason) error {
	switch r {
	case packet.NoRoute:
		return syscall.ENETUNREACH
	case packet.TooBig:
		return syscall.EMSGSIZE
	}
	return fmt.Errorf("%w: %v", hook.ErrDropped, r)
}
