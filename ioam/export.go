package ioam

import (
	"taproom/ioam/option"
	"taproom/stack/packet"
)

// immutable acts on an option that nodes read only: direct export, and
// edge-to-edge at its end. It reports whether it did.
func (a *arrival) immutable(opt []byte) bool {
	if !a.in.enabled || len(opt) < option.HeaderLen {
		return false
	}
	switch {
	case option.Kind(opt[3]) == option.DirectExport && a.s.extras.DirectExport:
		return a.directExport(opt)
	case option.Kind(opt[3]) == option.EdgeToEdge && a.s.extras.EdgeToEdge:
		return a.local() && a.e2eEvent(opt)
	}
	return false
}

// directExport reports what this node would have written into a trace (RFC
// 9326), and leaves the packet alone.
func (a *arrival) directExport(opt []byte) bool {
	var d option.DEX
	if !d.Decode(opt) {
		return false
	}
	ns := a.s.namespace(d.Namespace)
	if ns == nil {
		a.n.counters.add(IgnoredNamespace)
		return false
	}
	var e Event
	need := 4 * ns.need(d.Type)
	if need > len(e.data)-1 {
		a.n.counters.add(Overflowed)
		return true
	}
	a.n.counters.add(Exported)
	if !a.n.watched() {
		return true
	}
	a.fill(e.data[:need], d.Type, ns)
	e.n, e.Kind = uint8(need), option.DirectExport
	e.Namespace, e.NodeLen, e.Type = d.Namespace, uint8(d.Type.NodeLen()), uint32(d.Type)<<8
	e.FlowID, e.Sequence, e.HasSequence = d.FlowID, uint64(d.Sequence), d.Extension&option.DEXSequence != 0
	e.describe(a)
	a.n.publish(&e)
	return true
}

// edgeToEdge looks for the option in the destination options header behind
// the hop-by-hop header of a packet that ends here.
func (a *arrival) edgeToEdge() {
	b := a.p.Head()
	at := 40 + (int(b[41])+1)*8
	if b[40] != packet.ProtoDestOpts || !a.p.Pull(at+8) || !a.p.Pull(at+(int(a.p.Head()[at+1])+1)*8) {
		return
	}
	if opt := option.Header(a.p.Head()[at:]).Find(option.EdgeToEdge); opt != nil {
		a.e2eEvent(opt)
	}
}

func (a *arrival) e2eEvent(opt []byte) bool {
	var o option.E2E
	if !o.Decode(opt) {
		return false
	}
	if a.s.namespace(o.Namespace) == nil {
		a.n.counters.add(IgnoredNamespace)
		return false
	}
	if !a.n.watched() {
		return true
	}
	e := Event{Kind: option.EdgeToEdge, Namespace: o.Namespace, Type: uint32(o.Type) << 16, Sequence: o.Sequence}
	e.HasSequence = o.Type&(option.Sequence64|option.Sequence32) != 0
	if o.Type&option.E2ESeconds != 0 {
		e.Sent = int64(o.Seconds)*1e9 + int64(o.Fraction)*1e3
	}
	a.b = a.p.Head()
	e.describe(a)
	a.n.publish(&e)
	return true
}
