package stack

import (
	"sync/atomic"

	"taproom/stack/hook"
	"taproom/stack/packet"
)

// counter is alone on its cache line's half, so that queues do not fight.
type counter struct {
	atomic.Uint64
	_ [56]byte
}

// nodeCounters count what the node did with packets. The names are those of
// RFC 4293 where it has one.
type nodeCounters struct {
	inReceives, inDelivers, forwarded, outRequests counter
	fragCreated, reassembled, icmpErrors           counter
	icmpLimited                                    atomic.Uint64
	drops                                          [packet.NumReasons]atomic.Uint64
}

// Counters are a node's, as listings show them.
type Counters struct {
	InReceives  uint64            `json:"in_receives"`
	InDelivers  uint64            `json:"in_delivers"`
	Forwarded   uint64            `json:"forwarded"`
	OutRequests uint64            `json:"out_requests"`
	FragCreated uint64            `json:"fragments_created"`
	Reassembled uint64            `json:"reassembled"`
	ICMPErrors  uint64            `json:"icmp_errors_sent"`
	ICMPLimited uint64            `json:"icmp_errors_limited"`
	Points      map[string]uint64 `json:"points"`
	Drops       map[string]uint64 `json:"drops"`
}

// Counters returns the node's counters.
func (n *Node) Counters() Counters {
	c := &n.counters
	out := Counters{
		InReceives: c.inReceives.Load(), InDelivers: c.inDelivers.Load(), Forwarded: c.forwarded.Load(),
		OutRequests: c.outRequests.Load(), FragCreated: c.fragCreated.Load(), Reassembled: c.reassembled.Load(),
		ICMPErrors: c.icmpErrors.Load(), ICMPLimited: c.icmpLimited.Load(),
		Points: make(map[string]uint64), Drops: dropMap(&c.drops),
	}
	for pt := range hook.NumPoints {
		out.Points[pt.String()] = n.hooks.Runs(pt)
	}
	return out
}

func dropMap(drops *[packet.NumReasons]atomic.Uint64) map[string]uint64 {
	m := make(map[string]uint64)
	for r := range drops {
		if v := drops[r].Load(); v > 0 {
			m[packet.Reason(r).String()] = v
		}
	}
	return m
}

// ifaceCounters are one interface's.
type ifaceCounters struct {
	rxPackets, rxBytes, txPackets, txBytes counter
	rxDrops, txDrops                       counter
}

// InterfaceCounters are what an interface counted. A super-frame counts as
// one packet.
type InterfaceCounters struct {
	RxPackets uint64 `json:"rx_packets"`
	RxBytes   uint64 `json:"rx_bytes"`
	RxDrops   uint64 `json:"rx_drops"`
	TxPackets uint64 `json:"tx_packets"`
	TxBytes   uint64 `json:"tx_bytes"`
	TxDrops   uint64 `json:"tx_drops"`
}

// Counters returns the interface's counters.
func (i *Interface) Counters() InterfaceCounters {
	c := &i.counters
	return InterfaceCounters{
		RxPackets: c.rxPackets.Load(), RxBytes: c.rxBytes.Load(), RxDrops: c.rxDrops.Load(),
		TxPackets: c.txPackets.Load(), TxBytes: c.txBytes.Load(), TxDrops: c.txDrops.Load(),
	}
}

// drop ends a packet for a reason.
func (n *Node) drop(p *packet.Packet, r packet.Reason) {
	n.counters.drops[r].Add(1)
	p.Release()
}

// dropIn and dropOut also count at the interface.
func (i *Interface) dropIn(p *packet.Packet, r packet.Reason) {
	i.counters.rxDrops.Add(1)
	i.node.drop(p, r)
}

func (i *Interface) dropOut(p *packet.Packet, r packet.Reason) {
	i.counters.txDrops.Add(1)
	i.node.drop(p, r)
}

// dropVerdict ends a packet that a handler dropped.
func (n *Node) dropVerdict(p *packet.Packet) {
	r := p.Reason
	if r == packet.NoReason || int(r) >= packet.NumReasons {
		r = packet.ByHandler
	}
	n.drop(p, r)
}
