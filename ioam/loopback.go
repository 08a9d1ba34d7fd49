package ioam

import (
	"encoding/binary"
	"net/netip"

	"taproom/ioam/option"
	"taproom/stack/hook"
	"taproom/stack/packet"
)

// loopBack sends a copy of the packet back to its source, for the L flag of a
// trace that this node has just written into (RFC 9322 section 4). The copy's
// trace has no room left, so that nodes on the way back add nothing, and no L
// flag, so that none of them answers it. What does not fit 1280 octets of the
// payload is left out.
func (a *arrival) loopBack(t option.Trace) {
	b := a.p.Head()
	src := netip.AddrFrom16([16]byte(b[8:24]))
	if src.IsUnspecified() || src.IsMulticast() || b[24] == 0xff {
		return
	}
	r := a.n.host.Route(hook.RouteQuery{Dst: src})
	if r.Kind != hook.Unicast || !r.Src.Is6() {
		return
	}
	if !a.n.returns.allow(a.n.host.Now().UnixNano()) {
		a.n.counters.add(ErrorsLimited)
		return
	}
	recorded := t.Recorded()
	n := option.TraceLen + len(recorded)&^3
	header := option.HeaderFor(n)
	at := 40 + (int(b[41])+1)*8
	payload := min(a.p.Len()-at, minMTU-40-header)
	if payload < 0 {
		return
	}
	c := packet.Alloc(40 + header + payload)
	h := c.Head()
	clear(h[:40])
	h[0] = 6 << 4
	binary.BigEndian.PutUint16(h[4:], uint16(header+payload))
	h[6], h[7] = packet.ProtoHopByHop, defaultErrorsHopLimit
	from := r.Src.As16()
	copy(h[8:], from[:])
	copy(h[24:], b[8:24])
	option.EncodeHeader(h[40:], b[40], n)
	copied := option.Trace(h[44:])
	copy(copied, t[:option.TraceLen])
	copied[1] = byte(n - 2)
	copied.SetRemaining(0)
	copied.ClearLoopback()
	copy(copied[option.TraceLen:], recorded[:len(recorded)&^3])
	a.p.CopyTo(h[40+header:], at)
	c.Proto, c.Local = packet.EtherIPv6, true
	c.SetL3(0)
	if a.n.host.Send(c) == nil {
		a.n.counters.add(LoopedBack)
	}
}
