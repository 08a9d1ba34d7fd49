package stack

import (
	"math/rand"
	"time"
)

// Options configure a new node. The zero value is a router with the
// defaults of Linux.
type Options struct {
	// Name is shown in listings and errors.
	Name string
	// NoForwarding makes the node a host: packets for others are dropped.
	NoForwarding bool
	// Clock is the source of time; nil is the system's.
	Clock Clock
	// Rand seeds the randomness of protocols (ports, sequence numbers, IPv4
	// identification); nil is seeded by the system.
	Rand rand.Source
	// ICMPRate limits ICMP errors, in messages a second; 0 is 1000, as Linux's
	// icmp_msgs_per_sec, and negative is no limit.
	ICMPRate int
	// ICMPBurst is how many may be sent at once; 0 is 50.
	ICMPBurst int
	// ReassemblyMemory limits what waits for missing fragments, in bytes; 0 is 4 MiB.
	ReassemblyMemory int
	// ReassemblyTimeout is how long fragments wait; 0 is 30 s (RFC 791, Linux).
	ReassemblyTimeout time.Duration
	// Neighbors limits each interface's neighbour table; 0 is 1024.
	Neighbors int
	// DefaultTTL of the node's own packets; 0 is 64.
	DefaultTTL uint8
	// ReachableTime is how long a neighbour counts as reachable after it was
	// heard of; 0 is 30 s (RFC 4861).
	ReachableTime time.Duration
	// RetransTime is the time between solicitations; 0 is 1 s.
	RetransTime time.Duration
	// OnLog is told of rare events in words (an address conflict, a limit
	// reached); nil forgets them. It is never called for single packets.
	OnLog func(msg string, args ...any)
}

func (o *Options) setDefaults() {
	if o.Clock == nil {
		o.Clock = systemClock{}
	}
	setDefault(&o.ICMPRate, 1000)
	setDefault(&o.ICMPBurst, 50)
	setDefault(&o.ReassemblyMemory, 4<<20)
	setDefault(&o.ReassemblyTimeout, 30*time.Second)
	setDefault(&o.Neighbors, 1024)
	setDefault(&o.DefaultTTL, 64)
	setDefault(&o.ReachableTime, 30*time.Second)
	setDefault(&o.RetransTime, time.Second)
	if o.OnLog == nil {
		o.OnLog = func(string, ...any) {}
	}
}

func setDefault[T int | uint8 | time.Duration](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}
