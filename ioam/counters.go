package ioam

import (
	"fmt"
	"sync/atomic"
)

// Counter names one of a node's counts.
type Counter uint8

// What a node counts. The first four are Linux's SNMP counters that
// hop-by-hop processing moves (RFC 4293), to be added to the stack's own.
const (
	InHdrErrors      Counter = iota // Ip6InHdrErrors: dropped for its hop-by-hop header
	InTruncatedPkts                 // Ip6InTruncatedPkts: a jumbo length beyond the packet
	OutParmProblems                 // Icmp6OutParmProblems
	OutPktTooBigs                   // Icmp6OutPktTooBigs, for packets that a trace made too big
	Filled                          // node data written into a trace
	Overflowed                      // no room, or overflow already set
	IgnoredDisabled                 // IOAM is off on the receiving interface
	IgnoredKind                     // an IOAM option of a kind that is not handled
	IgnoredNamespace                // a namespace this node does not know
	DropMalformed                   // an IOAM option with a wrong length, alignment or node length
	DropOptions                     // any other malformed or unknown option
	DropEdge                        // came from outside the domain with IOAM in it
	Inserted                        // traces put in inline
	Encapsulated                    // packets put into an outer header
	NotSampled                      // let pass by k out of n
	NotInserted                     // had a hop-by-hop header already
	RefusedRoCE                     // UDP port 4791: inline insertion would break its checksum
	RefusedSize                     // would not have fitted
	TooBig                          // dropped: with the trace larger than the MTU
	Unroutable                      // dropped: no route to the tunnel's end
	Decapsulated                    // outer headers taken off
	Stripped                        // packets from which IOAM options were taken
	Exported                        // direct export options reported
	LoopedBack                      // copies sent back (L flag)
	EventsLost                      // a subscriber was too slow
	ErrorsLimited                   // ICMP errors not sent for their rate
	numCounters
)

var counterNames = [numCounters]string{
	"ip6_in_hdr_errors", "ip6_in_truncated_pkts", "icmp6_out_parm_problems", "icmp6_out_pkt_too_bigs",
	"filled", "overflowed", "ignored_disabled", "ignored_kind", "ignored_namespace",
	"drop_malformed", "drop_options", "drop_edge", "inserted", "encapsulated", "not_sampled",
	"not_inserted", "refused_roce", "refused_size", "too_big", "unroutable", "decapsulated", "stripped",
	"exported", "looped_back", "events_lost", "errors_limited",
}

func (c Counter) String() string { return counterNames[c%numCounters] }

// reasons explain the counters that stand for a refusal.
var reasons = map[Counter]string{
	NotInserted: "the packet has a hop-by-hop header already, and inline insertion makes no second one; encap does not mind",
	RefusedRoCE: "UDP port 4791 is RoCE: its checksum covers the IPv6 length and next header, so its receiver would drop a packet " +
		"with an inline trace. Use mode encap, or auto with a tundst, or say stripped if somebody takes the trace out on the way",
	RefusedSize: "the packet would not have fitted with the trace, and nobody could be told",
	TooBig:      "with the trace the packet is larger than the MTU; its sender has been told the MTU that leaves room",
	Unroutable:  "there is no route to the tunnel's destination, or no source address for it",
	DropEdge:    "the packet came with IOAM options from an interface that is the domain's edge",
	EventsLost:  "a subscriber did not read its events fast enough",
}

// Reason says in words why packets are counted there, for counters that stand
// for a refusal or a loss; empty for the others.
func (c Counter) Reason() string { return reasons[c] }

// Refused lists what has been refused or lost so far, with the reasons.
func (n *Node) Refused() map[string]string {
	m := make(map[string]string)
	for c, why := range reasons {
		if v := n.counters[c].Load(); v > 0 {
			m[c.String()] = fmt.Sprintf("%d: %s", v, why)
		}
	}
	return m
}

type counters [numCounters]atomic.Uint64

func (c *counters) add(k Counter) { c[k].Add(1) }

// Count reads a counter.
func (n *Node) Count(c Counter) uint64 { return n.counters[c].Load() }

// Counters reads all of them, by name.
func (n *Node) Counters() map[string]uint64 {
	m := make(map[string]uint64, numCounters)
	for c := range numCounters {
		m[c.String()] = n.counters[c].Load()
	}
	return m
}
