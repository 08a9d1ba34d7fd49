// Package option reads, writes, inserts and removes IOAM options in the bytes
// of IPv6 packets: the pre-allocated and incremental trace (RFC 9197 section
// 4.4), edge-to-edge (RFC 9197 section 4.6), direct export (RFC 9326), and the
// hop-by-hop and destination options headers that carry them (RFC 9486).
//
// It knows bytes only. What a node does with an option (namespaces, ids, when
// to fill, when to drop) is package ioam.
//
// The wire types are byte slices with getters and setters, as Trace here.
// They never copy, and getters may panic on a slice for which Valid has not
// been asked:
//
//	t := option.Trace(packet[44:])
//	if t.Valid() && !t.Overflow() {
//		fmt.Println(t.Namespace(), t.Type(), t.Remaining())
//	}
package option
