package ioam

import (
	"net/netip"

	"taproom/stack/hook"
)

// arrival is one packet at this node, with what the node knows about it. It
// lives on the stack of the handler.
type arrival struct {
	n    *Node
	s    *state
	p    *hook.Packet
	b    []byte   // linear part: the IPv6 header and the options header at least
	in   *ifState // receiving interface
	hop  uint8    // hop limit to record
	sent bool     // this node is putting the trace in, rather than passing it on
	seen bool     // there was an IOAM option of either type

	routed bool
	kind   hook.RouteKind
	time   int64
	out    *ifState // egress interface; nil if there is none (local, loopback, no route)
	index  int      // its index
	o      outcome  // why the packet is dropped
}

// now is the packet's receive time in nanoseconds since 1970.
func (a *arrival) now() int64 {
	if a.time == 0 {
		if a.time = a.p.Time; a.time == 0 {
			a.time = a.n.host.Now().UnixNano()
		}
	}
	return a.time
}

// route looks the destination up, once, and only for options that ask.
func (a *arrival) route() {
	if a.routed {
		return
	}
	a.routed = true
	dst := a.b[24:40]
	if dst[0] == 0xff {
		// Multicast is received, and perhaps forwarded, on the interface it came
		// in on: that is what Linux's route says.
		a.kind = hook.MulticastRoute
		a.setOut(a.p.In)
		return
	}
	r := a.n.host.Route(hook.RouteQuery{
		Dst: netip.AddrFrom16([16]byte(dst)), Src: netip.AddrFrom16([16]byte(a.b[8:24])), In: a.p.In, Mark: a.p.Mark, Brief: true,
	})
	a.kind = r.Kind
	if r.Kind == hook.Unicast {
		a.setOut(r.Out)
	}
}

func (a *arrival) setOut(index int) {
	if o := a.s.iface(index); !o.loopback {
		a.out, a.index = o, index
	}
}

// local reports whether the packet is for this node.
func (a *arrival) local() bool {
	a.route()
	return a.kind == hook.LocalRoute
}
