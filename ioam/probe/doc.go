// Package probe measures a path with packets made for it: one packet records
// every IOAM node on its way, and what comes back brings the record home.
//
// A probe is a UDP datagram to a port where nobody listens, with a trace in a
// hop-by-hop header and the Active flag set (RFC 9322 section 5). Its record
// comes back in any of these ways:
//
//   - the destination answers Port Unreachable and quotes the packet as it
//     arrived, trace and all: Linux does that without being asked to;
//
//   - a router drops the packet, and quotes it likewise;
//
//   - with Options.Loopback, taproom nodes on the way each send a copy.
//
//     p, err := probe.New(node)
//     r, err := p.Run(ctx, netip.MustParseAddr("2001:db8:b::1"), probe.Options{})
//     fmt.Print(r)
package probe
