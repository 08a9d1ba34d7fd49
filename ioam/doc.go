// Package ioam is a node's part in in-situ OAM (RFC 9197, RFC 9486): the
// namespaces and schemas it knows, the trace it writes into packets that pass,
// the options it puts into packets that enter the domain and takes from those
// that leave, and the events that tell what was recorded.
//
// The behaviour is that of Linux 6.18 to the octet, the order of checks, the
// drops and the ICMP errors included. Where Linux has no answer (transit
// delay, the incremental trace, direct export and so on) Extras switch ours
// on; all are off in the zero value.
//
// # Where it sits
//
// Attach hooks a Node into a host at Prerouting, before all netfilter
// programs (Linux parses hop-by-hop options before its PREROUTING hook too,
// and fills before hop limit and routing have their say), and at Postrouting,
// where encapsulating routes (Tunnel) and the domain's edge act.
//
//	n, err := ioam.Attach(node, ioam.Config{NodeID: ioam.ID(7)})
//	n.AddNamespace(ioam.Namespace{ID: 123})
//	n.SetInterface(1, ioam.Interface{Enabled: true, ID: ioam.ID16(101)})
//	sub := n.Subscribe(64)
//
// # Concurrency
//
// All methods of Node may be called from any goroutine. What packets see is an
// immutable snapshot of the configuration behind one atomic pointer: filling a
// trace takes no lock and allocates nothing, and a change is seen entirely or
// not at all.
package ioam
