package ioamtest

import (
	"net"
	"net/netip"
	"strings"
	"time"

	"taproom/stack/hook"
	"taproom/stack/packet"
)

// Machine is a node that recorded cases are run on. Node is one; a taproom
// node behind an adapter is another.
type Machine interface {
	hook.Host
	// Ifindex is the index of an interface of the Spec.
	Ifindex(name string) int
	// Input is a frame that comes in. The call returns when everything that
	// follows from it has happened.
	Input(ifindex int, frame []byte)
	// SendUDP is a datagram from a socket of the node.
	SendUDP(src, dst netip.AddrPort, payload []byte) error
	// SNMP are the counters under their Linux names, without IOAM's own; nil
	// if the machine does not keep them.
	SNMP() map[string]int
	// Reasons are why packets were dropped, nil if the machine does not say.
	Reasons() []packet.Reason
}

// Spec is what a machine is made from.
type Spec struct {
	Name   string
	Now    func() time.Time
	Ifaces []IfaceSpec
	Routes []Route // Out counts the interfaces from 1
	// MACs are static neighbours on all links.
	MACs map[netip.Addr]net.HardwareAddr
	// Heard takes the packets for the UDP socket on Port.
	Port  uint16
	Heard func(ip []byte)
}

// IfaceSpec is an interface of a Spec.
type IfaceSpec struct {
	Name    string
	MAC     net.HardwareAddr
	Addrs   []netip.Prefix
	Offload bool // frames may leave with partial checksums
	Out     func(frame []byte)
}

// Maker makes machines.
type Maker func(Spec) (Machine, error)

// MakeNode is the Maker of this package's Node.
func MakeNode(s Spec) (Machine, error) {
	n := NewNode(s.Name, s.Now)
	for _, i := range s.Ifaces {
		f := n.AddIface(i.Name, i.MAC, i.Addrs...)
		f.Wire, f.Offload = i.Out, i.Offload
	}
	n.Routes = append(n.Routes, s.Routes...)
	n.MACs = s.MACs
	if s.Heard != nil {
		n.Sockets[s.Port] = s.Heard
	}
	return n, nil
}

// Ifindex implements Machine.
func (n *Node) Ifindex(name string) int { return n.IfaceByName(name).Index }

// SNMP implements Machine.
func (n *Node) SNMP() map[string]int { return n.Counters }

// Reasons implements Machine.
func (n *Node) Reasons() []packet.Reason { return n.Drops }

// ifindex finds an interface of a Spec.
func (s *Spec) ifindex(name string) int {
	for i, f := range s.Ifaces {
		if f.Name == name {
			return i + 1
		}
	}
	return 0
}

// parseRoute reads a route as ip prints it: "[KIND] PREFIX [via ADDR] [dev IF]".
func (s *Spec) parseRoute(text string) Route {
	kinds := map[string]hook.RouteKind{"unreachable": hook.Unreachable, "blackhole": hook.Blackhole, "prohibit": hook.Prohibit}
	w := strings.Fields(text)
	var r Route
	if k, ok := kinds[w[0]]; ok {
		r.Kind, w = k, w[1:]
	}
	if w[0] == "default" {
		w[0] = "::/0"
	}
	r.Prefix = netip.MustParsePrefix(w[0])
	for i := 1; i+1 < len(w); i += 2 {
		switch w[i] {
		case "via":
			r.Via = netip.MustParseAddr(w[i+1])
			r.Out = s.linkOf(r.Via)
		case "dev":
			r.Out = s.ifindex(w[i+1])
		}
	}
	return r
}

// linkOf is the interface on whose link an address is.
func (s *Spec) linkOf(a netip.Addr) int {
	for i, f := range s.Ifaces {
		for _, p := range f.Addrs {
			if p.Contains(a) {
				return i + 1
			}
		}
	}
	return 0
}
