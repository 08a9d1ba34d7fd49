package hook

import (
	"fmt"

	"taproom/stack/packet"
)

// Packet is what handlers are given.
type Packet = packet.Packet

// Point is a place on a packet's way, in the order in which packets meet them.
type Point uint8

// The points. The middle five have the meaning of netfilter's hooks
// (uapi linux/netfilter.h), the outer two of tc's clsact.
const (
	Ingress     Point = iota // a whole frame, before routing looks at it
	Prerouting               // a network packet that came in
	Input                    // one for this node; IPv4 is whole by then, IPv6 may be a fragment
	Forward                  // one for somebody else, its route known
	Output                   // one this node sends, its route known
	Postrouting              // one that is about to leave
	Egress                   // a whole frame, just before the device
	NumPoints
)

var pointNames = [NumPoints]string{"ingress", "prerouting", "input", "forward", "output", "postrouting", "egress"}

func (p Point) String() string {
	if p < NumPoints {
		return pointNames[p]
	}
	return fmt.Sprintf("point(%d)", uint8(p))
}

// Frame reports whether the point belongs to an interface and sees whole
// frames.
func (p Point) Frame() bool { return p == Ingress || p == Egress }

// ParsePoint is the reverse of String.
func ParsePoint(s string) (Point, error) {
	for i, n := range pointNames {
		if n == s {
			return Point(i), nil
		}
	}
	return 0, fmt.Errorf("hook: no point %q (one of %v)", s, pointNames)
}

// Verdict is a handler's word on a packet.
type Verdict uint8

const (
	// Continue asks the next handler.
	Continue Verdict = iota
	// Accept lets the packet pass this point without asking more handlers.
	Accept
	// Drop ends the packet. The handler may have set Packet.Reason.
	Drop
	// Stolen says that the packet is the handler's now, to release or inject.
	Stolen
	// Redirect sends the packet to the interface in Packet.RedirectTo: out of
	// it, or into it with packet.RedirectIngress. Only frame points know it.
	Redirect
	numVerdicts
)

var verdictNames = [numVerdicts]string{"continue", "accept", "drop", "stolen", "redirect"}

func (v Verdict) String() string {
	if v < numVerdicts {
		return verdictNames[v]
	}
	return fmt.Sprintf("verdict(%d)", uint8(v))
}

// Family restricts a handler at a netfilter point to one IP version.
type Family uint8

// The families.
const (
	Any Family = iota
	IPv4
	IPv6
)

func (f Family) String() string { return [...]string{"any", "ipv4", "ipv6"}[f%3] }

// Handler looks at packets. The packet is the handler's for the time of the
// call only, unless it returns Stolen. Handle is called from several
// goroutines at once and must neither block nor allocate.
type Handler interface {
	Handle(pt Point, p *Packet) Verdict
}

// HandlerFunc is a function as a Handler.
type HandlerFunc func(pt Point, p *Packet) Verdict

// Handle calls f.
func (f HandlerFunc) Handle(pt Point, p *Packet) Verdict { return f(pt, p) }
