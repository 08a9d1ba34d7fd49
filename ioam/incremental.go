package ioam

import (
	"encoding/binary"

	"taproom/ioam/option"
	"taproom/stack/packet"
)

// incremental acts on an incremental trace (RFC 9197 section 4.4.1): the
// option grows by this node's record, which goes in front of the others. Only
// with Extras.Incremental; Linux ignores the option.
func (a *arrival) incremental(off int) bool {
	t := option.Trace(a.b[off : off+2+int(a.b[off+1])])
	if len(t) < option.TraceLen || t.NodeLen() != t.Type().NodeLen() {
		return a.malformed()
	}
	ns := a.s.namespace(t.Namespace())
	if ns == nil {
		a.n.counters.add(IgnoredNamespace)
		return true
	}
	typ := t.Type()
	need := ns.need(typ)
	switch {
	case t.Overflow():
		a.n.counters.add(Overflowed)
	case t.Remaining() < need || !a.grow(off, 4*need):
		t.SetOverflow()
		a.n.counters.add(Overflowed)
	default:
		t = option.Trace(a.b[off:])
		t.SetRemaining(t.Remaining() - need)
		data := t[option.TraceLen : option.TraceLen+4*need]
		clear(data) // the complement starts from an empty record
		if typ&option.Checksum != 0 && a.s.extras.Checksum {
			a.fillNeutral(t, data, typ, ns)
		} else {
			a.fill(data, typ, ns)
		}
		a.n.counters.add(Filled)
	}
	t = t[:t.Len()]
	if a.n.watched() {
		a.traceEvent(t)
	}
	if a.s.extras.Loopback && t.Loopback() {
		a.loopBack(t)
	}
	return true
}

// grow makes room for n octets behind the trace header at off. It reports
// false, and changes nothing, if the header or the packet would be too long.
func (a *arrival) grow(off, n int) bool {
	old := (int(a.b[41]) + 1) * 8
	var dst [option.MaxHeader]byte
	length := option.Header(a.b[40:40+old]).Grown(dst[:], off-40, n)
	more := length - old
	payload := int(binary.BigEndian.Uint16(a.b[4:])) + more
	mtu := a.egress().mtu
	if length == 0 || payload > 0xffff ||
		mtu > 0 && a.p.GSO.Type == packet.GSONone && a.p.Len()+more > mtu {
		return false
	}
	if more >= 0 {
		a.b = a.p.Push(more)
		copy(a.b[:40], a.b[more:more+40])
	} else {
		copy(a.b[-more:], a.b[:40])
		a.b = a.p.Trim(-more)
	}
	copy(a.b[40:], dst[:length])
	binary.BigEndian.PutUint16(a.b[4:], uint16(payload))
	a.p.SetL3(0)
	a.p.ClearMAC()
	return true
}
