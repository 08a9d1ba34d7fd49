// Package packet is what travels through a taproom node: the bytes of one
// frame, or of one super-frame that stands for many, and what is known about
// it.
//
// # Shape
//
// A Packet has a linear part with room in front of it (Head, Push, Trim) and,
// for super-frames, fragments behind it (Frags). Every header that taproom
// itself looks at is in the linear part; a handler that needs more calls Pull,
// as a BPF program does. The linear part begins with the link-layer header at
// the hook points Ingress and Egress and with the network header at the five
// points in between; the link-layer header is then still there, in front.
//
// # Ownership
//
// A Packet has exactly one owner, which must call Release once, or give the
// packet away. Functions that take a packet say whether they take it over.
// Memory comes from pools: nothing may be kept from a packet that has been
// released. Live counts the packets that are out, for leak checks.
//
// A Packet is not safe for concurrent use.
package packet
