package ioam

import (
	"taproom/stack/hook"
	"taproom/stack/packet"
)

type mtuCase bool

const (
	mtuInline mtuCase = false
	mtuEncap  mtuCase = true
)

// fits decides whether a packet that grows by grow octets to a payload length
// of length may. If not, ok is false and the verdict says what becomes of it:
// Continue is to go without a trace.
func (n *Node) fits(t *tunnel, p *hook.Packet, length, grow, mtu int, c mtuCase) (v hook.Verdict, ok bool) {
	if length > 0xffff {
		n.counters.add(RefusedSize)
		return hook.Continue, false
	}
	if mtu <= 0 {
		return hook.Continue, true
	}
	if p.GSO.Type != packet.GSONone {
		return n.fitsGSO(t, p, grow, mtu)
	}
	if 40+length <= mtu {
		return hook.Continue, true
	}
	forwarded := p.In != 0
	switch {
	case t.MTU == MTUSkip, t.MTU == MTUSignal && forwarded && mtu-grow < minMTU:
		// An IPv6 sender need not go below 1280: signalling would not help.
		n.counters.add(RefusedSize)
		return hook.Continue, false
	case t.MTU == MTUSignal && forwarded:
		n.packetTooBig(p, mtu-grow)
		return n.tooBig(p)
	case t.MTU == MTULinux && forwarded && c == mtuEncap:
		return n.tooBig(p)
	}
	return hook.Continue, true // the stack fragments, or answers with the link's MTU
}

func (n *Node) tooBig(p *hook.Packet) (hook.Verdict, bool) {
	n.counters.add(TooBig)
	p.Reason = packet.TooBig
	return hook.Drop, false
}

// fitsGSO makes the segments of a super-frame small enough. TCP's may be cut
// anew: nobody has seen them yet. Datagrams may not.
func (n *Node) fitsGSO(t *tunnel, p *hook.Packet, grow, mtu int) (hook.Verdict, bool) {
	head := p.Head()
	tr, ok := packet.ParseTransport(head)
	if !ok {
		n.counters.add(RefusedSize)
		return hook.Continue, false
	}
	headers := tr.Offset + 8
	if p.GSO.Type == packet.GSOTCPv6 && len(head) >= tr.Offset+20 {
		headers = tr.Offset + int(head[tr.Offset+12]>>4)*4
	}
	room := mtu - grow - headers
	if int(p.GSO.Size) <= room {
		return hook.Continue, true
	}
	if p.GSO.Type != packet.GSOTCPv6 || room < 1 {
		if t.MTU == MTUSignal && p.In != 0 && mtu-grow >= minMTU {
			n.packetTooBig(p, mtu-grow)
			return n.tooBig(p)
		}
		n.counters.add(RefusedSize)
		return hook.Continue, false
	}
	p.GSO.Size = uint16(room)
	p.GSO.Segs = uint16((p.Len() - headers + room - 1) / room)
	return hook.Continue, true
}
